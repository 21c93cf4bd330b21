"""The soft-target loss in float32 against 60-digit arithmetic, compiled as in training.

A fixed set of cases by default; fresh ones, and more of them, with KDJAX_FRESH_CASES=1 in the environment.
"""

import functools
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from kdjax.losses import soft_target_gradient, soft_target_loss

pytestmark = pytest.mark.optimized

FRESH = os.environ.get("KDJAX_FRESH_CASES") == "1"
SEED = int(np.random.SeedSequence().generate_state(1)[0]) if FRESH else 0
CASES = {2: 90, 10: 30, 1000: 3}
BAR = 4e-6

Case = tuple[np.ndarray, np.ndarray, np.ndarray]
Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def cases(classes: int, scale: float, apart: float | None) -> Case:
    """Logits of student and teacher `[cases, classes]`, independent or `apart` from each other, and temperatures."""
    rng = np.random.default_rng([SEED, classes, round(scale * 10), round((apart or 0) * 1000)])
    n = CASES[classes] * (5 if FRESH else 1)
    z = scale * rng.normal(size=(n, classes))
    v = scale * rng.normal(size=(n, classes)) if apart is None else z + apart * scale * rng.normal(size=(n, classes))
    ranges = ([0, 2.5], [-1, 0], [0, 8])  # powers of ten; beyond 1e3 many cases lie below the floor
    temperature = [10 ** rng.uniform(*ranges[i % len(ranges)]) for i in range(n)]
    return tuple(np.asarray(array, np.float32) for array in (z, v, temperature))


def exact(z: np.ndarray, v: np.ndarray, temperature: float) -> tuple[mpmath.mpf, list[mpmath.mpf]]:
    """KL and T times its gradient, from the textbook formulas, in 60 digits."""
    with mpmath.workdps(60):
        t = mpmath.mpf(float(temperature))
        z, v = ([(mpmath.mpf(float(value)) - float(max(row))) / t for value in row] for row in (z, v))
        weights = [[mpmath.exp(value) for value in row] for row in (z, v)]
        q, p = (
            [weight / total for weight in row] for row, total in zip(weights, map(mpmath.fsum, weights), strict=True)
        )
        log_sums = mpmath.log(mpmath.fsum(weights[0])) - mpmath.log(mpmath.fsum(weights[1]))
        divergence = mpmath.fsum(a * (b - c + log_sums) for a, b, c in zip(p, v, z, strict=True))
        return divergence, [a - b for a, b in zip(q, p, strict=True)]


@functools.cache
def derivative(loss: Loss) -> Loss:
    return jax.grad(lambda *arguments: loss(*arguments).sum())


def worst_error(loss: Loss, case: Case, *gradients: Loss) -> float:
    """The largest relative error of value, derivative and `gradients` (max norm), over what is allowed there."""
    results = [np.asarray(jax.jit(f)(*case), float) for f in (loss, derivative(loss), *gradients)]
    assert all(np.isfinite(result).all() for result in results), f"seed {SEED}"
    worst, compared = 0.0, 0
    for value, *slopes, z, v, temperature in zip(*results, *case, strict=True):
        divergence, exact_slope = exact(z, v, temperature)
        if divergence * max(1.0, float(temperature)) ** 2 <= 1e-12:  # it falls as 1/T²
            continue
        compared += 1
        t = mpmath.mpf(float(temperature))
        allowed = BAR * (1 if temperature >= 1 else max(1.0, abs(float(mpmath.log(divergence))) / 16))
        errors = [abs(value / t**2 - divergence) / divergence]
        largest = max(abs(b) for b in exact_slope)
        errors += [max(abs(a / t - b) for a, b in zip(slope, exact_slope, strict=True)) / largest for slope in slopes]
        worst = max(worst, *(float(error) / allowed for error in errors))
    assert compared > len(case[0]) / 3, "most cases lie below the floor: too few are compared"
    return worst


def log_softmax_difference(z: jax.Array, v: jax.Array, temperature: jax.Array) -> jax.Array:
    """The usual form: right on paper."""
    t = temperature[:, None]
    log_p, log_q = jax.nn.log_softmax(v / t), jax.nn.log_softmax(z / t)
    return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


@pytest.mark.parametrize("apart", [None, 0.3, 0.01, 0.001])
@pytest.mark.parametrize("scale", [0.1, 5.0, 100.0])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_float32_against_60_digits(classes: int, scale: float, apart: float | None) -> None:
    case = cases(classes, scale, apart)
    assert worst_error(soft_target_loss, case, soft_target_gradient) < 1, f"seed {SEED}"


@pytest.mark.parametrize("apart", [None, 0.001])
def test_the_usual_form_fails_the_same_check(apart: float | None) -> None:
    assert worst_error(log_softmax_difference, cases(10, 5.0, apart)) > 10


def test_different_means_cost_no_digits() -> None:
    """A student whose logits all lie 30 above the teacher's, and otherwise 1 % apart."""
    z, v, temperature = cases(10, 5.0, 0.01)
    assert worst_error(soft_target_loss, (z + np.float32(30), v, temperature), soft_target_gradient) < 1


def test_float64_against_60_digits() -> None:
    with jax.enable_x64(True):
        for apart in (None, 0.001):
            z, v, temperature = (array.astype(np.float64) for array in cases(10, 5.0, apart))
            assert worst_error(soft_target_loss, (z, v, temperature), soft_target_gradient) < 1e-8


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_finite_from_a_thousandth_up(classes: int) -> None:
    rng = np.random.default_rng(SEED)
    temperature = np.asarray([*np.geomspace(1e-3, 1e3, 25), 1e8, 1e20, 1e38, np.inf], np.float32)
    both = jax.jit(jax.value_and_grad(lambda *arguments: soft_target_loss(*arguments).sum(), argnums=(0, 1)))
    for scale in (0.1, 5, 100, 1e4):
        for apart in (0.0, 1e-3, 1.0):
            z = rng.normal(size=(len(temperature), classes))
            v = (1 - apart) * z + apart * rng.normal(size=z.shape)
            results = both(*(jnp.asarray(scale * array, jnp.float32) for array in (z, v)), jnp.asarray(temperature))
            assert all(np.isfinite(array).all() for array in jax.tree.leaves(results)), (scale, apart)
