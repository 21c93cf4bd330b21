"""Students: one block trained on a lesson, judged and kept. A block is one seed × K settings of one architecture."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from kdjax import blocks, loop, metrics, models, targets, teachers, transforms
from kdjax.blocks import TransferSet
from kdjax.checkpoints import Checkpoints
from kdjax.config import Targets, TrainConfig
from kdjax.datasets import Dataset, Split
from kdjax.loop import Monitor
from kdjax.teachers import Teacher
from kdjax.train import Objective, Setting, hinton, matched

CURVE_POINTS = 12
"""How often at most a block's errors are counted for its learning curves."""


class Run(NamedTuple):
    """One setting of a grid, as its row names it."""

    objective: str
    """`hard` (labels alone), `soft`, `double_softmax` (`targets`), or `matched` or `placebo` (`train.matched`)."""
    temperature: float
    """nan for a hard run: it has none."""
    soft_weight: float
    learning_rate: float


class Block(NamedTuple):
    """The unit of work: one seed × K settings of one architecture. What it computes depends on nothing else."""

    name: str
    width: int
    config: TrainConfig
    seed: int
    runs: tuple[Run, ...]
    """At most `size`; the program trains `size` in any case (the last one again) and the surplus is dropped."""
    size: int
    reference: float | None = None
    """Temperature whose gradient norm is matched, in blocks of matched runs or their placebos."""
    targets: Targets = "teacher"
    """Of the transfer set on which it is trained: where images are changed at each step, whether the teacher is asked
    about them."""
    monitor_every: int | None = None
    """Epochs between two counts of errors for the learning curves; None: `CURVE_POINTS` in all at most."""


class DistillationData(NamedTuple):
    """A dataset with the logits of its teacher, or the mean logits of several, computed once."""

    dataset: Dataset
    teacher: str
    """Short name of the teacher, or of several joined by +."""
    train_logits: Float[np.ndarray, "train classes"]
    holdout_logits: Float[np.ndarray, "holdout classes"]
    test_logits: Float[np.ndarray, "test classes"]
    teachers: tuple[Teacher, ...] = ()
    """Whom to ask about other images than these."""


class BlockResult(NamedTuple):
    """A finished block, on the host: all that is kept of it."""

    rows: list[dict[str, Any]]
    """One a run, as in `results.csv`."""
    history: list[dict[str, Any]]
    """One a run and epoch, as in `history.jsonl`."""
    logits: dict[str, Float[np.ndarray, "runs images classes"]]
    """Of the test images, and of the hold-out where there is one."""
    params: Any
    """Final parameters of all settings, numpy, as `models.variables`: with batch statistics beside them if any."""
    seconds: float
    """That the training and judging took, since it was last gone on with."""


def lesson(dataset: Dataset, taught_by: Sequence[Teacher]) -> DistillationData:
    """Asks the teacher, or the ensemble, about every image of the dataset."""

    def table(split: Split) -> Float[np.ndarray, "images classes"]:
        empty = np.zeros((0, dataset.num_classes), np.float32)
        return teachers.ensemble_logits(taught_by, split.images) if len(split.images) else empty

    name = "+".join(teacher.name for teacher in taught_by)
    tables = (table(dataset.train), table(dataset.holdout), table(dataset.test))
    return DistillationData(dataset, name, *tables, tuple(taught_by))


@dataclasses.dataclass(frozen=True)
class Shown:
    """The lesson with other targets on its training images, or with fewer; hold-out and test logits stay the teacher's.

    Equal ones are the same function: it is what `scheduling.Job` wants.
    """

    targets: Targets = "teacher"
    images: int | None = None
    """The first so many; None: all."""

    def __call__(self, taught: DistillationData) -> DistillationData:
        """The lesson as students are shown it."""
        if self.images is not None:
            train = Split(*(array[: self.images] for array in taught.dataset.train))
            dataset = dataclasses.replace(taught.dataset, train=train)
            taught = taught._replace(dataset=dataset, train_logits=taught.train_logits[: self.images])
        if self.targets == "shift_averaged":
            return taught._replace(train_logits=shift_averaged(taught.teachers, taught.dataset.train.images))
        if self.targets == "shuffled":
            return taught._replace(train_logits=targets.shuffle(taught.train_logits, 0))
        if self.targets == "random":
            images = taught.dataset.train.images
            strangers = tuple(teachers.untrained(one, index, images) for index, one in enumerate(taught.teachers))
            logits = teachers.ensemble_logits(strangers, images)
            return taught._replace(train_logits=logits, teachers=strangers)
        return taught._replace(train_logits=np.asarray(targets.alter(self.targets, jnp.asarray(taught.train_logits))))


def shift_averaged(
    taught_by: Sequence[Teacher], images: UInt8[np.ndarray, "images height width channels"]
) -> Float[np.ndarray, "images classes"]:
    """The teachers' mean logits over all shifts of each image by up to `targets.SHIFTS` pixels each way."""
    total, pixels = np.zeros((len(images), taught_by[0].info["num_classes"])), targets.SHIFTS
    for down in range(-pixels, pixels + 1):
        for right in range(-pixels, pixels + 1):
            total += teachers.ensemble_logits(taught_by, transforms.shift(images, down, right))
    return (total / (2 * pixels + 1) ** 2).astype(np.float32)


def objective(block: Block) -> Objective:
    """What the block's students minimise."""
    if block.reference is None:
        return hinton
    return matched(block.reference, placebo=block.runs[0].objective == "placebo")


def setting(block: Block) -> Setting:
    """The block's settings as arrays of K, padded with the last one."""
    runs = [*block.runs, *[block.runs[-1]] * (block.size - len(block.runs))]
    # A hard run has soft weight 0, which a finite soft term survives: any temperature will do.
    temperatures = [1.0 if run.objective == "hard" else run.temperature for run in runs]
    columns = (temperatures, [run.soft_weight for run in runs], [run.learning_rate for run in runs])
    bugged = [float(run.objective == "double_softmax") for run in runs]
    found = Setting(*(jnp.asarray(column, jnp.float32) for column in columns))
    return found._replace(double_softmax=jnp.asarray(bugged, jnp.float32)) if any(bugged) else found


def asked(block: Block, taught: DistillationData) -> tuple[tuple[TrainConfig, ...], Targets]:
    """The teachers that a block asks at each step, because its images are not those of the table; and for what."""
    if not asks(block):
        return (), "teacher"
    return tuple(teacher.config for teacher in taught.teachers), block.targets


def asks(block: Block) -> bool:
    """Whether a block asks its teachers at each step."""
    changed = bool(block.config.jitter) or block.config.augment != "none"
    return changed and block.targets in targets.ASKED and any(run.objective != "hard" for run in block.runs)


def on_device(taught: DistillationData) -> TransferSet:
    """The transfer set where the students are trained."""
    images, labels = taught.dataset.train
    # By way of the host, onto the device of this thread.
    known = tuple(
        jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[0]), (teacher.params, teacher.model_state))
        for teacher in taught.teachers
    )
    return TransferSet(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(taught.train_logits), known)


def train_block(
    block: Block,
    taught: DistillationData,
    transfer_set: TransferSet,
    kept: Checkpoints | None,
    report: Callable[[int, str], None],
) -> BlockResult:
    """Trains a block (or goes on with it) and judges its runs: a function of block and lesson, wherever it runs.

    Args:
        block: what to train.
        taught: the lesson on which it is judged; its training set is the transfer set.
        transfer_set: the same on the device.
        kept: checkpoints to write and to go on from; None: none.
        report: called with (step, note) after every chunk.
    """
    dataset = taught.dataset
    begin = time.perf_counter()
    shape = dataset.train.images.shape[1:]
    program = blocks.program_for(
        block.config,
        shape,
        dataset.num_classes,
        len(dataset.train.images),
        block.size,
        objective(block),
        *asked(block, taught),
    )
    watched, name = (dataset.holdout, "holdout") if len(dataset.holdout.images) else (dataset.test, "test")
    every = block.monitor_every or -(-block.config.epochs // CURVE_POINTS)
    monitor = Monitor(jnp.asarray(watched.images), watched.labels, every)
    trained = loop.fit_with_checkpoints(
        program, transfer_set, setting(block), block.seed, block.config.epochs, kept, report, monitor
    )
    starts = np.asarray(program.logits(program.init(block.seed), jnp.asarray(dataset.test.images)))[0]
    splits = {"test": (dataset.test, taught.test_logits), "transfer": (dataset.train, taught.train_logits)}
    if len(dataset.holdout.images):
        splits["holdout"] = (dataset.holdout, taught.holdout_logits)
    logits = {
        key: np.asarray(program.logits(trained.state, jnp.asarray(split.images))) for key, (split, _) in splits.items()
    }
    # The last update of all has no loss after it that could tell: the logits do.
    broken = ~np.isfinite(logits["test"]).all(axis=(1, 2)) & (np.asarray(trained.state.failed_at) < 0)
    failed_at = np.where(broken, int(trained.state.step), np.asarray(trained.state.failed_at))
    rows, history = [], []
    for index, run in enumerate(block.runs):
        names = {"width": block.width, "teacher": taught.teacher, "seed": block.seed, **_named(run)}
        row: dict[str, Any] = {**names, "epochs": block.config.epochs}
        for key, (split, table) in splits.items():
            row |= {
                f"{key}_{measure}": value
                for measure, value in metrics.evaluate(logits[key][index], split.labels, table).items()
            }
        row["mean_logit_drift"] = metrics.mean_logit_drift(logits["test"][index], starts)
        table = taught.train_logits
        if run.objective == "double_softmax":
            table = np.asarray(targets.alter("double_softmax", jnp.asarray(table)))
        row["soft_target_entropy"] = None if run.objective == "hard" else metrics.entropy(table, run.temperature)
        row["failed_at"] = int(failed_at[index])
        row["last_good_errors"] = _last_good(trained.history, index, row["failed_at"], program.steps_per_epoch)
        rows.append(row)
        history += [{**names, "monitor": name, **line} for line in _curve(trained.history, index)]
    kept_logits = {key: table[: len(block.runs)] for key, table in logits.items() if key != "transfer"}
    params = jax.tree.map(np.asarray, models.variables(trained.state.params, trained.state.model_state))
    return BlockResult(rows, history, kept_logits, params, time.perf_counter() - begin)


def _named(run: Run) -> dict[str, Any]:
    temperature = None if run.objective == "hard" else run.temperature
    return {**run._asdict(), "temperature": temperature}


def _curve(history: loop.History, index: int) -> Iterator[dict[str, Any]]:
    for epoch in range(len(history.loss)):
        measures = (history.loss, history.error_rate, history.monitor_errors, history.monitor_changed)
        values = [float(measure[epoch, index]) for measure in measures]
        loss, rate, wrong, changed = (float(f"{value:.9g}") if np.isfinite(value) else None for value in values)
        line = {"epoch": epoch + 1, "loss": loss, "transfer_error_rate": rate, "monitor_errors": wrong}
        yield line if changed is None else {**line, "monitor_changed": changed}


def _last_good(history: loop.History, index: int, failed_at: int, steps_per_epoch: int) -> float | None:
    """Errors on the monitored images the last time they were counted before a run failed; None if it did not fail."""
    counted = history.monitor_errors[: max(failed_at, 0) // steps_per_epoch, index]
    counted = counted[np.isfinite(counted)]
    return float(counted[-1]) if len(counted) else None
