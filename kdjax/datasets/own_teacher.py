"""The teacher of a user's file: logits, log-probabilities, or the largest k of them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from kdjax import logit_columns
from kdjax.arrays import HostLogits
from kdjax.columns import Columns
from kdjax.config import TopkRest
from kdjax.datasets.splits import NO_MASS
from kdjax.faults import Faults
from kdjax.inputs import read_raw, require_classes, require_finite
from kdjax.logit_columns import Full

KINDS = {
    "teacher_logits": "logits",
    "teacher_logprobs": "logprobs",
    "teacher_topk_logits": "top-k logits",
    "teacher_topk_logprobs": "top-k logprobs",
}
"""What a column says, by its name."""


class Table(NamedTuple):
    """The logits of every row."""

    logits: HostLogits
    kind: str
    kept: int | None = None
    """k of a top-k teacher; `rest` and `dropped` as in `GivenTeacher`, of every row."""
    rest: Float[np.ndarray, "images"] | None = None
    dropped: Float[np.ndarray, "images"] | None = None
    doubt: str = ""
    """What looks wrong, for a warning."""


def read_full(name: str, array: np.ndarray) -> Table:
    """Logits or log-probabilities of all classes, by the column's name. Raises BadInput: another shape or type,
    probabilities, log-probabilities of a row that do not sum to 1."""
    require_classes(name, array)
    with np.errstate(over="ignore"):  # what becomes inf is refused
        logits, faults = np.asarray(read_raw(name, array), np.float32), Faults()
    for rows in logit_columns.blocks(*logits.shape):
        Full(name, logits).check(rows, faults)
    faults.report()
    return Table(logits, KINDS[name])


def read_topk(columns: Columns, classes: int, rest: TopkRest) -> Table | None:
    """The largest k logits or log-probabilities of each row, filled in: each of the other classes has what is left of
    the mass, divided evenly, at T = 1 (`spread`), or none at any T (`renormalised`). None: the file has none.

    Raises:
        BadInput: as `logit_columns.top_k`; numbers or classes that do not fit; classes twice in a row; probabilities.
    """
    source = logit_columns.top_k(columns, classes, rest)
    if source is None:
        return None
    count, faults = len(source.values), Faults()
    blocks = logit_columns.blocks(count, classes)
    for rows in blocks:
        source.check(rows, faults)
    faults.report()
    logits, others = np.empty((count, classes), np.float32), np.empty(count, np.float32)
    doubtful, left = np.zeros(count, bool), np.zeros(count)
    with np.errstate(over="ignore"):  # what becomes inf is refused
        for rows in blocks:
            own = source.rest_logits(rows)
            if not source.limited:
                own = source.kept(rows).max(axis=1) - NO_MASS
            logits[rows], others[rows] = source.filled(rows, own), own
            doubtful[rows], left[rows] = source.doubtful(rows), source.left(rows)
    require_finite(source.name, logits)
    kind = KINDS[source.name]
    if source.k == classes:
        return Table(logits, kind)
    dropped = None if source.limited or np.isnan(left).any() else left
    return Table(logits, kind, source.k, others, dropped, logit_columns.doubt(source, np.flatnonzero(doubtful)))
