"""The MNIST table and what lies below it: rows beside the paper's, claims about temperature judged, controls, costs."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import claims_mnist, stats, tables
from analysis.answers_mnist import Answers, load
from analysis.tables import fixed, in_brackets, markdown, p_value, sweep_folder, with_range
from kdjax import metrics, records
from kdjax.files import write_whole

PAPER = {"teacher": 67, "small": 146, "distilled": 74}
"""Hinton et al. 2015, Section 3: test errors of single runs."""
PAPER_GAP = (146 - 74) / (146 - 67)
BETTER = {
    "shift-averaged": "targets averaged over shifts of ±2 px",
    "jittered": "transfer set jittered by ±2 px",
    "ensemble": "taught by an ensemble of {members} teachers",
    "ensemble, jittered": "the same, transfer set jittered by ±2 px",
    "elastic": "teacher and transfer set distorted anew at each step, {epochs} epochs",
}
"""Roles of the part `better`, in words."""


def write_summary(folder: Path) -> str:
    """Writes `summary.md` and `table.csv` of a table's run directory; returns the summary as text."""
    answers = load(folder)
    rows = rows_of_table(answers)
    sections = [
        _table(rows, answers),
        claims_mnist.section(answers),
        _transfer(answers),
        _controls(answers),
        _files(folder),
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
    rows = [_plain("teacher", "teacher", errors, answers)]
    small = answers.of("small").set_index("seed")["test_errors"]
    if len(small):
        rows.append(_plain(_named("small net alone", "small", answers), "small", small.to_numpy(float), answers))
    temperature = f"T = {answers.identity['config']['temperature']:g}"
    first, several = answers.soft_weight, len(answers.teachers) > 1
    for weight in answers.identity["config"]["soft_weights"]:
        runs = answers.of("distilled", soft_weight=weight)
        if len(runs):
            name = f"small net distilled, {temperature}, soft weight {weight:g}"
            name += ", first teacher" if several and runs["teacher"].nunique() == 1 else ""
            row = _distilled(_named(name, "distilled", answers) if weight == first else name, runs, small)
            if weight == first and answers.of_paper:
                about = " (about this teacher)" if runs["teacher"].nunique() == 1 else ""
                verdict = judged_as(grid(runs), PAPER["distilled"]) + about
                row = row._replace(paper=PAPER["distilled"], verdict=verdict)
            rows.append(row)
    return rows + _better_rows(answers, small)


def _better_rows(answers: Answers, small: pd.Series) -> list[Row]:
    """What is better than plain targets, each row against its baseline; p is adjusted over these comparisons (Holm)."""
    rows, compared = list[Row](), dict[int, tuple[str, stats.Difference]]()
    first = answers.soft_weight
    plain = answers.of("distilled", soft_weight=first, teacher=str(answers.teachers[0]["name"]))
    for role, said in BETTER.items():
        runs, alone = (answers.of(role, objective=objective) for objective in ("soft", "hard"))
        if not len(runs):
            continue
        name = said.format(members=len(answers.teachers), epochs=int(runs["epochs"].iloc[0]))
        row = _distilled(_named(name, role, answers), runs, small)
        # Where the images are others too, only students of the same images tell what the targets do.
        base, against = plain, f"the first teacher's plain targets at soft weight {first:g}"
        if len(alone):
            base, against = alone, "hard labels on those images"
        difference = _difference(runs, base)
        if difference is not None:
            compared[len(rows)] = against, difference
        rows.append(row)
        if role in ("ensemble", "elastic"):
            name = f"that ensemble of {len(answers.teachers)}" if role == "ensemble" else "that teacher"
            rows.append(_beside(name, runs["teacher_errors"].to_numpy(float)[:1]))
        if len(alone):
            rows.append(_beside("hard labels on those images", alone["test_errors"].to_numpy(float)))
    adjusted = stats.holm(np.array([difference.p for _, difference in compared.values()]))
    for (place, (against, difference)), p in zip(compared.items(), adjusted, strict=True):
        verdict = f"against {against}: {with_range(*difference[:3], sign=True)} errors, "
        verdict += stats.difference_in_words(difference) + ("" if math.isnan(p) else f", p = {p_value(p)} (Holm)")
        rows[place] = rows[place]._replace(verdict=verdict)
    return rows


def grid(runs: pd.DataFrame) -> np.ndarray:
    """Test errors `[teachers, seeds]` where every teacher has every seed; else, and with one of either, `[runs]`."""
    table = runs.pivot_table(index="teacher", columns="seed", values="test_errors", aggfunc="mean")
    whole = not table.isna().any(axis=None) and min(table.shape) > 1
    return np.asarray(table if whole else runs["test_errors"], np.float64)


def judged_as(errors: np.ndarray, paper: float) -> str:
    """Whether the paper's single run could be one of ours, with the interval that says so."""
    found = stats.prediction_interval(errors)
    word = stats.reproduced(errors, paper)
    return word if word.startswith("not judged") else f"{word}: one more run in {in_brackets(found.low, found.high)}"


def _named(name: str, role: str, answers: Answers) -> str:
    failed = answers.failed(role)
    return name + (f" ({failed} failed runs left out)" if failed else "")


def _plain(name: str, role: str, errors: np.ndarray, answers: Answers) -> Row:
    row = _beside(name, errors)
    return row._replace(paper=PAPER[role], verdict=judged_as(errors, PAPER[role])) if answers.of_paper else row


def _difference(runs: pd.DataFrame, base: pd.DataFrame) -> stats.Difference | None:
    mine, other = (rows.set_index("seed")["test_errors"] for rows in (runs, base))
    shared = mine.index.intersection(other.index)
    if not len(shared):
        return None
    return stats.paired_difference(mine[shared].to_numpy(float), other[shared].to_numpy(float))


def _beside(name: str, errors: np.ndarray) -> Row:
    found, unknown = stats.interval(errors), math.nan
    return Row(name, unknown, *found[:3], found.n, unknown, unknown, unknown, "")


def _distilled(name: str, runs: pd.DataFrame, small: pd.Series) -> Row:
    unknown = math.nan
    found = stats.interval_over(grid(runs))
    gap = stats.Ratio(unknown, unknown, unknown, 0)
    by_seed = runs.groupby("seed")[["test_errors", "teacher_errors"]].mean()  # about these teachers
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
    notes = ["As many steps on every transfer set; the teacher learnt from all images. Paired by seed."]
    return "## Fewer images in the transfer set\n\n" + markdown(header, cells, notes, left=1)


def transfer_pairs(answers: Answers) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Images of a transfer set → test errors of soft targets and of hard labels, paired by seed."""
    pairs = {}
    for run, rows in answers.of("transfer").groupby("run"):
        identity = records.read_json(sweep_folder(answers.folder, str(run)) / "config.json")["identity"]
        images = identity["config"].get("transfer_images") or identity["data"]["train_images"]
        soft, hard = (rows[rows["objective"] == kind].set_index("seed")["test_errors"] for kind in ("soft", "hard"))
        shared = soft.index.intersection(hard.index)
        pairs[int(images)] = soft[shared].to_numpy(float), hard[shared].to_numpy(float)
    return dict(sorted(pairs.items()))


def _controls(answers: Answers) -> str:
    held = answers.of("held out")
    if not len(held):
        return ""
    hard = held[held["objective"] == "hard"]
    everything = answers.results[answers.results["role"] == "label smoothing"]  # a failed run counts against a setting
    smooth = tables.tuned(everything, by=["width"])
    named = {
        "hard labels": hard,
        "distilled": held[held["objective"] == "soft"],
        **(
            {f"label smoothing by {smooth['soft_weight'].iloc[0]:g} (chosen on the hold-out)": smooth}
            if len(smooth)
            else {}
        ),
        "self-distillation (the small net's own kind teaches)": answers.of("self-distillation"),
        "hard labels, temperature-scaled on the hold-out": temperature_scaled(answers, hard),
        **{f"control: {what}": answers.of(role) for role, what in tables.CONTROLS.items()},
    }
    header = ["", "test errors", "95 % interval", "NLL", "ECE (%)", "n"]
    cells = []
    for name, rows in named.items():
        if len(rows):
            found = stats.interval(rows["test_errors"].to_numpy(float))
            nll, ece = rows["test_nll"].mean(), 100 * rows["test_ece"].mean()
            cells.append(
                [
                    name,
                    f"{found.mean:.1f}",
                    in_brackets(found.low, found.high),
                    f"{nll:.4f}",
                    f"{ece:.2f}",
                    str(found.n),
                ]
            )
    notes = ["Training images are held out from teachers and students alike. NLL in nats; ECE of 15 bins."]
    soft = named["distilled"]
    if len(soft):
        at = f"T = {tables.number(soft['temperature'].iloc[0])}, soft weight {soft['soft_weight'].iloc[0]:g}"
        notes.append(
            f"Distilled, self-distillation and each control: {at}. Label smoothing is all classes alike at T = 1."
        )
    if missing := [what for role, what in tables.CONTROLS.items() if not len(answers.of(role))]:
        notes.append(f"Not made, or failed: {', '.join(missing)}. The experiment's command makes what is missing.")
    return "## Controls\n\n" + markdown(header, cells, notes, left=1)


def temperature_scaled(answers: Answers, hard: pd.DataFrame) -> pd.DataFrame:
    """Each hard-label run with its logits divided by the temperature that suits the hold-out (Guo et al. 2017)."""
    import scipy

    rows = []
    for _, row in hard.iterrows():
        student = tables.trained(answers.folder, row)
        held, tested = student.kept("holdout"), student.kept("test")
        with np.load(sweep_folder(answers.folder, row["run"]) / "test.npz") as arrays:
            known, labels = arrays["holdout_labels"], arrays["labels"]
        fitted = scipy.optimize.minimize_scalar(
            lambda log_t, held=held, known=known: metrics.nll(held / np.exp(log_t), known),
            bounds=(-3, 3),
            method="bounded",
        )
        judged = metrics.judge(tested / np.exp(fitted.x), labels)
        rows.append({**row, **{f"test_{name}": value for name, value in judged.items()}})
    return pd.DataFrame(rows)


def _files(folder: Path) -> str:
    """Sections that other files hold ready: shifted test images, costs."""
    return "\n\n".join(
        path.read_text().strip() for name in ("shifted.md", "cost.md") if (path := folder / name).exists()
    )
