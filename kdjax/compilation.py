"""`jax.jit` with the compiler options that suit this machine."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax

YNN = "xla_cpu_experimental_ynn_fusion_type"
CPU_OPTIONS = {YNN: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
"""What XLA may give to its library of kernels on a CPU: products and sums. jaxlib 0.10.2 also gives it convolutions,
for which XLA's own code is faster."""


HURRIED = {"xla_backend_optimization_level": 0}
"""On a CPU, for what runs once, such as the initial weights: compiled without optimization."""
WIDE = {"xla_cpu_prefer_vector_width": "512"}
"""On a CPU, for what goes through all parameters at each step: the longest vectors, in bits, where XLA prefers 256."""


def jit(function: Callable[..., Any], more: Mapping[str, Any] | None = None, **arguments: Any) -> Callable[..., Any]:
    """`jax.jit` of a whole program that trains or evaluates networks, with `compiler_options` and `more` of them. Like
    any function with compiler options it stands alone: inside another `jit` or under `grad`, JAX refuses it."""
    options: dict[str, Any] | None = compiler_options()
    if options:
        options = {**options, **(more or {})}
    compiled: Callable[..., Any] = jax.jit(function, compiler_options=options, **arguments)
    return compiled


@functools.cache
def compiler_options() -> dict[str, str] | None:
    """`CPU_OPTIONS` where JAX's default backend is the CPU and its compiler knows them; else, or where the user's
    `XLA_FLAGS` set the same, None."""
    if jax.default_backend() != "cpu" or YNN in os.environ.get("XLA_FLAGS", ""):
        return None
    try:
        jax.jit(lambda: 0, compiler_options=CPU_OPTIONS)()
    except jax.errors.JaxRuntimeError as error:
        if YNN not in str(error):
            raise
        return None  # another version of XLA
    return CPU_OPTIONS
