"""Derivatives of the losses: in both logits, of both orders, forward and reverse; and in the temperature."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

from kdjax import objectives
from kdjax.losses import (
    distillation_loss,
    inverse_temperature_derivative,
    soft_target_gradient,
    soft_target_loss,
)

pytestmark = pytest.mark.optimized

TEMPERATURES = [0.3, 1.0, 4.0, 20.0, 1e4, float("inf")]


def logits(*shape: int, seed: int = 0, scale: float = 5.0) -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(seed))
    return tuple(scale * jax.random.normal(key, shape) for key in keys)


def plain(z: jax.Array, v: jax.Array, temperature: jax.Array) -> jax.Array:
    """The usual form, for plain autodiff: in float64 it has digits to spare up to T = 20."""
    log_p, log_q = jax.nn.log_softmax(v / temperature), jax.nn.log_softmax(z / temperature)
    return temperature**2 * jnp.sum(jnp.exp(log_p) * (log_p - log_q))


def test_derivatives_in_both_logits() -> None:
    """Against finite differences in float64, forward and reverse, of both orders; one row for each temperature."""
    with jax.enable_x64(True):
        z, v = logits(6, 5, scale=2.0)
        temperatures = jnp.array(TEMPERATURES)
        loss, gradient = (
            jax.jit(lambda z, v, f=f: f(jnp.asarray(z), jnp.asarray(v), temperatures))
            for f in (soft_target_loss, soft_target_gradient)
        )
        check_grads(loss, (z, v), order=2, atol=1e-4, rtol=1e-4)
        check_grads(gradient, (z, v), order=1, atol=1e-4, rtol=1e-4)


def test_second_derivatives_in_both_logits() -> None:
    """All four blocks, against plain autodiff of the plain form."""
    with jax.enable_x64(True):
        z, v = logits(4, 5, scale=2.0)
        found, wanted = (
            jax.jit(jax.vmap(jax.hessian(f, argnums=(0, 1))))(z, v, jnp.array(TEMPERATURES[:4]))
            for f in (soft_target_loss, plain)
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), found, wanted)


def test_hessian() -> None:
    z, v = logits(6, 10, scale=3.0)
    temperatures = jnp.array(TEMPERATURES)
    q = np.asarray(jax.nn.softmax(z / temperatures[:, None]))
    wanted = np.einsum("ti,ij->tij", q, np.eye(10)) - np.einsum("ti,tj->tij", q, q)
    for hessian in (jax.hessian, lambda f: jax.jacrev(jax.jacrev(f))):
        found = jax.jit(jax.vmap(hessian(soft_target_loss)))(z, v, temperatures)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    found = jax.jit(jax.vmap(jax.jacfwd(soft_target_gradient)))(z, v, temperatures)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_autodiff_is_the_closed_form() -> None:
    z, v = logits(6, 10)
    temperatures = jnp.array(TEMPERATURES)
    slope = jax.jit(jax.grad(lambda z: soft_target_loss(z, v, temperatures).sum()))(z)
    np.testing.assert_allclose(slope, jax.jit(soft_target_gradient)(z, v, temperatures), rtol=1e-6, atol=1e-6)
    _, along = jax.jit(lambda z, v: jax.jvp(lambda z: soft_target_loss(z, v, temperatures), (z,), (v,)))(z, v)
    np.testing.assert_allclose(along, jnp.sum(slope * v, axis=-1), rtol=1e-4)


def inverse(z: list, v: list, s: mpmath.mpf) -> mpmath.mpf:
    """T² KL at 1/T = s, from the definition."""
    weights = [[mpmath.e ** (s * one) for one in logits] for logits in (v, z)]
    (p, p_sum), (q, q_sum) = ((one, sum(one)) for one in weights)
    return sum(a / p_sum * mpmath.log(a * q_sum / (b * p_sum)) for a, b in zip(p, q, strict=True)) / s**2


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0, 20.0, 1e4, 1e8])
def test_derivative_in_the_inverse_temperature(temperature: float) -> None:
    """Of 60 digits, relative to the larger of it and the sum of its terms' sizes, which can cancel."""
    z, v = logits(7, seed=3, scale=2.0)
    with mpmath.workdps(60):
        high = [[mpmath.mpf(float(one)) for one in side] for side in (z, v)]
        s = 1 / mpmath.mpf(float(np.float32(temperature)))
        wanted = float(mpmath.diff(lambda s: inverse(*high, s), s, h=s * mpmath.mpf(10) ** -20))
    found = inverse_temperature_derivative(z, v, temperature)
    size = float(jnp.abs(z).max() * soft_target_loss(z, v, temperature))
    assert abs(float(found) - wanted) < 1e-5 * max(abs(wanted), size)
    slope = jax.grad(lambda t: soft_target_loss(z, v, t))(temperature)
    assert float(slope) == pytest.approx(-float(found) / temperature**2, rel=1e-5)


def test_derivative_in_the_inverse_temperature_at_infinity() -> None:
    z, v = logits(6, 10)
    zc, vc = (one - one.mean(axis=-1, keepdims=True) for one in (np.asarray(z, float), np.asarray(v, float)))
    wanted = ((vc - zc) ** 2 * (zc + 2 * vc)).sum(axis=-1) / 60
    np.testing.assert_allclose(inverse_temperature_derivative(z, v, jnp.inf), wanted, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(inverse_temperature_derivative(z, v, 1e7), wanted, rtol=1e-4, atol=1e-4)
    assert jax.grad(lambda t: soft_target_loss(z, v, t).sum())(jnp.inf) == 0


def test_derivatives_in_the_temperature() -> None:
    """Of loss, gradient and standardised losses, against finite differences in float64."""
    with jax.enable_x64(True):
        z, v = logits(5, 6, scale=2.0)
        labels, temperatures = jnp.zeros(5, int), jnp.array(TEMPERATURES[:5])
        family = [objectives.parse(name).loss for name in ("kd", "logit_standardization", "norm_kd", "spherical_kd")]
        family.append(lambda z, v, labels, t: soft_target_gradient(z, v, t))
        family.append(lambda z, v, labels, t: distillation_loss(z, v, labels, t, 0.5))
        for loss in family:
            check_grads(lambda log_t, loss=loss: loss(z, v, labels, jnp.exp(log_t)), (jnp.log(temperatures),), order=1)


def test_objectives_without_a_derivative_in_the_temperature_refuse_it() -> None:
    z, v = logits(4, 10)
    for name in ("reverse_kl", "dkd", "dist"):
        loss = objectives.parse(name).loss
        with pytest.raises(TypeError, match="a derivative in the student's logits alone"):
            jax.grad(lambda t, loss=loss: loss(z, v, jnp.zeros(4, int), t).sum())(2.0)
        jax.grad(lambda t, loss=loss: loss(z, v, jnp.zeros(4, int), jax.lax.stop_gradient(t)).sum() + t)(2.0)
