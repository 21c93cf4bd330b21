"""Strict JAX for every test: virtual CPU devices, no implicit rank promotion. (Warnings are errors: pyproject.)"""

import fcntl
import os
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is most of a test's time, and subprocesses compile what others compiled before them: share it.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

MAPS = Path("/proc/self/maps")
LOCKS = Path(__file__).parents[1] / ".pytest_cache" / "locks"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test marked `alone` has all cores to itself: the other workers finish their tests and wait at the gate."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with open(LOCKS / "gate", "a") as gate, open(LOCKS / "running", "a") as running:
        fcntl.flock(gate, fcntl.LOCK_EX)
        if item.get_closest_marker("alone"):
            fcntl.flock(running, fcntl.LOCK_EX)
        else:
            fcntl.flock(running, fcntl.LOCK_SH)
            fcntl.flock(gate, fcntl.LOCK_UN)
        return (yield)


@pytest.fixture(scope="module", autouse=True)
def compiled_in_a_hurry(request):
    """Most tests run once what they compile: without optimization that takes half as long.

    Modules marked `optimized` are about the bits, the precision or the speed of the programs that users run; a mark on
    a single test has no effect. What runs in a process of its own is what users run, unless its test says otherwise.
    """
    hurried = request.node.get_closest_marker("optimized") is None
    if hurried != jax.config.read("jax_disable_most_optimizations"):
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", hurried)


@pytest.fixture(scope="module", autouse=True)
def programs_forgotten():
    """Every compiled program maps some pieces of memory, and Linux lets a process have 65,530: then XLA aborts."""
    yield
    if MAPS.exists() and MAPS.read_text().count("\n") > 30_000:
        jax.clear_caches()
