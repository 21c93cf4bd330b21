"""Objectives that drop the scale of the logits and keep their direction: their limit as T → ∞ holds only ρ.

`logit_standardization`, `norm_kd` and `spherical_kd` are soft targets of logits divided by their standard deviation σ,
`dist` a correlation of probabilities. A gradient in z is proportional to 1/σ_z: large where a head starts near 0. In
float32 the first three are exact to about 2e-7/√(1 − ρ) (they differ in the direction alone, which is rounded before
the difference is taken), and to 1e-5 at T = 0.05, where a rounding of a standardised logit is divided by T. With N = 2
the direction is a sign: the gradient is 0 but for rounding.

They follow the authors: sunshangquan/logit-standardization-KD and gizi1/NormKD (`mdistiller/distillers/KD.py`,
`NormKD.py`), forjiuzhou/Spherical-Knowledge-Distillation, hunto/DIST_KD (`segmentation/losses/dist_kd.py`).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from kdjax import exact, losses
from kdjax.errors import require
from kdjax.losses import Logits, Losses, PerExample
from kdjax.objectives.objective import Number, Objective, Parameter
from kdjax.objectives.pairs import constants, given
from kdjax.objectives.registry import register

EPSILON = 1e-7
"""Added to σ by `logit_standardization`, as by its authors."""


def standardise(logits: Array, freedom: int, epsilon: float = 0.0) -> tuple[Array, Array]:
    """Logits `[..., N]`, centred and divided by σ + epsilon, and σ, `[...]`, over N − freedom. Equal logits give 0, and
    where epsilon is 0 too, the gradient is that of σ = 1."""
    centred = logits - logits[..., :1]
    centred = centred - jnp.mean(centred, axis=-1, keepdims=True)
    squares = jnp.sum(jnp.square(centred), axis=-1, keepdims=True) / (logits.shape[-1] - freedom)
    spread = squares > 0
    deviation = jnp.where(spread, jnp.sqrt(jnp.where(spread, squares, 1)), 0)  # double where: √ has no slope at 0
    return centred / jnp.where(spread | (epsilon > 0), deviation + epsilon, 1), deviation[..., 0]


def logit_standardization(
    student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample
) -> Losses:
    """`T² KL` of the logits' z-scores, `(x − mean)/(σ + 1e-7)`, σ over N − 1 (arXiv 2403.01427).

    At T = inf `(N − 1)/N · (1 − ρ)`. Exactness: see the module.
    """
    student, teacher = exact.as_float(student_logits, teacher_logits)
    z, v = (standardise(logits, 1, EPSILON)[0] for logits in (student, teacher))
    return losses.soft_target_loss(z, v, temperature)


def norm_kd(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`(Tσ_v)² KL(softmax(v/(Tσ_v)) ‖ softmax(z/(Tσ_z)))`: σ_v² times `logit_standardization` with no 1e-7.
    arXiv 2308.00520.

    Where σ_z = 0, q is uniform and the gradient, infinite in theory, is that of σ_z = 1. Exactness: see the module.
    """
    student, teacher = exact.as_float(student_logits, teacher_logits)
    z, (v, deviation) = standardise(student, 1)[0], standardise(teacher, 1)
    return jnp.square(deviation) * losses.soft_target_loss(z, v, temperature)


def spherical_kd(
    student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample, m: Number
) -> Losses:
    """`T² KL` of `m (x − mean)/σ`, σ over N. At T = inf `m² (1 − ρ)`. Where σ_z = 0, as `norm_kd`. arXiv
    2010.07485."""
    student, teacher = exact.as_float(student_logits, teacher_logits)
    return losses.soft_target_loss(m * standardise(student, 0)[0], m * standardise(teacher, 0)[0], temperature)


@jax.custom_jvp
@jax.jit
def _deviation(z: Array, temperature: Array) -> Array:
    """`T (q − 1/N)`, `[N, ...]`; at T = inf `zc/N`."""
    return exact.soft_targets(z, jnp.zeros_like(z), temperature)[1]


def _deviation_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    z, temperature = primals
    constants(tangents[1:])
    q = exact.softmax(z, jnp.full(z.shape, True), temperature)[0]
    top = exact.at_largest(z)
    dz = given(tangents[0], z)
    dz = dz - exact.total(jnp.where(top, dz, 0))  # first: what is left is not the difference of large numbers
    return _deviation(*primals), q * (dz - exact.total(q * dz))


_deviation.defjvp(_deviation_jvp, symbolic_zeros=True)


@jax.custom_jvp
@jax.jit
def _uncorrelated(b: Array, a: Array, difference: Array) -> Array:
    """`1 − a·b/(‖a‖‖b‖)` over axis 0, from `difference = b − a` where the norms are alike. 1 where one of them is 0."""
    return _apart(b, a, difference)[0]


def _apart(b: Array, a: Array, difference: Array) -> tuple[Array, Array]:
    """The value, `½‖a/‖a‖ − b/‖b‖‖²`, and its gradient in b."""
    (unit_a, norm_a), (unit_b, norm_b) = _unit(a), _unit(b)
    both = (norm_a > 0) & (norm_b > 0)
    safe_a, safe_b = (jnp.where(both, norm, 1) for norm in (norm_a, norm_b))
    alike = both & (safe_a < 16 * safe_b) & (safe_b < 16 * safe_a)
    step = jnp.where(alike, difference / safe_b, 0)  # the norms differ by step·(a + b)/(‖a‖ + ‖b‖), in units of ‖b‖
    share = safe_a / (safe_a + safe_b)
    longer = exact.total(step * (share * unit_a + (1 - share) * unit_b))
    apart = jnp.where(alike, unit_a * longer - step, unit_a - unit_b)
    value = jnp.where(both, exact.total(jnp.square(apart)) / 2, 1)
    # a/‖a‖ less its part along b/‖b‖: from the difference while that is short, from the correlation while it is long.
    across = jnp.where(value < 0.5, apart + value * unit_b, unit_a - exact.total(unit_a * unit_b) * unit_b)
    return value[0], jnp.where(both, -across / safe_b, 0)


def _unit(a: Array) -> tuple[Array, Array]:
    """`a/‖a‖` and ‖a‖ over axis 0, with no square that underflows; 0 where a is 0."""
    most = exact.largest(jnp.abs(a))
    scaled = a / jnp.where(most > 0, most, 1)
    norm = jnp.sqrt(exact.total(jnp.square(scaled)))
    return scaled / jnp.where(most > 0, norm, 1), most * norm


def _uncorrelated_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    # `difference` moves with b: its tangent is in the gradient already.
    value, gradient = _apart(*primals)
    return value, jnp.sum(gradient * given(tangents[0], primals[0]), axis=0)


_uncorrelated.defjvp(_uncorrelated_jvp, symbolic_zeros=True)


def dist(
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Any,
    temperature: PerExample,
    beta: Number,
    gamma: Number,
) -> Losses:
    """`β (1 − corr(p, q)) + γ (1 − mean over classes of the correlation over the batch)` (arXiv 2205.10536).

    The batch is the last of the leading axes (of one device, where it is divided), and every example has the whole
    second term. Without the factor τ² that some of the authors' code has: with it, the gradient would grow as T². At
    T = inf p and q stand for centred logits. A correlation with what does not vary (uniform probabilities; a class
    whose probability is one over the batch) is 0.

    In float32, exact to about 1e-6/√(1 − corr), relative: p and q that are nearly proportional cost digits, and over
    the batch so does a class whose probability is almost the same throughout. Raises BadInput: fewer than two examples,
    unless γ is the number 0 (in training it is traced).
    """
    z, v, t = exact.prepare(student_logits, teacher_logits, temperature)
    few = f"the objective dist correlates over the batch: logits of shape {student_logits.shape} are too few for it"
    alone = isinstance(gamma, (int, float)) and gamma == 0  # a traced γ is one of several
    require(alone or (z.ndim > 1 and z.shape[-1] > 1), f"{few}: give a batch of 2 or more")
    q, p = _deviation(z, t), _deviation(v, t)
    difference = jax.lax.stop_gradient(exact.soft_targets(z, v, t)[1])
    loss = beta * _uncorrelated(q, p, difference)
    if not alone:
        q, p, difference = (
            jnp.moveaxis(one - jnp.mean(one, axis=-1, keepdims=True), -1, 0) for one in (q, p, difference)
        )
        loss = loss + gamma * jnp.mean(_uncorrelated(q, p, difference), axis=0)[..., None]
    return loss


def _correlation(a: Array, b: Array, axis: int) -> Array:
    a, b = (one - jnp.mean(one, axis=axis, keepdims=True) for one in (a, b))
    return jnp.sum(a * b, axis=axis) / jnp.sqrt(jnp.sum(a * a, axis=axis) * jnp.sum(b * b, axis=axis))


def _standardization_limit(student_logits: Logits, teacher_logits: Logits, labels: Any) -> Losses:
    """`(N − 1)/N · (1 − ρ)`."""
    return (1 - 1 / student_logits.shape[-1]) * (1 - _correlation(student_logits, teacher_logits, -1))


def _norm_limit(student_logits: Logits, teacher_logits: Logits, labels: Any) -> Losses:
    """`σ_v² (N − 1)/N · (1 − ρ)`."""
    variance = jnp.var(teacher_logits, axis=-1, ddof=1)
    return variance * _standardization_limit(student_logits, teacher_logits, labels)


def _spherical_limit(student_logits: Logits, teacher_logits: Logits, labels: Any, m: float) -> Losses:
    """`m² (1 − ρ)`."""
    return m**2 * (1 - _correlation(student_logits, teacher_logits, -1))


def _dist_limit(student_logits: Logits, teacher_logits: Logits, labels: Any, beta: float, gamma: float) -> Losses:
    """`β (1 − ρ) + γ (1 − mean correlation of the centred logits of a class over the batch)`."""
    z, v = (logits - jnp.mean(logits, axis=-1, keepdims=True) for logits in (student_logits, teacher_logits))
    intra = 1 - jnp.mean(_correlation(z, v, -2), axis=-1) if gamma else jnp.zeros(z.shape[:-2])
    return beta * (1 - _correlation(z, v, -1)) + gamma * intra[..., None]


register(
    Objective(
        "logit_standardization",
        "standardised logits",
        logit_standardization,
        limit=_standardization_limit,
        target=lambda v, temperature: (standardise(v, 1, EPSILON)[0], temperature),
        paper="2403.01427",
    )
)
register(
    Objective(
        "norm_kd",
        "NormKD",
        norm_kd,
        limit=_norm_limit,
        target=lambda v, temperature: (standardise(v, 1)[0], temperature),
        paper="2308.00520",
    )
)
register(
    Objective(
        "spherical_kd",
        "spherical",
        spherical_kd,
        (Parameter("m", 2, 0),),
        limit=_spherical_limit,
        target=lambda v, temperature, m: (m * standardise(v, 0)[0], temperature),
        paper="2010.07485",
    )
)
register(
    Objective(
        "dist",
        "correlation",
        dist,
        (Parameter("beta", 1, 0), Parameter("gamma", 1, 0)),
        limit=_dist_limit,
        paper="2205.10536",
    )
)
