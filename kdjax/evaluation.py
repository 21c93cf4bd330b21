"""Networks in evaluation mode: a stack of K of one architecture, on any number of images."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from kdjax import transforms
from kdjax.compilation import jit
from kdjax.errors import require
from kdjax.models import Model, ModelState, Params

EVALUATION_BATCH = 1000
"""Images scored at a time: bounds the memory of an evaluation."""


@functools.lru_cache(maxsize=64)  # models of one's own are let go in time
def evaluator(model: Model) -> Callable[[Params, ModelState, Any], Float[Array, "settings images classes"]]:
    """(params, model_state, images) → logits in evaluation mode of a stack of K networks; no image is left out.

    `EVALUATION_BATCH` images at a time, by one compiled program whatever their number (fewer: one for each number). The
    same model has the same evaluator.
    """

    @jit
    def some(
        params: Params, model_state: ModelState, batch: UInt8[Array, "batch height width channels"]
    ) -> Float[Array, "settings batch classes"]:
        def one(params: Params, model_state: ModelState) -> Float[Array, "batch classes"]:
            return model.apply(params, model_state, transforms.to_float(batch), False)[0]

        return for_each(model, one)(params, model_state)

    def logits(params: Params, model_state: ModelState, images: Any) -> Float[Array, "settings images classes"]:
        count = len(images)
        require(count > 0, "there are no images to evaluate: give one or more")
        size, scored = min(EVALUATION_BATCH, count), []
        params, model_state, images = jax.tree.map(jnp.asarray, (params, model_state, images))  # once for all batches
        for first in range(0, count, size):
            begin = min(first, count - size)  # the last batch is as large as the others
            batch = jax.lax.dynamic_slice_in_dim(images, begin, size)
            scored.append(some(params, model_state, batch)[:, first - begin :])
        return jnp.concatenate(scored, axis=1)

    return logits


def for_each(model: Model, function: Callable[..., Any], unrolled: int = 1) -> Callable[..., Any]:
    """`function` of one network, for a stack of K along the leading axes.

    Side by side (`vmap`); or, for models that do not gain by it, one after another, `unrolled` of them in one pass:
    independent of each other in one program, they keep all cores busy.
    """
    if model.side_by_side:
        return jax.vmap(function)

    def each(*stack: Any) -> Any:
        settings = len(jax.tree.leaves(stack)[0])
        few = divisor(settings, unrolled)
        groups = jax.tree.map(lambda leaf: leaf.reshape(-1, few, *leaf.shape[1:]), stack)

        def one(group: Any, index: int) -> Any:
            return function(*jax.tree.map(lambda leaf: leaf[index], group))

        def some(group: Any) -> Any:
            done = [one(group, index) for index in range(few)]
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *done)

        return jax.tree.map(lambda leaf: leaf.reshape(settings, *leaf.shape[2:]), jax.lax.map(some, groups))

    return each


def divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is no larger than `most`."""
    return max(divisor for divisor in range(1, number + 1) if number % divisor == 0 and divisor <= most)
