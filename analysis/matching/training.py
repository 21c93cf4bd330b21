"""Students trained to the end at T = 1 … 1000 and at ∞: do the trained functions converge to the same limit?"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from analysis import stats
from analysis.matching.laws import slope
from analysis.matching.pair import Pair
from analysis.matching.rows import Claim, Numbers, Row
from kdjax import blocks, compilation, loop, losses, metrics, models, transfer
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.objectives import Setting
from kdjax.progress import Progress

TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, math.inf)
RATES: dict[Literal["sgd", "adam"], float] = {"sgd": 0.02, "adam": 1e-3}
"""Peak learning rate of each optimizer, one for all T. The gradient of T²·KL is bounded by T, and that
at ∞ is not: at high rates SGD would diverge at high T, far from the teacher's logits."""
PERTURBATION = 1e-6
"""Relative change of each initial weight of the floor's student: a few float32 roundings."""


def train(pair: Pair, seeds: int, epochs: int | None) -> Iterator[Row]:
    """Trains a block of students for each optimizer and seed, and another of plain MSE on logits; measures them all.

    Measured are `distance` (RMS over test images and classes between centred logits) to the ∞ student of the same seed,
    with `floor` (∞, perturbed start), `ceiling` (∞, next seed) and `distance to the teacher`; `mean logit drift` (RMS
    over test images, from the student's own start); `class mean drift` (RMS change of the class mean of the output
    layer's weights and biases, over the RMS change of them all); of the student of plain MSE the same, with `MSE: `.

    Args:
        pair: whose transfer set, teacher and student architecture to use.
        seeds: seeds 0 … seeds−1.
        epochs: passes over the transfer set; None: as many as the pair's student had.
    """
    dataset, transfer_set = pair.data.dataset, transfer.on_device(pair.data)
    images = len(dataset.train.images)
    recipe = dataclasses.replace(pair.config, epochs=epochs or pair.config.epochs)
    one = recipe.epochs * (images // recipe.batch_size) * 2  # the block, and MSE
    with Progress("students near the limit", one * seeds * len(RATES)) as progress:
        for number, (optimizer, rate) in enumerate(RATES.items()):
            config = dataclasses.replace(recipe, optimizer=optimizer)
            soft = blocks.make_program(pair.model, config, images, len(TEMPERATURES) + 1)
            mse = blocks.make_program(pair.model, config, images, 1, _mse)
            ends = []
            for seed in range(seeds):
                done = one * (number * seeds + seed)
                begun = loop.start(soft, seed, config.epochs)
                begun = begun._replace(state=begun.state._replace(params=_perturb_last(begun.state.params, seed)))
                setting = _setting((*TEMPERATURES, math.inf), rate)
                fit = train_block(soft, transfer_set, setting, seed, begun, progress, done)
                begun, setting = loop.start(mse, seed, config.epochs), _setting((math.inf,), rate)
                pinned = train_block(mse, transfer_set, setting, seed, begun, progress, done + one // 2)
                start = mse.init(seed)
                states = [(soft, fit.state), (mse, pinned.state), (mse, start)]
                images_on_device = jnp.asarray(dataset.test.images)
                logits = [np.asarray(program.logits(state, images_on_device)) for program, state in states]
                params = [jax.tree.map(np.asarray, _output(pair, state.params)) for _, state in states]
                ends.append(logits[0][len(TEMPERATURES) - 1])
                for name, temperature, value in _measure(pair, logits, params):
                    yield Row("training", optimizer, name, temperature, seed, value)
            for seed in range(seeds):
                ceiling = metrics.logit_rmse(ends[seed], ends[(seed + 1) % seeds])
                yield Row("training", optimizer, "ceiling", math.inf, seed, ceiling)


def cost(recipe: TrainConfig, dataset: Dataset, seeds: int, epochs: int) -> tuple[int, float]:
    """The number of students that `train` trains, and the floating-point operations of their matrix products."""
    network = models.network(recipe, dataset.input_shape, dataset.num_classes)
    students = len(RATES) * seeds * (len(TEMPERATURES) + 2)
    return students, students * epochs * models.step_flops(network, len(dataset.train.images))


def claims(numbers: Numbers, optimizer: str) -> list[Claim]:
    """What the students of one optimizer say of the theory."""
    temperatures = sorted(set(numbers.curve("training", optimizer, "distance")[0]))
    finite = [t for t in temperatures if math.isfinite(t)]
    means = np.array([numbers.seeds(optimizer, "distance", t).mean() for t in finite])
    floor, ceiling = (numbers.seeds(optimizer, name) for name in ("floor", "ceiling"))
    far = [numbers.seeds(optimizer, "distance", t) for t in (finite[0], 20.0, finite[-1])]
    name = named(optimizer)
    beyond = [t for t, mean in zip(finite, means, strict=True) if mean > 2 * floor.mean()]
    reaches = next((t for t in finite if not beyond or t > beyond[-1]), None)
    above = [i for i, mean in enumerate(means) if mean > 3 * floor.mean() and finite[i] >= 10]
    fitted = np.array(finite)[above]
    class_mean, hot = numbers.seeds(optimizer, "class mean drift"), numbers.seeds(optimizer, "mean logit drift")
    mse, mse_drift = (numbers.seeds(optimizer, f"MSE: {kind}") for kind in ("class mean drift", "mean logit drift"))
    own, pinned = (numbers.seeds(optimizer, f"{kind}distance to the teacher") for kind in ("", "MSE: "))
    conserved = all(numbers.seeds(optimizer, "class mean drift", t).max() < 1e-4 for t in temperatures)
    reached = f"within twice the floor from T = {reaches:g}" if reaches else "never within twice the floor"
    sgd = optimizer == "sgd"
    listed = [
        Claim(
            f"{name}: students end up nearer to the ∞ student as T grows (centred test logits, {len(floor)} seeds)",
            f"falls with T; at {finite[-1]:g} below half the ceiling",
            f"RMS {_interval(far[0])} at T = {finite[0]:g}, {_interval(far[1])} at 20, {_interval(far[2])} at "
            f"{finite[-1]:g}",
            bool(far[0].mean() > far[1].mean() > far[2].mean() and far[2].mean() < ceiling.mean() / 2),
            f"floor {_interval(floor)}, ceiling {ceiling.mean():.3g}; {reached}",
        ),
    ]
    if len(fitted) > 1:  # else too few T from 10 on lie above three floors: nothing is tested
        fall = slope(fitted, means[above])
        where = f"from T = {fitted[0]:g} to {fitted[-1]:g}, where the distance is above three floors"
        claim = f"{name}: and as fast as their gradients do, {where}"
        listed.append(Claim(claim, "slope −1 ± 0.2", f"{fall:.2f}", abs(fall + 1) <= 0.2))
    listed.append(
        Claim(
            f"{name}: the output layer's class mean " + ("stays where it started, at every T" if sgd else "moves"),
            "relative change below 1e-4 (rounding)" if sgd else "relative change above 1e-2",
            f"{class_mean.max():.1g} at ∞; mean logit drifts by {_interval(hot)} (hidden units move)",
            conserved if sgd else bool(class_mean.min() > 1e-2),
        )
    )
    if sgd:  # under Adam both move it, and which moves it more is not predicted
        listed.append(
            Claim(
                f"{name}: KL leaves the mean logit free, MSE on logits pins it",
                "MSE moves the class mean",
                f"class mean change {_interval(mse)} against {_interval(class_mean)}",
                bool(mse.min() > 1e-2),
                f"drift {_interval(mse_drift)} against {_interval(hot)}; distance to the teacher's centred logits "
                f"{_interval(pinned)} against {_interval(own)}",
            )
        )
    return listed


def named(optimizer: str) -> str:
    """As it is written: SGD, Adam."""
    return {"sgd": "SGD", "adam": "Adam"}[optimizer]


def _measure(pair: Pair, logits: list[np.ndarray], params: list[Any]) -> Iterator[tuple[str, float, float]]:
    soft, (mse,), (start,) = logits
    limit, floor = soft[-2], soft[-1]
    yield "floor", math.inf, metrics.logit_rmse(floor, limit)
    for i, temperature in enumerate(TEMPERATURES):
        yield "distance", temperature, metrics.logit_rmse(soft[i], limit)
        yield "distance to the teacher", temperature, metrics.logit_rmse(soft[i], pair.data.test_logits)
        yield "mean logit drift", temperature, metrics.mean_logit_drift(soft[i], start)
        yield "class mean drift", temperature, _class_mean_drift(params[0], params[2], i)
    yield "MSE: distance", math.inf, metrics.logit_rmse(mse, limit)
    yield "MSE: distance to the teacher", math.inf, metrics.logit_rmse(mse, pair.data.test_logits)
    yield "MSE: mean logit drift", math.inf, metrics.mean_logit_drift(mse, start)
    yield "MSE: class mean drift", math.inf, _class_mean_drift(params[1], params[2], 0)


def _class_mean_drift(end: dict[str, np.ndarray], start: dict[str, np.ndarray], index: int) -> float:
    changes = [end[name][index].astype(np.float64) - start[name][0] for name in ("kernel", "bias")]
    moved = np.concatenate([change.reshape(-1, change.shape[-1]) for change in changes])
    return float(np.sqrt(np.mean(moved.mean(axis=1) ** 2) / np.mean(moved**2)))


def _output(pair: Pair, params: Any) -> dict[str, Any]:
    output: dict[str, Any] = params[f"dense_{len(pair.config.hidden)}"]
    return output


def _mse(student_logits: jax.Array, teacher_logits: jax.Array, labels: jax.Array, setting: Setting) -> jax.Array:
    return losses.logit_matching_loss(student_logits, teacher_logits)


def _setting(temperatures: tuple[float, ...], rate: float) -> Setting:
    count = len(temperatures)
    return Setting(jnp.asarray(temperatures, jnp.float32), jnp.ones(count), jnp.full(count, rate, jnp.float32))


def _perturb_last(params: Any, seed: int) -> Any:
    """The last of the K networks with each weight multiplied by 1 + 1e-6·N(0, 1)."""
    key = jax.random.fold_in(compilation.key(seed), 1_000_000)  # a stream that no training uses

    def perturb(leaf: jax.Array) -> jax.Array:
        return leaf.at[-1].multiply(1 + PERTURBATION * jax.random.normal(key, leaf.shape[1:]))

    return jax.tree.map(perturb, params)


def train_block(
    program: blocks.Program,
    transfer_set: blocks.TransferSet,
    setting: Setting,
    seed: int,
    begun: loop.Fit,
    progress: Progress,
    done: int,
) -> loop.Fit:
    """Trains a block, showing its steps after the `done` ones."""

    def after_chunk(fit: loop.Fit, step: int) -> None:
        progress.update(done + step, f"seed {seed}")

    return loop.fit(program, transfer_set, setting, seed, begun, after_chunk)


def _interval(values: np.ndarray) -> str:
    mean = stats.interval(values)
    return f"{mean.mean:.3g}" + ("" if math.isnan(mean.low) else f" ± {mean.high - mean.mean:.1g}")
