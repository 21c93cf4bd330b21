"""The network `fast`, and with it the recipe that trains it in minutes: after K. Jordan's airbench94 for CIFAR-10.

    network       a frozen 2×2 convolution that whitens the patches of the training images, GELU (in its tanh form);
                  three groups of two 3×3 convolutions, the first followed by 2×2 max pooling, both by batch norm and
                  GELU; the largest unit of each channel, and a linear layer of logits, times 1/9
    start         each convolution passes its inputs on, as far as it has channels for them
    optimizer     nesterov: momentum 0.85, weight decay, biases of batch norms at 64 times the rate, lookahead every
                  five steps (`kdjax.optimizers`)
    schedule      triangle: from 0.2 of the peak rate to all of it at 23 % of the training, then down to 0.07
    images        alternate: alternating flip (mirrored every second epoch), shifts of up to two pixels, reflected at
                  the edges
    evaluation    with --mirrored-views, the mean of the logits of an image and its mirror image (flip test-time
                  augmentation)

Other than in airbench94, the bias of the whitening layer is frozen too (there it is trained for three epochs), batch
norm has ε = 10⁻⁵ (10⁻¹²), labels are not smoothed, and an image is evaluated in two views (six).

The widths of the groups are its `hidden`: three, or one number w for w, 2·w and 2·w. With batches of 250
the peak rate is about 0.3: airbench's 11.5 per 1,024 examples is 2.8 for such a step, and is divided by
1 + 1/(1 − 0.85) = 7.7, how far Nesterov's momentum lengthens a step: 0.37.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kdjax.arrays import HostImages, Images, Logits, StoredImages
from kdjax.config import TrainConfig
from kdjax.errors import require
from kdjax.layers import convolve, max_pool, product
from kdjax.models.model import Model, Params, functions_of

MOMENTUM = 0.6
"""Of the running statistics of batch norm: the share of the old ones that remains after a batch."""
WHITENED = 5_000
"""Training images, the first so many, whose patches the first layer whitens."""
EPSILON = 5e-4
"""Added to the variances by which patches are divided, in units of the variance of the colour channels."""


class Fast(nn.Module):
    """The network of this module; its first layer is zero until `whitening` has filled it."""

    widths: tuple[int, ...]
    num_classes: int
    rounded: bool = False
    """Operands of all products in bfloat16."""

    @nn.compact
    def __call__(
        self, images: Images, train: bool, key: PRNGKeyArray | None = None, axis_name: str | None = None
    ) -> Logits:
        """Logits. In training with the batch's own statistics, over all of `axis_name`; in evaluation with the running
        statistics. It has no masks, and so no use for a key."""
        axis = None if self.is_initializing() else axis_name
        whitening = self.param("whitening", _blank, images.shape[-1])
        patches = _patches(images)
        flat = patches.reshape(-1, patches.shape[-1])
        units = _dense(flat, jax.lax.stop_gradient(whitening["kernel"]), self.rounded)
        units = units.reshape(*patches.shape[:3], -1) + jax.lax.stop_gradient(whitening["bias"])[None, None, None]
        units = nn.gelu(units)
        for group, width in enumerate(self.widths):
            for layer in range(2):
                kernel = self.param(f"kernel_{group}_{layer}", _passing_on, (3, 3, units.shape[-1], width))
                units = convolve(units, kernel, self.rounded)
                if layer == 0:
                    units = max_pool(units)
                name = f"norm_{group}_{layer}"
                norm = nn.BatchNorm(
                    not train, momentum=MOMENTUM, epsilon=1e-5, use_scale=False, axis_name=axis, name=name
                )
                units = nn.gelu(norm(units))
        units = units.max(axis=(1, 2))
        head = self.param("head", _uniform, (units.shape[-1], self.num_classes))
        return _dense(units, head, self.rounded) / 9


def _dense(units: Array, kernel: Array, rounded: bool) -> Array:
    return product(units, kernel, (((1,), (0,)), ((), ())), rounded)


def _patches(images: Any) -> Any:
    """The four pixels of each 2×2 square, in one row of numbers: [images, height − 1, width − 1, 4·channels]."""
    height, width = images.shape[1] - 1, images.shape[2] - 1
    corners = [images[:, row : row + height, column : column + width] for row in range(2) for column in range(2)]
    return (np if isinstance(images, np.ndarray) else jnp).concatenate(corners, axis=-1)


def _blank(_: PRNGKeyArray, colours: int) -> dict[str, Array]:
    return {"kernel": jnp.zeros((4 * colours, 8 * colours)), "bias": jnp.zeros(8 * colours)}


def _uniform(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """Uniform in ±1/√inputs, PyTorch's default."""
    bound = float(np.prod(shape[:-1])) ** -0.5
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _passing_on(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """A kernel whose first outputs are its inputs, and whose others, if any, are `_uniform`."""
    own = min(shape[2:])
    identity = jnp.zeros((*shape[:3], own)).at[1, 1, :own].set(jnp.eye(own))
    return _uniform(key, shape).at[..., :own].set(identity)


def whitening(images: StoredImages | HostImages) -> dict[str, Float[np.ndarray, "..."]]:
    """Kernel [4·channels, 8·channels] and bias of the first layer: the principal components of the 2×2 patches of
    images, each divided by its standard deviation, and their negatives. Patches are centred and divided by the standard
    deviation of their channel before, unless it hardly varies. Bytes count as floats in [0, 1]; float64 on the host."""
    pixels = np.asarray(images[:WHITENED], np.float64) / (255 if images.dtype == np.uint8 else 1)
    mean, deviation = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    nearly_constant = deviation <= deviation.max() / 255  # less than a grey level: it would be blown up
    deviation = np.where(nearly_constant, 1.0, deviation + 1e-8)
    total, count = 0.0, 0
    for part in np.array_split((pixels - mean) / deviation, -(-len(pixels) // 500)):
        rows = _patches(part).reshape(-1, 4 * len(mean))
        total, count = total + rows.T @ rows, count + len(rows)
    variances, components = np.linalg.eigh(total / count)
    components = components * np.sign(components[np.abs(components).argmax(0), range(len(variances))])
    kernel = (components / np.sqrt(variances + EPSILON))[:, ::-1] / np.tile(deviation, 4)[:, None]
    kernel = np.concatenate([kernel, -kernel], axis=1)
    return {name: part.astype(np.float32) for name, part in (("kernel", kernel), ("bias", -np.tile(mean, 4) @ kernel))}


def groups(widths: tuple[int, ...]) -> tuple[int, ...]:
    """The channels of the three groups, of which one width w says w, 2·w and 2·w."""
    return (widths[0], 2 * widths[0], 2 * widths[0]) if len(widths) == 1 else widths


def fast(config: TrainConfig, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """The network `fast` of `config.hidden` channels. Raises BadInput: another number of widths than one or three;
    dropout, a bound on norms; features; images too small for three poolings."""
    widths, remedy = config.hidden, "give --network mlp"
    told = f"{len(widths)} widths ({', '.join(map(str, widths))}) are not allowed for the network fast"
    require(len(widths) in (1, 3), f"{told}: give one width w, for groups of w, 2·w and 2·w channels, or three")
    simple = not (config.input_dropout or config.hidden_dropout or config.max_norm)
    require(simple, "the network fast has no dropout and no max-norm: give neither")
    require(
        len(input_shape) == 3, f"the network fast is for images, and these are {list(input_shape)} features: {remedy}"
    )
    pixels = f"images of {input_shape[0]}×{input_shape[1]} pixels are too small for the network fast"
    require(min(input_shape[:2]) >= 9, f"{pixels}: its three poolings need 9×9 or more")
    module = Fast(groups(widths), num_classes, config.precision == "bfloat16")

    init, apply = functions_of(module, input_shape)

    def prepare(images: StoredImages | HostImages) -> Params:
        return {"whitening": whitening(images)}

    return Model(init, apply, None, input_shape, num_classes, side_by_side=False, momentum=MOMENTUM, prepare=prepare)
