"""The table of a temperature sweep: each setting's mean, interval and n, and its paired difference from hard labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import measures, runs, stats, wording
from analysis.runs import NONE, RUN
from analysis.sweep import against_kd, calls, given_teacher, verdict
from analysis.sweep.calls import Call
from analysis.tables import Table, bounds, columns_of, count_of, estimate, number, p_value
from analysis.wording import NAMES
from kdjax import run_directory
from kdjax.files import write_csv, write_whole
from kdjax.objectives import is_baseline, is_compared, parse, words_of


class SweepRow(NamedTuple):
    """One setting. Failed runs are counted and left out of every mean."""

    setting: pd.Series
    failed: int
    measures: dict[str, stats.Interval]
    """By column, such as `test_errors`; empty where all runs failed."""
    differences: dict[str, stats.Difference]
    """Of the same, from hard labels; empty where there is no hard baseline to pair with."""
    p_holm: dict[str, float]
    """p of the differences, adjusted over all rows of objectives, or all of baselines (Holm); that of test errors as
    the verdict adjusts it, where it tests the same runs (`calls.by_setting`)."""
    over_images: stats.Difference | None = None
    """The difference of test errors with its interval over images; None where no logits are stored."""
    claimed: bool = False
    """Whether the difference of test errors may be called one, among the same rows (`stats.claimed`), or as the verdict
    says, where it tests the same runs."""


class Summary(NamedTuple):
    """The rows of a sweep's table, and the notes below it."""

    rows: list[SweepRow]
    notes: tuple[str, ...]

    def table(self) -> Table:
        """As it is printed: a column in which nothing varies or happens is left out."""
        first, *columns = measures.columns("sweep")
        main, *others = (measures.of_column("sweep", column) for column in (first, *columns))
        varying = _varying(pd.DataFrame([row.setting for row in self.rows]))
        failed, paired = any(row.failed for row in self.rows), any(row.differences for row in self.rows)
        images = any(row.over_images for row in self.rows)
        header = ["units", "T", *(NAMES[name] for name in varying), main.heading, "n", *["failed"] * failed]
        compared = ["from hard labels", "told apart", "p (Holm)", "pairs", *["difference, 95 % over images"] * images]
        header += compared * paired
        header += [measure.heading for measure in others]
        header += [f"{measure.heading}, from hard labels" for measure in others] * paired
        cells = []
        for row in self.rows:
            hard = row.setting["objective"] == "hard"
            cell = [str(row.setting["width"]), "hard labels" if hard else _temperature(row.setting)]
            cell += ["–" if hard and name == "soft_weight" else number(row.setting[name]) for name in varying]
            mean = row.measures.get(first)
            cell += [estimate(mean, main.decimals) if mean else "failed", str(mean.n if mean else 0)]
            cell += [str(row.failed)] * failed
            difference = row.differences.get(first)
            numbers = [""] * 4
            if difference:
                word = ("fewer" if difference.mean < 0 else "more") if row.claimed else ""
                numbers = [estimate(difference, main.decimals, sign=True), word, p_value(row.p_holm[first])]
                numbers.append(str(difference.n))
            other = bounds(row.over_images, main.decimals, sign=True) if row.over_images else ""
            cell += [*numbers, *[other] * images] * paired + _estimates(row.measures, columns)
            cells.append(cell + _estimates(row.differences, columns, sign=True) * paired)
        return Table(header, cells, self.notes)

    def frame(self) -> pd.DataFrame:
        """For `table.csv`: the setting, then of each measure mean, interval, n, and the difference from hard labels."""
        lines = []
        for row in self.rows:
            line = {**row.setting, "failed": row.failed}
            for column in measures.columns("sweep"):
                if mean := row.measures.get(column):
                    line |= {**columns_of(column, mean), f"{column}_n": mean.n}
                if difference := row.differences.get(column):
                    line |= {**columns_of(f"{column}_difference", difference), f"{column}_difference_n": difference.n}
                    line |= {f"{column}_p": difference.p, f"{column}_p_holm": row.p_holm[column]}
            if over := row.over_images:
                line |= {"test_errors_difference_images_low": over.low, "test_errors_difference_images_high": over.high}
            lines.append(line)
        return pd.DataFrame(lines)


def summarise(results: pd.DataFrame, folder: Path | None = None) -> Summary:
    """The table of a sweep's runs; with its run directory, intervals over images too."""
    runs.check(results)
    columns, rows = measures.columns("sweep"), list[SweepRow]()
    wrong = runs.wrong_answers(folder) if folder else {}
    table = measures.add("sweep", results)
    for setting, of_setting in runs.by_setting(table):
        finished = runs.finished(of_setting)
        means = {column: runs.mean(finished[column]) for column in columns if len(finished)}
        paired = is_compared(setting["objective"]) or is_baseline(setting["objective"])
        hard = runs.hard_baseline(table, setting) if paired else of_setting.iloc[:0]
        differences = {column: runs.difference(of_setting, hard, column) for column in columns}
        known = {column: difference for column, difference in differences.items() if difference}
        over = runs.over_images(wrong, of_setting, hard)
        rows.append(SweepRow(setting, len(of_setting) - len(finished), means, known, {}, over))
    said = calls.by_setting(results)
    rows = _as_the_verdict_says(_considered_together(rows), said)
    return Summary(rows, tuple(_notes(results, rows, bool(said))))


def write_summary(folder: Path) -> str:
    """Writes `summary.md` and `table.csv` of a run directory; returns the former."""
    config, results = runs.read_config(folder, *runs.OF_SWEEPS), runs.read(folder)
    summary, details, identity = summarise(results, folder), config["details"], config["identity"]
    of_teacher = given_teacher.sentences(details["teachers"], identity["data"].get("test_images", 0))
    listed = [] if of_teacher else details["teachers"]
    teachers = [f"Teacher {one['name']}: {one['test']['errors']} test errors." for one in listed]
    hint, notes = details.get("hint"), [*teachers, *summary.notes, *norm_notes(results)]
    said = verdict.of_run(folder, results, config)
    summary = summary._replace(notes=(*notes, *said.details, *[f"For the full set: {hint}"] * bool(hint)))
    what = f"Temperature sweep on {identity['data']['description']}"
    parts = [what, *wording.unusual_options(identity), run_directory.progress(folder)]
    title = ", ".join(filter(None, parts))
    beside, section = against_kd.compare(results), ""
    if beside.rows:
        section = f"\n## Objectives beside soft targets\n\n{beside.table().markdown()}\n"
        write_csv(folder / "from_kd.csv", beside.frame(), digits=6)
    section += given_teacher.section(details["teachers"])
    head = "\n\n".join(filter(None, [f"# {title}", said.markdown(), of_teacher]))
    text = f"{head}\n\n{summary.table().markdown()}\n{section}"
    write_whole(folder / "summary.md", text)
    write_csv(folder / "table.csv", summary.frame(), digits=6)
    return text


def norm_notes(results: pd.DataFrame) -> list[str]:
    """Better temperature, or larger step? For each T, paired differences of errors that tell one from the other.

    `matched − kd(reference)`: logit gradients of equal norm in the directions of T and the reference. `kd(T) −
    placebo(T)`: again of equal norm, that of T, in the two directions. All three are needed, at one width,
    soft weight and rate; the first also needs the reference among the temperatures of kd.
    """
    notes = []
    sound = runs.finished(results)
    controls = sound["objective"].str.match(r"(matched|placebo)\(")
    varying = _varying(results)
    for reference in sorted({parse(name).hyperparameters["reference"] for name in sound.loc[controls, "objective"]}):
        names = ["kd", f"matched(reference={reference:.9g})", f"placebo(reference={reference:.9g})"]
        for (width, weight, rate), of_group in sound.groupby(["width", "soft_weight", "learning_rate"]):
            kinds = {name: of_group[of_group["objective"] == name] for name in names}
            if any(rows.empty for rows in kinds.values()):
                continue
            kd, matched, placebo = kinds.values()
            own = kd[kd["temperature"] == reference].set_index(RUN)
            for t in sorted(set(kd["temperature"]) - {reference}):
                at = [rows[rows["temperature"] == t].set_index(RUN) for rows in (kd, matched, placebo)]
                differences = {
                    "gradient norm of the reference, against the reference": runs.difference(at[1], own),
                    "gradient norm of T, against the placebo": runs.difference(at[0], at[2]),
                }
                numbers = "; ".join(f"{name}: {estimate(d, sign=True)}" for name, d in differences.items() if d)
                setting = {"width": width, "temperature": t, "soft_weight": weight, "learning_rate": rate}
                where = [*wording.in_words(setting, ["width", "temperature"]), f"reference T = {number(reference)}"]
                where += wording.in_words(setting, varying)
                notes += [f"{', '.join(where)}: {numbers} errors."] * bool(numbers)
    return notes


def _temperature(setting: pd.Series) -> str:
    kind = "" if setting["objective"] == "kd" else words_of(setting["objective"])
    return number(setting["temperature"]) + (f" ({kind})" if kind else "")


def _varying(rows: pd.DataFrame) -> list[str]:
    """Which of soft weight and learning rate take several values."""
    soft = rows[rows["objective"] != "hard"]
    varying = {"soft_weight": soft["soft_weight"].nunique(), "learning_rate": rows["learning_rate"].nunique()}
    return [name for name, count in varying.items() if count > 1]


def _estimates(
    values: Mapping[str, stats.Interval | stats.Difference], columns: Sequence[str], sign: bool = False
) -> list[str]:
    decimals = {column: measures.of_column("sweep", column).decimals for column in columns}
    return [estimate(values[name], decimals[name], sign) if name in values else "" for name in columns]


def _considered_together(rows: list[SweepRow]) -> list[SweepRow]:
    """The rows with what may be said of their differences: those of objectives at once, and those of baselines."""
    first, *_ = measures.columns("sweep")
    for kind in (is_compared, is_baseline):
        for column in measures.columns("sweep"):
            places = [i for i, row in enumerate(rows) if kind(row.setting["objective"]) and column in row.differences]
            differences = [rows[i].differences[column] for i in places]
            p = stats.holm(np.array([one.p for one in differences], float))
            for i, adjusted, claimed in zip(places, p, stats.claimed(differences), strict=True):
                rows[i] = rows[i]._replace(p_holm={**rows[i].p_holm, column: float(adjusted)})
                rows[i] = rows[i]._replace(claimed=claimed) if column == first else rows[i]
    return rows


def _as_the_verdict_says(rows: list[SweepRow], said: Mapping[tuple[Any, ...], Call]) -> list[SweepRow]:
    """The rows with the verdict's claims, which it corrects for its comparisons with baselines too."""
    first, *_ = measures.columns("sweep")
    for i, row in enumerate(rows):
        call = said.get(tuple(row.setting.fillna({"temperature": NONE})))
        if call and first in row.differences:
            rows[i] = row._replace(p_holm={**row.p_holm, first: call.p}, claimed=call.claimed)
    return rows


def _notes(results: pd.DataFrame, rows: Sequence[SweepRow], as_verdict: bool) -> list[str]:
    seeds = results["seed"].nunique()
    over = f"{count_of(seeds, 'seed')}, {wording.teachers_in_words(results)}"
    if seeds == 1:
        notes = [f"{over}: nothing is known about spread, and no difference is called one."]
    else:
        notes = [f"{over}: 95 % t intervals over seeds, about this teacher; another teacher is another draw."]
    if any(row.differences for row in rows) and seeds > 1:
        baselines = as_verdict and any(is_baseline(row.setting["objective"]) for row in rows)
        too = ", and over their comparisons with baselines" * baselines
        notes.append(
            f"From hard labels: paired by seed; p is adjusted over all rows (Holm){too}, those of baselines apart. "
            "Fewer, more: p is 0.05 at most, or the intervals of all of them lie on one side of zero."
        )
    if any(row.over_images for row in rows):
        notes.append(
            "Intervals over seeds are about these test images; over images: these networks on other images like them."
        )
    if any(row.failed for row in rows):
        notes.append("Failed runs (the loss stopped being finite) are left out of every mean.")
    return notes
