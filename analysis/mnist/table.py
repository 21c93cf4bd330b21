"""The summary of an MNIST table: its rows, their comparisons, and the sections of the other parts."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import crossed, measures, runs, stats
from analysis.mnist import claims, controls, shifted, transfer, widths_table
from analysis.mnist.roles import Role
from analysis.mnist.rows import PAPER_GAP, TableRow, rows_of_table
from analysis.mnist.run import MnistResults, load
from analysis.tables import Table, bounds, columns_of, estimate, p_value, with_bounds
from kdjax import run_directory
from kdjax.files import write_csv, write_whole
from kdjax.run_folders import sweep_folder


def write_summary(folder: Path) -> str:
    """Writes `summary.md`, `table.csv` and `widths.csv` of a table's run directory; returns the former."""
    results = load(folder)
    rows = rows_of_table(results)
    described = results.identity["data"]["description"]
    cost = "What an image costs, beside the errors: [cost.md](cost.md)."
    sections = [
        ", ".join(filter(None, [f"# The MNIST table on {described}", run_directory.progress(folder)])),
        f"**{said}**" if (said := claims.of_table(rows, results)) else "",
        *(f"Warning: {caution}" for caution in _cautions(rows, results)),
        f"For the full set: {results.hint}" if results.hint else "",
        _table(rows, results),
        _comparisons(rows),
        widths_table.section(results),
        transfer.section(results),
        controls.section(results),
        shifted.section(folder),
        cost if (folder / "cost.md").exists() else "",
    ]
    text = "\n\n".join(filter(None, sections)) + "\n"
    write_whole(folder / "summary.md", text)
    write_csv(folder / "table.csv", pd.DataFrame([_line(row) for row in rows]), digits=6)
    of_widths = widths_table.frame(results)
    if len(of_widths):
        write_csv(folder / "widths.csv", of_widths, digits=6)
    return text


def _table(rows: list[TableRow], results: MnistResults) -> str:
    main, *columns = measures.columns("mnist")
    others = [measures.of_column("mnist", column) for column in columns]
    of_paper = results.of_paper
    header = ["", "paper", "test errors", "n", "gap closed", "verdict", *["one more run in"] * of_paper]
    header += [measure.heading for measure in others]
    cells = []
    for row in rows:
        mean = row.measures[main]
        cell = [row.name, "" if math.isnan(row.paper) else f"{row.paper:g}", estimate(mean), str(mean.n)]
        gap = "" if math.isnan(row.gap.ratio) else with_bounds(*row.gap[:3], 2)
        verdicts = [row.verdict] if row.verdict else [comparison.verdict for comparison in row.comparisons]
        cell += [gap, "; ".join(dict.fromkeys(verdicts))]
        cell += [bounds(row.one_more) if row.one_more else ""] * of_paper
        for column, measure in zip(columns, others, strict=True):
            cell.append(estimate(row.measures[column], measure.decimals) if column in row.measures else "")
        cells.append(cell)
    plain = results.of(Role.DISTILLED, soft_weight=results.soft_weight)
    notes = [
        "Last epoch; n: runs. With one teacher the 95 % intervals are over seeds, about this teacher; with several "
        "crossed with seeds they are over both.",
        *crossed.few_draws(plain["teacher"].nunique(), plain["seed"].nunique()),
        "Gap closed: (small − distilled)/(small − teacher), paired by seed, its interval as that of the errors"
        + (f"; the paper's is {PAPER_GAP:.2f}." if of_paper else "."),
        "Teachers: " + ", ".join(f"{one['name']} ({one['test']['errors']} errors)" for one in results.teachers) + ".",
    ]
    if of_paper:
        notes.append(
            "Reproduced: the paper's single run lies where 95 % of single runs of ours are expected. Where these reach "
            f"further from their mean than {100 * stats.WIDEST:g} % of the paper's errors: compatible, and no more."
        )
    notes += _images_note(results, plain)
    if len(plain):
        far, near = (plain[f"{split}_logit_rmse"].mean() for split in ("test", "transfer"))
        notes.append(
            f"Root mean square of centred logits, student minus teacher: {far:.2f} on test images, {near:.2f} on the "
            "transfer set (the further apart the two, the less more epochs can help)."
        )
    return Table(header, cells, notes, left=1).markdown()


def _cautions(rows: list[TableRow], results: MnistResults) -> list[str]:
    main = measures.columns("mnist")[0]
    of_rows = results.results[results.results["role"].isin([Role.SMALL, Role.DISTILLED])]  # others have other seeds
    return stats.cautions(int(of_rows["seed"].nunique()), [row.measures[main] for row in rows], results.test_images)


def _images_note(results: MnistResults, distilled: pd.DataFrame) -> list[str]:
    """The difference of distilled from small nets, over seeds and over images; none where either is missing."""
    small = results.of(Role.SMALL).set_index("seed")
    paired = distilled[distilled["seed"].isin(small.index)].reset_index(drop=True)
    alone = small.loc[paired["seed"]].reset_index()
    wrong = dict[tuple[str, ...], np.ndarray]()
    for run in {*paired["run"], *alone["run"]}:
        wrong |= runs.wrong_answers(sweep_folder(results.folder, run))
    images = runs.over_images(wrong, paired, alone)
    errors = paired.assign(alone=alone["test_errors"]).set_index(runs.RUN)
    seeds = runs.paired(errors["test_errors"], errors["alone"])
    if images is None or seeds is None:
        return []
    return [
        f"Distilled minus small net: {estimate(seeds, sign=True)} on these test images; the interval of these networks "
        f"over images like them is {bounds(images, sign=True)}."
    ]


def _comparisons(rows: list[TableRow]) -> str:
    header = ["comparison of test errors", "against", "difference", "verdict", "p (Holm)", "n"]
    cells = []
    for row in rows:
        for one in row.comparisons:
            words = [one.against, estimate(one.difference, sign=True), one.verdict]
            cells.append([row.name, *words, p_value(one.p_holm), str(one.difference.n)])
    notes = [
        "Paired by seed, each a mean over teachers, with 95 % intervals. p is adjusted over the soft weights, and over "
        "the other rows (Holm): a difference is called one where that p is 0.05 at most, or where all of these "
        "intervals lie on one side of zero."
    ]
    return "## Comparisons\n\n" + Table(header, cells, notes, left=2).markdown() if cells else ""


def _line(row: TableRow) -> dict[str, float | int | str]:
    """A row of `table.csv`: mean, low, high and n are those of the test errors."""
    main, *columns = measures.columns("mnist")
    mean, line = row.measures[main], dict[str, float | int | str]()
    line |= {"name": row.name, "paper": row.paper, "mean": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n}
    for column in columns:
        if column in row.measures:
            line |= columns_of(column, row.measures[column])
    gap = {"gap": row.gap.ratio, "gap_low": row.gap.low, "gap_high": row.gap.high}
    return line | gap | {"verdict": row.details()}
