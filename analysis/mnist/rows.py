"""The rows of an MNIST table: the paper's three, other soft weights, and what is better than plain targets."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import crossed, fieller, measures, runs, stats
from analysis.mnist.roles import Role
from analysis.mnist.run import MnistResults
from analysis.tables import bounds, count_of, estimate, number, p_value

PAPER_TEACHER, PAPER_SMALL, PAPER_DISTILLED = 67, 146, 74
"""Hinton et al. 2015, Section 3: test errors of single runs."""
PAPER_GAP = (PAPER_SMALL - PAPER_DISTILLED) / (PAPER_SMALL - PAPER_TEACHER)
BETTER = {
    Role.SHIFT_AVERAGED: "targets averaged over shifts of ±2 px",
    Role.JITTERED: "transfer set jittered by ±2 px",
    Role.ENSEMBLE: "taught by an ensemble of {members} teachers",
    Role.ENSEMBLE_JITTERED: "taught by an ensemble of {members} teachers, transfer set jittered by ±2 px",
    Role.ELASTIC: "teacher without dropout, it and the transfer set elastically distorted, {epochs} epochs",
    Role.ENSEMBLE_ELASTIC: "taught by an ensemble of {members} teachers, transfer set elastically distorted, "
    "{epochs} epochs",
}
"""Roles of the part `better`, in words."""
UNKNOWN = fieller.Ratio(math.nan, math.nan, math.nan, 0)


class Comparison(NamedTuple):
    """A row's test errors less those of a baseline: paired by seed, each a mean over teachers."""

    against: str
    difference: stats.Difference
    p_holm: float
    """p, adjusted over all comparisons of its kind (Holm)."""
    claimed: bool = False
    """Whether it may be called a difference, among the same comparisons (`stats.claimed`)."""

    @property
    def verdict(self) -> str:
        """In words."""
        return stats.difference_in_words(self.difference, self.claimed)


class TableRow(NamedTuple):
    """One line of the table."""

    name: str
    measures: dict[str, stats.Interval]
    """By column; `test_errors` first."""
    gap: fieller.Ratio = UNKNOWN
    """Share of the gap between small net and teacher that is closed; nan where there is none."""
    paper: float = math.nan
    """The paper's test errors; nan where it has none."""
    verdict: str = ""
    """On the paper's errors; empty where there is none."""
    one_more: stats.Interval | None = None
    """Where one more run is expected (95 %), where there is a verdict."""
    comparisons: tuple[Comparison, ...] = ()
    role: Role | None = None
    """`Role.SMALL` or `Role.DISTILLED`: the paper's rows of students."""

    def details(self) -> str:
        """The verdict with its numbers, for `table.csv`."""
        expected = f": one more run in {bounds(self.one_more)}" if self.one_more else ""
        texts = [self.verdict + expected] * bool(self.verdict)
        for one in self.comparisons:
            adjusted = "" if math.isnan(one.p_holm) else f", p = {p_value(one.p_holm)} (Holm)"
            less = f"{estimate(one.difference, sign=True)} errors, {one.verdict}{adjusted}"
            texts.append(f"against {one.against}: {less}")
        return "; ".join(texts)


def rows_of_table(results: MnistResults) -> list[TableRow]:
    """Teacher, small net, distilled; then other soft weights, and what is better than plain targets."""
    teachers = pd.DataFrame(
        [{f"test_{name}": value for name, value in one["test"].items()} for one in results.teachers]
    )
    errors = teachers["test_errors"].to_numpy(float)
    teacher = TableRow(f"teacher{results.of_which_images}", _means(teachers))
    rows = [_with_verdict(teacher, errors, PAPER_TEACHER, results)]
    small = results.of(Role.SMALL)
    by_seed = small.set_index("seed")["test_errors"]
    if len(small):
        alone = TableRow(_named("small net alone", results.failed(Role.SMALL)), _means(small), role=Role.SMALL)
        rows.append(_with_verdict(alone, by_seed.to_numpy(float), PAPER_SMALL, results))
    distilled = results.of(Role.DISTILLED, soft_weight=results.soft_weight)
    if len(distilled):
        one = distilled["teacher"].nunique() == 1
        name = _distilled_name(results, results.soft_weight, one and len(results.teachers) > 1)
        row = _distilled(_named(name, results.failed(Role.DISTILLED)), distilled, by_seed)
        row = _with_verdict(row, _draws(distilled), PAPER_DISTILLED, results)
        verdict = row.verdict + " (about this teacher)" * (one and bool(row.verdict))
        rows.append(row._replace(verdict=verdict, role=Role.DISTILLED))
    return rows + _soft_weight_rows(results, by_seed) + _better_rows(results, by_seed)


def _draws(of_row: pd.DataFrame, column: str = "test_errors") -> np.ndarray:
    """`runs.grid` of a column; one seed under several teachers is one run, their mean: what it is compared with has no
    teacher."""
    values = runs.grid(of_row.set_index(runs.RUN)[column])
    return values if of_row["seed"].nunique() > 1 else values.mean(keepdims=True)


def _under_all(of_row: pd.DataFrame, teachers: int) -> pd.DataFrame:
    """The runs of those seeds that so many teachers have."""
    return of_row[of_row.groupby("seed")["teacher"].transform("nunique") == teachers]


def _means(networks: pd.DataFrame) -> dict[str, stats.Interval]:
    """Over networks, each a draw of its own."""
    table = measures.add("mnist", networks)
    return {column: stats.interval(table[column].to_numpy(float)) for column in measures.columns("mnist")}


def _with_verdict(row: TableRow, errors: np.ndarray, paper: float | int, results: MnistResults) -> TableRow:
    """Whether the paper's single run could be one of ours, where the setting is the paper's."""
    if not results.of_paper:
        return row
    verdict = stats.reproduced(errors, paper)
    one_more = None if verdict.startswith("no verdict") else crossed.prediction_interval(errors)
    return row._replace(paper=float(paper), verdict=verdict, one_more=one_more)


def _named(name: str, failed: int) -> str:
    return name + f" ({count_of(failed, 'failed run')} left out)" * bool(failed)


def _distilled_name(results: MnistResults, weight: float, of_the_first: bool) -> str:
    name = f"small net distilled, T = {number(results.temperature)}, soft weight {weight:g}"
    return name + (", first teacher" if of_the_first else "")


def _distilled(name: str, distilled: pd.DataFrame, small: pd.Series) -> TableRow:
    """A row with the share of the gap that it closes, over teachers crossed with seeds, as its errors are."""
    table, gap = measures.add("mnist", distilled), UNKNOWN
    means = {column: runs.mean(table.set_index(runs.RUN)[column]) for column in measures.columns("mnist")}
    paired = distilled[distilled["seed"].isin(small.index)]
    if len(paired):
        paired = paired.assign(alone=paired["seed"].map(small))
        alone, errors, teacher = (_draws(paired, name) for name in ("alone", "test_errors", "teacher_errors"))
        gap = fieller.gap_closed(alone, errors, teacher)
        if not alone.mean() > teacher.mean():  # no gap, no share of it
            gap = fieller.Ratio(math.nan, math.nan, math.nan, gap.n)
    return TableRow(name, means, gap)


def _compare(of_row: pd.DataFrame, baselines: dict[str, pd.DataFrame]) -> tuple[Comparison, ...]:
    """A row against each baseline with which it shares seeds; p is not adjusted yet."""
    errors = of_row.groupby("seed")["test_errors"].mean()
    differences = {
        against: runs.paired(errors, rows.groupby("seed")["test_errors"].mean()) for against, rows in baselines.items()
    }
    return tuple(Comparison(against, less, less.p) for against, less in differences.items() if less)


def _adjusted(rows: list[TableRow]) -> list[TableRow]:
    """The same rows, all their comparisons considered at once."""
    differences = [one.difference for row in rows for one in row.comparisons]
    p = iter(stats.holm(np.array([one.p for one in differences], float)))
    claims = iter(stats.claimed(differences))
    return [
        row._replace(comparisons=tuple(Comparison(*one[:2], float(next(p)), next(claims)) for one in row.comparisons))
        for row in rows
    ]


def _soft_weight_rows(results: MnistResults, small: pd.Series) -> list[TableRow]:
    """The other soft weights under the first teacher, each against the table's own."""
    rows, baseline = list[TableRow](), {f"soft weight {results.soft_weight:g}": results.of_first_teacher()}
    for weight in results.identity["config"]["soft_weights"][1:]:
        distilled = results.of(Role.SOFT_WEIGHTS, soft_weight=weight)
        if len(distilled):
            name = _distilled_name(results, weight, len(results.teachers) > 1)
            name = _named(name, results.failed(Role.SOFT_WEIGHTS, soft_weight=weight))
            rows.append(_distilled(name, distilled, small)._replace(comparisons=_compare(distilled, baseline)))
    return _adjusted(rows)


def _better_rows(results: MnistResults, small: pd.Series) -> list[TableRow]:
    """What is better than plain targets, each row against its baselines."""
    rows, members = list[TableRow](), len(results.teachers)
    everyone = _under_all(results.of(Role.DISTILLED, soft_weight=results.soft_weight), members)
    plain = {"the first teacher's plain targets": results.of_first_teacher()}
    of_members = {"the plain targets of its members, their mean": everyone} if members > 1 and len(everyone) else plain
    # Where the images are others too, only students of the same images tell what the targets do.
    jittered, distorted = results.of(Role.HARD_JITTERED), results.of(Role.ELASTIC, objective="hard")
    on_jittered, on_distorted = ({"hard labels on those images": hard} for hard in (jittered, distorted))
    one_teacher = {"one teacher of such images, on them": results.of(Role.ELASTIC, objective="kd")}
    baselines = {
        Role.SHIFT_AVERAGED: plain,
        Role.JITTERED: plain | on_jittered,
        Role.ENSEMBLE: of_members,
        Role.ENSEMBLE_JITTERED: of_members | on_jittered,
        Role.ELASTIC: on_distorted,  # whose epochs, and by default whose teacher, are not those of plain targets
        Role.ENSEMBLE_ELASTIC: one_teacher | on_distorted,
    }
    for role, words in BETTER.items():
        of_role = results.of(role, objective="kd")
        if not len(of_role):
            continue
        name = words.format(members=members, epochs=int(of_role["epochs"].iloc[0]))
        row = _distilled(_named(name, results.failed(role, objective="kd")), of_role, small)
        rows.append(row._replace(comparisons=_compare(of_role, baselines[role])))
        known = str(of_role["teacher"].iloc[0]) in {str(one["name"]) for one in results.teachers}
        if role == Role.ENSEMBLE or (role == Role.ELASTIC and not known):
            name = f"that ensemble of {members}" if role == Role.ENSEMBLE else "that teacher"
            errors = stats.interval(of_role["teacher_errors"].to_numpy(float)[:1])
            rows.append(TableRow(name, {"test_errors": errors}))
        if role == Role.JITTERED and len(jittered):
            rows.append(TableRow("hard labels, images jittered likewise", _means(jittered)))
        if role == Role.ELASTIC and len(distorted):
            rows.append(TableRow("hard labels on those images", _means(distorted)))
    return _adjusted(rows)
