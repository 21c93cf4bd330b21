"""Draws a CIFAR-10 table: accuracy of the small networks, and which classes the teacher confuses.

    python -m analysis.plot_cifar10_table [FOLDER]

Figures go into FOLDER/figures, as PNG, PDF and SVG. The summary is written again.
"""

from analysis import plotting
from analysis.plotting import PlotConfig
from kdjax import cli

PROG = "python -m analysis.plot_cifar10_table"


def main(config: PlotConfig) -> None:
    """Writes the summary again, draws the figures and prints where they are."""
    from analysis.cifar10 import figures, table  # late, so that --help is quick

    plotting.main(config, "cifar10_table", table.write_summary, figures.draw, noun="table", written="table.csv")


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
