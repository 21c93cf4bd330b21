"""Cost of training on this device: operations, minutes, memory, disk, for `--dry-run`."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdjax import memory, models, targets, teachers
from kdjax.checkpoints import Checkpoints
from kdjax.compilation import jit
from kdjax.config import Precision, SweepConfig, TrainConfig, network_spec
from kdjax.datasets import Dataset
from kdjax.progress import clock, count_of
from kdjax.run_directory import RunDirectory
from kdjax.students import Block
from kdjax.sweeps import Sweep

COMPILE_SECONDS = {"mlp": 3.0, "cnn": 12.0, "fast": 12.0}
"""By family of networks: seconds, roughly, in which a CPU compiles what trains and evaluates a block, or a teacher."""
DENSE = {"float32": 0.7, "bfloat16": 0.45}
"""By precision: the share of a bare product's operations a second that training dense layers reaches, by the clock."""
TIMED_FLOPS = 5e10
"""Operations, about, of the batch on which a convolutional network is timed: at most half a second on two cores."""
METRIC_SECONDS = 1e-6
"""Seconds of computing all metrics of a run, for each image."""
BLOCK_SECONDS, SWEEP_SECONDS = 0.5, 2.0
"""Seconds of writing a block; and of reading, measuring and writing what a sweep has in common."""


class Forecast(NamedTuple):
    """What work would cost here."""

    text: str
    """What would run: its minutes, memory and disk."""
    seconds: float
    """0 where all of it is done."""


def of_sweep(sweep: Sweep, teacher: bool = True, compiled: set[Any] | None = None) -> Forecast:
    """The blocks, runs, minutes, memory and disk that the rest of a sweep would need. With `teacher` False, its teacher
    is counted elsewhere. `compiled`: programs that were counted before; those of this sweep are added to them."""
    dataset, missing, has_teacher = sweep.dataset, sweep.missing, not teacher or sweep.has_teacher
    first = "a teacher" if not has_teacher else "no teacher (it is there)" if teacher else "no further teacher"
    first = first if dataset.teacher is None else "no teacher (it came with the data)"
    absent, seconds = sweep.absent, sweep_seconds(sweep, teacher, compiled=compiled)
    done = [f"{len(sweep.blocks) - len(absent)} are there"] * (len(absent) < len(sweep.blocks))
    done += [f"{len(absent) - len(missing)} taken over from earlier runs"] * (len(missing) < len(absent))
    there = f" ({', '.join(done)})" if done else ""
    students, left = sum(len(block.runs) for block in missing), count_of(len(missing), "block")
    most = memory.largest(absent, None if has_teacher else sweep.teacher_config, dataset, max(sweep.at_once, 1))
    text = (
        f"would train {first} and {count_of(students, 'student')} in {left} in "
        f"{sweep.folder}{there}: about {clock(seconds)} on this device, "
        f"{most / 2**30:.1f} GiB of memory, "
        f"{memory.disk_needed(absent, dataset) / 2**20:.0f} MiB of disk"
    )
    config = sweep.config
    chooses = isinstance(config, SweepConfig) and len(config.rates()) > 1 and not config.own_rates
    if chooses and len(dataset.holdout.images):
        text += "; more where the best of several rates lies at an edge, and the grid is widened"
    return Forecast(text, seconds)


def sweep_seconds(sweep: Sweep, teacher: bool = True, members: int = 1, compiled: set[Any] | None = None) -> float:
    """Seconds of compiling, training, evaluating and writing the sweep's missing blocks here, and, unless `teacher` is
    False, a missing teacher. `members` above 1: as if its students learnt from an ensemble of so many such teachers.
    `compiled`: programs that were counted before; those of this sweep are added to them."""
    compiled = set() if compiled is None else compiled
    recipes = [] if sweep.teacher_config is None else [sweep.teacher_config] * members
    queried = [teacher.config for teacher in sweep.loaded] or recipes
    dataset, missing, seconds = sweep.dataset, sweep.missing, 0.0
    if teacher and not sweep.has_teacher:
        assert sweep.teacher_config is not None
        place = teachers.place(sweep.run.out, sweep.identity["teachers"][0])
        seconds = training_seconds(sweep.teacher_config, dataset, compiled, place)
    for block in missing:
        images = block.images + len(dataset.test.images) + len(dataset.holdout.images)
        stored = Checkpoints(RunDirectory(sweep.folder).checkpoints(block.name))
        left = 1 - stored.step / block.steps * (not sweep.run.fresh)
        seconds += left * block_flops(block, dataset) / rate_of(block.config, dataset)
        seconds += evaluation_flops(block, dataset) / rate_of(block.config, dataset, train=False)
        seconds += METRIC_SECONDS * block.size * images + BLOCK_SECONDS
        seconds += left * sum(query_flops(block, dataset, one) / rate_of(one, dataset, train=False) for one in queried)
        program = block.config, block.size, block.objective, block.transfer.targets
        seconds += _compile_seconds(program, compiled)
    if missing:
        everything = sum(len(split.images) for split in (dataset.train, dataset.holdout, dataset.test))
        seconds += SWEEP_SECONDS + sum(
            everything * models.forward_flops(_network(config, dataset)) / rate_of(config, dataset, train=False)
            for config in queried
        )
    averaged = {block.transfer: block.images for block in missing if block.transfer.targets == "shift_averaged"}
    passes = sum(averaged.values()) * (2 * targets.SHIFTS + 1) ** 2
    for config in queried * bool(passes):
        seconds += passes * models.forward_flops(_network(config, dataset)) / rate_of(config, dataset, train=False)
    return seconds


def training_seconds(config: TrainConfig, dataset: Dataset, compiled: set[Any], folder: Path) -> float:
    """Seconds of compiling and training a teacher here, or the rest of it, where checkpoints of it are. `compiled`: as
    in `sweep_seconds`; `folder`: where it will be stored."""
    images = len(dataset.train.images)
    left = 1 - teachers.checkpoints_of(folder).step / (config.epochs * (images // config.batch_size))
    seconds = left * training_flops(config, images, dataset) / rate_of(config, dataset)
    return seconds + _compile_seconds((config, 1), compiled)


def _compile_seconds(program: tuple[TrainConfig, *tuple[Any, ...]], compiled: set[Any]) -> float:
    """Seconds of compiling a program, named by its network and by what else fixes it; 0 if it was counted before."""
    if program in compiled:
        return 0.0
    compiled.add(program)
    return COMPILE_SECONDS.get(network_spec(program[0].network).family, COMPILE_SECONDS["mlp"])


def _network(config: TrainConfig, dataset: Dataset) -> models.Model:
    return models.network(config, dataset.input_shape, dataset.num_classes)


def rate_of(config: TrainConfig, dataset: Dataset, train: bool = True) -> float:
    """Operations a second that a network reaches here, in training or in evaluation: of a convolutional one measured,
    of others a share of a bare product's."""
    if _network(config, dataset).side_by_side:
        return dense_rate(config.precision)
    # What is measured does not depend on the length of the training.
    return network_rate(dataclasses.replace(config, epochs=1), dataset.input_shape, dataset.num_classes, train)


def dense_rate(precision: Precision) -> float:
    """Operations a second that training dense layers reaches here: a share of a bare product's
    (`experiments.throughput`)."""
    return product_rate(precision) * DENSE[precision]


@functools.cache
def network_rate(config: TrainConfig, input_shape: tuple[int, ...], num_classes: int, train: bool) -> float:
    """Operations a second that one network reaches here, measured now, on a batch of made-up images: with `train` in
    steps down the gradient of a loss, else in passes. A block's own program does more, and takes longer to compile."""
    network = models.network(config, input_shape, num_classes)
    flops = models.step_flops(network, 1) if train else models.forward_flops(network)
    images = int(min(config.batch_size, max(1, TIMED_FLOPS // flops)))
    params, model_state = network.init(jax.random.key(0))
    batch = jnp.linspace(0, 1, images * math.prod(input_shape)).reshape(images, *input_shape)

    def logits(params: Any, batch: Any) -> Any:
        return network.apply(params, model_state, batch, train, jax.random.key(0) if train else None)[0]

    def step(_: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        params, total = carry
        if not train:
            return params, jnp.sum(logits(params, batch + total))
        gradient = jax.grad(lambda params: jnp.mean(jax.nn.logsumexp(logits(params, batch), axis=1)))(params)
        return jax.tree.map(lambda old, slope: old - 1e-3 * slope, params, gradient), total

    @jit
    def repeated(count: Any, params: Any) -> Any:
        # Each needs the one before it, in one program: as in training, memory is asked for once.
        return jax.lax.fori_loop(0, count, step, (params, jnp.zeros(())))

    jax.block_until_ready(repeated(1, params))  # compiled
    return images * flops / seconds_each(lambda count: repeated(count, params), 1.0)


@functools.cache
def product_rate(precision: Precision) -> float:
    """Operations a second of a bare product, measured here and now. Called from Python one by one, it is up to 1.3
    times slower than that of `experiments.throughput`; `DENSE` is a share of this one."""
    left, right = jnp.ones((256, 800), precision), jnp.ones((800, 800), precision)
    product = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
    product(left, right).block_until_ready()  # compiled

    def repeated(count: int) -> jax.Array:
        for _ in range(count):
            last = product(left, right)  # the last alone is kept: a GPU has room for few thousand
        return last

    return 2 * 256 * 800 * 800 / seconds_each(repeated, 0.2)


def seconds_each(work: Callable[[int], Any], seconds: float) -> float:
    """Seconds of one of the `count` units of `work(count)`, with so many that they take about `seconds`."""
    count, elapsed = 1, 0.0
    while elapsed < seconds / 2:
        count = max(1, min(10 * count, int(count * seconds / elapsed))) if elapsed else count
        begin = time.perf_counter()
        jax.block_until_ready(work(count))
        elapsed = time.perf_counter() - begin
    return elapsed / count


def block_flops(block: Block, dataset: Dataset) -> float:
    """Floating-point operations of a block's training: its matrix products."""
    return block.size * training_flops(block.config, block.images, dataset)


def query_flops(block: Block, dataset: Dataset, teacher: TrainConfig) -> float:
    """Floating-point operations of a teacher that is queried at each step of a block; 0 where none is."""
    return _images_seen(block) * models.forward_flops(_network(teacher, dataset)) * block.queries_teacher


def _images_seen(block: Block) -> int:
    """In all steps of a block."""
    return block.steps * block.config.batch_size


def evaluation_flops(block: Block, dataset: Dataset) -> float:
    """Floating-point operations of evaluating a block's students: at the end on every image, before the first step on
    the test images, and now and then, for the learning curves, on the hold-out (without one, on the test images)."""
    test, holdout = len(dataset.test.images), len(dataset.holdout.images)
    counts = -(-block.config.epochs // block.counted_every)
    images = block.images + 2 * test + holdout + counts * (holdout or test)
    return block.size * images * models.forward_flops(_network(block.config, dataset))


def training_flops(config: TrainConfig, images: int, dataset: Dataset) -> float:
    """Floating-point operations of the training of one network on so many images: its matrix products."""
    steps = config.epochs * (images // config.batch_size)
    return models.step_flops(_network(config, dataset), steps * config.batch_size)
