"""The kinds of run directories: what each asks, who writes its summary and draws its figures, what to beware of."""

import functools
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kdjax.errors import BadInput, require
from kdjax.files import read_json


class Kind(NamedTuple):
    """The run directories of one experiment or analysis, as far as a page needs it."""

    question: str
    refresh: Callable[[Path], object] | None
    """Writes the summary and draws the figures again, from the results; None where only the analysis itself can."""
    pages: tuple[str, ...]
    """Its pages of Markdown, those that are there: the first says title and verdict, each other is a section."""
    figures: tuple[str, ...]
    """Names of its figures in the order of their importance; others follow."""
    caveats: tuple[str, ...]


def _refresh(package: str, folder: Path) -> None:
    for step in ("table:write_summary", "figures:draw"):
        pkgutil.resolve_name(f"analysis.{package}.{step}")(folder)


LAST_EPOCH = "The last epoch is what is reported; no checkpoint was chosen."
KINDS = {
    "temperature_sweep": Kind(
        "Which temperature is best for this student on these data, and does distillation help it at all?",
        functools.partial(_refresh, "sweep"),
        ("summary.md", "stability.md"),
        ("errors", "difference_from_hard_labels", "difference_from_kd", "calibration_and_agreement", "softening"),
        (
            LAST_EPOCH,
            "Errors are counted on the test set. A temperature chosen by them is flattered by the choice; one chosen "
            "on a hold-out is not.",
            "What is found holds for this network, this recipe and this teacher. Another may have another best "
            "temperature.",
        ),
    ),
    "omit_digit": Kind(
        "What does a student know of a class that it never saw, and does one bias bring it out?",
        functools.partial(_refresh, "omission"),
        ("summary.md",),
        ("errors_against_bias", "each", "errors_by_class", "taken_for", "soft_predictions"),
        (
            LAST_EPOCH,
            "The oracle chooses its bias on the test set, as the paper did: it says what is possible, not what would "
            "be had without the labels.",
            "Intervals are over seeds, about this one teacher.",
        ),
    ),
    "mnist_table": Kind(
        "How much of a big network's lead does distillation give a small one on MNIST, as in Hinton et al. 2015?",
        functools.partial(_refresh, "mnist"),
        ("summary.md", "cost.md"),
        (),
        (LAST_EPOCH, "The paper reports single networks; this table reports means over seeds beside them."),
    ),
    "cifar10_table": Kind(
        "Does distillation help a small convolutional network on CIFAR-10, and what does double softmax do?",
        functools.partial(_refresh, "cifar10"),
        ("summary.md",),
        ("students", "difference_from_hard_labels", "lengths", "class_similarity"),
        (LAST_EPOCH, "Intervals are over seeds, and over teachers too where each has students of its own."),
    ),
    "logit_matching": Kind(
        "From which temperature on is training on soft targets the same as matching logits?",
        None,
        ("summary.md", "curvature.md"),
        ("1_limit", "2_teachers_and_norms", "3_who_gets_the_gradient"),
        ("Gradients are those of one pair: another has other thresholds, in proportion to the spread of its logits.",),
    ),
    "objectives": Kind(
        "What does each objective make of a teacher's logits, from low temperatures to infinity?",
        None,
        ("objectives.md",),
        ("objectives",),
        ("What an objective's gradient is on given logits says how training starts from there, not where it ends.",),
    ),
}


def of(folder: Path) -> tuple[str, Kind]:
    """The experiment of a run directory, and its kind.

    Raises:
        BadInput: it is none; it is of an experiment without a page.
    """
    require(folder.is_dir(), f"{folder} is no folder: name a run directory, or leave it out for the newest one")
    experiment = folder.resolve().parent.name  # analyses leave no config.json
    if (folder / "config.json").exists() or experiment not in KINDS:
        config = read_json(folder / "config.json")
        try:
            experiment = str(config["identity"]["experiment"])
        except (KeyError, TypeError) as error:
            raise BadInput(f"{folder / 'config.json'} is not that of a run, or damaged ({error!r})") from None
    require(experiment in KINDS, f"{folder} is of {experiment}, which has no page: there are {', '.join(KINDS)}")
    return experiment, KINDS[experiment]
