"""The CIFAR-10 table: small, big, distilled and the controls; paired differences; does double softmax over-smooth?"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis import stability, stats, tables
from kdjax import records
from kdjax.config import require
from kdjax.files import write_whole

SEED_POST = {"small": "85 %", "big": "90 %", "distilled": "85 %"}
"""What the experiment reported that this table does again (single networks at full width, 300 epochs, the checkpoint
chosen on the test set); its distilled network was taught by double softmax."""
CONTROLS = {
    "double_softmax": "double softmax",
    "shuffled": "logits of other images",
    "random": "an untrained teacher",
    "uniform": "all classes alike",
}
PERCENT = ("test_errors", "holdout_errors")
MEASURES = {
    "holdout_errors": "hold-out accuracy, %",
    "test_errors": "test accuracy, %",
    "test_nll": "test NLL",
    "test_ece": "test ECE",
}
"""Columns of `results.csv`, and what the table makes of them."""


class Answers(NamedTuple):
    """What the sweeps of a table answered."""

    folder: Path
    identity: dict[str, Any]
    teachers: list[dict[str, Any]]
    """name, test and (with a hold-out) holdout measures of each big network."""
    runs: dict[str, Path]
    """Role → run directory of its sweep; `stability` is not in `results`."""
    results: pd.DataFrame
    """The small networks: `results.csv` of all sweeps with a column role (`small`, `distilled` or a control), and
    accuracies in per cent in place of errors."""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    role: str
    temperature: float
    """nan for hard labels."""
    failed: int
    measures: dict[str, stats.Interval]
    """By the names of `MEASURES`; accuracies in per cent, NLL in nats, ECE in [0, 1]."""
    from_small: dict[str, stats.Difference]
    """The same measures less those of the small network of the same seed; empty where there are no pairs."""


def load(folder: Path) -> Answers:
    """Reads a table's run directory and the sweeps that it names.

    Raises:
        BadInput: it is none, or one of its sweeps is not there, or damaged.
    """
    require(folder.is_dir(), f"{folder} is no folder: name a run directory, or leave it out for the newest one")
    config = records.read_json(folder / "config.json")
    identity, details = config.get("identity", {}), config.get("details", {})
    require(
        identity.get("experiment") == "cifar10_table" and "answers" in details,
        f"{folder} is no finished run of cifar10_table: give the experiment's command again",
    )
    runs = {answer["role"]: tables.sweep_folder(folder, answer["run"]) for answer in details["answers"]}
    parts = []
    for role, of_sweep in runs.items():
        if role == "stability":
            continue
        rows = tables.read(of_sweep)
        named = {"hard": "small", "soft": "distilled" if role == "teacher" else role}
        parts.append(rows.assign(role=rows["objective"].replace(named)))
    results = pd.concat(parts, ignore_index=True)
    images = {"test_errors": identity["data"]["test_images"], "holdout_errors": identity["data"]["holdout"]}
    for column in set(PERCENT) & set(results):
        results[column] = 100 - 100 * results[column] / images[column]
    return Answers(folder, identity, details["teachers"], runs, results)


def rows_of_table(answers: Answers) -> list[Row]:
    """Small, big, distilled at each temperature, controls. Failed runs are counted, and left out of means."""
    results, rows = answers.results, list[Row]()
    small = tables.finished(results[results["role"] == "small"]).set_index("seed")
    columns = [column for column in MEASURES if column in results]
    order = ["small", "distilled", *CONTROLS]
    for role in sorted(set(results["role"]), key=order.index):
        of_role = results[results["role"] == role]
        for temperature in sorted(of_role["temperature"].unique()):
            runs = of_role[of_role["temperature"].eq(temperature) | of_role["temperature"].isna()]
            good = tables.finished(runs).set_index("seed")
            paired = {}
            shared = good.index.intersection(small.index)
            if role != "small" and len(shared):
                for column in columns:
                    mine, other = good[column][shared].to_numpy(float), small[column][shared].to_numpy(float)
                    paired[column] = stats.paired_difference(mine, other)
            found = {column: stats.interval(good[column].to_numpy(float)) for column in columns if len(good)}
            rows.append(Row(_name(role), role, float(temperature), len(runs) - len(good), found, paired))
    rows.insert(1 if rows and rows[0].role == "small" else 0, _big(answers, columns))
    return rows


def _name(role: str) -> str:
    if role == "small":
        return "small, hard labels"
    return "small, distilled from big" if role == "distilled" else f"small, control: {CONTROLS[role]}"


def _big(answers: Answers, columns: list[str]) -> Row:
    images = {"test": answers.identity["data"]["test_images"], "holdout": answers.identity["data"]["holdout"]}
    found = {}
    for column in columns:
        split, measure = column.split("_")
        values = pd.Series([teacher[split][measure] for teacher in answers.teachers], dtype=float)
        if measure == "errors":
            values = 100 - 100 * values / images[split]
        found[column] = stats.interval(values.to_numpy(float))
    return Row("big, hard labels (the teacher)", "big", math.nan, 0, found, {})


def write_summary(folder: Path) -> str:
    """Writes `summary.md` and `table.csv` of a table's run directory; returns the summary as text."""
    answers = load(folder)
    rows = rows_of_table(answers)
    sections = [f"# {title(answers)}", _table(rows, answers), _differences(rows), _signature(answers)]
    if "stability" in answers.runs:
        sections.append("#" + stability.write(answers.runs["stability"]))
    text = "\n\n".join(filter(None, sections))
    write_whole(folder / "summary.md", text.rstrip() + "\n")
    lines = [
        {"role": row.role, "temperature": row.temperature, "measure": column}
        | {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
        for row in rows
        for column, found in row.measures.items()
    ]
    frame = pd.DataFrame(lines)
    write_whole(folder / "table.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return text


def title(answers: Answers) -> str:
    """What was done, on which images: it stands wherever a number does."""
    return f"Small, big and distilled networks on {answers.identity['data']['description']}"


def _table(rows: list[Row], answers: Answers) -> str:
    config = answers.identity["config"]
    columns = list(rows[0].measures)
    header = ["", "T", *(f"{MEASURES[column]}" for column in columns), "n", "seed post"]
    failed = any(row.failed for row in rows)
    header += ["failed"] * failed
    cells = []
    for row in rows:
        numbers = [
            tables.estimate(row.measures[column], 3 if column.endswith(("nll", "ece")) else 2)
            for column in row.measures
        ]
        n = str(row.measures[columns[0]].n) if row.measures else "0"
        main = row.role != "distilled" or row.temperature == float(config["temperature"])
        cell = [row.name, "–" if math.isnan(row.temperature) else tables.number(row.temperature)]
        cell += [*(numbers or ["failed"] * len(columns)), n, SEED_POST.get(row.role, "") if main else ""]
        cells.append(cell + [str(row.failed)] * failed)
    big, small = answers.identity["parameters"]
    big_epochs = config["teacher_epochs"] or config["epochs"]
    asked = "looked up" if config["augment"] == "none" else "asked at each step about the image as the student sees it"
    notes = [
        f"small: {small:,} parameters, {config['epochs']} epochs; big: {big:,} parameters, {big_epochs} "
        f"epochs (batch statistics counted; width multiplier {config['width_multiplier']:g}). Adam, peak rate "
        f"{config['learning_rate']:g}, schedule {config['schedule']}, batch {config['batch_size']}, augmentation "
        f"{config['augment']}; the teacher's logits are {asked}. Soft weight {config['soft_weight']:g}.",
        "Mean and 95 % t interval over seeds, about the one teacher; another teacher is another draw. The last epoch "
        "is what is reported. NLL in nats, ECE with 15 bins.",
        f"{answers.identity['data']['holdout']:,} training images are held out, and no network learns from them; the "
        f"test accuracy is that on {answers.identity['data']['test_images']:,} images.",
        "Seed post: single networks at full width after 300 epochs of a constant rate, the checkpoint chosen on all "
        "10,000 test images, and its distilled one taught by double softmax.",
    ]
    return tables.markdown(header, cells, notes, left=1)


def _differences(rows: list[Row]) -> str:
    paired = [row for row in rows if row.from_small]
    if not paired:
        return ""
    columns = list(paired[0].from_small)
    header = ["less small on hard labels, paired", "T", *(MEASURES[column] for column in columns), "n"]
    cells = []
    for row in paired:
        numbers = [
            tables.estimate(row.from_small[c], 3 if c.endswith(("nll", "ece")) else 2, sign=True) for c in columns
        ]
        n = str(row.from_small[columns[0]].n)
        cells.append([row.name, tables.number(row.temperature), *numbers, n])
    notes = ["Points of per cent in accuracy. A difference is called one only where its interval excludes zero."]
    return "## Differences\n\n" + tables.markdown(header, cells, notes, left=1)


def _signature(answers: Answers) -> str:
    """Whether double softmax over-smooths as it should: its targets are all but uniform, so NLL and ECE are large."""
    config, results = answers.identity["config"], tables.finished(answers.results)
    at = results[results["temperature"] == float(config["temperature"])].set_index("seed")
    bug, true = at[at["role"] == "double_softmax"], at[at["role"] == "distilled"]
    shared = bug.index.intersection(true.index)
    if not len(shared):
        return ""
    lines = []
    for column in ("test_nll", "test_ece"):
        found = stats.paired_difference(bug[column][shared].to_numpy(float), true[column][shared].to_numpy(float))
        verdict = "not judged at n = 1" if math.isnan(found.low) else "no difference seen"
        if found.differs:
            verdict = "as predicted" if found.mean > 0 else "against the prediction"
        lines.append(
            f"* {MEASURES[column]}, double softmax less distilled: {tables.estimate(found, 3, sign=True)}: {verdict}."
        )
    share = bug["soft_target_entropy"].mean() / math.log(len(answers.identity["data"]["class_names"]))
    lines.append(f"* Entropy of its targets: {100 * share:.2f} % of that of the uniform distribution.")
    return "## Double softmax: over-smoothing is predicted\n\n" + "\n".join(lines)
