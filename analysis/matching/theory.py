"""The theory of high temperatures on arrays of logits, in float64: gradients of the plain cross-entropy, and how far
each limit is from them.

z student logits, v teacher logits, both `[cases, N]`; zc, vc less their mean over classes; s their standard deviation.
The yardstick is automatic differentiation of `C = −Σ p log q` (Hinton, Vinyals, Dean 2015, arXiv 1503.02531, Section
2.1) as it stands there, without T² and without `kdjax.losses`. An error is always relative: the root mean square over
cases and classes of the difference, over that of the formula.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax import losses

Logits: TypeAlias = Float[np.ndarray, "cases classes"]
Temperatures: TypeAlias = Float[np.ndarray, "temperatures"]
Curves: TypeAlias = dict[str, Float[np.ndarray, "temperatures"]]

PAPER = 20.0
"""The paper's temperature on MNIST."""
TEMPERATURES = np.geomspace(0.1, 1e5, 61)
"""Ten a decade."""
LOW_TEMPERATURES = np.geomspace(1e-3, 10, 25)
APPROXIMATIONS = (
    "centred, first order",
    "centred, second order",
    "not centred, first order",
    "not centred, second order",
)


def random_logits(
    classes: int, scale: float, cases: int, seed: int = 0, distance: float | None = None
) -> tuple[Logits, Logits]:
    """Student and teacher logits N(0, scale²): independent, or the student `distance · scale` from its teacher."""
    random = np.random.default_rng([seed, classes])
    teacher, noise = scale * random.standard_normal((2, cases, classes))
    return (noise if distance is None else teacher + distance * noise), teacher


def spread(z: Logits, v: Logits) -> float:
    """s: the standard deviation of the logits about each case's mean, of both networks together."""
    return float(np.sqrt(np.mean([np.var(z, axis=1, ddof=1), np.var(v, axis=1, ddof=1)])))


def plain_gradient(z: Array, v: Array, temperature: Array | float) -> Array:
    """∂C/∂z by automatic differentiation of `C = −Σ softmax(v/T) log softmax(z/T)`, summed over cases. `[cases, N]`."""

    def cross_entropy(z: Array) -> Array:
        log_q = jax.nn.log_softmax(z / temperature, axis=-1)
        return -jnp.sum(jax.nn.softmax(v / temperature, axis=-1) * log_q)

    return jax.grad(cross_entropy)(z)


def approximations(z: Array, v: Array, temperature: Array | float) -> dict[str, Array]:
    """T² ∂C/∂z as T grows, to first and second order, with logits centred as Eq. 4 assumes, and as they come.

    `(zc − vc)/N`, and the next term `[(zc² − mean zc²) − (vc² − mean vc²)]/(2 N T)`.
    """
    n, zc, vc = z.shape[-1], centred(z), centred(v)
    second = (centred(zc**2) - centred(vc**2)) / (2 * n * temperature)
    first, plain = (zc - vc) / n, (z - v) / n
    return dict(zip(APPROXIMATIONS, (first, first + second, plain, plain + second), strict=True))


def against_temperature(at: Callable[..., dict[str, Array]]) -> Callable[..., Curves]:
    """From numbers at one temperature, a function of (T, z, v, …), their curves, a function of (z, v, temperatures, …):
    each T in turn, in float64. Arrays that follow are given on as they are.

    Compiled once for the same logits' shape.
    """
    compiled = jax.jit(at)

    def curves(z: Logits, v: Logits, temperatures: Temperatures, *others: np.ndarray) -> Curves:
        with jax.enable_x64(True):
            student, teacher = (jnp.asarray(np.asarray(array, np.float64)) for array in (z, v))
            numbers = [compiled(jnp.float64(temperature), student, teacher, *others) for temperature in temperatures]
            return {name: np.array([float(of_t[name]) for of_t in numbers]) for name in numbers[0]}

    curves.__doc__ = at.__doc__
    return curves


@against_temperature
def _errors_and_cosines(temperature: Array, z: Array, v: Array) -> dict[str, Array]:
    gradient = temperature**2 * plain_gradient(z, v, temperature)
    values = {}
    for name, formula in approximations(z, v, temperature).items():
        values[f"error {name}"] = rms(gradient - formula) / rms(formula)
        values[f"cosine {name}"] = jnp.mean(gradient * formula) / (rms(gradient) * rms(formula))
    return values


def errors_and_cosines(z: Logits, v: Logits, temperatures: Temperatures) -> tuple[Curves, Curves]:
    """Relative error of each approximation of the gradient, and its cosine with it over all cases, against T."""
    curves = _errors_and_cosines(z, v, temperatures)
    errors, cosines = ({name: curves[f"{kind} {name}"] for name in APPROXIMATIONS} for kind in ("error", "cosine"))
    return errors, cosines


@against_temperature
def norms(temperature: Array, z: Array, v: Array) -> dict[str, Array]:
    """Norm of the gradient of one case (RMS over cases), of plain C and of T² C, against T."""
    raw = rms(plain_gradient(z, v, temperature)) * math.sqrt(z.shape[1])
    return {"C": raw, "T² C": temperature**2 * raw}


@against_temperature
def _attention(temperature: Array, z: Array, v: Array) -> dict[str, Array]:
    # T g, not g: a norm's ratio does not care, and g² would fall to 1e-20.
    squares = jnp.square(temperature * plain_gradient(z, v, temperature))
    lengths = jnp.sqrt(jnp.sum(squares, axis=1))
    weights = 1 + (2 * centred(v) + centred(z)) / (3 * temperature)
    share, weight = jnp.sum(squares, axis=0) / jnp.sum(squares), jnp.mean(weights, axis=0)
    ranks = range(z.shape[1])
    return {
        "effective number": jnp.square(jnp.sum(lengths)) / jnp.sum(lengths**2) / len(z),
        **{f"share rank {rank + 1}": share[rank] for rank in ranks},
        **{f"weight rank {rank + 1}": weight[rank] for rank in ranks},
    }


def attention(z: Logits, v: Logits, temperatures: Temperatures) -> Curves:
    """Who gets the gradient, against T.

    `share rank r`: the part of `Σ g²` in the class with the teacher's r-th largest logit; `effective number`:
    `(Σ‖g‖)²/Σ‖g‖²` over the number of cases, 1 where all count alike; `weight rank r`: mean over cases of the weight
    `1 + (2 vc + zc)/(3T)` of that class's squared difference in T²·KL.
    """
    order = np.argsort(-v, axis=1, kind="stable")
    z, v = np.take_along_axis(z, order, 1), np.take_along_axis(v, order, 1)
    return _attention(z, v, temperatures)


@against_temperature
def value_errors(temperature: Array, z: Array, v: Array) -> dict[str, Array]:
    """Relative error of `(1/2N) Σ (zc − vc)²`, and of the same with each term weighted, against T²·KL by case."""
    zc, vc = centred(z), centred(v)
    value = losses.soft_target_loss(z, v, temperature)  # the plain form has no digits left where this is small
    squares = jnp.square(zc - vc) / 2
    weighted = squares * (1 + (2 * vc + zc) / (3 * temperature))
    forms = {"equal weights": jnp.mean(squares, axis=-1), "weighted": jnp.mean(weighted, axis=-1)}
    return {name: rms(value - form) / rms(form) for name, form in forms.items()}


@against_temperature
def label_errors(temperature: Array, z: Array, v: Array) -> dict[str, Array]:
    """Relative error of label matching, `1[i = argmax z] − 1[i = argmax v]`, against `T ∂C/∂z`; and of its value,
    `max z − z_k`, k the teacher's label, against T·KL. Both fall as √T: a gap below T is as likely as T is small."""
    labels = (jax.nn.one_hot(jnp.argmax(x, axis=-1), x.shape[-1], dtype=x.dtype) for x in (z, v))
    formula, value = next(labels) - next(labels), losses.label_matching_loss(z, v)
    gradient = temperature * plain_gradient(z, v, temperature)
    kl = losses.soft_target_loss(z, v, temperature) / temperature
    return {"gradient": rms(gradient - formula) / rms(formula), "value": rms(kl - value) / rms(value)}


@against_temperature
def _rounding(temperature: Array, z: Array, v: Array) -> dict[str, Array]:
    gradient = temperature**2 * plain_gradient(z, v, temperature)
    value = losses.soft_target_loss(z, v, temperature)
    t, z, v = (array.astype(jnp.float32) for array in (temperature, z, v))
    log_p, log_q = jax.nn.log_softmax(v / t, axis=-1), jax.nn.log_softmax(z / t, axis=-1)
    forms = {
        "gradient, plain form": t**2 * plain_gradient(z, v, t),
        "gradient, exact form": losses.soft_target_gradient(z, v, t),
        "value, plain form": t**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1),
        "value, exact form": losses.soft_target_loss(z, v, t),
    }
    exact = {"gradient": gradient, "value": value}
    return {name: rms(array - (true := exact[name.split(",")[0]])) / rms(true) for name, array in forms.items()}


def rounding(z: Logits, v: Logits, temperatures: Temperatures) -> Curves:
    """Relative errors of float32 against float64, of T²·KL and its gradient, written plainly and as in `kdjax.losses`.

    Logits are rounded to float32 first: what is left is arithmetic. The float64 value is that of `kdjax.losses`, which
    its tests hold against 60 digits; the float64 gradient is the plain one.
    """
    z, v = (np.asarray(logits, np.float32).astype(np.float64) for logits in (z, v))
    return _rounding(z, v, temperatures)


def centred(x: Any) -> Any:
    """`[..., N]` less its mean over classes; of NumPy or JAX."""
    return x - x.mean(axis=-1, keepdims=True)


def rms(x: Any) -> Any:
    """Root mean square of all entries."""
    return (x**2).mean() ** 0.5
