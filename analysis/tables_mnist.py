"""The MNIST table and what lies below it: rows beside the paper's, claims about temperature judged, controls, costs."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import stats, tables
from analysis.tables import count_of, fixed, in_brackets, markdown, sweep_folder, with_range
from kdjax import metrics, records
from kdjax.config import BadInput, require
from kdjax.files import check_manifest, write_whole

PAPER = {"teacher": 67, "small": 146, "distilled": 74}
"""Hinton et al. 2015, Section 3: test errors of single runs."""
PAPER_GAP = (146 - 74) / (146 - 67)
MARGIN = 7
"""Test errors of 10,000: differences below it count as alike; a tenth of what distillation gains in the paper."""
HIGH = 8.0
"""Temperatures from here on are those that the paper calls alike for 300 units and more."""
WIDE = 300
"""Units, from which on it calls them so."""
NARROW, BEST = 30, (2.5, 4.0)
"""Units, and the temperatures that the paper calls best for them."""
BETTER = {
    "shift-averaged": "targets averaged over shifts of ±2 px",
    "jittered": "transfer set jittered by ±2 px",
    "ensemble": "taught by an ensemble of {members} teachers",
    "ensemble, jittered": "the same, transfer set jittered by ±2 px",
    "elastic": "teacher and transfer set distorted anew at each step",
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

    def failed(self, role: str) -> int:
        """How many runs of a role are left out because their loss stopped being finite."""
        rows = self.results[self.results["role"] == role]
        return int((rows["failed_at"] >= 0).sum())

    @property
    def of_paper(self) -> bool:
        """Whether the rows are of the paper's setting: all of MNIST, 800 units, T = 20, a teacher of 1200 units."""
        config, data = self.identity["config"], self.identity["data"]
        nets = (config["width"], float(config["temperature"]), list(config["teacher"]["widths"]))
        return self.on_mnist and nets == (800, 20.0, [1200, 1200]) and bool(data["train_images"] == 60_000)

    @property
    def on_mnist(self) -> bool:
        """Whether the images are those of the paper."""
        return bool(self.identity["data"]["name"] == "mnist")

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
    broken = f"{folder / 'config.json'} is damaged: give the experiment's command again"
    require(isinstance(config, dict), broken)
    identity, details = config.get("identity") or {}, config.get("details") or {}
    require(
        isinstance(identity, dict) and identity.get("experiment") == "mnist_table" and "answers" in details,
        f"{folder} is no finished run of mnist_table: give the experiment's command again",
    )
    columns = ["part", "role", "run", "teacher_errors", *tables.SETTING, *tables.RUN, "test_errors", "failed_at"]
    parts = []
    try:
        for answer in details["answers"]:
            of_sweep = sweep_folder(folder, answer["run"])
            known = records.read_json(of_sweep / "config.json")["details"]["teachers"]
            errors = {str(teacher["name"]): teacher["test_errors"] for teacher in known}
            rows = tables.read(of_sweep)
            parts.append(rows.assign(**answer, teacher_errors=rows["teacher"].map(errors)))
        needed: list[tuple[Any, tuple[str, ...]]] = [
            (teacher, ("name", "folder", "test")) for teacher in details["teachers"]
        ]
        needed += [(identity["data"], ("name", "description", "train_images", "test_images"))]
        needed += [(identity["config"], ("soft_weights", "temperature", "width", "precision", "teacher"))]
        lacking = [name for holder, names in needed for name in names if name not in holder]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{broken} ({error!r} in it, or in a sweep's)") from None
    require(not lacking, f"{broken} (it lacks {', '.join(lacking)})")
    results = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
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
                row = row._replace(paper=PAPER["distilled"], verdict=judged_as(grid(runs), PAPER["distilled"]))
            rows.append(row)
    plain = answers.of("distilled", soft_weight=first, teacher=str(answers.teachers[0]["name"])).set_index("seed")
    for role, said in BETTER.items():
        runs = answers.of(role, objective="soft")
        if not len(runs):
            continue
        row = _distilled(_named(said.format(members=len(answers.teachers)), role, answers), runs, small)
        shared = runs.set_index("seed").index.intersection(plain.index)
        if len(shared):
            mine, other = (rows["test_errors"][shared].to_numpy(float) for rows in (runs.set_index("seed"), plain))
            found = stats.paired_difference(mine, other)
            against = f"against the first teacher's plain targets at soft weight {first:g}"
            row = row._replace(
                verdict=f"{against}: {with_range(*found[:3], sign=True)} errors, {stats.difference_in_words(found)}"
            )
        rows.append(row)
        if role in ("ensemble", "elastic"):
            name = f"that ensemble of {len(answers.teachers)}" if role == "ensemble" else "that teacher"
            rows.append(_beside(name, runs["teacher_errors"].to_numpy(float)[:1]))
        alone = answers.of(role, objective="hard")
        if len(alone):
            rows.append(_beside("hard labels on those images", alone["test_errors"].to_numpy(float)))
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


class Judged(NamedTuple):
    """The students of one width, over temperatures."""

    width: int
    temperatures: np.ndarray
    errors: np.ndarray
    """[teachers, seeds, temperatures], or [seeds, temperatures] under one teacher."""
    hard: np.ndarray
    """[seeds]; nan where there is no baseline."""
    teachers: int
    candidates: np.ndarray
    """The temperatures that are not excluded as best."""
    vertex: stats.Vertex | None
    """Over seeds, each a mean over teachers."""
    alike: stats.Equivalence | None
    """Of every two temperatures from HIGH on."""
    left_out: tuple[float, ...]
    """Temperatures at which some run is missing or failed."""

    @property
    def seeds(self) -> int:
        """Seeds under each teacher."""
        return int(self.errors.shape[-2])

    def from_hard(self) -> list[stats.Difference]:
        """At each temperature, the paired difference from hard labels, over the seeds that have both."""
        both = ~np.isnan(self.hard)
        if not both.any():
            return []
        mine, base = self.errors[..., both, :], self.hard[both]
        columns = np.moveaxis(mine, -1, 0)
        return [stats.paired_difference(column, np.broadcast_to(base, column.shape)) for column in columns]


def judge_widths(answers: Answers) -> list[Judged]:
    """The claims about temperature, a width at a time: over teachers crossed with seeds, or seeds under one teacher."""
    judged = []
    everything = answers.results[(answers.results["role"] == "widths") & (answers.results["objective"] == "soft")]
    margin = MARGIN * answers.test_images / 10_000
    for width, rows in everything.groupby("width"):
        runs = tables.finished(rows)
        names, seeds = sorted(rows["teacher"].unique()), sorted(rows["seed"].unique())
        table = runs.pivot_table(index=["teacher", "seed"], columns="temperature", values="test_errors", aggfunc="mean")
        table = table.reindex(pd.MultiIndex.from_product([names, seeds]))
        asked = sorted(rows["temperature"].unique())
        kept = [float(t) for t in asked if t in table and not table[t].isna().any()]
        if not kept:
            continue
        temperatures = np.array(kept)
        errors = table[kept].to_numpy(float).reshape(len(names), len(seeds), len(kept))
        errors = errors[0] if len(names) == 1 else errors
        hard = answers.of("widths", objective="hard", width=width).set_index("seed")["test_errors"]
        high = errors[..., temperatures >= HIGH]
        over_seeds = errors if errors.ndim == 2 else errors.mean(axis=0)
        judged.append(
            Judged(
                int(str(width)),
                temperatures,
                errors,
                hard.reindex(seeds).to_numpy(float),
                len(names),
                temperatures[stats.candidates_for_best(errors)],
                stats.vertex(temperatures, over_seeds) if np.isfinite(temperatures).sum() >= 3 else None,
                stats.equivalent(stats.all_pairs(high), margin) if high.shape[-1] > 1 else None,
                tuple(float(t) for t in asked if t not in kept),
            )
        )
    return judged


def _widths(answers: Answers) -> str:
    judged = judge_widths(answers)
    asked = answers.results[answers.results["role"] == "widths"]["width"].unique()
    lost = [
        f"{width} units: some run failed at every temperature."
        for width in asked
        if width not in {j.width for j in judged}
    ]
    if not judged:
        return "\n".join(lost)
    header = ["units", "T", "test errors", "95 % interval", "from hard labels", "95 % interval", "p (Holm)", "best?"]
    cells = []
    for one in judged:
        hard = one.hard[~np.isnan(one.hard)]
        if len(hard):
            found = stats.interval(hard)
            bounds = in_brackets(found.low, found.high)
            cells.append([str(one.width), "hard labels", f"{found.mean:.1f}", bounds, *[""] * 4])
        differences = one.from_hard()
        p = stats.holm(np.array([difference.p for difference in differences]))
        for index, temperature in enumerate(one.temperatures):
            found = stats.interval_over(one.errors[..., index])
            cell = [
                str(one.width),
                tables.number(temperature),
                f"{found.mean:.1f}",
                in_brackets(found.low, found.high),
            ]
            if differences:
                d = differences[index]
                cell += [
                    fixed(d.mean, sign=True),
                    in_brackets(d.low, d.high, sign=True),
                    tables.p_value(p[index]),
                ]
            else:
                cell += [""] * 3
            cells.append([*cell, "possible" if temperature in one.candidates else ""])
    return "## Errors against temperature\n\n" + markdown(header, cells, lost + claims(judged, answers), left=1)


def claims(judged: Sequence[Judged], answers: Answers) -> list[str]:
    """What the temperatures' errors say of the paper's two claims, and of the optimum of each width.

    "Reproduced" is said on MNIST alone, for the paper's widths, and under three teachers or more: with fewer, a claim
    is about these teachers.
    """
    each = [(one.width, count_of(one.seeds, "seed"), count_of(one.teachers, "teacher")) for one in judged]
    counts = "; ".join(f"{width} units: {seeds}, {teachers}" for width, seeds, teachers in each)
    notes = [
        f"{counts}. Several teachers are crossed with the seeds, and the intervals are over both. best?: not "
        "excluded as best by the comparison with the best (95 %, paired)."
    ]
    for one in judged:
        notes += _claims_of(one, answers)
    pairs = list(itertools.combinations(judged, 2))
    for a, b in pairs:
        shared = sorted(set(a.temperatures) & set(b.temperatures))
        if len(shared) < 2:
            continue
        sets = []
        for one in (a, b):
            places = [list(one.temperatures).index(t) for t in shared]
            possible = stats.candidates_for_best(one.errors[..., places], 0.05 / 2 / len(pairs))
            sets.append({t for t, may in zip(shared, possible, strict=True) if may})
        word = "are not told apart" if sets[0] & sets[1] else "differ (none may be best for both)"
        among = ", ".join(map(tables.number, shared))
        notes.append(f"Among T = {among} the optima of {a.width} and {b.width} units {word}.")
    return notes


def _claims_of(one: Judged, answers: Answers) -> list[str]:
    about = "" if one.teachers >= 3 else " (about this teacher)" if one.teachers == 1 else " (about these teachers)"
    of_paper = answers.on_mnist and one.teachers >= 3
    notes = []
    if one.left_out:
        missing = ", ".join(map(tables.number, one.left_out))
        notes.append(f"{one.width} units: T = {missing} left out, where some run failed.")
    if one.seeds * one.teachers == 1:
        return [*notes, f"{one.width} units: one run, nothing is judged."]
    said = f"{one.width} units: best may be T = {', '.join(map(tables.number, one.candidates))}"
    said += "" if len(one.candidates) == 1 else ": no winner"
    if one.vertex is not None and not math.isnan(one.vertex.low):
        said += f"; lowest point of a parabola in log T, over seeds: {one.vertex.temperature:.1f}"
        said += f" [{tables.number(round(one.vertex.low, 2))}, {tables.number(round(one.vertex.high, 2))}]"
        said += "" if one.vertex.inside else " (not inside the temperatures tried)"
    notes.append(f"{said}{about}.")
    if one.alike is not None and not math.isnan(one.alike.reach) and one.width > NARROW:
        margin = f"alike within ±{MARGIN * answers.test_images / 10_000:g} errors"
        verdict = margin if one.alike.all_alike else f"not shown to be {margin}"
        if one.alike.all_alike and of_paper and one.width >= WIDE:
            verdict += ", as the paper says: reproduced"
        reach = f"the 90 % intervals of the differences reach {one.alike.reach:.1f}"
        notes.append(f"{one.width} units, every two temperatures from {HIGH:g} on: {verdict} ({reach}){about}.")
    if one.width == NARROW and answers.on_mnist:
        inside = (one.candidates >= BEST[0]) & (one.candidates <= BEST[1])
        word = "only these may be best" if inside.all() else "possible, and so are others"
        word = word if inside.any() else "excluded"
        if of_paper:
            word += ": reproduced" if inside.all() else "" if inside.any() else ": not reproduced"
        notes.append(f"{one.width} units, T in {BEST[0]:g} to {BEST[1]:g} best (paper): {word}{about}.")
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
    return "## Controls\n\n" + markdown(header, cells, notes, left=1)


def temperature_scaled(answers: Answers, hard: pd.DataFrame) -> pd.DataFrame:
    """Each hard-label run with its logits divided by the temperature that suits the hold-out (Guo et al. 2017)."""
    import scipy

    rows = []
    for _, row in hard.iterrows():
        folder = sweep_folder(answers.folder, row["run"])
        block, place = find_run(folder, row)
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


def find_run(folder: Path, row: pd.Series) -> tuple[Path, int]:
    """The block of a sweep that holds the run of a row, checked, and the run's place in it."""
    keys = ["soft_weight", "learning_rate"] + ["temperature"] * (row["objective"] != "hard")
    for block in sorted((folder / "blocks").glob(f"width{row['width']}-seed{row['seed']}-*")):
        for place, one in enumerate(read_rows(block)):
            same = [math.isclose(float(one[key]), row[key], rel_tol=1e-8) for key in keys if one[key] is not None]
            if one["objective"] == row["objective"] and all(same):
                check_manifest(block)
                return block, place
    raise BadInput(f"{folder} holds no block of a run of its results.csv: give the experiment's command again")


def read_rows(block: Path) -> list[dict[str, Any]]:
    """The rows of a finished block, in the order in which its parameters are stacked."""
    rows: list[dict[str, Any]] = records.read_json(block / "rows.json")
    return rows


def _files(folder: Path) -> str:
    """Sections that other files hold ready: shifted test images, costs."""
    return "\n\n".join(
        path.read_text().strip() for name in ("shifted.md", "cost.md") if (path := folder / name).exists()
    )
