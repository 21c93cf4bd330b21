"""Students trained to the end at T = 1 … 1000 and at ∞: does the limit of the gradient become that of the function?"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from analysis.logit_matching_pair import Pair
from kdjax import blocks, losses, metrics, sweeps
from kdjax.config import SweepConfig
from kdjax.progress import Progress
from kdjax.train import Batch, Setting

TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, math.inf)
OPTIMIZERS = ("sgd", "adam")
PERTURBATION = 1e-6
"""Relative change of each initial weight of the floor's student: a few float32 roundings."""


class Measure(NamedTuple):
    """One number of one student."""

    optimizer: str
    name: str
    """`distance` (RMS over test images and classes between centred logits) to the ∞ student of the same seed, with
    `floor` (∞, perturbed start), `ceiling` (∞, next seed) and `distance to the teacher`; `mean logit drift` (RMS over
    test images, from the student's own start); `class mean drift` (RMS change of the class mean of the output layer's
    weights and biases, over the RMS change of them all); of the student of plain MSE the same, with `MSE: ` before."""
    temperature: float
    seed: int
    value: float


def train(pair: Pair, seeds: int, epochs: int | None) -> Iterator[Measure]:
    """Trains a block of students for each optimizer and seed, and another of plain MSE on logits; measures them all.

    Args:
        pair: whose transfer set, teacher and student architecture to use.
        seeds: seeds 0 … seeds−1.
        epochs: passes over the transfer set; None: as many as the pair's student had.
    """
    dataset, transfer_set = pair.lesson.dataset, sweeps.on_device(pair.lesson)
    images = len(dataset.train.images)
    recipe = dataclasses.replace(pair.config, epochs=epochs or pair.config.epochs)
    one = recipe.epochs * (images // recipe.batch_size) * 2  # the block, and MSE
    with Progress("students near the limit", one * seeds * len(OPTIMIZERS)) as progress:
        for number, optimizer in enumerate(OPTIMIZERS):
            config = dataclasses.replace(recipe, optimizer=optimizer)
            rate = SweepConfig(optimizer=optimizer).rates()[0]
            soft = blocks.make_program(pair.model, config, images, len(TEMPERATURES) + 1)
            mse = blocks.make_program(pair.model, config, images, 1, _mse)
            ends = []
            for seed in range(seeds):
                done = one * (number * seeds + seed)
                begun = blocks.start(soft, seed, config.epochs)
                begun = begun._replace(state=begun.state._replace(params=_perturb_last(begun.state.params, seed)))
                setting = _setting((*TEMPERATURES, math.inf), rate)
                fit = _fit(soft, transfer_set, setting, seed, begun, progress, done)
                pinned = _fit(
                    mse,
                    transfer_set,
                    _setting((math.inf,), rate),
                    seed,
                    blocks.start(mse, seed, config.epochs),
                    progress,
                    done + one // 2,
                )
                start = mse.init(seed)
                states = [(soft, fit.state), (mse, pinned.state), (mse, start)]
                logits = [np.asarray(program.logits(state, jnp.asarray(dataset.test.images))) for program, state in states]
                params = [jax.tree.map(np.asarray, _output(pair, state.params)) for _, state in states]
                ends.append(logits[0][len(TEMPERATURES) - 1])
                for name, temperature, value in _judge(pair, logits, params):
                    yield Measure(optimizer, name, temperature, seed, value)
            for seed in range(seeds):
                ceiling = metrics.logit_rmse(ends[seed], ends[(seed + 1) % seeds])
                yield Measure(optimizer, "ceiling", math.inf, seed, ceiling)


def _judge(pair: Pair, logits: list[np.ndarray], params: list[Any]) -> Iterator[tuple[str, float, float]]:
    soft, (mse,), (start,) = logits
    limit, floor = soft[-2], soft[-1]
    yield "floor", math.inf, metrics.logit_rmse(floor, limit)
    for i, temperature in enumerate(TEMPERATURES):
        yield "distance", temperature, metrics.logit_rmse(soft[i], limit)
        yield "distance to the teacher", temperature, metrics.logit_rmse(soft[i], pair.lesson.test_logits)
        yield "mean logit drift", temperature, metrics.mean_logit_drift(soft[i], start)
        yield "class mean drift", temperature, _class_mean_drift(params[0], params[2], i)
    yield "MSE: distance", math.inf, metrics.logit_rmse(mse, limit)
    yield "MSE: distance to the teacher", math.inf, metrics.logit_rmse(mse, pair.lesson.test_logits)
    yield "MSE: mean logit drift", math.inf, metrics.mean_logit_drift(mse, start)
    yield "MSE: class mean drift", math.inf, _class_mean_drift(params[1], params[2], 0)


def _class_mean_drift(end: dict[str, np.ndarray], start: dict[str, np.ndarray], index: int) -> float:
    changes = [end[name][index].astype(np.float64) - start[name][0] for name in ("kernel", "bias")]
    moved = np.concatenate([change.reshape(-1, change.shape[-1]) for change in changes])
    return float(np.sqrt(np.mean(moved.mean(axis=1) ** 2) / np.mean(moved**2)))


def _output(pair: Pair, params: Any) -> dict[str, Any]:
    output: dict[str, Any] = params[f"dense_{len(pair.config.hidden)}"]
    return output


def _mse(logits: jax.Array, batch: Batch, setting: Setting) -> jax.Array:
    return losses.logit_matching_loss(logits, batch.teacher_logits)


def _setting(temperatures: tuple[float, ...], rate: float) -> Setting:
    count = len(temperatures)
    return Setting(*(jnp.asarray(column, jnp.float32) for column in (temperatures, [1.0] * count, [rate] * count)))


def _perturb_last(params: Any, seed: int) -> Any:
    """The last of the K networks with each weight multiplied by 1 + 1e-6·N(0, 1)."""
    key = jax.random.fold_in(jax.random.key(seed), 1_000_000)  # a stream that no training uses

    def perturb(leaf: jax.Array) -> jax.Array:
        return leaf.at[-1].multiply(1 + PERTURBATION * jax.random.normal(key, leaf.shape[1:]))

    return jax.tree.map(perturb, params)


def _fit(
    program: blocks.Program,
    transfer_set: blocks.TransferSet,
    setting: Setting,
    seed: int,
    begun: blocks.Fit,
    progress: Progress,
    done: int,
) -> blocks.Fit:
    def after_chunk(fit: blocks.Fit, step: int) -> None:
        progress.update(done + step, f"seed {seed}")

    return blocks.fit(program, transfer_set, setting, seed, begun, after_chunk)
