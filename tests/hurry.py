"""Compiling with little optimization, which takes a third of the time: for tests that run once what they compile."""

import functools
import os

import jax
import pytest

EMITTERS = "xla_cpu_use_fusion_emitters"
"""XLA's newer code for fused operations on a CPU: twice as long to compile as the older."""
patches = pytest.MonkeyPatch()


@functools.cache
def known() -> bool:
    """Whether this XLA, on a CPU, knows the option."""
    try:
        jax.jit(lambda: 0, compiler_options={EMITTERS: False})()
    except jax.errors.JaxRuntimeError:
        return False
    return jax.default_backend() == "cpu"


def switch(on: bool) -> None:
    """Compiles all that follows in this process in a hurry, or as users' programs are; forgets what was compiled."""
    from kdjax import batch_statistics, blocks, compilation, evaluation  # late: their annotations are to be checked

    patches.undo()
    if on and known():
        chosen = compilation.compiler_options
        patches.setattr(compilation, "compiler_options", lambda more=None: {**(chosen(more) or {}), EMITTERS: False})
    jax.config.update("jax_disable_most_optimizations", on)
    jax.clear_caches()
    for programs in (blocks.program_for, evaluation.evaluator, batch_statistics.collector):
        programs.cache_clear()


def environment() -> dict[str, str]:
    """That of a process which compiles in a hurry, to the same bits as this one does then."""
    flags = os.environ.get("XLA_FLAGS", "") + f" --{EMITTERS}=false" * known()
    return {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": flags}
