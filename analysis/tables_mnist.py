"""The MNIST table and what lies below it: rows beside the paper's, claims about temperature judged, controls, costs."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import stats, tables
from kdjax import metrics, records
from kdjax.config import require
from kdjax.files import write_whole

PAPER = {"teacher": 67, "small": 146, "distilled": 74}
"""Hinton et al. 2015, Section 3: test errors of single runs."""
PAPER_GAP = (146 - 74) / (146 - 67)
MARGIN = 7
"""Test errors of 10,000: differences below it count as alike; a tenth of what distillation gains in the paper."""
HIGH = 8.0
"""Temperatures from here on are those that the paper calls alike for 300 units and more."""
NARROW, BEST = 30, (2.5, 4.0)
"""Units, and the temperatures that the paper calls best for them."""
BETTER = {
    "shift-averaged": "targets averaged over shifts of ±2 px",
    "jittered": "transfer set jittered by ±2 px",
    "ensemble": "taught by an ensemble of {members} teachers",
    "ensemble, jittered": "the same, transfer set jittered by ±2 px",
}
"""Roles of the part `better`, in words."""


class Answers(NamedTuple):
    """What the sweeps of a table answered."""

    folder: Path
    identity: dict[str, Any]
    teachers: list[dict[str, Any]]
    """name, folder and test measures of each."""
    results: pd.DataFrame
    """The rows of all sweeps, with the columns part, role, run (its folder's name) and teacher_errors."""
    hint: str | None

    def of(self, role: str, **where: Any) -> pd.DataFrame:
        """The finished runs of a role, with the given values in the given columns."""
        rows = tables.finished(self.results[self.results["role"] == role])
        for column, value in where.items():
            rows = rows[rows[column] == value]
        return rows

    @property
    def soft_weight(self) -> float:
        """That of the table's row."""
        return float(self.identity["config"]["soft_weights"][0])

    @property
    def test_images(self) -> int:
        """Images of the test set."""
        return int(self.identity["data"]["test_images"])


def load(folder: Path) -> Answers:
    """Reads a table's run directory and the sweeps that it names.

    Raises:
        BadInput: it is none, or one of its sweeps is not there, or damaged.
    """
    require(folder.is_dir(), f"{folder} is no folder: name a run directory, or leave it out for the newest one")
    config = records.read_json(folder / "config.json")
    identity, details = config.get("identity", {}), config.get("details", {})
    require(
        identity.get("experiment") == "mnist_table" and "answers" in details,
        f"{folder} is no finished run of mnist_table: give the experiment's command again",
    )
    parts = []
    for answer in details["answers"]:
        of_sweep = folder.parent.parent / "temperature_sweep" / answer["run"]
        known = records.read_json(of_sweep / "config.json")["details"]["teachers"]
        errors = {str(teacher["name"]): teacher["test_errors"] for teacher in known}
        rows = tables.read(of_sweep)
        parts.append(rows.assign(**answer, teacher_errors=rows["teacher"].map(errors)))
    results = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["role", "part", "failed_at"])
    return Answers(folder, identity, details["teachers"], results, details.get("hint"))


def write_summary(folder: Path) -> str:
    """Writes `summary.md` and `table.csv` of a table's run directory; returns the summary as text."""
    answers = load(folder)
    rows = rows_of_table(answers)
    sections = [_table(rows, answers), _widths(answers), _transfer(answers), _controls(answers), _files(folder)]
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
    errors = np.array([teacher["test"]["errors"] for teacher in answers.teachers])
    rows = [_plain("teacher", PAPER["teacher"], errors, answers)]
    small = answers.of("small").set_index("seed")["test_errors"]
    if len(small):
        rows.append(_plain("small net alone", PAPER["small"], small.to_numpy(), answers))
    temperature = f"T = {answers.identity['config']['temperature']:g}"
    first = answers.soft_weight
    for weight in answers.identity["config"]["soft_weights"]:
        runs = answers.of("distilled", soft_weight=weight)
        if len(runs):
            name = f"small net distilled, {temperature}, soft weight {weight:g}"
            rows.append(_distilled(name, runs, small, answers, weight == first))
    members = len(answers.teachers)
    plain = answers.of("distilled", soft_weight=1.0, teacher=str(answers.teachers[0]["name"])).set_index("seed")
    for role, said in BETTER.items():
        runs = answers.of(role)
        if not len(runs):
            continue
        row = _distilled(said.format(members=members), runs, small, answers, False)
        shared = runs.set_index("seed").index.intersection(plain.index)
        if len(shared):
            found = stats.paired_difference(
                runs.set_index("seed")["test_errors"][shared].to_numpy(float),
                plain["test_errors"][shared].to_numpy(float),
            )
            said = (
                f"{stats.difference_in_words(found)} than plain at soft weight 1: {_within_brackets(found, sign=True)}"
            )
            row = row._replace(verdict=said)
        rows.append(row)
        if role == "ensemble":
            own = float(runs["teacher_errors"].iloc[0])
            unknown = math.nan
            rows.append(
                Row(f"that ensemble of {members}", unknown, own, unknown, unknown, 1, unknown, unknown, unknown, "")
            )
    return rows


def _plain(name: str, paper: float, errors: np.ndarray, answers: Answers) -> Row:
    found = stats.interval(errors.astype(float))
    verdict = stats.reproduced(errors.astype(float), paper) if _is_mnist(answers) else ""
    return Row(name, paper, *found[:3], found.n, math.nan, math.nan, math.nan, verdict)


def _distilled(name: str, runs: pd.DataFrame, small: pd.Series, answers: Answers, of_paper: bool) -> Row:
    found = tables.mean_over_runs(runs.set_index(tables.RUN)["test_errors"])
    gap = stats.Ratio(math.nan, math.nan, math.nan, 0)
    by_seed = runs.groupby("seed")[["test_errors", "teacher_errors"]].mean()  # about these teachers
    shared = by_seed.index.intersection(small.index)
    if len(shared):
        mine = by_seed.loc[shared].to_numpy(float)
        gap = stats.gap_closed(small[shared].to_numpy(float), mine[:, 0], mine[:, 1])
    paper = PAPER["distilled"] if of_paper else math.nan
    verdict = ""
    if of_paper and _is_mnist(answers):
        verdict = stats.reproduced(runs["test_errors"].to_numpy(float), paper)
    return Row(name, paper, *found[:3], found.n, gap.ratio, gap.low, gap.high, verdict)


def _is_mnist(answers: Answers) -> bool:
    return bool(answers.identity["data"]["name"] == "mnist")


def _table(rows: list[Row], answers: Answers) -> str:
    header = ["", "paper", "test errors", "95 % interval", "n", "gap closed", "95 % interval", ""]
    cells = []
    for row in rows:
        paper = "" if math.isnan(row.paper) or not _is_mnist(answers) else f"{row.paper:g}"
        gap = "" if math.isnan(row.gap) else f"{row.gap:.2f}"
        bounds = "" if math.isnan(row.gap_low) else f"[{row.gap_low:.2f}, {row.gap_high:.2f}]"
        cells.append(
            [row.name, paper, f"{row.mean:.1f}", in_brackets(row.low, row.high), str(row.n), gap, bounds, row.verdict]
        )
    notes = [
        "Last epoch; n: runs (teachers × seeds). Intervals over seeds are about the teachers named; with several "
        "teachers they are over both.",
        f"Gap closed: (small − distilled)/(small − teacher), paired by seed; the paper's is {PAPER_GAP:.2f}.",
        "Reproduced: the paper's single run lies in our 95 % prediction interval for one more run.",
        "Teachers: " + ", ".join(f"{one['name']} ({one['test']['errors']} errors)" for one in answers.teachers) + ".",
    ]
    plain = answers.of("distilled", soft_weight=1.0)
    if len(plain):
        far, near = (plain[f"{split}_logit_rmse"].mean() for split in ("test", "transfer"))
        notes.append(
            f"Root mean square of centred logits, student less teacher (soft weight 1): {far:.2f} on test images, "
            f"{near:.2f} on the transfer set: "
            + (
                "the fit to the transfer set is not what limits the student."
                if far > 1.5 * near
                else "more epochs can still help."
            )
        )
    return markdown(header, cells, notes)


class Judged(NamedTuple):
    """The students of one width, over temperatures."""

    width: int
    temperatures: np.ndarray
    errors: np.ndarray
    """[seeds, temperatures]: means over teachers."""
    hard: np.ndarray
    """[seeds]; empty where there is no baseline."""
    teachers: int
    candidates: np.ndarray
    """The temperatures that are not excluded as best."""
    vertex: stats.Vertex | None
    alike: stats.Equivalence | None
    """Of every two temperatures from HIGH on."""


def judge_widths(answers: Answers) -> list[Judged]:
    """The claims about temperature, a width at a time; over seeds, about the teachers at hand."""
    judged = []
    soft = answers.of("widths", objective="soft")
    for width, runs in soft.groupby("width"):
        whole = runs.pivot_table(index=["seed"], columns="temperature", values="test_errors", aggfunc="mean")
        counts = runs.pivot_table(index=["seed"], columns="temperature", values="test_errors", aggfunc="count")
        complete = whole[(counts == runs["teacher"].nunique()).all(axis=1)]
        if not len(complete):
            continue
        temperatures, errors = complete.columns.to_numpy(float), complete.to_numpy(float)
        hard = answers.of("widths", objective="hard", width=width).set_index("seed")["test_errors"]
        high = errors[:, temperatures >= HIGH]
        margin = MARGIN * answers.test_images / 10_000
        judged.append(
            Judged(
                int(str(width)),
                temperatures,
                errors,
                hard.reindex(complete.index).dropna().to_numpy(float),
                int(runs["teacher"].nunique()),
                temperatures[stats.candidates_for_best(errors)],
                stats.vertex(temperatures, errors) if np.isfinite(temperatures).sum() >= 3 else None,
                stats.equivalent(stats.all_pairs(high), margin) if high.shape[1] > 1 else None,
            )
        )
    return judged


def _widths(answers: Answers) -> str:
    judged = judge_widths(answers)
    if not judged:
        return ""
    header = ["units", "T", "test errors", "95 % interval", "from hard labels", "95 % interval", "p (Holm)", "best?"]
    cells = []
    for one in judged:
        paired = len(one.hard) == len(one.errors)
        if paired:
            found = stats.interval(one.hard)
            cells.append(
                [str(one.width), "hard labels", f"{found.mean:.1f}", in_brackets(found.low, found.high), *[""] * 4]
            )
        differences = [stats.paired_difference(column, one.hard) for column in one.errors.T] if paired else []
        p = stats.holm(np.array([difference.p for difference in differences]))
        for index, temperature in enumerate(one.temperatures):
            found = stats.interval(one.errors[:, index])
            cell = [str(one.width), tables.number(temperature), f"{found.mean:.1f}", in_brackets(found.low, found.high)]
            if paired:
                d = differences[index]
                cell += [
                    _signed(d.mean),
                    in_brackets(d.low, d.high, sign=True),
                    tables.p_value(p[index]),
                ]
            else:
                cell += [""] * 3
            cells.append([*cell, "possible" if temperature in one.candidates else ""])
    return "## Errors against temperature\n\n" + markdown(header, cells, claims(judged, answers))


def claims(judged: Sequence[Judged], answers: Answers) -> list[str]:
    """What the temperatures' errors say of the paper's two claims, and of the optimum of each width."""
    notes = [
        "Over seeds, each a mean over the teachers at hand ("
        + ", ".join(f"{one.width} units: {len(one.errors)} seeds, {_count(one.teachers)}" for one in judged)
        + "). best?: not excluded as best by the comparison with the best (95 %, paired)."
    ]
    margin = MARGIN * answers.test_images / 10_000
    for one in judged:
        said = f"{one.width} units: best may be T = {', '.join(map(tables.number, one.candidates))}"
        said += "" if len(one.candidates) == 1 else ": no winner"
        if one.vertex is not None and not math.isnan(one.vertex.temperature):
            said += f"; lowest point of a parabola in log T: {one.vertex.temperature:.1f}"
            said += f" [{tables.number(round(one.vertex.low, 2))}, {tables.number(round(one.vertex.high, 2))}]"
            said += "" if one.vertex.inside else " (beyond the temperatures tried)"
        notes.append(said + ".")
        if one.alike is not None and one.width > NARROW:
            widest = float(np.nanmax(np.abs([one.alike.low, one.alike.high])))
            verdict = "alike: reproduced" if one.alike.all_alike else "not shown to be alike"
            notes.append(
                f"{one.width} units, every two temperatures from {HIGH:g} on: {verdict} (margin ±{margin:g} errors; "
                f"the simultaneous intervals reach {widest:.1f})."
            )
        if one.width <= NARROW:
            inside = (one.candidates >= BEST[0]) & (one.candidates <= BEST[1])
            word = "reproduced" if inside.all() else "possible, and so are others" if inside.any() else "not reproduced"
            notes.append(f"{one.width} units, T in {BEST[0]:g} to {BEST[1]:g} best (paper): {word}.")
    for a, b in itertools.combinations(judged, 2):
        apart = not set(a.candidates) & set(b.candidates)
        word = "differ (no temperature may be best for both)" if apart else "are not told apart"
        notes.append(f"The optima of {a.width} and {b.width} units {word}.")
    return notes


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
                _signed(difference.mean),
                in_brackets(difference.low, difference.high, sign=True),
                str(difference.n),
            ]
        )
    notes = ["As many steps on every transfer set; the teacher learnt from all images. Paired by seed."]
    return "## Fewer images in the transfer set\n\n" + markdown(header, cells, notes)


def transfer_pairs(answers: Answers) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Images of a transfer set → test errors of soft targets and of hard labels, paired by seed."""
    pairs = {}
    for run, rows in answers.of("transfer").groupby("run"):
        identity = records.read_json(answers.folder.parent.parent / "temperature_sweep" / str(run) / "config.json")[
            "identity"
        ]
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
    smooth = tables.tuned(answers.of("label smoothing"), by=["width"])
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
    notes = [
        "A sixth of the training images is held out from teachers and students alike. NLL in nats; ECE of 15 bins."
    ]
    return "## Controls\n\n" + markdown(header, cells, notes)


def temperature_scaled(answers: Answers, hard: pd.DataFrame) -> pd.DataFrame:
    """Each hard-label run with its logits divided by the temperature that suits the hold-out (Guo et al. 2017)."""
    import scipy

    rows = []
    for _, row in hard.iterrows():
        folder = answers.folder.parent.parent / "temperature_sweep" / row["run"]
        block = next(path for path in sorted((folder / "blocks").glob(f"width{row['width']}-seed{row['seed']}-*")))
        place = next(index for index, one in enumerate(read_rows(block)) if one["objective"] == "hard")
        with np.load(block / "logits.npz") as arrays, np.load(folder / "test.npz") as test:
            held, tested = arrays["holdout"][place], arrays["test"][place]
            known, labels = test["holdout_labels"], test["labels"]
        fitted = scipy.optimize.minimize_scalar(
            lambda log_t, held=held, known=known: metrics.nll(held / np.exp(log_t), known),
            bounds=(-3, 3),
            method="bounded",
        )
        judged = metrics.judge(tested / np.exp(fitted.x), labels)
        rows.append({**row, **{f"test_{name}": value for name, value in judged.items()}})
    return pd.DataFrame(rows)


def read_rows(block: Path) -> list[dict[str, Any]]:
    """The rows of a finished block, in the order in which its parameters are stacked."""
    rows: list[dict[str, Any]] = records.read_json(block / "rows.json")
    return rows


def _files(folder: Path) -> str:
    """Sections that other files hold ready: shifted test images, costs."""
    return "\n\n".join(
        path.read_text().strip() for name in ("shifted.md", "cost.md") if (path := folder / name).exists()
    )


def markdown(header: list[str], cells: list[list[str]], notes: Sequence[str]) -> str:
    """A table in Markdown, with notes below it."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = ["| " + " | ".join(row) + " |" for row in [header, rule, *cells]]
    return "\n".join([*lines, "", *(f"* {note}" for note in notes)])


def _count(teachers: int) -> str:
    return f"{teachers} teacher{'' if teachers == 1 else 's'}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def in_brackets(low: float, high: float, sign: bool = False) -> str:
    """An interval, one decimal; nothing where there is none."""
    show = _signed if sign else "{:.1f}".format
    return "" if math.isnan(low) else f"[{show(low)}, {show(high)}]"


def _within_brackets(found: stats.Difference, sign: bool = False) -> str:
    return f"{_signed(found.mean)} {in_brackets(found.low, found.high, sign)}".rstrip()
