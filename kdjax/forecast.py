"""Cost of training on this device: operations, minutes, memory, disk, for `--dry-run`."""

import functools
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdjax import memory, models, teachers
from kdjax.config import Precision, TrainConfig, network_spec
from kdjax.datasets import Dataset
from kdjax.progress import clock
from kdjax.students import Block
from kdjax.sweeps import Sweep


def of_sweep(sweep: Sweep, teacher: bool = True) -> str:
    """The blocks, runs, minutes, memory and disk that the rest of a sweep would need. With `teacher` False, its teacher
    is counted elsewhere."""
    dataset, missing, has_teacher = sweep.dataset, _missing(sweep), not teacher or _has_teacher(sweep)
    classes, blocks = dataset.num_classes, sweep.blocks
    sizes = {block.config: block.size for block in blocks}
    networks = {config: models.network(config, dataset.input_shape, classes) for config in sizes}
    parameters = max(size * models.parameter_count(networks[config]) for config, size in sizes.items())
    disk = sum(4 * parameters + 4 * block.size * len(dataset.test.images) * classes for block in missing)
    first = "a teacher" if not has_teacher else "no teacher (it is there)" if teacher else "no further teacher"
    finished, minutes = len(blocks) - len(missing), clock(sweep_seconds(sweep, teacher))
    return (
        f"would train {first} and {sum(len(block.runs) for block in missing)} students in {len(missing)} blocks in "
        f"{sweep.folder}{f' ({finished} are there)' if finished else ''}: about {minutes} on this device, "
        f"{memory.needed(blocks, dataset) / 2**30:.1f} GiB of memory, {disk / 2**20:.0f} MiB of disk"
    )


def sweep_seconds(sweep: Sweep, teacher: bool = True, members: int = 1) -> float:
    """Seconds of training the sweep's missing blocks here, and, unless `teacher` is False, a missing teacher. `members`
    above 1: as if its students learnt from an ensemble of so many such teachers."""
    queried = [teacher.config for teacher in sweep.loaded] or [sweep.teacher_config] * members
    seconds = 0.0
    if teacher and not _has_teacher(sweep):
        seconds = training_seconds(sweep.teacher_config, sweep.dataset)
    for block in _missing(sweep):
        rate = training_rate(block.config.network, block.config.precision)
        seconds += block_flops(block, sweep.dataset, queried) / rate
    return seconds


def _missing(sweep: Sweep) -> list[Block]:
    return [block for block in sweep.blocks if not (sweep.folder / "blocks" / block.name).exists()]


def _has_teacher(sweep: Sweep) -> bool:
    return bool(sweep.loaded) or teachers.place(sweep.run.out, sweep.identity["teachers"][0]).exists()


def training_seconds(config: TrainConfig, dataset: Dataset) -> float:
    """Seconds of training one network alone, such as a teacher, here."""
    return network_flops(config, dataset) / training_rate(config.network, config.precision)


def training_rate(network: str, precision: Precision) -> float:
    """Operations a second that training reaches here: a share of a bare product's (`experiments.throughput`)."""
    if network_spec(network).family == "cnn":  # whose convolutions gain nothing from bfloat16 on CPUs
        return product_rate("float32") * 0.45
    return product_rate(precision) * (0.65 if precision == "float32" else 0.45)


@functools.cache
def product_rate(precision: Precision) -> float:
    """Operations a second of a bare product, measured here and now."""
    left, right = jnp.ones((256, 800), precision), jnp.ones((800, 800), precision)
    product = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
    product(left, right).block_until_ready()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < 0.2:
        product(left, right).block_until_ready()
        count += 1
    return 2 * 256 * 800 * 800 * count / (time.perf_counter() - begin)


def block_flops(block: Block, dataset: Dataset, queried: Sequence[TrainConfig] = ()) -> float:
    """Floating-point operations of a block's training: its matrix products, and those of its teachers where they are
    queried at each step."""
    data, images = (dataset.input_shape, dataset.num_classes), block.images // block.config.batch_size
    images *= block.config.batch_size
    of_an_epoch = block.size * models.step_flops(models.network(block.config, *data), images)
    if block.queries_teacher:
        of_an_epoch += images * sum(models.forward_flops(models.network(teacher, *data)) for teacher in queried)
    return block.config.epochs * of_an_epoch


def network_flops(config: TrainConfig, dataset: Dataset) -> float:
    """Floating-point operations of the training of one network alone, such as a teacher: its matrix products."""
    return block_flops(Block("", 0, config, 0, (), 1, len(dataset.train.images)), dataset)
