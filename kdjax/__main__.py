"""`python -m kdjax runs` lists runs and teachers; `python -m kdjax resume NAME` goes on with one that was stopped."""

import dataclasses
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro

from kdjax import cli
from kdjax.identity import canonical_json
from kdjax.progress import clock, say

PROG = "python -m kdjax"


@dataclasses.dataclass(frozen=True)
class RunsConfig:
    """Lists runs and teachers: how far each is, when it was started, how long it took, and how to resume it."""

    out: Path = Path("runs")
    """Folder that holds run directories and teachers."""
    json: bool = False
    """Print a JSON list, for programs: an object a run or teacher, with times in seconds and sizes in bytes."""


@dataclasses.dataclass(frozen=True)
class ResumeConfig:
    """Gives the command of a run again, where it was given: what is finished is kept, the rest is trained."""

    name: Annotated[str, tyro.conf.Positional]
    """The run's name, as `runs` lists it; EXPERIMENT/NAME; or the path of its run directory."""
    out: Path = Path("runs")
    """Folder that holds run directories and teachers."""


@dataclasses.dataclass(frozen=True)
class KdjaxConfig:
    """Runs at hand: lists them, resumes them."""

    command: Annotated[
        Annotated[RunsConfig, tyro.conf.subcommand("runs")] | Annotated[ResumeConfig, tyro.conf.subcommand("resume")],
        tyro.conf.arg(name=""),
    ]


def main(config: KdjaxConfig) -> None:
    """Does what the subcommand says."""
    if isinstance(config.command, RunsConfig):
        list_runs(config.command)
    else:
        resume(config.command)


def list_runs(config: RunsConfig) -> None:
    """Prints the runs and teachers below a folder: a table as wide as the terminal, plain columns elsewhere."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kdjax import listing
    from kdjax.run_folders import span

    entries = listing.find(config.out)
    if config.json:
        print(json.dumps(json.loads(canonical_json([entry._asdict() for entry in entries])), indent=1))
        return
    terminal = sys.stdout.isatty()
    table = Table(box=None, padding=(0, 1, 0, 0) if terminal else (0, 2, 0, 0), pad_edge=False)
    table.add_column("name", overflow="fold")
    for heading in (*["experiment"] * (not terminal), "data", "T", "done", "started (UTC)", "trained", "size"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("done", "trained", "size") else "left")
    experiment = None
    for entry in entries:
        if terminal and entry.experiment != experiment:  # a heading: a column for it leaves no room for the names
            table.add_row(f"[bold]{entry.experiment}")
            experiment = entry.experiment
        temperatures = span(entry.temperatures) if entry.temperatures else ""
        done = f"{entry.done} of {entry.total}" if entry.total else ""
        started, size = entry.started[:16].replace("T", " "), f"{entry.size / 2**20:,.1f} MiB"
        names = (escape(entry.name), *[entry.experiment] * (not terminal), escape(entry.dataset), temperatures)
        table.add_row(*names, done, started, clock(entry.seconds), size)
    Console(width=None if terminal else 1_000, highlight=False).print(table)
    for entry in entries:
        if entry.resume:
            print(f"to resume {entry.name}: {entry.resume}")


def resume(config: ResumeConfig) -> None:
    """Becomes the command of a run, in the folder where it was given."""
    from kdjax import listing

    (python, *words), place = listing.command_of(listing.folder_of(config.out, config.name))
    say(f"in {place}: {shlex.join([python, *words])}")
    # This kdjax and its experiments, and no others that the folder may hold.
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.chdir(place)
    os.execve(sys.executable, [sys.executable, "-P", *words], {**os.environ, "PYTHONPATH": os.pathsep.join(paths)})


if __name__ == "__main__":
    cli.run(main, KdjaxConfig, PROG)
