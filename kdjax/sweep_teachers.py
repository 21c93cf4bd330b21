"""The teachers of a sweep: which they are, whether they are those of before, and how good they are."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import grids, metrics, models, scheduling, sweep_checks, teachers
from kdjax.array_files import read_arrays
from kdjax.config import RunConfig, SweepConfig, TeacherConfig, TrainConfig, of_teacher
from kdjax.datasets import Dataset
from kdjax.errors import BadInput, require
from kdjax.run_directory import OtherBlocks, RunDirectory, start_again
from kdjax.teachers import Teacher
from kdjax.transfer import DistillationData

SAME_TEACHER = 0.05
"""Difference between the logits of one teacher on two machines, as a share of their spread, at most: in bfloat16 it is
about a tenth of that."""


def find(
    config: TeacherConfig, folders: Sequence[Path], dataset: Dataset, run: RunConfig
) -> tuple[TrainConfig | None, tuple[Teacher, ...], list[str]]:
    """The recipe of a teacher that is found or trained (None: it was named, or came with the data), the teachers that
    the user named, and the fingerprints of those that students learn from.

    Raises BadInput: a teacher that cannot be loaded, does not fit, or saw the hold-out; a recipe that cannot be trained
    on these images, or that is given beside a teacher.
    """
    if dataset.teacher is not None:
        there = f"the teacher of {dataset.name} came with the data, and no other is loaded or trained"
        require(not folders, f"--teacher-from is not allowed: {there}; leave it out, or the teacher's columns")
        require(config == TeacherConfig(), f"--teacher options are not allowed: {there}; leave them out")
        return None, (), [dataset.teacher.fingerprint]
    refused = "--teacher options are not allowed with --teacher-from"
    given = f"{refused}: teachers are either given or trained; leave out one of them"
    require(not folders or config == TeacherConfig(), given)
    if named := tuple(teachers.load(folder, dataset) for folder in folders):
        for teacher in named:
            unseen = not len(dataset.holdout.images) or teacher.info.get("data") == dataset.fingerprint
            reason = "a choice on a hold-out needs a teacher that never saw it"
            remedy = f"{reason}; give the --holdout of its own training, or leave out --teacher-from"
            require(unseen, f"{teacher.folder} was not trained on these training images less the hold-out: {remedy}")
            teachers.warn_of_differences(teacher)
        return None, named, [teacher.info["fingerprint"] for teacher in named]
    if len(dataset.input_shape) == 1 and config.jitter == TeacherConfig.jitter:
        config = dataclasses.replace(config, jitter=0)  # the default is for images
    recipe = config.train_config(grids.teacher_epochs(dataset))
    sweep_checks.require_augment("teacher.augment", config.augment, dataset)
    sweep_checks.require_at_most("teacher.batch-size", config.batch_size, len(dataset.train.images))
    sweep_checks.require_jitter("teacher.jitter", config.jitter, dataset)
    try:
        models.network(recipe, dataset.input_shape, dataset.num_classes)
    except BadInput as error:
        raise of_teacher(error) from None
    name = teachers.fingerprint(recipe, config.rate, config.seed, dataset)
    if not teachers.place(run.out, name).exists():
        scheduling.require_devices("teacher.devices", config.devices)
    return recipe, (), [name]


def require_same(record: RunDirectory, data: DistillationData) -> None:
    """Raises OtherBlocks: students of the run directory learned from one whose logits of the test images, stored
    beside them, differ from this one's by more than rounding. A teacher that is trained again, with other versions or
    on other cores, is another."""
    path = record.folder / "test.npz"
    taught = any(folder.is_dir() for name in ("blocks", "checkpoints") for folder in (record.folder / name).glob("*"))
    if not taught or not path.exists():
        return
    now = before = data.test_logits
    with contextlib.suppress(BadInput, KeyError):  # a damaged one is written again
        before = read_arrays(path)["teacher_logits"]
    spread = np.square(before - before.mean(axis=1, keepdims=True)).mean()
    same = before.shape != now.shape or np.square(now - before).mean() <= SAME_TEACHER**2 * spread
    if not same:
        told = f"the teacher was trained again, and students in {record.folder} learned from the one before"
        raise OtherBlocks(f"{told}: put that one's folder back, {start_again(record.folder)}")


def evaluate(data: DistillationData, dataset: Dataset, config: SweepConfig) -> list[dict[str, Any]]:
    """Measures of what the students learn from, the one teacher or the ensemble, first; then of its members. Of a
    teacher that came with the data also its soft targets at each T: their entropy (nats) on the test images, and the
    share of their mass on classes that were not given."""
    measures = {"test": metrics.evaluate(data.test_logits, dataset.test.labels)}
    if len(dataset.holdout.images):
        measures["holdout"] = metrics.evaluate(data.holdout_logits, dataset.holdout.labels)
    errors = {f"{split}_errors": measures.get(split, {}).get("errors") for split in ("test", "holdout")}
    report: list[dict[str, Any]] = [{"name": data.teacher, **measures, **errors}]
    if (given := dataset.teacher) is not None:
        at = [
            {"temperature": t, "entropy": metrics.entropy(given.test, t), "not_given": given.not_given(t)}
            for t in sorted(config.temperatures)
        ]
        about = {"kind": given.kind, "classes": dataset.num_classes, "kept": given.kept, "soft_targets": at}
        report[0] |= {**about, "renormalised": given.renormalised, "dropped": given.dropped}
    for teacher in data.teachers if len(data.teachers) > 1 else ():
        of_member = metrics.evaluate(teacher.logits(dataset.test.images), dataset.test.labels)
        report.append({"name": teacher.name, "test": of_member, "test_errors": of_member["errors"]})
    return report
