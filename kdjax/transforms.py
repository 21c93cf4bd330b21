"""Image transforms on the device, inside the step: bytes to floats, jitter, augmentation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from kdjax.arrays import HostImages, Images, StoredImages
from kdjax.config import Augment
from kdjax.errors import require

SHIFT, ROTATION, ZOOM, SHEAR = 0.1, math.radians(20), 0.2, math.radians(10)
"""Largest shift, as a share of height and width; largest angle; largest change of scale; largest angle of shear."""
REFLECT = 2
"""Largest shift of `alternate`, in pixels."""
NODES, ELASTIC = 5, 0.1
"""Nodes of an elastic field along each axis; their largest displacement, as a share of height and width."""
AffineMaps = tuple[Float[Array, "batch 2 2"], Float[Array, "batch 2"]]


def to_float(images: StoredImages) -> Images:
    """float32: bytes over 255; floats as they are. Images are best stored as bytes, which take a quarter of the memory
    and of the time to gather. Raises BadInput: whole numbers of another type."""
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    what = "give bytes (uint8, divided by 255) or floats (used as they are)"
    require(jnp.issubdtype(images.dtype, jnp.floating), f"images of {images.dtype} are not allowed: {what}")
    return images.astype(jnp.float32)


def jitter(key: PRNGKeyArray, images: StoredImages, pixels: int, axis_name: str | None = None) -> StoredImages:
    """Shifts each image by whole pixels, uniform in {-pixels, …, pixels} along each axis; zeros come in at the edge.

    The same key gives the same shifts. `axis_name` is the mapped axis over which the batch is divided, if any: shifts
    are drawn per global example. With 0 pixels the images are unchanged.
    """
    if not pixels:
        return images
    batch, height, width, channels = images.shape
    starts = per_example(jax.random.randint, key, (batch, 2), axis_name, minval=0, maxval=2 * pixels + 1)
    # On an image as one row of numbers, a shift down and right is one offset. Pixels that it wraps into the next row of
    # the image are set to 0.
    edge = pixels * (width + 1) * channels
    rows = jnp.pad(images.reshape(batch, -1), ((0, 0), (edge, edge)))
    first = (starts[:, 0] * width + starts[:, 1]) * channels
    shifted = jax.vmap(lambda row, first: jax.lax.dynamic_slice_in_dim(row, first, height * width * channels))(
        rows, first
    )
    source = jnp.arange(width)[None] + starts[:, 1:] - pixels
    inside = (source >= 0) & (source < width)
    return jnp.where(inside[:, None, :, None], shifted.reshape(images.shape), jnp.zeros((), images.dtype))


def shift(images: HostImages, down: int, right: int) -> HostImages:
    """All images shifted by a number of pixels (negative: up, left); zeros come in at the edge."""
    _, height, width, _ = images.shape
    edge = max(abs(down), abs(right))
    padded = np.pad(images, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    return padded[:, edge - down : edge - down + height, edge - right : edge - right + width]


def augment(
    key: PRNGKeyArray,
    images: Images,
    kind: Augment,
    axis_name: str | None = None,
    mirrored: Bool[Array, "batch"] | None = None,
) -> Images:
    """A random transform of each image; beyond its edge the image continues as its nearest pixel.

        none         unchanged
        flip_shift   mirrored left to right with probability 1/2, then shifted by whole pixels, uniform up to 10 % of
                     height and width
        alternate    those of `mirrored` mirrored left to right (None: each with probability 1/2), then shifted by whole
                     pixels, uniform up to `REFLECT`; beyond its edge the image continues as its reflection
        full         mirrored, sheared by up to 10°, zoomed by 0.8 to 1.2 along each axis, rotated by up to 20°, shifted
                     by up to 10 %, all uniform; one affine map, bilinear between pixels (`affine_maps`)
        elastic      as full, but never mirrored, and with half the shear, zoom and rotation; then displaced by a smooth
                     field (`elastic_fields`, after Simard et al. 2003)

    The same key gives the same transforms. `axis_name` is the mapped axis over which the batch is divided, if any:
    transforms are drawn per global example.
    """
    if kind == "none":
        return images
    batch, height, width, _ = images.shape
    numbers = per_example(jax.random.uniform, key, (batch, 7), axis_name, minval=-1.0, maxval=1.0)
    if kind == "full":
        return resample(images, affine_maps(numbers, height, width))
    if kind == "elastic":
        nodes_key, shape = jax.random.fold_in(key, 1), (batch, NODES, NODES, 2)
        nodes = per_example(jax.random.uniform, nodes_key, shape, axis_name, minval=-1.0, maxval=1.0)
        numbers = numbers.at[:, 2].set(1.0).at[:, 3:].multiply(0.5)
        return resample(images, affine_maps(numbers, height, width), elastic_fields(nodes, height, width))
    if kind == "alternate":
        return _alternate(key, images, numbers[:, 2] < 0 if mirrored is None else mirrored, axis_name)
    most = jnp.array([int(SHIFT * height), int(SHIFT * width)])[None]
    shifts = jnp.floor((numbers[:, :2] + 1) / 2 * (2 * most + 1)).astype(jnp.int32)
    rows, columns = (
        jnp.clip(jnp.arange(size)[None] + (shifts[:, axis] - most[:, axis])[:, None], 0, size - 1)
        for axis, size in enumerate((height, width))
    )
    columns = jnp.where(numbers[:, 2:3] < 0, columns, width - 1 - columns)
    return jax.vmap(lambda image, rows, columns: image[rows][:, columns])(images, rows, columns)


def _alternate(key: PRNGKeyArray, images: Images, mirrored: Bool[Array, "batch"], axis_name: str | None) -> Images:
    batch, height, width, _ = images.shape
    require(min(height, width) > REFLECT, f"images of {height}×{width} pixels are too small for --augment alternate")
    shift_key = jax.random.fold_in(key, 1)
    shifts = per_example(jax.random.randint, shift_key, (batch, 2), axis_name, minval=-REFLECT, maxval=REFLECT + 1)
    rows, columns = (
        size - 1 - jnp.abs(size - 1 - jnp.abs(jnp.arange(size)[None] + shifts[:, axis, None]))
        for axis, size in enumerate((height, width))
    )
    columns = jnp.where(mirrored[:, None], width - 1 - columns, columns)
    return jax.vmap(lambda image, rows, columns: image[rows][:, columns])(images, rows, columns)


def affine_maps(numbers: Float[Array, "batch 7"], height: int, width: int) -> AffineMaps:
    """(A, b): a pixel of the new image comes from the place `A·(row, column) + b` of the old one.

    About the image's centre `A = R·S·Z·F`: rotation by φ, shear by ψ, zoom, mirror;

        R = [[cos φ, −sin φ], [sin φ, cos φ]],  S = [[1, −sin ψ], [0, cos ψ]],
        Z = diag(z_row, z_column),  F = diag(1, ±1)

    `numbers` lie in [−1, 1]: two shifts, mirror (by its sign), φ, z_row, z_column, ψ, each as a share of its largest
    value; height and width are in pixels.
    """
    mirror, angle, shear = jnp.where(numbers[:, 2] < 0, -1, 1), ROTATION * numbers[:, 3], SHEAR * numbers[:, 6]
    tall, wide = 1 + ZOOM * numbers[:, 4], 1 + ZOOM * numbers[:, 5]
    one, cos, sin = jnp.ones_like(angle), jnp.cos(angle), jnp.sin(angle)

    def matrix(a: Array, b: Array, c: Array, d: Array) -> Array:
        return jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], -2)

    rotated = matrix(cos, -sin, sin, cos)
    others = matrix(tall, -jnp.sin(shear) * wide * mirror, 0 * one, jnp.cos(shear) * wide * mirror)
    linear = jnp.einsum("bij,bjk->bik", rotated, others, precision="highest")
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    shift = numbers[:, :2] * SHIFT * jnp.array([height, width])[None]
    return linear, centre[None] + shift - jnp.einsum("bij,j->bi", linear, centre, precision="highest")


def elastic_fields(
    nodes: Float[Array, "batch nodes nodes 2"], height: int, width: int
) -> Float[Array, "batch 2 height width"]:
    """The displacement of each place, in pixels down and right: bilinear between the nodes of a coarse grid. `nodes`
    are numbers in [−1, 1], shares of `ELASTIC` times the image's height and width, both in pixels."""
    batch, count = nodes.shape[:2]

    def tents(size: int) -> Array:  # each pixel's share of each node
        places = jnp.linspace(0, count - 1, size)[:, None]
        return jnp.maximum(1 - jnp.abs(places - jnp.arange(count)[None]), 0)

    # One matrix product: nodes × each node's share in each pixel.
    shares = (tents(height).T[:, None, :, None] * tents(width).T[None, :, None, :]).reshape(count**2, height * width)
    sides = nodes.reshape(batch, count**2, 2).transpose(0, 2, 1) * (ELASTIC * jnp.array([height, width])[None, :, None])
    fields = jnp.matmul(sides.reshape(2 * batch, count**2), shares, precision="highest")
    return fields.reshape(batch, 2, height, width)


def resample(images: Images, maps: AffineMaps, fields: Float[Array, "batch 2 height width"] | None = None) -> Images:
    """Images whose pixel p is the old one at `A·p + b` (plus the field at p), bilinear; outside, its nearest pixel."""
    batch, height, width, channels = images.shape
    linear, offset = (part[..., None, None] for part in maps)
    down, right = jnp.arange(height, dtype=jnp.float32)[None, :, None], jnp.arange(width, dtype=jnp.float32)[None, None]
    row, column = (linear[:, axis, 0] * down + linear[:, axis, 1] * right + offset[:, axis] for axis in range(2))
    if fields is not None:
        row, column = row + fields[:, 0], column + fields[:, 1]
    row, column = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)
    top, left = jnp.minimum(row.astype(jnp.int32), height - 2), jnp.minimum(column.astype(jnp.int32), width - 2)
    down, right = (row - top)[..., None], (column - left)[..., None]
    flat, corner = images.reshape(batch, -1, channels), top * width + left

    def neighbours(after: int) -> Array:
        def of_one(image: Array, places: Array) -> Array:
            return image.at[places].get(mode="promise_in_bounds", wrap_negative_indices=False)

        return jax.vmap(of_one)(flat, corner + after)

    upper = neighbours(0) * (1 - right) + neighbours(1) * right
    lower = neighbours(width) * (1 - right) + neighbours(width + 1) * right
    return upper * (1 - down) + lower * down


def per_example(draw, key, shape, axis_name, **arguments):  # type: ignore[no-untyped-def]
    """`draw(key, shape)` for a batch that may be divided over the mapped axis `axis_name`.

    The whole global batch is drawn and this device's rows are cut out, so that an example gets the same numbers however
    many devices share the batch. (With counter-based keys, the compiler can skip the other rows.)
    """
    if axis_name is None:
        return draw(key, shape, **arguments)
    numbers = draw(key, (shape[0] * jax.lax.axis_size(axis_name), *shape[1:]), **arguments)
    return jax.lax.dynamic_slice_in_dim(numbers, jax.lax.axis_index(axis_name) * shape[0], shape[0])
