"""The folder of an analysis, which is no run directory: which commands wrote its pages, and on what they measured."""

import os
from pathlib import Path

from kdjax import run_directory
from kdjax.errors import require
from kdjax.files import make_folder, read_json, write_json

COMMAND = "command.json"


def make(folder: Path, source: Path | None) -> None:
    """Makes the folder of an analysis of that run directory or file of logits, if it is not there.

    Raises:
        BadInput: it holds results of another one of the same name.
    """
    path = folder / COMMAND
    pages = read_json(path).values() if path.exists() else ()
    for other in (folder / page["source"] for page in pages if page.get("source")):
        same = source is None or not other.exists() or other.samefile(source)
        require(same, f"{folder} holds what was measured on {other.resolve()}: give another --out, or remove it")
    make_folder(folder)


def note_command(folder: Path, page: str, measured_on: str, source: Path | None) -> None:
    """Writes into the folder of an analysis, as `command.json`, which command wrote a page of it, and on what it was
    measured; `source`: the run directory or the file of logits, if it was one."""
    path = folder / COMMAND
    before = read_json(path) if path.exists() else {}
    where = None if source is None else os.path.relpath(source, folder)
    noted = {"command": run_directory.command_given(), "measured_on": measured_on, "source": where}
    write_json(path, {**before, page: noted})
