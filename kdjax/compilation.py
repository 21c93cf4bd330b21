"""`jax.jit` with the compiler options that suit this machine, and numbers that no option of JAX changes."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jaxtyping import Array, Int, PRNGKeyArray

YNN = "xla_cpu_experimental_ynn_fusion_type"
CPU_OPTIONS = {YNN: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
"""What XLA may give to its library of kernels on a CPU: products and sums. jaxlib 0.10.2 also gives it convolutions,
for which XLA's own code is faster."""
HURRIED = {"xla_backend_optimization_level": 0}
"""On a CPU, for what runs once, such as the initial weights: compiled without optimization."""
WIDE = {"xla_cpu_prefer_vector_width": "512"}
"""On a CPU, for the steps of multi-layer perceptrons: vectors of 512 bits, where the processor has them; XLA's default
is 256."""


@contextlib.contextmanager
def fixed_numerics() -> Iterator[None]:
    """While it lasts, and in a function that it decorates, results do not depend on JAX's options of precision and of
    random keys: float32 (whatever `jax_enable_x64` says), threefry keys, and the usual promotion of types."""
    with (
        jax.enable_x64(False),
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
        jax.numpy_dtype_promotion("standard"),
        jax.default_matmul_precision(None),
    ):
        yield


def key(seed: int | Int[Array, ""]) -> PRNGKeyArray:
    """`jax.random.key(seed)`, whatever `jax_random_seed_offset` says: JAX adds it to every seed, and `fixed_numerics`
    cannot set it aside."""
    return jax.random.key(seed - jax.config.jax_random_seed_offset)  # type: ignore[attr-defined]


def jit(function: Callable[..., Any], more: Mapping[str, Any] | None = None, **arguments: Any) -> Callable[..., Any]:
    """`jax.jit` of a whole program that trains or evaluates networks, with `compiler_options` and `fixed_numerics`.
    Like any function with compiler options it stands alone: inside another `jit` or under `grad`, JAX refuses it."""
    compiled = jax.jit(function, compiler_options=compiler_options(more), **arguments)
    fixed = fixed_numerics()(compiled)
    fixed.lower = fixed_numerics()(compiled.lower)  # type: ignore[method-assign]
    return fixed


def compiler_options(more: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Those of `CPU_OPTIONS` and `more` that the compiler knows and the user's `XLA_FLAGS` do not set; None where none
    is left, or JAX's default backend is not the CPU."""
    if jax.default_backend() != "cpu":
        return None
    wanted, flags = {**CPU_OPTIONS, **(more or {})}, os.environ.get("XLA_FLAGS", "")
    options = {name: value for name, value in wanted.items() if name not in flags and _known(name, value)}
    return options or None


@functools.cache
def _known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value})()
    except jax.errors.JaxRuntimeError as error:
        if name not in str(error):
            raise
        return False  # another version of XLA
    return True
