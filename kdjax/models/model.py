"""A network as two pure functions, its variables as one tree, and its batch statistics."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from kdjax.arrays import Images, Logits
from kdjax.compilation import fixed_numerics

Params = Any
ModelState = Any


class Model(NamedTuple):
    """A network as two pure functions, and the shapes of its inputs and outputs."""

    init: Callable[[PRNGKeyArray], tuple[Params, ModelState]]
    """key → (params, model_state); the latter changes without a gradient (batch statistics) and is often empty."""
    apply: Callable[..., tuple[Logits, ModelState]]
    """(params, model_state, images, train, key=None, axis_name=None) → (logits, model_state). Without a key, training
    has no dropout."""
    bound_norms: Callable[[Params, float], Params] | None
    """(params, bound) → params whose hidden units' incoming weights have L2 norms of at most `bound`; None where the
    network refuses a recipe with a bound."""
    input_shape: tuple[int, ...]
    """(height, width, channels) of an image, or (d,) of features."""
    num_classes: int
    """Logits an image."""
    side_by_side: bool
    """Whether K such networks are trained as one stack (`jax.vmap`), or one after another. A stack of convolutions with
    K kernels is a grouped convolution, for which XLA has no fast program."""
    momentum: float = 0.0
    """Of running batch statistics: the share of the old ones that remains after a batch; 0 where there are none. Where
    there are some, batches of one image are refused."""
    prepare: Callable[[Any], Params] | None = None
    """Training images, on the host or a device → the parameters, by name, that it takes from them before the first step
    in place of the initial ones; None: there are none. nesterov leaves those called `whitening` as they are; its slow
    weights of others would begin with the initial ones."""


def functions_of(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`Model.init` and `Model.apply` of a flax module, called as (images, train, key, axis_name)."""

    @fixed_numerics()
    def init(key: PRNGKeyArray) -> tuple[Params, ModelState]:
        variables = dict(module.init(key, jnp.zeros((1, *input_shape)), False))
        return variables.pop("params"), variables

    def apply(
        params: Params, model_state: ModelState, images: Images, train: bool, key: Any = None, axis_name: Any = None
    ) -> tuple[Logits, ModelState]:
        variables = {"params": params, **model_state}
        if not train:
            logits: Any = module.apply(variables, images, False)
            return logits, model_state
        outputs: Any = module.apply(variables, images, True, key, axis_name, mutable=["batch_stats"])
        return outputs[0], dict(outputs[1])

    return init, apply


def with_mirrored_views(model: Model) -> Model:
    """The network whose logits in evaluation are the mean of those of an image and of its mirror image."""

    def apply(
        params: Params, model_state: ModelState, images: Images, train: bool, *rest: Any, **named: Any
    ) -> tuple[Logits, ModelState]:
        logits, after = model.apply(params, model_state, images, train, *rest, **named)
        if train:
            return logits, after
        return (logits + model.apply(params, model_state, images[:, :, ::-1], False)[0]) / 2, after

    return model._replace(apply=apply)


def batch_statistics(
    model: Model, params: Params, model_state: ModelState, images: Images, key: PRNGKeyArray | None = None
) -> ModelState:
    """Mean and variance of one batch in every batch norm, in training mode: `(s′ − m·s)/(1 − m)`, m the momentum.

    `model_state` holds the running statistics s, which the batch changes to s′; with zeros, nothing is lost to
    rounding. `key` is that of the dropout masks; None: no dropout.
    """
    momentum, (_, updated) = model.momentum, model.apply(params, model_state, images, True, key)
    return jax.tree.map(lambda new, old: (new - momentum * old) / (1 - momentum), updated, model_state)


def shapes(model: Model) -> Any:
    """Shapes and dtypes of what `model.init` returns: (params, model_state)."""
    return jax.eval_shape(model.init, jax.random.key(0))


def pack_variables(params: Params, model_state: ModelState) -> Any:
    """All variables of a network as one tree: its parameters, with `model_state` where it has any."""
    return {"params": params, "model_state": model_state} if jax.tree.leaves(model_state) else params


def unpack_variables(model: Model, variables: Any) -> tuple[Params, ModelState]:
    """(params, model_state) of what `pack_variables` returned."""
    stateless = not jax.tree.leaves(shapes(model)[1])
    return (variables, {}) if stateless else (variables["params"], variables["model_state"])


def variable_shapes(model: Model, count: int) -> Any:
    """Shapes and dtypes of the packed variables of a stack of `count` such networks."""
    packed = pack_variables(*shapes(model))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), packed)


def parameter_count(model: Model) -> int:
    """Number of parameters, frozen ones too, plus batch statistics."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes(model)))
