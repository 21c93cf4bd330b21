"""Logits of students and their teacher to measure objectives on: random, of a run directory, or of a file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from analysis.matching.theory import PAPER, Logits, random_logits
from analysis.pair_file import read_pair
from analysis.runs import OF_SWEEPS, load_arrays, read_config
from analysis.tables import number
from kdjax import trained
from kdjax.datasets.splits import has_no_mass
from kdjax.errors import require

EXAMPLES = 1000
"""Of a run's test images, or of a file's rows: at most so many, drawn at random."""
BATCH = 256
"""Examples in a batch, at most: `dist` correlates over it."""
CLASSES, SCALE, SEEDS = 10, 5.0, 3
"""Of random logits: their number, their standard deviation, and how often they are drawn."""


class Pair(NamedTuple):
    """Logits of a student and its teacher for the same examples."""

    name: str
    """`T = 20` for a student trained on soft targets at that temperature; else `random`, or `given`."""
    seed: int
    """Of the student, or of the draw."""
    student: Logits
    teacher: Logits
    labels: Int[np.ndarray, "cases"]


class Pairs(NamedTuple):
    """What the objectives are measured on."""

    name: str
    """Of the folder of results."""
    where: str
    """For titles."""
    pairs: Sequence[Pair]
    followed: str
    """The name of those of which the tables tell most."""
    logprobs: bool = False
    """Whether the logits of one network are known but for a shift."""
    source: Path | None = None
    """The run directory or the file, if they are of one."""


def batches(count: int) -> int:
    """Batches of equal size into which so many examples are divided."""
    return math.ceil(count / BATCH)


def random_pairs() -> Pairs:
    """Independent N(0, 5²) logits of 10 classes; the labels are the teacher's."""
    pairs = []
    for seed in range(SEEDS):
        z, v = random_logits(CLASSES, SCALE, EXAMPLES, seed)
        pairs.append(_pair("random", seed, z, v, v.argmax(axis=1)))
    where = f"random logits, N(0, {SCALE:g}²), {CLASSES} classes, {SEEDS} draws of {EXAMPLES:,} examples"
    return Pairs("random", where, pairs, "random")


def run_pairs(folder: Path) -> Pairs:
    """The students of a run's smallest width that were trained on soft targets alone (or on the largest soft weight),
    at every temperature and from every seed, with the teacher, on test images. Those trained nearest to the paper's
    temperature are followed.

    Where there are several learning rates, each temperature has its smallest.

    Raises:
        BadInput: no run directory; one without finished students on soft targets; a damaged one.
    """
    require(folder.is_dir(), f"{folder} is no folder: name a run directory, or leave it out for random logits")
    config = read_config(folder, *OF_SWEEPS)
    students = [one for one in trained.find(folder, objective="kd") if one.row["failed_at"] < 0]
    require(students, f"{folder} holds no student on soft targets whose loss stayed finite: name another run")
    width = min(student.row["width"] for student in students)
    weight = max(student.row["soft_weight"] for student in students if student.row["width"] == width)
    found: dict[tuple[float, int], trained.Student] = {}
    for student in sorted(students, key=lambda student: float(student.row["learning_rate"])):
        if (student.row["width"], student.row["soft_weight"]) == (width, weight):
            found.setdefault((float(student.row["temperature"]), int(student.row["seed"])), student)
    test = load_arrays(folder / "test.npz", "labels", "teacher_logits")
    about = f"{folder} has a top-k teacher with --topk-rest renormalised"
    reason = "its logits have no limit at large T, as the other classes have no mass"
    require(not has_no_mass(test["teacher_logits"]), f"{about}: {reason}; name a run with --topk-rest spread")
    pairs = [
        _pair(_name(at), seed, found[at, seed].stored_logits("test"), test["teacher_logits"], test["labels"])
        for at, seed in sorted(found)
    ]
    followed = min((at for at, _ in found), key=lambda at: abs(math.log(at / PAPER)))
    data = config["identity"]["data"].get("description", folder.name)
    # What a teacher that came with the data gave: anything but logits tells them but for a shift.
    shifted = any(one.get("kind", "logits") != "logits" for one in config["details"].get("teachers", []))
    where = f"{data}; students of {width} units, soft weight {weight:g}"
    where = f"{where}, {_name(followed)}; {len(pairs[0].labels):,} test images"
    return Pairs(folder.resolve().name, where, pairs, _name(followed), shifted, folder)


def file_pair(path: Path, columns: Sequence[str] = ()) -> Pairs:
    """A file's logits (`analysis.pair_file`): of a top-k teacher, the mass left over is spread over the other classes.

    Raises:
        BadInput: as `read_pair`; one example alone, or no labels.
    """
    given = read_pair(path, columns)
    alone = f"{path}: {given.student.name} of shape {given.student.array.shape}: give 2 examples or more"
    require(given.rows > 1, alone)
    remedy = "add labels [n], from 0, or say which they are by --columns labels=THEIRS"
    require(given.labels is not None, f"{path} holds no labels: some objectives need them; {remedy}")
    assert given.labels is not None
    rows = _chosen(given.rows)
    pair = Pair("given", 0, given.student.block(rows), given.teacher.block(rows), given.labels[rows])
    where = f"{path.name}; {len(rows):,} examples, {given.classes} classes"
    shifted = given.student.logprobs or given.teacher.logprobs
    return Pairs(f"{given.name}-logits", where, [pair], "given", shifted, path)


def _name(temperature: float) -> str:
    return f"T = {number(temperature)}"


def _chosen(examples: int) -> Int[np.ndarray, "cases"]:
    """At most `EXAMPLES` rows, as many as make batches of equal size; the same for all of one length."""
    count = min(examples, EXAMPLES)
    count -= count % batches(count)
    return np.sort(np.random.default_rng(0).choice(examples, count, replace=False))


def _pair(name: str, seed: int, student: Any, teacher: Any, labels: Any) -> Pair:
    rows = _chosen(len(labels))
    z, v = (np.asarray(logits[rows], np.float64) for logits in (student, teacher))
    return Pair(name, seed, z, v, np.asarray(labels[rows], np.int64))
