"""Student and teacher at one temperature as every f-divergence sees them, and the loss made of its terms and slopes.

With `x = p/q` and `f(1) = f′(1) = 0`, `D_f = Σ q f(x)` is a sum of positive terms, and the gradient of `T² D_f` in the
student's logits is `T q_i (a_i − Σ q a)`, `a = f − x f′`. Two things keep all digits: each term of the value is taken
from the larger of p and q, as in `kdjax.losses`; and a is measured from the student's likeliest class τ, `a_i − a_τ`
being written in `x_i − x_τ`, so that nothing cancels where q is peaked.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from kdjax import exact
from kdjax.losses import Logits, Losses, PerExample


class Pair(NamedTuple):
    """Student and teacher at one temperature, `[N, ...]`."""

    q: Array
    p: Array
    ratio: Array
    """`T log x`; at T = inf `vc − zc`."""
    gap: Array
    """`T log(x/x_τ)`, τ being the student's likeliest class."""
    top: Array
    """Where τ is."""
    temperature: Array

    @property
    def log_top(self) -> Array:
        """`log x_τ`, at most log N."""
        return exact.total(jnp.where(self.top, self.ratio, 0)) / self.temperature

    @property
    def lift(self) -> Array:
        """`T q (x − x_τ)`, from the larger of its two terms."""
        larger = jnp.where(self.gap > 0, self.p, self.q * jnp.exp(self.log_top))
        return larger * self.gap * exact.quotients(jnp.abs(self.gap / self.temperature))[0]


def make_pair(z: Array, v: Array, temperature: Array) -> Pair:
    """Of logits `[N, ...]`, as `exact.prepare` gives them."""
    live = exact.are_live(z, v)
    q, p = (exact.softmax(logits, live, temperature)[0] for logits in (z, v))
    u, rest = exact.difference(v, z)
    top = exact.at_largest(z)
    at_top, rest_at_top = (exact.total(jnp.where(top, one, 0)) for one in (u, rest))
    gap = jnp.where(live & ~top, (u - at_top) + (rest - rest_at_top), 0)
    return Pair(q, p, exact.soft_targets(z, v, temperature)[2], gap, top, temperature)


Terms = Callable[..., Array]
"""(pair, hyper-parameters) → a number of each class, `[N, ...]`."""


def divergence(terms: Terms, slopes: Terms) -> Callable[..., Losses]:
    """The loss whose value is the sum of `terms`, and whose gradient is `m − q Σ m`, m being `slopes`, `T q (a − a_τ)`.

    It takes logits `[..., N]`, a temperature and hyper-parameters, and is differentiable in the student's logits.
    """

    @jax.custom_jvp
    @jax.jit
    def value(z: Array, v: Array, temperature: Array, *parameters: Array) -> Array:
        return jnp.sum(terms(make_pair(z, v, temperature), *parameters), axis=0)

    def jvp(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
        constants(tangents[1:])
        pair = make_pair(*primals[:3])
        slope = slopes(pair, *primals[3:])
        return value(*primals), jnp.sum((slope - pair.q * exact.total(slope)) * given(tangents[0], primals[0]), axis=0)

    value.defjvp(jvp, symbolic_zeros=True)

    def loss(student: Logits, teacher: Logits, temperature: PerExample, *parameters: PerExample) -> Losses:
        z, v, t = exact.prepare(student, teacher, temperature)
        result: Array = value(z, v, t, *(jnp.asarray(one, z.dtype) for one in parameters))
        return result

    return loss


def constants(tangents: tuple[Any, ...]) -> None:
    """Raises TypeError: a tangent is not zero."""
    if not all(isinstance(tangent, SymbolicZero) for tangent in tangents):
        raise TypeError("objectives have a derivative in the student's logits alone: use jax.lax.stop_gradient")


def given(tangent: Any, primal: Array) -> Array:
    """A tangent as an array."""
    return jnp.zeros_like(primal) if isinstance(tangent, SymbolicZero) else tangent


def integral(denominator: Callable[[float], Array], like: Array) -> Array:
    """`∫ (1 − t)/d(t) dt` over [0, 1]: a sum of positive terms where `(f(x) − f(1))/(x − 1)²` is a difference."""
    # Gauss–Legendre: so many nodes are enough as long as the nearest zero of d lies beyond 1.5.
    nodes, weights = np.polynomial.legendre.leggauss(8 if like.dtype == jnp.float32 else 18)
    nodes, weights = (1 + nodes) / 2, weights * (1 - nodes) / 4
    fractions: list[tuple[Any, Any]] = [
        (w, denominator(t)) for t, w in zip(nodes.tolist(), weights.tolist(), strict=True)
    ]
    while len(fractions) > 1:  # over one denominator: divisions are what is slow
        one, other = fractions.pop(0), fractions.pop(0)
        fractions.append((one[0] * other[1] + other[0] * one[1], one[1] * other[1]))
    above, below = fractions[0]
    return jnp.asarray(above / below, like.dtype)
