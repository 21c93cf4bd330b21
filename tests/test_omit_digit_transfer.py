"""What a student is shown: classes omitted, teachers altered, the pool without its labels."""

import dataclasses

import numpy as np
import pytest

from kdjax import omission, targets
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset, Split
from kdjax.errors import BadInput
from kdjax.students import Run
from kdjax.transfer import DistillationData, TransferSpec

SOFT = Run("kd", 4.0, 1.0, 1e-3)


def lesson(classes=5, images=60, pool=20):
    random = np.random.default_rng(0)

    def split(count):
        shown = random.integers(0, 256, (count, 2, 2, 1)).astype(np.uint8)
        return Split(shown, (np.arange(count) % classes).astype(np.int32))

    def logits(count):
        return random.normal(0, 3, (count, classes)).astype(np.float32)

    names = tuple(map(str, range(classes)))
    data = Dataset("toy", classes, names, split(images), split(pool), split(10), "0" * 64, "toy")
    return DistillationData(data, "teacher", logits(images), logits(pool), logits(10))


def test_images_labels_and_logits_stay_together():
    taught = lesson()
    found = TransferSpec(omitted=(1, 3)).select(taught)
    rows = np.flatnonzero(~np.isin(taught.dataset.train.labels, (1, 3)))
    assert (found.dataset.train.images == taught.dataset.train.images[rows]).all()
    assert (found.dataset.train.labels == taught.dataset.train.labels[rows]).all()
    assert (found.train_logits == taught.train_logits[rows]).all()
    assert found.dataset.holdout is taught.dataset.holdout and found.dataset.test is taught.dataset.test


def test_permuting_moves_the_wrong_logits_of_each_image_and_no_other():
    taught = lesson(images=400)
    labels = taught.dataset.train.labels
    found = targets.permute_wrong(taught.train_logits, labels, seed=1)
    rows = np.arange(len(labels))
    assert (found[rows, labels] == taught.train_logits[rows, labels]).all()
    assert (np.sort(found, axis=1) == np.sort(taught.train_logits, axis=1)).all()
    assert (found == targets.permute_wrong(taught.train_logits, labels, seed=1)).all()
    assert (found != targets.permute_wrong(taught.train_logits, labels, seed=2)).any()
    # Each image has a permutation of its own, and each place is as likely: a logit stays with probability 1/4.
    wrong = np.arange(5)[None] != labels[:, None]
    assert np.mean(found[wrong] == taught.train_logits[wrong]) == pytest.approx(1 / 4, abs=0.04)


def test_the_omitted_logits_become_their_mean_over_the_images_that_are_left():
    taught = lesson()
    left = TransferSpec(omitted=(3,)).select(taught)
    found = TransferSpec(omitted=(3,), variant="mean_logit").select(taught)
    assert found.train_logits[:, 3] == pytest.approx(left.train_logits[:, 3].mean())
    assert (np.delete(found.train_logits, 3, axis=1) == np.delete(left.train_logits, 3, axis=1)).all()


def test_the_pool_comes_with_the_teachers_word_and_without_its_labels():
    taught = lesson()
    found = TransferSpec(omitted=(3,), variant="with_pool").select(taught)
    assert len(found.dataset.train.images) == 48 + 20
    assert (found.dataset.train.images[48:] == taught.dataset.holdout.images).all()
    assert (found.train_logits[48:] == taught.holdout_logits).all()
    poisoned = dataclasses.replace(
        taught.dataset, holdout=taught.dataset.holdout._replace(labels=np.full(20, 3, np.int32))
    )
    again = TransferSpec(omitted=(3,), variant="with_pool").select(taught._replace(dataset=poisoned))
    assert (again.dataset.train.labels == found.dataset.train.labels).all()


def test_controls_know_nothing_of_the_image_and_nothing_of_images_that_are_not_shown():
    taught = lesson()
    left = TransferSpec(omitted=(3,)).select(taught).train_logits
    shuffled = TransferSpec("shuffled", omitted=(3,)).select(taught).train_logits
    assert (shuffled != left).any() and sorted(map(tuple, shuffled)) == sorted(map(tuple, left))
    assert not TransferSpec("uniform", omitted=(3,)).select(taught).train_logits.any()
    # What a kind of student alters is altered afterwards.
    flat = TransferSpec("shuffled", omitted=(3,), variant="mean_logit").select(taught).train_logits
    assert flat == pytest.approx(targets.flatten_omitted(shuffled, (3,)))
    pool = TransferSpec("uniform", omitted=(3,), variant="with_pool").select(taught).train_logits
    assert len(pool) == len(left) + 20 and not pool.any()


def test_a_plan_trains_what_is_shared_once():
    taught = lesson()

    def recipe(images):
        return TrainConfig((4, 4), 2, 8)

    students = ("distilled", "all_digits", "pairs")
    planned = omission.plan([(1,), (3,)], students, [SOFT], 2, taught.dataset, recipe)
    omitted = {block.transfer.omitted for block in planned}
    assert omitted == {(), (1,), (3,), (0, 1), (1, 2), (1, 3), (1, 4), (0, 3), (2, 3), (3, 4)}
    assert len(planned) == 2 * len(omitted)
    assert all(block.images == 60 - 12 * len(block.transfer.omitted) for block in planned)
    with_control = omission.plan([(1,)], ("distilled", "control"), [SOFT], 1, taught.dataset, recipe)
    assert [[run.objective for run in block.runs] for block in with_control] == [["hard", "kd"]]


def test_a_transfer_set_smaller_than_a_batch_is_refused():
    with pytest.raises(BadInput, match=r"--batch-size 30 is too large: without 0, 1, 2 24 training images are left"):
        omission.plan(
            [(0, 1, 2)], ["distilled"], [SOFT], 1, lesson().dataset, lambda images: TrainConfig((4, 4), 2, 30)
        )
