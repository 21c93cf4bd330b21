"""Which temperature, for this student, on these images? `python -m experiments.temperature_sweep`

Trains a teacher once, then students at every temperature (and on hard labels alone) from several seeds, and draws the
test errors against T. On two cores the defaults take up to 10 minutes with full MNIST, and up to 2 with the bundled
5,000 digits.
"""

from kdjax import cli
from kdjax.config import SweepConfig

PROG = "python -m experiments.temperature_sweep"


def main(config: SweepConfig) -> None:
    """Runs the sweep (or goes on with it), draws its figures and prints its table."""
    from kdjax import forecast, sweeps  # late, so that --help is quick
    from kdjax.progress import say

    sweep = sweeps.prepare(config)
    if config.dry_run:
        print(forecast.of_sweep(sweep))
        return
    folder = sweeps.run(sweep)

    from analysis import plot_temperature_sweep, tables

    figures = plot_temperature_sweep.draw(folder)
    print(tables.write_summary(folder))
    say(f"figures: {', '.join(str(path) for path in figures if path.suffix == '.png')}")


if __name__ == "__main__":
    cli.run(main, SweepConfig, PROG)
