"""The learning rate of hard labels and of each T, chosen on the hold-out for the widths of an MNIST table."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import runs
from analysis.tables import number

SCHEDULE = ["width", "epochs"]
"""The columns that name a study of T."""
CHOICE = ["objective", "temperature"]
"""The columns that name what has a rate of its own."""


class Choice(NamedTuple):
    """The rate of one setting."""

    objective: str
    """`hard` or `kd`."""
    temperature: float
    """nan for hard labels."""
    learning_rate: float
    at_edge: bool = False
    """It is the smallest or the largest rate tried: a better one may lie beyond."""

    @property
    def name(self) -> str:
        """The setting, in words."""
        return "hard labels" if self.objective == "hard" else f"T = {number(self.temperature)}"


def choices(tried: pd.DataFrame) -> list[Choice]:
    """The rate with the fewest mean hold-out errors, over seeds and teachers, of hard labels and of each T; of equal
    ones the smaller. A rate at which a run failed is not chosen; a setting with no other has no choice.

    Args:
        tried: rows of the tuning sweeps of one width and schedule. Their test errors are not looked at.
    """
    rates = tried["learning_rate"]
    best = runs.best_on_holdout(tried, by=CHOICE).drop_duplicates(CHOICE)
    return [
        Choice(str(row["objective"]), float(row["temperature"]), float(rate), rate in (rates.min(), rates.max()))
        for _, row in best.sort_values(CHOICE).iterrows()
        for rate in [row["learning_rate"]]
    ]


def settings(tried: pd.DataFrame) -> set[str]:
    """The settings that were tried, in words."""
    distinct = tried[CHOICE].drop_duplicates()
    return {Choice(str(row["objective"]), float(row["temperature"]), math.nan).name for _, row in distinct.iterrows()}


def choices_in(folder: Path) -> list[Choice]:
    """The choices of a finished tuning sweep.

    Raises:
        BadInput: `folder` is no run directory of a sweep, or it is damaged.
    """
    return choices(runs.read(folder))


def at_rates(rows: pd.DataFrame, chosen: Sequence[Choice]) -> pd.DataFrame:
    """Those rows whose setting has the rate chosen for it."""
    columns = [*CHOICE, "chosen"]
    rates = pd.DataFrame([(one.objective, one.temperature, one.learning_rate) for one in chosen], columns=columns)
    joined = rows.merge(rates, on=CHOICE, how="left")  # pandas joins nan to nan
    return joined[np.isclose(joined["learning_rate"], joined["chosen"], rtol=1e-6, atol=0)].drop(columns="chosen")
