"""Jitter: every shift is a whole-pixel shift of the image, uniform, and the same however the batch is divided."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

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


@pytest.mark.parametrize("pixels, channels", [(1, 3), (5, 2), (9, 1)])  # up to more than the image has
def test_bytes_shift_as_floats_do_and_nothing_comes_in_but_zeros(pixels, channels):
    original = jnp.asarray(np.random.default_rng(2).integers(1, 256, (200, 4, 7, channels)).astype(np.uint8))
    shifted = transforms.jitter(jax.random.key(4), original, pixels)
    assert shifted.dtype == jnp.uint8
    floats = transforms.jitter(jax.random.key(4), original.astype(jnp.float32), pixels)
    np.testing.assert_array_equal(shifted.astype(jnp.float32), floats)
    padded = np.pad(np.asarray(original), ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    places = [(down, right) for down in range(2 * pixels + 1) for right in range(2 * pixels + 1)]
    for index, image in enumerate(np.asarray(shifted)):
        crops = (padded[index, down : down + 4, right : right + 7] for down, right in places)
        assert any(np.array_equal(crop, image) for crop in crops)


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


def test_flip_and_shift_give_every_mirrored_whole_pixel_shift_and_no_other_image():
    original = np.asarray(transforms.to_float(images(2000, 20)[:1]))
    many = np.asarray(
        transforms.augment(jax.random.key(0), jnp.repeat(jnp.asarray(original), 3000, axis=0), "flip_shift")
    )
    wanted = set()
    for image in (original[0], original[0, :, ::-1]):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        wanted |= {padded[y : y + 20, x : x + 20].tobytes() for y in range(5) for x in range(5)}
    found = [image.tobytes() for image in many]
    assert set(found) == wanted and len(wanted) == 50
    counts = np.unique(found, return_counts=True)[1]
    assert abs(counts - 60).max() < 5 * np.sqrt(60)


@pytest.mark.parametrize("height, width", [(12, 12), (9, 14)])
def test_affine_maps_are_those_of_scipy(height, width):
    original = jax.random.uniform(jax.random.key(0), (20, height, width, 3))
    drawn = jax.random.uniform(jax.random.key(1), (20, 7), minval=-1.0, maxval=1.0)
    maps = transforms.affine_maps(drawn, height, width)
    found = transforms.resample(original, maps)
    for index in range(20):
        for channel in range(3):
            image = np.asarray(original[index, ..., channel])
            matrix, offset = (np.asarray(part[index]) for part in maps)
            expected = scipy.ndimage.affine_transform(image, matrix, offset, order=1, mode="nearest")
            np.testing.assert_allclose(found[index, ..., channel], expected, atol=2e-5)


def test_each_number_drawn_does_what_it_says():
    def seen(index, value):
        drawn = jnp.zeros((1, 7)).at[0, 2].set(1.0).at[0, index].set(value)
        return transforms.resample(shown, transforms.affine_maps(drawn, 20, 20))[0, ..., 0]

    shown = transforms.to_float(images(2000, 20)[:1])
    image = np.asarray(shown[0, ..., 0])
    np.testing.assert_allclose(seen(0, 0.0), image, atol=1e-5)
    np.testing.assert_allclose(seen(0, 1.0)[:-2], image[2:], atol=1e-5)  # 10 % of 20 pixels
    np.testing.assert_allclose(seen(1, -0.5)[:, 1:], image[:, :-1], atol=1e-5)
    np.testing.assert_allclose(seen(2, -1.0), image[:, ::-1], atol=1e-5)
    degrees = scipy.ndimage.rotate(image, -20, reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(seen(3, 1.0), degrees, atol=1e-4)
    for index in (4, 5):
        linear, _ = transforms.affine_maps(jnp.zeros((1, 7)).at[0, 2].set(1.0).at[0, index].set(-1.0), 20, 20)
        np.testing.assert_allclose(np.diag(linear[0]), [0.8, 1.0] if index == 4 else [1.0, 0.8], rtol=1e-6)
    linear, _ = transforms.affine_maps(jnp.zeros((1, 7)).at[0, 2].set(1.0).at[0, 6].set(1.0), 20, 20)
    np.testing.assert_allclose(linear[0], [[1, -np.sin(np.pi / 18)], [0, np.cos(np.pi / 18)]], atol=1e-6)


def test_an_elastic_field_moves_each_place_as_scipy_does():
    height, width = 12, 17
    original = jax.random.uniform(jax.random.key(0), (5, height, width, 1))
    nodes = jax.random.uniform(jax.random.key(1), (5, 5, 5, 2), minval=-1.0, maxval=1.0)
    fields = transforms.elastic_fields(nodes, height, width)
    size = transforms.ELASTIC * np.array([height, width])
    # A node in the corner, and one in the middle of an edge:
    np.testing.assert_allclose(fields[:, :, 0, 0], np.asarray(nodes[:, 0, 0]) * size, rtol=1e-5)
    np.testing.assert_allclose(fields[:, :, -1, 8], np.asarray(nodes[:, -1, 2]) * size, rtol=1e-5)
    still = transforms.affine_maps(jnp.zeros((5, 7)).at[:, 2].set(1.0), height, width)
    found = transforms.resample(original, still, fields)
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    for index in range(5):
        places = grid + np.asarray(fields[index])
        expected = scipy.ndimage.map_coordinates(original[index, ..., 0], places, order=1, mode="nearest")
        np.testing.assert_allclose(found[index, ..., 0], expected, atol=2e-5)


def test_elastic_images_are_never_mirrored_and_have_half_the_shear_zoom_and_rotation_of_full():
    floats, key = transforms.to_float(images(16, 12)), jax.random.key(5)
    numbers = jax.random.uniform(key, (16, 7), minval=-1.0, maxval=1.0)
    nodes = jax.random.uniform(jax.random.fold_in(key, 1), (16, 5, 5, 2), minval=-1.0, maxval=1.0)
    halved = jnp.concatenate([numbers[:, :2], jnp.ones((16, 1)), numbers[:, 3:] / 2], axis=1)
    maps, fields = transforms.affine_maps(halved, 12, 12), transforms.elastic_fields(nodes, 12, 12)
    expected = transforms.resample(floats, maps, fields)
    np.testing.assert_allclose(transforms.augment(key, floats, "elastic"), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["flip_shift", "full", "elastic"])
def test_augmentation_is_fixed_by_its_key_and_drawn_per_global_example(kind):
    floats = transforms.to_float(images(64, 12))
    whole = transforms.augment(jax.random.key(3), floats, kind)
    np.testing.assert_array_equal(whole, transforms.augment(jax.random.key(3), floats, kind))
    assert not np.array_equal(whole, transforms.augment(jax.random.key(4), floats, kind))
    divided = jax.pmap(lambda part: transforms.augment(jax.random.key(3), part, kind, "batch"), axis_name="batch")(
        floats.reshape(4, 16, *floats.shape[1:])
    )
    np.testing.assert_allclose(np.asarray(divided).reshape(whole.shape), whole, atol=1e-5)
    assert transforms.augment(jax.random.key(3), floats, "none") is floats
