"""Logits of students and their teacher to measure objectives on: random, of a run directory, or of a file."""

import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from analysis.matching.theory import Logits, centred, random_logits, rms, spread
from analysis.runs import load_arrays
from analysis.tables import number
from kdjax import trained
from kdjax.errors import BadInput, require
from kdjax.files import read_json

EXAMPLES = 1000
"""Of a run's test images, or of a file's rows: at most so many, drawn at random."""
BATCH = 256
"""Examples in a batch, at most: `dist` correlates over it."""
PAPER = 20.0
"""The paper's temperature on MNIST."""
CLASSES, SCALE, SEEDS = 10, 5.0, 3
"""Of random logits: their number, their standard deviation, and how often they are drawn."""
ARRAYS = ("student_logits", "teacher_logits", "labels")
"""Of a file of logits."""


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
    students = [one for one in trained.find(folder, objective="kd") if one.row["failed_at"] < 0]
    require(students, f"{folder} holds no student on soft targets whose loss stayed finite: name another run")
    width = min(student.row["width"] for student in students)
    weight = max(student.row["soft_weight"] for student in students if student.row["width"] == width)
    found: dict[tuple[float, int], trained.Student] = {}
    for student in sorted(students, key=lambda student: float(student.row["learning_rate"])):
        if (student.row["width"], student.row["soft_weight"]) == (width, weight):
            found.setdefault((float(student.row["temperature"]), int(student.row["seed"])), student)
    test = load_arrays(folder / "test.npz", "labels", "teacher_logits")
    pairs = [
        _pair(_name(at), seed, found[at, seed].stored_logits("test"), test["teacher_logits"], test["labels"])
        for at, seed in sorted(found)
    ]
    followed = min((at for at, _ in found), key=lambda at: abs(math.log(at / PAPER)))
    data = read_json(folder / "config.json")["identity"]["data"].get("description", folder.name)
    where = f"{data}; students of {width} units, soft weight {weight:g}"
    where = f"{where}, {_name(followed)}; {len(pairs[0].labels):,} test images"
    return Pairs(folder.resolve().name, where, pairs, _name(followed))


def file_pair(path: Path) -> Pairs:
    """A file's logits. It is never unpickled.

    Raises:
        BadInput: no such file; not an `.npz` file with the three arrays; shapes, labels or numbers that do not fit.
    """
    arrays = _read(path)
    z, v, labels = (arrays[name] for name in ARRAYS)
    require(z.ndim == 2 and z.shape == v.shape and min(z.shape) > 1, _unfit(path, arrays))
    require(labels.shape == z.shape[:1], _unfit(path, arrays))
    for name in ARRAYS[:2]:
        numbers = np.issubdtype(arrays[name].dtype, np.floating) or np.issubdtype(arrays[name].dtype, np.integer)
        finite = numbers and np.isfinite(arrays[name]).all()
        require(finite, f"{path}: {name} holds what is no finite number: give logits as floating-point numbers")
    whole = np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0 and labels.max() < z.shape[1]
    require(whole, f"{path}: labels are not all whole numbers from 0 to {z.shape[1] - 1}: count classes from 0")
    pair = _pair("given", 0, z, v, labels)
    differ = rms(centred(pair.student) - centred(pair.teacher)) > 1e-9 * spread(pair.student, pair.teacher)
    require(differ, f"{path}: student and teacher have the same logits: every gradient is 0; give two networks' logits")
    where = f"{path.name}; {len(pair.labels):,} examples, {z.shape[1]} classes"
    return Pairs(path.stem, where, [pair], "given")


def _name(temperature: float) -> str:
    return f"T = {number(temperature)}"


UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What NumPy raises where a file is no `.npz` file, holds pickled objects, or is damaged."""


def _read(path: Path) -> dict[str, np.ndarray]:
    remedy = f"give an .npz file that numpy.savez wrote, with {', '.join(ARRAYS)}"
    require(path.is_file(), f"--logits {path} is no file: {remedy}")
    try:
        with open(path, "rb") as file:  # NumPy leaves a damaged file open that it has opened
            arrays = np.load(file, allow_pickle=False)
            require(not isinstance(arrays, np.ndarray), f"--logits {path} holds one array alone: {remedy}")
            missing = ", ".join(name for name in ARRAYS if name not in arrays.files)
            require(not missing, f"--logits {path} lacks {missing}: {remedy}")
            return {name: arrays[name] for name in ARRAYS}
    except UNREADABLE as error:
        raise BadInput(f"--logits {path} cannot be read ({str(error).splitlines()[0]}): {remedy}") from None


def _unfit(path: Path, arrays: dict[str, np.ndarray]) -> str:
    shapes = ", ".join(f"{name} of shape {array.shape}" for name, array in arrays.items())
    return f"{path}: {shapes}: give [examples, classes] twice and [examples], 2 or more of both"


def _pair(name: str, seed: int, student: Any, teacher: Any, labels: Any) -> Pair:
    """A pair of at most `EXAMPLES` examples, as many as make batches of equal size; the same for all of one length."""
    count = min(len(labels), EXAMPLES)
    count -= count % batches(count)
    rows = np.sort(np.random.default_rng(0).choice(len(labels), count, replace=False))
    z, v = (np.asarray(logits[rows], np.float64) for logits in (student, teacher))
    return Pair(name, seed, z, v, np.asarray(labels[rows], np.int64))
