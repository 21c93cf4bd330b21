"""Draws a throughput measurement again, and writes its table: `python -m analysis.plot_throughput [FOLDER]`"""

from analysis import plotting
from analysis.plotting import PlotConfig
from kdjax import cli

PROG = "python -m analysis.plot_throughput"


def main(config: PlotConfig) -> None:
    """Draws the figures and prints where they are."""
    from analysis import throughput  # late, so that --help is quick

    plotting.main(config, "throughput", throughput.draw, noun="measurement", written="throughput.json")


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
