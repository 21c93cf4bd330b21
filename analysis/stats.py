"""Statistics for a handful of seeds: intervals, paired differences, verdicts that name no winner within sampling error.

Arrays in, NamedTuples out. A run is one replicate; its axis comes first. One run, or runs that are all equal (up to
rounding), say nothing about spread: bounds and p are then nan, and nothing is claimed.

Intervals over runs are about other seeds (and teachers) on *these* test images; `difference_over_images` is about other
images under these networks.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.special  # t from here: scipy.stats takes a second to import
from jaxtyping import Bool, Real

from kdjax.errors import require
from kdjax.intervals import CONFIDENCE, Runs
from kdjax.intervals import Difference as Difference  # these are of this module too
from kdjax.intervals import Interval as Interval
from kdjax.intervals import claimed as claimed
from kdjax.intervals import difference as difference
from kdjax.intervals import holm as holm
from kdjax.intervals import interval as interval
from kdjax.intervals import t_interval as _t_interval
from kdjax.intervals import varies as _varies

Grid = Real[np.ndarray, "teachers seeds"]
Wrong = Bool[np.ndarray, "*runs images"]
"""Whether each network's answer on each test image is wrong."""
Table = Real[np.ndarray, "*runs temperatures"]
"""`[runs, temperatures]`, or where teachers are crossed with seeds `[teachers, seeds, temperatures]`."""
WIDEST = 0.25
"""Half-width of a prediction interval, as a share of the paper's errors, up to which `reproduced` says so."""


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
    (by_teacher,), (by_seed,) = _mean_products(np.asarray(values, np.float64)[None])[..., 0]
    n = values.size
    if not (_varies(values.mean(axis=0)) or _varies(values.mean(axis=1))):
        return _t_interval(_mean(values), math.nan, math.nan, n, confidence)
    standard_error, df = _crossed(float(by_teacher), float(by_seed), teachers, seeds)
    return _t_interval(_mean(values), standard_error, df, n, confidence)


def few_draws(teachers: int, seeds: int) -> list[str]:
    """What has to be said below a table of crossed intervals over two teachers, or two seeds; else nothing."""
    few = " and ".join(name for name, count in (("teachers", teachers), ("seeds", seeds)) if count == 2)
    return [f"Two {few} are few: such 95 % intervals cover 87 to 99 % (simulated)."] * (
        bool(few) and teachers > 1 < seeds
    )


def cautions(seeds: int, errors: Iterable[Interval], images: int | None = None) -> list[str]:
    """What a reader has to be warned of: two seeds; intervals of errors that reach below 0, or above the number of test
    images (None: not known)."""
    few = ["2 seeds say next to nothing of spread: give --seeds 3 or more."] * (seeds == 2)
    beyond = any(each.low < 0 or each.high > (math.inf if images is None else images) for each in errors)
    allowed = "0" if images is None else f"0 to {images:,}, the number of test images"
    return few + [f"some interval reaches beyond {allowed}: too few images or seeds for a t interval."] * beyond


def claimed_in_turn(chains: Sequence[Sequence[Difference]]) -> list[int]:
    """How many differences of each chain may be called one, from its first on: of sweeps without any difference, one in
    twenty has a claim at most. With chains of one it is `claimed`.

    A chain is tested in its order, until one of it is not claimed. Where the first intervals of all chains lie on the
    same side of zero, these are claimed (intersection-union test), and what follows them is tested likewise, at the
    same level (serial gatekeeping). Else a chain is tested at 0.05 over the number of those that are not through: Holm
    over chains, a graph in which each hands its level on to its next, the last to the other chains (Bretz et al. 2009).
    Where some first differences are none while others are large, and no second is one, 0.04 to 0.06 have a false claim
    (of 1,500 simulated sweeps of 10 seeds with 3 or 7 chains).
    """
    firsts = [chain[0] for chain in chains]
    sides = {math.copysign(1, first.mean) for first in firsts}
    if len(sides) == 1 and all(first.differs for first in firsts):
        rest = iter(claimed_in_turn([chain[1:] for chain in chains if len(chain) > 1]))
        return [1 + (next(rest) if len(chain) > 1 else 0) for chain in chains]
    counts = [0] * len(chains)
    while True:
        # A nan is no test.
        heads = {i: chain[n].p for i, (chain, n) in enumerate(zip(chains, counts, strict=True)) if n < len(chain)}
        heads = {i: p for i, p in heads.items() if not math.isnan(p)}
        passed = [i for i, p in heads.items() if p <= 0.05 / len(heads)]
        if not passed:
            return counts
        for i in passed:
            counts[i] += 1


def interval_over(values: Runs | Grid, confidence: float = CONFIDENCE) -> Interval:
    """`interval` of `[runs]`, or `crossed_interval` of `[teachers, seeds]`."""
    return interval(values, confidence) if values.ndim == 1 else crossed_interval(values, confidence)


def paired_difference(a: Runs | Grid, b: Real[np.ndarray, "..."]) -> Difference:
    """The mean of `a − b` over runs that share a seed (and a teacher), with its 95 % interval.

    `[runs]`: paired t. `[teachers, seeds]`: `crossed_interval` of the differences.
    """
    require(a.shape == b.shape, f"pairs of unequal number: {a.shape} and {b.shape}")
    return difference(interval_over(np.asarray(a, np.float64) - b))


def prediction_interval(values: Runs | Grid) -> Interval:
    """Where one more run lies with a probability of 95 %: `mean ± t(n−1)·s·√(1 + 1/n)`. `standard_error` is that of
    this further run.

    `[teachers, seeds]`: one more run of another teacher and another seed. Its variance, `σ_t² + σ_s² + σ_r²`, is
    estimated by the mean squares, `MS_t/seeds + MS_s/teachers + MS_r (1 − 1/seeds − 1/teachers)`; that of the mean is
    `crossed_interval`'s; degrees of freedom by Satterthwaite.
    """
    if values.ndim == 2 and min(values.shape) > 1 and _varies(values):
        table = np.asarray(values, np.float64)
        teachers, seeds = table.shape
        df = np.array([teachers - 1, seeds - 1, (teachers - 1) * (seeds - 1)])
        shares = np.array([1 / seeds + 1 / table.size, 1 / teachers + 1 / table.size, 1 - 1 / seeds - 1 / teachers])
        parts = shares * mean_squares(table)
        if table.size == 4 and not (_varies(table.mean(axis=0)) or _varies(table.mean(axis=1))):
            return _t_interval(_mean(table), math.nan, math.nan, 4)  # what is left of 2 × 2 has no share
        total = float(parts.sum())
        of_total = total**2 / float((parts**2 / df).sum())
        return _t_interval(_mean(table), math.sqrt(total), of_total, table.size)
    mean = interval(values.ravel())
    return _t_interval(mean.mean, mean.standard_error * math.sqrt(mean.n + 1), mean.df, mean.n)


def difference_over_images(a: Wrong, b: Bool[np.ndarray, "..."]) -> Difference:
    """Errors of `a` minus those of `b` on as many images, with a 95 % interval over draws of the images.

    About these very networks on other test images: an image's part is `d`, the mean over runs of `a − b`; the
    difference is the sum of d over n images, its standard error `√n · s(d)`, the interval normal. With one run each,
    this is McNemar's comparison (Agresti 2013, Section 11.1). `Difference.n` counts images.

    Raises:
        BadInput: other images, or none.
    """
    images = a.shape[-1]
    require(images == b.shape[-1] > 0, f"answers on {images} and {b.shape[-1]} images: give those on the same images")
    each = a.reshape(-1, images).mean(axis=0) - b.reshape(-1, images).mean(axis=0)
    mean = interval(each)
    half = float(scipy.special.ndtri((1 + CONFIDENCE) / 2)) * mean.standard_error * images
    p = float(2 * scipy.special.ndtr(-abs(mean.mean) / mean.standard_error)) if mean.standard_error > 0 else math.nan
    total = images * mean.mean
    low, high = total - half, total + half
    return Difference(total, low, high, images, p, low > 0 or high < 0)


def reach(differences: Table) -> float:
    """How far from 0 the 90 % intervals of the differences (the last axis) reach, over runs or over teachers
    crossed with seeds; nan where nothing is known about spread.

    Where it is below a margin, all differences at once are smaller than that: two one-sided paired t tests (Schuirmann
    1987) at 5 % for each, and an intersection-union test (Berger 1982) over all, which needs no adjustment.
    """
    each = [interval_over(column, 0.9) for column in np.moveaxis(differences, -1, 0)]
    return float(np.max([[abs(one.low), abs(one.high)] for one in each]))


def all_pairs(table: Table) -> Real[np.ndarray, "*runs pairs"]:
    """First minus second of every two columns, in the order of `np.triu_indices`: "all alike" is about these."""
    first, second = np.triu_indices(table.shape[-1], k=1)
    pairs: np.ndarray = np.asarray(table, np.float64)[..., first] - table[..., second]
    return pairs


def candidates_for_best(
    table: Table, alpha: float = 0.05, simultaneous: bool = False
) -> Bool[np.ndarray, "temperatures"]:
    """The temperatures not excluded as best (fewest errors); with probability ≥ 1 − α a best one is among them.

    Hsu's (1984) comparison with the best, for paired runs (or teachers crossed with seeds): a column is excluded where
    some other beats it in a one-sided paired t test at level `α/(k − 1)`. Bonferroni in place of Dunnett's constant,
    because paired differences need not share one variance; the price is a set that is at times a little larger. More
    than one left: no winner.

    This is per setting: where several are equally good, each of them is kept with probability ≥ 1 − α, but some one of
    them is excluded more often than α. `simultaneous` tests all `k (k − 1)` ordered pairs together, each at level
    `α/(k (k − 1))`: with probability ≥ 1 − α no equally good one is excluded. A sentence about all T needs this.

    Over two or three teachers neither promise holds where teachers change the differences between columns as much as
    chance does: `crossed_interval` is too narrow, most of all at such levels (normal draws, 3 teachers × 10 seeds, 8
    columns: some equal one is excluded simultaneously in 9 to 24 %). At six teachers both hold.
    """
    k = table.shape[-1]
    if k == 1:
        return np.ones(1, bool)
    tests = k * (k - 1) if simultaneous else k - 1
    confidence = 1 - 2 * alpha / tests  # its lower bound is the one-sided test
    errors = np.asarray(table, np.float64)

    def beaten(i: int) -> bool:
        return any(interval_over(errors[..., i] - errors[..., j], confidence).low > 0 for j in range(k) if j != i)

    return np.array([not beaten(i) for i in range(k)])


def ratio_of_means(numerators: Runs | Grid, denominators: Runs | Grid) -> Ratio:
    """`mean x / mean y` over paired runs with Fieller's (1954) 95 % interval: all ρ with
    `|mean(x − ρy)| ≤ t·se(x − ρy)`.

    `[runs]`: `se² = s²/n`, n − 1 degrees of freedom. `[teachers, seeds]`: those of `crossed_interval`, the degrees of
    freedom at ρ = mean x / mean y.

    Where the mean denominator is not itself different from zero the interval is unbounded (−inf,
    inf).
    """
    pairs = np.array([numerators, denominators], np.float64) if numerators.shape == denominators.shape else np.array([])
    require(pairs.size > 0, "a ratio needs pairs: as many numerators as denominators")
    if pairs.ndim == 3 and min(pairs.shape[1:]) == 1:
        pairs = pairs.reshape(2, -1)
    n, x, y = pairs[0].size, _mean(pairs[0]), _mean(pairs[1])
    ratio = x / y if y else math.nan
    crossed = [*pairs.mean(axis=1), *pairs.mean(axis=2)] if pairs.ndim == 3 else []
    varies = any(map(_varies, crossed)) if crossed else np.ptp(pairs, axis=1).max() > 0
    if n < 2 or not varies:
        return Ratio(ratio, math.nan, math.nan, n)
    df = float(n - 1)
    if pairs.ndim == 2:
        covariance = np.cov(pairs) / n
    else:
        squares = _mean_products(pairs)
        covariance = squares.sum(axis=0) / n
        at = np.array([1.0, -ratio])
        by_teacher, by_seed = (float(at @ square @ at) for square in squares)
        df = _crossed(by_teacher, by_seed, *pairs.shape[1:])[1]
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
    if not _mean(a) > 0:
        return Vertex(math.nan, math.nan, math.nan, lowest.n, False)
    temperature, low, high = (float(np.exp(np.clip(value, -700, 700))) for value in lowest[:3])
    low, high = (0.0 if lowest.low == -math.inf else low), (math.inf if lowest.high == math.inf else high)
    inside = bool(np.exp(x.min()) <= low and high <= np.exp(x.max()))
    return Vertex(temperature, low, high, lowest.n, inside)


def reproduced(ours: Runs | Grid, paper: float | int) -> str:
    """Whether the paper's single run of `paper` errors could be one of ours: does it lie in our prediction interval?

    Few or scattered runs make that interval so wide that it holds nearly everything. "Reproduced" therefore asks also
    for a half-width of a quarter of the paper's errors at most (`WIDEST`): of normal draws, a recipe that truly leaves
    a third more errors than the paper's is then called so with a probability below 0.01, at any spread and 3 to 15
    runs. Where the interval is wider the paper's run is "compatible" with ours, and no more. No verdict below three
    runs.
    """
    expected = prediction_interval(ours)
    if math.isnan(expected.low) or expected.n < 3:
        return f"no verdict at n = {expected.n}"
    if expected.low <= paper <= expected.high:
        return "reproduced" if expected.high - expected.mean <= WIDEST * paper else "compatible"
    return "better" if expected.high < paper else "not reproduced"


def difference_in_words(difference: Difference, seen: bool) -> str:
    """Fewer errors, more errors, or no difference seen, with n. `seen`: whether it may be called one (`claimed`)."""
    if math.isnan(difference.low):
        return f"no verdict at n = {difference.n}"
    if not seen:
        return f"no difference seen at n = {difference.n}"
    return "fewer errors" if difference.mean < 0 else "more errors"


def mean_squares(table: Grid) -> Real[np.ndarray, "3"]:
    """Mean squares by teacher, by seed, and of what is left (analysis of variance)."""
    teachers, seeds = table.shape
    by_teacher, by_seed = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    rest = np.sum((table - by_teacher - by_seed + table.mean()) ** 2) / ((teachers - 1) * (seeds - 1))
    return np.array([seeds * np.var(by_teacher, ddof=1), teachers * np.var(by_seed, ddof=1), rest])


def _mean_products(tables: Real[np.ndarray, "variables teachers seeds"]) -> Real[np.ndarray, "2 variables variables"]:
    """Mean squares (and products) of several variables by teacher, then by seed."""
    _, teachers, seeds = tables.shape
    by_teacher = np.atleast_2d(seeds * np.cov(tables.mean(axis=2)))
    return np.stack([by_teacher, np.atleast_2d(teachers * np.cov(tables.mean(axis=1)))])


def _crossed(by_teacher: float, by_seed: float, teachers: int, seeds: int) -> tuple[float, float]:
    """Standard error of a mean over teachers crossed with seeds, and its degrees of freedom, from the mean squares."""
    total = by_teacher + by_seed
    if not total > 0:
        return 0.0, float(min(teachers, seeds) - 1)
    df = total**2 / (by_teacher**2 / (teachers - 1) + by_seed**2 / (seeds - 1))
    return math.sqrt(total / (teachers * seeds)), df


def _mean(values: Real[np.ndarray, "..."]) -> float:
    return float(np.mean(values, dtype=np.float64))
