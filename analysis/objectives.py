"""What does each objective make of a teacher's logits, from low temperatures to infinity? `python -m
analysis.objectives [RUN]`

On random logits, on the students of a run directory, or on a file of logits: how far the gradient of each objective is
from that of its limit as T → ∞, which part of it changes the scale of the student's logits and which their direction,
which classes get it, and whether the identities between objectives hold. Writes OUT/objectives/NAME/, NAME being the
run's, FILE-logits for a file, or random: `objectives.md`, `objectives.csv` (every curve), `table.csv` (a line an
objective), `figures/` and `report.html`.
"""

from analysis.atlas.config import AtlasConfig
from kdjax import cli

PROG = "python -m analysis.objectives"


def main(config: AtlasConfig) -> None:
    """Measures, writes, and prints the page."""
    from analysis import terminal  # late, so that --help is quick
    from analysis.atlas import report
    from analysis.page import page

    folder = report.write(config)
    terminal.show((folder / "objectives.md").read_text())
    page.at_the_end(folder)


if __name__ == "__main__":
    cli.run(main, AtlasConfig, PROG)
