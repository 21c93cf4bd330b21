"""The paper's claims about temperature, tested on an MNIST table: which T may be best, and which are alike."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import runs, stats
from analysis.mnist.roles import Role
from analysis.mnist.run import MnistResults
from analysis.tables import Table, bounds, count_of, fixed, number, p_value

MARGIN = 7
"""Test errors of 10,000: smaller differences count as alike; a tenth of what distillation gains in the paper."""
HIGH = 8.0
"""The paper calls temperatures from here on alike."""
WIDE = 300
"""Units: for so many or more."""
NARROW, BEST = 30, (2.5, 4.0)
"""Units, and the temperatures that the paper calls best for them."""


class WidthCurve(NamedTuple):
    """Test errors against temperature, of the students of one width."""

    width: int
    temperatures: np.ndarray
    errors: np.ndarray
    """[teachers, seeds, temperatures], or [seeds, temperatures] under one teacher."""
    hard: np.ndarray
    """[seeds]; nan where there is no baseline."""
    teachers: int
    candidates: np.ndarray
    """The temperatures that are not excluded as best, all at once (`simultaneous`)."""
    vertex: stats.Vertex | None
    """Over seeds, each a mean over teachers."""
    alike: stats.Equivalence | None
    """Of every two temperatures from HIGH on, T = ∞ among them where it was tried."""
    alike_finite: stats.Equivalence | None
    """The same without T = ∞; None where it was not tried, or leaves one."""
    left_out: tuple[float, ...]
    """Temperatures at which some run is missing or failed."""

    @property
    def seeds(self) -> int:
        """Seeds under each teacher."""
        return int(self.errors.shape[-2])

    def from_hard(self) -> list[stats.Difference]:
        """At each temperature, the paired difference from hard labels, over the seeds that have both."""
        both = ~np.isnan(self.hard)
        if not both.any():
            return []
        columns, hard = np.moveaxis(self.errors[..., both, :], -1, 0), self.hard[both]
        return [stats.paired_difference(column, np.broadcast_to(hard, column.shape)) for column in columns]


def width_curves(results: MnistResults) -> list[WidthCurve]:
    """One a width: over teachers crossed with seeds, or over seeds under one teacher."""
    curves = []
    margin = MARGIN * results.test_images / 10_000
    for width, rows in results.trained(Role.WIDTHS, objective="soft").groupby("width"):
        names, seeds = sorted(rows["teacher"].unique()), sorted(rows["seed"].unique())
        table = runs.finished(rows).pivot_table(index=runs.RUN, columns="temperature", values="test_errors")
        table = table.reindex(pd.MultiIndex.from_product([names, seeds]))
        tried = [float(t) for t in sorted(rows["temperature"].unique())]
        whole = [t for t in tried if t in table and not table[t].isna().any()]
        if not whole:
            continue
        temperatures = np.array(whole)
        errors = table[whole].to_numpy(float).reshape(len(names), len(seeds), len(whole))
        errors = errors[0] if len(names) == 1 else errors
        hard = results.of(Role.WIDTHS, objective="hard", width=width).set_index("seed")["test_errors"]
        high = temperatures >= HIGH
        finite = high & np.isfinite(temperatures)
        over_seeds = errors if errors.ndim == 2 else errors.mean(axis=0)
        curves.append(
            WidthCurve(
                int(str(width)),
                temperatures,
                errors,
                hard.reindex(seeds).to_numpy(float),
                len(names),
                temperatures[stats.candidates_for_best(errors, simultaneous=True)],
                stats.vertex(temperatures, over_seeds) if np.isfinite(temperatures).sum() >= 3 else None,
                _alike(errors[..., high], margin),
                _alike(errors[..., finite], margin) if (high != finite).any() else None,
                tuple(t for t in tried if t not in whole),
            )
        )
    return curves


def _alike(errors: np.ndarray, margin: float) -> stats.Equivalence | None:
    return stats.equivalent(stats.all_pairs(errors), margin) if errors.shape[-1] > 1 else None


def section(results: MnistResults) -> str:
    """The part `widths` of the summary: errors at each temperature, then what they say; empty where it was not made."""
    curves = width_curves(results)
    widths = dict.fromkeys(results.trained(Role.WIDTHS)["width"])
    lost = [
        f"{width} units: some run failed at every temperature."
        for width in widths
        if width not in {curve.width for curve in curves}
    ]
    if not curves:
        return "\n".join(lost)
    header = ["units", "T", "test errors", "95 % interval", "from hard labels", "95 % interval", "p (Holm)", "best?"]
    cells = []
    for curve in curves:
        hard = curve.hard[~np.isnan(curve.hard)]
        if len(hard):
            mean = stats.interval(hard)
            cells.append([str(curve.width), "hard labels", fixed(mean.mean), bounds(mean), *[""] * 4])
        differences = curve.from_hard()
        p = stats.holm(np.array([difference.p for difference in differences], float))
        for index, temperature in enumerate(curve.temperatures):
            mean = stats.interval_over(curve.errors[..., index])
            cell = [str(curve.width), number(temperature), fixed(mean.mean), bounds(mean)]
            if differences:
                less = differences[index]
                cell += [fixed(less.mean, sign=True), bounds(less, sign=True), p_value(p[index])]
            else:
                cell += [""] * 3
            cells.append([*cell, "possible" if temperature in curve.candidates else ""])
    table = Table(header, cells, lost + claims(curves, results), left=1)
    return "## Errors against temperature\n\n" + table.markdown()


def claims(curves: Sequence[WidthCurve], results: MnistResults) -> list[str]:
    """What the temperatures' errors say of the paper's two claims, and of the optimum of each width.

    "Reproduced" is said on MNIST alone, for the paper's widths, and under three teachers or more: with fewer, a claim
    is about these teachers.
    """
    counts = "; ".join(
        f"{curve.width} units: {count_of(curve.seeds, 'seed')}, {count_of(curve.teachers, 'teacher')}"
        for curve in curves
    )
    notes = [
        f"{counts}. Several teachers are crossed with the seeds, and the intervals are over both. best?: not "
        "excluded as best by the comparison with the best (95 % for all T of a width at once, paired)."
        + " Two or three teachers are few for this: too much may be excluded."
        * any(c.teachers in (2, 3) for c in curves)
    ]
    notes += dict.fromkeys(note for curve in curves for note in stats.few_draws(curve.teachers, curve.seeds))
    for curve in curves:
        notes += _claims_of(curve, results)
    pairs = list(itertools.combinations(curves, 2))
    for a, b in pairs:
        shared = sorted(set(a.temperatures) & set(b.temperatures))
        if len(shared) < 2:
            continue
        sets = []
        for curve in (a, b):
            places = [list(curve.temperatures).index(t) for t in shared]
            possible = stats.candidates_for_best(curve.errors[..., places], 0.05 / 2 / len(pairs))
            sets.append({t for t, may in zip(shared, possible, strict=True) if may})
        word = "are not told apart" if sets[0] & sets[1] else "differ (none may be best for both)"
        among = ", ".join(map(number, shared))
        notes.append(f"Among T = {among} the optima of {a.width} and {b.width} units {word}.")
    return notes


def _claims_of(curve: WidthCurve, results: MnistResults) -> list[str]:
    about = "" if curve.teachers >= 3 else " (about this teacher)" if curve.teachers == 1 else " (about these teachers)"
    of_paper = results.on_mnist and curve.teachers >= 3
    notes = []
    if curve.left_out:
        missing = ", ".join(map(number, curve.left_out))
        notes.append(f"{curve.width} units: T = {missing} left out, where some run failed.")
    if curve.seeds * curve.teachers == 1:
        return [*notes, f"{curve.width} units: one run, so no verdict."]
    text = f"{curve.width} units: best may be T = {', '.join(map(number, curve.candidates))}"
    text += "" if len(curve.candidates) == 1 else ": no winner"
    if curve.vertex is not None and not math.isnan(curve.vertex.low):
        text += f"; lowest point of a parabola in log T, over seeds: {curve.vertex.temperature:.1f}"
        text += f" [{number(round(curve.vertex.low, 2))}, {number(round(curve.vertex.high, 2))}]"
        text += "" if curve.vertex.inside else " (not inside the temperatures tried)"
    notes.append(f"{text}{about}.")
    for which, alike in (("temperatures", curve.alike), ("finite temperatures", curve.alike_finite)):
        if alike is None or math.isnan(alike.reach) or curve.width <= NARROW:
            continue
        margin = f"alike within ±{MARGIN * results.test_images / 10_000:g} errors"
        verdict = margin if alike.all_alike else f"not shown to be {margin}"
        if alike.all_alike and of_paper and curve.width >= WIDE:
            verdict += ", as the paper says: reproduced"
        reach = f"the 90 % intervals of the differences reach {alike.reach:.1f}"
        notes.append(f"{curve.width} units, every two {which} from {HIGH:g} on: {verdict} ({reach}){about}.")
    if curve.width == NARROW and results.on_mnist:
        inside = (curve.candidates >= BEST[0]) & (curve.candidates <= BEST[1])
        word = "only these may be best" if inside.all() else "possible, and so are others"
        word = word if inside.any() else "excluded"
        if of_paper:
            word += ": reproduced" if inside.all() else "" if inside.any() else ": not reproduced"
        notes.append(f"{curve.width} units, T in {BEST[0]:g} to {BEST[1]:g} best (paper): {word}{about}.")
    return notes
