"""Objectives that put no temperature on the student: squared differences, a tempered teacher, smoothed labels.

`ttm` and `wttm` follow the authors' zkxufo/TTM (`distiller_zoo/ttm.py`, `wttm.py`).
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from kdjax import exact, losses
from kdjax.losses import Logits, Losses, PerExample
from kdjax.objectives.decoupled import cross_entropy, of_label
from kdjax.objectives.objective import Number, Objective, Parameter, logit_matching_limit
from kdjax.objectives.registry import register


def mse(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`‖z − v‖²/(2N)`, the mean logit included, at every T: `losses.logit_matching_loss`."""
    return losses.logit_matching_loss(student_logits, teacher_logits)


def centred_mse(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`‖u‖²/(2N)` at every T, which is `kd` at T = inf: `losses.centred_logit_matching_loss`."""
    return losses.centred_logit_matching_loss(student_logits, teacher_logits)


def ttm(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`KL(p ‖ softmax(z))`, no T²: `kd` at T of logits Tz, over T² (arXiv 2402.11148, γ = 1/T).

    No logit matching as T → ∞: the target becomes uniform.
    """
    z, v, t = exact.prepare(student_logits, teacher_logits, temperature)
    tempered = _tempered(v, t)
    result: Array = exact.soft_targets(z, tempered, jnp.ones_like(t))[0]
    return result


def wttm(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`ttm` times `Σ_i softmax(v)_i^(1/T)` (arXiv 2402.11148), a weight that at T = inf is the number of classes."""
    _, v, t = exact.prepare(student_logits, teacher_logits, temperature)
    of_all = exact.total(jnp.exp(_tempered(v, jnp.ones_like(t))))
    log_weight = jnp.log(exact.total(jnp.exp(_tempered(v, t)))) - jnp.log(of_all) / t
    return jnp.exp(log_weight)[0] * ttm(student_logits, teacher_logits, labels, temperature)


def _tempered(v: Array, t: Array) -> Array:
    """`(v − max v)/T`: the largest first, so that what is rounded is small where it counts. -inf stays, at T = inf too,
    where it would be nan."""
    gone = v == -jnp.inf
    return jnp.where(gone, v, jnp.where(gone, 0, v - exact.largest(v)) / t)  # double where: no inf/inf in a slope


def label_smoothing(
    student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample, eps: Number
) -> Losses:
    """`CE((1 − ε) onehot(y) + ε/N, softmax(z))`, no teacher and no T (arXiv 1512.00567, Section 7)."""
    z, _, _ = exact.prepare(student_logits, teacher_logits, temperature)
    top = exact.largest(z)
    uniform = jnp.log(exact.total(jnp.exp(z - top))) + jnp.mean(top - z, axis=0, keepdims=True)
    return ((1 - eps) * cross_entropy(z, of_label(labels, z)) + eps * uniform)[0]


def _uniform_limit(student_logits: Logits, teacher_logits: Logits, labels: Any) -> Losses:
    """KL of softmax(z) from uniform targets."""
    return losses.soft_target_loss(student_logits, jnp.zeros_like(student_logits), 1.0)


def _weighted_limit(student_logits: Logits, teacher_logits: Logits, labels: Any) -> Losses:
    """N times that."""
    return student_logits.shape[-1] * _uniform_limit(student_logits, teacher_logits, labels)


def _smoothing_limit(student_logits: Logits, teacher_logits: Logits, labels: Any, eps: float) -> Losses:
    """Itself, at every T."""
    return label_smoothing(student_logits, teacher_logits, labels, 1.0, eps)


register(
    Objective(
        "mse",
        "squared error of logits",
        mse,
        limit=lambda z, v, labels: losses.logit_matching_loss(z, v),
        shift_invariant=False,
        uses_temperature=False,
        paper="2105.08919",
    )
)
register(
    Objective(
        "centred_mse",
        "squared error of centred logits",
        centred_mse,
        limit=logit_matching_limit,
        uses_temperature=False,
        paper="1503.02531",
    )
)
register(Objective("ttm", "tempered teacher", ttm, limit=_uniform_limit, paper="2402.11148"))
register(
    Objective(
        "wttm",
        "weighted tempered teacher",
        wttm,
        limit=_weighted_limit,
        paper="2402.11148",
    )
)
register(
    Objective(
        "label_smoothing",
        "label smoothing",
        label_smoothing,
        (Parameter("eps", 0.1, 0, 1),),
        limit=_smoothing_limit,
        uses_temperature=False,
        paper="1512.00567",
        baseline=True,
    )
)
