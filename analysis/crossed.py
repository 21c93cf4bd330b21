"""Means over runs with their intervals: over seeds, or over teachers crossed with seeds.

Arrays in, NamedTuples out. A run is one replicate. One run, or runs that are all equal (up to rounding), say nothing
about spread: bounds and p are then nan.
"""

import math

import numpy as np
from jaxtyping import Real

from kdjax.errors import require
from kdjax.intervals import CONFIDENCE, Difference, Interval, Runs, difference, interval, t_interval, varies

Grid = Real[np.ndarray, "teachers seeds"]


def interval_over(values: Runs | Grid, confidence: float = CONFIDENCE) -> Interval:
    """`interval` of `[runs]`, or `crossed_interval` of `[teachers, seeds]`."""
    return interval(values, confidence) if values.ndim == 1 else crossed_interval(values, confidence)


def paired_difference(a: Runs | Grid, b: Real[np.ndarray, "..."]) -> Difference:
    """The mean of `a − b` over runs that share a seed (and a teacher), with its 95 % interval.

    `[runs]`: paired t. `[teachers, seeds]`: `crossed_interval` of the differences. Raises BadInput: shapes differ.
    """
    require(a.shape == b.shape, f"pairs of unequal number: {a.shape} and {b.shape}")
    return difference(interval_over(np.asarray(a, np.float64) - b))


def crossed_interval(values: Grid, confidence: float = CONFIDENCE) -> Interval:
    """The mean over teachers crossed with seeds, when both are draws: runs that share a teacher are not independent.

    `se² = (MS_teachers + MS_seeds) / runs`, Satterthwaite's degrees of freedom. (The unbiased form subtracts
    MS_residual, and may turn negative.) One row or one column: the plain interval.

    Few teachers (or seeds) make it too narrow, because the degrees of freedom are estimated too: over mixtures of the
    three variances and 3 to 30 seeds, normal draws are covered at 95 % with a probability of at least 0.87 at two
    teachers, 0.92 at three and 0.93 at four to six, and of 0.99 at most. `few_draws` says so below a table.
    """
    teachers, seeds = values.shape
    if min(teachers, seeds) == 1:
        return interval(values.ravel(), confidence)
    (by_teacher,), (by_seed,) = mean_products(np.asarray(values, np.float64)[None])[..., 0]
    n = values.size
    if not (varies(values.mean(axis=0)) or varies(values.mean(axis=1))):
        return t_interval(mean_of(values), math.nan, math.nan, n, confidence)
    standard_error, df = crossed_error(float(by_teacher), float(by_seed), teachers, seeds)
    return t_interval(mean_of(values), standard_error, df, n, confidence)


def prediction_interval(values: Runs | Grid) -> Interval:
    """Where one more run lies with a probability of 95 %: `mean ± t(n−1)·s·√(1 + 1/n)`. `standard_error` is that of
    this further run.

    `[teachers, seeds]`: one more run of another teacher and another seed. Its variance, `σ_t² + σ_s² + σ_r²`, is
    estimated by the mean squares, `MS_t/seeds + MS_s/teachers + MS_r (1 − 1/seeds − 1/teachers)`; that of the mean is
    `crossed_interval`'s; degrees of freedom by Satterthwaite.
    """
    if values.ndim == 2 and min(values.shape) > 1 and varies(values):
        table = np.asarray(values, np.float64)
        teachers, seeds = table.shape
        df = np.array([teachers - 1, seeds - 1, (teachers - 1) * (seeds - 1)])
        shares = np.array([1 / seeds + 1 / table.size, 1 / teachers + 1 / table.size, 1 - 1 / seeds - 1 / teachers])
        parts = shares * mean_squares(table)
        if table.size == 4 and not (varies(table.mean(axis=0)) or varies(table.mean(axis=1))):
            return t_interval(mean_of(table), math.nan, math.nan, 4)  # what is left of 2 × 2 has no share
        total = float(parts.sum())
        of_total = total**2 / float((parts**2 / df).sum())
        return t_interval(mean_of(table), math.sqrt(total), of_total, table.size)
    mean = interval(values.ravel())
    return t_interval(mean.mean, mean.standard_error * math.sqrt(mean.n + 1), mean.df, mean.n)


def few_draws(teachers: int, seeds: int) -> list[str]:
    """What has to be said below a table of crossed intervals over two teachers, or two seeds; else nothing."""
    few = " and ".join(name for name, count in (("teachers", teachers), ("seeds", seeds)) if count == 2)
    return [f"Two {few} are few: such 95 % intervals cover 87 to 99 % (simulated)."] * (
        bool(few) and teachers > 1 < seeds
    )


def mean_squares(table: Grid) -> Real[np.ndarray, "3"]:
    """Mean squares by teacher, by seed, and of what is left (analysis of variance)."""
    teachers, seeds = table.shape
    by_teacher, by_seed = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    rest = np.sum((table - by_teacher - by_seed + table.mean()) ** 2) / ((teachers - 1) * (seeds - 1))
    return np.array([seeds * np.var(by_teacher, ddof=1), teachers * np.var(by_seed, ddof=1), rest])


def mean_products(tables: Real[np.ndarray, "variables teachers seeds"]) -> Real[np.ndarray, "2 variables variables"]:
    """Mean squares (and products) of several variables by teacher, then by seed."""
    _, teachers, seeds = tables.shape
    by_teacher = np.atleast_2d(seeds * np.cov(tables.mean(axis=2)))
    return np.stack([by_teacher, np.atleast_2d(teachers * np.cov(tables.mean(axis=1)))])


def crossed_error(by_teacher: float, by_seed: float, teachers: int, seeds: int) -> tuple[float, float]:
    """Standard error of a mean over teachers crossed with seeds, and its degrees of freedom, from the mean squares."""
    total = by_teacher + by_seed
    if not total > 0:
        return 0.0, float(min(teachers, seeds) - 1)
    df = total**2 / (by_teacher**2 / (teachers - 1) + by_seed**2 / (seeds - 1))
    return math.sqrt(total / (teachers * seeds)), df


def mean_of(values: Real[np.ndarray, "..."]) -> float:
    """The mean in float64, of values of any type."""
    return float(np.mean(values, dtype=np.float64))
