"""The teacher of a user's file: logits, log-probabilities, or the largest k of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from scipy.special import logsumexp

from kdjax.arrays import HostLogits
from kdjax.config import TopkRest
from kdjax.datasets.splits import NO_MASS
from kdjax.errors import name_rows, require
from kdjax.inputs import read, read_logits, read_numbers, require_finite, require_no_probabilities

KINDS = {
    "teacher_logits": "logits",
    "teacher_logprobs": "logprobs",
    "teacher_topk_logits": "top-k logits",
    "teacher_topk_logprobs": "top-k logprobs",
}
"""What a column says, by its name."""
INDICES, LOGSUMEXP = "teacher_topk_indices", "teacher_logsumexp"
OFF = 0.02
"""By how much probabilities may miss the sum of 1: half precision does."""


class Table(NamedTuple):
    """The logits of every row."""

    logits: HostLogits
    kind: str
    given: int | None = None
    """As in `GivenTeacher`, and so the next two, of every row."""
    rest: Float[np.ndarray, "images"] | None = None
    dropped: Float[np.ndarray, "images"] | None = None
    doubt: str = ""
    """What looks wrong, for a warning."""


def read_full(name: str, array: np.ndarray) -> Table:
    """Logits or log-probabilities of all classes, by the column's name. Raises BadInput: another shape or type,
    probabilities, log-probabilities of a row that do not sum to 1."""
    if name == "teacher_logits":
        return Table(read_logits(name, array), KINDS[name])
    require_no_probabilities(name, read(name, array), "give numpy.log of them")
    logits = read_logits(name, array)
    sums = logsumexp(np.asarray(logits, np.float64), axis=1)
    wrong = np.flatnonzero(np.abs(sums) > OFF)
    total = f"{np.exp(min(sums[wrong[0]], 99)):.3g}" if len(wrong) else ""
    found = f"the probabilities of {name} sum to {total} in {name_rows(wrong[:1])}, and to no 1 in {len(wrong):,} rows"
    remedy = "logits are to be called teacher_logits; logarithms are natural ones"
    require(not len(wrong), f"{found} ({name_rows(wrong)}): {remedy}")
    return Table(logits, KINDS[name])


def read_topk(name: str, columns: Mapping[str, np.ndarray], classes: int, rest: TopkRest) -> Table:
    """The largest k logits or log-probabilities of each row, filled in: each of the other classes has what is left of
    the mass, divided evenly, at T = 1 (`spread`), or none at any T (`renormalised`).

    Args:
        name: `teacher_topk_logits` or `teacher_topk_logprobs`.
        columns: by name, with the classes, and perhaps the logarithms of the sums.
        classes: their number.

    Raises:
        BadInput: shapes, numbers or class numbers that do not fit; classes twice in a row; probabilities; what is left
            is not known.
    """
    raw, indices, totals = columns[name], _read_indices(columns[INDICES], classes), LOGSUMEXP in columns
    values = np.asarray(read(name, raw), np.float64)
    require(values.ndim == 2, f"{name} of shape {raw.shape} is not allowed: give [n, k]")
    shapes = f"{name} of shape {values.shape} and {INDICES} of shape {indices.shape} do not fit"
    require(values.shape == indices.shape, f"{shapes}: give [n, k] both")
    require_finite(name, values)
    probabilities = values.min() >= 0 and bool((values.sum(axis=1) <= 1.001).all())
    require(not probabilities, f"each row of {name} is never negative and sums to 1 at most: give numpy.log of them")
    k, log_total, known = values.shape[1], np.zeros(len(values)), name == "teacher_topk_logprobs" or totals
    if totals:
        log_total = np.asarray(read_numbers(LOGSUMEXP, columns[LOGSUMEXP]), np.float64)
        require(log_total.shape == values.shape[:1], f"{LOGSUMEXP} of shape {log_total.shape} do not fit: give [n]")
    if k == classes:
        logits = np.empty(values.shape, np.float32)
        np.put_along_axis(logits, indices, values.astype(np.float32), 1)
        return Table(logits, KINDS[name])
    left = np.zeros(0)
    if known:
        mass = np.exp(np.minimum(logsumexp(values, axis=1) - log_total, 99))
        wrong = np.flatnonzero(mass > 1 + OFF)
        remedy = (
            f"{LOGSUMEXP} is log(sum(exp(all logits)))" if totals else "logits are to be called teacher_topk_logits"
        )
        require(not len(wrong), f"the probabilities of {name} sum to more than 1 in {name_rows(wrong)}: {remedy}")
        # Below the precision of the numbers, what is left is not known.
        left = np.maximum(1 - mass, np.finfo(raw.dtype).eps if raw.dtype.kind == "f" else 1e-7)
    if rest == "renormalised":
        others = values.max(axis=1) - NO_MASS
    else:
        unknown = f"{name} alone does not say how much mass its {k} of {classes:,} classes leave"
        remedy = f"add a column {LOGSUMEXP} (log of the sum of exp of all logits), or give --topk-rest renormalised"
        require(known, f"{unknown}: {remedy}")
        others = log_total + np.log(left / (classes - k))
    logits = np.repeat(others.astype(np.float32)[:, None], classes, axis=1)
    np.put_along_axis(logits, indices, values.astype(np.float32), 1)
    large = np.flatnonzero(others > values.min(axis=1) + 0.01)
    doubt = f"what {name} leaves, divided over {classes - k:,} classes, gives each more than the least of the {k} given"
    doubt = f"{doubt} in {name_rows(large)}: are they the largest, at T = 1, and are there {classes:,} classes?"
    dropped = left if rest == "renormalised" and known else None
    return Table(logits, KINDS[name], k, others.astype(np.float32), dropped, doubt * (len(large) > 0.01 * len(values)))


def _read_indices(indices: np.ndarray, classes: int) -> Int64[np.ndarray, "images k"]:
    whole = f"{INDICES} of {indices.dtype} and shape {indices.shape} are not allowed: give whole numbers, [n, k]"
    require(indices.ndim == 2 and indices.dtype.kind in "iu", whole)
    wrong = np.flatnonzero(((indices < 0) | (indices >= classes)).any(axis=1))
    require(not len(wrong), f"{INDICES} are no classes 0 to {classes - 1:,} in {name_rows(wrong)}: count from 0")
    twice = np.flatnonzero((np.diff(np.sort(indices, axis=1), axis=1) == 0).any(axis=1))
    require(not len(twice), f"{INDICES} name a class twice in {name_rows(twice)}: name each once a row")
    return indices.astype(np.int64)
