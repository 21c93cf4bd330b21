"""The logits of one network in a file of pairs: all of them, or the k largest of each row; read in blocks of rows."""

import math
import mmap
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

ENTRIES = 2**16
"""Logits of each network that are looked at together, at least one row: they stay in a processor's cache."""
Rows: TypeAlias = slice | Int[np.ndarray, "rows"]
Logits: TypeAlias = Float[np.ndarray, "rows classes"]
Rest = Literal["spread", "renormalised"]


class Full(NamedTuple):
    """Logits of every class."""

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
    rest: Rest
    """`spread`: each other class has the logit `log(r/(N − k))` at T = 1, r being the mass left over. `renormalised`:
    the others have no mass at any T."""

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
        filled = np.repeat(self.rest_logits(rows)[:, None], self.classes, axis=1)
        np.put_along_axis(filled, self.classes_of(rows), np.asarray(self.values[rows], np.float64), axis=1)
        return filled

    def classes_of(self, rows: Rows) -> Int[np.ndarray, "rows k"]:
        """The classes whose logits are given."""
        return np.asarray(self.indices[rows], np.int64)

    def rest_logits(self, rows: Rows) -> Float[np.ndarray, "rows"]:
        """The logit of each class that is not given; −inf where it has no mass."""
        values = np.asarray(self.values[rows], np.float64)
        if self.rest == "renormalised" or self.k == self.classes:
            return np.full(len(values), -math.inf)
        whole = self._whole(rows, len(values))
        # Below the precision of the numbers, what is left is not known.
        least = np.finfo(self.values.dtype).eps if self.values.dtype.kind == "f" else 1e-7
        left = np.maximum(1 - np.exp(values - whole[:, None]).sum(axis=1), least)
        return whole + np.log(left / (self.classes - self.k))

    def given(self, rows: Rows) -> Float[np.ndarray, "rows"]:
        """The mass of the k given classes at T = 1; nan where the logits do not say."""
        values = np.asarray(self.values[rows], np.float64)
        return np.exp(values - self._whole(rows, len(values))[:, None]).sum(axis=1)

    def _whole(self, rows: Rows, count: int) -> Float[np.ndarray, "rows"]:
        if self.logsumexp is not None:
            return np.asarray(self.logsumexp[rows], np.float64)
        return np.full(count, 0.0 if self.logprobs else math.nan)


class PairFile(NamedTuple):
    """What a file holds, checked."""

    path: Path
    student: Full
    teacher: Full | TopK
    stored: TopK | None
    """The k largest of the teacher's logits, where the file holds all of them too."""
    labels: Int[np.ndarray, "n"] | None

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
        """All rows, in blocks of at most `ENTRIES` logits, or of one row."""
        size = max(1, ENTRIES // self.classes)
        return [slice(first, min(first + size, self.rows)) for first in range(0, self.rows, size)]

    @property
    def sources(self) -> list[Full | TopK]:
        """All that the file holds of logits."""
        return [self.student, self.teacher, *([] if self.stored is None else [self.stored])]

    def release(self) -> None:
        """Lets go of what has been read of a mapped file: it need not stay in memory."""
        for source in self.sources:
            for array in source:
                _release(array)


def _release(array: object) -> None:
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)
