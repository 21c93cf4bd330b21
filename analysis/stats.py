"""Statistics for a handful of seeds: intervals, paired differences, verdicts that name no winner within sampling error.

Arrays in, NamedTuples out. A run is one replicate; its axis comes first. One run, or runs that are all equal (error
counts are integers), say nothing about spread: bounds and p are then nan, and nothing is claimed.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.special  # t from here: scipy.stats takes a second to import
from jaxtyping import Bool, Real

from kdjax.errors import require

Runs = Real[np.ndarray, "runs"]
Grid = Real[np.ndarray, "teachers seeds"]
Table = Real[np.ndarray, "*runs temperatures"]
"""`[runs, temperatures]`, or where teachers are crossed with seeds `[teachers, seeds, temperatures]`."""


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


class Equivalence(NamedTuple):
    """Which differences are smaller than a margin."""

    means: Real[np.ndarray, "comparisons"]
    low: Real[np.ndarray, "comparisons"]
    """Bounds of simultaneous intervals; each difference is called alike where its interval lies inside ±margin."""
    high: Real[np.ndarray, "comparisons"]
    alike: Bool[np.ndarray, "comparisons"]
    all_alike: bool
    """All differences at once are smaller than the margin."""
    reach: float
    """How far from 0 the intervals reach that decide `all_alike`; nan where nothing is known about spread."""
    n: int


def interval(values: Runs, confidence: float = 0.95) -> Interval:
    """`mean ± t(n−1)·s/√n` of `[runs]`.

    Raises:
        BadInput: no runs, or a confidence outside (0, 1).
    """
    n = len(values)
    require(n > 0, "an interval of no runs: give at least one value")
    standard_error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 and np.ptp(values) > 0 else math.nan
    return _t_interval(_mean(values), standard_error, float(n - 1), n, confidence)


def crossed_interval(values: Grid, confidence: float = 0.95) -> Interval:
    """The mean over teachers crossed with seeds, when both are draws: runs that share a teacher are not independent.

    `se² = (MS_teachers + MS_seeds) / runs`, Satterthwaite's degrees of freedom. (The unbiased form subtracts
    MS_residual, and may turn negative; without it the interval is at worst a little wide.) One row or one column: the
    plain interval.
    """
    teachers, seeds = values.shape
    if min(teachers, seeds) == 1:
        return interval(values.ravel(), confidence)
    by_teacher = seeds * np.var(values.mean(axis=1), ddof=1)
    by_seed = teachers * np.var(values.mean(axis=0), ddof=1)
    total = float(by_teacher + by_seed)
    n = values.size
    if np.ptp(values) == 0 or total == 0:
        return _t_interval(_mean(values), math.nan, math.nan, n, confidence)
    df = total**2 / float(by_teacher**2 / (teachers - 1) + by_seed**2 / (seeds - 1))
    return _t_interval(_mean(values), math.sqrt(total / n), df, n, confidence)


def interval_over(values: Runs | Grid, confidence: float = 0.95) -> Interval:
    """`interval` of `[runs]`, or `crossed_interval` of `[teachers, seeds]`."""
    return interval(values, confidence) if values.ndim == 1 else crossed_interval(values, confidence)


def paired_difference(a: Runs | Grid, b: Real[np.ndarray, "..."], confidence: float = 0.95) -> Difference:
    """The mean of `a − b` over runs that share a seed (and a teacher), with its interval.

    `[runs]`: paired t. `[teachers, seeds]`: `crossed_interval` of the differences.
    """
    require(a.shape == b.shape, f"pairs of unequal number: {a.shape} and {b.shape}")
    differences = np.asarray(a, np.float64) - b
    mean = interval_over(differences, confidence)
    p = math.nan
    if mean.standard_error > 0:
        p = float(2 * scipy.special.stdtr(mean.df, -abs(mean.mean) / mean.standard_error))
    return Difference(mean.mean, mean.low, mean.high, mean.n, p, mean.low > 0 or mean.high < 0)


def prediction_interval(values: Runs | Grid, confidence: float = 0.95) -> Interval:
    """Where one more run may lie: `mean ± t(n−1)·s·√(1 + 1/n)`. `standard_error` is that of this further run.

    `[teachers, seeds]`: one more run of another teacher and another seed. Its variance, `σ_t² + σ_s² + σ_r²`, is
    estimated by the mean squares, `MS_t/seeds + MS_s/teachers + MS_r (1 − 1/seeds − 1/teachers)`; that of the mean is
    `crossed_interval`'s; degrees of freedom by Satterthwaite.
    """
    if values.ndim == 2 and min(values.shape) > 1 and np.ptp(values) > 0:
        table = np.asarray(values, np.float64)
        teachers, seeds = table.shape
        by_teacher, by_seed = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
        residual = table - by_teacher - by_seed + table.mean()
        df = np.array([teachers - 1, seeds - 1, (teachers - 1) * (seeds - 1)])
        squares = np.array([seeds * np.var(by_teacher, ddof=1), teachers * np.var(by_seed, ddof=1), 0.0])
        squares[2] = np.sum(residual**2) / df[2]
        shares = np.array([1 / seeds + 1 / table.size, 1 / teachers + 1 / table.size, 1 - 1 / seeds - 1 / teachers])
        parts = shares * squares
        total = float(parts.sum())
        return _t_interval(
            _mean(table), math.sqrt(total), total**2 / float((parts**2 / df).sum()), table.size, confidence
        )
    mean = interval(values.ravel(), confidence)
    return _t_interval(mean.mean, mean.standard_error * math.sqrt(mean.n + 1), mean.df, mean.n, confidence)


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


def equivalent(differences: Table, margin: float | int, alpha: float = 0.05) -> Equivalence:
    """Two one-sided paired t tests (Schuirmann 1987) for each comparison, the last axis, over runs or over teachers
    crossed with seeds.

    `alike` holds simultaneously, with Bonferroni: a column's `1 − 2α/m` interval lies inside ±margin. `all_alike` is
    one claim about all columns, an intersection-union test (Berger 1982), and needs no adjustment: every `1 − 2α`
    interval lies inside.
    """
    require(margin > 0 and 0 < alpha < 0.5, f"margin {margin:g} and alpha {alpha:g}: margin > 0, 0 < alpha < 0.5")
    m = differences.shape[-1]
    columns = np.moveaxis(differences, -1, 0)
    together = [interval_over(column, 1 - 2 * alpha / m) for column in columns]
    alone = [interval_over(column, 1 - 2 * alpha) for column in columns]
    means, low, high = (np.array([getattr(each, name) for each in together]) for name in ("mean", "low", "high"))
    all_alike = all(-margin < each.low and each.high < margin for each in alone)
    reach = float(np.max([[abs(each.low), abs(each.high)] for each in alone]))
    n = differences[..., 0].size
    return Equivalence(means, low, high, (low > -margin) & (high < margin), all_alike, reach, n)


def all_pairs(table: Table) -> Real[np.ndarray, "*runs pairs"]:
    """First minus second of every two columns, in the order of `np.triu_indices`: "all alike" is about these."""
    first, second = np.triu_indices(table.shape[-1], k=1)
    pairs: np.ndarray = np.asarray(table, np.float64)[..., first] - table[..., second]
    return pairs


def candidates_for_best(table: Table, alpha: float = 0.05) -> Bool[np.ndarray, "temperatures"]:
    """The temperatures not excluded as best (fewest errors); with probability ≥ 1 − α the best is among them.

    Hsu's (1984) comparison with the best, for paired runs (or teachers crossed with seeds): a column is excluded where
    some other beats it in a one-sided paired t test at level `α/(k − 1)`. Bonferroni in place of Dunnett's constant,
    because paired differences need not share one variance; the price is a set that is at times a little larger. More
    than one left: no winner.
    """
    k = table.shape[-1]
    if k == 1:
        return np.ones(1, bool)
    confidence = 1 - 2 * alpha / (k - 1)  # its lower bound is the one-sided test
    errors = np.asarray(table, np.float64)

    def beaten(i: int) -> bool:
        return any(interval_over(errors[..., i] - errors[..., j], confidence).low > 0 for j in range(k) if j != i)

    return np.array([not beaten(i) for i in range(k)])


def ratio_of_means(numerators: Runs, denominators: Runs, confidence: float = 0.95) -> Ratio:
    """`mean x / mean y` over paired runs with Fieller's (1954) interval: all ρ with `|mean(x − ρy)| ≤ t(n−1)·se(x −
    ρy)`.

    Where the mean denominator is not itself different from zero at this confidence the interval is unbounded (−inf,
    inf).
    """
    require(len(numerators) == len(denominators) > 0, "a ratio needs pairs: as many numerators as denominators")
    n, x, y = len(numerators), _mean(numerators), _mean(denominators)
    ratio = x / y if y else math.nan
    if n < 2 or (np.ptp(numerators) == 0 and np.ptp(denominators) == 0):
        return Ratio(ratio, math.nan, math.nan, n)
    t2 = float(scipy.special.stdtrit(n - 1, (1 + confidence) / 2)) ** 2 / n
    (vx, vxy), (_, vy) = (t2 * np.cov(numerators, denominators)).tolist()
    a, b, c = y * y - vy, x * y - vxy, x * x - vx  # a·ρ² − 2b·ρ + c ≤ 0
    if a <= 0:
        return Ratio(ratio, -math.inf, math.inf, n)
    root = math.sqrt(max(b * b - a * c, 0.0))
    return Ratio(ratio, (b - root) / a, (b + root) / a, n)


def gap_closed(small: Runs, distilled: Runs, teacher: Runs, confidence: float = 0.95) -> Ratio:
    """Share of the gap closed, `(small − distilled) / (small − teacher)` in errors, with Fieller's interval.

    Runs are paired; `teacher` repeats the errors of each run's teacher, taken as known. The paper's share is 0.91.
    """
    small = np.asarray(small, np.float64)
    return ratio_of_means(small - distilled, small - teacher, confidence)


def vertex(temperatures: Real[np.ndarray, "temperatures"], table: Table, confidence: float = 0.95) -> Vertex:
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
    lowest = ratio_of_means(-b, 2 * a, confidence)
    if not _mean(a) > 0:
        return Vertex(math.nan, math.nan, math.nan, lowest.n, False)
    temperature, low, high = (float(np.exp(np.clip(value, -700, 700))) for value in lowest[:3])
    low, high = (0.0 if lowest.low == -math.inf else low), (math.inf if lowest.high == math.inf else high)
    inside = bool(np.exp(x.min()) <= low and high <= np.exp(x.max()))
    return Vertex(temperature, low, high, lowest.n, inside)


def reproduced(ours: Runs | Grid, paper: float | int, confidence: float = 0.95) -> str:
    """Whether the paper's single run of `paper` errors could be one of ours: does it lie in our prediction interval?

    No verdict below three runs: at two the interval holds nearly everything.
    """
    expected = prediction_interval(ours, confidence)
    if math.isnan(expected.low) or expected.n < 3:
        return f"no verdict at n = {expected.n}"
    if expected.low <= paper <= expected.high:
        return "reproduced"
    return "better" if expected.high < paper else "not reproduced"


def difference_in_words(difference: Difference) -> str:
    """Fewer errors, more errors, or no difference seen, with n."""
    if math.isnan(difference.low):
        return f"no verdict at n = {difference.n}"
    if not difference.differs:
        return f"no difference seen at n = {difference.n}"
    return "fewer errors" if difference.mean < 0 else "more errors"


def _t_interval(mean: float, standard_error: float, df: float, n: int, confidence: float) -> Interval:
    require(0 < confidence < 1, f"confidence {confidence:g} is not allowed: it lies in (0, 1)")
    half = float(scipy.special.stdtrit(df, (1 + confidence) / 2)) * standard_error if standard_error > 0 else math.nan
    return Interval(mean, mean - half, mean + half, n, standard_error, df)


def _mean(values: Real[np.ndarray, "..."]) -> float:
    return float(np.mean(values, dtype=np.float64))
