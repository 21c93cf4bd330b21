"""What is wrong with numbers that are looked at in blocks of rows, and in which rows."""

import numpy as np
from jaxtyping import Bool

from kdjax.errors import BadInput, name_rows, require

SUMS, MISSED = (1, 100, 255), 0.02
"""Sums that rows of probabilities have: as shares, per cent or bytes; and the relative error allowed."""
DISTRIBUTION = 1e-3
"""How far below 0, as a share of the largest, rounding may take a probability."""
MOST = 0.99
"""Share of rows of probabilities from which all are taken to be."""


class Faults:
    """Notes what is wrong, block by block, and reports it once all rows have been looked at."""

    def __init__(self) -> None:
        self._rows: dict[str, list[int]] = {}
        self._distributions: dict[str, list[int]] = {}
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
        if np.isneginf(block[wrong]).any():
            self._logarithms.add(_not_finite(name))
        return not wrong.any()

    def distributions(self, name: str, block: np.ndarray, partial: bool = False) -> None:
        """Counts the rows that look like probabilities: never negative, with the sum 1, or at most 1 (`partial`), or as
        per cent or bytes, with the sum 100 or 255."""
        if not block.size:
            return
        sums, positive = block.sum(axis=1), block.min(axis=1) >= -DISTRIBUTION * np.abs(block).max(axis=1)
        counts = self._distributions.setdefault(name, [0, *[0] * len(SUMS)])
        counts[0] += len(block)
        for i, total in enumerate(SUMS):
            above = partial and total == 1  # of some classes: what is missing is not known
            fit = sums <= total * (1 + MISSED) if above else np.abs(sums - total) <= total * MISSED
            counts[1 + i] += int(np.sum(fit & positive))

    def report(self) -> None:
        """Raises BadInput for what was noted first: probabilities, or rows that are wrong."""
        for name, (count, *fitting) in self._distributions.items():
            for total, fit in zip(SUMS, fitting, strict=True):
                at_most = " at most" if "topk" in name and total == 1 else ""
                which = "each row" if fit == count else f"{fit:,} of {count:,} rows"
                found = f"{which} of {name} sums to {total}{at_most} and is never negative"
                as_one = f" of them over {total}" if total > 1 else " of them"
                remedy = f"these are probabilities; give the logits, or numpy.log{as_one}"
                require(fit < MOST * count, f"{found} ({name_rows(np.arange(count), 3)}): {remedy}")
        for told, rows in self._rows.items():
            clip = ", or where -inf is the logarithm of probability 0, clip: log(max(p, 1e-12))"
            raise BadInput(told.replace("{rows}", name_rows(rows)) + clip * (told in self._logarithms))


def _not_finite(name: str) -> str:
    return f"{name} are not finite in {{rows}}: leave these examples out"
