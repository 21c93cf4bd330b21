"""Derivatives of the losses: in both logits, of both orders, forward and reverse; and the one that is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from kdjax.losses import distillation_loss, soft_target_gradient, soft_target_loss

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


def test_derivative_in_the_temperature_is_refused() -> None:
    z, v = logits(4, 10)
    labels = jnp.zeros(4, int)
    for loss in (soft_target_loss, soft_target_gradient, lambda z, v, t: distillation_loss(z, v, labels, t, 0.5)):
        with pytest.raises(TypeError, match="no derivative in the temperature"):
            jax.grad(lambda t, loss=loss: loss(z, v, t).sum())(2.0)
        jax.grad(lambda t, loss=loss: loss(z, v, jax.lax.stop_gradient(t)).sum() + t)(2.0)
