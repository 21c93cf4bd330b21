"""Which images a block's students learn from, and which targets: from a dataset and its teacher to a transfer set."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import datasets, targets, teachers, transforms
from kdjax.arrays import HostImages, HostLogits
from kdjax.blocks import TransferSet
from kdjax.compilation import fixed_numerics
from kdjax.config import Targets
from kdjax.datasets import Dataset, Split
from kdjax.teachers import Teacher

Variant = Literal["plain", "permuted", "mean_logit", "with_pool"]
"""plain: nothing more. permuted, mean_logit: `targets.permute_wrong`, `targets.flatten_omitted`. with_pool: the
unlabelled hold-out is added, and with it images of omitted classes."""


class DistillationData(NamedTuple):
    """On the host: a dataset with the logits of its teacher, or the mean logits of several, computed once."""

    dataset: Dataset
    teacher: str
    """Short name of the teacher, or of several joined by +."""
    train_logits: HostLogits
    holdout_logits: HostLogits
    test_logits: Any
    """`HostLogits`; None where the teacher was not asked about them (`kdjax.distil`)."""
    teachers: tuple[Teacher, ...] = ()
    """The networks, to be queried about other images than these; none where the logits came with the data."""


def given_logits(dataset: Dataset) -> DistillationData:
    """The dataset with the logits of the teacher that came with it; its name is that of their fingerprint."""
    given: Any = dataset.teacher
    plain = dataclasses.replace(dataset, teacher=None)
    return DistillationData(plain, given.fingerprint[:12], given.train, given.holdout, given.test)


def query_teachers(dataset: Dataset, members: Sequence[Teacher]) -> DistillationData:
    """Queries the teacher, or the ensemble, about every image of the dataset."""
    empty = np.zeros((0, dataset.num_classes), np.float32)
    train, holdout, test = (
        teachers.ensemble_logits(members, split.images) if len(split.images) else empty
        for split in (dataset.train, dataset.holdout, dataset.test)
    )
    name = "+".join(teacher.name for teacher in members)
    return DistillationData(dataset, name, train, holdout, test, tuple(members))


@dataclasses.dataclass(frozen=True)
class TransferSpec:
    """What a block's students learn from. Equal specs give the same transfer set from the same data, on any machine."""

    targets: Targets = "teacher"
    """What stands for the teacher's logits (`kdjax.targets`)."""
    images: int | None = None
    """The first so many images; None: all."""
    omitted: tuple[int, ...] = ()
    """Classes whose images are left out."""
    variant: Variant = "plain"
    seed: int = 0
    """Of the permutations."""

    @fixed_numerics()
    def select(self, data: DistillationData) -> DistillationData:
        """The data with another training set and other targets; hold-out and test images and logits stay the same. In
        this order: classes are omitted, the pool is added, the first images are taken, targets are altered."""
        data = self._select_images(data)
        data = _with_targets(data, self.targets)
        if self.variant == "permuted":
            altered = targets.permute_wrong(data.train_logits, data.dataset.train.labels, self.seed)
            return data._replace(train_logits=altered)
        if self.variant == "mean_logit":
            return data._replace(train_logits=targets.flatten_omitted(data.train_logits, self.omitted))
        return data

    def _select_images(self, data: DistillationData) -> DistillationData:
        train, logits = data.dataset.train, data.train_logits
        if self.omitted:
            logits = logits[~np.isin(train.labels, sorted(self.omitted))]
            train = datasets.omit(train, self.omitted)
        if self.variant == "with_pool":
            # Unlabelled: the teacher's prediction stands for the label.
            answers = data.holdout_logits.argmax(axis=1).astype(np.int32)
            pool = data.dataset.holdout.images
            train = Split(np.concatenate([train.images, pool]), np.concatenate([train.labels, answers]))
            logits = np.concatenate([logits, data.holdout_logits])
        if self.images is not None:
            train, logits = Split(*(array[: self.images] for array in train)), logits[: self.images]
        return data._replace(dataset=dataclasses.replace(data.dataset, train=train), train_logits=logits)


def _with_targets(data: DistillationData, kind: Targets) -> DistillationData:
    images = data.dataset.train.images
    if kind == "shift_averaged":
        return data._replace(train_logits=shift_averaged(data.teachers, images))
    if kind == "shuffled":
        return data._replace(train_logits=targets.shuffle(data.train_logits))
    if kind == "random":
        untrained = tuple(teachers.untrained(one, index, images) for index, one in enumerate(data.teachers))
        return data._replace(train_logits=teachers.ensemble_logits(untrained, images), teachers=untrained)
    return data._replace(train_logits=0 * data.train_logits) if kind == "uniform" else data


def shift_averaged(members: Sequence[Teacher], images: HostImages) -> HostLogits:
    """The teachers' mean logits over all shifts of each image by up to `targets.SHIFTS` pixels each way."""
    total, shifts = np.zeros((len(images), members[0].info["num_classes"])), range(-targets.SHIFTS, targets.SHIFTS + 1)
    for down, right in itertools.product(shifts, shifts):
        total += teachers.ensemble_logits(members, transforms.shift(images, down, right))
    return (total / len(shifts) ** 2).astype(np.float32)


def on_device(data: DistillationData) -> TransferSet:
    """The training images, labels and teacher logits where the students are trained."""
    images, labels = data.dataset.train
    stacks = tuple((teacher.params, teacher.model_state) for teacher in data.teachers)
    # By way of the host, onto the device of this thread.
    variables = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[0]), stacks)
    return TransferSet(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(data.train_logits), variables)
