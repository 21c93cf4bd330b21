"""What happens to images on the device, inside the step: uint8 to float, and jitter."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8


def to_float(images: UInt8[Array, "*batch height width channels"]) -> Float[Array, "*batch height width channels"]:
    """Images rest as bytes (a quarter of the memory, and of the gather) and become floats in [0, 1] here."""
    return images.astype(jnp.float32) / 255


def jitter(
    key: PRNGKeyArray, images: Float[Array, "batch height width channels"], pixels: int, axis_name: str | None = None
) -> Float[Array, "batch height width channels"]:
    """Shifts each image by whole pixels, uniform in {-pixels, …, pixels} in each direction; zeros come in at the edge.

    Args:
        key: the step's key; the same key gives the same shifts.
        images: `[batch, height, width, channels]`.
        pixels: the largest shift, 0 or more; 0 returns the images as they are.
        axis_name: the mapped axis over which the batch is divided, if it is: shifts are drawn per global example.

    Returns:
        Shifted images, same shape.
    """
    if not pixels:
        return images
    batch, height, width, channels = images.shape
    shifts = per_example(jax.random.randint, key, (batch, 2), axis_name, minval=0, maxval=2 * pixels + 1)
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))

    def crop(image: Float[Array, "padded_height padded_width channels"], start: Int[Array, "2"]) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), (height, width, channels))

    return jax.vmap(crop)(padded, shifts)


def shift(
    images: UInt8[np.ndarray, "images height width channels"], down: int, right: int
) -> UInt8[np.ndarray, "images height width channels"]:
    """All images shifted by so many pixels (negative: up, left); zeros come in at the edge."""
    _, height, width, _ = images.shape
    edge = max(abs(down), abs(right))
    padded = np.pad(images, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    return padded[:, edge - down : edge - down + height, edge - right : edge - right + width]


def per_example(draw, key, shape, axis_name, **arguments):  # type: ignore[no-untyped-def]
    """`draw(key, shape)` for a batch that may be divided over the mapped axis `axis_name`.

    The whole global batch is drawn and this device's rows are cut out, so an example gets the same numbers however
    many devices share the batch. (Counter-based keys let the compiler skip the rows that are cut away.)
    """
    if axis_name is None:
        return draw(key, shape, **arguments)
    rows = shape[0]
    everything = draw(key, (rows * jax.lax.axis_size(axis_name), *shape[1:]), **arguments)
    return jax.lax.dynamic_slice_in_dim(everything, jax.lax.axis_index(axis_name) * rows, rows)
