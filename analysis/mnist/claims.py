"""What an MNIST table says of temperature: where soft targets help, which T may be best, which are alike, and the
paper's claims about it."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from analysis import stats
from analysis.mnist import widths
from analysis.mnist.run import MnistResults
from analysis.mnist.widths import HIGH, MARGIN, AtWidth, WidthCurve
from analysis.tables import Table, bounds, count_of, estimate, fixed, number, p_value

WIDE = 300
"""Units: for so many or more the paper calls temperatures from HIGH on alike."""
NARROW, BEST = 30, (2.5, 4.0)
"""Units, and the temperatures that the paper calls best for them."""


def section(results: MnistResults) -> str:
    """The part `widths` of the summary: a table of each width and schedule, then what they say; empty where it was not
    made."""
    found = widths.read(results)
    tables = [_table(one, results) for one in found]
    notes = [sentence for one in found for sentence in verdicts(one, results)]
    notes += claims([one.tuned for one in found if one.tuned], results)
    text = "\n".join(f"* {note}" for note in notes)
    return "\n\n".join(["## Errors against temperature", *tables, text]) if found else ""


def _table(one: AtWidth, results: MnistResults) -> str:
    interval = "95 % interval"
    header = ["", "tuned rate", "test errors", interval, "from hard labels", interval, "p (Holm)", "best?"]
    header += [f"at rate {_one_rate(results):g}", interval, "best?"]
    tuned, at_one = _cells(one.tuned), _cells(one.one_rate)
    cells = []
    for choice in one.choices:
        name = "hard labels" if choice.objective == "hard" else f"T = {number(choice.temperature)}"
        rate = f"{choice.learning_rate:g}" + " (at the edge)" * choice.at_edge
        own, fixed_rate = (of_curve.get(name, [""] * 6) for of_curve in (tuned, at_one))
        cells.append([name, rate, *own, *fixed_rate[:2], fixed_rate[5]])
    return f"### {one.name}\n\n" + Table(header, cells, left=1).markdown()


def _one_rate(results: MnistResults) -> float:
    return float(results.identity["config"]["learning_rate"])


def _cells(curve: WidthCurve | None) -> dict[str, list[str]]:
    """Of each setting: errors, interval, difference from hard labels, interval, p, whether it may be best."""
    cells = dict[str, list[str]]()
    if curve is None:
        return cells
    hard = curve.hard[~np.isnan(curve.hard)]
    if len(hard):
        mean = stats.interval(hard)
        cells["hard labels"] = [fixed(mean.mean), bounds(mean), *[""] * 4]
    compared = curve.from_hard()
    for index, (temperature, mean) in enumerate(zip(curve.temperatures, curve.means(), strict=True)):
        less = [""] * 3
        if compared:
            difference, p = compared[index]
            less = [fixed(difference.mean, sign=True), bounds(difference, sign=True), p_value(p)]
        best = "possible" if temperature in curve.candidates else ""
        cells[f"T = {number(temperature)}"] = [fixed(mean.mean), bounds(mean), *less, best]
    return cells


def verdicts(one: AtWidth, results: MnistResults) -> list[str]:
    """Where soft targets help at tuned rates, and where at one rate; and which rates lie at an edge."""
    notes = []
    for curve, how in ((one.tuned, "each rate tuned"), (one.one_rate, f"all at rate {_one_rate(results):g}")):
        notes.append(f"{one.name}, {how}: {_help(curve) if curve else 'some run failed at every temperature'}.")
    edges = [one for one in one.choices if one.at_edge]
    if edges:
        named = ", ".join("hard labels" if e.objective == "hard" else f"T = {number(e.temperature)}" for e in edges)
        tried = f"those tried, {one.tried[0]:g} to {one.tried[-1]:g}"
        notes.append(f"{one.name}: the rate of {named} lies at the edge of {tried}: a better one may lie beyond.")
    return notes


def _help(curve: WidthCurve) -> str:
    """Where soft targets make fewer errors than hard labels (the interval excludes zero, and p ≤ 0.05 by Holm)."""
    compared = curve.from_hard()
    if not compared:
        return "no hard labels to compare with"
    kinds: dict[str, list[tuple[float, stats.Difference]]] = {"fewer": [], "more": [], "neither": []}
    for temperature, (difference, p) in zip(curve.temperatures, compared, strict=True):
        kind = ("fewer" if difference.mean < 0 else "more") if difference.differs and p <= 0.05 else "neither"
        kinds[kind].append((float(temperature), difference))

    def at(of_kind: list[tuple[float, stats.Difference]]) -> str:
        return "T = " + ", ".join(number(temperature) for temperature, _ in of_kind)

    words = []
    for kind, verb in (("fewer", "help"), ("more", "harm")):
        if kinds[kind]:
            temperature, most = max(kinds[kind], key=lambda pair: abs(pair[1].mean))
            by = f"{estimate(most, sign=True)} errors at T = {number(temperature)}"
            words.append(f"soft targets {verb} at {at(kinds[kind])} (most, {by})")
    if kinds["neither"]:
        words.append(f"not told apart from hard labels at {at(kinds['neither'])}")
    return "; ".join(words)


def claims(curves: Sequence[WidthCurve], results: MnistResults) -> list[str]:
    """What the temperatures' errors say of the paper's two claims, and of the optimum of each width.

    "Reproduced" is said on MNIST alone, for the paper's widths, and under three teachers or more: with fewer, a claim
    is about these teachers.
    """
    counts = "; ".join(
        f"{curve.name}: {count_of(curve.seeds, 'seed')}, {count_of(curve.teachers, 'teacher')}" for curve in curves
    )
    notes = [
        f"{counts}. Several teachers are crossed with the seeds, and the intervals are over both. best?: not "
        "excluded as best by the comparison with the best (95 %, paired)."
    ]
    for curve in curves:
        notes += _claims_of(curve, results)
    pairs = [(a, b) for a, b in itertools.combinations(curves, 2) if a.epochs == b.epochs]
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
        notes.append(f"Among T = {among} the optima of {a.name}, and {b.name}, {word}.")
    return notes


def _claims_of(curve: WidthCurve, results: MnistResults) -> list[str]:
    about = "" if curve.teachers >= 3 else " (about this teacher)" if curve.teachers == 1 else " (about these teachers)"
    of_paper = results.on_mnist and curve.teachers >= 3
    notes = []
    if curve.left_out:
        missing = ", ".join(map(number, curve.left_out))
        notes.append(f"{curve.name}: T = {missing} left out, where some run failed.")
    if curve.seeds * curve.teachers == 1:
        return [*notes, f"{curve.name}: one run, so no verdict."]
    text = f"{curve.name}: best may be T = {', '.join(map(number, curve.candidates))}"
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
        notes.append(f"{curve.name}, every two {which} from {HIGH:g} on: {verdict} ({reach}){about}.")
    if curve.width == NARROW and results.on_mnist:
        inside = (curve.candidates >= BEST[0]) & (curve.candidates <= BEST[1])
        word = "only these may be best" if inside.all() else "possible, and so are others"
        word = word if inside.any() else "excluded"
        if of_paper:
            word += ": reproduced" if inside.all() else "" if inside.any() else ": not reproduced"
        notes.append(f"{curve.name}, T in {BEST[0]:g} to {BEST[1]:g} best (paper): {word}{about}.")
    return notes
