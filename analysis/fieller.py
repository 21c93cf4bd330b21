"""Ratios of means over runs with Fieller's intervals: the gap closed, and the lowest point of errors over log T."""

import math
from typing import NamedTuple

import numpy as np
import scipy.special  # t from here: scipy.stats takes a second to import
from jaxtyping import Real

from analysis.crossed import Grid, crossed_error, mean_of, mean_products
from kdjax.errors import require
from kdjax.intervals import CONFIDENCE, Runs, varies


class Ratio(NamedTuple):
    """A ratio of two means over runs; its interval is unbounded where the denominator's sign is unknown."""

    ratio: float
    low: float
    high: float
    n: int


class Vertex(NamedTuple):
    """The lowest point of a parabola in log T."""

    temperature: float
    """nan where the mean curve has no lowest point (it bends down)."""
    low: float
    """0 and inf where the runs do not bound it."""
    high: float
    n: int
    inside: bool
    """The temperature and its interval lie within the temperatures tried: otherwise it is extrapolation."""


def ratio_of_means(numerators: Runs | Grid, denominators: Runs | Grid) -> Ratio:
    """`mean x / mean y` over paired runs with Fieller's (1954) 95 % interval: all ρ with
    `|mean(x − ρy)| ≤ t·se(x − ρy)`.

    `[runs]`: `se² = s²/n`, n − 1 degrees of freedom. `[teachers, seeds]`: those of `crossed_interval`, the degrees of
    freedom at ρ = mean x / mean y.

    Where the mean denominator is not itself different from zero, the interval is (−inf, inf). Raises BadInput: there is
    no pair.
    """
    pairs = np.array([numerators, denominators], np.float64) if numerators.shape == denominators.shape else np.array([])
    require(pairs.size > 0, "a ratio needs pairs: as many numerators as denominators")
    if pairs.ndim == 3 and min(pairs.shape[1:]) == 1:
        pairs = pairs.reshape(2, -1)
    n, x, y = pairs[0].size, mean_of(pairs[0]), mean_of(pairs[1])
    ratio = x / y if y else math.nan
    margins = [*pairs.mean(axis=1), *pairs.mean(axis=2)] if pairs.ndim == 3 else []
    known = any(map(varies, margins)) if margins else np.ptp(pairs, axis=1).max() > 0
    if n < 2 or not known:
        return Ratio(ratio, math.nan, math.nan, n)
    df = float(n - 1)
    if pairs.ndim == 2:
        covariance = np.cov(pairs) / n
    else:
        squares = mean_products(pairs)
        covariance = squares.sum(axis=0) / n
        at = np.array([1.0, -ratio])
        by_teacher, by_seed = (float(at @ square @ at) for square in squares)
        df = crossed_error(by_teacher, by_seed, *pairs.shape[1:])[1]
    t2 = float(scipy.special.stdtrit(df, (1 + CONFIDENCE) / 2)) ** 2
    (vx, vxy), (_, vy) = (t2 * covariance).tolist()
    a, b, c = y * y - vy, x * y - vxy, x * x - vx  # a·ρ² − 2b·ρ + c ≤ 0
    if not a > 0:
        return Ratio(ratio, -math.inf, math.inf, n)
    root = math.sqrt(max(b * b - a * c, 0.0))
    return Ratio(ratio, (b - root) / a, (b + root) / a, n)


def gap_closed(small: Runs | Grid, distilled: Runs | Grid, teacher: Runs | Grid) -> Ratio:
    """Share of the gap closed, `(small − distilled) / (small − teacher)` in errors, with Fieller's interval.

    Runs are paired, all three of one shape: `small` repeats a seed's errors under each teacher, `teacher` those of the
    teacher for each seed. `[teachers, seeds]`: teachers are draws, as seeds are. `[runs]` under one teacher: about that
    teacher, its errors taken as known. The paper's share is 0.91.
    """
    small = np.asarray(small, np.float64)
    return ratio_of_means(small - distilled, small - teacher)


def vertex(temperatures: Real[np.ndarray, "temperatures"], table: Real[np.ndarray, "runs temperatures"]) -> Vertex:
    """The lowest point of a parabola in log T, fitted to each run; interval over runs.

    A run's fit is `a·x² + b·x + c`, `x = log T`; the lowest point of the mean curve is `x = −mean b / (2·mean a)`, a
    ratio of means over runs, with Fieller's interval (the runs' own vertices have heavy tails). T = ∞ has no logarithm
    and is left out.

    Raises:
        BadInput: fewer than three finite temperatures.
    """
    finite = np.isfinite(temperatures)
    require(np.count_nonzero(finite) >= 3, "a parabola needs three finite temperatures or more")
    x = np.log(temperatures[finite])
    a, b, _ = np.polyfit(x, np.asarray(table, np.float64)[:, finite].T, 2)
    lowest = ratio_of_means(-b, 2 * a)
    if not mean_of(a) > 0:
        return Vertex(math.nan, math.nan, math.nan, lowest.n, False)
    temperature, low, high = (float(np.exp(np.clip(value, -700, 700))) for value in lowest[:3])
    low, high = (0.0 if lowest.low == -math.inf else low), (math.inf if lowest.high == math.inf else high)
    inside = bool(np.exp(x.min()) <= low and high <= np.exp(x.max()))
    return Vertex(temperature, low, high, lowest.n, inside)
