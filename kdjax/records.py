"""The run directory `<out>/<experiment>/<name>/`: what was asked, what came out, and enough to draw and check it.

config.json     the full config, argv, git commit, versions, device, data and teachers
results.csv     one row a run, in canonical order; no times in it
history.jsonl   one line a run and epoch
timing.json     seconds, by block
test.npz        labels and teacher logits of the test images, and a few images to look at
blocks/NAME/    rows, history, final parameters (orbax) and logits of a finished block, under a manifest
checkpoints/    the last two of the block being trained
figures/        PNG and PDF
summary.md      the table
"""

import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.config import BadInput, canonical_json, require
from kdjax.files import Damaged, check_manifest, clear_leftovers, whole_folder, write_whole
from kdjax.progress import say

ORDER = ["width", "teacher", "seed", "objective", "temperature", "soft_weight", "learning_rate"]
"""The canonical order of the rows, and the columns that name a run. `objective` is `hard` or `soft`; the temperature
of a hard row is empty."""


class RunDirectory:
    """One run directory, held by one process (the caller has its lock)."""

    def __init__(self, folder: Path):
        self.folder = folder

    def open(self, identity: dict[str, Any]) -> None:
        """Starts the directory, or goes on with it.

        Args:
            identity: what fixes the results (config, data, teachers, numerics); it must not change.

        Raises:
            BadInput: the directory belongs to another config; the message names what differs.
        """
        make_folder(self.folder)
        clear_leftovers(self.folder)
        path = self.folder / "config.json"
        identity = json.loads(canonical_json(identity))
        if path.exists():
            before = read_json(path).get("identity")
            differing = sorted(_differences(before, identity))
            require(
                not differing,
                f"{self.folder} holds a run of another config (differing: {', '.join(differing[:6])}): "
                "choose another --name, or --fresh to start it anew",
            )
        for name in ("blocks", "checkpoints", "figures"):
            (self.folder / name).mkdir(exist_ok=True)
            clear_leftovers(self.folder / name)
        write_json(path, {"identity": identity, "details": {}})

    def describe(self, details: dict[str, Any]) -> None:
        """Notes what else is worth knowing beside the identity (argv, versions, device, the teachers' errors)."""
        config = read_json(self.folder / "config.json")
        write_json(self.folder / "config.json", {**config, "details": json.loads(canonical_json(details))})

    def finished(self, block: str) -> list[dict[str, Any]] | None:
        """The rows of a finished block, or None if it is not there whole."""
        folder = self.folder / "blocks" / block
        if not folder.exists():
            return None
        try:
            check_manifest(folder)
        except Damaged as damage:
            say(f"block {block} is trained again: {damage}")
            return None
        rows: list[dict[str, Any]] = read_json(folder / "rows.json")
        return rows

    def finish(
        self,
        block: str,
        rows: list[dict[str, Any]],
        history: list[dict[str, Any]],
        logits: dict[str, np.ndarray],
        save_params: Any,
    ) -> None:
        """Writes a finished block whole: rows, history, logits, and what `save_params(folder)` writes."""
        with whole_folder(self.folder / "blocks" / block) as folder:
            write_json(folder / "rows.json", rows)
            write_json(folder / "history.json", history)
            np.savez(folder / "logits.npz", **logits)  # type: ignore[arg-type]
            save_params(folder / "parameters")

    def write_arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Writes an `.npz` file whole."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_whole(self.folder / name, buffer.getvalue())

    def write_tables(self) -> Any:
        """Gathers the finished blocks into `results.csv` and `history.jsonl`, each written whole; returns the rows."""
        import pandas as pd  # late: a third of a second

        rows, history = [], []
        for folder in sorted((self.folder / "blocks").iterdir()):
            if not folder.name.startswith("."):
                rows += read_json(folder / "rows.json")
                history += read_json(folder / "history.json")
        order = [column for column in ORDER if rows and column in rows[0]]
        table = pd.DataFrame(rows).sort_values(order, kind="stable", ignore_index=True, na_position="first")
        write_whole(self.folder / "results.csv", table.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
        lines = sorted(history, key=lambda line: [str(line.get(key)) for key in ORDER] + [f"{line['epoch']:06d}"])
        write_whole(self.folder / "history.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
        return table

    def add_timing(self, name: str, seconds: float) -> None:
        """Notes how long a piece of work took."""
        path = self.folder / "timing.json"
        write_json(path, {**(read_json(path) if path.exists() else {}), name: round(seconds, 3)})


def latest_run(out: Path, experiment: str) -> Path:
    """The run directory of `experiment` with the newest results.

    Raises:
        BadInput: there is none.
    """
    runs = sorted((out / experiment).glob("*/results.csv"), key=lambda path: path.stat().st_mtime)
    require(
        runs,
        f"{out / experiment} holds no finished run: run `python -m experiments.{experiment}` first, or name a folder",
    )
    return runs[-1].parent


def read_results(folder: Path) -> Any:
    """`results.csv` of a run directory as a pandas table; its temperatures are floats (inf the limit, nan a hard row)."""
    import pandas as pd

    try:
        return pd.read_csv(folder / "results.csv")
    except FileNotFoundError:
        raise BadInput(
            f"{folder} holds no results.csv: it is no run directory, or its run has not finished a block"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise BadInput(f"{folder / 'results.csv'} is damaged ({error}): give the experiment's command again") from None


def make_folder(folder: Path) -> None:
    """Makes a folder, or says in one line why it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.tmp-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"{folder} cannot be written ({error.strerror}): choose another folder with --out") from None


def read_json(path: Path) -> Any:
    """Reads a JSON file, or says in one line what is wrong with it."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{path} is missing: {path.parent} is no run directory, or not a whole one") from None
    except ValueError:
        raise BadInput(f"{path} is damaged (not JSON): remove it and give the command again") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def surroundings() -> dict[str, Any]:
    """Versions, device, commit and argv: what may explain a difference between two runs."""
    import jax

    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "argv": sys.argv,
        "git_commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        "devices": jax.device_count(),
        "cpus": os.cpu_count(),
    }


def _commit() -> str | None:
    root = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            found
            for key in keys
            for found in _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == now else [name or "config"]
