"""`config.json`: what a run is of, the command that resumes it, and how far it is."""

import datetime
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdjax import files
from kdjax.errors import require
from kdjax.files import read_json, write_json
from kdjax.identity import canonical_json
from kdjax.progress import warn
from kdjax.run_directory.contents import CONTENT, start_again

PROVENANCE = ("argv", "git_commit", "versions", "device", "devices", "cpus")
"""Details of what a run was made with (`provenance`)."""


class ConfigFile:
    """`config.json` of a run directory."""

    def __init__(self, folder: Path):
        self._folder, self.path = folder, folder / "config.json"

    def check(self, identity: dict[str, Any], fresh: bool = False) -> None:
        """Raises BadInput as `RunDirectory.open`, and changes nothing."""
        path = self.path
        if not path.exists():
            unknown = ", ".join(name for name in CONTENT if (self._folder / name).exists())
            remedy = "put that back, remove the folder, or choose another --name"
            require(not unknown, f"{self._folder} holds {unknown} but no config.json to say what of: {remedy}")
            return
        try:
            before = json.loads(files.read_bytes(path))
        except (ValueError, RecursionError):
            # Cut off or changed by the disk: nothing else writes a part of a file here.
            remedy = f"put it back, {start_again(self._folder)}"
            require(fresh, f"{path} is damaged (not JSON): {remedy}")
            return
        known = isinstance(before, dict) and "identity" in before
        remedy = f"{self._folder} is left as it is; choose another --name"
        require(known, f"{path} is no file of this program: {remedy}")
        differing = ", ".join(sorted(_differences(before["identity"], json.loads(canonical_json(identity))))[:6])
        remedy = f"choose another --name, {start_again(self._folder)}"
        told = f"{self._folder} holds a run of another config (differing: {differing})"
        require(fresh or not differing, f"{told}: {remedy}")

    def start(self, identity: dict[str, Any], fresh: bool) -> None:
        """Writes the file, unless it is there; and the command that was given now."""
        if not self.path.exists():
            identity = json.loads(canonical_json(identity))
            write_json(self.path, {"identity": identity, "details": {}, "started": _now(), "fresh": fresh})
        self._write(command=command_given())
        self.note_progress()

    def describe(self, details: dict[str, Any]) -> None:
        """Writes the details beside the identity: argv, versions, device, the teachers' errors. Versions or a device
        that changed are warned of: the same config may then give other last digits. A finished run keeps what it was
        made with."""
        config = read_json(self.path)
        details = json.loads(canonical_json(details))
        earlier = config["details"] if isinstance(config.get("details"), dict) else {}
        for name in ("versions", "device"):
            before = earlier.get(name)
            if before not in (None, details.get(name)):
                warn(f"this run was started with other {name} ({before}; now {details.get(name)})")
        names = ("workers", *PROVENANCE * bool(config.get("finished")))  # workers: of a cluster that comes later
        kept = {name: earlier[name] for name in names if name in earlier}
        self._write(details={**details, **kept})

    def details(self) -> dict[str, Any]:
        """Those that stand in the file."""
        found: dict[str, Any] = read_json(self.path)["details"]
        return found

    def note(self, name: str, value: Any) -> None:
        """Adds one detail."""
        self._write(details={**self.details(), name: json.loads(canonical_json(value))})

    def note_progress(self, done: int | None = None, total: int | None = None) -> None:
        """Writes how many of all blocks the results hold; None: as many as before. They do not become fewer: a resumed
        sweep whose rates were widened begins with those of its first round."""
        before = read_json(self.path).get("progress", {"done": 0, "total": 0})
        total = max(before["total"], total or 0)
        self._write(progress={"done": min(before["done"] if done is None else done, total), "total": total})

    def note_sweeps(self, names: Sequence[str], total: int) -> None:
        """Writes which sweeps of a table are finished, and of how many."""
        self._write(sweeps=list(names), progress={"done": len(names), "total": total})

    def note_taken_over(self, block: str, run: str) -> None:
        """Writes that a block is a copy, and of which run."""
        self._write(taken_over={**read_json(self.path).get("taken_over", {}), block: run})

    def note_finished(self, again: bool) -> None:
        """Writes that all blocks are done, and when; unless it is done `again`, the earlier time stays."""
        config = read_json(self.path)
        total, finished = config["progress"]["total"], None if again else config.get("finished")
        self._write(finished=finished or _now(), progress={"done": total, "total": total})

    def _write(self, **facts: Any) -> None:
        """Writes facts beside the identity."""
        write_json(self.path, {**read_json(self.path), **facts})


def progress(folder: Path) -> str:
    """How much of a run its results hold, for titles: "3 of 18 blocks", of a table "3 of 18 sweeps"; empty where they
    hold all of it."""
    config = read_json(folder / "config.json")
    of, noun = config.get("progress") or {"done": 0, "total": 0}, "sweeps" if "sweeps" in config else "blocks"
    return f"{of['done']} of {of['total']} {noun}" if of["done"] < of["total"] else ""


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def command_given() -> dict[str, Any]:
    """What `python -m kdjax resume` gives again: module, arguments, the folder to which their paths are relative."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return {"module": spec.name if spec else None, "arguments": sys.argv[1:], "folder": os.getcwd()}


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [name or "config"]
    parts = ((before.get(key), now.get(key), f"{name}.{key}" if name else key) for key in before.keys() | now.keys())
    return list(itertools.chain.from_iterable(itertools.starmap(_differences, parts)))
