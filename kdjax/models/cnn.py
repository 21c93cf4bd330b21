"""The convolutional networks `small` and `big`, and the same with dropout after the last batch norm."""

import functools
from collections.abc import Mapping
from types import MappingProxyType

import flax.linen as nn
import jax
from jaxtyping import Array, PRNGKeyArray

from kdjax.arrays import Images, Logits
from kdjax.config import AFTER_NORM, TrainConfig, network_spec
from kdjax.errors import require
from kdjax.layers import FLOAT32, convolve, dropout, max_pool, product
from kdjax.models.model import Model, functions_of

STAGES: Mapping[str, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {"small": ((32,), (64,), (128, 128)), "big": ((64, 64), (128, 128), (256, 256, 256))}
)
"""Channels of each convolution at full width; a stage ends with pooling and dropout. The networks have 770,378 and
3,844,938 parameters, batch statistics included, for 32×32 images of 3 channels and 10 classes."""
MOMENTUM = 0.99
"""Of the running statistics of batch norm: the share of the old ones that remains after a batch."""
DROPOUT = 0.3
"""After each pooling, before further batch norms; or once, before the logits."""
LEAK = 0.1
"""Slope of LeakyReLU below 0."""


class Cnn(nn.Module):
    """Stages of 3×3 convolutions, each ended by 2×2 max pooling and dropout; then a hidden dense layer, then logits.
    With `after_norm`, dropout comes once, between the last two, so that no batch norm collects statistics of units
    under dropout (Li et al. 2019, arXiv 1801.05134). Every convolution and the hidden layer is followed by batch norm
    (momentum 0.99, eps 1e-3: Keras's defaults) and LeakyReLU(0.1). Kernels start from Glorot's uniform distribution,
    biases at 0, as in Keras."""

    channels: tuple[tuple[int, ...], ...]
    units: int
    num_classes: int
    rounded: bool = False
    """Operands of all products in bfloat16."""
    after_norm: bool = False
    """Dropout comes after the last batch norm, not after each pooling."""

    @nn.compact
    def __call__(
        self, images: Images, train: bool, key: PRNGKeyArray | None = None, axis_name: str | None = None
    ) -> Logits:
        """Logits. In training with the batch's own statistics, over all of `axis_name`, and dropout if there is a key;
        in evaluation with the running statistics."""
        # In float32 XLA's own product: another one would change the last digits of published results.
        of_layer = functools.partial(product, rounded=True) if self.rounded else jax.lax.dot_general
        init = nn.initializers.glorot_uniform()

        def normalised(units: Array, name: str) -> Array:
            axis = None if self.is_initializing() else axis_name
            norm = nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=1e-3, axis_name=axis, name=f"norm_{name}")
            return nn.leaky_relu(norm(units), LEAK)

        def dense(units: Array, width: int, name: str, biased: bool = True) -> Array:
            layer = nn.Dense(width, biased, precision=FLOAT32, kernel_init=init, dot_general=of_layer, name=name)
            return layer(units)

        def dropped(units: Array, place: int) -> Array:
            if key is None or not train:
                return units
            return dropout(jax.random.fold_in(key, place), units, DROPOUT, axis_name)

        # Biases before batch norm, which subtracts them again, are left out in training, which is faster. They start
        # at 0 and their gradient is 0, or would be without rounding errors, which Adam turns into full-size steps.
        biased, units, layer = not train, images, 0
        for stage, widths in enumerate(self.channels):
            for width in widths:
                kernel = self.param(f"kernel_{layer}", init, (3, 3, units.shape[-1], width))
                bias = self.param(f"bias_{layer}", nn.initializers.zeros, (width,))
                units = convolve(units, kernel, self.rounded)
                units = normalised(units + bias[None, None, None] if biased else units, f"{layer}")
                layer += 1
            units = max_pool(units)
            if not self.after_norm:
                units = dropped(units, stage)
        units = normalised(dense(units.reshape(len(units), -1), self.units, "hidden", biased), "hidden")
        if self.after_norm:
            units = dropped(units, len(self.channels))
        return dense(units, self.num_classes, "logits")


def cnn(config: TrainConfig, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """The convolutional network of `STAGES` that `config.network` names, without or with `AFTER_NORM` at its end.

    Its hidden dense layer has `config.hidden[0]` units, and every layer's channels are in the same proportion to those
    at full width. `model_state` holds the running mean and variance of every batch norm. Raises BadInput: several
    widths, dropout or a bound on norms; features; images too small for three poolings; a width that leaves a layer
    without channels.
    """
    name, remedy = config.network, "give one width, no dropout, no max-norm"
    stages = STAGES[name.removesuffix(AFTER_NORM)]
    simple = len(config.hidden) == 1 and not (config.input_dropout or config.hidden_dropout or config.max_norm)
    require(simple, f"the {name} network has one hidden dense layer and its own dropout: {remedy}")
    require(len(input_shape) == 3, f"the {name} network is for images, and these are {list(input_shape)} features")
    pixels = f"images of {input_shape[0]}×{input_shape[1]} pixels are too small for the {name} network"
    require(min(input_shape[:2]) >= 8, f"{pixels}: its three poolings need 8×8 or more")
    full, (units,) = network_spec(name).full_units or 0, config.hidden
    channels = tuple(tuple(round(width * units / full) for width in stage) for stage in stages)
    first = stages[0][0]
    reason = f"no channel would be left in its first layer, which has {first} at {full} units"
    remedy = f"{reason}; give {full // first // 2 + 1} units or more"
    require(channels[0][0] > 0, f"{units} hidden units are too few for the {name} network: {remedy}")
    module = Cnn(channels, units, num_classes, config.precision == "bfloat16", name.endswith(AFTER_NORM))

    init, apply = functions_of(module, input_shape)
    return Model(init, apply, None, input_shape, num_classes, side_by_side=False, momentum=MOMENTUM)
