"""Measures the best learning rate at each T, under SGD and Adam, and the curvature that is to predict it."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from analysis.matching import curvature, training
from analysis.matching.curvature import Curvature
from analysis.matching.pair import Pair
from analysis.matching.rows import Numbers, Row
from kdjax import blocks, evaluation, loop, metrics, models, transfer, transforms
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.errors import require
from kdjax.objectives import Setting
from kdjax.progress import Progress, say

TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)
RATES: dict[Literal["sgd", "adam"], tuple[float, ...]] = {
    "sgd": tuple(2.0**power for power in range(-9, 3)),
    "adam": tuple(2.0**power for power in range(-11, -1)),
}
"""Peak rates, by factors of 2: a best one at an edge is called one."""
EPOCHS = (1, 2, 5)
"""After which curvature is measured, and after the last. (The rate is at its peak after the first.)"""


def measure(pair: Pair, seeds: int, epochs: int, images: int) -> Iterator[Row]:
    """Everything: curvature in the logits and at two common points, the best rates, curvature along the training at
    them, and where those students end up.

    Args:
        pair: with a hold-out; a multi-layer perceptron.
        seeds: of the students of each rate, 0 … seeds−1. Curvature along training is that of seed 0.
        epochs: passes of the students over the transfer set.
        images: training images over which the loss of the curvature is a mean, drawn once.
    """
    dataset = pair.data.dataset
    chosen = pair.sample(images)
    yield from _common(pair, chosen)
    config = dataclasses.replace(pair.config, epochs=epochs)
    per_epoch = len(dataset.train.images) // config.batch_size
    with Progress("students at each rate", epochs * per_epoch * (seeds + 1) * len(RATES)) as progress:
        for turn, optimizer in enumerate(RATES):
            work = dataclasses.replace(config, optimizer=optimizer)
            done = turn * epochs * per_epoch * (seeds + 1)
            rows = [row for seed in range(seeds) for row in _grid(pair, work, seed, progress, done)]
            yield from rows
            best = [best_of(table(Numbers(rows), optimizer, "errors")[:, t]) for t in range(len(TEMPERATURES))]
            own = [RATES[optimizer][index] for index in best]
            yield from _along(pair, work, own, chosen, progress, done + seeds * epochs * per_epoch)


def require_holdout(dataset: Dataset) -> None:
    """Raises BadInput: there are no images on which to choose rates."""
    message = "the run has no hold-out on which to choose rates: name a run of temperature_sweep with --holdout"
    require(len(dataset.holdout.images) > 0, message)


def cost(recipe: TrainConfig, dataset: Dataset, seeds: int, epochs: int, images: int) -> tuple[int, float]:
    """The number of students that `measure` trains, and the floating-point operations of its matrix products."""
    network = models.network(recipe, dataset.input_shape, dataset.num_classes)
    students = len(TEMPERATURES) * sum(len(rates) * seeds + 2 for rates in RATES.values())
    # A product with a Hessian is about two steps: forward and back, and the derivative of both along the vector.
    products = curvature.PRODUCTS * 2 * len(TEMPERATURES) * (1 + len(RATES) * (len(EPOCHS) + 1))
    training_flops = students * epochs * models.step_flops(network, len(dataset.train.images))
    return students, training_flops + products * 2 * models.step_flops(network, images)


def _common(pair: Pair, chosen: np.ndarray) -> Iterator[Row]:
    """What depends on no rate: logits, target, and the parameters at the start and of the pair's student."""
    test = evaluation.logits_of(pair.model, _stack(pair.params["end"], 1), {}, pair.data.dataset.test.images)
    for temperature in TEMPERATURES:
        for name, logits in (("teacher", pair.data.test_logits), ("student", test)):
            for kind, value in curvature.in_logits(logits, temperature).items():
                yield Row("logits", name, kind, temperature, math.nan, value)
        entropy = metrics.entropy(pair.data.test_logits, temperature) / math.log(pair.data.dataset.num_classes)
        yield Row("target", "teacher", "entropy", temperature, math.nan, entropy)
    for name, stage in (("start", "start"), ("trained student", "end")):
        say(f"curvature: {name}")
        params = _stack(pair.params[stage], len(TEMPERATURES))
        yield from _rows(name, _curvature(pair, params, None, chosen, TEMPERATURES), TEMPERATURES)


def _grid(pair: Pair, config: Any, seed: int, progress: Progress, done: int) -> Iterator[Row]:
    """Hold-out errors, and the mean training loss over the last epoch, of every T at every rate: one block."""
    dataset, rates = pair.data.dataset, RATES[config.optimizer]
    cells = [(temperature, rate) for temperature in TEMPERATURES for rate in rates]
    program = _program(pair, config, len(cells))
    begun, setting = loop.start(program, seed, config.epochs), _setting(cells)
    done += seed * config.epochs * program.steps_per_epoch
    fit = training.train_block(program, transfer.on_device(pair.data), setting, seed, begun, progress, done)
    logits = np.asarray(program.logits(fit.state, jnp.asarray(dataset.holdout.images)))
    failed = np.asarray(fit.state.failed_at) >= 0
    for index, (temperature, rate) in enumerate(cells):
        errors, loss = metrics.errors(logits[index], dataset.holdout.labels), float(fit.history.loss[-1, index])
        for kind, value in (("errors", errors), ("loss", loss)):
            told = math.inf if failed[index] else value
            yield Row("rate", config.optimizer, f"{kind} at {rate:g}", temperature, seed, told)


def _along(
    pair: Pair, config: Any, own: Sequence[float], chosen: np.ndarray, progress: Progress, done: int
) -> Iterator[Row]:
    """Curvature of students of each T along their training, at T's own best rate and at the smallest of these, which is
    the same for all; and how far the former end from the student of T = ∞."""
    cells = [*zip(TEMPERATURES, own, strict=True), *((temperature, min(own)) for temperature in TEMPERATURES)]
    program, half = _program(pair, config, len(cells)), len(TEMPERATURES)
    fit, transfer_set = loop.start(program, 0, 1), transfer.on_device(pair.data)
    for epoch in sorted({*(epoch for epoch in EPOCHS if epoch < config.epochs), config.epochs}):
        # Begun for so many epochs, by the schedule of all.
        begun = fit._replace(history=loop.start(program, 0, epoch).history)
        fit = training.train_block(program, transfer_set, _setting(cells), 0, begun, progress, done)
        state, divisors = fit.state, None
        if config.optimizer == "adam":
            divisors = curvature.adam_divisors(state.opt_state.nu, int(state.step))
        found = _curvature(pair, state.params, divisors, chosen, [temperature for temperature, _ in cells])
        for index, name in enumerate(("own rate", "common rate")):
            part = Curvature(*(values[index * half : (index + 1) * half] for values in found))
            when = "the last epoch" if epoch == config.epochs else f"epoch {epoch}"
            yield from _rows(f"{config.optimizer}, {name}, {when}", part, TEMPERATURES)
    logits = np.asarray(program.logits(fit.state, jnp.asarray(pair.data.dataset.test.images)))[:half]
    for temperature, of_t in zip(TEMPERATURES, logits, strict=True):
        distance = metrics.logit_rmse(of_t, logits[-1])
        yield Row("target", config.optimizer, "distance to the ∞ student", temperature, 0, distance)


def _program(pair: Pair, config: Any, settings: int) -> blocks.Program:
    return blocks.make_program(pair.model, config, len(pair.data.dataset.train.images), settings)


def _setting(cells: Sequence[tuple[float, float]]) -> Setting:
    temperatures, rates = (jnp.asarray(column, jnp.float32) for column in zip(*cells, strict=True))
    return Setting(temperatures, jnp.ones_like(rates), rates)


def _stack(params: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf)[None], count, axis=0), params)


def _curvature(pair: Pair, params: Any, divisors: Any, chosen: np.ndarray, temperatures: Sequence[float]) -> Curvature:
    images = transforms.to_float(jnp.asarray(pair.data.dataset.train.images[chosen]))
    divisors = jax.tree.map(jnp.ones_like, params) if divisors is None else divisors
    table = jnp.asarray(pair.data.train_logits[chosen])
    found = curvature.measure(params, divisors, images, table, jnp.asarray(temperatures, jnp.float32))
    return Curvature(*map(np.asarray, found))


def _rows(data: str, found: Curvature, temperatures: Sequence[float]) -> Iterator[Row]:
    for name, values in found._asdict().items():
        for temperature, value in zip(temperatures, values, strict=True):
            yield Row("curvature", data, name, temperature, math.nan, float(value))


def table(numbers: Numbers, optimizer: Any, kind: str) -> np.ndarray:
    """`[seeds, temperatures, rates]` of errors or losses."""
    columns = [numbers.curve("rate", optimizer, f"{kind} at {rate:g}")[1] for rate in RATES[optimizer]]
    return np.stack(columns, axis=-1).reshape(-1, len(TEMPERATURES), len(columns))


def best_of(values: np.ndarray) -> int:
    """Of `[seeds, rates]`: the rate with the lowest mean."""
    return int(np.argmin(values.mean(axis=0)))
