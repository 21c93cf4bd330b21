"""The multi-layer perceptron."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from kdjax.arrays import Images, Logits
from kdjax.config import TrainConfig
from kdjax.layers import dropout, product
from kdjax.models.model import Model, Params, functions_of


class InputDense(nn.Module):
    """A dense layer that stores its kernel as `[out, in]`.

    In a block, settings share the images but not the weights. Stacked as `[setting, out, in]`, the gradients of all
    settings are one product, `[setting · out, batch] × [batch, in]`, already in the order in which they are stored.
    """

    features: int
    product: Callable[..., Array]
    """Of inputs and kernel."""

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch inputs"]) -> Float[Array, "batch features"]:
        init = nn.initializers.he_normal(in_axis=1, out_axis=0)
        kernel = self.param("kernel", init, (self.features, inputs.shape[1]))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return self.product(inputs, kernel, (((1,), (1,)), ((), ()))) + bias[None]


class Mlp(nn.Module):
    """ReLU layers of the given widths, then a linear layer of logits; in training with dropout before each layer."""

    hidden: tuple[int, ...]
    num_classes: int
    input_dropout: float = 0.0
    hidden_dropout: float = 0.0
    product: Callable[..., Array] = product
    """Of units and weights, called like `jax.lax.dot_general`."""

    @nn.compact
    def __call__(
        self, images: Images, train: bool, key: PRNGKeyArray | None = None, axis_name: str | None = None
    ) -> Logits:
        """Logits; without a key, or in evaluation, there is no dropout."""
        units = images.reshape(len(images), -1)
        for layer, width in enumerate((*self.hidden, self.num_classes)):
            rate = self.hidden_dropout if layer else self.input_dropout
            if train and key is not None and rate > 0:
                units = dropout(jax.random.fold_in(key, layer), units, rate, axis_name)
            options: dict[str, Any] = {"kernel_init": nn.initializers.he_normal(), "dot_general": self.product}
            if layer:
                units = nn.Dense(width, name=f"dense_{layer}", **options)(units)
            else:
                units = InputDense(width, self.product, name="dense_0")(units)
            if layer < len(self.hidden):
                units = nn.relu(units)
        return units


def mlp(config: TrainConfig, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """A multi-layer perceptron of `config.hidden` ReLU units with `config`'s dropout and precision."""
    own = functools.partial(product, rounded=True) if config.precision == "bfloat16" else product
    module = Mlp(config.hidden, num_classes, config.input_dropout, config.hidden_dropout, own)

    def bound_norms(params: Params, bound: float) -> Params:
        bounded = dict(params)
        for layer in range(len(config.hidden)):
            kernel = params[f"dense_{layer}"]["kernel"]
            norms = jnp.linalg.norm(kernel, axis=0 if layer else 1, keepdims=True)
            factor = jnp.minimum(1.0, bound / jnp.maximum(norms, 1e-12))
            bounded[f"dense_{layer}"] = {**params[f"dense_{layer}"], "kernel": kernel * factor}
        return bounded

    return Model(*functions_of(module, input_shape), bound_norms, input_shape, num_classes, side_by_side=True)
