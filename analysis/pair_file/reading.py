"""A file of a student's and its teacher's logits for the same examples, read in blocks of rows.

Its arrays, of n rows and N classes: `student_logits` `[n, N]`, or `student_logprobs`; `teacher_logits` `[n, N]`, or
`teacher_logprobs`, or the k largest of them, `teacher_topk_logits` or `teacher_topk_logprobs` `[n, k]` with
`teacher_topk_indices` `[n, k]`, and of top-k logits `teacher_logsumexp` `[n]`; where there is a label, `labels` `[n]`,
from 0. Log-probabilities are natural logarithms. Besides all of the teacher's logits, the file may hold the k largest:
what their gradient loses is then measured.
"""

from collections.abc import Sequence
from pathlib import Path

from analysis.pair_file.faults import check
from analysis.pair_file.pair import PairFile
from kdjax import logit_columns
from kdjax.columns import Columns, naming
from kdjax.config import TopkRest
from kdjax.errors import require
from kdjax.inputs import read_labels, read_raw, require_classes
from kdjax.logit_columns import INDICES, LOGSUMEXP, TOPK, Full

NAMES = (
    *("student_logits", "student_logprobs", "teacher_logits", "teacher_logprobs"),
    *(*TOPK, INDICES, LOGSUMEXP, "labels"),
)
"""Of the arrays that are read."""
MOST_CLASSES = 200_000


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
        require_classes(teacher.name, teacher.array, classes)
    stored = logit_columns.top_k(columns, classes, rest)
    lacking = "teacher_logits, teacher_logprobs or the teacher's k largest of them"
    known = teacher or stored
    require(known is not None, f"there is no column {lacking}: {columns.hint}")
    assert known is not None
    pointless = f"--topk-rest {rest} is about a teacher's k largest logits, and {path} holds all of them: leave it out"
    require(stored is not None or rest is None, pointless)
    labels = read_labels("labels", columns["labels"], classes) if "labels" in columns else None
    pair = PairFile(path, student, known, stored if teacher is not None else None, labels)
    check(pair)
    return pair


def _full(columns: Columns, network: str) -> Full | None:
    """All logits of a network."""
    name = columns.one_of((f"{network}_logits", f"{network}_logprobs"), f"the {network}")
    if not name:
        return None
    array = read_raw(name, columns[name])
    require_classes(name, array)
    return Full(name, array)
