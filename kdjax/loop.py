"""The training loop: chunked, resumable, monitored."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from kdjax import checkpoints
from kdjax.arrays import StoredImages
from kdjax.blocks import Program, TransferSet, epoch_order
from kdjax.compilation import fixed_numerics
from kdjax.errors import require, require_count
from kdjax.objectives import Setting
from kdjax.progress import say
from kdjax.train import Metrics, State

CHUNK_SECONDS = 1.5
"""Longest time of a chunk of steps, roughly: progress and checkpoints wait no longer than that."""


Curve = Float[np.ndarray, "epochs settings"]


Report = Callable[[int, str], None]
"""Called with (step, note on the errors so far) after every chunk."""


class History(NamedTuple):
    """Learning curves of a block, on the host."""

    loss: Curve
    """Mean loss over the epoch's steps; nan where not reached."""
    error_rate: Curve
    """Share of wrong answers on the epoch's batches, in training mode; nan where not reached."""
    monitor_errors: Curve
    """Errors on the monitored images after the epoch; nan where not counted."""
    monitor_changed: Curve
    """Monitored images whose predicted class changed since the epoch before; nan where not counted at both."""
    answers: Int[np.ndarray, "settings monitored"]
    """Predicted classes of the monitored images, when they were last counted."""


class Fit(NamedTuple):
    """Training state of a block: what a checkpoint holds, and what training returns."""

    state: State
    sums: Metrics
    """Of the steps of the current epoch."""
    history: History


class Monitor(NamedTuple):
    """Images whose errors are counted now and then while training, for the learning curves alone."""

    images: StoredImages
    labels: Int[np.ndarray, "images"]
    every: int
    """Epochs between counts; the last epoch is always counted."""


@fixed_numerics()
def start(program: Program, seed: int, epochs: int | None = None, monitored: int = 0) -> Fit:
    """The state of a block before its first step. `epochs`: train only the first so many (None: all of the recipe);
    `monitored`: number of monitored images. Raises BadInput: more epochs than the recipe has."""
    require_count("epochs", epochs, "epochs of the program's recipe", most=program.epochs)
    epochs = program.epochs if epochs is None else epochs
    blank = np.full((epochs, program.settings), np.nan)
    answers = np.full((program.settings, max(monitored, 1)), -1, np.int32)  # orbax stores no empty arrays
    history = History(blank, blank.copy(), blank.copy(), blank.copy(), answers)
    return Fit(program.init(seed), Metrics(jnp.zeros(program.settings), jnp.zeros(program.settings)), history)


def prepared(program: Program, state: State, transfer_set: TransferSet) -> State:
    """A block's initial state with what its networks take from the training images before the first step, if any."""
    if program.model.prepare is None:
        return state
    own = program.model.prepare(transfer_set.images)
    stacked = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf)[None], program.settings, axis=0), own)
    # A copy: both are donated.
    averaged = None if state.averaged is None else {**state.averaged, **jax.tree.map(jnp.copy, stacked)}
    return state._replace(params={**state.params, **stacked}, averaged=averaged)


@fixed_numerics()
def fit(
    program: Program,
    transfer_set: TransferSet,
    setting: Setting,
    seed: int,
    initial: Fit,
    after_chunk: Callable[[Fit, int], None] = lambda fit, step: None,
    monitor: Monitor | None = None,
    chunk_seconds: float = CHUNK_SECONDS,
) -> Fit:
    """Trains a block to the end, from the step of `initial`, on the device of its transfer set.

    Args:
        setting: K values of each hyper-parameter.
        seed: fixes batch order, masks and jitter; that of `start`, which fixes initial weights.
        initial: from `start`, or a checkpoint. Its state is donated and its history written into: neither must be used
            again.
        after_chunk: called with the block and its step after every chunk (progress, checkpoints). An exception it
            raises ends the training.
        chunk_seconds: longest time between two calls of `after_chunk`, roughly. The result does not depend on it.

    Raises:
        BadInput: arrays or settings that are not what the program was made for.
    """
    _require_fit(program, transfer_set, setting)
    state, sums, history = initial
    if monitor is not None and history.answers.shape[1] != len(monitor.images):
        history = history._replace(answers=np.full((program.settings, len(monitor.images)), -1, np.int32))
    epochs, per_epoch, images = len(history.loss), program.steps_per_epoch, len(transfer_set.images)
    step, chunk, order, ordered = int(state.step), 4, None, -1
    if step == 0:
        state = prepared(program, state, transfer_set)
    while step < epochs * per_epoch:
        epoch = step // per_epoch
        if epoch != ordered:
            order, ordered = epoch_order(seed, epoch, images), epoch
        steps = min(chunk, (epoch + 1) * per_epoch - step)
        begin = time.perf_counter()
        state, sums = program.advance(state, sums, transfer_set, setting, seed, order, steps)
        jax.block_until_ready(sums)
        seconds = time.perf_counter() - begin
        # Grow by doubling: the first chunk's time holds the compilation, and says nothing of a step's.
        chunk = max(1, min(2 * chunk, int(chunk_seconds * steps / seconds)))
        step += steps
        if step % per_epoch == 0:
            history.loss[epoch], history.error_rate[epoch] = (np.asarray(total) / per_epoch for total in sums)
            sums = jax.tree.map(jnp.zeros_like, sums)
            if monitor is not None and ((epoch + 1) % monitor.every == 0 or epoch + 1 == epochs):
                answers = np.asarray(program.logits(state, monitor.images)).argmax(-1)
                history.monitor_errors[epoch] = (answers != monitor.labels[None]).sum(axis=1)
                if epoch and not np.isnan(history.monitor_errors[epoch - 1]).any():
                    history.monitor_changed[epoch] = (answers != history.answers).sum(axis=1)
                history.answers[:] = answers
        after_chunk(Fit(state, sums, history), step)
    return Fit(state, sums, history)


@fixed_numerics()
def fit_with_checkpoints(
    program: Program,
    transfer_set: TransferSet,
    setting: Setting,
    seed: int,
    epochs: int,
    stored: checkpoints.Checkpoints | None,
    report: Report,
    monitor: Monitor | None = None,
) -> Fit:
    """`fit` that resumes from the last of `stored` checkpoints (None: none), writes new ones by time, and reports."""
    initial = start(program, seed, epochs, 0 if monitor is None else len(monitor.images))
    if stored is not None and (latest := stored.latest(initial)) is not None:
        initial = latest._replace(history=History(*map(np.array, latest.history)))
        say(f"{stored.folder.name} resumes at step {int(initial.state.step)}")
    last_saved = time.monotonic()

    def after_chunk(fit: Fit, step: int) -> None:
        nonlocal last_saved
        if stored is not None and time.monotonic() - last_saved >= stored.seconds:
            stored.save(step, fit)
            last_saved = time.monotonic()
        report(step, _note(fit, step // program.steps_per_epoch))

    return fit(program, transfer_set, setting, seed, initial, after_chunk, monitor)


def _require_fit(program: Program, transfer_set: TransferSet, setting: Setting) -> None:
    """Raises BadInput unless the arrays are what the program was made for: shapes, labels from 0, finite logits, K."""
    images, labels, logits = map(jnp.asarray, transfer_set[:3])
    shape, classes, count = tuple(program.model.input_shape), program.model.num_classes, program.images
    for name, array, wanted in (
        ("images", images, (count, *shape)),
        ("labels", labels, (count,)),
        ("teacher_logits", logits, (count, classes)),
    ):
        require(array.shape == wanted, f"{name} of shape {array.shape} do not fit the program: it is for {wanted}")
    require(jnp.issubdtype(labels.dtype, jnp.integer), f"labels of {labels.dtype} are not allowed: give whole numbers")
    low, high = int(labels.min()), int(labels.max())
    require(low >= 0 and high < classes, f"labels from {low} to {high} are not allowed: give 0 to {classes - 1}")
    require(jnp.isfinite(logits).all(), "teacher_logits are not all finite: leave out the images where they are not")
    wanted, (*fields, own) = (program.settings,), setting
    for name, values in {**dict(zip(setting._fields, fields, strict=False)), **(own or {})}.items():
        given = f"{name} of shape {jnp.shape(values)} does not fit a program of {program.settings} settings"
        require(jnp.shape(values) == wanted, f"{given}: give one value each, an array {wanted}")


def _note(fit: Fit, epoch: int) -> str:
    if epoch == 0:
        return "first epoch"
    rates = 100 * fit.history.error_rate[epoch - 1]
    spread = f"{rates.min():.2f}" if len(rates) == 1 else f"{rates.min():.2f} to {rates.max():.2f}"
    counts = fit.history.monitor_errors[:epoch]
    counts = counts[~np.isnan(counts).any(axis=1)][-1:]
    monitored = f", {counts.min():.0f} to {counts.max():.0f} on monitored images" if len(counts) else ""
    return f"epoch {epoch}, {spread} % errors on training batches{monitored}"
