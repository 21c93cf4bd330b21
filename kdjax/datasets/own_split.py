"""How the rows of a user's file are divided: by its own column, or in a fixed, stratified way. Groups stay whole."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from kdjax.errors import name_rows, require

PARTS = ("train", "holdout", "test")
"""In a column of numbers: 0, 1, 2."""
SHARES = (0.7, 0.1, 0.2)
"""Of the rows, where the file does not say which is which."""

Rows = Int[np.ndarray, "rows"]


class Parts(NamedTuple):
    """The rows of each part."""

    train: Rows
    holdout: Rows
    test: Rows


def read_groups(column: np.ndarray) -> Rows:
    """Each row's group as a number from 0. Raises BadInput: neither numbers nor text; values that are not finite."""
    require(column.ndim == 1, f"groups of shape {column.shape} are not allowed: give one number or text a row, [n]")
    require(column.dtype.kind in "biufUS", f"groups of {column.dtype} are not allowed: give numbers or text")
    if column.dtype.kind == "f":
        rows = np.flatnonzero(~np.isfinite(column))
        require(not len(rows), f"groups are not finite in {name_rows(rows)}: give each row its group")
    return np.unique(column, return_inverse=True)[1]


def read_split(column: np.ndarray, groups: Rows | None) -> Parts:
    """The parts that a column gives, each in the order of the file. Raises BadInput: another value than the names or
    numbers of `PARTS`; no row to train on or to test on; a group in several parts."""
    require(column.ndim == 1, f"split of shape {column.shape} is not allowed: give one word a row, [n]")
    words = f"write {', '.join(PARTS)} or 0, 1, 2"
    require(column.dtype.kind in "iuUS", f"split of {column.dtype} is not allowed: {words}")
    known: tuple[object, ...] = tuple(range(len(PARTS)))
    if column.dtype.kind in "US":
        known = PARTS if column.dtype.kind == "U" else tuple(part.encode() for part in PARTS)
    wrong = np.flatnonzero(~np.isin(column, np.array(known)))
    value = column[wrong[0]] if len(wrong) else ""
    require(not len(wrong), f"split is {value!s} in {name_rows(wrong)}: {words}")
    parts = Parts(*(np.flatnonzero(column == one) for one in known))
    for part in ("train", "test"):
        require(len(getattr(parts, part)), f"split gives no row to {part}: give some of the rows to each part")
    if groups is not None:
        of_rows = np.select([column == one for one in known], range(len(PARTS)))
        low, high = np.full(groups.max() + 1, len(PARTS)), np.full(groups.max() + 1, -1)
        np.minimum.at(low, groups, of_rows)
        np.maximum.at(high, groups, of_rows)
        crossing = np.flatnonzero(low[groups] != high[groups])
        many = f"split divides {np.sum(low < high):,} of {len(low):,} groups, such as that of"
        together = crossing[groups[crossing] == groups[crossing[0]]] if len(crossing) else crossing
        require(not len(crossing), f"{many} {name_rows(together)}: give the rows of a group to one part")
    return parts


def stratified(labels: Rows, groups: Rows | None) -> Parts:
    """`SHARES` of the rows, nearly so of each class, and always the same; each part in a fixed random order.

    Class by class, in an order drawn once, the next group goes to the part that is furthest below its share; the first
    of a class is trained on. Without groups each row is one; a group counts as of its most frequent class, and the
    large ones come first. Raises BadInput: too few groups for three parts.
    """
    random = np.random.default_rng(0)
    groups = np.arange(len(labels)) if groups is None else groups
    sizes, classes = np.bincount(groups), labels.max() + 1
    pairs, counts = np.unique(groups * classes + labels, return_counts=True)
    last = pairs[np.lexsort((counts, pairs // classes))]  # of each group its most frequent class comes last
    main = np.empty(len(sizes), np.int64)
    main[last // classes] = last % classes
    order = np.lexsort((random.random(len(sizes)), -sizes, main))
    place, assigned, done, before = [0] * len(sizes), [0] * len(PARTS), 0, -1
    for group, size, own in zip(order.tolist(), sizes[order].tolist(), main[order].tolist(), strict=True):
        done += size
        missing = [share * done - there for share, there in zip(SHARES, assigned, strict=True)]
        part = missing.index(max(missing)) if own == before else 0
        place[group], before = part, own
        assigned[part] += size
    of_rows = np.array(place)[groups]
    few = f"{len(sizes):,} groups of rows are too few to train, choose and test on"
    require(all(assigned), f"{few}: give more, or a column split with {', '.join(PARTS)}")
    return Parts(*(random.permutation(np.flatnonzero(of_rows == part)) for part in range(len(PARTS))))
