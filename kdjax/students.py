"""Students: a block of them, the unit of work, is trained, evaluated and turned into rows of `results.csv`."""

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from kdjax import blocks, loop, metrics, models, objectives, targets
from kdjax.blocks import TransferSet
from kdjax.checkpoints import Checkpoints
from kdjax.compilation import fixed_numerics
from kdjax.config import TrainConfig
from kdjax.loop import Monitor, Report
from kdjax.objectives import Setting
from kdjax.transfer import DistillationData, TransferSpec

CURVE_POINTS = 12
"""Most counts of a block's errors for its learning curves."""
ROW_SCHEMA = 1
"""Raised whenever the columns of a row change their names or their meaning."""


class Run(NamedTuple):
    """One run of a block: its setting, as its row names it. Seed, width and teacher are the block's."""

    objective: str
    """`hard` (labels alone), or an objective as `objectives.parse` reads it, such as `dkd(beta=2)`."""
    temperature: float
    """nan for a hard run, and for an objective that does not use one."""
    soft_weight: float
    learning_rate: float


class Block(NamedTuple):
    """The unit of work: one seed × K settings of one architecture on one transfer set, trained as one program. Its
    result depends on nothing else."""

    name: str
    width: int
    config: TrainConfig
    seed: int
    runs: tuple[Run, ...]
    """At most `size`; where there are fewer, the last one is repeated and the copies' results are dropped."""
    size: int
    images: int
    """Number of images of its transfer set."""
    transfer: TransferSpec = TransferSpec()
    """What its students learn from."""
    objective: str = "kd"
    """What they minimise, by name: each run has its own hyper-parameters of it. Hard labels are its soft weight 0."""
    monitor_every: int | None = None
    """Epochs between two counts of errors for the learning curves; None: `CURVE_POINTS` in all at most."""

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.config.epochs * (self.images // self.config.batch_size)

    @property
    def counted_every(self) -> int:
        """Epochs between two counts of errors; they are counted after the last epoch too."""
        return self.monitor_every or -(-self.config.epochs // CURVE_POINTS)

    @property
    def queries_teacher(self) -> bool:
        """Whether the teacher is queried at each step, because the images change, the targets follow them, and some
        run's loss depends on them."""
        changed = bool(self.config.jitter) or self.config.augment != "none"
        follows = self.transfer.targets in targets.FOLLOW_IMAGE
        soft = any(run.objective != "hard" for run in self.runs)
        return changed and follows and soft and objectives.uses_teacher(self.objective)


class BlockResult(NamedTuple):
    """A finished block, on the host: all that is stored of it."""

    rows: list[dict[str, Any]]
    """One per run, as in `results.csv`."""
    history: list[dict[str, Any]]
    """One per run and epoch, as in `history.jsonl`."""
    logits: dict[str, Float[np.ndarray, "runs images classes"]]
    """Of the test images, and of the hold-out where there is one."""
    params: Any
    """Final parameters of the runs, numpy, as `models.pack_variables`: with batch statistics if there are any."""
    seconds: float
    """Seconds of training and evaluation since the last resume."""


def row_schema() -> dict[str, Any]:
    """What a row's columns mean: the schema's number, and the registered metrics."""
    return {"number": ROW_SCHEMA, "metrics": list(metrics.METRICS)}


def traced_setting(block: Block) -> Setting:
    """T, w, the learning rate and the objective's own hyper-parameters of the block's runs as arrays of K, padded with
    the last run: from here on they are traced."""
    runs = [*block.runs, *[block.runs[-1]] * (block.size - len(block.runs))]
    # A hard run has soft weight 0, which a finite soft term survives: any temperature and hyper-parameter will do. So
    # will any temperature where the objective does not use it.
    temperatures = [1.0 if math.isnan(run.temperature) else run.temperature for run in runs]
    weights, rates = [run.soft_weight for run in runs], [run.learning_rate for run in runs]
    last = block.objective if runs[-1].objective == "hard" else runs[-1].objective
    values = [objectives.parse(last if run.objective == "hard" else run.objective) for run in runs]
    own = {
        name: jnp.asarray([one.hyperparameters[name] for one in values], jnp.float32)
        for name in values[0].hyperparameters
    }
    temperature, soft_weight, rate = (jnp.asarray(one, jnp.float32) for one in (temperatures, weights, rates))
    return Setting(temperature, soft_weight, rate, own or None)


def program_of(block: Block, data: DistillationData) -> blocks.Program:
    """The block's compiled functions."""
    dataset, loss = data.dataset, objectives.loss_of(block.objective)
    queried = tuple(teacher.config for teacher in data.teachers) if block.queries_teacher else ()
    shape, classes, images = dataset.input_shape, dataset.num_classes, len(dataset.train.images)
    return blocks.program_for(block.config, shape, classes, images, block.size, loss, queried)


@fixed_numerics()
def train_block(
    block: Block, data: DistillationData, transfer_set: TransferSet, checkpoints: Checkpoints | None, report: Report
) -> BlockResult:
    """Trains a block (or resumes it) and evaluates its runs: a function of block and data, on any device. `data` are
    what `block.transfer` selects: their training set, on the device, is `transfer_set`. Where there are `checkpoints`,
    it writes them and resumes from them. `report` is called after every chunk."""
    begin = time.perf_counter()
    dataset, program = data.dataset, program_of(block, data)
    split, monitored = ("holdout", dataset.holdout) if len(dataset.holdout.images) else ("test", dataset.test)
    monitor = Monitor(jnp.asarray(monitored.images), monitored.labels, block.counted_every)
    epochs, values = block.config.epochs, traced_setting(block)
    fit = loop.fit_with_checkpoints(program, transfer_set, values, block.seed, epochs, checkpoints, report, monitor)
    begun = loop.prepared(program, program.init(block.seed), transfer_set)
    start = np.asarray(program.logits(begun, jnp.asarray(dataset.test.images)))[0]
    state, splits = fit.state, {name: getattr(dataset, name).images for name in ("test", "train", "holdout")}
    splits["train"] = transfer_set.images  # they are on the device already
    logits = {name: np.asarray(program.logits(state, jnp.asarray(part))) for name, part in splits.items() if len(part)}
    rows, history = _rows(block, data, fit, logits, start, split, program.steps_per_epoch)
    stored = {name: table[: len(block.runs)] for name, table in logits.items() if name != "train"}
    own = jax.tree.map(lambda leaf: leaf[: len(block.runs)], (state.evaluated, state.model_state))
    params = jax.tree.map(np.asarray, models.pack_variables(*own))
    return BlockResult(rows, history, stored, params, time.perf_counter() - begin)


def _rows(
    block: Block,
    data: DistillationData,
    fit: loop.Fit,
    logits: dict[str, np.ndarray],
    start: np.ndarray,
    monitored: str,
    steps_per_epoch: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row of `results.csv` for each run, and its lines of `history.jsonl`; `start` are the untrained test logits."""
    state, rows, history = fit.state, [], []
    # After the last update no loss is computed: the logits show whether it failed.
    broken = ~np.isfinite(logits["test"]).all(axis=(1, 2)) & (np.asarray(state.failed_at) < 0)
    failed_at = np.where(broken, int(state.step), np.asarray(state.failed_at))
    for index, run in enumerate(block.runs):
        names = {"width": block.width, "teacher": data.teacher, "seed": block.seed, **run._asdict()}
        names["temperature"] = None if math.isnan(run.temperature) else run.temperature
        row = {**names, "epochs": block.config.epochs, **_measures(index, logits, data)}
        row["mean_logit_drift"] = metrics.mean_logit_drift(logits["test"][index], start)
        row["soft_target_entropy"] = _entropy(run, data.train_logits)
        row["failed_at"] = int(failed_at[index])
        row["last_good_errors"] = _last_good(fit.history, index, row["failed_at"], steps_per_epoch)
        rows.append(row)
        history += [{**names, "monitor": monitored, **line} for line in _curve(fit.history, index)]
    return rows, history


def _measures(index: int, logits: dict[str, np.ndarray], data: DistillationData) -> dict[str, Any]:
    """Every metric of one run on every split; the training images are called the transfer set."""
    measures: dict[str, Any] = {}
    for name, of_block in logits.items():
        teacher_logits = getattr(data, f"{name}_logits")
        values = metrics.evaluate(of_block[index], getattr(data.dataset, name).labels, teacher_logits)
        measures |= {f"{'transfer' if name == 'train' else name}_{metric}": value for metric, value in values.items()}
    return measures


def _entropy(run: Run, teacher_logits: np.ndarray) -> float | None:
    if math.isnan(run.temperature):
        return None
    objective = objectives.parse(run.objective)
    if objective.target is None:
        return metrics.entropy(teacher_logits, run.temperature)
    softened, temperature = objective.target(jnp.asarray(teacher_logits), run.temperature, **objective.hyperparameters)
    return metrics.entropy(np.asarray(softened), temperature)


def _curve(history: loop.History, index: int) -> Iterator[dict[str, Any]]:
    for epoch in range(len(history.loss)):
        measures = (history.loss, history.error_rate, history.monitor_errors, history.monitor_changed)
        values = [float(measure[epoch, index]) for measure in measures]
        loss, rate, errors, changed = (float(f"{value:.9g}") if np.isfinite(value) else None for value in values)
        line = {"epoch": epoch + 1, "loss": loss, "transfer_error_rate": rate, "monitor_errors": errors}
        yield line if changed is None else {**line, "monitor_changed": changed}


def _last_good(history: loop.History, index: int, failed_at: int, steps_per_epoch: int) -> float | None:
    """The last count of errors on the monitored images before a run failed, by weights whose loss was finite; None if
    it did not fail, or there is no such count."""
    counts = history.monitor_errors[: max(failed_at - 1, 0) // steps_per_epoch, index]
    counts = counts[np.isfinite(counts)]
    return float(counts[-1]) if len(counts) else None
