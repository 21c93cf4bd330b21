"""Distillation losses on logits, one number per example, accurate to rounding at every temperature in (0, inf].

z student logits, v teacher logits, N classes, T temperature; `q = softmax(z/T)`, `p = softmax(v/T)` (Hinton, Vinyals,
Dean 2015, arXiv 1503.02531, Eq. 1). A loss takes logits `[..., N]` to one number per example, `[...]`; callers reduce.

Why not `T**2 * sum(p * (log_softmax(v/T) - log_softmax(z/T)))`? In float32 it has lost four digits at T = 100, all at
1e4. Here logits are subtracted first and divided by T last: nothing is the difference of rounded, near-equal numbers.
"""

import functools
import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from kdjax.errors import require

Logits: TypeAlias = Float[Array, "*batch classes"]
Losses: TypeAlias = Float[Array, "*batch"]
Labels: TypeAlias = Int[Array, "..."]
AnyShape: TypeAlias = Float[Array, "..."]
"""Teacher logits: of the student's shape. Another is refused with a message, not by this annotation."""
PerExample: TypeAlias = float | int | np.generic | Float[Array | np.ndarray, "..."]
"""One number for all examples, or an array over their leading axes: `[K]` goes with logits `[K, ..., N]`."""


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
    loss: Array = _soft_targets(*_prepare(student_logits, teacher_logits, temperature))[0]
    return loss


def soft_target_gradient(student_logits: Logits, teacher_logits: AnyShape, temperature: PerExample) -> Logits:
    """The gradient of `soft_target_loss` in the student's logits, in closed form.

    `T (q - p)`, T² times Eq. 2 of arXiv 1503.02531; at `T = inf` its limit `(zc - vc) / N` (Eq. 4). Its derivative in z
    is `diag(q) - q qᵀ`. Arguments and errors as in `soft_target_loss`; returns `[..., N]`.
    """
    return jnp.moveaxis(_soft_targets(*_prepare(student_logits, teacher_logits, temperature))[1], 0, -1)


def inverse_temperature_derivative(student_logits: Logits, teacher_logits: AnyShape, temperature: PerExample) -> Losses:
    """The derivative of `soft_target_loss` in 1/T: how fast it leaves logit matching. That in T is this times -1/T².

    With `r = T log(p/q)`, `g = T (q - p)`, L the loss and `l_i = T² (p_i r_i/T - p_i + q_i)` its terms, in closed form

        sum_i [T³ (q_i (r_i/T)² e^(r_i/T) - 2 l_i/T²) + (z_i - sum q z) l_i] + L (sum g z - L)/T

    and at `T = inf` `sum_i u_i² (zc_i + 2 vc_i)/(6N)`, `u = vc - zc`. The sum has terms of both signs: it is exact to
    rounding of the largest. Arguments and errors as in `soft_target_loss`; returns `[...]`.
    """
    z, v, spread = _prepare(student_logits, teacher_logits, temperature)
    slope: Array = _in_inverse_temperature(z, v, spread, *_soft_targets(z, v, spread))[0]
    return slope


def logit_matching_loss(student_logits: Logits, teacher_logits: AnyShape) -> Losses:
    """Squared distance of the logits, their means included.

    `||z - v||² / (2N)`, the centred loss plus `(mean z - mean v)² / 2`: it pins the mean logit, which soft targets
    leave free at every T (Kim et al. 2021, arXiv 2105.08919, whose loss has no 1/(2N)).

    `student_logits`, `teacher_logits`: `[..., N]`; returns `[...]`. Raises BadInput for N = 1 or unlike shapes.
    """
    student, teacher = _as_float(student_logits, teacher_logits)
    return jnp.mean(jnp.square(student - teacher), axis=-1) / 2


def centred_logit_matching_loss(student_logits: Logits, teacher_logits: AnyShape) -> Losses:
    """Squared distance of the logits, each less its mean over classes: what soft targets become as T grows.

    `||zc - vc||² / (2N)` (arXiv 1503.02531, Eq. 4).

    `student_logits`, `teacher_logits`: `[..., N]`, finite (no class is left out by -inf); returns `[...]`. Raises
    BadInput for N = 1 or unlike shapes.
    """
    student, teacher = _as_float(student_logits, teacher_logits)
    difference = student - teacher  # before centring: centring each one first loses the digits in which they differ
    return jnp.mean(jnp.square(difference - jnp.mean(difference, axis=-1, keepdims=True)), axis=-1) / 2


def label_matching_loss(student_logits: Logits, teacher_logits: AnyShape) -> Losses:
    """The student's largest logit less that of the teacher's label: what T KL becomes as T falls to 0.

    `max_j z_j - z_k`, `k = argmax v`; gradient `1[i = argmax z] - 1[i = k]` (Kim et al. 2021, arXiv 2105.08919).
    T² KL itself vanishes. Classes that tie for a maximum share it evenly, as in the limit.

    `student_logits`, `teacher_logits`: `[..., N]`; returns `[...]`. Raises BadInput for N = 1 or unlike shapes.
    """
    student, teacher = _as_float(student_logits, teacher_logits)
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

    Returns `[...]`. Raises as `soft_target_loss`; BadInput for labels of another shape, or a number that is no weight.
    """
    z, v, spread = _prepare(student_logits, teacher_logits, temperature)
    shapes = f"labels of shape {labels.shape} do not fit logits of shape {student_logits.shape}"
    require(labels.shape == z.shape[1:], f"{shapes}: give one for each example")
    weight = _over_examples("soft weight", soft_weight, z, (0.0, 1.0), "from 0 to 1")[0]
    hard: Array = optax.softmax_cross_entropy_with_integer_labels(z, labels, axis=0)
    soft: Array = _soft_targets(z, v, spread)[0]
    return weight * soft + (1 - weight) * hard


def _as_float(student: Array, teacher: Array) -> tuple[Array, Array]:
    """Both logits in float32, or float64 where one is; refuses shapes that no loss is defined for."""
    shapes = f"student logits of shape {student.shape} and teacher logits of shape {teacher.shape} differ"
    require(student.shape == teacher.shape, f"{shapes}: give one shape")
    allowed = "the last axis is the classes, at least 2 of them"
    few = f"logits of shape {student.shape} are not allowed: {allowed}"
    require(student.ndim > 0 and student.shape[-1] > 1, few)
    dtype = jnp.result_type(student.dtype, teacher.dtype, jnp.float32)
    return student.astype(dtype), teacher.astype(dtype)


def _prepare(student: Array, teacher: Array, temperature: PerExample) -> tuple[Array, Array, Array]:
    """Checked logits `[N, ...]` and temperature `[1, ...]`. With classes first, a sum over them is one of vectors."""
    z, v = (jnp.moveaxis(logits, -1, 0) for logits in _as_float(student, teacher))
    positive = (float(np.finfo(z.dtype).tiny), math.inf)
    spread = _over_examples("temperature", temperature, z, positive, "above 0, inf for the limit")
    return z, v, jnp.where(spread > 0, spread, jnp.nan)  # a traced temperature cannot be refused


def _over_examples(name: str, value: PerExample, z: Array, limits: tuple[float, float], allowed: str) -> Array:
    """`value` as `[1, ...]` with the rank of z, `[N, ...]`: no rank is promoted implicitly."""
    array, batch = jnp.asarray(value, z.dtype), z.shape[1:]
    shapes = f"a {name} of shape {array.shape} does not fit examples of shape {batch}"
    require(array.shape == batch[: array.ndim], f"{shapes}: give one, or one per leading index")
    if isinstance(value, (int, float, np.generic, np.ndarray)):  # a traced value cannot be read
        within = np.all((np.asarray(value) >= limits[0]) & (np.asarray(value) <= limits[1]))
        require(within, f"a {name} of {value} is not allowed: it is a number {allowed}")
    return jnp.reshape(array, (1, *array.shape) + (1,) * (len(batch) - array.ndim))


# The arithmetic, on logits [N, ...]. T = inf needs no case of its own: x / inf = 0.


_sum = functools.partial(jnp.sum, axis=0, keepdims=True)
_max = functools.partial(jnp.max, axis=0, keepdims=True)


def _difference(a: Array, b: Array) -> tuple[Array, Array]:
    """`a - b` rounded, and what the rounding took: together they are exact (Knuth's two-sum)."""
    rounded = a - b
    minus_b = rounded - a
    return rounded, (a - (rounded - minus_b)) - (b + minus_b)


def _exponential_tail(s: Array, first: int) -> Array:
    """`sum_m (-s)^m / (m + first)!`, in so many terms as are enough for s < 1."""
    series = jnp.zeros_like(s)
    for m in reversed(range(10 if s.dtype == jnp.float32 else 18)):
        series = series * -s + 1 / math.factorial(m + first)
    return series


def _unit(s: Array) -> tuple[Array, Array, Array]:
    """For `s >= 0`: `E = (1 - e^-s)/s`, `H = (s - 1 + e^-s)/s²` and `(E - e^-s)/s`, losing no digits near 0."""
    series = _exponential_tail(s, 2)
    small, large = s < 1, jnp.maximum(s, 1)  # double where: the form not taken never divides by 0
    decay = jnp.exp(-large)
    slope = jnp.where(small, 1 - s * series, (1 - decay) / large)
    above = jnp.where(small, series, (1 - slope) / large)
    return slope, above, jnp.where(small, slope - series, (slope - decay) / large)


def _softmax(logits: Array, live: Array, temperature: Array) -> tuple[Array, Array]:
    """Eq. 1 over the live classes, and its log-sum less the largest logit / T."""
    gap = jnp.where(live, logits - jax.lax.stop_gradient(_max(logits)), 0)
    weights = jnp.where(live, jnp.exp(gap / temperature), 0)
    return weights / _sum(weights), jnp.log(_sum(weights))


@jax.custom_jvp
@jax.jit  # for calls outside jit: to compile its steps one by one is slow
def _soft_targets(z: Array, v: Array, temperature: Array) -> tuple[Array, Array, Array]:
    """The loss `[...]`, its gradient `T (q - p)` and `T log(p/q)` (at T = inf `vc - zc`), both `[N, ...]`."""
    live = (z != -jnp.inf) | (v != -jnp.inf)
    (q, q_log_sum), (p, p_log_sum) = _softmax(z, live, temperature), _softmax(v, live, temperature)

    # With u = v - z, any c and d = (u - c)/T: log(p/q) = d - A, e^A = sum q e^d. c is u at the class where p q is
    # largest: d is exactly 0 there, and small wherever there is weight. The rest counts where u is much alike in all.
    u, u_rest = _difference(v, z)
    # Found by its index: the compiler may compute z + v twice, rounded differently, and none would equal the maximum.
    pivot = jnp.argmax(z + v, axis=0, keepdims=True) == jax.lax.broadcasted_iota(jnp.int32, z.shape, 0)
    c, c_rest = _sum(jnp.where(pivot, u, 0)), _sum(jnp.where(pivot, u_rest, 0))
    u = jnp.where(live, (u - c) + (u_rest - c_rest), 0)
    d = u / temperature

    # A from T (e^A - 1) = T sum q expm1(d) while it is near 0, from the difference of the log-sums while it is far.
    tops, tops_rest = _difference(_max(v), _max(z))
    far = ((tops - c) + (tops_rest - c_rest)) / temperature + (p_log_sum - q_log_sum)
    near = jnp.abs(far) < 0.5
    # |expm1(d)| q from the larger of q and q e^d = p e^A: nothing overflows, and the larger is the more exact.
    larger = jnp.where(d > 0, p * jnp.exp(jnp.where(near, far, 0)), q)
    scaled = _sum(larger * u * _unit(jnp.abs(d))[0])
    x = jnp.where(near, scaled / temperature, 0)
    log1p_over_x = jnp.where(x != 0, jnp.log1p(x) / jnp.where(x != 0, x, 1), 1)
    finite = jnp.where(near, 1, temperature)  # double where: no inf * 0 in the form not taken
    ratio = jnp.where(live, u - jnp.where(near, scaled * log1p_over_x, finite * far), 0)

    # KL = sum q (r e^r - expm1(r)), r = log(p/q): no term is negative, as sum q expm1(r) = 0. Again from the larger.
    larger = jnp.where(ratio > 0, p, q)
    slope, above, below = _unit(jnp.abs(ratio / temperature))
    loss = jnp.sum(larger * jnp.square(ratio) * jnp.where(ratio > 0, above, below), axis=0)
    return loss, -larger * ratio * slope, ratio


def _soft_targets_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]) -> tuple[Any, Any]:
    """The derivatives by formula: those of the steps above would be less exact and more expensive."""
    z, v, temperature = primals
    loss, gradient, ratio = _soft_targets(z, v, temperature)
    live = (z != -jnp.inf) | (v != -jnp.inf)

    q, p = _softmax(z, live, temperature)[0], _softmax(v, live, temperature)[0]
    dz, dv = (jnp.zeros_like(z) if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents[:2])
    dlog_q, dlog_p = dz - _sum(q * dz), dv - _sum(p * dv)  # times T
    in_teacher = p * (ratio - _sum(p * ratio))  # d(T² KL)/dv = T p (r - KL)
    dloss = jnp.sum(gradient * dz + in_teacher * dv, axis=0)
    along = dloss, q * dlog_q - p * dlog_p, dlog_p - dlog_q
    if not isinstance(tangents[2], SymbolicZero):
        slopes = _in_inverse_temperature(z, v, temperature, loss, gradient, ratio)
        dinverse = -tangents[2] / jnp.square(temperature)
        steps = dinverse[0], dinverse, dinverse
        along = tuple(a + slope * step for a, slope, step in zip(along, slopes, steps, strict=True))
    return (loss, gradient, ratio), along


def _in_inverse_temperature(
    z: Array, v: Array, temperature: Array, loss: Array, gradient: Array, ratio: Array
) -> tuple[Array, Array, Array]:
    """The derivatives of the three of `_soft_targets` in 1/T."""
    live = (z != -jnp.inf) | (v != -jnp.inf)
    q, p = _softmax(z, live, temperature)[0], _softmax(v, live, temperature)[0]
    centred = jnp.where(live, z - _max(z), 0)
    centred = jnp.where(live, centred - _sum(q * centred), 0)
    s = jnp.abs(ratio / temperature)
    _, above, below = _unit(s)
    larger, over = jnp.where(ratio > 0, p, q), ratio > 0
    terms = larger * jnp.square(ratio) * jnp.where(over, above, below)
    # J = (1 - 2H)/s and K = (2B - e^-s)/s, H and B being `above` and `below`: 1/3 at 0.
    series = 2 * _exponential_tail(s, 3)
    small, large = s < 1, jnp.maximum(s, 1)
    j = jnp.where(small, series, (1 - 2 * above) / large)
    k = jnp.where(small, series * (1 + s + s * s / 2) - s / 2, (2 * below - jnp.exp(-large)) / large)
    cubes = larger * ratio**3 * jnp.where(over, j, k)
    rest = _sum(gradient * centred) - loss[None]  # T² (sum q z - sum p z - T KL)/T
    slope = jnp.sum(cubes + centred * terms, axis=0) + (loss[None] * rest / temperature)[0]
    return slope, gradient * centred - terms - p * rest, jnp.where(live, rest, 0)


_soft_targets.defjvp(_soft_targets_jvp, symbolic_zeros=True)
