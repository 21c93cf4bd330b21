"""The MNIST table and its summary: rows beside the paper's, comparisons, and the sections of the other parts."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import measures, runs, stats
from analysis.mnist import claims, controls, shifted, transfer
from analysis.mnist.roles import Role
from analysis.mnist.run import MnistResults, load
from analysis.tables import Table, bounds, estimate, fixed, p_value, write_csv
from kdjax.files import write_whole

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
UNKNOWN = stats.Ratio(math.nan, math.nan, math.nan, 0)


class Comparison(NamedTuple):
    """A row's test errors less those of a baseline: paired by seed, each a mean over teachers."""

    against: str
    difference: stats.Difference
    p_holm: float
    """p, adjusted over all comparisons of its kind (Holm)."""

    @property
    def verdict(self) -> str:
        """In words; a difference by its own interval that is none among all comparisons is not called one."""
        alone = self.difference.differs and not self.p_holm <= 0.05
        return "not told apart over all comparisons" if alone else stats.difference_in_words(self.difference)


class TableRow(NamedTuple):
    """One line of the table."""

    name: str
    measures: dict[str, stats.Interval]
    """By column; `test_errors` first."""
    gap: stats.Ratio = UNKNOWN
    """Share of the gap between small net and teacher that is closed; nan where there is none."""
    paper: float = math.nan
    """The paper's test errors; nan where it has none."""
    verdict: str = ""
    """On the paper's errors; empty where there is none."""
    one_more: stats.Interval | None = None
    """Where one more run is expected (95 %), where there is a verdict."""
    comparisons: tuple[Comparison, ...] = ()

    def details(self) -> str:
        """The verdict with its numbers, for `table.csv`."""
        texts = [self.verdict + (f": one more run in {bounds(self.one_more)}" if self.one_more else "")] * bool(self.verdict)
        for against, less, p in self.comparisons:
            verdict = Comparison(against, less, p).verdict
            adjusted = "" if math.isnan(p) else f", p = {p_value(p)} (Holm)"
            texts.append(f"against {against}: {estimate(less, sign=True)} errors, {verdict}{adjusted}")
        return "; ".join(texts)


def write_summary(folder: Path) -> str:
    """Writes `summary.md` and `table.csv` of a table's run directory; returns the summary as text."""
    results = load(folder)
    rows = rows_of_table(results)
    forecast = "What an image costs, beside the errors: [forecast.md](forecast.md)."
    sections = [
        f"# The MNIST table on {results.identity['data']['description']}",
        f"For the full set: {results.hint}" if results.hint else "",
        _table(rows, results),
        _comparisons(rows),
        claims.section(results),
        transfer.section(results),
        controls.section(results),
        shifted.section(folder),
        forecast if (folder / "forecast.md").exists() else "",
    ]
    text = "\n\n".join(filter(None, sections)) + "\n"
    write_whole(folder / "summary.md", text)
    write_csv(folder / "table.csv", pd.DataFrame([_line(row) for row in rows]))
    return text


def rows_of_table(results: MnistResults) -> list[TableRow]:
    """Teacher, small net, distilled; then other soft weights, and what is better than plain targets."""
    teachers = pd.DataFrame([{f"test_{name}": value for name, value in one["test"].items()} for one in results.teachers])
    errors = teachers["test_errors"].to_numpy(float)
    teacher = TableRow(f"teacher{results.of_which_images}", _means(teachers))
    rows = [_with_verdict(teacher, errors, PAPER_TEACHER, results)]
    small = results.of(Role.SMALL)
    by_seed = small.set_index("seed")["test_errors"]
    if len(small):
        alone = TableRow(_named("small net alone", results.failed(Role.SMALL)), _means(small))
        rows.append(_with_verdict(alone, by_seed.to_numpy(float), PAPER_SMALL, results))
    distilled = results.of(Role.DISTILLED, soft_weight=results.soft_weight)
    if len(distilled):
        one = distilled["teacher"].nunique() == 1
        name = _distilled_name(results, results.soft_weight, one and len(results.teachers) > 1)
        row = _distilled(_named(name, results.failed(Role.DISTILLED)), distilled, by_seed)
        row = _with_verdict(row, grid(distilled), PAPER_DISTILLED, results)
        rows.append(row._replace(verdict=row.verdict + " (about this teacher)" * (one and bool(row.verdict))))
    return rows + _soft_weight_rows(results, by_seed) + _better_rows(results, by_seed)


def grid(of_row: pd.DataFrame, column: str = "test_errors") -> np.ndarray:
    """A column `[teachers, seeds]`, of the seeds that every teacher has; under one teacher `[runs]`.

    Where fewer than two seeds are complete, each teacher's mean is one draw: runs that share a teacher are not
    independent.
    """
    if of_row["teacher"].nunique() == 1:
        return of_row[column].to_numpy(np.float64)
    table = _complete(of_row).pivot_table(index="teacher", columns="seed", values=column, aggfunc="mean")
    crossed = table.shape[1] > 1 and not table.isna().any(axis=None)
    return np.asarray(table if crossed else table.mean(axis=1), np.float64)


def _complete(of_row: pd.DataFrame) -> pd.DataFrame:
    """The runs of those seeds that every teacher has; all of them where fewer than two seeds are complete."""
    complete = _under_all(of_row, of_row["teacher"].nunique())
    return complete if complete["seed"].nunique() > 1 else of_row


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
    one_more = None if verdict.startswith("no verdict") else stats.prediction_interval(errors)
    return row._replace(paper=float(paper), verdict=verdict, one_more=one_more)


def _named(name: str, failed: int) -> str:
    return name + (f" ({failed} failed runs left out)" if failed else "")


def _distilled_name(results: MnistResults, weight: float, of_the_first: bool) -> str:
    name = f"small net distilled, T = {results.identity['config']['temperature']:g}, soft weight {weight:g}"
    return name + (", first teacher" if of_the_first else "")


def _distilled(name: str, distilled: pd.DataFrame, small: pd.Series) -> TableRow:
    """A row with the share of the gap that it closes, about its teachers."""
    table, gap = measures.add("mnist", distilled), UNKNOWN
    means = {column: stats.interval_over(grid(table, column)) for column in measures.columns("mnist")}
    by_seed = _complete(distilled).groupby("seed")[["test_errors", "teacher_errors"]].mean()
    shared = by_seed.index.intersection(small.index)
    if len(shared):
        errors, alone = by_seed.loc[shared].to_numpy(float), small[shared].to_numpy(float)
        if alone.mean() > errors[:, 1].mean():  # no gap, no share of it
            gap = stats.gap_closed(alone, errors[:, 0], errors[:, 1])
    return TableRow(name, means, gap)


def _compare(of_row: pd.DataFrame, baselines: dict[str, pd.DataFrame]) -> tuple[Comparison, ...]:
    """A row against each baseline with which it shares seeds; p is not adjusted yet."""
    errors = of_row.groupby("seed")["test_errors"].mean()
    differences = {
        against: runs.paired(errors, rows.groupby("seed")["test_errors"].mean()) for against, rows in baselines.items()
    }
    return tuple(Comparison(against, less, less.p) for against, less in differences.items() if less)


def _adjusted(rows: list[TableRow]) -> list[TableRow]:
    """p, adjusted over the comparisons of all these rows (Holm)."""
    p = iter(stats.holm(np.array([one.p_holm for row in rows for one in row.comparisons], float)))
    return [
        row._replace(comparisons=tuple(one._replace(p_holm=float(next(p))) for one in row.comparisons)) for row in rows
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
    one_teacher = {"one teacher of such images, on them": results.of(Role.ELASTIC, objective="soft")}
    baselines = {
        Role.SHIFT_AVERAGED: plain,
        Role.JITTERED: plain | on_jittered,
        Role.ENSEMBLE: of_members,
        Role.ENSEMBLE_JITTERED: of_members | on_jittered,
        Role.ELASTIC: on_distorted,  # whose epochs, and by default whose teacher, are not those of plain targets
        Role.ENSEMBLE_ELASTIC: one_teacher | on_distorted,
    }
    for role, words in BETTER.items():
        of_role = results.of(role, objective="soft")
        if not len(of_role):
            continue
        name = words.format(members=members, epochs=int(of_role["epochs"].iloc[0]))
        row = _distilled(_named(name, results.failed(role, objective="soft")), of_role, small)
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


def _table(rows: list[TableRow], results: MnistResults) -> str:
    main, *columns = measures.columns("mnist")
    others = [measures.of_column("mnist", column) for column in columns]
    of_paper = results.of_paper
    header = ["", "paper", "test errors", "95 % interval", "n", *(measure.heading for measure in others)]
    header += ["gap closed", "95 % interval", *["one more run in"] * of_paper, "verdict"]
    cells = []
    for row in rows:
        mean = row.measures[main]
        cell = [row.name, "" if math.isnan(row.paper) else f"{row.paper:g}", fixed(mean.mean), bounds(mean), str(mean.n)]
        for column, measure in zip(columns, others, strict=True):
            cell.append(estimate(row.measures[column], measure.decimals) if column in row.measures else "")
        cell += ["" if math.isnan(row.gap.ratio) else fixed(row.gap.ratio, 2), bounds(row.gap, 2)]
        cell += [bounds(row.one_more) if row.one_more else ""] * of_paper
        verdicts = [row.verdict] if row.verdict else [comparison.verdict for comparison in row.comparisons]
        cells.append([*cell, "; ".join(verdicts)])
    notes = [
        "Last epoch; n: runs. With one teacher the intervals are over seeds, about this teacher; with several crossed "
        "with seeds they are over both.",
        "Gap closed: (small − distilled)/(small − teacher), paired by seed, the teachers taken as they are"
        + (f"; the paper's is {PAPER_GAP:.2f}." if of_paper else "."),
        "Teachers: " + ", ".join(f"{one['name']} ({one['test']['errors']} errors)" for one in results.teachers) + ".",
    ]
    if of_paper:
        notes.append("Reproduced: the paper's single run lies where 95 % of single runs of ours are expected.")
    plain = results.of(Role.DISTILLED, soft_weight=results.soft_weight)
    if len(plain):
        far, near = (plain[f"{split}_logit_rmse"].mean() for split in ("test", "transfer"))
        notes.append(
            f"Root mean square of centred logits, student less teacher: {far:.2f} on test images, {near:.2f} on the "
            "transfer set (the further apart the two, the less more epochs can help)."
        )
    return Table(header, cells, notes, left=1).markdown()


def _comparisons(rows: list[TableRow]) -> str:
    header = ["comparison of test errors", "against", "difference", "95 % interval", "n", "p (Holm)", "verdict"]
    cells = [
        [row.name, one.against, fixed(one.difference.mean, sign=True), bounds(one.difference, sign=True)]
        + [str(one.difference.n), p_value(one.p_holm), one.verdict]
        for row in rows
        for one in row.comparisons
    ]
    notes = [
        "Paired by seed, each a mean over teachers. p is adjusted over the soft weights, and over all other comparisons "
        "(Holm): a difference is called one where its interval excludes zero and that p is 0.05 at most."
    ]
    return "## Comparisons\n\n" + Table(header, cells, notes, left=2).markdown() if cells else ""


def _line(row: TableRow) -> dict[str, float | int | str]:
    """A row of `table.csv`: mean, low, high and n are those of the test errors."""
    main, *columns = measures.columns("mnist")
    mean, line = row.measures[main], dict[str, float | int | str]()
    line |= {"name": row.name, "paper": row.paper, "mean": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n}
    for column in columns:
        if column in row.measures:
            line |= {f"{column}{part}": value for part, value in zip(("", "_low", "_high"), row.measures[column], strict=False)}
    gap = {"gap": row.gap.ratio, "gap_low": row.gap.low, "gap_high": row.gap.high}
    return line | gap | {"verdict": row.details()}
