"""Networks behind `init` and `apply`; the only room that knows flax."""

import functools
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from kdjax.config import CONVOLUTIONAL, TrainConfig
from kdjax.errors import require
from kdjax.layers import FLOAT32, bfloat16_product, convolve, dropout, max_pool

Params = Any
ModelState = Any


class Model(NamedTuple):
    """A network as two pure functions, and what it takes and gives."""

    init: Callable[[PRNGKeyArray], tuple[Params, ModelState]]
    """key → (params, model_state); the latter changes without a gradient (batch statistics) and is often empty."""
    apply: Callable[..., tuple[Float[Array, "batch classes"], ModelState]]
    """(params, model_state, images, train, key, axis_name) → (logits, model_state)."""
    bound_norms: Callable[[Params, float], Params]
    """(params, bound) → params whose hidden units' incoming weights have L2 norms of at most `bound`."""
    input_shape: tuple[int, ...]
    """(height, width, channels) of an image."""
    num_classes: int
    """Logits an image."""
    products: tuple[int, ...]
    """Multiplications of each layer's product for one image, forward, the first layer first."""
    side_by_side: bool
    """Whether K such networks are trained as one stack (`jax.vmap`), or one after another: K kernels on K stacks of
    units are a grouped convolution, for which XLA has no fast program."""


class Stages(NamedTuple):
    """A convolutional network at full width."""

    channels: tuple[tuple[int, ...], ...]
    """Of each convolution; a stage ends with pooling and dropout."""
    units: int
    """Of the hidden dense layer."""


STAGES: Mapping[str, Stages] = MappingProxyType(
    {
        "small": Stages(((32,), (64,), (128, 128)), CONVOLUTIONAL["small"]),
        "big": Stages(((64, 64), (128, 128), (256, 256, 256)), CONVOLUTIONAL["big"]),
    }
)
"""770,378 and 3,844,938 parameters, batch statistics counted, for 32×32 images of 3 channels and 10 classes."""
MOMENTUM = 0.99
"""Of the running statistics of batch norm: the share that a batch leaves of them."""
CNN_DROPOUT = 0.3
"""After each pooling."""
LEAK = 0.1
"""Slope of LeakyReLU below 0."""


class InputDense(nn.Module):
    """A dense layer that stores its kernel as `[out, in]`.

    In a block, settings share the images but not the weights. Stacked as `[setting, out, in]`, the gradients of all
    settings are one product, `[setting · out, batch] × [batch, in]`, already in the order in which they are stored.
    """

    features: int
    product: Callable[..., Array] = jax.lax.dot_general
    """Of inputs and kernel; asked for full float32, which some accelerators do not take for granted."""

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch inputs"]) -> Float[Array, "batch features"]:
        kernel = self.param(
            "kernel", nn.initializers.he_normal(in_axis=1, out_axis=0), (self.features, inputs.shape[1])
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return self.product(inputs, kernel, (((1,), (1,)), ((), ())), precision=FLOAT32) + bias[None]


class Mlp(nn.Module):
    """ReLU layers of the given widths, then a linear layer of logits; in training with dropout before each layer."""

    hidden: tuple[int, ...]
    num_classes: int
    input_dropout: float = 0.0
    hidden_dropout: float = 0.0
    product: Callable[..., Array] = jax.lax.dot_general
    """Of units and weights."""

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        key: PRNGKeyArray | None,
        axis_name: str | None = None,
    ) -> Float[Array, "batch classes"]:
        """Logits; `key` None means evaluation (no dropout)."""
        units = images.reshape(len(images), -1)
        for layer, width in enumerate((*self.hidden, self.num_classes)):
            rate = self.hidden_dropout if layer else self.input_dropout
            if key is not None and rate > 0:
                units = dropout(jax.random.fold_in(key, layer), units, rate, axis_name)
            name = f"dense_{layer}"
            units = (
                nn.Dense(
                    width,
                    precision=FLOAT32,
                    kernel_init=nn.initializers.he_normal(),
                    dot_general=self.product,
                    name=name,
                )(units)
                if layer
                else InputDense(width, self.product, name=name)(units)
            )
            if layer < len(self.hidden):
                units = nn.relu(units)
        return units


class Cnn(nn.Module):
    """Stages of 3×3 convolutions, each ended by 2×2 max pooling and dropout; then a hidden dense layer, then logits.

    Every convolution and the hidden layer is followed by batch norm (momentum 0.99, eps 1e-3: Keras's defaults) and
    LeakyReLU(0.1). Kernels start from Glorot's uniform distribution, biases at 0, as in Keras.
    """

    channels: tuple[tuple[int, ...], ...]
    units: int
    num_classes: int
    rounded: bool = False
    """Operands of all products in bfloat16."""

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        train: bool,
        key: PRNGKeyArray | None = None,
        axis_name: str | None = None,
    ) -> Float[Array, "batch classes"]:
        """Logits. In training with the statistics of the batch, over all of `axis_name`, and dropout if there is a
        key; else with the statistics collected."""
        product = bfloat16_product if self.rounded else jax.lax.dot_general
        init = nn.initializers.glorot_uniform()

        def normalised(units: Array, name: str) -> Array:
            axis = None if self.is_initializing() else axis_name
            norm = nn.BatchNorm(not train, momentum=MOMENTUM, epsilon=1e-3, axis_name=axis, name=f"norm_{name}")
            return nn.leaky_relu(norm(units), LEAK)

        def dense(units: Array, width: int, name: str, biased: bool = True) -> Array:
            layer = nn.Dense(width, biased, precision=FLOAT32, kernel_init=init, dot_general=product, name=name)
            return layer(units)

        # Biases that batch norm takes away again are left out in training. They start at 0 and their gradient is 0,
        # or would be without rounding, from which Adam makes steps as large as any; and they cost a tenth of the step.
        biased, units, layer = not train, images, 0
        for stage, widths in enumerate(self.channels):
            for width in widths:
                kernel = self.param(f"kernel_{layer}", init, (3, 3, units.shape[-1], width))
                bias = self.param(f"bias_{layer}", nn.initializers.zeros, (width,))
                units = convolve(units, kernel, self.rounded)
                units = normalised(units + bias[None, None, None] if biased else units, f"{layer}")
                layer += 1
            units = max_pool(units)
            if key is not None and train:
                units = dropout(jax.random.fold_in(key, stage), units, CNN_DROPOUT, axis_name)
        units = normalised(dense(units.reshape(len(units), -1), self.units, "hidden", biased), "hidden")
        return dense(units, self.num_classes, "logits")


@functools.cache
def network(config: TrainConfig, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """The network that `config.network` names, `mlp` or `cnn`; one for equal arguments, so that it is compiled once."""
    return (mlp if config.network == "mlp" else cnn)(config, input_shape, num_classes)


def mlp(config: TrainConfig, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """A multi-layer perceptron of `config.hidden` ReLU units with `config`'s dropout.

    Args:
        config: hidden widths and dropout rates.
        input_shape: (height, width, channels) of an image.
        num_classes: number of logits.
    """
    product = bfloat16_product if config.precision == "bfloat16" else jax.lax.dot_general
    module = Mlp(config.hidden, num_classes, config.input_dropout, config.hidden_dropout, product)

    def init(key: PRNGKeyArray) -> tuple[Params, ModelState]:
        return module.init(key, jnp.zeros((1, *input_shape)), None)["params"], {}

    def apply(
        params: Params,
        model_state: ModelState,
        images: Float[Array, "batch height width channels"],
        train: bool,
        key: PRNGKeyArray | None = None,
        axis_name: str | None = None,
    ) -> tuple[Float[Array, "batch classes"], ModelState]:
        logits: Any = module.apply({"params": params}, images, key if train else None, axis_name)
        return logits, model_state

    def bound_norms(params: Params, bound: float) -> Params:
        bounded = dict(params)
        for layer in range(len(config.hidden)):
            kernel = params[f"dense_{layer}"]["kernel"]
            norms = jnp.linalg.norm(kernel, axis=0 if layer else 1, keepdims=True)
            factor = jnp.minimum(1.0, bound / jnp.maximum(norms, 1e-12))
            bounded[f"dense_{layer}"] = {**params[f"dense_{layer}"], "kernel": kernel * factor}
        return bounded

    sizes = (int(np.prod(input_shape)), *config.hidden, num_classes)
    products = tuple(before * after for before, after in itertools.pairwise(sizes))
    return Model(init, apply, bound_norms, input_shape, num_classes, products, side_by_side=True)


def cnn(config: TrainConfig, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """The convolutional network of `STAGES` that `config.network` names, `Cnn`.

    Its hidden dense layer has `config.hidden[0]` units, and every layer's channels are in the same proportion to those
    at full width. `model_state` holds the running mean and variance of every batch norm.

    Args:
        config: network, width and precision.
        input_shape: (height, width, channels) of an image.
        num_classes: number of logits.

    Raises:
        BadInput: images that three poolings leave nothing of; a width that leaves a layer without channels.
    """
    full, (units,) = STAGES[config.network], config.hidden
    require(
        min(input_shape[:2]) >= 8,
        f"images of {input_shape[0]}×{input_shape[1]} pixels are too small for the {config.network} network: its three "
        "poolings need 8×8 or more",
    )
    channels = tuple(tuple(round(width * units / full.units) for width in stage) for stage in full.channels)
    fewest = full.units // full.channels[0][0] // 2 + 1
    require(
        channels[0][0] > 0,
        f"{units} hidden units are too few for the {config.network} network: no channel would be left in its first "
        f"layer, which has {full.channels[0][0]} at {full.units} units; give {fewest} units or more",
    )
    module = Cnn(channels, units, num_classes, config.precision == "bfloat16")

    def init(key: PRNGKeyArray) -> tuple[Params, ModelState]:
        variables = dict(module.init(key, jnp.zeros((1, *input_shape)), False))
        return variables.pop("params"), variables

    def apply(
        params: Params,
        model_state: ModelState,
        images: Float[Array, "batch height width channels"],
        train: bool,
        key: PRNGKeyArray | None = None,
        axis_name: str | None = None,
    ) -> tuple[Float[Array, "batch classes"], ModelState]:
        variables = {"params": params, **model_state}
        if not train:
            logits: Any = module.apply(variables, images, False)
            return logits, model_state
        found: Any = module.apply(variables, images, True, key, axis_name, mutable=["batch_stats"])
        return found[0], dict(found[1])

    def bound_norms(params: Params, bound: float) -> Params:
        raise NotImplementedError("TrainConfig refuses max_norm for it")

    products, (height, width, before) = [], input_shape
    for stage in channels:
        for after in stage:
            # Of the nine neighbours of a pixel only those inside the image: 3n − 2 along n pixels.
            products.append((3 * height - 2) * (3 * width - 2) * before * after)
            before = after
        height, width = height // 2, width // 2
    products += [height * width * before * units, units * num_classes]
    return Model(init, apply, bound_norms, input_shape, num_classes, tuple(products), side_by_side=False)


def batch_statistics(
    model: Model,
    params: Params,
    model_state: ModelState,
    images: Float[Array, "batch height width channels"],
    key: PRNGKeyArray | None = None,
) -> ModelState:
    """Mean and variance of one batch in every batch norm, in training mode: `(s′ − m·s)/(1 − m)`, m = `MOMENTUM`.

    Args:
        model: the network.
        params: its parameters.
        model_state: running statistics s, which the batch makes s′; of zeros, nothing is lost to rounding.
        images: the batch.
        key: of the dropout masks; None: no dropout.
    """
    _, moved = model.apply(params, model_state, images, True, key)
    return jax.tree.map(lambda new, old: (new - MOMENTUM * old) / (1 - MOMENTUM), moved, model_state)


def variables(params: Params, model_state: ModelState) -> Any:
    """What is kept of a network, as one tree: its parameters; with `model_state` beside them where it has any."""
    return {"params": params, "model_state": model_state} if jax.tree.leaves(model_state) else params


def taken(model: Model, kept: Any) -> tuple[Params, ModelState]:
    """(params, model_state) of what `variables` made."""
    stateless = not jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))[1])
    return (kept, {}) if stateless else (kept["params"], kept["model_state"])


def parameter_count(model: Model) -> int:
    """Number of trainable parameters plus batch statistics."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def forward_flops(model: Model) -> float:
    """Floating-point operations of a forward pass on one image: `2·Σ m`, the products of its layers (`step_flops`)."""
    return 2.0 * sum(model.products)


def step_flops(model: Model, images: int) -> float:
    """Floating-point operations of one training step on so many images: the products of its layers only.

    A layer of `m` multiplications costs `2·m` an image forward, as much for its kernel's gradient, and as much for its
    input's, except that nobody needs the gradient of the images: `2·images·(3·Σ m − m₀)`. A dense layer has `m =
    in·out`, a 3×3 convolution `m = (3·height − 2)(3·width − 2)·in·out` (zeros around the image are not counted).
    """
    return 2.0 * images * (3 * sum(model.products) - model.products[0])
