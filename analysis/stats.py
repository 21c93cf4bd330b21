"""Statistics for a handful of seeds: intervals, paired differences, verdicts that name no winner inside the noise.

Arrays in, NamedTuples out, nothing drawn. A run is one replicate; its axis comes first. Fewer than two runs, or runs
without any spread (integer error counts can coincide), tell nothing about spread: the bounds and p are then nan, and
nothing is claimed.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy  # scipy.stats takes a second to import: reached so, it is loaded at the first use (t comes from special)
from jaxtyping import Bool, Real

from kdjax.errors import require

Runs = Real[np.ndarray, "runs"]
Grid = Real[np.ndarray, "teachers seeds"]
Table = Real[np.ndarray, "*runs temperatures"]
"""`[runs, temperatures]`, or where teachers are crossed with seeds `[teachers, seeds, temperatures]`."""


class Interval(NamedTuple):
    """A mean and where the true mean may lie."""

    mean: float
    low: float
    """nan where nothing is known about spread."""
    high: float
    n: int
    """Runs behind it."""
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
    """Pairs behind it."""
    p: float
    """Two-sided, paired t; p < 1 − confidence exactly where the interval excludes zero."""
    p_permutation: float
    """Two-sided, sign flips; nan below 6 pairs, where it could not fall under 0.05."""
    differs: bool
    """The interval excludes zero: only then is the difference called one."""


class Ratio(NamedTuple):
    """A ratio of two means over runs; unbounded where the denominator's sign is not known."""

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
    """The temperature and its interval lie inside the temperatures tried: otherwise it is extrapolation."""


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


def interval(values: Runs, confidence: float = 0.95, method: str = "t", seed: int = 0) -> Interval:
    """`mean ± t(n−1)·s/√n`; or, from ten runs on, the bias-corrected and accelerated bootstrap (Efron 1987).

    Args:
        values: `[runs]`.
        confidence: coverage, in (0, 1).
        method: t or bootstrap. Bootstrap intervals of 95 % cover about 85 % at n = 5 and 75 % at n = 3.
        seed: fixes the bootstrap's resamples.

    Raises:
        BadInput: a bootstrap of fewer than ten runs; an unknown method; no runs.
    """
    n = len(values)
    require(n > 0, "an interval of no runs: give at least one value")
    require(method in ("t", "bootstrap"), f"method {method} is unknown: choose t or bootstrap")
    require(method == "t" or n >= 10, f"a bootstrap of {n} runs covers too little: from 10 on, or choose t")
    mean = _mean(values)
    standard_error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 and np.ptp(values) > 0 else math.nan
    if method == "bootstrap" and not math.isnan(standard_error):
        random = np.random.default_rng(seed)
        found = scipy.stats.bootstrap((values,), np.mean, confidence_level=confidence, method="BCa", rng=random)
        low, high = (float(bound) for bound in found.confidence_interval)
        return Interval(mean, low, high, n, standard_error, float(n - 1))
    return _t_interval(mean, standard_error, float(n - 1), n, confidence)


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

    `[runs]`: paired t. `[teachers, seeds]`: `crossed_interval` of the differences, and no permutation p (signs flip
    by run only where runs are independent).
    """
    require(a.shape == b.shape, f"pairs of unequal number: {a.shape} and {b.shape}")
    differences = np.asarray(a, np.float64) - b
    one_axis = differences.ndim == 1
    found = interval_over(differences, confidence)
    p = math.nan
    if found.standard_error > 0:
        p = float(2 * scipy.special.stdtr(found.df, -abs(found.mean) / found.standard_error))
    permutation = math.nan
    if one_axis and found.n >= 6:
        permutation = sign_flip_p(differences)
    return Difference(found.mean, found.low, found.high, found.n, p, permutation, found.low > 0 or found.high < 0)


def sign_flip_p(differences: Runs, seed: int = 0) -> float:
    """Two-sided p of the mean under flips of sign: exact up to 13 pairs (2^13 flips), else from 9,999 seeded draws."""
    found = scipy.stats.permutation_test(
        (np.asarray(differences, np.float64),),
        np.mean,
        permutation_type="samples",
        n_resamples=9999,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def prediction_interval(values: Runs | Grid, confidence: float = 0.95) -> Interval:
    """Where one more run may lie: `mean ± t(n−1)·s·√(1 + 1/n)`. `standard_error` is that of the one more run.

    `[teachers, seeds]`: one more run of another teacher and another seed. Its variance, `σ_t² + σ_s² + σ_r²`, is
    estimated by the mean squares, `MS_t/seeds + MS_s/teachers + MS_r (1 − 1/seeds − 1/teachers)`; that of the mean is
    `crossed_interval`'s; degrees of freedom by Satterthwaite.
    """
    if values.ndim == 2 and min(values.shape) > 1 and np.ptp(values) > 0:
        wide = np.asarray(values, np.float64)
        teachers, seeds = wide.shape
        by_teacher, by_seed = wide.mean(axis=1, keepdims=True), wide.mean(axis=0, keepdims=True)
        rest = wide - by_teacher - by_seed + wide.mean()
        free = np.array([teachers - 1, seeds - 1, (teachers - 1) * (seeds - 1)])
        squares = np.array([seeds * np.var(by_teacher, ddof=1), teachers * np.var(by_seed, ddof=1), 0.0])
        squares[2] = np.sum(rest**2) / free[2]
        shares = np.array([1 / seeds + 1 / wide.size, 1 / teachers + 1 / wide.size, 1 - 1 / seeds - 1 / teachers])
        parts = shares * squares
        total = float(parts.sum())
        df = total**2 / float((parts**2 / free).sum())
        return _t_interval(_mean(wide), math.sqrt(total), df, wide.size, confidence)
    values = values.ravel()
    found = interval(values, confidence)
    return _t_interval(found.mean, found.standard_error * math.sqrt(found.n + 1), found.df, found.n, confidence)


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
    means, low, high = (np.array([getattr(found, name) for found in together]) for name in ("mean", "low", "high"))
    all_alike = all(-margin < found.low and found.high < margin for found in alone)
    reach = float(np.max([[abs(found.low), abs(found.high)] for found in alone]))
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
    wide = np.asarray(table, np.float64)
    return np.array(
        [
            not any(interval_over(wide[..., i] - wide[..., j], confidence).low > 0 for j in range(k) if j != i)
            for i in range(k)
        ]
    )


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
    found = ratio_of_means(-b, 2 * a, confidence)
    if not _mean(a) > 0:
        return Vertex(math.nan, math.nan, math.nan, found.n, False)
    at, low, high = (float(np.exp(np.clip(value, -700, 700))) for value in found[:3])
    low, high = (0.0 if found.low == -math.inf else low), (math.inf if found.high == math.inf else high)
    inside = bool(np.exp(x.min()) <= low and high <= np.exp(x.max()))
    return Vertex(at, low, high, found.n, inside)


def reproduced(ours: Runs | Grid, paper: float | int, confidence: float = 0.95) -> str:
    """Whether the paper's single run of `paper` errors could be one of ours: does it lie in our prediction interval?

    Not judged below three runs: at two the interval holds nearly everything.
    """
    found = prediction_interval(ours, confidence)
    if math.isnan(found.low) or found.n < 3:
        return f"not judged at n = {found.n}"
    if found.low <= paper <= found.high:
        return "reproduced"
    return "better" if found.high < paper else "not reproduced"


def difference_in_words(difference: Difference) -> str:
    """Fewer errors, more errors, or no difference seen, with n."""
    if math.isnan(difference.low):
        return f"not judged at n = {difference.n}"
    if not difference.differs:
        return f"no difference seen at n = {difference.n}"
    return "fewer errors" if difference.mean < 0 else "more errors"


def _t_interval(mean: float, standard_error: float, df: float, n: int, confidence: float) -> Interval:
    require(0 < confidence < 1, f"confidence {confidence:g} is not allowed: it lies in (0, 1)")
    half = float(scipy.special.stdtrit(df, (1 + confidence) / 2)) * standard_error if standard_error > 0 else math.nan
    return Interval(mean, mean - half, mean + half, n, standard_error, df)


def _mean(values: Real[np.ndarray, "..."]) -> float:
    return float(np.mean(values, dtype=np.float64))
