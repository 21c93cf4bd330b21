"""The tables of an omission run: errors, those on the omitted digits, per cent of them right, for each correction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis import runs, stats
from analysis.omission.claims import in_words, verdict
from analysis.omission.rows import COMPARISONS, CORRECTIONS, STUDENTS, OmissionRow, compare, percent, summarise
from analysis.omission.run import described, first_temperature, name_task, read
from analysis.tables import Table, columns_of, estimate, number
from kdjax import run_directory
from kdjax.files import write_csv, write_whole

PAPER = {
    ("3", "none"): "206, 133 of them on 3s",
    ("3", "oracle"): "109, 14 of them on 3s (b = +3.5)",
    ("0 1 2 3 4 5 6 9", "none"): "47.3 %",
    ("0 1 2 3 4 5 6 9", "oracle"): "13.2 % (b = +7.6)",
}
"""Hinton et al. 2015, Section 3, full MNIST: (omitted, correction) → test errors of the distilled student."""


class Section(NamedTuple):
    """A table of the summary under its heading."""

    heading: str
    table: Table


def _lost(results: pd.DataFrame, data: dict[str, Any]) -> list[str]:
    """Students of whom no run finished, in words; without pairs, which have no row of their own."""
    first = results[results["student"].isin(STUDENTS)].groupby(["omitted", "student"], sort=False)["failed_at"].min()
    lost = first[first >= 0].index
    return [STUDENTS[student].format(shown=name_task(omitted, data)) for omitted, student in lost]


def write_summary(folder: Path) -> str:
    """Writes `summary.md` and `table.csv` of a run directory; returns the former."""
    config = runs.read_config(folder, "omit_digit")
    data, details, results = described(config["identity"]), config["details"], read(folder)
    rows = summarise(results)
    test = runs.load_arrays(folder / "test.npz", "teacher_logits", "labels")
    teacher_errors = int((test["teacher_logits"].argmax(axis=1) != test["labels"]).sum())
    notes = [
        f"Teacher {details.get('teacher')}: {teacher_errors} test errors, trained on all classes, not on the "
        f"pool of {data['holdout']:,} images.",
        _over(results),
        "The bias is added to the logits of the omitted classes; to lower those of the others by it is the same.",
    ]
    notes += [
        f"{one}: every run failed (loss not finite), so no row says anything of them." for one in _lost(results, data)
    ]
    if "targets" in data:
        notes.append(
            f"Soft targets of every student: {data['targets']}. What the pool's images are called, and the share of "
            "the omitted that label-free takes from them, stay the teacher's."
        )
    if details.get("hint"):
        notes.append(f"For the full set: {details['hint']}")
    title = ", ".join(filter(None, ["Classes never seen, on " + data["description"], run_directory.progress(folder)]))
    said = verdict(results, rows, data, first_temperature(config["identity"]))
    sections = _sections(results, rows, data)
    markdown = "\n\n".join(f"## {heading}\n\n{table.markdown()}" for heading, table in sections)
    listed = "\n".join(f"* {note}" for note in notes)
    cautions = stats.cautions(
        results["seed"].nunique(), [row.errors for row in rows], data["test_images"]
    ) + stats.cautions(0, [row.omitted_errors for row in rows])
    text = "\n\n".join([f"# {title}", f"**{said}**", *(f"Warning: {one}" for one in cautions), markdown, listed]) + "\n"
    write_whole(folder / "summary.md", text)
    write_csv(folder / "table.csv", _frame(results, rows), digits=6)
    return text


def _frame(results: pd.DataFrame, rows: Sequence[OmissionRow]) -> pd.DataFrame:
    """For `table.csv`: a line a row, then a line a comparison, which says against what."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        line = {"omitted": row.omitted, "temperature": row.temperature, "student": row.student}
        line |= {"correction": row.correction, "failed": row.failed, "n": row.errors.n}
        measures = {"bias": row.bias, "test_errors": row.errors, "omitted_errors": row.omitted_errors}
        for name, interval in {**measures, "omitted_right_percent": row.right}.items():
            line |= columns_of(name, interval)
        lines.append(line)
    for omitted, temperature in dict.fromkeys((row.omitted, row.temperature) for row in rows):
        for name, less in compare(results, omitted, temperature).items():
            (student, correction), against = COMPARISONS[name]
            line = {"omitted": omitted, "temperature": temperature, "student": student, "correction": correction}
            line |= {"n": less.n, "against": ", ".join(against), **columns_of("difference", less), "p": less.p}
            lines.append(line)
    return pd.DataFrame(lines)


def _sections(results: pd.DataFrame, rows: list[OmissionRow], data: dict[str, Any]) -> list[Section]:
    tasks = list(dict.fromkeys(row.omitted for row in rows))
    sections = []
    for temperature in sorted({row.temperature for row in rows}):
        at_t = [row for row in rows if row.temperature == temperature]
        t = f"T = {number(temperature)}"
        if len(tasks) > 1:
            sections.append(Section(f"Each class omitted in turn, {t}", _each(at_t, tasks, data)))
            continue
        shown = name_task(tasks[0], data)
        table = _students(at_t, shown, data["name"] == "mnist" and "targets" not in data)
        compared = compare(results, tasks[0], temperature)
        words = in_words(compared)
        notes = [
            f"{name}: {estimate(less, sign=True)} errors, paired, n = {less.n} ({words[name]})"
            for name, less in compared.items()
        ]
        sections.append(Section(f"Students {shown}, {t}", table._replace(notes=notes)))
    return sections


def _students(rows: list[OmissionRow], shown: str, with_paper: bool) -> Table:
    header = ["student", "correction", "bias", "test errors", "error rate, %", "errors on omitted classes"]
    header += ["accuracy on omitted classes, %", "n"]
    failed = any(row.failed for row in rows)
    with_paper &= any((row.omitted, row.correction) in PAPER for row in rows)
    header += ["failed"] * failed + ["paper"] * with_paper
    cells = []
    for row in rows:
        whole = row.student in ("all_digits", "with_pool")
        cell = [STUDENTS[row.student].format(shown=shown), "–" if whole else CORRECTIONS[row.correction]]
        cell += ["–" if whole or row.correction == "none" else estimate(row.bias, sign=True)]
        cell += [estimate(row.errors), f"{100 * row.errors.mean / row.images:.2f}", estimate(row.omitted_errors)]
        cell += [estimate(percent(row.right)), str(row.errors.n), *[str(row.failed)] * failed]
        paper = PAPER.get((row.omitted, row.correction), "") if row.student == "distilled" else ""
        cells.append(cell + [paper] * with_paper)
    return Table(header, cells, left=2)


def _each(rows: list[OmissionRow], tasks: Sequence[str], data: dict[str, Any]) -> Table:
    """One line per class: mean test errors and accuracy on the omitted class, before and after correction."""
    by_key = {(row.omitted, row.student, row.correction): row for row in rows}
    students = {"all_digits": "all classes", "distilled": "distilled", "control": "control"}
    columns = [
        (student, correction)
        for student in students
        for correction in CORRECTIONS
        if any((task, student, correction) in by_key for task in tasks)
        and (student != "control" or correction in ("none", "oracle"))
    ]
    header = ["students"]
    for student, correction in columns:
        how = "before correction" if correction == "none" else CORRECTIONS[correction]
        header.append(students[student] + f", {how}" * (student != "all_digits"))
    cells = []
    for task in tasks:
        of_task = [by_key.get((task, *column)) for column in columns]
        means = [f"{row.errors.mean:.1f} ({row.right.mean:.1f})" if row else "" for row in of_task]
        cells.append([name_task(task, data), *means])
    return Table(header, cells, ["Cells: test errors (accuracy on the omitted class, %)."], left=1)


def _over(results: pd.DataFrame) -> str:
    seeds = results["seed"].nunique()
    if seeds == 1:
        return "1 seed: nothing is known about spread, and no difference is called one."
    what = "means over seeds, whose intervals are in table.csv," if results["omitted"].nunique() > 1 else ""
    what = what or "mean and 95 % t interval over seeds,"
    return f"{seeds} seeds: {what} about this teacher; another teacher is another draw."
