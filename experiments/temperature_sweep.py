"""Which temperature is best for this student on these images? `python -m experiments.temperature_sweep`

Trains a teacher once, then students at every temperature (and on hard labels alone) from several seeds, and draws the
test errors against T. `--dry-run` says how long it would take here.
"""

import functools

from kdjax import cli
from kdjax.config import SweepConfig

PROG = "python -m experiments.temperature_sweep"


def main(config: SweepConfig) -> None:
    """Runs the sweep (or resumes it), draws its figures and prints its table."""
    from analysis.sweep import figures, table  # late, so that --help is quick
    from experiments import study
    from kdjax import forecast, sweeps

    run = functools.partial(sweeps.run, summarise=table.write_summary)
    shorter = "--dataset mnist5k, or fewer --seeds, --temperatures or --epochs"
    study.execute(sweeps.prepare(config), run, forecast.of_sweep, table.write_summary, figures.draw, shorter)


if __name__ == "__main__":
    cli.run(main, SweepConfig, PROG)
