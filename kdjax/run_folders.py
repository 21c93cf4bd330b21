"""Where runs are: `<out>/<experiment>/<name>/`, `<out>/<experiment>/sweeps/<name>/` for the sweeps of a table, and
`<out>/teachers/<fingerprint>/`."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdjax.errors import require
from kdjax.files import read_json
from kdjax.identity import digest

TEACHERS = "teachers"
"""The folder of teachers, and what stands in place of their experiment."""
SWEEPS = "sweeps"
"""The folder, beside the run directories of an experiment's tables, of the sweeps that they share."""


def run_folder(parent: Path, name: str | None, identity: Any, words: Iterable[str]) -> Path:
    """The folder of a run: by its name, or by default by words that say what it is of, and six digits of a hash of what
    fixes its results."""
    if name:
        return parent / name
    plain = [re.sub(r"[^A-Za-z0-9_.-]+", "_", word).lstrip(".")[:40] for word in words]
    return parent / "-".join([*plain, digest(identity)[:6]])


def span(values: Iterable[float], before: str = "") -> str:
    """The lowest and the highest of some values, for a name: `T1-32`; one that stands alone: `T4`."""
    ordered = sorted(values)
    return before + "-".join(f"{value:g}" for value in dict.fromkeys([ordered[0], ordered[-1]]))


def sweep_folder(table: Path, name: str) -> Path:
    """The run directory of a sweep behind the table in `table`."""
    return Path(os.path.abspath(table)).parent / SWEEPS / name  # of "." too, and beside a link, not its target


def sweeps_of(folder: Path) -> list[Path]:
    """The run directories of the sweeps that a table has run so far; none for another run."""
    config = read_json(folder / "config.json")
    names = config.get("sweeps", []) if isinstance(config, dict) else []
    return [sweep_folder(folder, str(name)) for name in dict.fromkeys(names)]


def seconds_of(folder: Path) -> float:
    """Spent on training the blocks of a run, those of its sweeps among them."""
    timings = (one / "timing.json" for one in (folder, *sweeps_of(folder)))
    return sum(sum(map(float, read_json(path).values())) for path in timings if path.exists())


def latest_run(out: Path, experiment: str, noun: str = "run", written: str = "results.csv") -> Path:
    """The run directory of `experiment` with the newest results, or with the newest file `written`; else `BadInput`."""
    runs = sorted((out / experiment).glob(f"*/{written}"), key=lambda path: path.stat().st_mtime)
    remedy = f"run `python -m experiments.{experiment}` first, or name a folder"
    require(runs, f"{out / experiment} holds no finished {noun}: {remedy}")
    return runs[-1].parent


def named_run(given: Path | None, out: Path, experiment: str, noun: str = "run", written: str = "results.csv") -> Path:
    """The run directory that a user gives: by its path, or by its name in `out/experiment`; None: `latest_run`."""
    if given is None:
        return latest_run(out, experiment, noun, written)
    return given if given.exists() or not (out / experiment / given).exists() else out / experiment / given
