"""Which candidate a loss is: one whose gradients are the loss's in every case, up to one factor.

The gradient decides, and the value where the gradients of two candidates are alike (KL and cross-entropy). The factor
may depend on T, N and the batch (`scale`). With labels, a second term is allowed: their cross-entropy.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from analysis.checking import scale
from analysis.checking.cases import Case
from analysis.checking.forms import Candidate, Finding, Term, hard_labels
from analysis.checking.frameworks import Answer
from analysis.checking.scale import TOLERANCE, Scale

Hard = Callable[[Case], Term]
HARD: tuple[tuple[Hard, tuple[Finding, ...]], ...] = (
    (lambda case: hard_labels(case, 1.0), ()),
    (
        lambda case: hard_labels(case, case.temperature),
        (Finding("the hard labels' term divides the logits by T: take cross-entropy of z itself"),),
    ),
)


class Explanation(NamedTuple):
    """What a loss is."""

    candidate: Candidate
    scale: Scale
    hard: Hard | None
    hard_scale: Scale
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> int:
        """Their number."""
        return sum(finding.fault for finding in self.findings)

    @property
    def swapped(self) -> bool:
        """Whether student and teacher are exchanged."""
        return any(finding.text.startswith("arguments swapped") for finding in self.findings)

    def term(self, case: Case) -> tuple[float, Float[np.ndarray, "batch classes"]]:
        """The loss's value for a batch, and its gradient, if it is this."""
        value, gradient = _mean(self.candidate.term, case, self.scale)
        if self.hard is None:
            return value, gradient
        hard_value, hard_gradient = _mean(self.hard, case, self.hard_scale)
        return value + hard_value, gradient + hard_gradient


def explain(
    candidates: Iterable[Candidate], cases: Sequence[Case], answers: Sequence[Answer], labelled: bool
) -> Explanation | None:
    """The explanation with the fewest faults; None: no candidate fits."""
    found = []
    for candidate in candidates:
        for hard, findings in ((None, ()), *(HARD if labelled else ())):
            one = _match(candidate, hard, findings, cases, answers)
            if one is not None:
                found.append(one)
    usual = (0, -2)  # powers of T: that T² is lost is likelier than another factor
    return min(found, key=lambda one: (one.faults, len(one.findings), one.scale.temperature not in usual), default=None)


def _match(
    candidate: Candidate,
    hard: Hard | None,
    findings: tuple[Finding, ...],
    cases: Sequence[Case],
    answers: Sequence[Answer],
) -> Explanation | None:
    factors = []
    for case, answer in zip(cases, answers, strict=True):
        terms = [candidate.term, *([hard] if hard else [])]
        columns = np.column_stack([_mean(term, case)[1].ravel() for term in terms])
        assert answer.gradient is not None
        gradient = answer.gradient.ravel()
        if not np.isfinite(columns).all():
            return None
        solved = np.linalg.lstsq(columns, gradient, rcond=None)[0]
        if np.linalg.norm(gradient - columns @ solved) > TOLERANCE * np.linalg.norm(gradient):
            return None  # most candidates end with the first case
        factors.append(solved)
    of_candidate, *of_hard = np.transpose(factors)
    own = scale.fit(list(of_candidate), cases)
    other = scale.fit(list(of_hard[0]), cases) if of_hard else Scale()
    if own is None or other is None:
        return None
    lost = list[Finding]()
    temperature = cases[0].temperature
    if temperature != 1 and len({case.temperature for case in cases}) == 1:
        if temperature < 1 and (candidate.name != "kd" or abs(own.constant) > 1 + TOLERANCE):
            return None  # likelier the logits are multiplied where they should be divided
        if candidate.name == "kd":
            own, other, lost = _at_one_temperature(own, other, hard is not None, temperature)
        elif abs(own.constant) > 1 + TOLERANCE:
            return None  # `ttm` has no T²: it is kd with a fault
    told_own = own._replace(constant=np.sign(own.constant)) if lost else own  # it names the constant
    told = [*candidate.findings, *told_own.findings("the soft term" if hard else ""), *lost, *findings]
    if hard is not None:
        told.append(Finding(f"mixed with hard labels: plus {abs(other.constant):.4g} of their cross-entropy", False))
        told += other._replace(constant=np.sign(other.constant)).findings("the labels' term")
    explanation = Explanation(candidate, own, hard, other, ())
    return explanation._replace(findings=(*told, *_of_value(explanation, cases, answers)))


def _at_one_temperature(
    own: Scale, other: Scale, mixed: bool, temperature: float
) -> tuple[Scale, Scale, list[Finding]]:
    """Both factors, where one T was asked: it does not tell a power of T from a weight, unless weights add up to 1."""
    soft, hard, square = abs(own.constant), abs(other.constant) if mixed else 0.0, temperature**2

    def weights(soft: float, hard: float) -> bool:
        return abs(soft + hard - 1) < TOLERANCE * (min(soft, hard) if mixed else 1)

    if weights(soft, hard):
        return own, other, []
    if mixed and weights(soft * square, hard):
        return own._replace(constant=own.constant * square, temperature=-2), other, []
    if mixed and weights(soft, hard / square):
        return own, other._replace(constant=other.constant / square, temperature=2), []
    text = (
        f"T² is lost, unless a weight of {soft:.4g} is meant: multiply {'the soft term' if mixed else 'the loss'} by T²"
    )
    return own, other, [Finding(text)] * (soft * square < 1 + TOLERANCE)


def _of_value(explanation: Explanation, cases: Sequence[Case], answers: Sequence[Answer]) -> list[Finding]:
    expected = np.array([explanation.term(case)[0] for case in cases])
    values = np.array([answer.value for answer in answers])
    if np.isnan(values).all():
        return [Finding("the value is not a number")]
    fits = np.allclose(values, expected, rtol=2 * TOLERANCE, atol=1e-6)
    at = cases[0].temperature
    off = f"the gradient is that, the value is not: {values[0]:.4g} in place of {expected[0]:.4g} at T = {at:g}"
    return [] if fits else [Finding(off), Finding("a term without gradient, or a gradient that is stopped", False)]


def _mean(term: Callable[[Case], Term], case: Case, factor: Scale | None = None) -> tuple[float, np.ndarray]:
    with np.errstate(all="ignore"):
        value, gradient = term(case)
    times = 1.0 if factor is None else factor.at(case)
    return times * float(np.mean(value)), times * gradient / case.examples
