"""Draws a temperature sweep: errors against T, learning curves, calibration and agreement, and softening itself.

    python -m analysis.plot_temperature_sweep [FOLDER]

Figures go into FOLDER/figures, as PNG and PDF.
"""

from analysis import plotting
from analysis.plotting import PlotConfig
from kdjax import cli

PROG = "python -m analysis.plot_temperature_sweep"


def main(config: PlotConfig) -> None:
    """Draws the figures and prints where they are."""
    from analysis.sweep import figures  # late, so that --help is quick

    plotting.main(config, "temperature_sweep", figures.draw)


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
