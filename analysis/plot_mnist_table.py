"""Draws the MNIST table's figures: errors against T at each width, fewer images, shifted test images.

    python -m analysis.plot_mnist_table [FOLDER]

Figures go into FOLDER/figures, as PNG, PDF and SVG; each is drawn where its part of the table was made. The summary is
written again.
"""

from analysis import plotting
from analysis.plotting import PlotConfig
from kdjax import cli

PROG = "python -m analysis.plot_mnist_table"


def main(config: PlotConfig) -> None:
    """Writes the summary again, draws the figures and prints where they are."""
    from analysis.mnist import figures, table  # late, so that --help is quick

    plotting.main(config, "mnist_table", table.write_summary, figures.draw, noun="table", written="table.csv")


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
