"""The paper's claims about temperature, judged on an MNIST table: which T may be best, and which are alike."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import stats, tables
from analysis.mnist.run import Answers
from analysis.tables import count_of, fixed, in_brackets, markdown

MARGIN = 7
"""Test errors of 10,000: differences below it count as alike; a tenth of what distillation gains in the paper."""
HIGH = 8.0
"""Temperatures from here on are those that the paper calls alike for 300 units and more."""
WIDE = 300
"""Units, from which on it calls them so."""
NARROW, BEST = 30, (2.5, 4.0)
"""Units, and the temperatures that the paper calls best for them."""


class Judged(NamedTuple):
    """The students of one width, over temperatures."""

    width: int
    temperatures: np.ndarray
    errors: np.ndarray
    """[teachers, seeds, temperatures], or [seeds, temperatures] under one teacher."""
    hard: np.ndarray
    """[seeds]; nan where there is no baseline."""
    teachers: int
    candidates: np.ndarray
    """The temperatures that are not excluded as best."""
    vertex: stats.Vertex | None
    """Over seeds, each a mean over teachers."""
    alike: stats.Equivalence | None
    """Of every two temperatures from HIGH on, T = ∞ among them where it was asked."""
    alike_finite: stats.Equivalence | None
    """The same without T = ∞; None where it was not asked, or leaves one."""
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
        mine, base = self.errors[..., both, :], self.hard[both]
        columns = np.moveaxis(mine, -1, 0)
        return [stats.paired_difference(column, np.broadcast_to(base, column.shape)) for column in columns]


def judge_widths(answers: Answers) -> list[Judged]:
    """The claims about temperature, a width at a time: over teachers crossed with seeds, or seeds under one teacher."""
    judged = []
    everything = answers.results[(answers.results["role"] == "widths") & (answers.results["objective"] == "soft")]
    margin = MARGIN * answers.test_images / 10_000
    for width, rows in everything.groupby("width"):
        runs = tables.finished(rows)
        names, seeds = sorted(rows["teacher"].unique()), sorted(rows["seed"].unique())
        table = runs.pivot_table(index=["teacher", "seed"], columns="temperature", values="test_errors", aggfunc="mean")
        table = table.reindex(pd.MultiIndex.from_product([names, seeds]))
        asked = sorted(rows["temperature"].unique())
        kept = [float(t) for t in asked if t in table and not table[t].isna().any()]
        if not kept:
            continue
        temperatures = np.array(kept)
        errors = table[kept].to_numpy(float).reshape(len(names), len(seeds), len(kept))
        errors = errors[0] if len(names) == 1 else errors
        hard = answers.of("widths", objective="hard", width=width).set_index("seed")["test_errors"]
        high = temperatures >= HIGH
        finite = high & np.isfinite(temperatures)
        over_seeds = errors if errors.ndim == 2 else errors.mean(axis=0)
        judged.append(
            Judged(
                int(str(width)),
                temperatures,
                errors,
                hard.reindex(seeds).to_numpy(float),
                len(names),
                temperatures[stats.candidates_for_best(errors)],
                stats.vertex(temperatures, over_seeds) if np.isfinite(temperatures).sum() >= 3 else None,
                _alike(errors[..., high], margin),
                _alike(errors[..., finite], margin) if (high != finite).any() else None,
                tuple(float(t) for t in asked if t not in kept),
            )
        )
    return judged


def _alike(errors: np.ndarray, margin: float) -> stats.Equivalence | None:
    return stats.equivalent(stats.all_pairs(errors), margin) if errors.shape[-1] > 1 else None


def section(answers: Answers) -> str:
    """The part `widths` of the summary: errors at each temperature, then what they say; empty where it was not made."""
    judged = judge_widths(answers)
    asked = answers.results[answers.results["role"] == "widths"]["width"].unique()
    lost = [
        f"{width} units: some run failed at every temperature."
        for width in asked
        if width not in {j.width for j in judged}
    ]
    if not judged:
        return "\n".join(lost)
    header = ["units", "T", "test errors", "95 % interval", "from hard labels", "95 % interval", "p (Holm)", "best?"]
    cells = []
    for one in judged:
        hard = one.hard[~np.isnan(one.hard)]
        if len(hard):
            found = stats.interval(hard)
            bounds = in_brackets(found.low, found.high)
            cells.append([str(one.width), "hard labels", f"{found.mean:.1f}", bounds, *[""] * 4])
        differences = one.from_hard()
        p = stats.holm(np.array([difference.p for difference in differences]))
        for index, temperature in enumerate(one.temperatures):
            found = stats.interval_over(one.errors[..., index])
            cell = [
                str(one.width),
                tables.number(temperature),
                f"{found.mean:.1f}",
                in_brackets(found.low, found.high),
            ]
            if differences:
                d = differences[index]
                cell += [
                    fixed(d.mean, sign=True),
                    in_brackets(d.low, d.high, sign=True),
                    tables.p_value(p[index]),
                ]
            else:
                cell += [""] * 3
            cells.append([*cell, "possible" if temperature in one.candidates else ""])
    return "## Errors against temperature\n\n" + markdown(header, cells, lost + claims(judged, answers), left=1)


def claims(judged: Sequence[Judged], answers: Answers) -> list[str]:
    """What the temperatures' errors say of the paper's two claims, and of the optimum of each width.

    "Reproduced" is said on MNIST alone, for the paper's widths, and under three teachers or more: with fewer, a claim
    is about these teachers.
    """
    each = [(one.width, count_of(one.seeds, "seed"), count_of(one.teachers, "teacher")) for one in judged]
    counts = "; ".join(f"{width} units: {seeds}, {teachers}" for width, seeds, teachers in each)
    notes = [
        f"{counts}. Several teachers are crossed with the seeds, and the intervals are over both. best?: not "
        "excluded as best by the comparison with the best (95 %, paired)."
    ]
    for one in judged:
        notes += _claims_of(one, answers)
    pairs = list(itertools.combinations(judged, 2))
    for a, b in pairs:
        shared = sorted(set(a.temperatures) & set(b.temperatures))
        if len(shared) < 2:
            continue
        sets = []
        for one in (a, b):
            places = [list(one.temperatures).index(t) for t in shared]
            possible = stats.candidates_for_best(one.errors[..., places], 0.05 / 2 / len(pairs))
            sets.append({t for t, may in zip(shared, possible, strict=True) if may})
        word = "are not told apart" if sets[0] & sets[1] else "differ (none may be best for both)"
        among = ", ".join(map(tables.number, shared))
        notes.append(f"Among T = {among} the optima of {a.width} and {b.width} units {word}.")
    return notes


def _claims_of(one: Judged, answers: Answers) -> list[str]:
    about = "" if one.teachers >= 3 else " (about this teacher)" if one.teachers == 1 else " (about these teachers)"
    of_paper = answers.on_mnist and one.teachers >= 3
    notes = []
    if one.left_out:
        missing = ", ".join(map(tables.number, one.left_out))
        notes.append(f"{one.width} units: T = {missing} left out, where some run failed.")
    if one.seeds * one.teachers == 1:
        return [*notes, f"{one.width} units: one run, nothing is judged."]
    said = f"{one.width} units: best may be T = {', '.join(map(tables.number, one.candidates))}"
    said += "" if len(one.candidates) == 1 else ": no winner"
    if one.vertex is not None and not math.isnan(one.vertex.low):
        said += f"; lowest point of a parabola in log T, over seeds: {one.vertex.temperature:.1f}"
        said += f" [{tables.number(round(one.vertex.low, 2))}, {tables.number(round(one.vertex.high, 2))}]"
        said += "" if one.vertex.inside else " (not inside the temperatures tried)"
    notes.append(f"{said}{about}.")
    for which, alike in (("temperatures", one.alike), ("finite temperatures", one.alike_finite)):
        if alike is None or math.isnan(alike.reach) or one.width <= NARROW:
            continue
        margin = f"alike within ±{MARGIN * answers.test_images / 10_000:g} errors"
        verdict = margin if alike.all_alike else f"not shown to be {margin}"
        if alike.all_alike and of_paper and one.width >= WIDE:
            verdict += ", as the paper says: reproduced"
        reach = f"the 90 % intervals of the differences reach {alike.reach:.1f}"
        notes.append(f"{one.width} units, every two {which} from {HIGH:g} on: {verdict} ({reach}){about}.")
    if one.width == NARROW and answers.on_mnist:
        inside = (one.candidates >= BEST[0]) & (one.candidates <= BEST[1])
        word = "only these may be best" if inside.all() else "possible, and so are others"
        word = word if inside.any() else "excluded"
        if of_paper:
            word += ": reproduced" if inside.all() else "" if inside.any() else ": not reproduced"
        notes.append(f"{one.width} units, T in {BEST[0]:g} to {BEST[1]:g} best (paper): {word}{about}.")
    return notes
