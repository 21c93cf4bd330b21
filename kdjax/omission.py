"""Students that never see some classes: which transfer set each learns from, and the blocks that train them.

Hinton et al. 2015, Section 3. A teacher's soft targets for the classes that are left still carry information about the
omitted ones; two altered teachers test that a student learns the omitted classes from this, and from nothing else.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np

from kdjax.config import OmissionStudent, Targets, TrainConfig
from kdjax.datasets import Dataset
from kdjax.errors import require
from kdjax.students import Block, Run
from kdjax.transfer import TransferSpec, Variant


def learns_hard_labels(student: OmissionStudent) -> bool:
    """Whether a student learns from hard labels alone."""
    return student in ("control", "control_pairs")


def transfers(student: OmissionStudent, omitted: tuple[int, ...], num_classes: int) -> list[TransferSpec]:
    """The transfer sets of a student, for the omitted classes: one; for pairs, one for each seen class."""
    if student == "all_digits":
        return [TransferSpec()]
    if student in ("pairs", "control_pairs"):
        seen = (c for c in range(num_classes) if c not in omitted)
        return [TransferSpec(omitted=tuple(sorted((*omitted, c)))) for c in seen]
    variant: Variant = student if student in get_args(Variant) else "plain"  # type: ignore[assignment]
    return [TransferSpec(omitted=omitted, variant=variant)]


def plan(
    tasks: Sequence[tuple[int, ...]],
    students: Sequence[OmissionStudent],
    runs: Sequence[Run],
    seeds: int,
    dataset: Dataset,
    recipe: Callable[[int], TrainConfig],
    targets: Targets = "teacher",
) -> list[Block]:
    """The blocks that train every student of every task, each once; in the order of training: seed by seed, so that
    a run under way holds whole seeds; with averaged logits, transfer set by transfer set.

    Hard and soft runs on one transfer set from one seed are one block.

    Args:
        tasks: sets of omitted classes.
        runs: the soft settings; a hard run takes its rate from the first.
        dataset: with the pool as its hold-out.
        recipe: number of training images without the omitted classes (`all_digits`: with them) → how all students of
            the task are trained, so that they can be compared. A batch that is larger than a transfer set is
            `BadInput`.
    """
    kinds_of: dict[TransferSpec, set[bool]] = {}
    images_of: dict[TransferSpec, int] = {}
    for task, student in itertools.product(tasks, students):
        omitted = () if student == "all_digits" else task
        for transfer in transfers(student, task, dataset.num_classes):
            kinds_of.setdefault(transfer, set()).add(learns_hard_labels(student))
            images_of.setdefault(transfer, int((~np.isin(dataset.train.labels, omitted)).sum()))
    hard = Run("hard", float("nan"), 0.0, runs[0].learning_rate)
    blocks = []
    for transfer, kinds in kinds_of.items():
        count = int((~np.isin(dataset.train.labels, transfer.omitted)).sum())
        count += len(dataset.holdout.images) if transfer.variant == "with_pool" else 0
        config = recipe(images_of[transfer])
        left = f"without {', '.join(map(str, transfer.omitted))} {count:,} training images are left"
        require(config.batch_size <= count, f"--batch-size {config.batch_size} is too large: {left}")
        chosen = (*[hard] * (True in kinds), *(runs if False in kinds else ()))
        for seed in range(seeds):
            # Only permutations depend on the seed: other transfer sets are shared by a student's seeds.
            permutation = seed if transfer.variant == "permuted" else 0
            of_block = dataclasses.replace(transfer, targets=targets, seed=permutation)
            name = block_name(transfer, seed)
            blocks.append(Block(name, config.hidden[0], config, seed, chosen, len(chosen), count, of_block))
    # Averaged logits take many passes of the teacher: a transfer set's seeds stand together, to share them.
    return blocks if targets == "shift_averaged" else sorted(blocks, key=lambda block: block.seed)


def block_name(transfer: TransferSpec, seed: int) -> str:
    """The name of the block of a transfer set and a seed."""
    return f"{transfer.variant}-without-{'-'.join(map(str, transfer.omitted)) or 'none'}-seed{seed}"
