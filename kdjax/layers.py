"""Building blocks of networks as pure functions: products, convolution, pooling, dropout."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float, PRNGKeyArray

from kdjax.arrays import Images

FLOAT32 = jax.lax.Precision.HIGHEST
"""Full float32 products: by default, GPUs and TPUs round their operands to 10 bits or fewer."""
PATCHES = 2 * 2**20
"""Bytes of image patches that are processed at a time on a CPU."""


def product(
    units: Float[Array, "batch inputs"],
    kernel: Float[Array, "rows columns"],
    dimension_numbers: Any,
    rounded: bool = False,
    **_: Any,
) -> Float[Array, "batch outputs"]:
    """`lax.dot_general` of a batch and a kernel, `[in, out]` or `[out, in]` as `dimension_numbers` says, with full
    float32 precision. Where `rounded`, operands are rounded to bfloat16, with sums in float32; in the gradient too.

    In a block, K kernels `[out, in]` on the same units are one product with a kernel `[K · out, in]`. Its derivative is
    written by hand: reverse mode, once.
    """
    (_, (axis,)), _ = dimension_numbers
    return _product(units, kernel, axis, rounded)


def _product_forward(units: Array, kernel: Array, axis: int, rounded: bool) -> tuple[Array, tuple[Array, Array]]:
    if rounded:
        units, kernel = units.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _with_rows(units, kernel) if axis == 1 else _float32_sums(units, kernel, 0), (units, kernel)


def _product_backward(axis: int, rounded: bool, operands: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    units, kernel = operands
    if rounded:
        gradient = gradient.astype(jnp.bfloat16)
    left, right = (units, gradient) if axis == 0 else (gradient, units)
    return _float32_sums(gradient, kernel, 1 - axis), _float32_sums(_transposed(left), right, 0)


_product = jax.custom_vjp(lambda *arguments: _product_forward(*arguments)[0], nondiff_argnums=(2, 3))
_product.defvjp(_product_forward, _product_backward)


@jax.custom_batching.custom_vmap
def _with_rows(units: Array, kernel: Array) -> Array:
    """`units · kernelᵀ`."""
    return _float32_sums(units, kernel, 1)


@_with_rows.def_vmap
def _with_rows_of_all(settings: int, batched: list[bool], units: Array, kernel: Array) -> tuple[Array, bool]:
    if batched == [False, True]:
        # Mapped as it stands, XLA copies all kernels into a transposed array at each step; as one product it does not.
        _, outputs, inputs = kernel.shape
        together = _float32_sums(units, kernel.reshape(settings * outputs, inputs), 1)
        return jnp.moveaxis(together.reshape(len(units), settings, outputs), 1, 0), True
    axes = [0 if each else None for each in batched]
    return jax.vmap(lambda units, kernel: _float32_sums(units, kernel, 1), axes)(units, kernel), True


def _transposed(units: Array) -> Array:
    if jax.default_backend() != "cpu":
        return units.T
    # XLA's library for CPUs has no product that sums over the rows of both operands: slower code is used, unless one
    # of the operands is transposed in memory.
    return with_layout_constraint(units.T, Layout((0, 1)))


def _float32_sums(left: Array, right: Array, right_axis: int) -> Array:
    axes = (((1,), (right_axis,)), ((), ()))
    if left.dtype == jnp.bfloat16:
        return jax.lax.dot_general(left, right, axes, preferred_element_type=jnp.float32)
    return jax.lax.dot_general(left, right, axes, precision=FLOAT32)


def dropout(
    key: PRNGKeyArray, units: Float[Array, "batch *units"], rate: float, axis_name: str | None = None
) -> Float[Array, "batch *units"]:
    """Zeroes each unit with probability `rate` and divides the others by the probability of keeping a unit.

    The mask takes one random byte a unit, so the rate is rounded to a multiple of 1/256, and the division uses the
    rounded rate. One that rounds to 1/2 takes one random bit a unit instead: random bits are expensive on a CPU. With
    `axis_name`, the mask is drawn per global example (see `transforms.per_example`).
    """
    dropped = round(rate * 256)
    bits = 1 if dropped == 128 else 8
    batch, width = len(units), units[0].size
    rows = batch if axis_name is None else batch * jax.lax.axis_size(axis_name)
    words = jax.random.bits(key, (rows, -(-width * bits // 32)), jnp.uint32)
    if axis_name is not None:
        words = jax.lax.dynamic_slice_in_dim(words, jax.lax.axis_index(axis_name) * batch, batch)
    numbers = words[:, :, None] >> jnp.arange(0, 32, bits, dtype=jnp.uint32)[None, None] & jnp.uint32(2**bits - 1)
    kept = numbers.reshape(batch, -1)[:, :width] >= dropped >> (8 - bits)
    return jnp.where(kept.reshape(units.shape), units * (256 / (256 - dropped)), 0.0)


@jax.custom_vjp
def max_pool(units: Images) -> Float[Array, "batch rows columns channels"]:
    """The largest unit of each 2×2 square; an odd last row or column is dropped. Ties share the gradient."""
    return functools.reduce(jnp.maximum, _corners(units))


def _corners(units: Array) -> list[Array]:
    """The pixels of all 2×2 squares: upper left, upper right, lower left, lower right."""
    height, width = (size // 2 * 2 for size in units.shape[1:3])
    return [units[:, row:height:2, column:width:2] for row in range(2) for column in range(2)]


def _max_pool_forward(units: Array) -> tuple[Array, tuple[Array, Array]]:
    return (largest := max_pool(units)), (units, largest)


def _max_pool_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    # One pass over the images; the gradient of a windowed reduction is a scatter, which is slow on a CPU.
    units, largest = residuals
    batch, rows, columns, channels = largest.shape
    ties = sum((corner == largest).astype(gradient.dtype) for corner in _corners(units))
    share = gradient / jnp.maximum(ties, 1)  # no tie where the compiler rounded the two differently
    spread = (batch, rows, 2, columns, 2, channels)
    larger, shares = (jnp.broadcast_to(each[:, :, None, :, None], spread) for each in (largest, share))
    whole = units[:, : 2 * rows, : 2 * columns]
    slopes = jnp.where(whole.reshape(spread) == larger, shares, 0).reshape(whole.shape)
    return (jnp.pad(slopes, ((0, 0), (0, units.shape[1] % 2), (0, units.shape[2] % 2), (0, 0))),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def convolve(
    units: Float[Array, "batch height width inputs"], kernel: Float[Array, "3 3 inputs outputs"], rounded: bool = False
) -> Float[Array, "batch height width outputs"]:
    """Convolution with 3×3 kernels and zeros around the image: the size stays the same. Where `rounded`, operands are
    rounded to bfloat16, with sums in float32; in the gradient too."""
    *_, height, width, inputs = units.shape
    if inputs > 4:
        return _convolution(units, kernel, rounded)
    # With few channels, one product over all nine neighbours of a pixel is faster than a convolution.
    padded = jnp.pad(units, ((0, 0), (1, 1), (1, 1), (0, 0)))
    parts = [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    patches = jnp.concatenate(parts, axis=-1).reshape(-1, 9 * inputs)
    # In float32 XLA's own product, as in `models.cnn`: another one would change the last digits of published results.
    of_patches = (
        functools.partial(product, rounded=True)
        if rounded
        else functools.partial(jax.lax.dot_general, precision=FLOAT32)
    )
    outputs = of_patches(patches, kernel.reshape(9 * inputs, -1), (((1,), (0,)), ((), ())))
    return outputs.reshape(-1, height, width, kernel.shape[-1])


def _convolution_forward(units: Array, kernel: Array, rounded: bool) -> tuple[Array, tuple[Array, Array]]:
    if rounded:
        units, kernel = units.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _float32_convolution(units, kernel), (units, kernel)


def _convolution_backward(rounded: bool, operands: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    units, kernel = operands
    if rounded:
        gradient = gradient.astype(jnp.bfloat16)
    of_units = _float32_convolution(gradient, jnp.swapaxes(kernel[::-1, ::-1], 2, 3))
    if jax.default_backend() == "cpu":
        return of_units, _kernel_gradient(units, gradient)
    # The kernel's gradient is a convolution too, with batch and channels exchanged.
    return of_units, _float32_convolution(units, gradient, ("CHWN", "IHWO", "HWNC"))


_convolution = jax.custom_vjp(lambda *arguments: _convolution_forward(*arguments)[0], nondiff_argnums=(2,))
_convolution.defvjp(_convolution_forward, _convolution_backward)


def _kernel_gradient(units: Array, gradient: Array) -> Array:
    """`Σ patches·gradientᵀ` as products over a few images at a time, whose patches fit into the caches. On a CPU this
    is faster than XLA's convolution. Image rows come first, so that the neighbours above and below a pixel are the same
    patches of three pixels, at other places in memory."""
    batch, height, width, inputs = units.shape
    outputs = gradient.shape[-1]
    fit = max(1, PATCHES // (height * width * 3 * inputs * units.dtype.itemsize))
    size = divisor(batch, fit)

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        padded = jnp.pad(part[0], ((0, 0), (1, 1), (1, 1), (0, 0))).transpose(1, 0, 2, 3)
        triples = jnp.concatenate([padded[:, :, column : column + width] for column in range(3)], axis=-1)
        triples = triples.reshape(height + 2, size * width, 3 * inputs)
        triples, slopes = jax.lax.optimization_barrier((triples, part[1].transpose(1, 0, 2, 3).reshape(-1, outputs)))
        rows = [triples[row : row + height].reshape(-1, 3 * inputs) for row in range(3)]
        if slopes.dtype == jnp.bfloat16:
            transposed = _transposed(slopes)
            return total + jnp.stack([_float32_sums(transposed, row, 0) for row in rows]), None
        return total + jnp.stack([jnp.matmul(slopes.T, row, precision=FLOAT32) for row in rows]), None

    parts = (units.reshape(-1, size, *units.shape[1:]), gradient.reshape(-1, size, *gradient.shape[1:]))
    total, _ = jax.lax.scan(add, jnp.zeros((3, outputs, 3 * inputs), jnp.float32), parts)
    return jnp.swapaxes(total, 1, 2).reshape(3, 3, inputs, outputs)


def _float32_convolution(units: Array, kernel: Array, axes: tuple[str, str, str] = ("NHWC", "HWIO", "NHWC")) -> Array:
    options: Any = {"dimension_numbers": axes, "precision": FLOAT32, "preferred_element_type": jnp.float32}
    return jax.lax.conv_general_dilated(units, kernel, (1, 1), ((1, 1), (1, 1)), **options)


def divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is no larger than `most`."""
    return max(divisor for divisor in range(1, min(number, most) + 1) if number % divisor == 0)
