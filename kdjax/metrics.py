"""What a run is judged by, from logits on the host, in float64: errors, calibration, agreement, drift."""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr, log_softmax, softmax

Logits = Float[np.ndarray, "examples classes"]
Labels = Int[np.ndarray, "examples"]


def errors(logits: Logits, labels: Labels) -> int:
    """Number of examples whose largest logit is not the label's. Logits that are not finite count as errors."""
    return int(np.sum(_wrong(logits, labels)))


def errors_by_class(logits: Logits, labels: Labels) -> Int[np.ndarray, "classes"]:
    """Errors among the examples of each class."""
    return np.bincount(labels[_wrong(logits, labels)], minlength=logits.shape[1])


def nll(logits: Logits, labels: Labels) -> float:
    """Mean negative log-likelihood of the labels at T = 1, in nats: `−mean log q_y`."""
    return float(-np.mean(log_softmax(_wide(logits), axis=1)[np.arange(len(labels)), labels]))


def brier(logits: Logits, labels: Labels) -> float:
    """Brier score: mean over examples of `Σ_i (q_i − 1[i = y])²`, in [0, 2] (Brier 1950)."""
    return float(np.mean(np.sum((softmax(_wide(logits), axis=1) - np.eye(logits.shape[1])[labels]) ** 2, axis=1)))


def calibration_error(logits: Logits, labels: Labels, bins: int = 15) -> float:
    """Expected calibration error: mean |confidence − accuracy| over equal-width bins of confidence, weighted by count.

    Guo et al. 2017 (arXiv 1706.04599, Eq. 3), with their 15 bins.
    """
    confidence = softmax(_wide(logits), axis=1).max(axis=1)
    correct = ~_wrong(logits, labels)
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(which, confidence - correct, minlength=bins)
    return float(np.sum(np.abs(gap)) / len(labels))


def confidence(logits: Logits) -> float:
    """Mean probability, at T = 1, of the class chosen. Above the accuracy: over-confident; below: over-smoothed."""
    return float(np.mean(softmax(_wide(logits), axis=1).max(axis=1)))


def agreement(logits: Logits, teacher_logits: Logits) -> float:
    """Share of examples for which student and teacher choose the same class."""
    return float(np.mean(logits.argmax(axis=1) == teacher_logits.argmax(axis=1)))


def teacher_kl(logits: Logits, teacher_logits: Logits) -> float:
    """Mean `KL(p‖q)` from teacher to student at T = 1, in nats."""
    p, q = log_softmax(_wide(teacher_logits), axis=1), log_softmax(_wide(logits), axis=1)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


def logit_rmse(logits: Logits, teacher_logits: Logits) -> float:
    """Root mean square, over examples and classes, of the difference between centred logits."""
    return float(np.sqrt(np.mean((_centred(logits) - _centred(teacher_logits)) ** 2)))


def mean_logit_drift(logits: Logits, start: Logits) -> float:
    """Root mean square over examples of how far the mean logit moved from the student's own start; nan of a run that
    failed."""
    if not np.isfinite(logits).all():
        return math.nan
    return float(np.sqrt(np.mean((_wide(logits).mean(axis=1) - _wide(start).mean(axis=1)) ** 2)))


def entropy(logits: Logits, temperature: float) -> float:
    """Mean entropy of `softmax(logits / T)`, in nats: ln(classes) at T = ∞."""
    return float(np.mean(np.sum(entr(softmax(_wide(logits) / temperature, axis=1)), axis=1)))


def evaluate(logits: Logits, labels: Labels, teacher_logits: Logits | None = None) -> dict[str, float | int]:
    """Every measure of one run on one set of images; those against the teacher only where there is one.

    Of a run that failed (logits that are not finite) only the errors are numbers; the rest is nan.
    """
    if not np.isfinite(logits).all():
        judged = evaluate(np.zeros_like(logits), labels, teacher_logits)
        return {name: np.nan for name in judged} | {"errors": errors(logits, labels)}
    row: dict[str, float | int] = {
        "errors": errors(logits, labels),
        "nll": nll(logits, labels),
        "brier": brier(logits, labels),
        "ece": calibration_error(logits, labels),
        "confidence": confidence(logits),
    }
    if teacher_logits is not None:
        teacher_wrong = _wrong(teacher_logits, labels)
        row |= {
            "agreement": agreement(logits, teacher_logits),
            "teacher_kl": teacher_kl(logits, teacher_logits),
            "logit_rmse": logit_rmse(logits, teacher_logits),
            "errors_where_teacher_right": errors(logits[~teacher_wrong], labels[~teacher_wrong]),
            "errors_where_teacher_wrong": errors(logits[teacher_wrong], labels[teacher_wrong]),
        }
    return row


def _wide(logits: Logits) -> Logits:
    return np.asarray(logits, np.float64)


def _centred(logits: Logits) -> Logits:
    wide = _wide(logits)
    return np.subtract(wide, wide.mean(axis=1, keepdims=True))


def _wrong(logits: Logits, labels: Labels) -> np.ndarray:
    return (logits.argmax(axis=1) != labels) | ~np.isfinite(logits).all(axis=1)
