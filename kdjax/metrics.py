"""Metrics of a trained network, from logits on the host, in float64: errors, calibration, agreement with a teacher.

Every run is evaluated with those in `METRICS`, on every split: each is a column of `results.csv`, such as `test_nll`.
To add one, call `register` before the run (docs/extending.md).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import entr, log_softmax, softmax

from kdjax.errors import require, require_new

Logits = Float[np.ndarray, "examples classes"]
Labels = Int[np.ndarray, "examples"]
BINS = 15
"""Of confidence, for the calibration error."""


class Metric(NamedTuple):
    """An entry of the registry: a number that every run has for every split."""

    name: str
    """After the split, as in the column `test_errors`."""
    function: Callable[[Logits, Labels, Any], float | int]
    """(logits, labels, teacher_logits) → the number. The logits are finite, but for `of_failed`."""
    words: str
    """What it is, with its unit."""
    needs_teacher: bool = False
    """Whether it is left out where there is no teacher; without this, `teacher_logits` may be None."""
    of_failed: bool = False
    """Whether it is a number where logits are not finite too; else it is nan there."""


METRICS: dict[str, Metric] = {}
"""By name, in the order of the columns; `register` adds to it."""


def register(metric: Metric) -> None:
    """Adds a metric. Raises BadInput: there is one of that name."""
    require_new("metric", metric.name, METRICS)
    METRICS[metric.name] = metric


def evaluate(logits: Logits, labels: Labels, teacher_logits: Logits | None = None) -> dict[str, float | int]:
    """Every metric of one run on one set of images; those that compare with a teacher only where there is one. For a
    failed run (logits that are not finite) all are nan but those `of_failed`. Raises BadInput: a metric is not one
    number."""
    finite, values = np.isfinite(logits).all(), dict[str, float | int]()
    for name, metric in METRICS.items():
        if teacher_logits is not None or not metric.needs_teacher:
            known = finite or metric.of_failed
            value = np.asarray(metric.function(logits, labels, teacher_logits) if known else math.nan)
            require(
                value.ndim == 0, f"the metric {name} gives an array of shape {value.shape}: it is to give one number"
            )
            values[name] = value.item()
    return values


def errors(logits: Logits, labels: Labels) -> int:
    """Number of examples whose largest logit is not the label's. Logits that are not finite count as errors."""
    return int(np.sum(_wrong(logits, labels)))


def nll(logits: Logits, labels: Labels) -> float:
    """Mean negative log-likelihood of the labels at T = 1, in nats: `−mean log q_y`."""
    return float(-np.mean(log_softmax(_wide(logits), axis=1)[np.arange(len(labels)), labels]))


def calibrating_temperature(logits: Logits, labels: Labels, bounds: tuple[float, float] = (-3, 3)) -> float:
    """The T, its logarithm within `bounds`, by which logits are divided for the lowest NLL: temperature scaling (Guo
    et al. 2017, arXiv 1706.04599, Section 4.2)."""
    found = minimize_scalar(lambda log_t: nll(logits / np.exp(log_t), labels), bounds=bounds, method="bounded")
    return float(np.exp(found.x))


def brier(logits: Logits, labels: Labels) -> float:
    """Brier score: mean over examples of `Σ_i (q_i − 1[i = y])²`, in [0, 2] (Brier 1950)."""
    difference = softmax(_wide(logits), axis=1)
    difference[np.arange(len(labels)), labels] -= 1
    return float(np.mean(np.sum(difference**2, axis=1)))


def calibration_error(logits: Logits, labels: Labels) -> float:
    """Expected calibration error: mean |confidence − accuracy| over `BINS` equal-width bins of confidence, weighted by
    count. Guo et al. 2017 (arXiv 1706.04599, Eq. 3)."""
    confidence = softmax(_wide(logits), axis=1).max(axis=1)
    correct = ~_wrong(logits, labels)
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(which, confidence - correct, minlength=BINS)
    return float(np.sum(np.abs(gap)) / len(labels))


def confidence(logits: Logits) -> float:
    """Mean probability, at T = 1, of the predicted class. Above the accuracy: over-confident; below: over-smoothed."""
    return float(np.mean(softmax(_wide(logits), axis=1).max(axis=1)))


def agreement(logits: Logits, teacher_logits: Logits) -> float:
    """Share of examples for which student and teacher predict the same class."""
    return float(np.mean(logits.argmax(axis=1) == teacher_logits.argmax(axis=1)))


def teacher_kl(logits: Logits, teacher_logits: Logits) -> float:
    """Mean `KL(p‖q)` from teacher to student at T = 1, in nats."""
    p, q = log_softmax(_wide(teacher_logits), axis=1), log_softmax(_wide(logits), axis=1)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


def logit_rmse(logits: Logits, teacher_logits: Logits) -> float:
    """Root mean square, over examples and classes, of the difference between centred logits."""
    return float(np.sqrt(np.mean((_centred(logits) - _centred(teacher_logits)) ** 2)))


def mean_logit_drift(logits: Logits, start: Logits) -> float:
    """Root mean square over examples of the change of the mean logit since the initial weights; nan if a run failed."""
    if not np.isfinite(logits).all():
        return math.nan
    return float(np.sqrt(np.mean((_wide(logits).mean(axis=1) - _wide(start).mean(axis=1)) ** 2)))


def entropy(logits: Logits, temperature: float) -> float:
    """Mean entropy of `softmax(logits / T)`, in nats: ln(classes) at T = ∞."""
    return float(np.mean(np.sum(entr(softmax(_wide(logits) / temperature, axis=1)), axis=1)))


def _wide(logits: Logits) -> Logits:
    return np.asarray(logits, np.float64)


def _centred(logits: Logits) -> Logits:
    wide = _wide(logits)
    return np.subtract(wide, wide.mean(axis=1, keepdims=True))


def _wrong(logits: Logits, labels: Labels) -> np.ndarray:
    return (logits.argmax(axis=1) != labels) | ~np.isfinite(logits).all(axis=1)


def _errors_where(teacher_wrong: bool) -> Callable[[Logits, Labels, Any], int]:
    def count(logits: Logits, labels: Labels, teacher_logits: Logits) -> int:
        chosen = _wrong(teacher_logits, labels) == teacher_wrong
        return errors(logits[chosen], labels[chosen])

    return count


for _metric in (
    Metric("errors", lambda logits, labels, _: errors(logits, labels), "errors", of_failed=True),
    Metric("nll", lambda logits, labels, _: nll(logits, labels), "negative log-likelihood, nats"),
    Metric("brier", lambda logits, labels, _: brier(logits, labels), "Brier score"),
    Metric("ece", lambda logits, labels, _: calibration_error(logits, labels), "expected calibration error"),
    Metric("confidence", lambda logits, *_: confidence(logits), "mean probability of the predicted class"),
    Metric("agreement", lambda logits, _, teacher: agreement(logits, teacher), "agreement with the teacher", True),
    Metric("teacher_kl", lambda logits, _, teacher: teacher_kl(logits, teacher), "KL from the teacher, nats", True),
    Metric("logit_rmse", lambda logits, _, teacher: logit_rmse(logits, teacher), "distance of centred logits", True),
    Metric("errors_where_teacher_right", _errors_where(False), "errors where the teacher is right", True),
    Metric("errors_where_teacher_wrong", _errors_where(True), "errors where the teacher is wrong", True),
):
    register(_metric)
