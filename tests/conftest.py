"""JAX for every test: four virtual CPU devices, and ranks that are not promoted silently. (Warnings are errors:
pyproject.) Types are promoted as usual: optax's schedules rely on it."""

import logging
import os
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is most of a test's time: what one process has compiled, others and later ones read.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest

from tests import hurry

jax.config.update("jax_numpy_rank_promotion", "raise")

MAPS = Path("/proc/self/maps")
LONGEST = (
    *("cifar10_table", "mnist_table", "resume", "blocks", "scheduling", "throughput", "omit_digit", "extending"),
    *("faults", "targets", "models", "compilation_cache", "logit_matching"),
)
"""Files of tests that begin first, so that no worker is left alone with them at the end: each file is one worker's."""


def pytest_collection_modifyitems(items):
    """The longest files first; pytest-xdist must keep the order (`--no-loadscope-reorder`)."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="module", autouse=True)
def hurried_compilation(request):
    """Most tests run once what they compile: with little optimization that takes a third of the time.

    Modules marked `optimized` are about the bits, the precision or the speed of the programs that users run; a mark on
    a single test has no effect. What runs in a process of its own is what users run, unless its test gives it
    `hurry.environment()`.
    """
    hurried = request.node.get_closest_marker("optimized") is None
    if hurried != jax.config.read("jax_disable_most_optimizations"):
        hurry.switch(hurried)


@pytest.fixture(autouse=True)
def heard_by_caplog(monkeypatch):
    """`caplog` hears what reaches the root logger."""
    monkeypatch.setattr(logging.getLogger("kdjax"), "propagate", True)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory_maps():
    """Every compiled program maps some pieces of memory, and Linux lets a process have 65,530: then XLA aborts."""
    yield
    if MAPS.exists() and MAPS.read_text().count("\n") > 30_000:
        jax.clear_caches()
