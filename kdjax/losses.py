"""Distillation losses on logits, one number per example; soft terms are accurate to rounding at every T in (0, inf].

z student logits, v teacher logits, N classes, T temperature; `q = softmax(z/T)`, `p = softmax(v/T)` (Hinton, Vinyals,
Dean 2015, arXiv 1503.02531, Eq. 1). A loss takes logits `[..., N]` to one number per example, `[...]`; callers reduce.

Why not `T**2 * sum(p * (log_softmax(v/T) - log_softmax(z/T)))`? In float32 it has lost four digits at T = 100, all at
1e4. Here logits are subtracted first and divided by T last: nothing is the difference of rounded, near-equal numbers.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from kdjax import exact
from kdjax.exact import PerExample as PerExample

Logits: TypeAlias = Float[Array, "*batch classes"]
Losses: TypeAlias = Float[Array, "*batch"]
Labels: TypeAlias = Int[Array, "..."]
AnyShape: TypeAlias = Float[Array, "..."]
"""Teacher logits: of the student's shape. Another is refused with a message, not by this annotation."""


def soft_target_loss(student_logits: Logits, teacher_logits: AnyShape, temperature: PerExample) -> Losses:
    """T² times the divergence of the student's soft targets from the teacher's.

    `T² KL(p || q) = T² sum_i p_i (log p_i - log q_i)`; at `T = inf` its limit, `||zc - vc||² / (2N)`, zc and vc being
    logits less their mean over classes (arXiv 1503.02531, Eq. 4). T² keeps gradients alike in size (Section 2).
    Derivatives in both logits are exact to rounding, forward and reverse, to any order; so is the first one in T, which
    is 0 at `T = inf` (`inverse_temperature_derivative` is not).

    Args:
        student_logits: z, `[..., N]`. bfloat16 and float16 are computed in float32.
        teacher_logits: v, `[..., N]`. A class that is -inf in both is left out, uncounted; -inf in one only gives nan.
        temperature: T in (0, inf], in logits: a number, or an array over the leading axes. A traced T <= 0 gives nan.

    Returns:
        `[...]`, never negative; float32, or float64 where one of the logits is.

    Raises:
        BadInput: N = 1; shapes that do not fit; a number that is not a temperature.
    """
    loss: Array = exact.soft_targets(*exact.prepare(student_logits, teacher_logits, temperature))[0]
    return loss


def soft_target_gradient(student_logits: Logits, teacher_logits: AnyShape, temperature: PerExample) -> Logits:
    """The gradient of `soft_target_loss` in the student's logits, in closed form.

    `T (q - p)`, T² times Eq. 2 of arXiv 1503.02531; at `T = inf` its limit `(zc - vc) / N` (Eq. 4). Its derivative in z
    is `diag(q) - q qᵀ`. Arguments and errors as in `soft_target_loss`; returns `[..., N]`.
    """
    return jnp.moveaxis(exact.soft_targets(*exact.prepare(student_logits, teacher_logits, temperature))[1], 0, -1)


def inverse_temperature_derivative(student_logits: Logits, teacher_logits: AnyShape, temperature: PerExample) -> Losses:
    """The derivative of `soft_target_loss` in 1/T: how fast it leaves logit matching. That in T is this times -1/T².

    With `r = T log(p/q)`, `g = T (q - p)`, L the loss and `l_i = T² (p_i r_i/T - p_i + q_i)` its terms, in closed form

        sum_i [T³ (q_i (r_i/T)² e^(r_i/T) - 2 l_i/T²) + (z_i - sum q z) l_i] + L (sum g z - L)/T

    and at `T = inf` `sum_i u_i² (zc_i + 2 vc_i)/(6N)`, `u = vc - zc`. The sum has terms of both signs: it is exact to
    rounding of the largest. Arguments and errors as in `soft_target_loss`; returns `[...]`.
    """
    z, v, t = exact.prepare(student_logits, teacher_logits, temperature)
    slope: Array = exact.in_inverse_temperature(z, v, t, *exact.soft_targets(z, v, t))[0]
    return slope


def logit_matching_loss(student_logits: Logits, teacher_logits: AnyShape) -> Losses:
    """Squared distance of the logits, their means included.

    `||z - v||² / (2N)`, the centred loss plus `(mean z - mean v)² / 2`: it pins the mean logit, which soft targets
    leave free at every T (Kim et al. 2021, arXiv 2105.08919, whose loss has no 1/(2N)).

    `student_logits`, `teacher_logits`: `[..., N]`; returns `[...]`. Raises BadInput for N = 1 or unlike shapes.
    """
    student, teacher = exact.as_float(student_logits, teacher_logits)
    return jnp.mean(jnp.square(student - teacher), axis=-1) / 2


def centred_logit_matching_loss(student_logits: Logits, teacher_logits: AnyShape) -> Losses:
    """Squared distance of the logits, each less its mean over classes: what soft targets become as T grows.

    `||zc - vc||² / (2N)` (arXiv 1503.02531, Eq. 4).

    `student_logits`, `teacher_logits`: `[..., N]`, finite (no class is left out by -inf); returns `[...]`. Raises
    BadInput for N = 1 or unlike shapes.
    """
    student, teacher = exact.as_float(student_logits, teacher_logits)
    difference = student - teacher  # before centring: centring each one first loses the digits in which they differ
    return jnp.mean(jnp.square(difference - jnp.mean(difference, axis=-1, keepdims=True)), axis=-1) / 2


def label_matching_loss(student_logits: Logits, teacher_logits: AnyShape) -> Losses:
    """The student's largest logit less that of the teacher's label: what T KL becomes as T falls to 0.

    `max_j z_j - z_k`, `k = argmax v`; gradient `1[i = argmax z] - 1[i = k]` (Kim et al. 2021, arXiv 2105.08919).
    T² KL itself vanishes. Classes that tie for a maximum share it evenly, as in the limit.

    `student_logits`, `teacher_logits`: `[..., N]`; returns `[...]`. Raises BadInput for N = 1 or unlike shapes.
    """
    student, teacher = exact.as_float(student_logits, teacher_logits)
    largest = jnp.max(teacher, axis=-1, keepdims=True)
    # The compiler may compute the logits twice, rounded differently, and none would equal the largest.
    classes = jax.lax.broadcasted_iota(jnp.int32, teacher.shape, teacher.ndim - 1)
    first = jnp.argmax(teacher, axis=-1, keepdims=True) == classes
    top = (teacher == largest) | first
    return jnp.max(student, axis=-1) - jnp.mean(student, axis=-1, where=top)


def distillation_loss(
    student_logits: Logits,
    teacher_logits: AnyShape,
    labels: Int[Array, "..."],
    temperature: PerExample,
    soft_weight: PerExample,
) -> Losses:
    """Soft targets at temperature T, mixed with the labels' cross-entropy at temperature 1.

    `w T² KL(p || q) - (1 - w) log softmax(z)[label]` (arXiv 1503.02531, Section 2). T² stays at w = 1. Without it, the
    gradient of the soft term shrinks as T grows: a smaller step under SGD, and a smaller weight beside the labels where
    w < 1. At w = 1 under Adam, which divides by the size of the gradient, a factor changes next to nothing.

    Args:
        student_logits, teacher_logits, temperature: as in `soft_target_loss`.
        labels: `[...]`, class indices in 0 ... N-1.
        soft_weight: w in [0, 1]: a number, or an array over the leading axes.

    Returns `[...]`. Raises as `soft_target_loss`; BadInput for labels of another shape, or, unless traced, outside 0 to
    N − 1; for a number outside [0, 1] as the weight.
    """
    z, v, t = exact.prepare(student_logits, teacher_logits, temperature)
    exact.require_labels(labels, student_logits)
    weight = exact.over_examples("soft weight", soft_weight, z, (0.0, 1.0), "from 0 to 1")[0]
    hard: Array = optax.softmax_cross_entropy_with_integer_labels(z, labels, axis=0)
    soft: Array = exact.soft_targets(z, v, t)[0]
    return weight * soft + (1 - weight) * hard
