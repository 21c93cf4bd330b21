"""When is training on soft targets the same as matching logits? `python -m analysis.logit_matching [RUN]`

Measures Section 2.1 of Hinton, Vinyals, Dean 2015 (arXiv 1503.02531) on random logits, on a trained pair, in its
parameter space, and in what students become. Writes OUT/logit_matching/NAME/, NAME being the run's: `summary.md` (each
claim, its prediction, what was measured, whether it holds), `logit_matching.csv` (every curve), `figures/` and
`report.html`. On two cores the gradients take under a minute, the training somewhat over a minute an epoch with full
MNIST.

`--curvature` measures instead whether curvature says which learning rate is best at each T, and writes `curvature.md`
and `curvature.csv` there; `--curvature --dry-run` says how long it would take.
"""

from analysis.matching.config import MatchingConfig
from kdjax import cli

PROG = "python -m analysis.logit_matching"


def main(config: MatchingConfig) -> None:
    """Measures, writes, and prints the summary."""
    from analysis import terminal  # late, so that --help is quick
    from analysis.matching import report
    from analysis.page import page

    if config.dry_run:
        print(report.forecast_curvature(config))
        return
    folder = report.write_curvature(config) if config.curvature else report.write(config)
    terminal.show((folder / ("curvature.md" if config.curvature else "summary.md")).read_text())
    page.at_the_end(folder)


if __name__ == "__main__":
    cli.run(main, MatchingConfig, PROG)
