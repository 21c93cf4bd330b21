"""The numbers of the atlas as tables: a row an objective, means over the seeds of one student."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import stats
from analysis.atlas.measurements import KINDS, same_at_every_temperature
from analysis.atlas.pairs import Pairs
from analysis.matching.theory import PAPER
from analysis.tables import columns_of

LOW, MIDDLE, HIGH = 1.0, PAPER, math.inf
SHOWN = (LOW, 4.0, MIDDLE, HIGH)
"""Temperatures of the tables."""


class Atlas(NamedTuple):
    """Everything that was measured."""

    pairs: Pairs
    curves: pd.DataFrame
    """As `measurements.measure` gives it."""
    summary: pd.DataFrame
    """As `measurements.summary` gives it."""
    kinds: Mapping[str, str]
    """What each objective becomes, one of `measurements.KINDS`."""
    reasons: Mapping[str, str]
    """Why there is no limit, for the objectives that have none."""


def of_student(table: pd.DataFrame, student: str) -> pd.DataFrame:
    """The rows of one student, from every seed."""
    return table[table["student"] == student]


def means(atlas: Atlas, temperature: float) -> pd.DataFrame:
    """The measures at one temperature by objective: means over the seeds of the students that are followed."""
    rows = of_student(atlas.curves, atlas.pairs.followed)
    rows = rows[np.isclose(rows["temperature"], temperature)]
    return rows.drop(columns=["student", "seed"]).groupby("objective").mean()


def threshold(atlas: Atlas, student: str, objective: str) -> stats.Interval:
    """The T from which an objective is near its limit, with its interval over seeds."""
    rows = of_student(atlas.summary, student)
    return stats.interval(rows.loc[rows["objective"] == objective, "threshold"].to_numpy())


def frame(atlas: Atlas) -> pd.DataFrame:
    """`table.csv`: in the order of `KINDS`, then of T.

    `becomes`, `threshold`, `slope`; and with the temperature behind them `error`, `loss`, `scale`, `direction`,
    `mean_logit`, `matching` (cosine with logit matching) and `first`, `lower`: the shares of the gradient of the class
    with the largest teacher logit, and of the lower half.
    """
    by_temperature = {temperature: means(atlas, temperature).reindex(list(atlas.kinds)) for temperature in SHOWN}
    slopes = of_student(atlas.summary, atlas.pairs.followed).groupby("objective")["slope"].mean()
    constant = same_at_every_temperature(atlas.curves)
    rows = []
    for objective, kind in atlas.kinds.items():
        near = threshold(atlas, atlas.pairs.followed, objective)
        row = {"objective": objective, "becomes": kind, **columns_of("threshold", near), "n": near.n}
        row |= {"slope": slopes[objective], "depends_on_temperature": objective not in constant}
        for temperature, table in by_temperature.items():
            row |= {f"{name}_{temperature:g}": value for name, value in _of(table.loc[objective]).items()}
        rows.append(row)
    table = pd.DataFrame(rows)
    order = table["becomes"].map(list(KINDS).index)
    return table.assign(order=order).sort_values(["order", "threshold"], kind="stable").drop(columns="order")


def _of(row: pd.Series) -> dict[str, float]:
    shares = row[[name for name in row.index if name.startswith("rank ")]].to_numpy(np.float64)
    names = {"loss": "loss over limit", "mean_logit": "mean logit", "matching": "logit matching"}
    names |= {name: name for name in ("error", "scale", "direction")}
    lower = float(shares[len(shares) // 2 :].sum())
    return {**{name: float(row[column]) for name, column in names.items()}, "first": shares[0], "lower": lower}
