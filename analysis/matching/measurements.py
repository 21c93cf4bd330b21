"""What `analysis.logit_matching` measures of gradients, as rows: on random logits, and on a trained pair."""

import math
from collections.abc import Iterator

import numpy as np

from analysis.matching import laws, theory
from analysis.matching import pair as pair_
from analysis.matching.config import MatchingConfig
from analysis.matching.pair import Pair
from analysis.matching.rows import STAGES, Row

ENTRIES = 400_000
"""Random logits in all, cases × classes: constants are then known to about 1 %."""
CLOSE = 0.01
"""Distance of a student called close to its teacher, as a share of s."""


def random_rows(config: MatchingConfig) -> Iterator[Row]:
    """Everything that is measured on random logits; what is not about N, for one number of classes alone."""
    for count in config.classes:
        for distance, data in ((None, f"random {count}"), (CLOSE, f"random {count}, close")):
            z, v = theory.random_logits(count, config.scale, ENTRIES // count, distance=distance)
            yield from limit_rows(data, z, v)
            constant = laws.random_constant(count, distance is not None)
            yield _number("law", data, "first order: closed form", constant)
            if count == config.main_classes and distance is None:
                yield from other_rows(data, z[:10_000], v[:10_000])


def pair_rows(pair: Pair, images: int) -> Iterator[Row]:
    """Everything that is measured on the trained pair, on so many training images; the curves of several teachers on as
    many test images, or all, against a student whose logits are alike."""
    chosen = pair.sample(images)
    v = pair.data.train_logits[chosen].astype(np.float64)
    for stage in STAGES:
        data = f"pair, {stage}"
        z = pair_.student_logits(pair, stage, chosen).astype(np.float64)
        yield from limit_rows(data, z, v)
        yield from other_rows(data, z, v)
        for name, values in pair_.parameter_curves(pair, stage, chosen, theory.TEMPERATURES).items():
            yield from _curve("parameters", data, name, theory.TEMPERATURES, values)
    for name, logits in pair.peers.items():
        # As of a student before training: what differs is the teacher.
        v = logits[:images].astype(np.float64)
        z = np.zeros_like(v)
        errors, _ = theory.errors_and_cosines(z, v, theory.TEMPERATURES)
        first = errors[theory.APPROXIMATIONS[0]]
        yield from _curve("teachers", name, "error", theory.TEMPERATURES, first)
        yield _number("teachers", name, "s", theory.spread(v, v))
        yield _number("teachers", name, "T at 10 %", laws.falls_below(0.1, theory.TEMPERATURES, first))


def limit_rows(data: str, z: np.ndarray, v: np.ndarray) -> Iterator[Row]:
    """The limit T → ∞ of the gradient: errors, cosines, laws, plateau, thresholds."""
    errors, cosines = theory.errors_and_cosines(z, v, theory.TEMPERATURES)
    for name in theory.APPROXIMATIONS:
        yield from _curve("error", data, name, theory.TEMPERATURES, errors[name])
        yield from _curve("cosine", data, name, theory.TEMPERATURES, cosines[name])
    for law, order in zip(laws.laws(z, v), ("first order", "second order"), strict=True):
        for field in ("slope", "predicted_slope", "constant", "predicted_constant"):
            yield _number("law", data, f"{order}: {field.replace('_', ' ')}", getattr(law, field))
    if z.shape[1] > 2:
        yield _number("law", data, "1 − cosine: slope", laws.cosine_slope(z, v))
    # Far out on the plateau, wherever the logits' spread puts it.
    s = theory.spread(z, v)
    far, far_cosines = theory.errors_and_cosines(z, v, np.array([laws.FIT[-1] * s]))
    plain = theory.APPROXIMATIONS[2]
    yield _number("plateau", data, "error", far[plain][0])
    yield _number("plateau", data, "predicted error", laws.plateau(z, v))
    yield _number("plateau", data, "cosine", far_cosines[plain][0])
    yield _number("plateau", data, "predicted cosine", math.sqrt(1 - laws.plateau(z, v) ** 2))
    yield _number("threshold", data, "s", s)
    first = errors[theory.APPROXIMATIONS[0]]
    for level in (0.1, 0.01):
        below = laws.falls_below(level, theory.TEMPERATURES, first)
        yield _number("threshold", data, f"T at {100 * level:g} %", below)
    at_20, cosine_20 = theory.errors_and_cosines(z, v, np.array([20.0]))
    yield _number("threshold", data, "error at T = 20", at_20[theory.APPROXIMATIONS[0]][0])
    yield _number("threshold", data, "cosine at T = 20", cosine_20[theory.APPROXIMATIONS[0]][0])


def other_rows(data: str, z: np.ndarray, v: np.ndarray) -> Iterator[Row]:
    """Norms, attention, the value's expansion, the limit T → 0, and rounding; with slopes where one is predicted."""
    s = theory.spread(z, v)
    everywhere = {"norm": theory.norms, "attention": theory.attention, "value": theory.value_errors}
    for part, measure in {**everywhere, "rounding": theory.rounding}.items():
        for name, values in measure(z, v, theory.TEMPERATURES).items():
            yield from _curve(part, data, name, theory.TEMPERATURES, values)
    for part in ("norm", "value"):
        for name, values in everywhere[part](z, v, laws.FIT * s).items():
            yield _number(part, data, f"{name}: slope", laws.slope(laws.FIT, values))
    if (z.argmax(axis=1) != v.argmax(axis=1)).mean() > 0.01:  # where both agree on all, label matching asks for nothing
        for name, values in theory.label_errors(z, v, theory.LOW_TEMPERATURES).items():
            yield from _curve("label", data, name, theory.LOW_TEMPERATURES, values)
        for name, values in theory.label_errors(z, v, laws.LOW_FIT * s).items():
            yield _number("label", data, f"{name}: slope", laws.slope(laws.LOW_FIT, values))


def _curve(part: str, data: str, name: str, temperatures: np.ndarray, values: np.ndarray) -> Iterator[Row]:
    for temperature, value in zip(temperatures, values, strict=True):
        yield Row(part, data, name, float(temperature), math.nan, float(value))


def _number(part: str, data: str, name: str, value: float) -> Row:
    return Row(part, data, name, math.nan, math.nan, float(value))
