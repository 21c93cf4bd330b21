"""The CIFAR-10 table: small, big, distilled and the controls; paired differences; does double softmax over-smooth?"""

import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import stability, stats, tables
from kdjax import run_directory
from kdjax.errors import BadInput, require
from kdjax.files import check_seal, write_whole

SEED_POST = {"small": "85 %", "big": "90 %", "distilled": "85 %"}
"""What the experiment reported that this table does again (single networks at full width, 300 epochs, the checkpoint
chosen on the test set); its distilled network was taught by double softmax."""
ROLES = ["small", "big", "ensemble", "distilled", *tables.CONTROLS]
"""Kinds of rows, in their order."""
MEASURES = {
    "accuracy": "accuracy, %",
    "nll": "NLL, nats",
    "ece": "ECE",
    "overconfidence": "confidence − accuracy, points",
}
"""Of networks on a split of the images; the last is the mean probability of the class chosen, less the accuracy."""
SPLITS = {"holdout": "hold-out", "test": "test"}


class Answers(NamedTuple):
    """What the sweeps of a table answered."""

    folder: Path
    identity: dict[str, Any]
    networks: list[dict[str, Any]]
    """Each big network: name, network, epochs, parameters, and its measures on `test` and (with one) `holdout`."""
    taught_by: list[dict[str, Any]]
    """Those of them that teach: one, or the members of an ensemble."""
    teacher: dict[str, Any]
    """The measures of what teaches: of the one network, or of the ensemble."""
    runs: dict[str, Path]
    """Role → run directory of its sweep; `stability` is not in `results`."""
    results: pd.DataFrame
    """The small networks: `results.csv` of all sweeps, with a column role (`small`, `distilled` or a control), and for
    each split and measure a column such as `test_overconfidence`."""
    columns: list[str]
    """Those of them that the table shows: both accuracies, and the rest on the hold-out if there is one."""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    role: str
    temperature: float
    """nan for hard labels."""
    failed: int
    measures: dict[str, stats.Interval]
    """By the columns of `Answers`; accuracies and overconfidence in points of per cent, NLL in nats, ECE in [0, 1]."""
    from_small: dict[str, stats.Difference]
    """The same measures less those of the small network of the same seed; empty where there are no pairs."""


def load(folder: Path) -> Answers:
    """Reads a table's run directory and the sweeps that it names.

    Raises:
        BadInput: it is none, or one of its sweeps is not there, or damaged.
    """
    require(folder.is_dir(), f"{folder} is no folder: name a run directory, or leave it out for the newest one")
    config = run_directory.read_json(folder / "config.json")
    check_seal(folder)
    try:
        identity, details = config["identity"], config["details"]
        require(identity["experiment"] == "cifar10_table", f"{folder} is no run of cifar10_table: name one of its runs")
        runs = {answer["role"]: tables.sweep_folder(folder, answer["run"]) for answer in details["answers"]}
        networks, teacher = details["networks"], details["teacher"]
        taught_by = networks[: int(details["taught_by"])]
        images = {"test": int(identity["data"]["test_images"]), "holdout": int(identity["data"]["holdout"])}
        for judged in (*networks, teacher):
            for split in SPLITS.keys() & judged.keys():
                judged[split] |= in_points(judged[split], images[split])
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{folder} is no finished run of cifar10_table: give the experiment's command again") from None
    parts = []
    for role, of_sweep in runs.items():
        if role != "stability":
            rows = tables.read(of_sweep)
            parts.append(rows.assign(role=[role_of(role, objective) for objective in rows["objective"]]))
    results = pd.concat(parts, ignore_index=True)
    for split in SPLITS:
        if f"{split}_confidence" in results:
            of_split = {name: results[f"{split}_{name}"] for name in ("errors", "confidence")}
            for name, values in in_points(of_split, images[split]).items():
                results[f"{split}_{name}"] = values
    watched = "holdout" if images["holdout"] else "test"
    columns = [f"{split}_accuracy" for split in SPLITS if images[split]]
    columns += [f"{watched}_{measure}" for measure in MEASURES if measure != "accuracy"]
    return Answers(folder, identity, networks, taught_by, teacher, runs, results, columns)


def role_of(asked: str, objective: str) -> str:
    """The row of the table to which a student belongs: `asked` is the role of its sweep."""
    if objective == "soft":
        return "distilled" if asked in ("teacher", "temperatures") else asked
    return "small" if objective == "hard" else objective


def in_points(judged: Any, images: int) -> dict[str, Any]:
    """Accuracy, and confidence less accuracy, in points of per cent, of measures of that many images."""
    accuracy = 100 - 100 * judged["errors"] / images
    return {"accuracy": accuracy, "overconfidence": 100 * judged["confidence"] - accuracy}


def column_name(column: str) -> str:
    """A column of `Answers` in words: `hold-out NLL`."""
    split, measure = column.split("_", 1)
    return f"{SPLITS[split]} {MEASURES[measure]}"


def rows_of_table(answers: Answers) -> list[Row]:
    """Small, big, distilled at each temperature, controls. Failed runs are counted, and left out of means."""
    results, rows = answers.results, list[Row]()
    small = tables.finished(results[results["role"] == "small"]).set_index("seed")
    for role in sorted(set(results["role"]), key=ROLES.index):
        of_role = results[results["role"] == role]
        for temperature in sorted(of_role["temperature"].unique()):
            runs = of_role[of_role["temperature"].eq(temperature) | of_role["temperature"].isna()]
            good = tables.finished(runs).set_index("seed")
            paired = {}
            shared = good.index.intersection(small.index)
            if role != "small" and len(shared):
                for column in answers.columns:
                    mine, other = good[column][shared].to_numpy(float), small[column][shared].to_numpy(float)
                    paired[column] = stats.paired_difference(mine, other)
            found = {column: stats.interval(good[column].to_numpy(float)) for column in answers.columns if len(good)}
            rows.append(Row(row_name(role), role, float(temperature), len(runs) - len(good), found, paired))
    at = 1 if rows[0].role == "small" else 0
    rows[at:at] = _teachers(answers)
    return rows


def row_name(role: str) -> str:
    """What a network of a role is called in the table."""
    if role == "small":
        return "small, hard labels"
    return "small, distilled" if role == "distilled" else f"small, control: {tables.CONTROLS[role]}"


def _teachers(answers: Answers) -> list[Row]:
    """The big networks; below them, where several teach, the ensemble."""

    def row(name: str, networks: list[dict[str, Any]]) -> Row:
        found = {}
        for column in answers.columns:
            split, measure = column.split("_", 1)
            found[column] = stats.interval(np.array([one[split][measure] for one in networks], float))
        return Row(name, "big", math.nan, 0, found, {})

    kind, several = answers.networks[0]["network"], len(answers.taught_by) > 1
    role = "members of the ensemble that teaches" if several else "the teacher"
    if len(answers.networks) > len(answers.taught_by):
        role = "the first is the teacher"
    rows = [row(f"{kind}, hard labels ({role})", answers.networks)]
    if several:
        rows.append(row("their ensemble (the teacher)", [answers.teacher])._replace(role="ensemble"))
    return rows


def big_less_small(answers: Answers) -> dict[str, stats.Interval]:
    """What teaches, less the small networks of hard labels: points of accuracy by split, and their 95 % interval.

    Over images: of each, whether the teacher is right less the share of small networks that are. It is about these
    networks, and says nothing of other seeds.

    Raises:
        BadInput: the logits of a network are missing or damaged.
    """
    from kdjax import trained  # late: it needs JAX

    sweep, right = answers.runs["teacher"], dict[str, list[np.ndarray]]()
    if not (tables.finished(answers.results)["role"] == "small").any():
        return {}
    try:
        with np.load(answers.folder / "teacher.npz") as arrays:
            teacher = {name: arrays[name] for name in arrays.files}
        for student in trained.find(sweep, objective="hard", failed_at=-1):
            for split in (split for split in SPLITS if f"{split}_labels" in teacher):
                right.setdefault(split, []).append(student.stored_logits(split).argmax(1) == teacher[f"{split}_labels"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"{answers.folder} or {sweep} is damaged ({error}): give the experiment's command again"
        ) from None
    found = {}
    for split in SPLITS.keys() & right.keys():
        of_teacher = teacher[f"{split}_logits"].argmax(1) == teacher[f"{split}_labels"]
        found[split] = stats.interval(100.0 * (of_teacher - np.mean(right[split], axis=0)))
    return found


def write_summary(folder: Path) -> str:
    """Writes `summary.md` and `table.csv` of a table's run directory; returns the summary as text."""
    answers = load(folder)
    rows = rows_of_table(answers)
    sections = [f"# {title(answers)}", _table(rows, answers), _differences(rows, answers), _signature(answers)]
    if "stability" in answers.runs:
        try:
            sections.append("#" + stability.write(answers.runs["stability"]))
        except BadInput as error:  # such as that all of its runs failed: no reason to withhold the rest
            sections.append(f"## Fluctuation from epoch to epoch\n\n{error}")
    from analysis.cifar10 import batch_statistics  # late: it needs JAX

    sections.append(batch_statistics.section(answers))
    text = "\n\n".join(filter(None, sections))
    write_whole(folder / "summary.md", text.rstrip() + "\n")
    lines = []
    for row in rows:
        for column, found in row.measures.items():
            line = {"role": row.role, "temperature": row.temperature, "measure": column, "failed": row.failed}
            line |= {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
            if less := row.from_small.get(column):
                line |= {"from_small": less.mean, "from_small_low": less.low, "from_small_high": less.high}
            lines.append(line)
    frame = pd.DataFrame(lines)
    write_whole(folder / "table.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return text


def title(answers: Answers) -> str:
    """What was done, on which images: it stands wherever a number does."""
    return f"Small, big and distilled networks on {answers.identity['data']['description']}"


def _table(rows: list[Row], answers: Answers) -> str:
    config, data = answers.identity["config"], answers.identity["data"]
    failed = any(row.failed for row in rows)
    header = ["", "T", *map(column_name, answers.columns), "n", "seed post", *["failed"] * failed]
    cells = []
    for row in rows:
        numbers = [estimate(column, row.measures[column]) for column in row.measures]
        n = str(row.measures[answers.columns[0]].n) if row.measures else "0"
        main = row.role != "distilled" or math.isclose(row.temperature, config["temperature"], rel_tol=1e-8)
        cell = [row.name, tables.number(row.temperature), *(numbers or ["failed"] * len(answers.columns)), n]
        cell += [SEED_POST.get(row.role, "") if main else ""]
        cells.append(cell + [str(row.failed)] * failed)
    small, controls = answers.identity["config"]["parameters"], {row.role for row in rows}
    each = "; ".join(
        f"{one['network']}: {one['parameters']:,} parameters, {one['epochs']} epochs"
        for one in {(one["parameters"], one["epochs"]): one for one in answers.networks}.values()
    )
    notes = [
        f"small: {small:,} parameters, {config['epochs']} epochs; {each} (batch statistics counted; width multiplier "
        f"{config['width_multiplier']:g}). Adam, peak rate {config['learning_rate']:g}, schedule {config['schedule']}, "
        f"batch {config['batch_size']}, augmentation {config['augment']}, soft weight {config['soft_weight']:g}."
    ]
    if config["augment"] != "none":
        fixed = [tables.CONTROLS[control] for control in ("shuffled", "uniform") if control in controls]
        notes.append(
            "The teacher is asked at each step about the image as the student sees it"
            + (f"; not so for {' and '.join(fixed)}: one target an image." if fixed else ".")
        )
    notes += [
        "Mean and 95 % t interval over seeds; those that are taught, about the one teacher. The last epoch is what is "
        "reported. NLL, ECE (15 bins) and confidence at temperature 1.",
        *["Failed runs, whose loss was no number, are left out of the means."] * failed,
    ]
    if data["holdout"]:
        notes.append(f"No network learns from the {data['holdout']:,} training images that are held out.")
    notes.append(
        "Seed post: single networks at full width after 300 epochs of a constant rate, the checkpoint chosen on all "
        "10,000 test images, and its distilled one taught by double softmax."
    )
    return tables.markdown(header, cells, notes, left=1)


def estimate(column: str, found: stats.Interval | stats.Difference, sign: bool = False) -> str:
    """A mean and its interval, to the decimals that the column wants."""
    return tables.estimate(found, 3 if column.endswith(("nll", "ece")) else 2, sign=sign)


def _differences(rows: list[Row], answers: Answers) -> str:
    paired = [row for row in rows if row.from_small]
    if not paired:
        return ""
    header = ["less small on hard labels, paired by seed", "T", *map(column_name, answers.columns), "n"]
    cells = []
    for row in paired:
        numbers = [estimate(column, row.from_small[column], sign=True) for column in answers.columns]
        n = str(row.from_small[answers.columns[0]].n)
        cells.append([row.name, tables.number(row.temperature), *numbers, n])
    notes = [
        f"The teacher less the small networks on hard labels, {SPLITS[split]}: {tables.estimate(found, 2, sign=True)} "
        f"points of accuracy; interval over the {found.n:,} images, about these networks."
        for split, found in sorted(big_less_small(answers).items())
    ]
    notes.append(
        "Accuracies in points of per cent. A difference is one only where its interval excludes zero; of twenty such "
        "intervals one misses by chance, for which nothing is corrected here."
    )
    return "## Differences\n\n" + tables.markdown(header, cells, notes, left=1)


def _signature(answers: Answers) -> str:
    """Whether double softmax over-smooths as it should: its targets are all but uniform, so that NLL and ECE are
    larger, and confidence falls short of accuracy."""
    config, results = answers.identity["config"], tables.finished(answers.results)
    at = results[np.isclose(results["temperature"], float(config["temperature"]), rtol=1e-8)].set_index("seed")
    bug, true = at[at["role"] == "double_softmax"], at[at["role"] == "distilled"]
    shared = bug.index.intersection(true.index)
    if not len(shared):
        return ""
    lines = []
    for column in answers.columns:
        measure = column.split("_", 1)[1]
        if measure == "accuracy":
            continue
        found = stats.paired_difference(bug[column][shared].to_numpy(float), true[column][shared].to_numpy(float))
        verdict = "not judged at n = 1" if found.n == 1 else "no difference seen"
        if found.differs:
            smaller = measure == "overconfidence"
            verdict = "as predicted" if (found.mean < 0) == smaller else "against the prediction"
        said = estimate(column, found, sign=True)
        lines.append(f"* {column_name(column)}, double softmax less distilled: {said}: {verdict}.")
    uniform = math.log(answers.identity["data"]["num_classes"])
    shares = [f"{100 * runs['soft_target_entropy'].mean() / uniform:.2f} %" for runs in (bug, true)]
    lines.append(
        f"* Entropy of its targets: {shares[0]} of that of the uniform distribution; of distilled ones: {shares[1]} "
        "(of the training images as they are)."
    )
    return "## Double softmax: over-smoothing is predicted\n\n" + "\n".join(lines)
