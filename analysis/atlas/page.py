"""The atlas as a page of Markdown: `objectives.md`."""

import textwrap
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.atlas.identities import HOLDS, Identity
from analysis.atlas.measurements import KINDS, NEAR, same_at_every_temperature
from analysis.atlas.table import HIGH, LOW, MIDDLE, SHOWN, Atlas, of_student, threshold
from analysis.matching.theory import spread as spread_of
from analysis.tables import Table, fixed, number, with_bounds

HEAD = """# What each objective is, from T = 1 to infinity

{verdict}

{where}
z are the student's logits, v the teacher's, zc and vc the same minus their mean over the N classes; g is the gradient
in z. An error is relative: the root mean square over examples and classes of the difference from the
gradient of the objective's own limit as T → ∞, over that of the limit. Shares and parts are of Σg² over all examples.
{spread}
"""


def markdown(atlas: Atlas, table: pd.DataFrame, identities: Sequence[Identity]) -> str:
    """The page; `table` as `table.frame` gives it."""
    seeds = atlas.summary[atlas.summary["student"] == atlas.pairs.followed]["seed"].nunique()
    spread = f"Means over {seeds} seeds; [low, high] is a 95 % t interval over them." if seeds > 1 else ""
    followed = [pair for pair in atlas.pairs.pairs if pair.name == atlas.pairs.followed]
    size = np.mean([spread_of(pair.student, pair.teacher) for pair in followed])
    where = f"{atlas.pairs.where}; standard deviation of the logits s = {size:.3g}. In float64."
    verdict_, where = (textwrap.fill(text, 120) for text in (verdict(atlas), where))
    head = HEAD.format(verdict=verdict_, where=where, spread=spread)
    sections = {
        "How near to the limit": _limits(table),
        "What changes: scale or direction": _parts(table),
        "Which classes get the gradient": _classes(table),
        "By the temperature of the student's training": _students(atlas, table),
        "Identities": _identities(identities),
    }
    parts = [head, *(f"## {title}\n\n{part.markdown()}\n" for title, part in sections.items() if part.rows)]
    return "\n".join(parts)


def verdict(atlas: Atlas) -> str:
    """How many are near their limit at `MIDDLE`, from every seed, and which have none."""
    rows = of_student(atlas.curves, atlas.pairs.followed)
    most = rows[np.isclose(rows["temperature"], MIDDLE)].groupby("objective", sort=False)["error"].max()
    same = same_at_every_temperature(rows)
    moving, constant = (
        [name for name in most[most < NEAR].index if (name in same) == alike] for alike in (False, True)
    )
    said = f"At T = {MIDDLE:g}, {len(moving) + len(constant)} of {len(most)} objectives are within "
    lists = {"": moving, "at every T alike: ": constant}
    listed = "; ".join(how + ", ".join(names) for how, names in lists.items() if names) or "none"
    said += f"{100 * NEAR:g} % of their limit, in the gradient: {listed}"
    for name, reason in atlas.reasons.items():
        said += f". {name} has no limit: {reason}"
    return f"{said}."


def _limits(table: pd.DataFrame) -> Table:
    shown = [temperature for temperature in SHOWN if temperature < HIGH]
    header = ["objective", "as T → ∞", "within 10 % from T =", "slope of the error"]
    header += [f"error, T = {number(t)}" for t in shown] + [f"loss / limit, T = {number(t)}" for t in shown]
    rows = []
    for _, row in table.iterrows():
        errors = [_percent(row[f"error_{t:g}"]) for t in shown]
        losses = [fixed(row[f"loss_{t:g}"], 2) for t in shown]
        slope = fixed(row["slope"], 2)
        rows.append([row["objective"], row["becomes"], near(row), slope, *errors, *losses])
    used = [f"{kind}: {meaning}" for kind, meaning in KINDS.items() if meaning and kind in set(table["becomes"])]
    return Table(header, rows, used, left=2)


def near(row: pd.Series) -> str:
    """From which T on an objective is near its limit."""
    if not row["depends_on_temperature"]:
        return "every T"
    return temperature_of(row["threshold"], row["threshold_low"], row["threshold_high"])


def temperature_of(mean: float, low: float, high: float) -> str:
    """A temperature with its interval, if there is one."""
    return with_bounds(mean, low, high, 0 if mean >= 10 else 1)


def _parts(table: pd.DataFrame) -> Table:
    def parts(row: pd.Series, temperature: float) -> str:
        shares = [row[f"{part}_{temperature:g}"] for part in ("scale", "direction")]
        return " / ".join(_percent(share, "") for share in shares) if np.isfinite(shares).all() else "–"

    header = ["objective", *[f"scale / direction, %, T = {number(t)}" for t in SHOWN]]
    header += [f"cosine with logit matching, T = {number(t)}" for t in SHOWN]
    note = "scale: the part of g along zc; direction: across it; what is missing from 100 moves the mean logit"
    rows = _rows(table, (parts, lambda row, t: fixed(row[f"matching_{t:g}"], 2)), SHOWN)
    return Table(header, rows, [note], left=1)


def _classes(table: pd.DataFrame) -> Table:
    shown = (LOW, MIDDLE, HIGH)
    header = ["objective", *[f"first class, T = {number(t)}" for t in shown]]
    header += [f"lower half, T = {number(t)}" for t in shown]
    notes = ["first class: share of the class with the largest teacher logit; lower half: of those with the smallest"]
    rows = _rows(table, [_share("first"), _share("lower")], shown)
    return Table(header, rows, notes, left=1)


def _share(name: str) -> Callable[[pd.Series, float], str]:
    return lambda row, temperature: _percent(row[f"{name}_{temperature:g}"])


def _rows(
    table: pd.DataFrame, cells: Iterable[Callable[[pd.Series, float], str]], temperatures: Sequence[float]
) -> list[list[str]]:
    cells = list(cells)
    return [
        [row["objective"], *(cell(row, temperature) for cell in cells for temperature in temperatures)]
        for _, row in table.iterrows()
    ]


def _students(atlas: Atlas, table: pd.DataFrame) -> Table:
    """The T from which each objective is near its limit, by student; nothing where there is one kind of student."""
    students = list(dict.fromkeys(atlas.summary["student"]))
    if len(students) == 1:
        return Table([], [])
    header = ["within 10 % from T =", *[f"student of {student}" for student in students]]
    moving = table[table["depends_on_temperature"] & table["threshold"].notna()]
    rows = [
        [name, *(temperature_of(*threshold(atlas, student, name)[:3]) for student in students)]
        for name in moving["objective"]
    ]
    return Table(header, rows, left=1)


def _identities(identities: Sequence[Identity]) -> Table:
    header = ["identity", "at", "holds", "value off by", "gradient off by"]
    rows = [
        [one.words, one.where, "yes" if one.holds else "**no**", f"{one.value:.0e}", f"{one.gradient:.0e}"]
        for one in identities
    ]
    note = f"off by: the root mean square of the difference over that of the right side; it holds below {HOLDS:.0e}"
    about_norm = "logit_standardization adds 1e-7 to σ, as its authors do, and norm_kd does not"
    return Table(header, rows, [note, about_norm], left=3)


def _percent(share: float, unit: str = " %") -> str:
    return "–" if np.isnan(share) else f"{100 * share:.0f}{unit}"
