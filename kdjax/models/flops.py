"""Floating-point operations of a network, counted in the program that JAX traces.

Counted are the multiplications and additions of matrix products and convolutions that the result depends on, as the
layers on this backend are written: not element-wise work, and not multiplications with the zeros around an image in a
convolution. Two things in `kdjax.layers` are written as matrix products over all nine neighbours of a pixel, and
so count those zeros: a convolution of at most 4 channels, and, on a CPU, the gradient of a convolution's kernel.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import partial_eval

from kdjax.models.model import Model, shapes


def forward_flops(model: Model) -> float:
    """Floating-point operations of the forward pass of one image, in evaluation: for an MLP, `2·Σ in·out`."""
    return 2.0 * _multiplications(model, train=False)


def step_flops(model: Model, images: int) -> float:
    """Floating-point operations of one training step on so many images: logits, and gradients of the parameters.

    For an MLP whose layers have `m = in·out` weights, `2·images·(3·Σ m − m₀)`: each layer has its own product, that of
    its kernel's gradient and that of its input's gradient, which the first layer does not need.
    """
    return 2.0 * images * _multiplications(model, train=True)


@functools.cache
def _multiplications(model: Model, train: bool) -> int:
    """In the products of one image."""

    def logits(params: Any, model_state: Any, image: Any) -> Any:
        return model.apply(params, model_state, image, train)[0]

    def total(*arguments: Any) -> Any:
        return jnp.sum(logits(*arguments))

    image = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    traced = jax.make_jaxpr(jax.value_and_grad(total) if train else logits)(*shapes(model), image).jaxpr
    # A hand-written gradient computes those of all its inputs; what is not needed is dropped, as XLA does.
    needed, _ = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
    return count(needed)


def count(jaxpr: core.Jaxpr) -> int:
    """Multiplications in the products of a jaxpr and of those inside it. The body of a `scan` counts once a step, of a
    `while` once; of the branches of a `cond` the most expensive counts."""
    total = 0
    for equation in jaxpr.eqns:
        inner = [count(each) for each in core.jaxprs_in_params(equation.params)]
        match equation.primitive.name:
            case "dot_general":
                total += _of_product(equation)
            case "conv_general_dilated":
                total += _of_convolution(equation)
            case "scan":
                total += equation.params["length"] * sum(inner)
            case "cond":
                total += max(inner)
            case _:
                total += sum(inner)
    return total


def _of_product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, _ = equation.invars
    return math.prod(equation.outvars[0].aval.shape) * math.prod(left.aval.shape[axis] for axis in contracted)


def _of_convolution(equation: Any) -> int:
    """Outputs × input channels of a kernel × taps, without the taps that lie on padding or between dilated pixels."""
    params, arrays = equation.params, (*equation.invars, *equation.outvars)
    specs = zip(arrays, params["dimension_numbers"], strict=True)
    # Each as batch or output channels, channels, height, width.
    inputs, kernel, outputs = ([array.aval.shape[axis] for axis in spec] for array, spec in specs)
    multiplications = outputs[0] * outputs[1] * kernel[1]
    for axis, (low, _) in enumerate(params["padding"]):
        stride, apart = params["window_strides"][axis], params["lhs_dilation"][axis]
        taps = [tap * params["rhs_dilation"][axis] - low for tap in range(kernel[2 + axis])]
        positions = (place * stride + tap for place in range(outputs[2 + axis]) for tap in taps)
        pixels = inputs[2 + axis] * apart
        multiplications *= sum(position % apart == 0 and 0 <= position < pixels for position in positions)
    return multiplications
