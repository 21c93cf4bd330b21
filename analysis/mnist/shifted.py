"""Test errors of an MNIST table's networks on shifted test images: the section of its summary.

Hinton et al. 2015, Section 3, say that soft targets of unshifted images carry over what the teacher knows of
translations. Here its students are evaluated on test images shifted by k pixels (`experiments.evaluations`).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis import stats, tables
from kdjax.errors import BadInput

PIXELS = (0, 1, 2, 3, 4)
"""Shifts: each by this number of pixels in the eight directions of a compass, all of them scored."""
STUDENTS = {
    "small": "hard labels",
    "of a still teacher": "distilled, teacher of still images",
    "distilled": "distilled",
    "hard jittered": "hard labels, jittered by ±2 px",
    "jittered": "distilled, transfer set jittered by ±2 px",
}
"""Roles, in the order of the table, in words."""
COMPARED = (
    ("distilled", "hard labels"),
    ("distilled", "distilled, teacher of still images"),
    ("distilled, teacher of still images", "hard labels"),
    ("distilled, transfer set jittered by ±2 px", "hard labels, jittered by ±2 px"),
)
"""Does a knowledge of shifts cross through soft targets? All but the last: through those of unshifted images."""


class Shifted(NamedTuple):
    """Errors of one kind of network on shifted test images."""

    name: str
    errors: Float[np.ndarray, "networks shifts"]
    """Mean over directions, on as many images as the test set has."""
    seeds: tuple[int, ...]
    """Of each network."""


def read(folder: Path) -> list[Shifted]:
    """`shifted.csv` of a table's run directory, a kind of network at a time; empty where it was not asked for.

    Raises:
        BadInput: the file is damaged.
    """
    path = folder / "shifted.csv"
    if not path.exists():
        return []
    try:
        kinds = []
        for name, rows in pd.read_csv(path).groupby("network", sort=False):
            table = rows.pivot(index="run", columns="pixels", values="errors")[list(PIXELS)]
            seeds = rows.drop_duplicates("run").sort_values("run")["seed"]
            kinds.append(Shifted(str(name), table.to_numpy(np.float64), tuple(int(seed) for seed in seeds)))
        return kinds
    except (ValueError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} is damaged ({error}): give the experiment's command again") from None


def section(folder: Path) -> str:
    """The section of the summary; empty where the part was not made."""
    found = read(folder)
    if not found:
        return ""
    header = ["test errors at a shift of", *(f"{pixels} px" for pixels in PIXELS), "n"]
    cells = []
    for one in found:
        intervals = [stats.interval(column) for column in one.errors.T]
        ranges = [tables.with_range(*each[:3]) for each in intervals]
        cells.append([one.name, *ranges, str(len(one.errors))])
    differences = []
    by_name = {one.name: one for one in found}
    for first, second in COMPARED:
        if {first, second} <= by_name.keys():
            differences += _differences(by_name[first], by_name[second])
    notes = [
        "Mean over the eight directions; 95 % intervals over seeds. Soft targets are those of unshifted images, where "
        "nothing else is said.",
        "Differences are paired by seed: one is called so where its interval excludes zero. Knowledge of shifts shows "
        "in what is beyond the difference without a shift.",
    ]
    return "## Shifted test images\n\n" + tables.markdown(header, cells + differences, notes, left=1)


def _differences(first: Shifted, second: Shifted) -> list[list[str]]:
    """Two rows: first less second at each shift, over the seeds that both have, and that less its value unshifted."""
    shared = sorted(set(first.seeds) & set(second.seeds))
    if not shared:
        return []
    mine, other = (one.errors[[one.seeds.index(seed) for seed in shared]] for one in (first, second))
    each = [stats.paired_difference(*pair) for pair in zip(mine.T, other.T, strict=True)]
    beyond = [
        stats.paired_difference(*pair) for pair in zip((mine - mine[:, :1]).T, (other - other[:, :1]).T, strict=True)
    ]
    plain, further = ([tables.with_range(*found[:3], sign=True) for found in row] for row in (each, beyond))
    name, n = f"{first.name} − {second.name}", str(len(shared))
    return [[name, *plain, n], ["… beyond that at 0 px", "", *further[1:], n]]
