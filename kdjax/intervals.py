"""The mean of a handful of runs with its confidence interval, paired differences, and p adjusted for several tests.

A run is one replicate. One run, or runs that are all equal (up to rounding: their differences come from counts of
errors, shares of them and means), say nothing about spread: bounds and p are then nan, and nothing is claimed.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special  # t from here: scipy.stats takes a second to import
from jaxtyping import Real

from kdjax.errors import require

Runs = Real[np.ndarray, "runs"]
CONFIDENCE = 0.95
"""Of intervals, where nothing else is said."""
ROUNDING = 1e-11
"""Of values up to 1; of larger ones that share. 99.1 − 98.2 and 97.3 − 96.4 are 1e-14 apart."""


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    """nan where the spread is unknown."""
    high: float
    n: int
    """Number of runs."""
    standard_error: float
    """Of the mean."""
    df: float
    """Degrees of freedom of the standard error."""


class Difference(NamedTuple):
    """The mean of `a − b` over pairs."""

    mean: float
    low: float
    high: float
    n: int
    """Number of pairs."""
    p: float
    """Two-sided paired t test; p < 1 − confidence exactly where the interval excludes zero."""
    differs: bool
    """The interval excludes zero: only then is the difference called one."""


def interval(values: Runs, confidence: float = CONFIDENCE) -> Interval:
    """`mean ± t(n−1)·s/√n` of `[runs]`.

    Raises:
        BadInput: no runs, or a confidence outside (0, 1).
    """
    n = len(values)
    require(n > 0, "an interval of no runs: give at least one value")
    standard_error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 and varies(values) else math.nan
    return t_interval(float(np.mean(values, dtype=np.float64)), standard_error, float(n - 1), n, confidence)


def error_bars(estimates: Sequence[Interval | Difference]) -> Real[np.ndarray, "2 estimates"]:
    """From each mean down to its lower bound and up to its upper one, as matplotlib's `errorbar` takes them; nan, where
    a bound is unknown, draws none."""
    bars = [(one.mean - one.low, one.high - one.mean) for one in estimates]
    return np.array(bars, np.float64).reshape(-1, 2).T


def varies(values: Real[np.ndarray, "..."]) -> bool:
    """Whether values differ by more than rounding."""
    return bool(np.ptp(values) > ROUNDING * max(1.0, float(np.abs(values).max())))


def t_interval(mean: float, standard_error: float, df: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """`mean ± t(df)·se`; bounds of nan where the standard error is not positive. Raises BadInput: a confidence outside
    (0, 1)."""
    require(0 < confidence < 1, f"confidence {confidence:g} is not allowed: it lies in (0, 1)")
    half = float(scipy.special.stdtrit(df, (1 + confidence) / 2)) * standard_error if standard_error > 0 else math.nan
    return Interval(mean, mean - half, mean + half, n, standard_error, df)


def difference(mean: Interval) -> Difference:
    """Whether a mean of differences, such as `interval(a - b)`, is told apart from zero: its two-sided t test."""
    p = math.nan
    if mean.standard_error > 0:
        p = float(2 * scipy.special.stdtr(mean.df, -abs(mean.mean) / mean.standard_error))
    return Difference(mean.mean, mean.low, mean.high, mean.n, p, mean.low > 0 or mean.high < 0)


def holm(p_values: Real[np.ndarray, "tests"]) -> Real[np.ndarray, "tests"]:
    """Holm's (1979) adjusted p: the i-th smallest of m times `m − i + 1`, kept increasing and at most 1.

    A nan is no test: it stays nan and does not count.
    """
    order = np.argsort(p_values)  # nan last
    order = order[: np.count_nonzero(~np.isnan(p_values))]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(len(p_values), math.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted


def on_one_side(differences: Sequence[Difference]) -> bool:
    """Whether there are intervals, and all lie on the same side of zero."""
    sides = {math.copysign(1, difference.mean) for difference in differences}
    return len(sides) == 1 and all(difference.differs for difference in differences)


def claimed(differences: Sequence[Difference]) -> list[bool]:
    """Which of these differences may be called one: with probability 0.95 none is called so by chance alone.

    All, where every interval lies on the same side of zero: a claim about all of them needs no correction
    (intersection-union test, Berger 1982). Else those whose p, adjusted over all of them (Holm 1979), is 0.05 at most.
    """
    if on_one_side(differences):
        return [True] * len(differences)
    return [bool(p <= 0.05) for p in holm(np.array([difference.p for difference in differences], float))]
