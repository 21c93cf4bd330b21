"""Logits from a file, from reading to the report: `summary.md`, `logits.csv` and `figures/logits`."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.interpolate import CubicHermiteSpline

from analysis import analysis_folder
from analysis.matching import own_pair, own_pair_figure
from analysis.matching.config import MatchingConfig
from analysis.matching.own_pair import Measured
from analysis.pair_file import PairFile, read_pair
from analysis.tables import Table, fixed, number
from kdjax.files import write_csv, write_whole
from kdjax.logit_columns import TopK
from kdjax.progress import clock, count_of, say

COMMON = 4.0
"""A temperature that is much used: its error stands in the verdict."""
HEAD = """# When are soft targets logit matching? {name}

**{verdict}**

{where}

"""
TAIL = """
z are the student's logits, v the teacher's, N the number of classes; at T the soft targets are `p = softmax(v/T)` and
`q = softmax(z/T)`, and the gradient is `T (q − p)`, of T² times the cross-entropy. Logit matching is `(zc − vc)/N`, zc
and vc minus their mean over classes (Hinton, Vinyals, Dean 2015, arXiv 1503.02531, Eq. 4). An error is relative: the
root mean square over examples and classes of the difference, over that of the formula; of a top-k gradient, over that
of the gradient with all logits. Entropy and NLL are in nats; ECE has 15 bins of confidence (Guo et al. 2017, arXiv
1706.04599). Every curve is in `logits.csv`, the figure in `figures/`.
"""


def write(config: MatchingConfig) -> Path:
    """Reads, measures and writes everything; returns the folder, OUT/logit_matching/NAME-logits, NAME being the
    file's: a run may have that name."""
    assert config.logits is not None
    begin = time.perf_counter()
    pair = read_pair(config.logits, config.columns, config.topk_rest)
    folder = config.out / "logit_matching" / f"{pair.name}-logits"
    analysis_folder.make(folder, pair.path)
    say(f"logits: {described(pair)}")
    measured = own_pair.measure(pair)
    write_csv(folder / "logits.csv", measured.table)
    write_whole(folder / "summary.md", summary(pair, measured))
    analysis_folder.note_command(folder, "summary.md", described(pair), pair.path)
    own_pair_figure.draw(folder, pair, measured)
    say(f"written in {clock(time.perf_counter() - begin)}: {folder}")
    return folder


def described(pair: PairFile) -> str:
    """The file, how many rows and classes, and what stands for the teacher."""
    return f"{pair.path.name}; {count_of(pair.rows, 'example')}, {pair.classes:,} classes; {_teacher(pair)}"


def _teacher(pair: PairFile) -> str:
    if isinstance(pair.teacher, TopK):
        rest = {"spread": "the rest of the mass spread evenly", "renormalised": "no mass on the rest"}
        of_rest = f", {rest[pair.teacher.rest]}" if pair.teacher.k < pair.classes else ""
        return f"{pair.teacher.name}, k = {pair.teacher.k:,}{of_rest}"
    beside = f", and beside them {pair.stored.name}, k = {pair.stored.k:,}" if pair.stored else ""
    return f"{pair.teacher.name}{beside}"


def summary(pair: PairFile, measured: Measured) -> str:
    """The page: the verdict, the table, and what else there is to say."""
    facts, shown = measured.facts, measured.table[measured.table["temperature"].isin(own_pair.SHOWN)]
    where = [f"File: {described(pair)}; {pair.student.name}. Over all rows."]
    if math.isfinite(facts.spread):
        where.append(f"The standard deviation of the logits is {facts.spread:.3g}.")
    where.append(f"Student and teacher predict the same class in {_percent(facts.agreement)}")
    where[-1] += "".join(f"; accuracy of the {name} {_percent(value)}" for name, value in facts.accuracy.items()) + "."
    page = HEAD.format(name=pair.path.name, verdict=verdict(pair, measured), where=" ".join(where))
    return page + _table(shown, list(_notes(pair, measured))).markdown() + "\n" + TAIL


def verdict(pair: PairFile, measured: Measured) -> str:
    """From which T on soft targets are logit matching; the teacher's calibration; what the k largest logits lose."""
    if math.isnan(measured.table["error"].iloc[0]):
        said = ["Logit matching at no T: classes to which the top-k teacher gives no mass have no logit."]
    else:
        parts = ", ".join(_from(level, at) for level, at in measured.facts.below.items())
        error = _percent(_at(measured, COMMON, "error"))
        said = [f"{parts[0].upper()}{parts[1:]}; at T = {number(COMMON)} the gradient's error is {error}."]
    if pair.labels is not None:
        said.append(_calibration(measured))
    if pair.stored is not None and pair.stored.k < pair.classes:
        at_1, common = (_percent(_at(measured, temperature, "topk_error")) for temperature in (1, COMMON))
        off = f"{at_1} off at T = 1 and {common} at T = {number(COMMON)}"
        said.append(f"From the {pair.stored.k:,} largest logits alone the gradient is {off}.")
    return " ".join(said)


def _calibration(measured: Measured) -> str:
    best, least, inside = least_nll(measured.table)
    if math.isinf(least):
        return "The teacher gives no mass to some labels: its NLL is infinite."
    at_1 = f"{least:.3g}, against {_at(measured, 1, 'teacher_nll'):.3g} at T = 1"
    outside = "" if inside else ", the end of the range"
    return f"The teacher's NLL is least at T = {_temperature(best)}{outside}: {at_1}."


def least_nll(table: pd.DataFrame) -> tuple[float, float, bool]:
    """The T at which the teacher's NLL is least, its value there, and whether it lies inside the range of T.

    The derivative in log T is the mean entropy less the NLL, so that both are known at every T: a cubic through them.
    """
    finite = table[np.isfinite(table["temperature"])]
    x, y = np.log(finite["temperature"].to_numpy()), finite["teacher_nll"].to_numpy()
    slopes = finite["teacher_entropy"].to_numpy() - y
    if not np.isfinite(y).all() or slopes[0] >= 0 or slopes[-1] <= 0:  # convex in 1/T: one minimum at most
        i = int(y.argmin())
        return float(np.exp(x[i])), float(y[i]), False
    curve = CubicHermiteSpline(x, y, slopes)
    at = min(curve.derivative().roots(extrapolate=False), key=curve)
    return math.exp(at), float(curve(at)), True


def _from(level: float, temperature: float) -> str:
    within = f"within {100 * level:g} %"
    first = "logit matching " if level == max(own_pair.LEVELS) else ""
    if math.isnan(temperature):
        return f"{'no ' if first else 'not '}{first}{within} up to T = {_temperature(own_pair.TEMPERATURES[-2])}"
    if temperature <= own_pair.TEMPERATURES[0]:
        return f"{first}{within} at every T from {number(temperature)}"
    return f"{first}{within} from T = {_temperature(temperature)}"


def _notes(pair: PairFile, measured: Measured) -> Iterator[str]:
    table, names = measured.table, own_pair.groups(pair.classes)
    for temperature in (COMMON, float(table["temperature"].iloc[-1])):
        shares = ", ".join(f"{name}: {_percent(_at(measured, temperature, f'share_{name}'))}" for name in names)
        if not math.isnan(_at(measured, temperature, f"share_{names[0]}")):
            yield f"The squared gradient at T = {number(temperature)}, by rank of the teacher's logit: {shares}"
    if "error_not_centred" in table:
        level = _percent(float(table["error_not_centred"].iloc[-1]))
        yield f"Without centring the logits, the error is still {level} at T = ∞"
    if isinstance(pair.teacher, TopK) and not pair.teacher.limited:
        left = measured.facts.not_given
        known = "is not known" if math.isnan(left) else f"is {_percent(left)} at T = 1"
        yield f"The teacher's mass on classes that are not given {known}; no class has it here"


def _table(shown: pd.DataFrame, notes: list[str]) -> Table:
    """A row a temperature; the columns that there are."""
    columns = {
        "error": ("error", _percent),
        "cosine": ("cosine", lambda value: fixed(value, 3)),
        "share_1": ("gradient in the teacher's top class", _percent),
        "not_given": ("mass not given", _percent),
        "topk_error": ("top-k: gradient's error", _percent),
        "topk_cosine": ("top-k: cosine", lambda value: fixed(value, 3)),
        "teacher_entropy": ("teacher entropy", lambda value: fixed(value, 3)),
        "student_entropy": ("student entropy", lambda value: fixed(value, 3)),
        **{
            f"{name}_{kind}": (f"{name} {kind.upper()}", (lambda value: fixed(value, 3)) if kind == "nll" else _percent)
            for kind in ("nll", "ece")
            for name in ("teacher", "student")
        },
    }
    known = {name: column for name, column in columns.items() if name in shown and not shown[name].isna().all()}
    rows = [
        [number(float(row["temperature"])), *(form(float(row[name])) for name, (_, form) in known.items())]
        for _, row in shown.iterrows()
    ]
    return Table(["T", *(words for words, _ in known.values())], rows, notes)


def _at(measured: Measured, temperature: float, name: str) -> float:
    table = measured.table
    return float(table.loc[table["temperature"] == temperature, name].iloc[0])


def _temperature(value: float) -> str:
    """To three digits."""
    return f"{float(f'{value:.3g}'):,g}"


def _percent(share: float) -> str:
    """Per cent, to two digits or more."""
    if math.isnan(share) or math.isinf(share):
        return number(share)
    value = 100 * share
    if 0 < value < 0.01:
        return "< 0.01 %"
    return f"{value:,.0f} %" if value >= 10 else f"{float(f'{value:.2g}'):g} %"
