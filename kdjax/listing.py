"""The runs and teachers of an `--out` folder: what each is, how far it is, and the command that resumes it."""

import datetime
import difflib
import os
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from kdjax.errors import BadInput, require
from kdjax.files import MANIFEST, read_json, size_of
from kdjax.progress import warn
from kdjax.run_folders import SWEEPS, TEACHERS, seconds_of, sweeps_of

PACKAGES = ("experiments", "analysis")
"""Whose commands are given again: a run directory may be somebody else's, and names what is to be executed."""
OF_AUTO = ("mnist", "mnist5k")
"""What `--dataset auto`, the default of most commands, stands for."""
WRITTEN = "give with --out where runs were written (by default, runs)"
"""What to do where there is no such folder."""


class Entry(NamedTuple):
    """A run directory, or a teacher."""

    name: str
    experiment: str
    dataset: str
    temperatures: list[float]
    """Of its soft targets; inf is the limit. Empty for a teacher."""
    done: int
    total: int
    """Blocks; of a table, sweeps. 0 where an earlier version of kdjax did not count them."""
    started: str
    """ISO 8601, UTC. Of a teacher, and of a run of an earlier version: when its record was written."""
    finished: str | None
    """None: it is not."""
    seconds: float
    """Spent on training its blocks, one after another."""
    size: int
    """Bytes on disk, with the sweeps of a table."""
    resume: str | None
    """The command that resumes it; None where nothing is left to do."""


def find(out: Path) -> list[Entry]:
    """All runs below `out`, by experiment, then its teachers, the latest last. A record that cannot be read is left
    out, with a note. The sweeps of a table are a part of it.

    Raises:
        BadInput: there is no such folder.
    """
    require(out.is_dir(), f"{out} is no folder: {WRITTEN}")
    entries = []
    for path in (*out.glob("[!.]*/[!.]*/config.json"), *out.glob(f"{TEACHERS}/[!.]*/teacher.json")):
        try:
            entries.append((_teacher if path.name == "teacher.json" else _run)(path))
        except (BadInput, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            warn(f"{path} is left out: it is damaged, or no file of this program ({error})")
    return sorted(entries, key=lambda entry: (entry.experiment == TEACHERS, entry[1], entry.started, entry.name))


def folder_of(out: Path, name: str) -> Path:
    """The run directory of that name below `out`, of that experiment and name (`mnist_table/first`), or of that path.

    Raises:
        BadInput: there is none, or there are several.
    """
    given = Path(os.path.abspath(name))
    is_path = (given / "config.json").exists() and _is_run(given / "config.json")
    require(is_path or out.is_dir(), f"{out} is no folder: {WRITTEN}")
    names = [path.parts[-3:-1] for path in sorted(out.glob("*/*/config.json")) if _is_run(path)]
    found = [one for one in names if name in (one[1], "/".join(one))]
    if is_path and not found:
        return given
    near = difflib.get_close_matches(name, [own for _, own in names], n=3, cutoff=0.4)
    suggestion = f"did you mean {' or '.join(near)}?" if near else "`python -m kdjax runs` lists all"
    require(found, f"{out} holds no run called {name}: {suggestion}")
    several = ", ".join("/".join(one) for one in found)
    require(len(found) == 1, f"{out} holds several runs called {name}: give one of {several}")
    return out.joinpath(*found[0])


def _is_run(path: Path) -> bool:
    """Whether a `config.json` is that of a run, perhaps damaged, and not of another program."""
    try:
        config = read_json(path)
    except (BadInput, OSError):
        return True
    return isinstance(config, dict) and "identity" in config


def command_of(folder: Path) -> tuple[list[str], Path]:
    """The command that resumes a run, from `python` on, and the folder in which to give it. Never with `--fresh`.

    Raises:
        BadInput: the run was not started by a command of kdjax, or where it was started is gone.
    """
    config, remedy = read_json(folder / "config.json"), "give again what started it"
    table = f"{folder} is a sweep of a table, which is resumed as a whole: `python -m kdjax runs` lists it"
    require(folder.parent.name != SWEEPS, table)
    command = config.get("command")
    try:
        module, place = str(command["module"]), Path(command["folder"])
        kept = [str(argument) for argument in command["arguments"] if argument != "--fresh"]
    except (KeyError, TypeError):
        raise BadInput(f"{folder / 'config.json'} does not tell the command that started it: {remedy}") from None
    require(_is_ours(command), f"{folder} was started by {module}, which is no command of kdjax: {remedy}")
    require(place.is_dir(), f"{place}, where {folder} was started, is gone, and paths may be relative to it: {remedy}")
    experiment, named = config["identity"].get("experiment"), PACKAGES[0] in module
    moved = f"{folder} is in no folder called {experiment}, where its command would look for it: move it into one"
    require(not named or folder.parent.name == experiment, f"{moved}, or {remedy}")
    given = re.search(r"--dataset[= ](\S+)", " ".join(kept))
    data = config["identity"].get("data", {}).get("name")
    if data in OF_AUTO and (given is None or given[1] == "auto"):
        kept += ["--dataset", data]  # MNIST may be there now that was not
    # The folder may have been moved since; and another version may have another default name for it.
    kept += ["--out", str(folder.parents[1].resolve())] + ["--name", folder.name] * named
    return ["python", "-m", module, *kept], place


def _is_ours(command: Any) -> bool:
    """Whether what started a run is a command of kdjax, and no script or notebook."""
    return isinstance(command, dict) and str(command.get("module")).partition(".")[0] in PACKAGES


def _run(path: Path) -> Entry:
    folder, config = path.parent, read_json(path)
    identity, progress = config["identity"], config.get("progress", {"done": 0, "total": 0})
    settings = identity["config"]
    sweeps = sweeps_of(folder)
    # JSON has no infinity: it is text there.
    given = list(settings.get("temperatures", []))
    if "temperature" in settings:  # of a table
        given.append(settings["temperature"])
    seal = folder / MANIFEST
    finished = (config.get("finished") or _written(seal)) if seal.exists() else None
    words = ["python", "-m", "kdjax", "resume", f"{folder.parent.name}/{folder.name}", "--out", str(folder.parents[1])]
    return Entry(
        folder.name,
        folder.parent.name,
        identity["data"]["name"],
        sorted({float(value) for value in given}),
        progress["done"],
        progress["total"],
        config.get("started") or _written(path),
        finished,
        round(seconds_of(folder), 1),
        sum(size_of(one) for one in (folder, *sweeps)),
        None if finished or not _is_ours(config.get("command")) else shlex.join(words),
    )


def _teacher(path: Path) -> Entry:
    info, written = read_json(path), _written(path)
    of_teacher = (info["dataset"], list[float](), 1, 1, written, written, float(info["seconds"]))
    return Entry(path.parent.name, TEACHERS, *of_teacher, size_of(path.parent), None)


def _written(path: Path) -> str:
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).isoformat(timespec="seconds")
