"""What the `plot_*` commands have in common: their options, the run directory, and what they print."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from kdjax import run_folders


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """Writes the summary of a run directory again and draws its figures, from what it holds; prints where they are."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory to draw, or its name in OUT/EXPERIMENT (default: the one there with the newest results)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""


def main(
    config: PlotConfig,
    experiment: str,
    *steps: Callable[[Path], Any],
    noun: str = "run",
    written: str = "results.csv",
) -> None:
    """Does each step with the run directory, the last of which draws; prints the paths of the figures.

    Args:
        config: the command's options.
        experiment: the folder under `out` that holds its runs.
        steps: such as a check, or the table's `write_summary`; the last returns the files that it has drawn.
        noun: what a run of it is called where there is none.
        written: the file that a finished run has.
    """
    folder = run_folders.named_run(config.folder, config.out, experiment, noun, written)
    *_, paths = [step(folder) for step in steps]
    for path in paths:
        if path.suffix == ".png":
            print(path)
