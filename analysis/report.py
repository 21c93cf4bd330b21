"""A run as one file to show: `python -m analysis.report [RUN …]`

Writes `report.html` into each run directory: the verdict, the figures, the tables, what was run, what to beware of; for
a temperature sweep, the teacher's and students' soft targets of test images with the temperature to drag. The file
needs nothing else: no network, no server. Summary and figures are written again first, from what the run holds;
those of logit matching and objectives are left as they are.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from kdjax import cli
from kdjax.errors import require

PROG = "python -m analysis.report"


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Writes report.html, a page to show, of run directories; prints where it is."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directories, or names of runs under --out, with their experiment where several have one name, such as
    omit_digit/first (default: the run there with the newest summary)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""


def main(config: ReportConfig) -> None:
    """Writes the pages and prints where they are."""
    from analysis.page import kinds, page  # late, so that --help is quick

    folders = [_named(run, config.out, list(kinds.KINDS)) for run in config.runs]
    for folder in folders or [_newest(config.out, {name: kind.pages[0] for name, kind in kinds.KINDS.items()})]:
        print(page.write_again(folder))


def _named(run: Path, out: Path, experiments: list[str]) -> Path:
    if run.exists():
        return run
    places = [out / run, *(out / experiment / run for experiment in experiments)]
    found = [place for place in places if place.is_dir()]
    there = "`python -m kdjax runs` lists those of experiments"
    require(found, f"there is no run {run}, neither as a folder nor under {out}: {there}")
    several = ", ".join(str(place.relative_to(out)) for place in found)
    require(len(found) == 1, f"{out} holds several runs called {run}: give one of {several}")
    return found[0]


def _newest(out: Path, summaries: dict[str, str]) -> Path:
    """The run with the newest summary; `summaries` names it by experiment."""
    pages = [path for experiment, name in summaries.items() for path in (out / experiment).glob(f"*/{name}")]
    require(pages, f"{out} holds no run with a summary: run `python -m experiments.temperature_sweep` first")
    return max(pages, key=lambda path: path.stat().st_mtime).parent


if __name__ == "__main__":
    cli.run(main, ReportConfig, PROG)
