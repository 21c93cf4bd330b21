"""What each objective is at every temperature, on a pair's logits, in float64.

z student logits, v teacher logits, `[cases, N]`; zc, vc less their mean over classes; g the gradient of the sum over
cases in z, at T and at T = ∞. A part or a share of g is one of `Σ g²` over all cases. Cases are taken in batches, as
in training: in a batch `dist` correlates, and its gradient is that of the batch's sum.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array

from analysis.atlas.pairs import Pair, batches
from analysis.matching import laws, theory
from analysis.matching.theory import centred, rms
from kdjax.objectives import Objective
from kdjax.progress import Progress

TEMPERATURES = np.unique([*np.geomspace(0.1, 1e5, 31).round(9), 4.0, 20.0, math.inf])
"""Five a decade, those of the tables, and ∞."""
NEAR = 0.1
"""A gradient is near its limit where its error is below."""
FIT = (20.0, 1000.0)
"""T/s, s the standard deviation of the logits, over which slopes are fitted: below, higher orders count; above, few of
the signs that `total_variation` holds still change."""
NOTHING = 1e-12
"""A gradient times the logits is 0 but for rounding where it is below so much of the loss."""
EXACT = 1e-7
"""Two gradients are one where they differ by less, relative: rounding, larger where student and teacher are alike."""
KINDS = {
    "logit matching": "the squared distance of the logits, each less its mean",
    "logit matching, mean included": "the squared distance of the logits",
    "another distance of logits": "another function of the difference of the logits alone",
    "direction alone": "a gradient with no part along the student's own logits: their scale is free",
    "direction, over the batch": "the same of all logits of a batch together: one factor for all is free",
    "no teacher": "the same gradient whatever the teacher's logits",
    "none of these": "",
    "no limit": "",
}
"""What an objective can be as T → ∞, in the order of tables and figures."""
MEASURES = ("loss over limit", "error", "cosine", "scale", "direction", "mean logit", "logit matching")
"""Columns of `objectives.csv`, against T; the shares `rank 1` … `rank N` follow.

`loss over limit`: mean loss over mean limit. `error`, `cosine`: of g and its limit, relative. `scale`, `direction`,
`mean logit`: the parts of g along zc, across it, and along a shift of all logits. `logit matching`: cosine of g with
the gradient of ‖zc − vc‖². `rank r`: the share of the class with the teacher's r-th largest logit.
"""


def measure(objectives: Sequence[Objective], pairs: Sequence[Pair]) -> pd.DataFrame:
    """Every curve: a row for each pair (`student`, `seed`), objective and temperature."""
    tables = []
    with Progress("objectives", len(objectives) * len(pairs)) as progress:
        for index, objective in enumerate(objectives):
            at = theory.against_temperature(functools.partial(_at, objective))
            temperatures = TEMPERATURES if callable(objective.limit) else TEMPERATURES[:-1]
            for pair in pairs:
                order = np.argsort(-pair.teacher, axis=1, kind="stable")
                curves = at(pair.student, pair.teacher, temperatures, pair.labels, order)
                names = {"student": pair.name, "seed": pair.seed, "objective": str(objective)}
                tables.append(pd.DataFrame({**names, "temperature": temperatures, **curves}))
            progress.update((index + 1) * len(pairs), str(objective))
    return pd.concat(tables, ignore_index=True)


def _at(objective: Objective, temperature: Array, z: Array, v: Array, labels: Array, order: Array) -> dict[str, Array]:
    loss, g = value_and_gradient(lambda z, v: objective.loss(z, v, labels_of(labels), temperature), z, v)
    zc, matching, error = centred(z), z - v - jnp.mean(z - v, axis=1, keepdims=True), jnp.float64(math.nan)
    ratio, cosine = error, error
    if callable(objective.limit):
        limit, g_limit = limit_of(objective, z, v, labels)
        g_limit = jnp.where(rms(g_limit) * rms(zc) > NOTHING * jnp.mean(jnp.abs(limit)), g_limit, jnp.nan)
        ratio, error = jnp.mean(loss) / jnp.mean(limit), rms(g - g_limit) / rms(g_limit)
        cosine = _cosine(g, g_limit)
    g = jnp.where(rms(g) * rms(zc) > NOTHING * jnp.mean(jnp.abs(loss)), g, jnp.nan)  # rounding has no parts
    squares = jnp.square(g)
    whole, middle = jnp.sum(squares), jnp.sum(jnp.square(jnp.mean(g, axis=1))) * z.shape[1]
    length = jnp.sum(jnp.square(zc), axis=1)
    scale = jnp.sum(jnp.square(jnp.sum(g * zc, axis=1)) / jnp.where(length > 0, length, 1))
    parts = scale / whole, (whole - middle - scale) / whole, middle / whole
    values = ratio, error, cosine, *parts, _cosine(centred(g), matching)
    shares = jnp.sum(jnp.take_along_axis(squares, order, axis=1), axis=0) / whole
    ranks = {f"rank {rank + 1}": shares[rank] for rank in range(z.shape[1])}
    return {**dict(zip(MEASURES, values, strict=True)), **ranks}


def _cosine(a: Array, b: Array) -> Array:
    return jnp.mean(a * b) / (rms(a) * rms(b))


def value_and_gradient(loss: Any, z: Array, v: Array) -> tuple[Array, Array]:
    """The loss of each case, `[cases]`, and the gradient of their sum in z, `[cases, N]`; `loss` sees batches."""

    def total(z: Array) -> tuple[Array, Array]:
        each = loss(in_batches(z), in_batches(v))
        return jnp.sum(each), each

    (_, each), gradient = jax.value_and_grad(total, has_aux=True)(z)
    return each.reshape(-1), gradient


def limit_of(objective: Objective, z: Array, v: Array, labels: Array) -> tuple[Array, Array]:
    """The same of its limit as T → ∞, as the registry has it."""
    parameters = objective.hyperparameters
    return value_and_gradient(lambda z, v: objective.limit(z, v, labels_of(labels), **parameters), z, v)


def in_batches(array: Array) -> Array:
    """`[cases, …]` as `[batches, examples, …]`."""
    return array.reshape(batches(len(array)), -1, *array.shape[1:])


def labels_of(labels: Array) -> Array:
    """Labels beside logits in batches."""
    return in_batches(jnp.asarray(labels))


def what_it_becomes(objective: Objective, pair: Pair) -> str:
    """What an objective is as T → ∞, one of `KINDS`, told from the gradient of its limit."""
    if not callable(objective.limit):
        return "no limit"
    z, v, zc = pair.student, pair.teacher, centred(pair.student)
    another = np.roll(v, 1, axis=0)  # another example's

    def gradient(z: np.ndarray, v: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(limit_of(objective, *map(jnp.asarray, (z, v, pair.labels)))[1])

    g, matching = gradient(z, v), zc - centred(v)
    size, along = rms(g), np.sum(g * zc, axis=1) / np.linalg.norm(zc, axis=1)
    if rms(g - gradient(z, another)) < EXACT * size:
        return "no teacher"
    if np.mean(g * matching) > (1 - EXACT) * rms(centred(g)) * rms(matching):
        return "logit matching" if rms(g.mean(axis=1)) < EXACT * size else "logit matching, mean included"
    if rms(g - gradient(z + another, v + another)) < EXACT * size:
        return "another distance of logits"
    if rms(along) < EXACT * size:
        return "direction alone"
    return "direction, over the batch" if abs(np.mean(g * zc)) < EXACT * size * rms(zc) else "none of these"


def summary(curves: pd.DataFrame, pairs: Sequence[Pair]) -> pd.DataFrame:
    """A row for each pair and objective: `threshold`, the T above which the error stays below `NEAR` (the least that is
    measured, where it always does); `slope` of the error in T, log–log. nan where there is none."""
    spreads = {(pair.name, pair.seed): theory.spread(pair.student, pair.teacher) for pair in pairs}
    rows = []
    for (student, seed, objective), curve in curves.groupby(["student", "seed", "objective"], sort=False):
        finite = curve[np.isfinite(curve["temperature"])]
        temperatures, errors = finite["temperature"].to_numpy(), finite["error"].to_numpy()
        ratios = temperatures / spreads[student, seed]
        far = (ratios >= FIT[0]) & (ratios <= FIT[1]) & (errors > NOTHING)
        known = np.isfinite(errors).all()
        threshold = laws.falls_below(NEAR, temperatures, np.maximum(errors, NOTHING)) if known else math.nan
        slope = laws.slope(temperatures[far], errors[far]) if far.sum() > 2 else math.nan
        rows.append({"student": student, "seed": seed, "objective": objective, "threshold": threshold, "slope": slope})
    return pd.DataFrame(rows)


def same_at_every_temperature(curves: pd.DataFrame) -> set[str]:
    """The objectives whose gradient does not depend on T."""
    most = curves.groupby("objective")["error"].max()
    return set(most[most < EXACT].index)
