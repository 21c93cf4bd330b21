"""Objectives that take the label's class apart from the others: `dkd`, `nkd`.

Their authors' code masks a class by −1000 and takes logarithms of merged probabilities, which underflow. Here a class
left out has the logit −inf in both, which `kdjax.losses` does not count, and the others are merged as logits.

They follow the authors: megvii-research/mdistiller (`mdistiller/distillers/DKD.py`) and yzd-v/cls_KD.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from kdjax import exact
from kdjax.losses import Logits, Losses, PerExample
from kdjax.objectives.objective import Number, Objective, Parameter
from kdjax.objectives.pairs import constants, given
from kdjax.objectives.registry import register


def of_label(labels: Any, z: Array) -> Array:
    """Where the label's class is, `[N, ...]`."""
    return jax.lax.broadcasted_iota(jnp.int32, z.shape, 0) == jnp.asarray(labels)[None]


def cross_entropy(z: Array, label: Array) -> Array:
    """`−log softmax(z)_y`, `[N, ...]` to `[1, ...]`: `log(1 + Σ e^(z_j − z_y))`, exact where it is near 0 too."""
    gap = z - exact.total(jnp.where(label, z, 0))
    most = jax.lax.stop_gradient(jnp.maximum(exact.largest(jnp.where(label, -jnp.inf, gap)), 0))
    others = exact.total(jnp.where(label, 0, jnp.exp(jnp.where(label, 0, gap) - most)))
    return most + jnp.where(most > 0, jnp.log(jnp.exp(-most) + others), jnp.log1p(others))


@jax.custom_jvp
@jax.jit
def merged(z: Array, label: Array, temperature: Array) -> Array:
    """Logits `[N, ...]` in which the classes other than the label's are alike and have the probability they had
    together: `T log mean e^(z_j/T)` each, all less the largest of them, which derivatives take for a constant."""
    gap = z - exact.largest(jnp.where(label, -jnp.inf, z))
    own, gap = exact.total(jnp.where(label, gap, 0)), jnp.where(label, 0, gap)
    # T log mean e^(gap/T): near 0 from expm1, whatever T; far from it from the sum.
    mean = exact.total(gap * exact.quotients(-gap / temperature)[0]) / (len(z) - 1)
    near = mean / temperature > -0.5
    x = jnp.where(near, mean / temperature, 0)
    total = exact.total(jnp.where(label, 0, jnp.exp(gap / temperature)))
    far = jnp.where(near, 1, temperature) * (jnp.log(total) - jnp.log(jnp.asarray(len(z) - 1, z.dtype)))
    return jnp.where(label, own, jnp.where(near, mean * exact.log1p_over(x), far))


def _merged_jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    z, label, temperature = primals
    constants(tangents[2:])
    dz = given(tangents[0], z)
    others = exact.softmax(jnp.where(label, -jnp.inf, z), ~label, temperature)[0]
    return merged(*primals), jnp.where(label, dz, exact.total(jnp.where(label, 0, others * dz)))


merged.defjvp(_merged_jvp, symbolic_zeros=True)


def dkd(
    student_logits: Logits,
    teacher_logits: Logits,
    labels: Any,
    temperature: PerExample,
    alpha: Number,
    beta: Number,
) -> Losses:
    """`α T² KL(Bern p_y ‖ Bern q_y) + β T² KL(p̂‖q̂)`, p̂ and q̂ being p and q without y, renormalised.

    At T = inf `α (u_y²/(2(N − 1))) + β ‖ũ‖²/(2(N − 1))`, ũ being u over the other classes,
    centred over them: at α = 1 and β = (N − 1)/N it is `kd`. Without the authors' warm-up over 20 epochs (arXiv
    2203.08679). For N = 2 nothing is left of the second term.
    """
    z, v, t = exact.prepare(student_logits, teacher_logits, temperature)
    label = of_label(labels, z)
    target = exact.soft_targets(merged(z, label, t), merged(v, label, t), t)[0]
    others = exact.soft_targets(jnp.where(label, -jnp.inf, z), jnp.where(label, -jnp.inf, v), t)[0]
    return alpha * target + beta * others


def _dkd_limit(student_logits: Logits, teacher_logits: Logits, labels: Any, alpha: float, beta: float) -> Losses:
    """`α u_y²/(2(N − 1)) + β ‖ũ‖²/(2(N − 1))`."""
    u = teacher_logits - student_logits
    u, others = u - jnp.mean(u, axis=-1, keepdims=True), u.shape[-1] - 1
    label = jnp.arange(u.shape[-1]).reshape((1,) * (u.ndim - 1) + (-1,)) == labels[..., None]
    own = jnp.sum(jnp.where(label, u, 0), axis=-1)
    rest = jnp.where(label, 0, u + own[..., None] / others)  # the others' mean is −u_y/(N − 1)
    return (alpha * jnp.square(own) + beta * jnp.sum(jnp.square(rest), axis=-1)) / (2 * others)


def nkd(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample, gamma: Number) -> Losses:
    """`−p_y log q_y` at T = 1, plus `γ T² CE(p̂, q̂)` at T, p̂ and q̂ being p and q without y, renormalised.

    (arXiv 2303.13005.) The cross-entropy is `KL(p̂‖q̂)` plus the teacher's entropy, so the value grows as T²,
    while the gradient has a limit.
    """
    z, v, t = exact.prepare(student_logits, teacher_logits, temperature)
    label = of_label(labels, z)
    own = jnp.exp(-cross_entropy(v, label)) * cross_entropy(z, label)
    others = exact.soft_targets(jnp.where(label, -jnp.inf, z), jnp.where(label, -jnp.inf, v), t)[0]
    entropy = jnp.square(t) * _entropy_of_others(v, label, t)
    return own[0] + gamma * (others + entropy[0])


def _entropy_of_others(v: Array, label: Array, temperature: Array) -> Array:
    """`−Σ p̂ log p̂`, `[1, ...]`: of terms that are not negative."""
    masked = jnp.where(label, -jnp.inf, v)
    top = exact.at_largest(masked)
    depth = jnp.where(label, 0, exact.largest(masked) - v) / temperature
    weights = jnp.where(label, 0, jnp.exp(-depth))
    beside = exact.total(jnp.where(top, 0, weights))
    return exact.total(weights * (jnp.log1p(beside) + depth)) / (1 + beside)


register(
    Objective(
        "dkd",
        "decoupled",
        dkd,
        (Parameter("alpha", 1, 0), Parameter("beta", 8, 0)),
        limit=_dkd_limit,
        paper="2203.08679",
    )
)
register(
    Objective(
        "nkd",
        "normalised",
        nkd,
        (Parameter("gamma", 1.5, 0),),
        limit="T² times the entropy of the teacher's other classes grows without bound",
        paper="2303.13005",
    )
)
