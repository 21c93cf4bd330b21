"""What may be claimed of a handful of seeds: differences, equivalence, the best; no winner by chance.

Arrays in; a run is one replicate, and its axis comes first. Where bounds and p are nan, nothing is claimed.

Intervals over runs are about other seeds (and teachers) on *these* test images; `difference_over_images` is about other
images under these networks.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.special  # t from here: scipy.stats takes a second to import
from jaxtyping import Bool, Real

from analysis import crossed
from analysis.crossed import Grid
from kdjax.errors import require
from kdjax.intervals import CONFIDENCE, Runs
from kdjax.intervals import Difference as Difference  # these are of this module too
from kdjax.intervals import Interval as Interval
from kdjax.intervals import claimed as claimed
from kdjax.intervals import difference as difference
from kdjax.intervals import error_bars as error_bars
from kdjax.intervals import holm as holm
from kdjax.intervals import interval as interval
from kdjax.intervals import on_one_side as on_one_side

Wrong = Bool[np.ndarray, "*runs images"]
"""Whether each network's answer on each test image is wrong."""
Table = Real[np.ndarray, "*runs temperatures"]
"""`[runs, temperatures]`, or where teachers are crossed with seeds `[teachers, seeds, temperatures]`."""
WIDEST = 0.25
"""Half-width of a prediction interval, as a share of the paper's errors, up to which `reproduced` says so."""


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
    if on_one_side(firsts):
        rest = iter(claimed_in_turn([chain[1:] for chain in chains if len(chain) > 1]))
        return [1 + (next(rest) if len(chain) > 1 else 0) for chain in chains]
    return [sum(p <= 0.05 for p in adjusted) for adjusted in adjusted_in_turn(chains)]


def adjusted_in_turn(chains: Sequence[Sequence[Difference]]) -> list[list[float]]:
    """p of each difference of each chain, adjusted as `claimed_in_turn` tests them, without the intersection-union
    test: the smallest level at which it would be claimed. Of chains of one it is Holm's; nan where it is never tested,
    as a p of its chain is nan."""
    adjusted = [[math.nan] * len(chain) for chain in chains]
    at, last = [0] * len(chains), 0.0
    while True:
        heads = {i: chain[n].p for i, (chain, n) in enumerate(zip(chains, at, strict=True)) if n < len(chain)}
        heads = {i: p for i, p in heads.items() if not math.isnan(p)}
        if not heads:
            return adjusted
        first = min(heads, key=heads.__getitem__)
        last = min(1.0, max(last, heads[first] * len(heads)))
        adjusted[first][at[first]] = last
        at[first] += 1


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
    each = [crossed.interval_over(column, 0.9) for column in np.moveaxis(differences, -1, 0)]
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
        return any(
            crossed.interval_over(errors[..., i] - errors[..., j], confidence).low > 0 for j in range(k) if j != i
        )

    return np.array([not beaten(i) for i in range(k)])


def reproduced(ours: Runs | Grid, paper: float | int) -> str:
    """Whether the paper's single run of `paper` errors could be one of ours: does it lie in our prediction interval?

    Few or scattered runs make that interval so wide that it holds nearly everything. "Reproduced" therefore asks also
    for a half-width of a quarter of the paper's errors at most (`WIDEST`): of normal draws, a recipe that truly leaves
    a third more errors than the paper's is then called so with a probability below 0.01, at any spread and 3 to 15
    runs. Where the interval is wider the paper's run is "compatible" with ours, and no more. No verdict below three
    runs.
    """
    expected = crossed.prediction_interval(ours)
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
