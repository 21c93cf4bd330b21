"""`jax.jit` with the compiler options that suit this machine."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

YNN = "xla_cpu_experimental_ynn_fusion_type"
CPU_OPTIONS = {YNN: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
"""What XLA may give to its library of kernels on a CPU: products and sums. jaxlib 0.10.2 also gives it convolutions,
for which XLA's own code is faster."""


def jit(function: Callable[..., Any], hurried: bool = False, **arguments: Any) -> Callable[..., Any]:
    """`jax.jit` of a whole program that trains or evaluates networks, with `compiler_options`. Like any function with
    compiler options it stands alone: inside another `jit` or under `grad`, JAX refuses it. `hurried` compiles without
    optimization on a CPU, for what runs once, such as the initial weights."""
    options: dict[str, Any] | None = compiler_options()
    if hurried and options:
        options = {**options, "xla_backend_optimization_level": 0}
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
