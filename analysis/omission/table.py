"""The tables of an omission run: errors, those on the omitted digits, per cent of them right, for each correction."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import stats, tables
from kdjax import run_directory
from kdjax.errors import require
from kdjax.files import write_whole

STUDENTS = {
    "distilled": "distilled {shown}",
    "all_digits": "distilled on all classes",
    "with_pool": "distilled {shown}, and on the pool",
    "control": "hard labels {shown}",
    "permuted": "wrong logits permuted",
    "mean_logit": "omitted logit: its mean",
}
"""In the order of the table; the pairs have no row of their own, only the correction seen_only."""
CORRECTIONS = {"none": "none", "oracle": "oracle", "validation": "validation", "label_free": "label-free",
               "seen_only": "seen only"}  # fmt: skip
PAPER = {
    ("3", "none"): "206, 133 of them on 3s",
    ("3", "oracle"): "109, 14 of them on 3s (b = +3.5)",
    ("0 1 2 3 4 5 6 9", "none"): "47.3 %",
    ("0 1 2 3 4 5 6 9", "oracle"): "13.2 % (b = +7.6)",
}
"""Hinton et al. 2015, Section 3, full MNIST: (omitted, correction) → test errors of the distilled student."""
KEY = ["omitted", "temperature", "student", "correction"]


class Row(NamedTuple):
    """One student under one correction: intervals over seeds."""

    omitted: str
    temperature: float
    student: str
    correction: str
    bias: stats.Interval
    errors: stats.Interval
    omitted_errors: stats.Interval
    right: stats.Interval
    """Per cent of the omitted classes' test images."""
    images: int
    """Test images."""
    failed: int


def read(folder: Path) -> pd.DataFrame:
    """`results.csv` of an omission run, checked; `omitted` is text, and a hard run's temperature nan."""
    results: pd.DataFrame = run_directory.read_results(folder)
    wanted = ["omitted", "student", "correction", "bias", "seed", "temperature", "test_errors", "omitted_errors"]
    missing = [name for name in [*wanted, "failed_at", "block", "place"] if name not in results]
    require(not missing, f"{folder / 'results.csv'} lacks {', '.join(missing)}: it is no result of omit_digit")
    require(len(results), f"{folder / 'results.csv'} holds no run yet: let the experiment finish")
    return results.astype({"omitted": str, "without": str, "teacher": str})


def summarise(results: pd.DataFrame) -> list[Row]:
    """A row for each set of omitted classes, temperature, student and correction; failed runs are left out of means.

    Hard-label runs have no temperature: they stand at every one.
    """
    rows = []
    for omitted, of_task in results.groupby("omitted", sort=False):
        for temperature in sorted(of_task["temperature"].dropna().unique()):
            here = of_task[of_task["temperature"].eq(temperature) | of_task["temperature"].isna()]
            for student in STUDENTS:
                for correction in CORRECTIONS:
                    runs = here[(here["student"] == student) & (here["correction"] == correction)]
                    good = runs[runs["failed_at"] < 0]
                    if len(good):
                        columns = [good[name].to_numpy(float) for name in ("bias", "test_errors", "omitted_errors")]
                        right = 100 - 100 * columns[2] / good["omitted_images"].to_numpy(float)
                        bias, errors, on_omitted, share = (stats.interval(values) for values in (*columns, right))
                        images, failed = int(good["test_images"].iloc[0]), len(runs) - len(good)
                        names = (str(omitted), float(temperature), student, correction)
                        rows.append(Row(*names, bias, errors, on_omitted, share, images, failed))
    return rows


def compare(results: pd.DataFrame, omitted: str, temperature: float) -> dict[str, stats.Difference]:
    """Paired differences in test errors that the claims rest on, by what is compared."""
    of_task = results[(results["omitted"] == omitted) & (results["failed_at"] < 0)]
    here = of_task[of_task["temperature"].eq(temperature) | of_task["temperature"].isna()]

    def errors(student: str, correction: str) -> pd.Series:
        mine = here[(here["student"] == student) & (here["correction"] == correction)]
        return mine.set_index("seed")["test_errors"]

    oracle = errors("distilled", "oracle")
    pairs = {
        "oracle − distilled on all classes": (oracle, errors("all_digits", "none")),
        "label-free − oracle": (errors("distilled", "label_free"), oracle),
        "seen only − oracle": (errors("distilled", "seen_only"), oracle),
        "label-free − distilled also on the pool": (errors("distilled", "label_free"), errors("with_pool", "none")),
        "control − distilled, both oracle": (errors("control", "oracle"), oracle),
    }
    found = {}
    for name, (left, right) in pairs.items():
        shared = left.index.intersection(right.index)
        if len(shared):
            found[name] = stats.paired_difference(left[shared].to_numpy(float), right[shared].to_numpy(float))
    return found


def write_summary(folder: Path) -> str:
    """Writes `summary.md` of a run directory; returns the same as text."""
    config = run_directory.read_json(folder / "config.json")
    data = described(config["identity"])
    results = read(folder)
    rows = summarise(results)
    title = f"Digits never seen, on {data['description']}"
    with np.load(folder / "test.npz") as arrays:
        teacher_errors = int((arrays["teacher_logits"].argmax(axis=1) != arrays["labels"]).sum())
    notes = [
        f"Teacher {config['details'].get('teacher')}: {teacher_errors} test errors, trained on all digits, not on the "
        f"pool of {data['holdout']:,} images.",
        _over(results),
        "The bias is added to the logits of the omitted classes; to lower those of the others by it is the same.",
    ]
    if "targets" in data:
        notes.append(
            f"Soft targets of every student: {data['targets']}. What the pool's images are called, and the share of "
            "the omitted that label-free takes from them, stay the teacher's."
        )
    if config["details"].get("hint"):
        notes.append(f"For the full set: {config['details']['hint']}")
    markdown, text = [f"# {title}", ""], [title, ""]
    for heading, header, cells, remarks in _sections(results, rows, data):
        markdown += [f"## {heading}", "", _markdown(header, cells), "", *(f"* {line}" for line in remarks), ""]
        text += [heading, "", _text(header, cells), "", *remarks, ""]
    write_whole(folder / "summary.md", "\n".join([*markdown, *(f"* {line}" for line in notes)]) + "\n")
    return "\n".join([*text, *notes])


def described(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity's data; their description says what stands for the teacher's logits, where something does."""
    data: dict[str, Any] = identity["data"]
    targets = identity["config"].get("targets")
    if targets is None:
        return data
    words = tables.CONTROLS.get(targets, targets.replace("_", " "))
    return {**data, "description": f"{data['description']}; targets: {words}", "targets": words}


def shown(omitted: str, data: dict[str, Any]) -> str:
    """What a student was shown, in words: "without 3", "without 3 and 5", "on 7 and 8 alone"."""
    left_out = [int(value) for value in omitted.split()]
    names = data["class_names"]
    kept = [names[value] for value in range(data["num_classes"]) if value not in left_out]
    if len(left_out) > len(kept):
        return f"on {_listed(kept)} alone"
    return f"without {_listed([names[value] for value in left_out])}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _sections(
    results: pd.DataFrame, rows: list[Row], data: dict[str, Any]
) -> list[tuple[str, list[str], list[list[str]], list[str]]]:
    temperatures = sorted({row.temperature for row in rows})
    tasks = list(dict.fromkeys(row.omitted for row in rows))
    sections: list[tuple[str, list[str], list[list[str]], list[str]]] = []
    for temperature in temperatures:
        at = f"T = {tables.number(temperature)}"
        if len(tasks) > 1:
            sections.append((f"Each class omitted in turn, {at}", *_each(rows, tasks, temperature, data), []))
            continue
        mine = [row for row in rows if row.temperature == temperature]
        header, cells = _cells(mine, shown(tasks[0], data), data["name"] == "mnist" and "targets" not in data)
        remarks = [
            f"{name}: {_with_range(found, sign=True)} errors, paired, n = {found.n} "
            f"({stats.difference_in_words(found)})"
            for name, found in compare(results, tasks[0], temperature).items()
        ]
        sections.append((f"Students {shown(tasks[0], data)}, {at}", header, cells, remarks))
    return sections


def _cells(rows: list[Row], described: str, with_paper: bool) -> tuple[list[str], list[list[str]]]:
    header = ["student", "correction", "bias", "test errors", "%", "on the omitted", "% of the omitted right", "n"]
    failed = any(row.failed for row in rows)
    with_paper &= any((row.omitted, row.correction) in PAPER for row in rows)
    header += ["failed"] * failed + ["paper"] * with_paper
    cells = []
    for row in rows:
        whole = row.student in ("all_digits", "with_pool")
        cell = [STUDENTS[row.student].format(shown=described), "–" if whole else CORRECTIONS[row.correction]]
        cell += ["–" if whole or row.correction == "none" else _with_range(row.bias, sign=True)]
        cell += [_with_range(row.errors), f"{100 * row.errors.mean / row.images:.2f}"]
        cell += [_with_range(row.omitted_errors), _with_range(_percent(row.right)), str(row.errors.n)]
        cell += [str(row.failed)] * failed
        if with_paper:
            cell += [PAPER.get((row.omitted, row.correction), "") if row.student == "distilled" else ""]
        cells.append(cell)
    return header, cells


def _each(
    rows: list[Row], tasks: Sequence[str], temperature: float, data: dict[str, Any]
) -> tuple[list[str], list[list[str]]]:
    """A line a class: means of errors, and per cent of the omitted class right, before and after."""
    found = {(row.omitted, row.student, row.correction): row for row in rows if row.temperature == temperature}
    columns = [
        (student, correction, label)
        for student, label in (("all_digits", "all classes"), ("distilled", "distilled"), ("control", "control"))
        for correction in CORRECTIONS
        if any((task, student, correction) in found for task in tasks)
        and (student != "control" or correction in ("none", "oracle"))
    ]
    header = ["student"]
    header += [
        f"{label}: errors (% right)" if student == "all_digits" else f"{label}, {CORRECTIONS[correction]}"
        for student, correction, label in columns
    ]
    cells = []
    for task in tasks:
        mine = [found.get((task, student, correction)) for student, correction, _ in columns]
        means = [f"{row.errors.mean:.1f} ({row.right.mean:.1f})" if row else "" for row in mine]
        cells.append([shown(task, data), *means])
    return header, cells


def _over(results: pd.DataFrame) -> str:
    seeds = results["seed"].nunique()
    if seeds == 1:
        return "1 seed: nothing is known about spread, and no difference is called one."
    return f"{seeds} seeds: mean and 95 % t interval over seeds, about this teacher; another teacher is another draw."


def _with_range(found: stats.Interval | stats.Difference, sign: bool = False) -> str:
    return tables.with_range(*found[:3], sign=sign)


def _percent(found: stats.Interval) -> stats.Interval:
    """A t interval knows nothing of 0 and 100."""
    low, high = (bound if math.isnan(bound) else min(max(bound, 0.0), 100.0) for bound in (found.low, found.high))
    return found._replace(low=low, high=high)


def _text(header: list[str], cells: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *cells]]
    lines.insert(1, "-" * sum(widths, 2 * (len(widths) - 1)))
    return "\n".join(line.rstrip() for line in lines)


def _markdown(header: list[str], cells: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *cells])
