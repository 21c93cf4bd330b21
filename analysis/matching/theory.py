"""The theory of high temperatures on arrays of logits, in float64: gradients of the plain cross-entropy, and how far
each limit is from them.

z student logits, v teacher logits, both `[cases, N]`; zc, vc less their mean over classes; s their standard deviation.
The yardstick is automatic differentiation of `C = −Σ p log q` (Hinton, Vinyals, Dean 2015, arXiv 1503.02531, Section
2.1) as it stands there, without T² and without `kdjax.losses`. An error is always relative: the root mean square over
cases and classes of the difference, over that of the formula.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

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
FIT = np.geomspace(20, 1e4, 28)
"""T/s over which slopes are fitted: below, higher orders count; above, rounding bends the second order."""
LOW_FIT = np.geomspace(1e-3, 0.03, 10)
"""The same for T → 0."""
APPROXIMATIONS = (
    "centred, first order",
    "centred, second order",
    "not centred, first order",
    "not centred, second order",
)


class Law(NamedTuple):
    """How one error falls: `constant · (T/s)^slope`, measured and predicted."""

    slope: float
    predicted_slope: float
    constant: float
    """At the largest T/s of the fit, where higher orders are gone."""
    predicted_constant: float
    """From the next term of the expansion, for these very logits."""


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


def laws(z: Logits, v: Logits) -> list[Law]:
    """Slopes and constants of the two centred approximations over `FIT`.

    Predicted from the first term left out, at T = s: with `k(x) = x³/6 − x·mean(x²)/2 − mean(x³)/6` the expansion of
    `∂C/∂z` goes on with `[k(zc) − k(vc)]/(N T⁴)`. With two classes the second-order term is 0, and the first order is
    as good as the second.
    """
    s, zc, vc = spread(z, v), centred(z), centred(v)  # numpy's: the helpers below serve both
    errors, _ = errors_and_cosines(z, v, FIT * s)
    size = float(rms(zc - vc))
    second = float(rms(centred(zc**2) - centred(vc**2))) / (2 * size * s)
    third = float(rms(_third(zc) - _third(vc))) / (size * s**2)
    two = z.shape[1] == 2
    predicted = [(-2.0, third) if two else (-1.0, second), (-2.0, third)]
    return [
        Law(slope(FIT, errors[name]), power, float(errors[name][-1] * FIT[-1] ** -power), constant)
        for name, (power, constant) in zip(APPROXIMATIONS[:2], predicted, strict=True)
    ]


def cosine_slope(z: Logits, v: Logits) -> float:
    """Slope of 1 − cosine of the first order, centred, over T/s up to 1,000 (further out it is rounding): −2, the
    square of the error's, for three classes or more."""
    ratios = FIT[FIT <= 1e3]
    _, cosines = errors_and_cosines(z, v, ratios * spread(z, v))
    return slope(ratios, 1 - cosines[APPROXIMATIONS[0]])


def random_constant(classes: int, close: bool) -> float:
    """The first order's constant for N(0, s²) logits, independent or with the student close to its teacher.

    `√((N−2)/(2N))` and `√((N−2)/N)`; for two classes, where it belongs to `(s/T)²`, `√15/6` and `√3/2`.
    """
    if classes == 2:
        return math.sqrt(3) / 2 if close else math.sqrt(15) / 6
    return math.sqrt((classes - 2) / classes / (1 if close else 2))


def plateau(z: Logits, v: Logits) -> float:
    """Where the error levels off without centring: `√N·|z̄ − v̄| / ‖z − v‖` (RMS over cases); `1/√N` if random."""
    return float(rms((z - v).mean(axis=1)) / rms(z - v))


def slope(x: Temperatures, y: Temperatures) -> float:
    """Of the straight line through log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def falls_below(level: float, temperatures: Temperatures, errors: Temperatures) -> float:
    """The T above which the error stays below `level`, interpolated on logarithms; nan where it never does."""
    above = np.flatnonzero(errors >= level)
    if not len(above) or above[-1] + 1 == len(errors):
        return math.nan if len(above) else float(temperatures[0])
    i = above[-1]
    x, y = np.log(temperatures[i : i + 2]), np.log(errors[i : i + 2])
    return float(np.exp(x[0] + (math.log(level) - y[0]) * (x[1] - x[0]) / (y[1] - y[0])))


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


def _third(x: Any) -> Any:
    return centred(x**3) / 6 - x * (x**2).mean(axis=-1, keepdims=True) / 2
