"""Is a distillation loss what it is meant to be? `python -m analysis.check_loss my_module:my_loss`

Asks a loss, of NumPy, JAX, PyTorch or Keras, for its value and its gradient on a few logits at several T, and says what
it is: `T² KL(p‖q)`, averaged over the examples, as in Hinton, Vinyals, Dean 2015 (arXiv 1503.02531); the same with
faults, each with what mends it; another objective of `kdjax.objectives` at its defaults; or none of these.

Exit code 0 where it is right, 1 where a fault was found or it is none of these, 2 where it could not be asked.
"""

import dataclasses
import sys
from typing import Annotated

import tyro

from kdjax import cli
from kdjax.errors import require

PROG = "python -m analysis.check_loss"


@dataclasses.dataclass(frozen=True)
class CheckConfig:
    """Says what a distillation loss computes, and names its faults."""

    loss: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="LOSS")]
    """MODULE:NAME or FILE.py:NAME of a function that gives one number, or one for each example; or of a class that
    makes one from a temperature."""
    call: str = ""
    """Arguments of the loss, such as "{teacher}, {student}, T={temperature}"; there is {labels} too. Where nothing is
    given: by the names of its parameters, else student, teacher, temperature."""

    def __post_init__(self) -> None:
        module, _, name = self.loss.rpartition(":")
        require(module and name, f"{self.loss!r} is no loss: write MODULE:NAME or FILE.py:NAME")


def main(config: CheckConfig) -> None:
    """Prints what the loss is; exits with 1 unless it is right."""
    from analysis.checking import diagnosis, loading  # late, so that --help is quick

    found = diagnosis.diagnose(loading.load(config.loss, config.call))
    print("\n".join(found.lines))
    if not found.right:
        sys.exit(1)


if __name__ == "__main__":
    cli.run(main, CheckConfig, PROG)
