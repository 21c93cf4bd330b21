"""What is wrong with the numbers of a file of pairs, and in which rows. Every number is looked at once, in blocks."""

import numpy as np

from analysis.matching.theory import centred, rms
from analysis.pair_file.sources import Full, PairFile, TopK
from kdjax.errors import BadInput, name_rows, require
from kdjax.progress import Progress, say

SUMS_TO_ONE = 0.02
"""Log-probabilities are such where the logarithm of their sum is nearer to 0: they may be rounded to bfloat16."""


def check(pair: PairFile) -> None:
    """Raises BadInput, with rows: values that are not finite; probabilities; log-probabilities that do not sum to 1;
    classes out of range, or repeated in a row; the same logits for both networks."""
    found = _Faults(pair)
    blocks = pair.blocks()
    with Progress(f"checking {pair.path.name}", len(blocks)) as progress:
        for index, rows in enumerate(blocks):
            found.look(rows)
            if index % 64 == 63:
                pair.release()
                progress.update(index + 1, f"{rows.stop:,} of {pair.rows:,} rows")
    found.report()


class _Faults:
    """Rows in which something is wrong, by what it is."""

    def __init__(self, pair: PairFile):
        self._pair = pair
        self._rows: dict[str, list[int]] = {}
        self._probabilities = {source.name: True for source in pair.sources}
        self._same = True
        self._more_than_given = 0

    def look(self, rows: slice) -> None:
        """Looks at a block of rows."""
        pair = self._pair
        given: dict[str, np.ndarray] = {}
        for source in pair.sources:
            if isinstance(source, Full):
                given[source.name] = source.block(rows)
            else:
                given[source.name] = np.asarray(source.values[rows], np.float64)
                if source.logsumexp is not None:
                    given["teacher_logsumexp"] = np.asarray(source.logsumexp[rows], np.float64)[:, None]
                self._classes(source, rows)
        finite = True
        for name, block in given.items():
            wrong = ~np.isfinite(block).all(axis=1)
            self._note(f"{name} is not finite in {{rows}}: leave these examples out", wrong, rows)
            finite = finite and not wrong.any()
        if not finite:
            self._same, self._probabilities = False, {}
            return
        for source in pair.sources:
            block = given[source.name]
            if self._probabilities.get(source.name):
                sums = block.sum(axis=1)
                fit = (sums < 1.001).all() and (isinstance(source, TopK) or (sums > 0.999).all())
                self._probabilities[source.name] = bool(fit and block.min() >= 0)
            self._mass(source, block, rows)
        if self._same and not self._rows:
            z, v = pair.student.block(rows), pair.teacher.block(rows)
            known = np.isfinite(v).all()  # a renormalised teacher's are not
            self._same = known and rms(centred(z - v)) <= 1e-9 * (rms(centred(z)) + rms(centred(v)))

    def report(self) -> None:
        """Raises BadInput for the first thing that is wrong."""
        path = self._pair.path
        for name, wrong in self._probabilities.items():
            told = f"{path}: each row of {name} is never negative and sums to 1"
            at_most = " at most" if "topk" in name else ""
            remedy = f"these are probabilities; give numpy.log of them, as {name.replace('logits', 'logprobs')}"
            require(not wrong, f"{told}{at_most}: {remedy}")
        for what, rows in self._rows.items():
            raise BadInput(f"{path}: {what.format(rows=name_rows(rows))}")
        same = f"{path}: student and teacher have the same logits: every gradient is 0; give two networks' logits"
        require(not self._same, same)
        if self._more_than_given > 0.01 * self._pair.rows:
            say(
                f"warning: in {self._more_than_given:,} of {self._pair.rows:,} rows each class that is not given gets "
                f"more than the least that is: are the k given the largest, of {self._pair.classes:,} classes?"
            )

    def _note(self, what: str, wrong: np.ndarray, rows: slice) -> None:
        if wrong.any():
            self._rows.setdefault(what, []).extend((rows.start + np.flatnonzero(wrong)).tolist())

    def _classes(self, source: TopK, rows: slice) -> None:
        indices = np.sort(source.classes_of(rows), axis=1)
        outside = (indices[:, 0] < 0) | (indices[:, -1] >= source.classes)
        limits = f"outside 0 to {source.classes - 1:,}"
        self._note(f"teacher_topk_indices lie {limits} in {{rows}}: count classes from 0", outside, rows)
        repeated = (np.diff(indices, axis=1) == 0).any(axis=1)
        self._note("teacher_topk_indices repeat a class in {rows}: give each class once", repeated, rows)

    def _mass(self, source: Full | TopK, block: np.ndarray, rows: slice) -> None:
        """Log-probabilities whose sum is not 1, or of the k largest is more."""
        if isinstance(source, TopK):
            told = f"{source.name} sum to more than 1 in {{rows}}: give natural logarithms of probabilities"
            if source.logsumexp is not None:
                told = f"{source.name} alone exceed teacher_logsumexp in {{rows}}: it is the logsumexp of all logits"
            with np.errstate(over="ignore"):
                mass = source.given(rows)
            self._note(told, mass > 1 + SUMS_TO_ONE, rows)  # nan, not known, passes
            self._more_than_given += int((source.rest_logits(rows) > block.min(axis=1) + 0.01).sum())
            return
        if source.logprobs:
            top = block.max(axis=1, keepdims=True)
            whole = top[:, 0] + np.log(np.exp(block - top).sum(axis=1))
            logits = source.name.replace("logprobs", "logits")
            told = f"{source.name} do not sum to 1 in {{rows}}: give natural logarithms of probabilities, or {logits}"
            self._note(told, np.abs(whole) > SUMS_TO_ONE, rows)
