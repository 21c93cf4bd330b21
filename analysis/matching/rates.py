"""The best learning rate at each T, under SGD and Adam, beside the curvature that is to predict it: `curvature.md`."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from analysis import crossed
from analysis.matching import curvature, training
from analysis.matching.curvature import Curvature
from analysis.matching.pair import Pair
from analysis.matching.rows import Claim, Numbers, Row, verdict
from analysis.tables import Table, fixed, number
from kdjax import blocks, evaluation, loop, metrics, models, transfer, transforms
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.errors import require
from kdjax.objectives import Setting
from kdjax.progress import Progress, say

ROUNDING = float(np.finfo(np.float32).eps)
"""No eigenvalue is nearer: a residual is that of exact arithmetic."""
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)
RATES: dict[Literal["sgd", "adam"], tuple[float, ...]] = {
    "sgd": tuple(2.0**power for power in range(-9, 3)),
    "adam": tuple(2.0**power for power in range(-11, -1)),
}
"""Peak rates, by factors of 2: a best one at an edge is called one."""
EPOCHS = (1, 2, 5)
"""After which curvature is measured, and after the last. (The rate is at its peak after the first.)"""
FACTOR = 2.0
"""A prediction is to be within this factor."""
HEAD = """# Does curvature say which learning rate is best at each T?

**{verdict}**

{note}

Sharpness is the largest eigenvalue of the Hessian of the mean of T²·KL. The best rate has the fewest errors on held-out
images; in brackets, the rates that a paired 95 % interval over seeds does not tell apart from it. Step size is the
gradient's norm; conditioning is the largest over the mean eigenvalue of the Gauss–Newton matrix; the target's entropy
is a share of ln N, that of equal probabilities. A rate at which a run failed is not the best.

"""


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
            best = [_best(_table(Numbers(rows), optimizer, "errors")[:, t]) for t in range(len(TEMPERATURES))]
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


def _table(numbers: Numbers, optimizer: Any, kind: str) -> np.ndarray:
    """`[seeds, temperatures, rates]` of errors or losses."""
    columns = [numbers.curve("rate", optimizer, f"{kind} at {rate:g}")[1] for rate in RATES[optimizer]]
    return np.stack(columns, axis=-1).reshape(-1, len(TEMPERATURES), len(columns))


def _best(values: np.ndarray) -> int:
    """Of `[seeds, rates]`: the rate with the lowest mean."""
    return int(np.argmin(values.mean(axis=0)))


def best_rates(numbers: Numbers, optimizer: Any, kind: str = "errors") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each T the best rate, and the lowest and highest that a paired 95 % interval does not tell apart from it. A
    rate at which a run failed, whose errors and loss are infinite, is told apart; nan where that is so of all."""
    rates, found = np.array(RATES[optimizer]), []
    for values in np.moveaxis(_table(numbers, optimizer, kind), 1, 0):
        best, whole = _best(values), np.flatnonzero(np.isfinite(values).all(axis=0))
        alike = [rates[j] for j in whole if not crossed.paired_difference(values[:, j], values[:, best]).low > 0]
        found.append((rates[best], min(alike), max(alike)) if len(whole) else (math.nan,) * 3)
    best, low, high = np.array(found).T
    return best, low, high


OWN = "sharpness at the end of training at T's best rate"


def predictors(numbers: Numbers, optimizer: str) -> dict[str, np.ndarray]:
    """Each eigenvalue whose inverse may be the best rate, over T; first the one that is the same at all T."""
    last, own = (f"{optimizer}, {rate} rate, the last epoch" for rate in ("common", "own"))
    places = {
        "sharpness in the teacher's logits": ("logits", "teacher", "largest"),
        "sharpness at the initial weights": ("curvature", "start", "hessian"),
        "sharpness of one trained student": ("curvature", "trained student", "hessian"),
        "sharpness after epoch 1 at one rate": ("curvature", f"{optimizer}, common rate, epoch 1", "hessian"),
        "sharpness at the end of training at one rate": ("curvature", last, "hessian"),
        OWN: ("curvature", own, "hessian"),
    }
    if optimizer == "adam":
        places["the same, of the Hessian as Adam divides it, at one rate"] = ("curvature", last, "preconditioned")
    found = {"none: one rate for all T": np.ones(len(TEMPERATURES))}
    return found | {name: numbers.curve(*place)[1] for name, place in places.items()}


def claims(numbers: Numbers) -> Iterator[Claim]:
    """Whether each eigenvalue's inverse is the best rate, and whether the measurements bear it out."""
    for optimizer in RATES:
        name = training.named(optimizer)
        for kind in ("errors", "loss"):
            best = best_rates(numbers, optimizer, kind)[0]
            what = "hold-out errors" if kind == "errors" else "training loss"
            for predictor, values in predictors(numbers, optimizer).items():
                if predictor == OWN and kind == "loss":
                    continue  # it was measured at the rates that are best by hold-out errors
                spread = curvature.spread_of(best * values)
                yield Claim(
                    f"{name}, best {what}: {predictor}",
                    f"rate · eigenvalue within a factor of {FACTOR:g}: largest/smallest ≤ {FACTOR**2:g}",
                    f"{spread:.3g}",
                    spread <= FACTOR**2,
                )
            edges = [number(t) for t, rate in zip(TEMPERATURES, best, strict=True) if _at_edge(optimizer, rate)]
            claim = f"{name}, best {what}: no best rate at the grid's edge"
            yield Claim(claim, "none", f"at T = {', '.join(edges)}" if edges else "none", not edges)
    residual = max(float(numbers.curve("curvature", name, "residual")[1].max()) for name in numbers.data("curvature"))
    yield Claim(
        "eigenvalues are converged",
        "‖A x − λ x‖/λ ≤ 1 %",
        f"{100 * max(residual, ROUNDING):.2g} % at most",
        residual <= 0.01,
    )


def _at_edge(optimizer: Any, rate: float) -> bool:
    return rate in (RATES[optimizer][0], RATES[optimizer][-1])


def summary(numbers: Numbers, note: str) -> str:
    """The page: a line a temperature, then every prediction."""
    judged = list(claims(numbers))
    cells = [claim.cells() for claim in judged]
    lines = Table(["prediction of the best rate", "asked", "measured", "holds"], cells, left=4)
    head = HEAD.format(verdict=verdict(judged), note=note)
    return f"{head}{_by_temperature(numbers).markdown()}\n\n{lines.markdown()}\n"


def _by_temperature(numbers: Numbers) -> Table:
    header = ["T", "target's entropy / ln N", "sharpness, logits", "gradient, start", "sharpness, start"]
    header += ["sharpness, trained student", "conditioning, trained student"]
    best = {optimizer: best_rates(numbers, optimizer) for optimizer in RATES}
    for optimizer in RATES:
        header += [f"{training.named(optimizer)}: best rate", "rate · sharpness, trained student", "errors"]
    rows = []
    for index, temperature in enumerate(TEMPERATURES):

        def at(part: str, data: str, curve: str, index: int = index) -> float:
            return float(numbers.curve(part, data, curve)[1][index])

        trained = [at("curvature", "trained student", kind) for kind in ("hessian", "gauss_newton", "mean_eigenvalue")]
        values = [at("target", "teacher", "entropy"), at("logits", "teacher", "largest")]
        values += [at("curvature", "start", kind) for kind in ("gradient", "hessian")]
        row = [number(temperature), *(f"{value:.3g}" for value in (*values, trained[0], trained[1] / trained[2]))]
        for optimizer in RATES:
            rate, low, high = (column[index] for column in best[optimizer])
            errors = _table(numbers, optimizer, "errors")[:, index].mean(axis=0).min()
            of_rate = [f"{rate:.3g} [{low:.3g}, {high:.3g}]", f"{rate * trained[0]:.3g}", fixed(float(errors))]
            row += ["none", "", ""] if math.isnan(rate) else of_rate
        rows.append(row)
    return Table(header, rows)
