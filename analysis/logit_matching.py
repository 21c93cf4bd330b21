"""When is training on soft targets the same as matching logits? `python -m analysis.logit_matching [RUN]`

Measures Section 2.1 of Hinton, Vinyals, Dean 2015 (arXiv 1503.02531) on random logits, on a trained pair, in its
parameter space, and in what students become. Writes OUT/logit_matching/NAME/, NAME being the run's: `summary.md` (each
claim, its prediction, what was measured, whether it holds), `logit_matching.csv` (every curve), `figures/` and
`report.html`. `--dry-run` says how long it would take.

`--curvature` measures instead whether curvature says which learning rate is best at each T, and writes `curvature.md`
and `curvature.csv` there.

`--logits FILE` measures instead the logits of your own student and teacher, and trains nothing. It reads the file in
blocks of rows and writes `summary.md`, `logits.csv`, `figures/logits` and `report.html` into
OUT/logit_matching/NAME-logits/, NAME being the file's.
"""

from analysis.matching.config import MatchingConfig
from kdjax import cli

PROG = "python -m analysis.logit_matching"


def main(config: MatchingConfig) -> None:
    """Measures, writes, and prints the summary."""
    from analysis import terminal  # late, so that --help is quick
    from analysis.matching import own_pair_report, report
    from analysis.page import page
    from kdjax.progress import clock, say

    if config.logits is not None:
        folder = own_pair_report.write(config)
        terminal.show((folder / "summary.md").read_text())
        page.at_the_end(folder)
        return
    cost = report.forecast(config)
    if config.dry_run:
        print(cost.text)
        return
    say(f"about {clock(cost.seconds)} on this device")
    folder = report.write_curvature(config) if config.curvature else report.write(config)
    terminal.show((folder / ("curvature.md" if config.curvature else "summary.md")).read_text())
    page.at_the_end(folder)


if __name__ == "__main__":
    cli.run(main, MatchingConfig, PROG)
