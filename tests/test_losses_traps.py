"""Traps of other people's code: checks which the losses pass, and the losses with a trap put in fail."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax.losses import centred_logit_matching_loss, distillation_loss, label_matching_loss, soft_target_loss

pytestmark = pytest.mark.optimized

Loss = Callable[[jax.Array, jax.Array, Any], jax.Array]

# At T = 10: q = (1, 2, 5)/8 and p = (2, 1, 1)/4, so KL = 1/2 ln 4 + 1/4 ln(2/5). The -20 makes some logits negative.
Z10 = 10 * jnp.log(jnp.array([1.0, 2.0, 5.0])) - 20
V10 = 10 * jnp.log(jnp.array([2.0, 1.0, 1.0])) - 20
VALUE10 = 100 * (0.5 * np.log(4) + 0.25 * np.log(0.4))
SLOPE10 = 10 * (np.array([1, 2, 5]) / 8 - np.array([2, 1, 1]) / 4)


def right_at_ten(loss: Loss) -> bool:
    """Value and gradient of the example worked by hand."""
    value, slope = jax.jit(jax.value_and_grad(loss))(Z10, V10, 10.0)
    return bool(np.isclose(value, VALUE10, rtol=1e-5) and np.allclose(slope, SLOPE10, rtol=1e-4, atol=1e-4))


def sgd_steps_are_alike(loss: Loss) -> bool:
    """From T = 20 up an SGD step is as long as under logit matching: the learning rate means the same at every T."""
    z, v = jax.random.normal(jax.random.key(0), (2, 64, 10))
    images = jax.random.normal(jax.random.key(1), (64, 7))
    sgd = optax.sgd(0.1)

    def length(loss: Loss, temperature: float) -> float:
        gradient = jax.jit(jax.grad(lambda weights: loss(z + images @ weights, v, temperature).mean()))(
            jnp.zeros((7, 10))
        )
        return float(optax.tree.norm(sgd.update(gradient, sgd.init(gradient))[0]))

    wanted = length(lambda z, v, _: centred_logit_matching_loss(z, v), 1.0)
    return all(abs(length(loss, temperature) / wanted - 1) < 0.1 for temperature in (20.0, 1000.0))


def hears_dark_knowledge(loss: Loss) -> bool:
    """A teacher's 1e-9 and 3e-9 on wrong classes, where the student has 2e-9 on both: it is told the difference."""
    v, z = jnp.log(jnp.array([1.0, 1e-9, 3e-9])), jnp.log(jnp.array([1.0, 2e-9, 2e-9]))
    return bool(np.allclose(jax.jit(jax.grad(loss))(z, v, 1.0)[1:], [1e-9, -1e-9], rtol=1e-3, atol=0))


def soft_only(z: jax.Array, v: jax.Array, temperature: Any) -> jax.Array:
    return distillation_loss(z, v, jnp.zeros(z.shape[:-1], int), temperature, 1.0)


def without_t_squared(z: jax.Array, v: jax.Array, temperature: Any) -> jax.Array:
    return soft_only(z, v, temperature) / temperature**2


def averaged_over_classes(z: jax.Array, v: jax.Array, temperature: Any) -> jax.Array:
    return soft_target_loss(z, v, temperature) / z.shape[-1]


def of_raw_logits(z: jax.Array, v: jax.Array, temperature: Any) -> jax.Array:
    p, q = (jnp.clip(array / temperature, 1e-7, 1) for array in (v, z))
    return temperature**2 * jnp.sum(p * jnp.log(p / q), axis=-1)


def clipped(z: jax.Array, v: jax.Array, temperature: Any) -> jax.Array:
    p, q = (jnp.clip(jax.nn.softmax(array / temperature), 1e-7, 1) for array in (v, z))
    return temperature**2 * jnp.sum(p * jnp.log(p / q), axis=-1)


def of_rectified_logits(z: jax.Array, v: jax.Array, temperature: Any) -> jax.Array:
    return soft_target_loss(jax.nn.relu(z), jax.nn.relu(v), temperature)


@pytest.mark.parametrize(
    ("check", "trap"),
    [
        (sgd_steps_are_alike, without_t_squared),
        (right_at_ten, without_t_squared),
        (right_at_ten, averaged_over_classes),
        (sgd_steps_are_alike, averaged_over_classes),
        (right_at_ten, of_raw_logits),
        (hears_dark_knowledge, clipped),
        (right_at_ten, of_rectified_logits),
    ],
)
def test_traps(check: Callable[[Loss], bool], trap: Loss) -> None:
    assert not check(trap)


@pytest.mark.parametrize("check", [right_at_ten, sgd_steps_are_alike, hears_dark_knowledge])
def test_no_trap_here(check: Callable[[Loss], bool]) -> None:
    assert check(soft_only)
    assert check(soft_target_loss)


@pytest.mark.parametrize("made", ["scaled", "cubed", "softmax"])
def test_logits_made_in_the_same_program_are_as_good_as_given_ones(made):
    # A compiler may compute them twice, and contract a product into a sum the second time: they are then not equal to
    # themselves, and a loss that looks for "the class that equals the maximum" finds none.
    make = {"scaled": lambda x: 2.1 * x, "cubed": lambda x: x * x * x, "softmax": jax.nn.softmax}[made]
    v, z = jax.random.normal(jax.random.key(1), (50, 10)), jax.random.normal(jax.random.key(0), (2, 50, 10))
    temperatures = jnp.array([1.0, 4.0])

    def soft(z, v, temperature):
        return soft_target_loss(z, v, temperature).mean() + label_matching_loss(z, v).mean()

    def inside(z, temperature):
        return soft(1.7 * z, make(v), temperature)

    fused = jax.jit(jax.vmap(jax.value_and_grad(inside)))(z, temperatures)[0]
    given = jax.jit(jax.vmap(soft, in_axes=(0, None, 0)))(1.7 * z, make(v), temperatures)
    np.testing.assert_allclose(fused, given, rtol=1e-5)
