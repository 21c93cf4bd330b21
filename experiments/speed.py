"""What `experiments.throughput` measures: training steps beside a bare matrix product, and whole trainings."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console

from kdjax import blocks, layers, loop, models
from kdjax.compilation import jit
from kdjax.config import Precision, TrainConfig, network_spec
from kdjax.datasets import CATALOG
from kdjax.errors import require
from kdjax.forecast import seconds_each
from kdjax.objectives import Setting

CLASSES = 10
PRODUCT_ROWS = 256
"""Rows of the bare product."""
MEMORY = 256 * 2**20
"""Bytes that a pass through memory reads, and writes: more than the caches of most processors."""
BLOCKS = 1, 2, 4, 8, 16
BLOCK_IMAGES = 8_000
IMAGES = 4_000, 8_000, 15_000, 30_000, 60_000
"""Whole trainings that `scaling` times: numbers of blocks of `BLOCK_IMAGES` images, and numbers of images in one."""
Peer = Callable[[TrainConfig, blocks.TransferSet, float], float]
"""(recipe of one student, transfer set, seconds to measure) → seconds per step in another framework."""


class Effort(NamedTuple):
    """How much is measured."""

    images: int
    """Size of the random training set."""
    rounds: int
    seconds: float
    """Of one measurement."""


class Speed(NamedTuple):
    """One case, measured: medians over the rounds."""

    image_shape: tuple[int, ...]
    batch_size: int
    step_ms: float
    images_runs_per_second: float
    """Images × runs per second."""
    gflops: float
    """10⁹ floating-point operations per second, of the products alone (`models.step_flops`)."""
    share: float
    """Of the speed of the bare product of the same precision, just before and after."""
    memory_share: float
    """Share of memory's speed that reading and writing parameters and moments once a step needs. Near 1, memory is the
    limit."""
    epoch_seconds: float
    """Of one network."""
    compiler_count: float
    """Operations of a step by XLA's cost analysis, over `models.step_flops`. XLA counts a loop once, and so misses
    products of convolutional networks on a CPU, whose gradients are computed for a few images at a time."""
    peak_mib: float
    """Memory of the compiled step with its arguments, as XLA reports it."""
    compile_seconds: float
    torch_idiomatic: float | None = None
    """Seconds of an epoch of one student in PyTorch over `epoch_seconds`."""
    torch_tuned: float | None = None


def measure(recipe: TrainConfig, settings: int, effort: Effort, peers: Mapping[str, Peer]) -> Speed:
    """Times the steps of a block, in turn with the bare product and with the peers, if any."""
    steps, width = Steps(recipe, settings, effort.images), recipe.hidden[0]
    product, memory = bare_product(width, recipe.precision), pass_through_memory()
    jax.block_until_ready((steps(1), product(1), memory(1)))  # compiled
    seconds, shares, memory_shares, ratios = [], [], [], []
    for _ in range(effort.rounds):
        before = seconds_each(product, effort.seconds / 4)
        step = seconds_each(steps, effort.seconds)
        after = seconds_each(product, effort.seconds / 4)
        bare = 2 * PRODUCT_ROWS * width**2 / ((before + after) / 2)
        seconds.append(step)
        shares.append(steps.flops / step / bare)
        bandwidth = 2 * MEMORY / seconds_each(memory, effort.seconds / 4)
        memory_shares.append(steps.bytes / step / bandwidth)
        ratios.append([settings * peer(recipe, steps.transfer_set, effort.seconds) / step for peer in peers.values()])
    step = float(np.median(seconds))
    return Speed(
        steps.transfer_set.images.shape[1:],
        recipe.batch_size,
        1e3 * step,
        settings * recipe.batch_size / step,
        steps.flops / step / 1e9,
        float(np.median(shares)),
        float(np.median(memory_shares)),
        step * (effort.images // recipe.batch_size) / settings,
        steps.compiler_flops() / steps.flops,
        steps.peak_bytes() / 2**20,
        steps.compile_seconds,
        *map(float, np.median(np.array(ratios), axis=0)),
    )


class Steps:
    """The compiled step of a block on random images; calling it trains further."""

    def __init__(self, recipe: TrainConfig, settings: int, images: int) -> None:
        shape = image_shape(recipe)
        self.transfer_set = random_images(images, shape)
        self.flops = settings * models.step_flops(models.network(recipe, shape, CLASSES), recipe.batch_size)
        self._program = blocks.program_for(recipe, shape, CLASSES, images, settings)
        self._fixed = self.transfer_set, _setting(settings), 0, blocks.epoch_order(0, 0, images)
        state, self._sums, _ = loop.start(self._program, 0, 1)
        self._state = loop.prepared(self._program, state, self.transfer_set)
        stored = jax.tree.leaves((self._state.params, self._state.opt_state))
        self.bytes = 2 * sum(leaf.nbytes for leaf in stored)
        lowered = self._program.advance.lower(self._state, self._sums, *self._fixed, 1)  # type: ignore[attr-defined]
        with _no_cache():
            begin = time.perf_counter()
            self._compiled = lowered.compile()
            self.compile_seconds = time.perf_counter() - begin

    def __call__(self, count: int) -> Any:
        """Trains so many steps more; returns sums to wait for."""
        self._state, self._sums = self._compiled(self._state, self._sums, *self._fixed, count)
        return self._sums

    def compiler_flops(self) -> float:
        """What XLA counts in a step; its loop over groups of settings is counted once there, and in full here."""
        groups = self._program.settings / self._program.together
        return float(self._compiled.cost_analysis()["flops"]) * groups

    def peak_bytes(self) -> float:
        """Memory of the compiled step with its arguments."""
        memory = self._compiled.memory_analysis()
        total = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
        return float(total - memory.alias_size_in_bytes)


def bare_product(width: int, precision: Precision) -> Callable[[int], Any]:
    """count → that many products 256 × width × width, of operands in this precision and with float32 sums."""
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    left, right = jnp.ones((PRODUCT_ROWS, width), dtype), jnp.full((width, width), 1 / width, dtype)
    axes, exact = (((1,), (0,)), ((), ())), None if precision == "bfloat16" else layers.FLOAT32

    @jit
    def products(count: Any, left: Any, right: Any) -> Any:
        def product(_: Any, left: Any) -> Any:  # each needs the one before it, and none is called from Python
            sums = jax.lax.dot_general(left, right, axes, precision=exact, preferred_element_type=jnp.float32)
            return sums.astype(dtype)

        return jax.lax.fori_loop(0, count, product, left)

    return lambda count: products(count, left, right)


def pass_through_memory() -> Callable[[int], Any]:
    """count → that many passes that read and write an array of `MEMORY` bytes."""
    array = jnp.ones(MEMORY // 4)

    @jit
    def passes(count: Any, array: Any) -> Any:
        return jax.lax.fori_loop(0, count, lambda index, array: array * 0.5 + index, array)

    return lambda count: passes(count, array)


def scaling(recipe: TrainConfig, settings: int) -> dict[str, Any]:
    """Seconds of whole trainings, compiled before: by blocks of one epoch, and by images in one block of four epochs.

    Returns:
        `blocks` and `images`: lists of [number, seconds], the fastest of three; blocks of `BLOCK_IMAGES` images each.
    """

    def seconds(count: int, images: int, epochs: int) -> float:
        transfer_set = random_images(images, image_shape(recipe))
        whole = dataclasses.replace(recipe, epochs=epochs)
        program = blocks.program_for(whole, image_shape(recipe), CLASSES, images, settings)

        def train(count: int, epochs: int) -> float:
            begin = time.perf_counter()
            for seed in range(count):
                loop.fit(program, transfer_set, _setting(settings), seed, loop.start(program, seed, epochs))
            return time.perf_counter() - begin

        train(1, 1)
        return min(train(count, epochs) for _ in range(3))

    with Console(stderr=True).status("whole trainings"):
        return {
            "blocks": [[count, seconds(count, BLOCK_IMAGES, 1)] for count in BLOCKS],
            "images": [[images, seconds(1, images, 4)] for images in IMAGES],
        }


def pytorch() -> dict[str, Peer]:
    """The two ways to train in PyTorch.

    Raises:
        BadInput: JAX does not run on a CPU, or PyTorch is not installed.
    """
    require(
        jax.default_backend() == "cpu",
        f"--against torch compares on CPUs, and JAX runs on {jax.devices()[0].device_kind} here: set JAX_PLATFORMS=cpu",
    )
    try:
        from experiments import torch_baseline  # late: PyTorch is an extra
    except ModuleNotFoundError as error:
        require(False, f"--against torch needs PyTorch ({error}): pip install -e '.[bench]'")
    return {"idiomatic": torch_baseline.idiomatic, "tuned": torch_baseline.tuned}


def image_shape(recipe: TrainConfig) -> tuple[int, ...]:
    """MNIST's, or CIFAR-10's for a convolutional network."""
    return CATALOG["cifar10" if network_spec(recipe.network).full_units else "mnist"].shape


def random_images(images: int, shape: tuple[int, ...]) -> blocks.TransferSet:
    """A transfer set of random images, labels and logits."""
    random = np.random.default_rng(0)
    return blocks.TransferSet(
        jnp.asarray(random.integers(0, 256, (images, *shape)).astype(np.uint8)),
        jnp.asarray(random.integers(0, CLASSES, images).astype(np.int32)),
        jnp.asarray(random.normal(0, 5, (images, CLASSES)).astype(np.float32)),
    )


def _setting(settings: int) -> Setting:
    return Setting(jnp.full(settings, 4.0), jnp.ones(settings), jnp.full(settings, 1e-3))


@contextlib.contextmanager
def _no_cache() -> Iterator[None]:
    """Without programs compiled before: compiling itself is measured."""
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()
