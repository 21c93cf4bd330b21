"""How many seeds the next sweep needs: `python -m analysis.plan [RUN …] --difference 5 --margin 7`

Reads the paired spread in finished sweeps (several of one recipe, each with its teacher, tell how teachers differ), and
says with how many seeds a difference is seen, and with how many two temperatures are shown to be alike.
"""

from analysis.sweep.config import PlanConfig
from kdjax import cli, run_folders

PROG = "python -m analysis.plan"


def main(config: PlanConfig) -> None:
    """Prints the plan."""
    from analysis import terminal  # late, so that --help is quick
    from analysis.sweep import plan

    folders = [run_folders.named_run(run, config.out, "temperature_sweep") for run in config.runs or (None,)]
    terminal.show(plan.describe(folders, config))


if __name__ == "__main__":
    cli.run(main, PlanConfig, PROG)
