"""Networks in evaluation mode: a stack of K of one architecture, on any number of images."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax import transforms
from kdjax.arrays import HostLogits, Logits, StoredImages
from kdjax.compilation import jit
from kdjax.errors import require
from kdjax.layers import divisor
from kdjax.models import Model, ModelState, Params

EVALUATION_BATCH = 1000
"""Images evaluated at a time: bounds the memory of an evaluation."""
StackLogits = Float[Array, "settings images classes"]


@functools.lru_cache(maxsize=64)
def evaluator(model: Model) -> Callable[[Params, ModelState, Any], StackLogits]:
    """(params, model_state, images) → logits in evaluation mode of a stack of K networks; no image is left out. Images
    of another shape than the network's are `BadInput`.

    `EVALUATION_BATCH` images at a time, by one compiled program for any larger number, and one for each smaller. The
    same model has the same evaluator."""

    @jit
    def batch_logits(
        params: Params, model_state: ModelState, batch: StoredImages
    ) -> Float[Array, "settings batch classes"]:
        def one(params: Params, model_state: ModelState) -> Logits:
            return model.apply(params, model_state, transforms.to_float(batch), False)[0]

        return for_each(model, one)(params, model_state)

    def logits(params: Params, model_state: ModelState, images: Any) -> StackLogits:
        count, shape = len(images), tuple(images.shape[1:])
        require(count > 0, "there are no images to evaluate: give one or more")
        fits = f"images of shape {shape} do not fit a network for {tuple(model.input_shape)}"
        needed = ", ".join(map(str, ("images", *model.input_shape)))
        require(shape == tuple(model.input_shape), f"{fits}: give an array [{needed}]")
        size, batches = min(EVALUATION_BATCH, count), []
        params, model_state, images = jax.tree.map(jnp.asarray, (params, model_state, images))  # once for all batches
        for first in range(0, count, size):
            begin = min(first, count - size)  # the last batch is as large as the others
            batch = jax.lax.dynamic_slice_in_dim(images, begin, size)
            batches.append(batch_logits(params, model_state, batch)[:, first - begin :])
        return jnp.concatenate(batches, axis=1)

    return logits


def logits_of(model: Model, params: Params, model_state: ModelState, images: Any) -> HostLogits:
    """Logits `[images, classes]` of one network whose leaves have a leading axis of 1; otherwise as `evaluator`."""
    return np.asarray(evaluator(model)(params, model_state, images))[0]


def for_each(model: Model, function: Callable[..., Any], unrolled: int = 1) -> Callable[..., Any]:
    """`function` of one network, for a stack of K along the leading axes. Side by side (`vmap`); or, for models that do
    not gain by it, one after another, `unrolled` of them in one pass: independent of each other in one program, they
    keep all cores busy."""
    if model.side_by_side:
        return jax.vmap(function)

    def each(*stack: Any) -> Any:
        settings = len(jax.tree.leaves(stack)[0])
        size = divisor(settings, unrolled)
        groups = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), stack)

        def of_group(group: Any) -> Any:
            results = [function(*jax.tree.map(operator.itemgetter(index), group)) for index in range(size)]
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

        return jax.tree.map(lambda leaf: leaf.reshape(settings, *leaf.shape[2:]), jax.lax.map(of_group, groups))

    return each
