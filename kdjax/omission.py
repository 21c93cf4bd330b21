"""What a student is not shown: transfer sets without some classes, or under a teacher whose logits are altered.

Hinton et al. 2015, Section 3. A teacher's soft targets for the classes that are left still speak of the omitted ones;
two altered teachers test that it is this, and nothing else, from which a student learns them.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from kdjax import datasets, scheduling
from kdjax.config import Targets, TrainConfig
from kdjax.datasets import Dataset, Split
from kdjax.errors import require
from kdjax.students import Block, DistillationData, Run
from kdjax.students import Shown as Taught

Kind = Literal["plain", "permuted", "mean_logit", "with_pool"]
"""plain: omitted, nothing altered. permuted, mean_logit: as the functions below. with_pool: the unlabelled pool is
added, and with it images of the omitted classes."""
Student = Literal["distilled", "all_digits", "control", "permuted", "mean_logit", "with_pool", "pairs", "control_pairs"]
"""Who is trained for a set of omitted classes; `places` says on what."""


class Place(NamedTuple):
    """Where a student is found: its transfer set, and whether it learns from hard labels there."""

    kind: Kind
    omitted: tuple[int, ...]
    hard: bool


class Study(NamedTuple):
    """A block and its transfer set."""

    kind: Kind
    omitted: tuple[int, ...]
    images: int
    """In the transfer set."""
    block: Block


@dataclasses.dataclass(frozen=True)
class Shown:
    """What of the whole lesson is shown to a student: `transfer_set` with all but the lesson said."""

    kind: Kind
    omitted: tuple[int, ...]
    seed: int
    targets: Targets = "teacher"

    def __call__(self, taught: DistillationData) -> DistillationData:
        """The student's own lesson."""
        return transfer_set(taught, self.kind, self.omitted, self.seed, self.targets)


def places(student: Student, omitted: tuple[int, ...], num_classes: int) -> list[Place]:
    """The places of a student for the omitted classes: one, but for pairs, which have one for each seen class."""
    hard = student in ("control", "control_pairs")
    if student == "all_digits":
        return [Place("plain", (), hard)]
    if student in ("pairs", "control_pairs"):
        seen = (c for c in range(num_classes) if c not in omitted)
        return [Place("plain", tuple(sorted((*omitted, c))), hard) for c in seen]
    kind: Kind = student if student in ("permuted", "mean_logit", "with_pool") else "plain"  # type: ignore[assignment]
    return [Place(kind, omitted, hard)]


def plan(
    tasks: Sequence[tuple[int, ...]],
    students: Sequence[Student],
    runs: Sequence[Run],
    seeds: int,
    dataset: Dataset,
    recipe: Callable[[int], TrainConfig],
) -> list[Study]:
    """The blocks that give every student of every task its place, each trained once; in the order in which to train.

    Hard and soft runs on one transfer set from one seed are one block.

    Args:
        tasks: sets of omitted classes.
        students: who is wanted.
        runs: the soft settings; a hard run takes its rate from the first.
        seeds: 0 … seeds − 1.
        dataset: with the pool as its hold-out.
        recipe: number of training images → how a student of so many is trained.

    Raises:
        BadInput: a transfer set is smaller than a batch.
    """
    wanted: dict[tuple[Kind, tuple[int, ...]], set[bool]] = {}
    for task in tasks:
        for student in students:
            for place in places(student, task, dataset.num_classes):
                wanted.setdefault((place.kind, place.omitted), set()).add(place.hard)
    hard = Run("hard", float("nan"), 0.0, runs[0].learning_rate)
    studies = []
    for (kind, omitted), objectives in wanted.items():
        count = int((~np.isin(dataset.train.labels, omitted)).sum())
        count += len(dataset.holdout.images) if kind == "with_pool" else 0
        config = recipe(count)
        left = f"without {', '.join(map(str, omitted))} {count:,} training images are left"
        require(config.batch_size <= count, f"--batch-size {config.batch_size} is too large: {left}")
        chosen = (*[hard] * (True in objectives), *(runs if False in objectives else ()))
        name = f"{kind}-without-{'-'.join(map(str, omitted)) or 'none'}"
        for seed in range(seeds):
            block = Block(f"{name}-seed{seed}", config.hidden[0], config, seed, chosen, len(chosen))
            studies.append(Study(kind, omitted, count, block))
    return studies


def jobs(studies: Sequence[Study], targets: Targets = "teacher") -> list[scheduling.Job]:
    """The studies as `scheduling.train` takes them; its lesson is then the whole dataset with its teacher's logits.

    Args:
        studies: of `plan`.
        targets: what stands for the teacher's logits wherever students learn.
    """
    found = []
    for study in studies:
        # Only permutations depend on the seed: other transfer sets are shared by a student's seeds.
        shown = Shown(study.kind, study.omitted, study.block.seed if study.kind == "permuted" else 0, targets)
        found.append(scheduling.Job(study.block, study.images, shown))
    return found


def transfer_set(
    taught: DistillationData, kind: Kind, omitted: Collection[int], seed: int, targets: Targets = "teacher"
) -> DistillationData:
    """The lesson that a student is trained on: images of `omitted` classes are not in its training set.

    Args:
        taught: the whole dataset with its teacher's logits; its hold-out is the pool.
        kind: what else is done.
        omitted: class numbers; may be empty.
        seed: fixes the permutations.
        targets: what stands for the teacher's logits of the images that are left (`kdjax.targets`), before `permuted`
            and `mean_logit` alter them: shuffled ones are of other images that are left.

    Returns:
        The lesson with another training set; hold-out and test images are those of `taught`.
    """
    shown = ~np.isin(taught.dataset.train.labels, sorted(omitted))
    train = datasets.omit(taught.dataset.train, omitted)
    logits = taught.train_logits[shown]
    if kind == "with_pool":
        # Unlabelled: what the teacher calls an image stands for its label.
        called = taught.holdout_logits.argmax(axis=1).astype(np.int32)
        train = Split(
            np.concatenate([train.images, taught.dataset.holdout.images]), np.concatenate([train.labels, called])
        )
        logits = np.concatenate([logits, taught.holdout_logits])
    left = taught._replace(dataset=dataclasses.replace(taught.dataset, train=train), train_logits=logits)
    left = Taught(targets)(left)
    if kind == "permuted":
        return left._replace(train_logits=permute_wrong(left.train_logits, train.labels, seed))
    if kind == "mean_logit":
        return left._replace(train_logits=flatten_omitted(left.train_logits, omitted))
    return left


def permute_wrong(
    logits: Float[np.ndarray, "images classes"], labels: Int[np.ndarray, "images"], seed: int
) -> Float[np.ndarray, "images classes"]:
    """The logits of the wrong classes, permuted within each image by a permutation of its own.

    The right class keeps its logit, and the image the entropy of its soft target at every T: what is lost is *which*
    wrong class is how likely.
    """
    count, classes = logits.shape
    random = np.random.default_rng([seed, classes])
    wrong = np.arange(classes)[None] != labels[:, None]
    order = np.argsort(np.where(wrong, random.random((count, classes)), np.inf), axis=1)[:, : classes - 1]
    altered = logits.copy()
    altered[wrong] = np.take_along_axis(logits, order, axis=1).ravel()
    return altered


def flatten_omitted(
    logits: Float[np.ndarray, "images classes"], omitted: Collection[int]
) -> Float[np.ndarray, "images classes"]:
    """Each omitted class's logit replaced by its mean over the images: all that is known of it is how rare it is."""
    altered = logits.copy()
    columns = sorted(omitted)
    altered[:, columns] = logits[:, columns].mean(axis=0, keepdims=True, dtype=np.float64)
    return altered
