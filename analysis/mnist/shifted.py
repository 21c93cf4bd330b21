"""Test errors of an MNIST table's networks on shifted test images: the section of its summary.

Hinton et al. 2015, Section 3, say that soft targets of unshifted images carry over what the teacher knows of
translations. Here its students are evaluated on test images shifted by k pixels (`experiments.mnist.evaluations`).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis import crossed, runs, stats
from analysis.mnist.roles import Role
from analysis.tables import Table, estimate

PIXELS = (0, 1, 2, 3, 4)
"""Shifts: by so many pixels in each of the eight directions of a compass."""
STUDENTS = {
    Role.SMALL: "hard labels",
    Role.STILL_TEACHER: "distilled, teacher of still images",
    Role.DISTILLED: "distilled",
    Role.HARD_JITTERED: "hard labels, jittered by ±2 px",
    Role.JITTERED: "distilled, transfer set jittered by ±2 px",
}
"""Roles, in the order of the table, in words."""
COMPARED = (
    ("distilled", "hard labels"),
    ("distilled", "distilled, teacher of still images"),
    ("distilled, teacher of still images", "hard labels"),
    ("distilled, transfer set jittered by ±2 px", "hard labels, jittered by ±2 px"),
)
"""Does knowledge of shifts pass through soft targets? In all but the last: through those of unshifted images."""


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
    kinds = []
    with runs.reading(path):
        for name, rows in pd.read_csv(path).groupby("network", sort=False):
            table = rows.pivot(index="run", columns="pixels", values="errors")[list(PIXELS)]
            seeds = rows.drop_duplicates("run").sort_values("run")["seed"]
            kinds.append(Shifted(str(name), table.to_numpy(np.float64), tuple(int(seed) for seed in seeds)))
    return kinds


def section(folder: Path) -> str:
    """The section of the summary; empty where the part was not made."""
    kinds = {kind.name: kind for kind in read(folder)}
    if not kinds:
        return ""
    header = ["test errors at a shift of", *(f"{pixels} px" for pixels in PIXELS), "n"]
    cells = []
    for kind in kinds.values():
        means = [estimate(stats.interval(column)) for column in kind.errors.T]
        cells.append([kind.name, *means, str(len(kind.errors))])
    for first, second in COMPARED:
        if {first, second} <= kinds.keys():
            cells += _differences(kinds[first], kinds[second])
    notes = [
        "Mean over the eight directions; 95 % intervals over seeds. Soft targets are those of unshifted images, where "
        "nothing else is said.",
        "Differences are paired by seed; their intervals are not corrected for their number. Knowledge of shifts shows "
        "in what is beyond the difference without a shift.",
    ]
    return "## Shifted test images\n\n" + Table(header, cells, notes, left=1).markdown()


def _differences(first: Shifted, second: Shifted) -> list[list[str]]:
    """Two rows: first less second at each shift, over the seeds that both have, and that less its value unshifted."""
    shared = sorted(set(first.seeds) & set(second.seeds))
    if not shared:
        return []
    a, b = (kind.errors[[kind.seeds.index(seed) for seed in shared]] for kind in (first, second))
    each = [crossed.paired_difference(*pair) for pair in zip(a.T, b.T, strict=True)]
    beyond = [crossed.paired_difference(*pair) for pair in zip((a - a[:, :1]).T, (b - b[:, :1]).T, strict=True)]
    plain, further = ([estimate(difference, sign=True) for difference in row] for row in (each, beyond))
    n = str(len(shared))
    return [[f"{first.name} − {second.name}", *plain, n], ["… beyond that at 0 px", "", *further[1:], n]]
