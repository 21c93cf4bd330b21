"""What is wrong with numbers that are looked at in blocks of rows, and in which rows."""

import numpy as np
from jaxtyping import Bool

from kdjax.errors import BadInput, name_rows, require

DISTRIBUTION = 1e-3
"""By how much the sum of probabilities may miss 1."""


class Faults:
    """Notes what is wrong, block by block, and reports it once all rows have been looked at."""

    def __init__(self) -> None:
        self._rows: dict[str, list[int]] = {}
        self._distributions: dict[str, int] = {}
        self._other: set[str] = set()
        self._logarithms: set[str] = set()

    def __bool__(self) -> bool:
        """Whether some rows are wrong."""
        return bool(self._rows)

    def note(self, told: str, wrong: Bool[np.ndarray, "rows"], first: int) -> None:
        """Notes which rows of a block are wrong; `told` says it, with {rows} in their place. `first`: the number of the
        block's first row."""
        if wrong.any():
            self._rows.setdefault(told, []).extend((first + np.flatnonzero(wrong)).tolist())

    def finite(self, name: str, block: np.ndarray, first: int) -> bool:
        """Looks for values that are not finite; returns whether there are none."""
        wrong = ~np.isfinite(block).all(axis=tuple(range(1, block.ndim)))
        self.note(_not_finite(name), wrong, first)
        if wrong.any():
            self._other.add(name)
            if np.isneginf(block[wrong]).any():
                self._logarithms.add(_not_finite(name))
        return not wrong.any()

    def distributions(self, name: str, block: np.ndarray, partial: bool = False) -> None:
        """Looks whether these are probabilities: never negative, each row with the sum 1, or at most 1 (`partial`)."""
        if name in self._other or not block.size:
            return
        sums = block.sum(axis=1)
        fit = (sums <= 1 + DISTRIBUTION).all() and (partial or (sums >= 1 - DISTRIBUTION).all())
        if fit and block.min() >= 0:
            self._distributions[name] = self._distributions.get(name, 0) + len(block)
        else:
            self._other.add(name)

    def report(self) -> None:
        """Raises BadInput for what was noted first: probabilities, or rows that are wrong."""
        for name, count in self._distributions.items():
            at_most = " at most" if "topk" in name else ""
            found = f"each row of {name} sums to 1{at_most} and is never negative ({name_rows(np.arange(count), 3)})"
            remedy = "these are probabilities; give the logits, or numpy.log of them"
            require(name in self._other, f"{found}: {remedy}")
        for told, rows in self._rows.items():
            clip = ", or where -inf is the logarithm of probability 0, clip: log(max(p, 1e-12))"
            raise BadInput(told.replace("{rows}", name_rows(rows)) + clip * (told in self._logarithms))


def _not_finite(name: str) -> str:
    return f"{name} are not finite in {{rows}}: leave these examples out"
