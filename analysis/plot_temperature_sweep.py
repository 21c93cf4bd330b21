"""Draws a temperature sweep: errors against T, learning curves, calibration and agreement, and softening itself.

    python -m analysis.plot_temperature_sweep [FOLDER]

Figures go into FOLDER/figures, as PNG, PDF and SVG. The summary is written again.
"""

import dataclasses
import functools

from analysis import plotting
from analysis.plotting import PlotConfig
from kdjax import cli

PROG = "python -m analysis.plot_temperature_sweep"


@dataclasses.dataclass(frozen=True)
class PlotSweepConfig(PlotConfig):
    """Writes the summary of a sweep again and draws its figures, from its run directory; prints where they are."""

    image: int | None = None
    """Class whose test image the softening figure shows, 0 to 9 for ten: the image of which the teacher is least sure
    (default: of these, the one that it gets right and finds most ambiguous at T = 4)."""


def main(config: PlotSweepConfig) -> None:
    """Writes the summary again, draws the figures and prints where they are."""
    from analysis.sweep import figures, table  # late, so that --help is quick

    check, draw = (functools.partial(step, image=config.image) for step in (figures.require_image, figures.draw))
    plotting.main(config, "temperature_sweep", check, table.write_summary, draw)


if __name__ == "__main__":
    cli.run(main, PlotSweepConfig, PROG)
