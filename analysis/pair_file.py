"""A file of a student's and its teacher's logits for the same examples, read in blocks of rows.

Its arrays, of n rows and N classes: `student_logits` `[n, N]`, or `student_logprobs`; `teacher_logits` `[n, N]`, or
`teacher_logprobs`, or the k largest of them, `teacher_topk_logits` or `teacher_topk_logprobs` `[n, k]` with
`teacher_topk_indices` `[n, k]`, and of top-k logits `teacher_logsumexp` `[n]`; where there is a label, `labels` `[n]`,
from 0. Log-probabilities are natural logarithms. Besides all of the teacher's logits, the file may hold the k largest:
what their gradient loses is then measured.
"""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from analysis.matching.theory import centred, rms
from kdjax import logit_columns, mistakes
from kdjax.columns import Columns, naming
from kdjax.config import TopkRest
from kdjax.errors import require
from kdjax.faults import Faults
from kdjax.inputs import read_labels, read_raw, require_classes
from kdjax.logit_columns import INDICES, LOGSUMEXP, TOPK, Full, TopK
from kdjax.progress import Progress, warn

NAMES = (
    *("student_logits", "student_logprobs", "teacher_logits", "teacher_logprobs"),
    *(*TOPK, INDICES, LOGSUMEXP, "labels"),
)
"""Of the arrays that are read."""
MOST_CLASSES = 200_000
FEWEST = 100
"""In fewer rows two networks, or a network and the labels, may disagree by chance."""
SAME = 1e-9
"""Logits that differ by less, of their size, are the same, and those that differ by the rounding of their types."""


class PairFile(NamedTuple):
    """What a file holds, checked."""

    path: Path
    student: Full
    teacher: Full | TopK
    stored: TopK | None
    """The k largest of the teacher's logits, where the file holds all of them too."""
    labels: Int[np.ndarray, "n"] | None

    @property
    def name(self) -> str:
        """That of the file, without its ending, or of the folder."""
        path = self.path.resolve()
        return path.stem if path.is_file() else path.name

    @property
    def rows(self) -> int:
        return len(self.student.array)

    @property
    def classes(self) -> int:
        return int(self.student.array.shape[1])

    @property
    def top_k(self) -> TopK | None:
        """The teacher's k largest logits, where the file holds them."""
        return self.teacher if isinstance(self.teacher, TopK) else self.stored

    @property
    def teacher_limited(self) -> bool:
        """Whether the teacher has a logit for every class, so that there is a limit T → ∞."""
        return isinstance(self.teacher, Full) or self.teacher.limited

    def blocks(self) -> list[slice]:
        """All rows, in blocks of few logits."""
        return logit_columns.blocks(self.rows, self.classes)

    @property
    def sources(self) -> list[Full | TopK]:
        """All that the file holds of logits."""
        return [self.student, self.teacher, *([] if self.stored is None else [self.stored])]

    def release(self) -> None:
        """Lets go of what has been read of a mapped file: it need not stay in memory."""
        for source in self.sources:
            for array in source:
                _release(array)


def read_pair(path: Path, columns: Sequence[str] = (), rest: TopkRest | None = None) -> PairFile:
    """Reads and checks a file: `.npz`, `.safetensors`, `.parquet`, or a folder of `.npy` files.

    Args:
        path: of the file.
        columns: `OURS=THEIRS`: the file's own names of arrays.
        rest: what becomes of the classes that a top-k teacher does not give; None: spread.

    Raises:
        BadInput: no such file, or a damaged one; arrays that are missing, or too many; shapes that differ; one class;
            values that are not finite; probabilities; log-probabilities that do not sum to 1; labels or classes out of
            range, or classes that are repeated in a row; the same logits for both.
    """
    with naming(path):
        return _read(path, Columns(path, columns, NAMES), rest)


def _read(path: Path, columns: Columns, rest: TopkRest | None) -> PairFile:
    student, teacher = (_full(columns, network) for network in ("student", "teacher"))
    lacking = "student_logits or student_logprobs"
    require(student is not None, f"there is no column {lacking}: {columns.hint}")
    assert student is not None
    columns.require_equal_lengths()
    classes = int(student.array.shape[1])
    few = f"{student.name} of shape {student.array.shape}: the last axis is the classes, up to {MOST_CLASSES:,} of them"
    require(classes <= MOST_CLASSES, few)
    if teacher is not None:
        shapes = " and ".join(f"{full.name} of shape {full.array.shape}" for full in (student, teacher))
        require(teacher.array.shape == student.array.shape, f"{shapes} differ: give both for the same classes")
    stored = logit_columns.top_k(columns, classes, rest)
    lacking = "teacher_logits, teacher_logprobs or the teacher's k largest of them"
    known = teacher or stored
    require(known is not None, f"there is no column {lacking}: {columns.hint}")
    assert known is not None
    pointless = f"--topk-rest {rest} is about a teacher's k largest logits, and {path} holds all of them: leave it out"
    require(stored is not None or rest is None, pointless)
    labels = read_labels("labels", columns["labels"], classes) if "labels" in columns else None
    pair = PairFile(path, student, known, stored if teacher is not None else None, labels)
    _check(pair)
    return pair


def _full(columns: Columns, network: str) -> Full | None:
    """All logits of a network."""
    name = columns.one_of((f"{network}_logits", f"{network}_logprobs"), f"the {network}")
    if not name:
        return None
    array = read_raw(name, columns[name])
    require_classes(name, array)
    return Full(name, array)


def _check(pair: PairFile) -> None:
    """Raises BadInput, with rows: what `kdjax.logit_columns` finds in either network; the same logits for both. Warns
    where rows or classes look as if they were in another order."""
    faults, same, doubtful, top_k = Faults(), True, list[np.ndarray](), pair.top_k
    predicted = list[np.ndarray]()
    of_teacher = pair.teacher.array if isinstance(pair.teacher, Full) else pair.teacher.values
    precisions = [logit_columns.precision(array) for array in (pair.student.array, of_teacher)]
    blocks = pair.blocks()
    with Progress(f"checking {pair.path.name}", len(blocks)) as progress:
        for index, rows in enumerate(blocks):
            for source in pair.sources:
                source.check(rows, faults)
            if top_k is not None and not faults:
                doubtful.append(rows.start + np.flatnonzero(top_k.doubtful(rows)))
            if not faults:
                z, v = pair.student.block(rows), pair.teacher.block(rows)
                predicted.append(np.stack([z.argmax(axis=1), v.argmax(axis=1)]))
                same = same and _are_same(z, v, *precisions)
            if index % 64 == 63:
                pair.release()
                progress.update(index + 1, f"{rows.stop:,} of {pair.rows:,} rows")
    faults.report()
    require(not same, "student and teacher have the same logits: every gradient is 0; give two networks' logits")
    if top_k is not None and (found := logit_columns.doubt(top_k, np.concatenate(doubtful))):
        warn(found)
    if pair.rows >= FEWEST:
        student, teacher = np.concatenate(predicted, axis=1)
        doubts = mistakes.of_pair(student, teacher, pair.classes)
        if pair.labels is not None:
            doubts += mistakes.of_predictions(teacher, pair.labels, pair.classes)
        for doubt in doubts:
            warn(doubt.text)


def _are_same(
    z: Float[np.ndarray, "rows classes"], v: Float[np.ndarray, "rows classes"], of_z: float, of_v: float
) -> bool:
    """Whether the logits of both networks differ by a shift alone, or by no more than `SAME` of their size and the
    rounding of their types, of precision `of_z` and `of_v`."""
    if not np.isfinite(v).all():  # a renormalised teacher's
        return False
    rounding = np.hypot(of_z * rms(z), of_v * rms(v)) / 12**0.5  # of errors spread evenly within half a step
    return bool(rms(centred(z - v)) <= SAME * (rms(centred(z)) + rms(centred(v))) + 1.1 * rounding)


def _release(array: object) -> None:
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)
