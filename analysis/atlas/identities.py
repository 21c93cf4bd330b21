"""What one objective is in terms of another, checked on a pair's logits: values and gradients, in float64."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from analysis.atlas.measurements import labels_of, value_and_gradient
from analysis.atlas.pairs import Pair
from analysis.matching.theory import against_temperature, rms
from kdjax import objectives

TEMPERATURES = (1.0, 4.0, 20.0, 1000.0)
HOLDS = 1e-6
"""The largest relative difference of equals: `logit_standardization` adds 1e-7 to σ, `norm_kd` nothing."""

Term = Callable[[Array, Array, Array, Array], Array]
"""(student logits, teacher logits, labels, temperature) → one number a case."""


class Identity(NamedTuple):
    """Two sides that are to be equal, and how far apart they are."""

    words: str
    where: str
    """The temperatures: in words."""
    value: float
    """Root mean square of the difference over that of the right side, the largest over temperatures."""
    gradient: float
    """The same of the gradients in the student's logits."""

    @property
    def holds(self) -> bool:
        return max(self.value, self.gradient) < HOLDS


def identities(pair: Pair) -> Iterator[Identity]:
    """Every identity between objectives of the registry; for `dkd`, N is that of the pair's logits."""
    classes = pair.student.shape[1]
    every, finite, limit = (*TEMPERATURES, math.inf), TEMPERATURES, (math.inf,)

    def standardised(z: Array, v: Array, labels: Array, temperature: Array) -> Array:
        variance = jnp.var(v, axis=-1, ddof=1)
        return variance * loss("logit_standardization")(z, v, labels, temperature)

    def scaled(z: Array, v: Array, labels: Array, temperature: Array) -> Array:
        return loss("kd")(temperature * z, v, labels, temperature) / temperature**2

    rest = f"dkd(beta={(classes - 1) / classes!r})"
    yield _identity(pair, "norm_kd = σ_v² · logit_standardization", "every T", every, loss("norm_kd"), standardised)
    yield _identity(pair, "ttm = kd of T·z at T, over T²", "every finite T", finite, loss("ttm"), scaled)
    yield _identity(pair, "dkd(alpha=1, beta=(N − 1)/N) = kd", "T = ∞", limit, loss(rest), loss("kd"))
    for name, objective in objectives.OBJECTIVES.items():
        if objective.curvature is not None:
            factor = objective.curvature(**objective.hyperparameters)
            words = f"{name} = f″(1) · ‖zc − vc‖²/(2N), f″(1) = {factor:.4g}"
            yield _identity(pair, words, "T = ∞", limit, loss(name), _times(factor, loss("centred_mse")))


def loss(text: str) -> Term:
    """An objective's loss."""
    term: Term = objectives.parse(text).loss
    return term


def _times(factor: float, term: Term) -> Term:
    return lambda *arguments: factor * term(*arguments)


def _identity(pair: Pair, words: str, where: str, temperatures: tuple[float, ...], left: Term, right: Term) -> Identity:
    @against_temperature
    def apart(temperature: Array, z: Array, v: Array, labels: Array) -> dict[str, Array]:
        def both(term: Term) -> tuple[Array, Array]:
            return value_and_gradient(lambda z, v: term(z, v, labels_of(labels), temperature), z, v)

        sides: Any = zip(both(left), both(right), strict=True)
        return {name: rms(a - b) / rms(b) for name, (a, b) in zip(("value", "gradient"), sides, strict=True)}

    found = apart(pair.student, pair.teacher, np.array(temperatures), pair.labels)
    return Identity(words, where, float(found["value"].max()), float(found["gradient"].max()))
