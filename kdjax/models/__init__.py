"""Networks behind `init` and `apply`; the only package that knows flax.

A network of your own needs no change here: `kdjax.config.register_network(NetworkSpec(...))`, whose `build` returns a
`Model`.
"""

import functools
import pkgutil
from collections.abc import Callable
from typing import Any

from kdjax.config import TrainConfig, network_spec
from kdjax.errors import require
from kdjax.models.flops import forward_flops, step_flops
from kdjax.models.model import (
    Model,
    ModelState,
    Params,
    batch_statistics,
    pack_variables,
    parameter_count,
    shapes,
    unpack_variables,
    variable_shapes,
    with_mirrored_views,
)

__all__ = [
    "Model",
    "ModelState",
    "Params",
    "batch_statistics",
    "forward_flops",
    "network",
    "pack_variables",
    "parameter_count",
    "shapes",
    "step_flops",
    "unpack_variables",
    "variable_shapes",
]


def network(config: TrainConfig, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """The network that `config` describes; the same object for equal arguments, so that it is compiled once.
    `input_shape` is (height, width, channels) of an image, or (d,) of features; `num_classes` the number of logits.
    `BadInput` for an unknown network, or one that cannot be built so."""
    return _built(network_spec(config.network).build, config, input_shape, num_classes)


@functools.cache  # by `build` too: a network may be registered again
def _built(build: str | Callable[..., Any], *arguments: Any) -> Model:
    model: Model = (pkgutil.resolve_name(build) if isinstance(build, str) else build)(*arguments)
    config, input_shape, _ = arguments
    bounded = f"the {config.network} network has no max-norm: give --max-norm 0"
    require(model.bound_norms is not None or not config.max_norm, bounded)
    single = f"batches of one image are not allowed for the {config.network} network, which has batch norm"
    require(not model.momentum or config.batch_size > 1, f"{single}: give --batch-size 2 or more")
    if not config.mirrored_views:
        return model
    require(len(input_shape) == 3, "--mirrored-views is for images, and these are features: leave it out")
    return with_mirrored_views(model)
