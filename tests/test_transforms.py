"""Jitter: every shift is a whole-pixel shift of the image, uniform, and the same however the batch is divided."""

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import transforms


def images(count=64, size=8):
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (count, size, size, 1)).astype(np.uint8))


def test_bytes_become_floats_in_the_unit_interval():
    floats = transforms.to_float(jnp.array([[[[0], [255]]]], jnp.uint8))
    assert floats.dtype == jnp.float32
    np.testing.assert_array_equal(np.ravel(floats), [0, 1])


def test_each_jittered_image_is_one_of_the_25_shifts():
    original = np.asarray(transforms.to_float(images()))
    shifted = np.asarray(transforms.jitter(jax.random.key(1), jnp.asarray(original), 2))
    padded = np.pad(original, ((0, 0), (2, 2), (2, 2), (0, 0)))
    found = []
    for index in range(len(original)):
        matches = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if np.array_equal(padded[index, dy : dy + 8, dx : dx + 8], shifted[index])
        ]
        assert len(matches) == 1
        found += matches
    assert len(set(found)) > 15  # 64 draws from 25 shifts


def test_shifts_are_uniform():
    spike = jnp.zeros((20_000, 5, 5, 1)).at[:, 2, 2].set(1.0)
    counts = np.asarray(transforms.jitter(jax.random.key(0), spike, 2).sum(axis=0))[..., 0]
    assert abs(counts - 800).max() < 5 * np.sqrt(800)


def test_no_jitter_is_the_identity():
    floats = transforms.to_float(images())
    assert transforms.jitter(jax.random.key(0), floats, 0) is floats


def test_a_divided_batch_gets_the_same_shifts():
    floats = transforms.to_float(images())
    whole = transforms.jitter(jax.random.key(3), floats, 2)
    divided = jax.pmap(lambda part: transforms.jitter(jax.random.key(3), part, 2, "batch"), axis_name="batch")(
        floats.reshape(4, 16, *floats.shape[1:])
    )
    np.testing.assert_array_equal(np.asarray(divided).reshape(whole.shape), whole)
