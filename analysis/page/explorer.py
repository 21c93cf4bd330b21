"""What the explorer of a sweep's page works with: test images, the logits of teacher and students, the error curve."""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from analysis import runs, wording
from analysis.tables import number
from kdjax import run_directory
from kdjax.arrays import HostLogits
from kdjax.datasets.splits import has_no_mass
from kdjax.files import read_json
from kdjax.objectives import words_of
from kdjax.targets import WORDS

LOWEST, HIGHEST, STEPS = 0.25, 100.0, 72
"""Temperatures of the slider, and how many steps there are between them; then infinity."""
MOST_LOGITS = 60_000
"""Logits of students that a page holds: about half a megabyte; of the teacher a quarter of it."""
CURVE = ["width", "objective", "soft_weight", "learning_rate"]
"""What an error curve is of."""


class Shown(NamedTuple):
    """A test image of the explorer."""

    row: int
    """Which of the test images."""
    label: str
    picture: str
    """A data URI; empty where the data are no pictures."""
    mistake: bool
    """Whether it is one of the students' mistakes, not of the images of which the teacher is least sure."""
    alternative: str


class Explorer(NamedTuple):
    """What the explorer works with."""

    images: list[Shown]
    students: list[str]
    """How they were trained, as they are chosen: `at T = 4, seed 0`, `on hard labels, seed 0`."""
    data: dict[str, Any]
    """For the script: JSON without infinities or nan."""
    left_out: int
    """Settings whose students there was no room for."""
    images_left_out: int
    """Images there was no room for: of many classes not each has one."""

    @property
    def pictures(self) -> bool:
        """Whether its images can be shown: features cannot."""
        return all(image.picture for image in self.images)


def of_run(folder: Path) -> Explorer | None:
    """The explorer of a sweep's run directory; None where it keeps no images or logits, or has no objective that uses
    the temperature, and where the teacher gives some classes no mass at any T.

    Raises:
        BadInput: what it reads is missing or damaged.
    """
    results, test = runs.read(folder), runs.load_arrays(folder / "test.npz")
    with runs.reading(folder / "test.npz"):
        kinds = [kind for kind in ("example", "mistake") if f"{kind}_rows" in test]
        rows = np.concatenate([test[f"{kind}_rows"] for kind in kinds])
        pixels = np.concatenate([test[f"{kind}_images"] for kind in kinds])
        mistaken = np.concatenate([np.full(len(test[f"{kind}_rows"]), kind == "mistake") for kind in kinds])
        _, first = np.unique(rows, return_index=True)  # an image may be both
        kept = np.sort(first)
        most = max(MOST_LOGITS // (4 * test["teacher_logits"].shape[1]), 1)
        few = max(len(kept) - most, 0)
        kept = kept[np.linspace(0, len(kept) - 1, min(len(kept), most)).astype(int)]
        rows, pixels, mistaken = rows[kept], pixels[kept], mistaken[kept]
        teacher, labels = test["teacher_logits"], test["labels"]
    with runs.reading(folder / "config.json"):
        identity = read_json(folder / "config.json")["identity"]
        names = [str(name) for name in identity["data"]["class_names"]]
        options = identity.get("config", {})
        targets = str(options.get("targets", "teacher"))
        changes = options.get("temperature_schedule", "constant") != "constant"
        last = float(options.get("last_temperature", 1.0)) if changes else None
    curves = _curves(results)
    if not len(rows) or not curves or has_no_mass(teacher):  # logit matching has no meaning then
        return None
    students, left_out = _students(folder, results, rows, teacher.shape[1])
    if not students:
        return None
    images = [
        Shown(
            int(row), names[labels[row]], _picture(pixel), bool(mistake), _words(names, int(labels[row]), teacher[row])
        )
        for row, pixel, mistake in zip(rows, pixels, mistaken, strict=True)
    ]
    data = {
        "classes": names,
        "temperatures": [_json(t) for t in temperatures(results["temperature"].dropna().tolist())],
        "images": [
            {
                "name": f"Test image {one.row}" if one.picture else f"Test example, row {one.row} of the test part",
                "label": one.label,
                "mistake": one.mistake,
                "teacher": _logits(teacher[one.row]),
            }
            for one in images
        ],
        "students": [
            {
                "name": name,
                "trained": _json(float(setting["temperature"])),
                "minimised": _minimised(setting, targets, last),
                "curve": curves.index(_curve_of(setting, curves)),
                "logits": [_logits(one) for one in logits],
            }
            for name, setting, logits in students
        ],
        "curves": [_points(results, curve) for curve in curves],
    }
    return Explorer(images, [name for name, *_ in students], data, left_out, few)


def temperatures(trained: Sequence[float]) -> list[float]:
    """The slider's temperatures: even steps on a logarithmic scale, but exactly those of the run, and infinity."""
    exact = sorted({t for t in (*trained, 1.0, LOWEST, HIGHEST) if LOWEST <= t <= HIGHEST})
    even = [float(f"{t:.3g}") for t in np.geomspace(LOWEST, HIGHEST, STEPS + 1)]
    room = math.log(HIGHEST / LOWEST) / STEPS / 2
    between = [t for t in even if all(abs(math.log(t / other)) > room for other in exact)]
    return [*sorted([*exact, *between]), math.inf]


def _students(
    folder: Path, results: pd.DataFrame, rows: np.ndarray, classes: int
) -> tuple[list[tuple[str, pd.Series, HostLogits]], int]:
    """A student of each setting, the first that finished: its name, setting and logits `[images, classes]`; and how
    many settings there was no room for. Wide students come first."""
    stored, wanted = _stored(folder), []
    for setting, of_setting in runs.by_setting(results):
        for teacher, seed in runs.finished(of_setting).index:
            place = stored.get(runs.name_of({**setting, "teacher": teacher, "seed": seed}))
            if place:
                wanted.append((setting, seed, place))
                break
    wanted.sort(key=lambda one: -one[0]["width"])  # stable
    room = max(MOST_LOGITS // (len(rows) * classes), 1)
    chosen = []
    for setting, seed, (block, index) in wanted[:room]:
        logits = run_directory.read_logits(block, "test")
        chosen.append((_name(setting, results, int(seed)), setting, logits[index][rows]))
    return chosen, max(len(wanted) - room, 0)


def _stored(folder: Path) -> dict[tuple[str, ...], tuple[Path, int]]:
    """Where each run's logits are: its block, and its place there."""
    found = {}
    for block in run_directory.block_folders(folder):
        for index, row in enumerate(run_directory.read_rows(block)):
            found[runs.name_of(row)] = block, index
    return found


def _name(setting: pd.Series, results: pd.DataFrame, seed: int) -> str:
    objective = setting["objective"]
    words = [f"on {name}" for name in wording.in_words(setting, ["objective"] * (objective != "kd"))]
    words += [f"at {temperature}" for temperature in wording.in_words(setting, ["temperature"])]
    soft = results[results["objective"] != "hard"]
    varying = ["soft_weight"] * (objective != "hard" and soft["soft_weight"].nunique() > 1)
    varying += [name for name in ("learning_rate", "width") if results[name].nunique() > 1]
    return ", ".join([" ".join(words), *wording.in_words(setting, varying), f"seed {seed}"])


def _minimised(setting: pd.Series, targets: str, last: float | None) -> str:
    """What the loss of soft targets was to a student: a clause for that loss. `last`: where T changed, its last."""
    objective, weight = str(setting["objective"]), float(setting["soft_weight"])
    if objective != "kd" or targets != "teacher":
        other = f" ({WORDS[targets]})" if targets != "teacher" and objective != "hard" else ""
        return f"which this student did not minimise{other}"
    at = f"this student minimised at T = {number(float(setting['temperature']))}"
    at += "" if last is None else f", which changed to {number(last)} in training"
    return f"which {at}" if weight == 1 else f"which with weight {number(weight)}, beside hard labels, {at}"


def _curves(results: pd.DataFrame) -> list[tuple[Any, ...]]:
    soft = results[results["objective"].ne("hard") & results["temperature"].notna()]
    return list(dict.fromkeys(soft[CURVE].itertuples(index=False, name=None)))


def _curve_of(setting: pd.Series, curves: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The curve of a student's setting; without a temperature the first of its width and rate, else the first."""
    own = tuple(setting[CURVE])
    alike = [one for one in curves if one[0] == setting["width"] and one[3] == setting["learning_rate"]]
    return own if own in curves else [*alike, *curves][0]


def _points(results: pd.DataFrame, curve: tuple[Any, ...]) -> dict[str, Any]:
    width, objective, weight, rate = curve
    same = (results["width"] == width) & (results["learning_rate"] == rate)
    own = results[same & results["objective"].eq(objective) & results["soft_weight"].eq(weight)]
    hard = runs.finished(results[same & results["objective"].eq("hard")])
    points = []
    for temperature, of_t in runs.finished(own).groupby("temperature"):
        mean = runs.mean(of_t.set_index(runs.RUN)["test_errors"])
        known = {"mean": _json(mean.mean), "low": _json(mean.low), "high": _json(mean.high)}
        points.append({"T": _json(float(str(temperature))), **known})
    name = f"{width} units" + ("" if objective == "kd" else f", {words_of(objective)}")
    level = _json(runs.mean(hard.set_index(runs.RUN)["test_errors"]).mean) if len(hard) else None
    return {"name": name, "points": points, "hard": level}


def _json(value: float) -> float | str | None:
    """A number as JSON can hold it: infinity as text, nan as null."""
    return None if math.isnan(value) else "inf" if math.isinf(value) else value


def _logits(logits: np.ndarray) -> list[float | None]:
    """float32 in its shortest form; null for -inf, a class that is left out."""
    return [float(str(value)) if math.isfinite(value) else None for value in logits.astype(np.float32)]


def _picture(pixels: np.ndarray) -> str:
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        return ""
    if pixels.dtype != np.uint8:
        spread = float(np.ptp(pixels)) or 1.0
        pixels = (255 * (pixels - pixels.min()) / spread).astype(np.uint8)
    grey = pixels.shape[-1] == 1
    picture = Image.fromarray(255 - pixels[..., 0] if grey else pixels)  # ink on paper
    content = io.BytesIO()
    picture.save(content, format="png")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _words(names: Sequence[str], label: int, teacher: np.ndarray) -> str:
    said = int(teacher.argmax())
    return f"labelled {names[label]}" + (f", the teacher says {names[said]}" if said != label else "")
