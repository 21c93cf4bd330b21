"""How much a network's predictions fluctuate from epoch to epoch: `python -m analysis.stability [RUN]`

Writes `stability.md`, `stability.csv` and `figures/stability` into the run directory of a sweep of `--schedule constant
--monitor-every 1`.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from kdjax import cli, run_folders

PROG = "python -m analysis.stability"


@dataclasses.dataclass(frozen=True)
class StabilityConfig:
    """Compares how predictions fluctuate between epochs, on soft targets and on hard labels."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory of a sweep with --schedule constant --monitor-every 1, or its name in OUT/temperature_sweep
    (default: the newest there)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""


def main(config: StabilityConfig) -> None:
    """Prints the table, and where the figure is."""
    from analysis import terminal  # late, so that --help is quick
    from analysis.sweep import stability, stability_figure

    folder = run_folders.named_run(config.run, config.out, "temperature_sweep")
    terminal.show(stability.write(folder))
    for path in stability_figure.draw(folder):
        if path.suffix == ".png":
            print(path)


if __name__ == "__main__":
    cli.run(main, StabilityConfig, PROG)
