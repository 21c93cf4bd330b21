"""What an MNIST table says: its verdict, and of temperature where soft targets help, which T may be best, which are
alike, and the paper's claims about it."""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from analysis import crossed, fieller, stats
from analysis.mnist.roles import Role
from analysis.mnist.rows import TableRow
from analysis.mnist.run import MnistResults
from analysis.mnist.widths import HIGH, MARGIN, AtWidth, WidthCurve
from analysis.tables import count_of, estimate, fixed, number, with_bounds

WIDE = 300
"""Units: for so many or more the paper calls temperatures from HIGH on alike."""
NARROW, BEST = 30, (2.5, 4.0)
"""Units, and the temperatures that the paper calls best for them."""


def of_table(rows: Sequence[TableRow], results: MnistResults) -> str:
    """The verdict: how much of the gap distillation closes, and which of the paper's rows are reproduced; empty where
    neither can be told."""
    small = any(row.role == Role.SMALL for row in rows)
    said = [_closed(row.gap) for row in rows if small and row.role == Role.DISTILLED]
    of_paper = ", ".join(f"{row.name.split(',')[0]} {row.verdict}" for row in rows if row.verdict)
    return " ".join(said + [f"The paper's single runs, against ours: {of_paper}."] * bool(of_paper))


def _closed(gap: fieller.Ratio) -> str:
    """Whether distillation closes the gap, in a sentence."""
    if gap.n == 0:
        return "How much of the gap distillation closes is not known: no seed has both a small net and a distilled one."
    if math.isnan(gap.ratio):
        return "There is no gap to close: small nets make no more errors than the teacher, in the mean."
    what = "of the gap between small net and teacher"
    if math.isnan(gap.low):
        return f"Distillation closes {fixed(gap.ratio, 2)} {what}; {count_of(gap.n, 'run')} cannot tell more."
    if not gap.low > 0:
        return f"It is not shown that distillation closes any {what} ({with_bounds(*gap[:3], 2)})."
    word = "not all of it" if gap.high < 1 else "which may be all of it" if gap.low <= 1 else "more than all of it"
    return f"Distillation closes {with_bounds(*gap[:3], 2)} {what}, {word}."


def verdicts(one: AtWidth, results: MnistResults) -> list[str]:
    """Where soft targets help at tuned rates, and where at one rate; and which rates lie at an edge."""
    failed = "some run failed at every temperature"
    curves = (
        (one.tuned, "each rate tuned", "not all students are trained yet" if one.under_way else failed),
        (one.one_rate, f"all at rate {results.learning_rate:g}", failed),
    )
    notes = [f"{one.name}, {how}: {_help(curve) if curve else nothing}." for curve, how, nothing in curves]
    if one.lost:
        notes.append(f"{one.name}: {', '.join(one.lost)} left out, where some run failed at every rate.")
    edges = [choice for choice in one.choices if choice.at_edge]
    if edges:
        named = ", ".join(choice.name for choice in edges)
        tried = f"those tried, {one.tried[0]:g} to {one.tried[-1]:g}"
        notes.append(f"{one.name}, rates at the edge of {tried} (better ones may lie beyond): {named}.")
    return notes


def _help(curve: WidthCurve) -> str:
    """Where soft targets make fewer errors than hard labels (`stats.claimed`), and which T may be best."""
    kinds: dict[str, list[tuple[float, stats.Difference]]] = {"help": [], "harm": [], "neither": []}
    differences = [difference for difference, _ in curve.from_hard()]
    compared = zip(curve.temperatures, differences, stats.claimed(differences), strict=False)
    for temperature, difference, seen in compared:
        kind = ("help" if difference.mean < 0 else "harm") if seen else "neither"
        kinds[kind].append((float(temperature), difference))
    words = []
    for kind in ("help", "harm"):
        if kinds[kind]:
            temperature, most = max(kinds[kind], key=lambda pair: abs(pair[1].mean))
            by = f"by {estimate(most, sign=True)} errors at T = {number(temperature)}"
            by += " (oracle)" * (len(kinds[kind]) > 1)
            words.append(f"soft targets {kind} at {_listed(t for t, _ in kinds[kind])}, most of all {by}")
    if kinds["neither"]:
        words.append(f"not told apart from hard labels at {_listed(t for t, _ in kinds['neither'])}")
    if curve.seeds * curve.teachers == 1:
        return "; ".join([*words, "one run, so no verdict"])
    may = f"best may be {_listed(curve.candidates)}{': no winner' * (len(curve.candidates) > 1)}"
    return "; ".join([*words, may]) + _about(curve)


def _about(curve: WidthCurve) -> str:
    """With fewer than three teachers, a verdict is about these."""
    return {1: " (about this teacher)", 2: " (about these teachers)"}.get(curve.teachers, "")


def _listed(temperatures: Iterable[float]) -> str:
    return "T = " + ", ".join(map(number, temperatures))


def claims(curves: Sequence[WidthCurve], results: MnistResults) -> list[str]:
    """What the temperatures' errors say of the paper's two claims, and of the optimum of each width.

    "Reproduced" is said on MNIST alone, for the paper's widths, and under three teachers or more: with fewer, a claim
    is about these teachers.
    """
    if not curves:
        return []
    counts = "; ".join(
        f"{curve.name}: {count_of(curve.seeds, 'seed')}, {count_of(curve.teachers, 'teacher')}" for curve in curves
    )
    notes = [
        f"{counts}. Several teachers are crossed with the seeds, and the intervals are over both. best?: not "
        "excluded as best by the comparison with the best (95 % for all T of a table at once, paired)."
        + " Two or three teachers are few for this: too much may be excluded."
        * any(curve.teachers in (2, 3) for curve in curves)
    ]
    notes += dict.fromkeys(note for curve in curves for note in crossed.few_draws(curve.teachers, curve.seeds))
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
    about = _about(curve)
    of_paper = results.with_papers_teacher and curve.teachers >= 3
    notes = []
    if curve.left_out:
        missing = ", ".join(map(number, curve.left_out))
        notes.append(f"{curve.name}: T = {missing} left out, where some run failed.")
    if curve.vertex is not None and not math.isnan(curve.vertex.low):
        text = f"{curve.name}: lowest point of a parabola in log T, over seeds: {curve.vertex.temperature:.3g}"
        text += f" [{number(round(curve.vertex.low, 2))}, {number(round(curve.vertex.high, 2))}]"
        beyond = "" if curve.vertex.inside else " (not inside the temperatures tried)"
        notes.append(f"{text}{beyond}{about or ' (about these teachers)'}.")  # each seed's errors are means over them
    margin = MARGIN * results.test_images / 10_000
    for which, reach in (("temperatures", curve.reach), ("finite temperatures", curve.reach_finite)):
        if reach is None or math.isnan(reach) or curve.width <= NARROW:
            continue
        verdict = f"{'not shown to be ' * (reach >= margin)}alike within ±{margin:g} errors"
        if reach < margin and of_paper and curve.width >= WIDE:
            verdict += ", as the paper says: reproduced"
        intervals = f"the 90 % intervals of the differences reach {reach:.1f}"
        notes.append(f"{curve.name}, every two {which} from {HIGH:g} on: {verdict} ({intervals}){about}.")
    tried, left_out, inside = (_in_best(values) for values in (curve.temperatures, curve.left_out, curve.candidates))
    asked = tried.any() and not tried.all() and not left_out.any()  # of what was not tried nothing is known
    if curve.width == NARROW and results.on_mnist and curve.seeds * curve.teachers > 1 and asked:
        word = "only these may be best" if inside.all() else "possible, and so are others"
        word = word if inside.any() else "excluded"
        if of_paper:
            word += ": reproduced" if inside.all() else "" if inside.any() else ": not reproduced"
        notes.append(f"{curve.name}, T in {BEST[0]:g} to {BEST[1]:g} best (paper): {word}{about}.")
    return notes


def _in_best(temperatures: Iterable[float]) -> np.ndarray:
    """Which lie where the paper says that the best do."""
    values = np.array(list(temperatures), float)
    return (values >= BEST[0]) & (values <= BEST[1])
