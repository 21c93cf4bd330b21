"""Networks behind `init` and `apply`; the only package that knows flax.

A network of your own needs no change here: `kdjax.config.register_network(NetworkSpec(...))`, whose `build` returns a
`Model`.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from kdjax.config import TrainConfig, network_spec
from kdjax.models.flops import forward_flops, step_flops
from kdjax.models.model import (
    Model,
    ModelState,
    Params,
    batch_statistics,
    pack_variables,
    parameter_count,
    unpack_variables,
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
    "step_flops",
    "unpack_variables",
]


def network(config: TrainConfig, input_shape: tuple[int, ...], num_classes: int) -> Model:
    """The network that `config.network` names; the same object for equal arguments, so that it is compiled once.

    Args:
        config: how it is built.
        input_shape: (height, width, channels) of an image.
        num_classes: number of logits.

    Raises:
        BadInput: an unknown network, or one that cannot be built so.
    """
    return _built(network_spec(config.network).build, config, input_shape, num_classes)


@functools.cache
def _built(
    build: str | Callable[..., Any], config: TrainConfig, input_shape: tuple[int, ...], num_classes: int
) -> Model:
    if isinstance(build, str):
        module, _, name = build.partition(":")
        return getattr(importlib.import_module(module), name)(config, input_shape, num_classes)
    return build(config, input_shape, num_classes)
