"""Memory and disk that training needs, estimated before it begins, and what there is of both."""

import functools
import math
import os
import resource
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from kdjax import models
from kdjax.blocks import UNROLLED
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.errors import require
from kdjax.students import Block

PROGRAM = 0.6e9
"""Bytes of the process before it trains anything."""
METRIC_ARRAYS = 5
"""Arrays of the size of a run's logits, in float64, that its metrics hold at a time."""
CGROUPS = {"": ("/sys/fs/cgroup", "memory.max"), "memory": ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")}
"""Where Linux says what a group of processes, such as a container or a batch job, may use: by the controller that
`OWN_CGROUPS` names, which is none in the second version of control groups."""
OWN_CGROUPS = "/proc/self/cgroup"
"""The groups of this process, a line each: a number, controllers, and a path below the folder of `CGROUPS`."""


def needed(blocks: Iterable[Block], dataset: Dataset) -> float:
    """Bytes to train the largest of the blocks, roughly: parameters, moments and gradients of all its settings, the
    outputs of the layers for a batch, logits of every image and what metrics make of them, images. What is mapped from
    a file isn't counted: it is read again where memory is short."""
    return _needed(((block.config, block.size, block.images) for block in blocks), dataset)


def largest(blocks: Sequence[Block], teacher: TrainConfig | None, dataset: Dataset, at_once: int) -> float:
    """Bytes that training needs at its largest: so many of the blocks at once, or the teacher that is to be trained."""
    return max((bytes_ for _, bytes_, _ in _needs(blocks, teacher, dataset, at_once)), default=PROGRAM)


def require_enough(blocks: Sequence[Block], teacher: TrainConfig | None, dataset: Dataset, at_once: int) -> None:
    """Raises `BadInput` if this machine has less memory than so many of the blocks at once need, or a teacher that is
    to be trained."""
    for what, bytes_, remedy in _needs(blocks, teacher, dataset, at_once):
        wanted, there = (round(size / 2**30, 1) for size in (bytes_, available()))
        told = f"{what} would need about {wanted:,} GiB of memory, and there are {there:,}"
        require(wanted <= there, f"{told}: give smaller {remedy}")


def _needs(
    blocks: Sequence[Block], teacher: TrainConfig | None, dataset: Dataset, at_once: int
) -> Iterator[tuple[str, float, str]]:
    """What needs memory, how many bytes, and what makes it less."""
    if teacher is not None:
        alone = _needed([(teacher, 1, len(dataset.train.images))], dataset)
        yield "the teacher", alone, "--teacher.widths or --teacher.batch-size"
    if blocks:
        students = f"{at_once} blocks of students at once" if at_once > 1 else "the students"
        fewer = "widths, a smaller --batch-size or --block-size" + ", or fewer --devices or workers" * (at_once > 1)
        yield students, PROGRAM + at_once * (needed(blocks, dataset) - PROGRAM), fewer


def disk_needed(blocks: Sequence[Block], dataset: Dataset) -> float:
    """Bytes in which the blocks are stored: parameters of all their runs, logits of test and held-out images."""
    images = len(dataset.test.images) + len(dataset.holdout.images)
    size = {
        config: models.parameter_count(models.network(config, dataset.input_shape, dataset.num_classes))
        for config in {block.config for block in blocks}
    }
    return sum(4.0 * len(block.runs) * (size[block.config] + images * dataset.num_classes) for block in blocks)


def require_disk(blocks: Sequence[Block], dataset: Dataset, out: Path) -> None:
    """Raises `BadInput` if `out` has less room than the blocks need."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    wanted, free = (round(size / 2**30, 1) for size in (disk_needed(blocks, dataset), shutil.disk_usage(there).free))
    told = f"the run would need about {wanted:,} GiB of disk in {out}, and {free:,} are free"
    require(wanted <= free, f"{told}: give another --out, or fewer seeds, temperatures or widths")


def available() -> float:
    """Bytes that this process may use: of the machine, its container, its own limit; and of its device, if that says.
    What other processes use of it isn't subtracted."""
    limits = [float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))]
    limits += _limits_of_groups()
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    limits += [] if own == resource.RLIM_INFINITY else [float(own)]
    device = jax.local_devices()[0].memory_stats() or {}
    return min([*limits, *([float(device["bytes_limit"])] if device.get("bytes_limit") else [])])


def _limits_of_groups() -> list[float]:
    """Of this process's control groups and of those that hold them."""
    own = Path(OWN_CGROUPS).read_text() if Path(OWN_CGROUPS).exists() else ""
    names = {controller: "/" for controller in CGROUPS}
    for line in own.splitlines():
        _, controllers, name = line.split(":", 2)
        names |= {controller: name for controller in controllers.split(",") if controller in CGROUPS}
    found = []
    for controller, (root, file) in CGROUPS.items():
        group = Path(names[controller])
        for path in (Path(root, str(one).lstrip("/"), file) for one in (group, *group.parents)):
            text = path.read_text().strip() if path.exists() else ""
            found += [float(text)] if text.isdigit() else []
    return found


def _needed(kinds: Iterable[tuple[TrainConfig, int, int]], dataset: Dataset) -> float:
    """`needed` for programs, each by its recipe, number of settings, and images."""
    most = max(_of_training(*kind, dataset) for kind in dict.fromkeys(kinds))
    parts = (dataset.train, dataset.train, dataset.holdout, dataset.test)  # training images on the device too
    images, count = sum(part.images.nbytes for part in parts), sum(len(part.labels) for part in parts)
    return PROGRAM + images + 4 * count * dataset.num_classes + most


def _of_training(config: TrainConfig, settings: int, images: int, dataset: Dataset) -> float:
    model = models.network(config, dataset.input_shape, dataset.num_classes)
    together = settings if model.side_by_side else min(settings, UNROLLED)
    batch = config.batch_size * (3 * together * _outputs(model) + 2 * math.prod(dataset.input_shape))
    others = len(dataset.holdout.labels) + len(dataset.test.labels)
    # Of the training images in parts and as a whole; and a run's in float64, for its metrics.
    logits = (settings * (2 * images + others) + 2 * METRIC_ARRAYS * images) * dataset.num_classes
    return 4.0 * (5 * settings * models.parameter_count(model) + batch + logits)


@functools.cache
def _outputs(model: models.Model) -> int:
    """Outputs of a network's matrix products and convolutions for one image."""

    def logits(params: Any, model_state: Any, image: Any) -> Any:
        return model.apply(params, model_state, image, False)[0]

    def count(jaxpr: Any) -> int:
        total = 0
        for equation in jaxpr.eqns:
            total += sum(map(count, core.jaxprs_in_params(equation.params)))
            if equation.primitive.name in ("dot_general", "conv_general_dilated"):
                total += math.prod(equation.outvars[0].aval.shape)
        return total

    image = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    return count(jax.make_jaxpr(logits)(*models.shapes(model), image).jaxpr)
