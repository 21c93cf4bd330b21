"""The rows of a CIFAR-10 table: small, big, distilled and the controls, with paired differences from small."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import runs, stats
from analysis.cifar10.roles import Role, SweepRole
from analysis.cifar10.run import Cifar10Results
from analysis.measures import SPLITS
from analysis.tables import count_of
from kdjax import trained
from kdjax.config import AFTER_NORM
from kdjax.objectives import words_of
from kdjax.targets import WORDS


class TableRow(NamedTuple):
    """One line of the table."""

    name: str
    role: Role
    temperature: float
    """nan where there is none."""
    failed: int
    measures: dict[str, stats.Interval]
    """By column; accuracies and overconfidence in percentage points, NLL in nats, ECE in [0, 1]."""
    differences: dict[str, stats.Difference]
    """The same minus those of the small network of the same seed; empty where there are no pairs."""
    from_smoothing: stats.Difference | None = None
    """Accuracy on the split of the first column, minus that of the small network of label smoothing and the same seed;
    None where there is none."""


def rows_of_table(results: Cifar10Results) -> list[TableRow]:
    """Small, big, distilled at each temperature, controls. Failed runs are counted, and left out of means."""
    rows, columns = list[TableRow](), results.columns
    small, smoothing = (_by_seed(results.of(role)) for role in (Role.SMALL, Role.LABEL_SMOOTHING))
    for role in sorted({Role(name) for name in results.results["role"]}, key=list(Role).index):
        of_role = results.of(role)
        for temperature in sorted(of_role["temperature"].unique()):
            of_row = of_role[of_role["temperature"].eq(temperature) | of_role["temperature"].isna()]
            finished = _by_seed(of_row)
            means = {column: runs.mean(finished[column]) for column in columns if len(finished)}
            paired = {column: _less(finished, small, column) for column in columns if role != Role.SMALL}
            differences = {column: difference for column, difference in paired.items() if difference}
            same = role in (Role.SMALL, Role.LABEL_SMOOTHING) or smoothing.empty
            from_smoothing = None if same else _less(finished, smoothing, columns[0])
            failed = len(of_row) - len(finished)
            row = TableRow(row_name(role), role, float(temperature), failed, means, differences, from_smoothing)
            rows.append(row)
    at = 1 if rows[0].role == Role.SMALL else 0
    rows[at:at] = _big_rows(results)
    return rows


def _by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """The finished runs by seed; of several teachers, by teacher and seed."""
    return _indexed(runs.finished(rows))


def _indexed(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.set_index("seed" if rows["teacher"].nunique() < 2 else runs.RUN)


def _less(ours: pd.DataFrame, baseline: pd.DataFrame, column: str) -> stats.Difference | None:
    """A column minus that of the baseline, by seed, under each teacher."""
    others = baseline[column]
    if ours.index.nlevels > 1:
        names = ours.index.get_level_values("teacher").unique()
        others = pd.concat(dict.fromkeys(names, others), names=["teacher"])
    return runs.paired(ours[column], others)


def possible_best(results: Cifar10Results) -> list[float]:
    """The temperatures that are not excluded as best, all at once: of accuracy on the split of the first column. Empty
    where some run of soft targets is missing."""
    of_soft, column = results.of(Role.DISTILLED), results.columns[0]
    if of_soft.empty:
        return []
    values = of_soft[column].where(of_soft["failed_at"] < 0)  # a failed run leaves a hole
    rows = _indexed(of_soft.assign(**{column: values}))
    table = rows.set_index("temperature", append=True)[column].unstack()
    if table.isna().any(axis=None) or table.shape[1] < 2:
        return []
    if table.index.nlevels > 1:
        teachers, seeds = (table.index.get_level_values(name).nunique() for name in runs.RUN)
        if teachers * seeds != len(table):
            return []
        values = table.to_numpy(float).reshape(teachers, seeds, -1)
    else:
        values = table.to_numpy(float)
    if len(table) < 2:
        return []
    return [float(t) for t in table.columns[stats.candidates_for_best(-values, simultaneous=True)]]


def size(network: Mapping[str, Any]) -> str:
    """Parameters and epochs of a network, or of a table's small ones by its config."""
    return f"{count_of(network['parameters'], 'parameter')}, {count_of(network['epochs'], 'epoch')}"


def row_name(role: Role) -> str:
    """What a small network of a role is called in the table."""
    names = {Role.SMALL: "small, hard labels", Role.DISTILLED: "small, distilled"}
    names[Role.LABEL_SMOOTHING] = "small, label smoothing"
    return names.get(role) or f"small, control: {WORDS.get(role.value, words_of(role.value))}"


def big_name(results: Cifar10Results) -> str:
    """What the big networks are called in the table: big, if they are of the table's kind; others by their own name."""
    name, kind = str(results.networks[0]["network"]), ("big", f"big{AFTER_NORM}") if results.of_post else ("fast",)
    return "big" if name in kind else name


def _big_rows(results: Cifar10Results) -> list[TableRow]:
    """The big networks; below them, where several teach, the ensemble."""

    def row(name: str, role: Role, networks: list[dict[str, Any]]) -> TableRow:
        means = {}
        for column in results.columns:
            split, measure = column.split("_", 1)
            means[column] = stats.interval(np.array([one[split][measure] for one in networks], float))
        return TableRow(name, role, math.nan, 0, means, {})

    several = len(results.taught_by) > 1
    part = "members of the ensemble that teaches" if several else "the teacher"
    if len(results.networks) > len(results.taught_by):
        each = results.identity["config"].get("each_teaches", False)
        part = "the teachers" if each else "the first is the teacher"
    rows = [row(f"{big_name(results)}, hard labels ({part})", Role.BIG, results.networks)]
    return rows + [row("their ensemble (the teacher)", Role.ENSEMBLE, [results.teacher])] * several


def teacher_less_small(results: Cifar10Results) -> dict[str, stats.Interval]:
    """What teaches, minus the small networks of hard labels: points of accuracy by split, and their 95 % interval.

    Over images: of each, whether the teacher is right minus the share of small networks that are. It is about these
    networks, and says nothing of other seeds.

    Raises:
        BadInput: the logits of a network are missing or damaged.
    """
    if runs.finished(results.of(Role.SMALL)).empty:
        return {}
    teacher, gaps = runs.load_arrays(results.folder / "teacher.npz"), dict[str, stats.Interval]()
    sweep = results.sweeps[SweepRole.TEACHER][0]  # that of hard labels
    students = trained.find(sweep, objective="hard", failed_at=-1)
    with runs.reading(sweep):
        for split in (split for split in SPLITS if f"{split}_labels" in teacher):
            labels = teacher[f"{split}_labels"]
            small = np.mean([student.stored_logits(split).argmax(1) == labels for student in students], axis=0)
            gaps[split] = stats.interval(100.0 * ((teacher[f"{split}_logits"].argmax(1) == labels) - small))
    return gaps
