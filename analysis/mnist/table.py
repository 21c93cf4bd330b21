"""The MNIST table and its summary: rows beside the paper's, fewer images, and sections that its neighbours write."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import stats, tables
from analysis.mnist import claims, controls, shifted
from analysis.mnist.run import Answers, load
from analysis.tables import fixed, in_brackets, markdown, p_value, sweep_folder, with_range
from kdjax import run_directory
from kdjax.files import write_whole

PAPER = {"teacher": 67, "small": 146, "distilled": 74}
"""Hinton et al. 2015, Section 3: test errors of single runs."""
PAPER_GAP = (146 - 74) / (146 - 67)
BETTER = {
    "shift-averaged": "targets averaged over shifts of ±2 px",
    "jittered": "transfer set jittered by ±2 px",
    "ensemble": "taught by an ensemble of {members} teachers",
    "ensemble, jittered": "taught by an ensemble of {members} teachers, transfer set jittered by ±2 px",
    "elastic": "teacher without dropout, it and the transfer set elastically distorted, {epochs} epochs",
    "ensemble, elastic": "taught by an ensemble of {members} teachers, transfer set elastically distorted, "
    "{epochs} epochs",
}
"""Roles of the part `better`, in words."""


def write_summary(folder: Path) -> str:
    """Writes `summary.md` and `table.csv` of a table's run directory; returns the summary as text."""
    answers = load(folder)
    rows = rows_of_table(answers)
    sections = [
        _table(rows, answers),
        claims.section(answers),
        _transfer(answers),
        controls.section(answers),
        shifted.section(folder),
        "What an image costs, beside the errors: [forecast.md](forecast.md)."
        if (folder / "forecast.md").exists()
        else "",
    ]
    title = f"# The MNIST table on {answers.identity['data']['description']}"
    hint = f"\n\nFor the full set: {answers.hint}" if answers.hint else ""
    text = "\n\n".join([title + hint, *filter(None, sections)]) + "\n"
    write_whole(folder / "summary.md", text)
    frame = pd.DataFrame([row._asdict() for row in rows])
    write_whole(folder / "table.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return text


class Row(NamedTuple):
    """One line of the table: test errors."""

    name: str
    paper: float
    """nan where the paper has none."""
    mean: float
    low: float
    high: float
    n: int
    gap: float
    """Share of the gap between small net and teacher that is closed; nan where it makes no sense."""
    gap_low: float
    gap_high: float
    verdict: str


def rows_of_table(answers: Answers) -> list[Row]:
    """Teacher, small net, distilled; then the distilled net's sensitivity to the soft weight, and what is better."""
    errors = np.array([teacher["test"]["errors"] for teacher in answers.teachers], float)
    rows = [_plain(f"teacher{answers.of_which_images}", "teacher", errors, answers)]
    small = answers.of("small").set_index("seed")["test_errors"]
    if len(small):
        rows.append(_plain(_named("small net alone", "small", answers), "small", small.to_numpy(float), answers))
    runs = answers.of("distilled", soft_weight=answers.soft_weight)
    several = len(answers.teachers) > 1
    if len(runs):
        name = _distilled_name(answers, answers.soft_weight, several and runs["teacher"].nunique() == 1)
        row = _distilled(_named(name, "distilled", answers), runs, small)
        if answers.of_paper:
            about = " (about this teacher)" if runs["teacher"].nunique() == 1 else ""
            verdict = judged_as(grid(runs), PAPER["distilled"]) + about
            row = row._replace(paper=PAPER["distilled"], verdict=verdict)
        rows.append(row)
    return rows + _sensitivity_rows(answers, small) + _better_rows(answers, small)


def _distilled_name(answers: Answers, weight: float, of_the_first: bool) -> str:
    name = f"small net distilled, T = {answers.identity['config']['temperature']:g}, soft weight {weight:g}"
    return name + (", first teacher" if of_the_first else "")


def _sensitivity_rows(answers: Answers, small: pd.Series) -> list[Row]:
    """The other soft weights under the first teacher, each against the table's own."""
    rows, compared = list[Row](), list[_Compared]()
    base = _of_first_teacher(answers)
    for weight in answers.identity["config"]["soft_weights"][1:]:
        runs = answers.of("other soft weights", soft_weight=weight)
        if len(runs):
            compared += _compare(len(rows), f"soft weight {answers.soft_weight:g}", runs, base)
            name = _distilled_name(answers, weight, len(answers.teachers) > 1)
            rows.append(_distilled(_named(name, "other soft weights", answers, soft_weight=weight), runs, small))
    return _judged(rows, compared)


def _of_first_teacher(answers: Answers) -> pd.DataFrame:
    return answers.of("distilled", soft_weight=answers.soft_weight, teacher=str(answers.teachers[0]["name"]))


def _better_rows(answers: Answers, small: pd.Series) -> list[Row]:
    """What is better than plain targets, each row against its baselines."""
    rows, compared = list[Row](), list[_Compared]()
    everyone = _under_all(answers.of("distilled", soft_weight=answers.soft_weight), len(answers.teachers))
    crossed = len(answers.teachers) > 1 and len(everyone) > 0
    first = ("the first teacher's plain targets", _of_first_teacher(answers))
    of_members = ("the plain targets of its members, their mean", everyone) if crossed else first
    distorted, of_distorted = (answers.of("elastic", objective=objective) for objective in ("hard", "soft"))
    # Where the images are others too, only students of the same images tell what the targets do.
    on_jittered, on_distorted = (("hard labels on those images", of) for of in (answers.of("hard jittered"), distorted))
    baselines = {
        "shift-averaged": [first],
        "jittered": [first, on_jittered],
        "ensemble": [of_members],
        "ensemble, jittered": [of_members, on_jittered],
        "elastic": [on_distorted],  # whose epochs, and by default whose teacher, are not those of plain targets
        "ensemble, elastic": [("one teacher of such images, on them", of_distorted), on_distorted],
    }
    for role, said in BETTER.items():
        runs = answers.of(role, objective="soft")
        if not len(runs):
            continue
        place, name = len(rows), said.format(members=len(answers.teachers), epochs=int(runs["epochs"].iloc[0]))
        rows.append(_distilled(_named(name, role, answers, objective="soft"), runs, small))
        for against, base in baselines[role]:
            compared += _compare(place, against, runs, base)
        known = str(runs["teacher"].iloc[0]) in {str(one["name"]) for one in answers.teachers}
        if role == "ensemble" or (role == "elastic" and not known):
            name = f"that ensemble of {len(answers.teachers)}" if role == "ensemble" else "that teacher"
            rows.append(_beside(name, runs["teacher_errors"].to_numpy(float)[:1]))
        if role == "jittered" and len(on_jittered[1]):
            rows.append(_beside("hard labels, images jittered likewise", on_jittered[1]["test_errors"].to_numpy(float)))
        if role == "elastic" and len(distorted):
            rows.append(_beside("hard labels on those images", distorted["test_errors"].to_numpy(float)))
    return _judged(rows, compared)


class _Compared(NamedTuple):
    """One difference that a row's verdict speaks of."""

    place: int
    """The row's."""
    against: str
    difference: stats.Difference


def _compare(place: int, against: str, runs: pd.DataFrame, base: pd.DataFrame) -> list[_Compared]:
    """Paired by seed, each a mean over teachers; none where no seed is shared."""
    mine, other = (rows.groupby("seed")["test_errors"].mean() for rows in (runs, base))
    shared = mine.index.intersection(other.index)
    if not len(shared):
        return []
    return [
        _Compared(place, against, stats.paired_difference(mine[shared].to_numpy(float), other[shared].to_numpy(float)))
    ]


def _judged(rows: list[Row], compared: list[_Compared]) -> list[Row]:
    """The rows with their verdicts; p is adjusted over all these comparisons (Holm)."""
    adjusted = stats.holm(np.array([one.difference.p for one in compared]))
    verdicts: dict[int, list[str]] = {}
    for (place, against, difference), p in zip(compared, adjusted, strict=True):
        verdict = f"against {against}: {with_range(*difference[:3], sign=True)} errors, "
        alone = difference.differs and not p <= 0.05  # by its own interval, and not among all that are compared
        verdict += "not told apart over all comparisons" if alone else stats.difference_in_words(difference)
        verdict += "" if math.isnan(p) else f", p = {p_value(p)} (Holm)"
        verdicts.setdefault(place, []).append(verdict)
    return [row._replace(verdict="; ".join(verdicts.get(place, []))) for place, row in enumerate(rows)]


def grid(runs: pd.DataFrame) -> np.ndarray:
    """Test errors `[teachers, seeds]`, of the seeds that every teacher has; under one teacher `[runs]`.

    Where no two seeds are complete, each teacher's mean is one draw: runs that share a teacher are not independent.
    """
    if runs["teacher"].nunique() == 1:
        return runs["test_errors"].to_numpy(np.float64)
    table = complete(runs).pivot_table(index="teacher", columns="seed", values="test_errors", aggfunc="mean")
    crossed = table.shape[1] > 1 and not table.isna().any(axis=None)
    return np.asarray(table if crossed else table.mean(axis=1), np.float64)


def complete(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of those seeds that every teacher has; all of them where fewer than two seeds are."""
    found = _under_all(runs, runs["teacher"].nunique())
    return found if found["seed"].nunique() > 1 else runs


def _under_all(runs: pd.DataFrame, teachers: int) -> pd.DataFrame:
    """The runs of those seeds that so many teachers have."""
    return runs[runs.groupby("seed")["teacher"].transform("nunique") == teachers]


def judged_as(errors: np.ndarray, paper: float) -> str:
    """Whether the paper's single run could be one of ours, with the interval that says so."""
    found = stats.prediction_interval(errors)
    word = stats.reproduced(errors, paper)
    return word if word.startswith("not judged") else f"{word}: one more run in {in_brackets(found.low, found.high)}"


def _named(name: str, role: str, answers: Answers, **where: float | str) -> str:
    failed = answers.failed(role, **where)
    return name + (f" ({failed} failed runs left out)" if failed else "")


def _plain(name: str, role: str, errors: np.ndarray, answers: Answers) -> Row:
    row = _beside(name, errors)
    return row._replace(paper=PAPER[role], verdict=judged_as(errors, PAPER[role])) if answers.of_paper else row


def _beside(name: str, errors: np.ndarray) -> Row:
    found, unknown = stats.interval(errors), math.nan
    return Row(name, unknown, *found[:3], found.n, unknown, unknown, unknown, "")


def _distilled(name: str, runs: pd.DataFrame, small: pd.Series) -> Row:
    unknown = math.nan
    found = stats.interval_over(grid(runs))
    gap = stats.Ratio(unknown, unknown, unknown, 0)
    by_seed = complete(runs).groupby("seed")[["test_errors", "teacher_errors"]].mean()  # about these teachers
    shared = by_seed.index.intersection(small.index)
    if len(shared):
        mine, alone = by_seed.loc[shared].to_numpy(float), small[shared].to_numpy(float)
        if alone.mean() > mine[:, 1].mean():  # no gap, no share of it
            gap = stats.gap_closed(alone, mine[:, 0], mine[:, 1])
    return Row(name, unknown, *found[:3], found.n, gap.ratio, gap.low, gap.high, "")


def _table(rows: list[Row], answers: Answers) -> str:
    header = ["", "paper", "test errors", "95 % interval", "n", "gap closed", "95 % interval", ""]
    cells = []
    for row in rows:
        paper = "" if math.isnan(row.paper) else f"{row.paper:g}"
        gap = "" if math.isnan(row.gap) else f"{row.gap:.2f}"
        bounds = "" if math.isnan(row.gap_low) else f"[{row.gap_low:.2f}, {row.gap_high:.2f}]"
        errors = [f"{row.mean:.1f}", in_brackets(row.low, row.high), str(row.n)]
        cells.append([row.name, paper, *errors, gap, bounds, row.verdict])
    notes = [
        "Last epoch; n: runs. With one teacher the intervals are over seeds, about this teacher; with several crossed "
        "with seeds they are over both.",
        "Gap closed: (small − distilled)/(small − teacher), paired by seed, the teachers taken as they are"
        + (f"; the paper's is {PAPER_GAP:.2f}." if answers.of_paper else "."),
        "Teachers: " + ", ".join(f"{one['name']} ({one['test']['errors']} errors)" for one in answers.teachers) + ".",
    ]
    if answers.of_paper:
        notes.append("Reproduced: the paper's single run lies where 95 % of single runs of ours are expected.")
    plain = answers.of("distilled", soft_weight=answers.soft_weight)
    if len(plain):
        far, near = (plain[f"{split}_logit_rmse"].mean() for split in ("test", "transfer"))
        notes.append(
            f"Root mean square of centred logits, student less teacher: {far:.2f} on test images, {near:.2f} on the "
            "transfer set (the further apart the two, the less more epochs can help)."
        )
    return markdown(header, cells, notes, left=1)


def _transfer(answers: Answers) -> str:
    rows = answers.of("transfer")
    if not len(rows):
        return ""
    header = [
        "images",
        "hard labels",
        "95 % interval",
        "soft targets",
        "95 % interval",
        "difference",
        "95 % interval",
        "n",
    ]
    cells = []
    for images, pair in transfer_pairs(answers).items():
        soft, hard = pair
        found, base, difference = stats.interval(soft), stats.interval(hard), stats.paired_difference(soft, hard)
        cells.append(
            [
                f"{images:,}",
                f"{base.mean:.1f}",
                in_brackets(base.low, base.high),
                f"{found.mean:.1f}",
                in_brackets(found.low, found.high),
                fixed(difference.mean, sign=True),
                in_brackets(difference.low, difference.high, sign=True),
                str(difference.n),
            ]
        )
    temperature = tables.number(answers.identity["config"]["temperature"])
    notes = [
        f"T = {temperature}, soft weight {answers.soft_weight:g}; as many steps on every transfer set. The teacher "
        "learnt from all images.",
        "Differences, soft less hard, are paired by seed: one is called so where its interval excludes zero.",
    ]
    return "## Fewer images in the transfer set\n\n" + markdown(header, cells, notes, left=1)


def transfer_pairs(answers: Answers) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Images of a transfer set → test errors of soft targets and of hard labels, paired by seed."""
    pairs = {}
    for run, rows in answers.of("transfer").groupby("run"):
        identity = run_directory.read_json(sweep_folder(answers.folder, str(run)) / "config.json")["identity"]
        images = identity["config"].get("transfer_images") or identity["data"]["train_images"]
        soft, hard = (rows[rows["objective"] == kind].set_index("seed")["test_errors"] for kind in ("soft", "hard"))
        shared = soft.index.intersection(hard.index)
        pairs[int(images)] = soft[shared].to_numpy(float), hard[shared].to_numpy(float)
    return dict(sorted(pairs.items()))
