"""From the rows of `results.csv` to a table: mean, interval, n, and the paired difference from hard labels."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import stats
from kdjax import run_directory
from kdjax.errors import require
from kdjax.files import write_whole

if TYPE_CHECKING:
    from kdjax.trained import Student

SETTING = ["width", "objective", "temperature", "soft_weight", "learning_rate"]
"""The columns that name a setting; runs of one setting differ in teacher and seed."""
RUN = ["teacher", "seed"]
NORMS = {"matched": "norm matched", "placebo": "placebo", "double_softmax": "double softmax"}
"""Further objectives, in words. Of `--match-gradient-norm`: T with the gradient norm of T_REF, and T_REF with that of
T; of `--double-softmax`: the known bug."""

CONTROLS = {
    "double_softmax": "double softmax",
    "shuffled": "logits of other images",
    "random": "an untrained teacher",
    "uniform": "all classes alike",
}
"""Controls among the targets (`kdjax.targets`), in words."""


class Summary(NamedTuple):
    """A table and what has to be said beside it."""

    rows: pd.DataFrame
    """One row a setting: SETTING, mean, low, high, n, failed, and difference, difference_low, difference_high,
    difference_n, p, p_holm, differs (nan, False where there is no hard baseline to pair with)."""
    notes: tuple[str, ...]
    """Sentences to print below the table."""


def check(results: pd.DataFrame, source: str = "results.csv") -> None:
    """Refuses a table that has no rows, lacks a column, or holds text where numbers belong."""
    columns = [*SETTING, *RUN, "test_errors", "failed_at"]
    missing = [column for column in columns if column not in results]
    require(
        not missing,
        f"{source} lacks the columns {', '.join(missing)}: it is no result of a temperature sweep, or damaged",
    )
    require(len(results), f"{source} holds no run yet: let the experiment finish a block")
    numbers = [column for column in columns if column not in ("teacher", "objective")]
    damaged = [column for column in numbers if not pd.api.types.is_numeric_dtype(results[column])]
    damaged += [
        column for column in ("width", "seed", "test_errors") if column not in damaged and results[column].isna().any()
    ]
    damaged += [] if results["objective"].isin(["hard", "soft", *NORMS]).all() else ["objective"]
    require(
        not damaged, f"{source} is damaged in the columns {', '.join(damaged)}: give the experiment's command again"
    )


def read(folder: Path) -> pd.DataFrame:
    """`results.csv` of a run directory, checked."""
    results: pd.DataFrame = run_directory.read_results(folder)
    check(results, str(folder / "results.csv"))
    return results.astype({"teacher": str})  # a fingerprint may be all digits


def settings(results: pd.DataFrame) -> list[tuple[pd.Series, pd.DataFrame]]:
    """Each setting with its runs, indexed by teacher and seed: by width, hard labels first, then by temperature."""
    ordered = results.sort_values(SETTING, na_position="first", kind="stable")
    groups = ordered.groupby(SETTING, sort=False, dropna=False)
    return [(runs.iloc[0][SETTING], runs.set_index(RUN)) for _, runs in groups]


def mean_over_runs(values: pd.Series) -> stats.Interval:
    """Mean and interval of one column of finished runs, indexed by teacher and seed.

    One teacher: over seeds (about this teacher, then). Several, each with the same seeds: `stats.crossed_interval`.
    Several with different seeds: over the teachers' means, or over runs where each has a teacher of its own.
    """
    return stats.crossed_interval(_grid(values))


def from_hard(runs: pd.DataFrame, hard: pd.DataFrame, column: str = "test_errors") -> stats.Difference | None:
    """A setting's paired difference from hard labels, over the teachers and seeds that both have; None without any."""
    left, right = finished(runs)[column], finished(hard)[column]
    shared = left.index.intersection(right.index)
    if shared.empty:
        return None
    a, b = _grid(left[shared]), _grid(right[shared])
    one_axis = min(a.shape) == 1  # with one teacher the seeds are independent, and signs may flip
    return stats.paired_difference(a.ravel(), b.ravel()) if one_axis else stats.paired_difference(a, b)


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose loss stayed finite."""
    return runs[runs["failed_at"] < 0]


def baseline(results: pd.DataFrame, setting: pd.Series) -> pd.DataFrame:
    """The hard-label runs of a setting's width and learning rate, indexed by teacher and seed; they may be none."""
    same = (results["width"] == setting["width"]) & (results["learning_rate"] == setting["learning_rate"])
    return results[same & (results["objective"] == "hard")].set_index(RUN)


def summarise(results: pd.DataFrame) -> Summary:
    """The table of a sweep. Failed runs are counted and left out of every mean."""
    check(results)
    rows = []
    for setting, runs in settings(results):
        good = finished(runs)
        row = {**setting, "n": 0, "failed": len(runs) - len(good)}
        if len(good):
            found = mean_over_runs(good["test_errors"])
            row |= {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
        hard = baseline(results, setting) if setting["objective"] == "soft" else runs.iloc[:0]
        paired = from_hard(runs, hard)
        if paired:
            row |= {"difference": paired.mean, "difference_low": paired.low, "difference_high": paired.high}
            row |= {"difference_n": paired.n, "p": paired.p}
        rows.append(row | {"differs": bool(paired and paired.differs)})
    frame = pd.DataFrame(rows).reindex(columns=_COLUMNS)
    frame["p_holm"] = frame.groupby("width")["p"].transform(lambda p: stats.holm(p.to_numpy()))
    return Summary(frame, _notes(results, frame))


def tuned(results: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The runs of the setting with the lowest mean hold-out errors in each group of equal `by` columns.

    A setting with a failed run is not chosen; of equal settings the first in the table's order is. Empty without a
    hold-out.
    """
    if "holdout_errors" not in results:
        return results.iloc[:0]
    bad = results["failed_at"].ge(0) | results["holdout_errors"].isna()
    whole = results[~bad.groupby([results[name] for name in SETTING], dropna=False).transform("any")]
    if whole.empty:
        return whole
    means = whole.groupby(SETTING, dropna=False)["holdout_errors"].transform("mean")
    ordered = whole.assign(_mean=means).sort_values(["_mean", *SETTING], kind="stable", na_position="first")
    best = ordered.drop_duplicates(list(by))[SETTING]
    return whole.merge(best, on=SETTING)  # pandas joins nan to nan


def write_summary(folder: Path) -> str:
    """Writes `summary.md` of a run directory; returns the same as text."""
    config = run_directory.read_json(folder / "config.json")
    summary = summarise(read(folder))
    data = config["identity"]["data"]
    teachers = [f"Teacher {one['name']}: {one['test']['errors']} test errors." for one in config["details"]["teachers"]]
    hint = config["details"].get("hint")
    reference = config["identity"].get("config", {}).get("match_gradient_norm")
    if reference is not None:
        summary = summary._replace(notes=(*summary.notes, *norm_notes(read(folder), float(reference))))
    summary = summary._replace(notes=(*teachers, *summary.notes, *[f"For the full set: {hint}"] * bool(hint)))
    title = ", ".join([f"Temperature sweep on {data['description']}", *what_is_other(config["identity"])])
    write_whole(folder / "summary.md", f"# {title}\n\n{to_markdown(summary)}")
    return f"{title}\n\n{to_text(summary)}"


def what_is_other(identity: dict[str, Any]) -> list[str]:
    """What a sweep does otherwise than most, in words that stand in every title: its targets, network, images."""
    config = identity.get("config", {})
    usual = {"targets": "teacher", "network": "mlp", "augment": "none", "jitter": 0, "transfer_images": None}
    found = {name: config.get(name, value) for name, value in usual.items()}
    words = {name: f"{name.replace('_', ' ')} {str(value).replace('_', ' ')}" for name, value in found.items()}
    words["targets"] = f"targets: {config.get('targets', '').replace('_', ' ')}"
    return [words[name] for name, value in found.items() if value != usual[name]]


def norm_notes(results: pd.DataFrame, reference: float) -> list[str]:
    """Better temperature, or larger step? For each T, paired differences of errors that tell one from the other.

    `matched − soft(T_REF)`: steps of equal size in the directions of T and T_REF, so temperature alone. `soft(T) −
    placebo(T)`: again equal steps, of T's size, in the two directions. Both need soft runs.
    """
    notes = []
    keys = ["width", "soft_weight", "learning_rate"]
    sound = finished(results)
    for where, runs in sound[sound["objective"] != "hard"].groupby(keys):
        kinds = {kind: rows for kind, rows in runs.groupby("objective")}
        for t in sorted(runs["temperature"].unique()):
            if t == reference or not {"soft", "matched", "placebo"} <= kinds.keys():
                continue
            at = {kind: rows[rows["temperature"] == t].set_index(RUN) for kind, rows in kinds.items()}
            own = kinds["soft"][kinds["soft"]["temperature"] == reference].set_index(RUN)
            pairs = {"steps of T_REF's size, against T_REF": (at["matched"], own)}
            pairs["steps of T's size, against the placebo"] = (at["soft"], at["placebo"])
            found = {name: from_hard(mine, other) for name, (mine, other) in pairs.items() if len(mine) and len(other)}
            said = "; ".join(f"{name}: {with_range(*d[:3], sign=True)}" for name, d in found.items() if d)
            notes += (
                [f"{number(where[0])} units, T = {number(t)}, T_REF = {number(reference)}: {said} errors."]
                if said
                else []
            )
    return notes


def to_text(summary: Summary) -> str:
    """The table in aligned columns, for a terminal."""
    header, cells = _cells(summary.rows)
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *cells]
    ]
    lines.insert(1, "-" * sum(widths, 2 * (len(widths) - 1)))
    return "\n".join([*lines, "", *summary.notes]) + "\n"


def to_markdown(summary: Summary) -> str:
    """The table in Markdown."""
    return markdown(*_cells(summary.rows), summary.notes) + "\n"


def markdown(header: Sequence[str], cells: Sequence[Sequence[str]], notes: Sequence[str], left: int = 0) -> str:
    """A table in Markdown, with notes below it; its first `left` columns are not numbers."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    lines = ["| " + " | ".join(row) + " |" for row in [header, rule, *cells]]
    return "\n".join([*lines, "", *(f"* {note}" for note in notes)])


def sweep_folder(folder: Path, run: str) -> Path:
    """The run directory of a sweep that the table in `folder` asked for."""
    return folder.parent.parent / "temperature_sweep" / run


def trained(folder: Path, row: pd.Series) -> "Student":
    """The student of a row of the sweeps (its column run) that the table in `folder` asked for."""
    from kdjax.trained import find  # late: it needs JAX

    (student,) = find(sweep_folder(folder, str(row["run"])), **row[[*SETTING, *RUN]])
    return student


def name_setting(setting: pd.Series, *also: str) -> str:
    """A setting in words: `T = 4` or `hard labels`, with the columns of `also` that vary."""
    name = "hard labels" if setting["objective"] == "hard" else f"T = {_temperature(setting)}"
    extra = [f"{_HEADER[column]} {number(setting[column])}" for column in also if not pd.isna(setting[column])]
    return ", ".join([name, *extra])


def number(value: float | int) -> str:
    """A number as it is printed: ∞ for infinity, a dash for nan."""
    if math.isnan(value):
        return "–"
    return ("−" if value < 0 else "") + ("∞" if math.isinf(value) else f"{abs(value):g}")


_COLUMNS = [*SETTING, "mean", "low", "high", "n", "failed"]
_COLUMNS += ["difference", "difference_low", "difference_high", "difference_n", "p", "p_holm", "differs"]
_HEADER = {"width": "units", "temperature": "T", "soft_weight": "soft weight", "learning_rate": "rate"}


def _temperature(setting: pd.Series) -> str:
    kind = NORMS.get(setting["objective"])
    return number(setting["temperature"]) + (f" ({kind})" if kind else "")


def _grid(values: pd.Series) -> np.ndarray:
    """`[teachers, seeds]`, or one column where teachers and seeds do not make a full grid."""
    table = values.astype(float).unstack("seed")
    whole = not table.isna().any(axis=None)
    return np.asarray(table if whole else table.mean(axis=1).to_frame(), np.float64)


def _varying(rows: pd.DataFrame) -> list[str]:
    soft = rows[rows["objective"] == "soft"]
    return [
        column
        for column in ("soft_weight", "learning_rate")
        if (rows if column == "learning_rate" else soft)[column].nunique() > 1
    ]


def _cells(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and cells; a column in which nothing varies or happens is left out."""
    varying, failed, paired = _varying(rows), bool(rows["failed"].any()), bool(rows["difference"].notna().any())
    header = ["units", "T", *(_HEADER[column] for column in varying), "test errors", "95 % interval", "n"]
    header += ["failed"] * failed + ["from hard labels", "95 % interval", "n", "p (Holm)", ""] * paired
    cells = []
    for _, row in rows.iterrows():
        hard = row["objective"] == "hard"
        cell = [number(row["width"]), "hard labels" if hard else _temperature(row)]
        cell += ["–" if hard and column == "soft_weight" else number(row[column]) for column in varying]
        cell += [fixed(row["mean"]) if row["n"] else "failed", in_brackets(row["low"], row["high"]), str(row["n"])]
        cell += [str(row["failed"])] * failed
        if paired and pd.isna(row["difference"]):
            cell += [""] * 5
        elif paired:
            difference = (
                fixed(row["difference"], sign=True),
                in_brackets(row["difference_low"], row["difference_high"], sign=True),
            )
            cell += [*difference, str(int(row["difference_n"])), p_value(row["p_holm"])]
            cell += [("fewer" if row["difference"] < 0 else "more") if row["differs"] else ""]
        cells.append(cell)
    return header, cells


def _notes(results: pd.DataFrame, rows: pd.DataFrame) -> tuple[str, ...]:
    teachers, seeds = results["teacher"].nunique(), results["seed"].nunique()
    over = f"{count_of(seeds, 'seed')}, {count_of(teachers, 'teacher')}"
    if seeds * teachers == 1:
        notes = [f"{over}: nothing is known about spread, and no difference is called one."]
    elif teachers == 1:
        notes = [f"{over}: t intervals over seeds, about this teacher; another teacher is another draw."]
    else:
        notes = [f"{over}: t intervals over teachers and seeds."]
    if rows["difference"].notna().any() and seeds * teachers > 1:
        notes.append(
            "From hard labels: paired by seed and teacher; called fewer or more where that row's own interval excludes "
            "zero. p is adjusted over the rows of a width (Holm), and can disagree."
        )
    if rows["failed"].any():
        notes.append("Failed runs (the loss stopped being finite) are left out of every mean.")
    return (*notes, *_best_notes(results), *_holdout_notes(results, rows))


def _best_notes(results: pd.DataFrame) -> list[str]:
    """Of each width, soft weight and rate: the temperatures that are not excluded as best on the test set."""
    notes = []
    soft = results[results["objective"] == "soft"]
    varying = [name for name in _varying(results) if name in soft]
    for keys, runs in soft.groupby(["width", "soft_weight", "learning_rate"]):
        errors = runs.assign(test_errors=runs["test_errors"].where(runs["failed_at"] < 0))
        table = errors.pivot_table(index=RUN, columns="temperature", values="test_errors", dropna=False)
        table = table.dropna(axis="columns")
        teachers, seeds = runs["teacher"].nunique(), runs["seed"].nunique()
        if table.shape[1] < 2 or len(table) != teachers * seeds or len(table) < 2:
            continue
        grid = table.sort_index().to_numpy(float).reshape(teachers, seeds, -1)
        crossed = min(teachers, seeds) > 1
        may = stats.candidates_for_best(grid if crossed else grid.reshape(len(table), -1))
        names = dict(zip(("width", "soft_weight", "learning_rate"), keys, strict=True))
        where = ", ".join([f"{number(keys[0])} units", *(f"{_HEADER[name]} {number(names[name])}" for name in varying)])
        best = ", ".join(number(t) for t, possible in zip(table.columns, may, strict=True) if possible)
        note = f"{where}: not excluded as best (95 %, paired, on the test set): T = {best}"
        notes.append(note + ("." if may.sum() == 1 else ", so no winner."))
    return notes


def _holdout_notes(results: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """What the hold-out would choose at each width, and what that choice scores on the test set."""
    notes = []
    varying = _varying(rows)
    for width, chosen in tuned(results[results["objective"] == "soft"], by=["width"]).groupby("width"):
        setting, runs = settings(chosen)[0]
        test = rows[(rows["width"] == width) & (rows["objective"] == "soft")]
        mine = _row(test, setting)
        best = test.loc[test["mean"].idxmin()]
        note = f"{number(width)} units: the hold-out chooses {name_setting(setting, *varying)} "
        note += f"({fixed(runs['holdout_errors'].mean())} hold-out errors), which scores "
        note += f"{with_range(mine['mean'], mine['low'], mine['high'])} on the test set"
        hard = tuned(results[(results["objective"] == "hard") & (results["width"] == width)], by=["width"])
        paired = from_hard(runs, hard.set_index(RUN)) if len(hard) else None
        if paired:
            note += f", {with_range(*paired[:3], sign=True)} from hard labels"
        if best["mean"] < mine["mean"]:
            note += f"; fewest on the test set itself: {name_setting(best, *varying)}, {fixed(best['mean'])}"
        notes.append(note + ".")
    return notes


def _row(rows: pd.DataFrame, setting: pd.Series) -> pd.Series:
    same = np.logical_and.reduce(
        [(rows[name] == setting[name]) | (rows[name].isna() & pd.isna(setting[name])) for name in SETTING]
    )
    return rows[same].iloc[0]


def count_of(number_of: int, noun: str) -> str:
    """So many of a noun: `1 seed`, `3 seeds`."""
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"


def fixed(value: float, sign: bool = False) -> str:
    """One decimal; a true minus sign."""
    text = f"{value:+.1f}" if sign else f"{value:.1f}"
    return "–" if math.isnan(value) else text.replace("-", "−")


def with_range(mean: float, low: float, high: float, sign: bool = False) -> str:
    """A mean and its interval, one decimal."""
    return f"{fixed(mean, sign)} {in_brackets(low, high, sign)}".rstrip()


def in_brackets(low: float, high: float, sign: bool = False) -> str:
    """An interval; nothing where there is none."""
    return "" if math.isnan(low) else f"[{fixed(low, sign)}, {fixed(high, sign)}]"


def estimate(found: stats.Interval | stats.Difference, digits: int, sign: bool = False) -> str:
    """A mean and its interval, to `digits` decimals; true minus signs."""

    def show(value: float) -> str:
        value = round(value, digits) + 0.0  # no minus before zero
        return (f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}").replace("-", "−")

    return show(found.mean) + ("" if math.isnan(found.low) else f" [{show(found.low)}, {show(found.high)}]")


def p_value(value: float) -> str:
    """A p as it is printed."""
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
