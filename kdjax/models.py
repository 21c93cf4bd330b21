"""Networks behind `init` and `apply`; the only room that knows flax."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float, PRNGKeyArray

from kdjax.config import TrainConfig

FLOAT32 = jax.lax.Precision.HIGHEST
"""Products of float32 operands as such: by default, GPUs and TPUs round them to 10 bits and fewer."""

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


def bfloat16_product(
    units: Float[Array, "batch inputs"], kernel: Float[Array, "rows columns"], dimension_numbers: Any, **_: Any
) -> Float[Array, "batch outputs"]:
    """`lax.dot_general` of a batch and a kernel (of either layout) with operands rounded to bfloat16, sums in float32.

    The products of its gradient are of such operands too.
    """
    (_, (axis,)), _ = dimension_numbers
    return _rounded_product(units, kernel, axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rounded_product(units: Array, kernel: Array, axis: int) -> Array:
    return _rounded_product_forward(units, kernel, axis)[0]


def _rounded_product_forward(units: Array, kernel: Array, axis: int) -> tuple[Array, tuple[Array, Array]]:
    rounded = units.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _float32_sums(*rounded, 1, axis), rounded


def _rounded_product_backward(axis: int, rounded: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    units, kernel = rounded
    gradient = gradient.astype(jnp.bfloat16)
    of_kernel = _float32_sums(_turned(units), gradient, 1, 0) if axis == 0 else _float32_sums(gradient, units, 0, 0)
    return _float32_sums(gradient, kernel, 1, 1 - axis), of_kernel


_rounded_product.defvjp(_rounded_product_forward, _rounded_product_backward)


def _turned(units: Array) -> Array:
    if jax.default_backend() != "cpu":
        return units.T
    # XLA's CPU library has no bfloat16 product that sums over the rows of both; it would go back to float32 unless the
    # rows are really turned into columns.
    return with_layout_constraint(units.T, Layout((0, 1)))


def _float32_sums(left: Array, right: Array, left_axis: int, right_axis: int) -> Array:
    return jax.lax.dot_general(
        left, right, (((left_axis,), (right_axis,)), ((), ())), preferred_element_type=jnp.float32
    )


def dropout(
    key: PRNGKeyArray, units: Float[Array, "batch units"], rate: float, axis_name: str | None = None
) -> Float[Array, "batch units"]:
    """Zeroes each unit with probability `rate` and divides the rest by the probability of being kept.

    The mask takes one random byte a unit (four from each 32-bit draw: threefry is dear on a CPU), so the rate is
    rounded to a multiple of 1/256, and the division uses the rounded rate. With `axis_name`, the mask is drawn per
    global example (see `transforms.per_example`).
    """
    dropped = round(rate * 256)
    batch, width = units.shape
    rows = batch if axis_name is None else batch * jax.lax.axis_size(axis_name)
    words = jax.random.bits(key, (rows, -(-width // 4)), jnp.uint32)
    if axis_name is not None:
        words = jax.lax.dynamic_slice_in_dim(words, jax.lax.axis_index(axis_name) * batch, batch)
    random_bytes = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(batch, -1)[:, :width]
    return jnp.where(random_bytes >= dropped, units * (256 / (256 - dropped)), 0.0)


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

    return Model(init, apply, bound_norms, input_shape, num_classes)


def parameter_count(model: Model) -> int:
    """Number of trainable parameters plus batch statistics."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def forward_flops(model: Model, hidden: tuple[int, ...]) -> float:
    """Floating-point operations of an MLP's forward pass on one image: `2·Σ in·out`."""
    sizes = (int(np.prod(model.input_shape)), *hidden, model.num_classes)
    return 2.0 * sum(before * after for before, after in itertools.pairwise(sizes))


def step_flops(model: Model, hidden: tuple[int, ...], images: int) -> float:
    """Floating-point operations of one training step of an MLP on so many images: its matrix products only.

    Each layer costs `2·in·out` an image forward, as much for the weights' gradient, and as much for the units'
    gradient, except that nobody needs the gradient of the input: `2·images·(3·Σ in·out − in₀·out₀)`.
    """
    sizes = (int(np.prod(model.input_shape)), *hidden, model.num_classes)
    products = [before * after for before, after in itertools.pairwise(sizes)]
    return 2.0 * images * (3 * sum(products) - products[0])
