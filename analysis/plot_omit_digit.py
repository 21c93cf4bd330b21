"""Draws an omission run: errors against bias, errors by class, what omitted digits are mistaken for, examples.

    python -m analysis.plot_omit_digit [FOLDER]

Figures go into FOLDER/figures, as PNG, PDF and SVG. Where each class was omitted in turn there is a figure of one row
per class; where there are several temperatures, one against T, and the others are of the first T that was given. The
summary is written again.
"""

from analysis import plotting
from analysis.plotting import PlotConfig
from kdjax import cli

PROG = "python -m analysis.plot_omit_digit"


def main(config: PlotConfig) -> None:
    """Writes the summary again, draws the figures and prints where they are."""
    from analysis.omission import figures, table  # late, so that --help is quick

    plotting.main(config, "omit_digit", table.write_summary, figures.draw)


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
