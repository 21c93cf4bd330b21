"""A grid of settings → blocks → a run directory: what is trained, and in which block."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax import datasets, metrics, run_directory, scheduling, teachers
from kdjax.config import NUMERICS, SweepConfig, TrainConfig
from kdjax.datasets import Dataset
from kdjax.errors import require
from kdjax.progress import say
from kdjax.provenance import provenance
from kdjax.students import Block, DistillationData, Run, Shown, lesson
from kdjax.teachers import Teacher

EPOCHS = {"mnist5k": 40}
"""Epochs of a student where the user gives none: 20, but for small datasets, whose epochs have few steps."""
TEACHER_EPOCHS = {"mnist5k": 80}
"""The same for a teacher: 30."""
MOST_EXTENSIONS = 3
"""Times a grid of learning rates is widened because the best lies at its edge."""


def teacher_epochs(dataset: Dataset) -> int:
    """Epochs of a teacher where the user gives none."""
    return TEACHER_EPOCHS.get(dataset.name, 30)


def grid(config: SweepConfig, rate: float) -> list[list[Run]]:
    """The settings of a sweep at one learning rate, in groups that share an objective.

    Hard labels and each temperature (and each with double softmax, if asked for); then, with `match_gradient_norm`,
    each temperature matched, and its placebos.
    """
    soft = [(temperature, weight) for weight in config.soft_weights for temperature in config.temperatures]
    soft = soft if config.soft_targets else []
    bugged = soft if config.double_softmax else []
    first = [Run("hard", float("nan"), 0.0, rate)] if config.hard_labels else []
    kinds = [("soft", setting) for setting in soft] + [("double_softmax", setting) for setting in bugged]
    groups = [first + [Run(kind, *setting, rate) for kind, setting in kinds]]
    if config.match_gradient_norm is not None:
        groups += [[Run(objective, *setting, rate) for setting in soft] for objective in ("matched", "placebo")]
    return groups


def plan(config: SweepConfig, epochs: int, rates: Sequence[float] = ()) -> list[Block]:
    """The blocks of a sweep, in order. K is fixed by the config: a group's last block is padded, not smaller.

    Args:
        config: the grid.
        epochs: of a student, where the config gives none.
        rates: learning rates in place of the config's. A rate more adds blocks and changes none.
    """
    size = min(config.block_size, max(map(len, grid(config, 1.0))))
    planned = []
    for width in config.widths:
        for seed in range(config.seeds):
            for rate in rates or config.rates():
                parts = [runs[i : i + size] for runs in grid(config, rate) for i in range(0, len(runs), size)]
                for index, runs in enumerate(parts):
                    name = f"width{width}-seed{seed}-rate{rate:.9g}-{index}"
                    student, kind = config.student(width, epochs), runs[-1].objective
                    reference = config.match_gradient_norm if kind in ("matched", "placebo") else None
                    same = (size, reference, config.targets, config.monitor_every)
                    planned.append(Block(name, width, student, seed, tuple(runs), *same))
    return planned


class Sweep(NamedTuple):
    """A sweep that is ready to train: what the config became once the data were seen."""

    config: SweepConfig
    dataset: Dataset
    teacher_config: TrainConfig
    given: tuple[Teacher, ...]
    """Teachers named by the user; none: one is found or trained."""
    blocks: list[Block]
    identity: dict[str, Any]
    """What fixes the results: it names the run directory and must not change under the same name."""
    folder: Path


def prepare(config: SweepConfig, experiment: str = "temperature_sweep", dataset: Dataset | None = None) -> Sweep:
    """Reads the data, settles the defaults that depend on them, and refuses what cannot work, before any training.

    Args:
        config: the sweep.
        experiment: whose run directory it is.
        dataset: what `config.data` asks for, where it has been read before.
    """
    scheduling.check(config.where)
    if dataset is None:
        dataset = datasets.load(config.data)
        say(f"data: {dataset.description}" + (f"; for the full set: {dataset.hint}" if dataset.hint else ""))
    count = len(dataset.train.images)
    shown = count if config.transfer_images is None else config.transfer_images
    require(shown <= count, f"--transfer-images {shown} is more than the {count:,} training images")
    require(config.batch_size <= count, f"--batch-size {config.batch_size} is more than the {count:,} training images")
    teacher_config = config.teacher.train_config(teacher_epochs(dataset))
    require(
        config.teacher.batch_size <= count,
        f"--teacher.batch-size {config.teacher.batch_size} is more than the {count:,} training images",
    )
    given = tuple(teachers.load(folder, dataset) for folder in config.teacher_from)
    for teacher in given:
        require(
            not config.data.holdout or teacher.info.get("data") == dataset.fingerprint,
            f"{teacher.folder} was not trained on these training images less the hold-out: a choice on a hold-out "
            "needs a teacher that never saw it; give the --holdout of its own training, or leave out --teacher-from",
        )
        teachers.warn_of_differences(teacher)
    known = [teacher.info["fingerprint"] for teacher in given] or [
        teachers.fingerprint(teacher_config, config.teacher.learning_rate, config.teacher.seed, dataset)
    ]
    if not given and not teachers.place(config.out, known[0]).exists():
        scheduling.check_devices("teacher.devices", config.teacher.devices)
    planned = plan(config, EPOCHS.get(dataset.name, 20))
    # Where things are kept, and what is named by its fingerprint below, does not fix a result.
    elsewhere = {"out", "name", "fresh", "checkpoint_seconds", "dry_run", "data", "teacher", "teacher_from", "where"}
    asked = {
        field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name not in elsewhere
    }
    identity = {
        "experiment": experiment,
        "config": {**asked, "epochs": planned[0].config.epochs, "learning_rates": config.rates()},
        "data": dataset.identity(),
        "teachers": known,
        "numerics": NUMERICS,
    }
    folder = run_directory.run_folder(config.out, experiment, config.name, identity)
    return Sweep(config, dataset, teacher_config, given, planned, identity, folder)


def run(sweep: Sweep) -> Path:
    """Finds or trains the teacher, trains each block that is not there yet, writes the tables; returns the folder."""
    config, dataset = sweep.config, sweep.dataset
    with run_directory.opened(sweep.folder, sweep.identity, config.fresh) as record:
        rate, seed = config.teacher.learning_rate, config.teacher.seed
        taught_by = sweep.given or (
            teachers.find_or_train(sweep.teacher_config, rate, seed, dataset, config.out, config.checkpoint_seconds),
        )
        taught = lesson(dataset, taught_by)
        record.describe(
            {**provenance(), "config": config, "hint": dataset.hint, "teachers": _report(taught, taught_by)}
        )
        _keep_test_images(record, taught)
        rates, planned, images = config.rates(), sweep.blocks, config.transfer_images or len(dataset.train.images)
        shown = Shown(config.targets, config.transfer_images)
        for extension in range(MOST_EXTENSIONS + 1):
            jobs = [scheduling.Job(block, images, shown) for block in planned]
            scheduling.train(jobs, taught, record, config.where, config.checkpoint_seconds)
            more = wider(record.write_tables(), rates)
            if more and extension == MOST_EXTENSIONS:
                say("the best learning rate still lies at an edge of the grid: ask for other --learning-rates")
            if not more or extension == MOST_EXTENSIONS:
                break
            say(f"the best learning rate lies at an edge of the grid: adding {', '.join(f'{rate:g}' for rate in more)}")
            rates = (*rates, *more)
            planned = plan(config, planned[0].config.epochs, rates)
    return sweep.folder


def wider(results: Any, rates: Sequence[float]) -> tuple[float, ...]:
    """Learning rates to add because, for some setting, the hold-out's choice lies at an edge of the grid.

    One budget for all: what one temperature or the baseline needs, every one gets. An edge is moved out by the step of
    the grid there. Without a hold-out, or with a single rate, nothing is chosen and nothing is added.

    Args:
        results: `results.csv` as a table.
        rates: the rates so far.
    """
    if "holdout_errors" not in results or len(rates) < 2:
        return ()
    ordered, chosen = sorted(rates), set()
    errors = results["holdout_errors"].where(results["failed_at"] < 0, float("inf"))
    for _, runs in results.assign(errors=errors).groupby(
        ["width", "objective", "temperature", "soft_weight"], dropna=False
    ):
        chosen.add(runs.groupby("learning_rate")["errors"].mean().idxmin())
    below = [ordered[0] ** 2 / ordered[1]] if min(chosen) <= ordered[0] * 1.000001 else []
    above = [ordered[-1] ** 2 / ordered[-2]] if max(chosen) >= ordered[-1] * 0.999999 else []
    return tuple(float(f"{rate:.6g}") for rate in below + above)


def _report(taught: DistillationData, taught_by: Sequence[Teacher]) -> list[dict[str, Any]]:
    # The ensemble, or the one teacher, first: it is what the students learn from.
    report = [{"name": taught.teacher, **_judged(taught)}]
    if len(taught_by) > 1:
        report += [
            {"name": teacher.name, "test": judged, "test_errors": judged["errors"]}
            for teacher in taught_by
            for judged in [metrics.evaluate(teacher.logits(taught.dataset.test.images), taught.dataset.test.labels)]
        ]
    return report


def _judged(taught: DistillationData) -> dict[str, Any]:
    dataset = taught.dataset
    judged = {"test": metrics.evaluate(taught.test_logits, dataset.test.labels)}
    if len(dataset.holdout.images):
        judged["holdout"] = metrics.evaluate(taught.holdout_logits, dataset.holdout.labels)
    return {
        **judged,
        "test_errors": judged["test"]["errors"],
        "holdout_errors": judged.get("holdout", {}).get("errors"),
    }


def _keep_test_images(record: run_directory.RunDirectory, taught: DistillationData) -> None:
    # A few images to look at: those of which the teacher is least sure, one a class.
    labels, logits = taught.dataset.test.labels, taught.test_logits
    second, first = np.sort(logits, axis=1)[:, -2:].T
    order = np.argsort(first - second, kind="stable")
    rows = np.array([next(row for row in order if labels[row] == label) for label in np.unique(labels)])
    run_directory.write_arrays(
        record.folder / "test.npz",
        labels=labels,
        teacher_logits=logits,
        example_images=taught.dataset.test.images[rows],
        example_rows=rows,
        holdout_labels=taught.dataset.holdout.labels,
    )
