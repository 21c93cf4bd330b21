"""Arithmetic on logits that stays exact at every temperature in (0, inf]: what losses and objectives are made of.

Logits are `[N, ...]`, classes first (`prepare` makes them so); T = inf needs no case of its own, as x / inf = 0. z
student logits, v teacher logits, T temperature; `q = softmax(z/T)`, `p = softmax(v/T)`.
"""

import functools
import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from kdjax.errors import require

PerExample: TypeAlias = float | int | np.generic | Float[Array | np.ndarray, "..."]
"""One number for all examples, or an array over their leading axes: `[K]` goes with logits `[K, ..., N]`."""
total = functools.partial(jnp.sum, axis=0, keepdims=True)
"""Over the classes, which stay as an axis of 1."""
largest = functools.partial(jnp.max, axis=0, keepdims=True)
"""Over the classes, which stay as an axis of 1."""


def as_float(student: Array, teacher: Array) -> tuple[Array, Array]:
    """Both logits in float32, or float64 where one is; refuses shapes that no loss is defined for."""
    shapes = f"student logits of shape {student.shape} and teacher logits of shape {teacher.shape} differ"
    require(student.shape == teacher.shape, f"{shapes}: give one shape")
    allowed = "the last axis is the classes, at least 2 of them"
    few = f"logits of shape {student.shape} are not allowed: {allowed}"
    require(student.ndim > 0 and student.shape[-1] > 1, few)
    dtype = jnp.result_type(student.dtype, teacher.dtype, jnp.float32)
    return student.astype(dtype), teacher.astype(dtype)


def prepare(student: Array, teacher: Array, temperature: PerExample) -> tuple[Array, Array, Array]:
    """Checked logits `[N, ...]` and temperature `[1, ...]`. With classes first, a sum over them is one of vectors."""
    z, v = (jnp.moveaxis(logits, -1, 0) for logits in as_float(student, teacher))
    positive = (float(np.finfo(z.dtype).tiny), math.inf)
    t = over_examples("temperature", temperature, z, positive, "above 0, inf for the limit")
    return z, v, jnp.where(t > 0, t, jnp.nan)  # a traced temperature cannot be refused


def is_known(value: object) -> bool:
    """Whether a value can be read and refused now: it is not traced."""
    return not isinstance(value, jax.core.Tracer)


def require_labels(labels: Array, student_logits: Array) -> None:
    """Raises BadInput: not one label for each example; labels, unless traced, outside 0 to N − 1."""
    shapes = f"labels of shape {labels.shape} do not fit logits of shape {student_logits.shape}"
    require(labels.shape == student_logits.shape[:-1], f"{shapes}: give one for each example")
    if is_known(labels) and labels.size:
        given, classes = np.asarray(labels), student_logits.shape[-1]
        outside = f"labels from {given.min()} to {given.max()} are not allowed with {classes} classes"
        require(given.min() >= 0 and given.max() < classes, f"{outside}: give 0 to {classes - 1}")


def over_examples(name: str, value: PerExample, z: Array, limits: tuple[float, float], allowed: str) -> Array:
    """`value` as `[1, ...]` with the rank of z, `[N, ...]`: no rank is promoted implicitly."""
    array, batch = jnp.asarray(value, z.dtype), z.shape[1:]
    shapes = f"a {name} of shape {array.shape} does not fit examples of shape {batch}"
    require(array.shape == batch[: array.ndim], f"{shapes}: give one, or one per leading index")
    if is_known(value):
        within = np.all((np.asarray(value) >= limits[0]) & (np.asarray(value) <= limits[1]))
        require(within, f"a {name} of {value} is not allowed: it is a number {allowed}")
    return jnp.reshape(array, (1, *array.shape) + (1,) * (len(batch) - array.ndim))


def difference(a: Array, b: Array) -> tuple[Array, Array]:
    """`a - b` rounded, and what the rounding took: together they are exact (Knuth's two-sum)."""
    rounded = a - b
    minus_b = rounded - a
    return rounded, (a - (rounded - minus_b)) - (b + minus_b)


def exponential_tail(s: Array, first: int) -> Array:
    """`sum_m (-s)^m / (m + first)!`, in so many terms as are enough for s < 1."""
    series = jnp.zeros_like(s)
    for m in reversed(range(10 if s.dtype == jnp.float32 else 18)):
        series = series * -s + 1 / math.factorial(m + first)
    return series


def quotients(s: Array) -> tuple[Array, Array, Array]:
    """For `s >= 0`: `E = (1 - e^-s)/s`, `H = (s - 1 + e^-s)/s²` and `(E - e^-s)/s`, losing no digits near 0."""
    series = exponential_tail(s, 2)
    small, large = s < 1, jnp.maximum(s, 1)  # double where: the form not taken never divides by 0
    decay = jnp.exp(-large)
    slope = jnp.where(small, 1 - s * series, (1 - decay) / large)
    above = jnp.where(small, series, (1 - slope) / large)
    return slope, above, jnp.where(small, slope - series, (slope - decay) / large)


def are_live(z: Array, v: Array) -> Array:
    """Which classes count: not those that are -inf in both."""
    return (z != -jnp.inf) | (v != -jnp.inf)


def at_largest(logits: Array) -> Array:
    """Where the largest is, the first of equal ones. By its index: the compiler may compute the logits twice, rounded
    differently, and none would equal the maximum."""
    return jnp.argmax(logits, axis=0, keepdims=True) == jax.lax.broadcasted_iota(jnp.int32, logits.shape, 0)


def log1p_over(x: Array) -> Array:
    """`log(1 + x)/x`."""
    return jnp.where(x != 0, jnp.log1p(x) / jnp.where(x != 0, x, 1), 1)  # double where: 0 is never divided by


def softmax(logits: Array, live: Array, temperature: Array) -> tuple[Array, Array]:
    """Eq. 1 over the live classes, and its log-sum less the largest logit / T."""
    gap = jnp.where(live, logits - jax.lax.stop_gradient(largest(logits)), 0)
    weights = jnp.where(live, jnp.exp(gap / temperature), 0)
    return weights / total(weights), jnp.log(total(weights))


@jax.custom_jvp
@jax.jit  # for calls outside jit: to compile its steps one by one is slow
def soft_targets(z: Array, v: Array, temperature: Array) -> tuple[Array, Array, Array]:
    """The loss `[...]`, its gradient `T (q - p)` and `T log(p/q)` (at T = inf `vc - zc`), both `[N, ...]`."""
    live = are_live(z, v)
    (q, q_log_sum), (p, p_log_sum) = softmax(z, live, temperature), softmax(v, live, temperature)

    # With u = v - z, any c and d = (u - c)/T: log(p/q) = d - A, e^A = sum q e^d. c is u at the class where p q is
    # largest: d is exactly 0 there, and small wherever there is weight. The rest counts where u is much alike in all.
    u, u_rest = difference(v, z)
    pivot = at_largest(z + v)
    c, c_rest = total(jnp.where(pivot, u, 0)), total(jnp.where(pivot, u_rest, 0))
    u = jnp.where(live, (u - c) + (u_rest - c_rest), 0)
    d = u / temperature

    # A from T (e^A - 1) = T sum q expm1(d) while it is near 0, from the difference of the log-sums while it is far.
    tops, tops_rest = difference(largest(v), largest(z))
    far = ((tops - c) + (tops_rest - c_rest)) / temperature + (p_log_sum - q_log_sum)
    near = jnp.abs(far) < 0.5
    # |expm1(d)| q from the larger of q and q e^d = p e^A: nothing overflows, and the larger is the more exact.
    larger = jnp.where(d > 0, p * jnp.exp(jnp.where(near, far, 0)), q)
    scaled = total(larger * u * quotients(jnp.abs(d))[0])
    x = jnp.where(near, scaled / temperature, 0)
    finite = jnp.where(near, 1, temperature)  # double where: no inf * 0 in the form not taken
    ratio = jnp.where(live, u - jnp.where(near, scaled * log1p_over(x), finite * far), 0)

    # KL = sum q (r e^r - expm1(r)), r = log(p/q): no term is negative, as sum q expm1(r) = 0. Again from the larger.
    larger = jnp.where(ratio > 0, p, q)
    slope, above, below = quotients(jnp.abs(ratio / temperature))
    loss = jnp.sum(larger * jnp.square(ratio) * jnp.where(ratio > 0, above, below), axis=0)
    return loss, -larger * ratio * slope, ratio


def _soft_targets_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Any]) -> tuple[Any, Any]:
    """The derivatives by formula: those of the steps above would be less exact and more expensive."""
    z, v, temperature = primals
    loss, gradient, ratio = soft_targets(z, v, temperature)
    live = are_live(z, v)

    q, p = softmax(z, live, temperature)[0], softmax(v, live, temperature)[0]
    dz, dv = (jnp.zeros_like(z) if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents[:2])
    dlog_q, dlog_p = dz - total(q * dz), dv - total(p * dv)  # times T
    in_teacher = p * (ratio - total(p * ratio))  # d(T² KL)/dv = T p (r - KL)
    dloss = jnp.sum(gradient * dz + in_teacher * dv, axis=0)
    along = dloss, q * dlog_q - p * dlog_p, dlog_p - dlog_q
    if not isinstance(tangents[2], SymbolicZero):
        slopes = in_inverse_temperature(z, v, temperature, loss, gradient, ratio)
        dinverse = -tangents[2] / jnp.square(temperature)
        steps = dinverse[0], dinverse, dinverse
        along = tuple(a + slope * step for a, slope, step in zip(along, slopes, steps, strict=True))
    return (loss, gradient, ratio), along


def in_inverse_temperature(
    z: Array, v: Array, temperature: Array, loss: Array, gradient: Array, ratio: Array
) -> tuple[Array, Array, Array]:
    """The derivatives of the three of `soft_targets` in 1/T."""
    live = are_live(z, v)
    q, p = softmax(z, live, temperature)[0], softmax(v, live, temperature)[0]
    centred = jnp.where(live, z - largest(z), 0)
    centred = jnp.where(live, centred - total(q * centred), 0)
    s = jnp.abs(ratio / temperature)
    _, above, below = quotients(s)
    larger, over = jnp.where(ratio > 0, p, q), ratio > 0
    terms = larger * jnp.square(ratio) * jnp.where(over, above, below)
    # J = (1 - 2H)/s and K = (2B - e^-s)/s, H and B being `above` and `below`: 1/3 at 0.
    series = 2 * exponential_tail(s, 3)
    small, large = s < 1, jnp.maximum(s, 1)
    j = jnp.where(small, series, (1 - 2 * above) / large)
    k = jnp.where(small, series * (1 + s + s * s / 2) - s / 2, (2 * below - jnp.exp(-large)) / large)
    cubes = larger * ratio**3 * jnp.where(over, j, k)
    rest = total(gradient * centred) - loss[None]  # T² (sum q z - sum p z - T KL)/T
    slope = jnp.sum(cubes + centred * terms, axis=0) + (loss[None] * rest / temperature)[0]
    return slope, gradient * centred - terms - p * rest, jnp.where(live, rest, 0)


soft_targets.defjvp(_soft_targets_jvp, symbolic_zeros=True)
