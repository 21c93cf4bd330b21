"""What a loss may compute: a divergence between s and t, which are made from the student's and the teacher's logits.

`q = softmax(s)`, `p = softmax(t)`. Each part is right or a known fault, so that faults are found in combination. The
gradients are in closed form: hundreds of forms are tried.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax, softmax, xlogy

from analysis.checking.cases import Case

Array = Float[np.ndarray, "*batch classes"]
Values = Float[np.ndarray, "*batch"]
Term = tuple[Values, Array]
"""A loss of each example, `[B]`, and its gradient in the student's logits, `[B, N]`."""


class Finding(NamedTuple):
    """One line of the answer."""

    text: str
    fault: bool = True
    """Or a note."""


class Candidate(NamedTuple):
    """Something that a loss may turn out to be."""

    name: str
    term: Callable[[Case], Term]
    findings: tuple[Finding, ...] = ()


class Preparation(NamedTuple):
    """How s is made of the logits x, or t."""

    words: str
    """Of the fault, {whose} and {x} being filled in; empty where it is right."""
    make: Callable[[Array, float], tuple[Array, Callable[[Array], Array]]]
    """(x, T) → s, and the function that takes a gradient in s to one in x."""


class Divergence(NamedTuple):
    """Of s and t."""

    words: str
    """Empty where it is right."""
    formula: Callable[[Array, Array], Term]
    fault: bool = True
    raw: tuple[str, ...] = ()
    """Whose logits stand where probabilities belong: the words that say it divide them by T too."""


def _sum(values: Array) -> Any:
    return np.sum(values, axis=-1, keepdims=True)


def _scaled(factor: Callable[[float], float]) -> Callable[[Array, float], tuple[Array, Callable[[Array], Array]]]:
    return lambda x, temperature: (x * factor(temperature), lambda slope: slope * factor(temperature))


def _through_softmax(gradient: Array, probabilities: Array) -> Array:
    return probabilities * (gradient - _sum(probabilities * gradient))


def _probabilities(x: Array, temperature: float) -> tuple[Array, Callable[[Array], Array]]:
    q = softmax(x, axis=-1)
    return q / temperature, lambda slope: _through_softmax(slope, q) / temperature


def _twice(x: Array, temperature: float) -> tuple[Array, Callable[[Array], Array]]:
    q = softmax(x / temperature, axis=-1)
    return q, lambda slope: _through_softmax(slope, q) / temperature


PREPARATIONS = (
    Preparation("", _scaled(lambda temperature: 1 / temperature)),
    Preparation("the {whose} logits are not divided by T: take {x}/T", _scaled(lambda temperature: 1.0)),
    Preparation(
        "the {whose} probabilities are taken for logits (softmax({x}), divided by T, goes into another softmax): give "
        "the logits",
        _probabilities,
    ),
    Preparation("double softmax: softmax({x}/T) goes into another softmax: take the softmax once", _twice),
    Preparation("the {whose} logits are divided by T twice: take {x}/T", _scaled(lambda temperature: temperature**-2)),
    Preparation("the {whose} logits are multiplied by T: divide them by it", _scaled(lambda temperature: temperature)),
)


def kl(s: Array, t: Array) -> Term:
    """`Σ p (log p − log q)`."""
    p, log_q = softmax(t, axis=-1), log_softmax(s, axis=-1)
    return np.sum(p * (log_softmax(t, axis=-1) - log_q), axis=-1), np.exp(log_q) - p


def _cross_entropy(s: Array, weights: Array) -> Term:
    log_q = log_softmax(s, axis=-1)
    return -np.sum(weights * log_q, axis=-1), np.exp(log_q) * _sum(weights) - weights


def _kl_div(s: Array, target: Array) -> Term:
    """PyTorch's `kl_div(log q, target)`, summed over the classes; NaN where a target is negative."""
    value, slope = _cross_entropy(s, target)
    return value + np.sum(np.where(target < 0, np.nan, xlogy(np.abs(target), np.abs(target))), axis=-1), slope


def _kl_div_of(s: Array, target: Array) -> Term:
    """`kl_div(s, target)`."""
    terms = np.where(target < 0, np.nan, xlogy(np.abs(target), np.abs(target))) - target * s
    return np.sum(terms, axis=-1), -target


def _log_target(s: Array, target: Array) -> Term:
    """`kl_div(log q, target, log_target=True)`."""
    value, slope = _cross_entropy(s, np.exp(target))
    return value + np.sum(np.exp(target) * target, axis=-1), slope


def _of_student(s: Array, per_class: Array) -> Term:
    """`Σ q · per_class`, per_class being constant or having log q for its only part that varies."""
    q = softmax(s, axis=-1)
    return np.sum(q * per_class, axis=-1), _through_softmax(per_class, q)


def _log_missing(s: Array, t: Array) -> Term:
    p, q = softmax(t, axis=-1), softmax(s, axis=-1)
    return np.sum(xlogy(p, p) - p * q, axis=-1), -_through_softmax(p, q)


def _clipped(s: Array, t: Array) -> Term:
    """Keras' `kl_divergence(t, s)`: both clipped to [1e-7, 1]."""
    low, high = np.clip(s, 1e-7, 1), np.clip(t, 1e-7, 1)
    return np.sum(high * np.log(high / low), axis=-1), np.where((s > 1e-7) & (s < 1), -high / low, 0)


def _squares(s: Array, t: Array) -> Term:
    q = softmax(s, axis=-1)
    apart = q - softmax(t, axis=-1)
    return np.sum(np.square(apart), axis=-1), 2 * _through_softmax(apart, q)


STUDENT, TEACHER = "student's", "teacher's"
LOG_Q = "in PyTorch F.log_softmax"
TEACHER_RAW = "softmax missing: the teacher's logits stand where probabilities belong: take softmax(v/T)"
DIVERGENCES = (
    Divergence("", kl),
    Divergence(
        "cross-entropy, not KL: the value is larger by T² times the teacher's entropy, the gradient is the same",
        lambda s, t: _cross_entropy(s, softmax(t, axis=-1)),
        fault=False,
    ),
    Divergence(
        "arguments swapped: this is KL(q‖p), student first: exchange student and teacher (unless reverse_kl is meant)",
        lambda s, t: _of_student(s, log_softmax(s, axis=-1) - log_softmax(t, axis=-1)),
    ),
    Divergence(
        "arguments swapped: the cross-entropy of q, the student's, under p: exchange student and teacher",
        lambda s, t: _of_student(s, -log_softmax(t, axis=-1)),
    ),
    Divergence(
        "softmax missing: the student's logits stand where log-probabilities belong: take log_softmax(z/T)",
        lambda s, t: _kl_div_of(s, softmax(t, axis=-1)),
        raw=(STUDENT,),
    ),
    Divergence(
        f"the student's probabilities stand where log-probabilities belong: take log_softmax, not softmax ({LOG_Q})",
        _log_missing,
    ),
    Divergence(TEACHER_RAW, _kl_div, raw=(TEACHER,)),
    Divergence(TEACHER_RAW, _cross_entropy, raw=(TEACHER,)),
    Divergence(
        "softmax missing: both logits stand where probabilities belong: take log_softmax(z/T) and softmax(v/T)",
        _kl_div_of,
        raw=(STUDENT, TEACHER),
    ),
    Divergence(
        "softmax missing: both logits stand where probabilities belong, and are clipped to [1e-7, 1]: take "
        "softmax(z/T) and softmax(v/T)",
        _clipped,
        raw=(STUDENT, TEACHER),
    ),
    Divergence(
        "the teacher's log-probabilities stand where probabilities belong: take softmax(v/T), or log_target=True",
        lambda s, t: _kl_div(s, log_softmax(t, axis=-1)),
    ),
    Divergence(
        "the teacher's probabilities stand where log-probabilities belong: take log_target=False, or log_softmax(v/T)",
        lambda s, t: _log_target(s, softmax(t, axis=-1)),
    ),
    Divergence("squared difference of the probabilities, not KL: take KL(p‖q)", _squares),
)


def _term(divergence: Divergence, student: Preparation, teacher: Preparation) -> Callable[[Case], Term]:
    def term(case: Case) -> Term:
        s, back = student.make(case.student, case.temperature)
        value, slope = divergence.formula(s, teacher.make(case.teacher, case.temperature)[0])
        return case.temperature**2 * value, case.temperature**2 * back(slope)

    return term


def _preparations(raw: bool) -> Sequence[Preparation]:
    """Where logits stand raw, that they are not divided by T is no fault of its own, and the likeliest."""
    divided, undivided, *others = PREPARATIONS
    return (undivided._replace(words=""), divided, *others) if raw else PREPARATIONS


def candidates() -> Iterator[Candidate]:
    """Every combination of the parts, times T²; the first is `kd` as it should be. And `ttm`, which has two of the
    faults on purpose."""
    for divergence in DIVERGENCES:
        of_both = [_preparations(whose in divergence.raw) for whose in (TEACHER, STUDENT)]
        for teacher, student in itertools.product(*of_both):
            parts = [Finding(divergence.words, divergence.fault)]
            parts += [
                Finding(part.words.format(whose=whose, x=x))
                for part, whose, x in ((student, STUDENT, "z"), (teacher, TEACHER, "v"))
            ]
            yield Candidate("kd", _term(divergence, student, teacher), tuple(part for part in parts if part.text))
    yield Candidate("ttm: tempered teacher, arXiv 2402.11148 (not kd: no T for the student, no T²)", _tempered_teacher)


def _tempered_teacher(case: Case) -> Term:
    return kl(case.student, case.teacher / case.temperature)


def hard_labels(case: Case, temperature: float) -> Term:
    """The labels' cross-entropy at a temperature."""
    onehot = np.eye(case.classes)[case.labels]
    value, slope = _cross_entropy(case.student / temperature, onehot)
    return value, slope / temperature
