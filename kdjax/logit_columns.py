"""Logits in a user's file: all of them, or the k largest of each row. They are checked and read in blocks of rows."""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from kdjax.columns import Columns
from kdjax.config import TopkRest
from kdjax.errors import name_rows, require
from kdjax.faults import Faults
from kdjax.inputs import read_raw

INDICES, LOGSUMEXP = "teacher_topk_indices", "teacher_logsumexp"
TOPK = ("teacher_topk_logits", "teacher_topk_logprobs")
ENTRIES = 2**16
"""Logits of each network that are looked at together, at least one row: they stay in a processor's cache."""
SUM_TOLERANCE = 0.02
"""By how much the sum of probabilities, or its logarithm, may be off: half precision does that."""
DOUBTED = 0.01
"""Share of the rows above which a rest that is larger than what is kept is doubted."""
Rows: TypeAlias = slice | Int[np.ndarray, "rows"]
Logits: TypeAlias = Float[np.ndarray, "rows classes"]


class Full(NamedTuple):
    """Logits, or log-probabilities, of every class."""

    name: str
    """In the file."""
    array: np.ndarray
    """`[n, N]`, of any type of numbers; in memory or mapped from the file."""

    @property
    def logprobs(self) -> bool:
        return self.name.endswith("logprobs")

    def block(self, rows: Rows) -> Logits:
        """Some rows, in float64."""
        return np.asarray(self.array[rows], np.float64)

    def check(self, rows: slice, faults: Faults) -> None:
        """Notes what is wrong: values that are not finite; probabilities; log-probabilities that do not sum to 1."""
        block = self.block(rows)
        if not faults.finite(self.name, block, rows.start):
            return
        faults.distributions(self.name, block)
        if self.logprobs:
            logits = self.name.replace("logprobs", "logits")
            told = f"the probabilities of {self.name} do not sum to 1 in {{rows}}"
            told = f"{told}: logits are to be called {logits}; logarithms are natural ones"
            faults.note(told, np.abs(_logsumexp(block)) > SUM_TOLERANCE, rows.start)


class TopK(NamedTuple):
    """The k largest logits of each row, and what becomes of the other classes."""

    name: str
    values: np.ndarray
    """`[n, k]`: logits or log-probabilities."""
    indices: np.ndarray
    """`[n, k]`: their classes."""
    logsumexp: np.ndarray | None
    """`[n]`: the logarithm of the sum of exp of all logits. None: of log-probabilities, 0; of logits, not known."""
    classes: int
    rest: TopkRest
    """`spread`: each other class has the logit `log(r/(N − k))` at T = 1, r being the mass left over; where r may be
    rounding, not more than the least of the k. `renormalised`: the others have no mass at any T."""

    @property
    def k(self) -> int:
        return int(self.values.shape[1])

    @property
    def logprobs(self) -> bool:
        return self.name.endswith("logprobs")

    @property
    def limited(self) -> bool:
        """Whether every class has a logit, so that there is a limit T → ∞."""
        return self.rest == "spread" or self.k == self.classes

    def block(self, rows: Rows) -> Logits:
        """Some rows with all N logits, in float64; −inf where a class has no mass."""
        return self.filled(rows, self.rest_logits(rows))

    def filled(self, rows: Rows, others: Float[np.ndarray, "rows"]) -> Logits:
        """The same, each other class having the logit of its row in `others`."""
        filled = np.repeat(others[:, None], self.classes, axis=1)
        np.put_along_axis(filled, self.classes_of(rows), self.kept(rows), axis=1)
        return filled

    def kept(self, rows: Rows) -> Float[np.ndarray, "rows k"]:
        """The logits that there are."""
        return np.asarray(self.values[rows], np.float64)

    def classes_of(self, rows: Rows) -> Int[np.ndarray, "rows k"]:
        """Their classes."""
        return np.asarray(self.indices[rows], np.int64)

    def rest_logits(self, rows: Rows) -> Float[np.ndarray, "rows"]:
        """The logit of each other class; −inf where it has no mass."""
        if self.rest == "renormalised" or self.k == self.classes:
            return np.full(len(self.values[rows]), -math.inf)
        divided = self._whole(rows) + np.log(self.left(rows) / (self.classes - self.k))
        may_be_rounding = 1 - self.mass(rows) <= np.maximum(self._rounded(rows), self._least)
        return np.where(may_be_rounding, np.minimum(divided, self.kept(rows).min(axis=1)), divided)

    def mass(self, rows: Rows) -> Float[np.ndarray, "rows"]:
        """That of the k classes at T = 1; nan where the logits do not say."""
        return np.exp(np.minimum(_logsumexp(self.kept(rows)) - self._whole(rows), 99))

    def left(self, rows: Rows) -> Float[np.ndarray, "rows"]:
        """The mass of all other classes; at least the numbers' precision, below which it is not known. That of
        log-probabilities, which are near 0 where the mass is, is known better: to `Σ p |log p|` of their precision, and
        to 2⁻²³ at best."""
        least = np.clip(self._rounded(rows), self._least, precision(self.values)) if self.logprobs else self._least
        return np.maximum(1 - self.mass(rows), least)

    def doubtful(self, rows: Rows) -> Bool[np.ndarray, "rows"]:
        """Rows in which each other class gets more than the least of those that are kept."""
        return self.rest_logits(rows) > self.kept(rows).min(axis=1) + 0.01

    @property
    def _least(self) -> float:
        """The least mass that is known of the other classes, at best."""
        known = precision(self.values)
        return min(known, 2.0**-23) if self.logprobs else known

    def _rounded(self, rows: Rows) -> Float[np.ndarray, "rows"]:
        """By how much rounding may change the mass of the k."""
        kept = self.kept(rows)
        if self.logprobs:
            return precision(self.values) * -(np.exp(kept) * kept).sum(axis=1)
        assert self.logsumexp is not None
        of_whole = precision(self.logsumexp) * np.abs(self._whole(rows))
        return np.expm1(np.minimum((precision(self.values) * np.abs(kept.max(axis=1)) + of_whole) / 2, 99))

    def check(self, rows: slice, faults: Faults) -> None:
        """Notes what is wrong: classes out of range or repeated in a row; values that are not finite; probabilities;
        more mass than 1."""
        indices, first = np.sort(self.classes_of(rows), axis=1), rows.start
        outside = (indices[:, 0] < 0) | (indices[:, -1] >= self.classes)
        limits = f"outside 0 to {self.classes - 1:,}"
        faults.note(f"{INDICES} lie {limits} in {{rows}}: count classes from 0", outside, first)
        repeated = (np.diff(indices, axis=1) == 0).any(axis=1)
        faults.note(f"{INDICES} repeat a class in {{rows}}: give each class once", repeated, first)
        values = self.kept(rows)
        finite = faults.finite(self.name, values, first)
        if self.logsumexp is not None:
            finite = faults.finite(LOGSUMEXP, self._whole(rows), first) and finite
        if not finite:
            return
        faults.distributions(self.name, values, partial=True)
        remedy = "logits are to be called teacher_topk_logits; logarithms are natural ones"
        if self.logsumexp is not None:
            remedy = f"{LOGSUMEXP} is log(sum(exp(all logits)))"
        told = f"the probabilities of {self.name} sum to more than 1 in {{rows}}: {remedy}"
        rounded = self._rounded(rows) if self.logsumexp is not None else 0.0
        faults.note(told, self.mass(rows) > 1 + np.maximum(SUM_TOLERANCE, rounded), first)  # nan, not known, passes

    def _whole(self, rows: Rows) -> Float[np.ndarray, "rows"]:
        if self.logsumexp is not None:
            return np.asarray(self.logsumexp[rows], np.float64)
        return np.full(len(self.values[rows]), 0.0 if self.logprobs else math.nan)


def top_k(columns: Columns, classes: int, rest: TopkRest | None) -> TopK | None:
    """The teacher's k largest logits of a file, which have to be checked; None where it has none. `rest` None: spread.

    Raises:
        BadInput: columns that are missing, or go with others; shapes or types that do not fit; the mass of the other
            classes is not known.
    """
    name = columns.one_of(TOPK, "the teacher's largest k classes")
    if not name:
        for alone in (INDICES, LOGSUMEXP):
            require(alone not in columns, f"there is {alone} and no {' or '.join(TOPK)}: {columns.hint}")
        return None
    require(INDICES in columns, f"{name} needs {INDICES}, the class of each: {columns.hint}")
    values, indices = read_raw(name, columns[name]), read_raw(INDICES, columns[INDICES])
    fits = values.ndim == 2 and 1 <= values.shape[1] <= classes
    k = f"k up to the {classes:,} classes"
    require(fits, f"{name} of shape {values.shape} are not allowed: give [n, k], {k}")
    same = indices.shape == values.shape and indices.dtype.kind in "iu"
    shapes = f"{name} of shape {values.shape} and {INDICES} of shape {indices.shape}, {indices.dtype}, do not fit"
    require(same, f"{shapes}: give both [n, k], a whole number for each")
    logsumexp = None
    if LOGSUMEXP in columns:
        require(name == TOPK[0], f"{LOGSUMEXP} is not for {name}, whose sum is 1: leave it out, or give {TOPK[0]}")
        logsumexp = read_raw(LOGSUMEXP, columns[LOGSUMEXP])
        fits = logsumexp.shape == values.shape[:1]
        require(fits, f"{LOGSUMEXP} of shape {logsumexp.shape} does not fit: give one for each example, [n]")
    known = name == TOPK[1] or logsumexp is not None or values.shape[1] == classes or rest == "renormalised"
    unknown = f"{name} alone does not say how much mass its {values.shape[1]} of {classes:,} classes leave"
    remedy = f"add a column {LOGSUMEXP} (log of the sum of exp of all logits)"
    require(known, f"{unknown}: {remedy}, or give --topk-rest renormalised where there is this option")
    return TopK(name, values, indices, logsumexp, classes, rest or "spread")


def doubt(top_k: TopK, rows: Int[np.ndarray, "rows"]) -> str:
    """A warning that these rows are `doubtful`; empty where they are few."""
    if len(rows) <= DOUBTED * len(top_k.values):
        return ""
    given = f"what {top_k.name} leaves, divided over {top_k.classes - top_k.k:,} classes"
    more = f"gives each more than the least of the {top_k.k:,} kept in {name_rows(rows)}"
    return f"{given}, {more}: are they the largest, at T = 1, and are there {top_k.classes:,} classes?"


def blocks(rows: int, classes: int) -> list[slice]:
    """All rows, in blocks of at most `ENTRIES` logits, or of one row."""
    size = max(1, ENTRIES // classes)
    return [slice(first, min(first + size, rows)) for first in range(0, rows, size)]


def precision(array: np.ndarray) -> float:
    """The distance from 1 to the next number of an array's type; 1e-7 of whole numbers."""
    dtype = array.dtype
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps) if dtype.kind == "f" else 1e-7


def _logsumexp(block: Logits) -> Float[np.ndarray, "rows"]:
    top = block.max(axis=1, keepdims=True)
    whole: np.ndarray = top[:, 0] + np.log(np.exp(block - top).sum(axis=1))
    return whole
