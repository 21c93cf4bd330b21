"""The power of a paired comparison, and the seeds that it needs, from the spread that sweeps show.

A paired difference between two settings, under teacher t and seed s, is modelled as `δ + a_t + b_s + e_ts`, independent
and normal with the standard deviations of a `Spread`. Over T teachers crossed with S seeds its mean has the variance
`σ_a²/T + σ_b²/S + σ_e²/(TS)`, and the interval that `crossed.paired_difference` will give is made of independent mean
squares, `(Sσ_a² + σ_e²)·χ²(T−1)/(T−1)` and `(Tσ_b² + σ_e²)·χ²(S−1)/(S−1)`. Power is the mean, over their distribution,
of the chance that the mean then falls where the verdict is given. One teacher: about that teacher, `σ_b² + σ_e²` only.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float

from analysis import crossed
from analysis.tables import count_of
from kdjax.errors import require

ALPHA = 0.05
"""Two-sided for a difference, whose 95 % interval excludes zero; one-sided, twice, for "alike"."""
MOST_SEEDS = 1000
POINTS = 100
"""Quantiles that stand for the distribution of a mean square."""


class Spread(NamedTuple):
    """Standard deviations of a paired difference, in test errors."""

    teachers: float
    """From teacher to teacher; nan where one teacher was seen."""
    seeds: float
    """From seed to seed, the same under every teacher; under one teacher it is part of `runs`."""
    runs: float
    """What remains."""


def power(difference: float, spread: Spread, seeds: int, teachers: int = 1, tests: int = 1) -> float:
    """The probability that the 95 % interval of a paired difference excludes zero, where `difference` is the true one.

    `tests`: one of so many, after a correction for all (Bonferroni, which Holm's at least equals): the `1 − 0.05/tests`
    interval excludes zero.

    Raises:
        BadInput: fewer than two seeds, or several teachers planned from the spread under one.
    """
    standard_error, df, of_mean = _intervals(spread, seeds, teachers)
    half = scipy.special.stdtrit(df, 1 - ALPHA / 2 / tests) * standard_error
    above, below = ((sign * difference - half) / of_mean for sign in (1, -1))
    return float(np.mean(scipy.special.ndtr(above) + scipy.special.ndtr(below)))


def equivalence_power(margin: float, spread: Spread, seeds: int, teachers: int = 1) -> float:
    """The probability that two one-sided tests at 5 % show a true difference of 0 to lie within ±margin.

    Raises: as `power`.
    """
    standard_error, df, of_mean = _intervals(spread, seeds, teachers)
    room = (margin - scipy.special.stdtrit(df, 1 - ALPHA) * standard_error) / of_mean
    return float(np.mean(np.maximum(2 * scipy.special.ndtr(room) - 1, 0.0)))


def seeds_for(power_with: Callable[[int], float], wanted: float = 0.8) -> int | None:
    """The fewest seeds, from two on, with which `power_with(seeds)` is `wanted`; None if more than `MOST_SEEDS`."""
    low, high = 1, 2  # too few, perhaps enough
    while power_with(high) < wanted:
        if high == MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_with(middle) >= wanted else (middle, high)
    return high


def _intervals(spread: Spread, seeds: int, teachers: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Standard errors and degrees of freedom that intervals may have, equally likely, and the mean's true deviation."""
    require(seeds > 1, f"{count_of(seeds, 'seed')}: without a second nothing is known about spread")
    one, known = teachers == 1, not math.isnan(spread.teachers)
    require(one or known, "the spread over teachers is not known from one teacher: give runs under two or more")
    of_teachers, of_seeds, of_runs = (0.0 if one else spread.teachers**2), spread.seeds**2, spread.runs**2
    of_mean = math.sqrt(of_teachers / teachers + of_seeds / seeds + of_runs / (teachers * seeds))
    require(of_mean > 0, "these runs do not differ at all: nothing is known about spread")
    by_seed = (teachers * of_seeds + of_runs) * _scaled_chi_squared(seeds - 1)
    if one:
        return np.sqrt(by_seed / seeds), np.full(POINTS, seeds - 1.0), of_mean
    by_teacher = ((seeds * of_teachers + of_runs) * _scaled_chi_squared(teachers - 1))[:, None]
    total = by_teacher + by_seed
    df = total**2 / (by_teacher**2 / (teachers - 1) + by_seed**2 / (seeds - 1))
    return np.sqrt(total / (teachers * seeds)), df, of_mean


def _scaled_chi_squared(df: int) -> Float[np.ndarray, "points"]:
    above = (np.arange(POINTS, 0, -1) - 0.5) / POINTS
    return np.asarray(scipy.special.chdtri(df, above) / df)


def spread_of(differences: Iterable[Float[np.ndarray, "teachers seeds"]]) -> Spread:
    """The spread of paired differences, its variances a mean over these comparisons.

    From the mean squares (analysis of variance); a variance that would be negative is 0.
    """
    tables = list(differences)
    teachers, seeds = tables[0].shape
    if teachers == 1:
        return Spread(math.nan, 0.0, math.sqrt(np.mean([np.var(table, ddof=1) for table in tables])))
    of_teachers, of_seeds, of_runs = np.mean([crossed.mean_squares(table) for table in tables], axis=0)
    components = ((of_teachers - of_runs) / seeds, (of_seeds - of_runs) / teachers, of_runs)
    return Spread(*(math.sqrt(max(float(component), 0.0)) for component in components))
