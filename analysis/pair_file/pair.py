"""A file of pairs, read and checked."""

import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from kdjax import logit_columns
from kdjax.logit_columns import Full, TopK


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


def _release(array: object) -> None:
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)
