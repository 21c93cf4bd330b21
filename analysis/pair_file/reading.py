"""A file of a student's and its teacher's logits for the same examples, read in blocks of rows.

Its arrays, of n rows and N classes: `student_logits` `[n, N]`, or `student_logprobs`; `teacher_logits` `[n, N]`, or
`teacher_logprobs`, or the k largest of them, `teacher_topk_logits` or `teacher_topk_logprobs` `[n, k]` with
`teacher_topk_indices` `[n, k]`, and of top-k logits `teacher_logsumexp` `[n]`; where there is a label, `labels` `[n]`,
from 0. Log-probabilities are natural logarithms. Besides all of the teacher's logits, the file may hold the k largest:
what their gradient loses is then measured.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from analysis.pair_file.faults import check
from analysis.pair_file.sources import Full, PairFile, Rest, TopK
from kdjax.array_files import read_arrays
from kdjax.errors import BadInput, name_rows, require, require_known

NAMES = (
    *("student_logits", "student_logprobs", "teacher_logits", "teacher_logprobs", "teacher_topk_logits"),
    *("teacher_topk_logprobs", "teacher_topk_indices", "teacher_logsumexp", "labels"),
)
"""Of the arrays that are read."""
MOST_CLASSES = 200_000


def read_pair(
    path: Path, columns: Sequence[str] = (), rest: Rest | None = None, renormalisable: bool = True
) -> PairFile:
    """Reads and checks a file: `.npz`, `.safetensors`, `.parquet`, or a folder of `.npy` files.

    Args:
        path: of the file.
        columns: `OURS=THEIRS`: the file's own names of arrays.
        rest: what becomes of the classes that a top-k teacher does not give; None: spread.
        renormalisable: whether the command has an option for it.

    Raises:
        BadInput: no such file, or a damaged one; arrays that are missing, or too many; shapes that differ; one class;
            values that are not finite; probabilities; log-probabilities that do not sum to 1; labels or classes out of
            range, or classes that are repeated in a row; the same logits for both.
    """
    try:
        there = path.exists()
    except OSError:
        there = False
    require(there, f"--logits {path} does not exist: give an .npz file, or a folder of .npy files")
    arrays = _Named(path, read_arrays(path), _names(columns))
    student = arrays.full("student")
    assert student is not None
    shape = f"{path}: {student.name} of shape {student.array.shape}"
    require(student.array.ndim == 2, f"{shape}: give [n, N], a logit for each example and class")
    require(len(student.array), f"{shape}: give one example or more")
    count, classes = student.array.shape
    require(2 <= classes <= MOST_CLASSES, f"{shape}: the last axis is the classes, 2 to {MOST_CLASSES:,} of them")
    stored = arrays.top_k(count, classes, rest, renormalisable)
    teacher = arrays.full("teacher", needed=stored is None) or stored
    assert teacher is not None
    if isinstance(teacher, Full):
        differ = f"{shape} and {teacher.name} of shape {teacher.array.shape} differ: give both for the same examples"
        require(teacher.array.shape == student.array.shape, f"{differ} and classes")
    pointless = f"--topk-rest {rest} is about a teacher's k largest logits, and {path} holds all of them: leave it out"
    require(stored is not None or rest is None, pointless)
    pair = PairFile(path, student, teacher, stored if teacher is not stored else None, arrays.labels(count, classes))
    check(pair)
    return pair


class _Named:
    """The arrays of a file, by our names."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray], names: Mapping[str, str]):
        self._path, self._arrays = path, arrays
        self._names = {ours: names.get(ours, ours) for ours in NAMES}
        lacking = [theirs for theirs in names.values() if theirs not in arrays]
        held = f"it holds {', '.join(arrays)}"
        require(not lacking, f"--columns: {path} has no {', '.join(lacking)}; {held}")

    def get(self, ours: str) -> np.ndarray | None:
        """An array of numbers; None where there is none."""
        theirs = self._names[ours]
        if theirs not in self._arrays:
            return None
        array = self._arrays[theirs]
        numbers = array.dtype.kind in "iuf" or array.dtype.name == "bfloat16"
        require(numbers, f"{self._path}: {ours} is of {array.dtype}, no array of numbers: give floating-point numbers")
        return array

    def one_of(self, *names: str) -> str | None:
        """The one of these that there is."""
        found = [name for name in names if self._names[name] in self._arrays]
        require(len(found) < 2, f"{self._path} holds both {' and '.join(found)}: give one of them")
        return found[0] if found else None

    def full(self, network: str, needed: bool = True) -> Full | None:
        names = f"{network}_logits", f"{network}_logprobs"
        name = self.one_of(*names)
        lacks = (
            f"{self._path} holds no {' or '.join(names)}, but {', '.join(self._arrays)}: name it, or say what it is "
        )
        require(name or not needed, f"{lacks}called, by --columns {names[0]}=ITS_NAME")
        array = self.get(name) if name else None
        return None if name is None or array is None else Full(name, array)

    def top_k(self, count: int, classes: int, rest: Rest | None, renormalisable: bool) -> TopK | None:
        name = self.one_of("teacher_topk_logits", "teacher_topk_logprobs")
        values, indices = (self.get(one) if one else None for one in (name, "teacher_topk_indices"))
        logsumexp = self.get("teacher_logsumexp")
        if name is None or values is None:
            alone = [one for one in ("teacher_topk_indices", "teacher_logsumexp") if self._names[one] in self._arrays]
            require(not alone, f"{self._path} holds {' and '.join(alone)} without teacher_topk_logits: give these too")
            return None
        where = f"{self._path}: {name} of shape {values.shape}"
        require(indices is not None, f"{where} comes without teacher_topk_indices: give the class of each, [n, k]")
        assert indices is not None
        fits = values.ndim == 2 and len(values) == count and 1 <= values.shape[1] <= classes
        require(
            fits, f"{where} does not fit {count:,} examples of {classes:,} classes: give [n, k], k up to {classes:,}"
        )
        same = indices.shape == values.shape and indices.dtype.kind in "iu"
        told = f"{where} and teacher_topk_indices of shape {indices.shape}, {indices.dtype}"
        require(same, f"{told}: give a whole number for each")
        if logsumexp is not None:
            of_logits = f"{where}: teacher_logsumexp is of shape {logsumexp.shape}"
            require(logsumexp.shape == (count,), f"{of_logits}: give one for each example, [n]")
            require(
                name == "teacher_topk_logits", f"{self._path}: teacher_logsumexp goes with teacher_topk_logits alone"
            )
        elif name == "teacher_topk_logits" and values.shape[1] < classes and rest != "renormalised":
            dropped = ", or give them none by --topk-rest renormalised" if renormalisable else ""
            unknown = f"{where} do not say how much mass the other classes have"
            raise BadInput(f"{unknown}: add teacher_logsumexp, [n]{dropped}")
        return TopK(name, values, indices, logsumexp, classes, rest or "spread")

    def labels(self, count: int, classes: int) -> Int[np.ndarray, "n"] | None:
        labels = self.get("labels")
        if labels is None:
            return None
        where = f"{self._path}: labels of shape {labels.shape}, {labels.dtype},"
        whole = labels.dtype.kind in "iu" and labels.shape == (count,)
        require(whole, f"{where} are not allowed: give a whole number for each of the {count:,} examples, [n]")
        low, high = int(labels.min()), int(labels.max())
        counted = f"{self._path}: labels are counted from 1 (1 to {classes:,}): subtract 1"
        require((low, high) != (1, classes), counted)
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        told = f"{self._path}: labels lie outside 0 to {classes - 1:,} in {name_rows(wrong)}: count classes from 0"
        require(not len(wrong), told)
        return labels.astype(np.int64)


def _names(columns: Sequence[str]) -> dict[str, str]:
    """The file's names by ours."""
    names: dict[str, str] = {}
    for column in columns:
        ours, equals, theirs = column.partition("=")
        require(ours and equals and theirs, f"--columns {column} is not allowed: write OURS=THEIRS, such as labels=y")
        require_known("columns", ours, NAMES)
        require(ours not in names, f"--columns names {ours} twice: give it once")
        names[ours] = theirs
    return names
