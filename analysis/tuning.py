"""The learning rate, and the soft weight, of each setting of a study, chosen on the hold-out by seeds of their own."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import runs, stats
from analysis.tables import number
from kdjax.objectives import words_of

SCHEDULE = ["width", "epochs"]
"""The columns that name a study of T."""
CHOICE = ["objective", "temperature"]
"""The columns that name what has a rate of its own."""


class Choice(NamedTuple):
    """What was chosen for one setting."""

    objective: str
    """`hard`, or an objective as `kdjax.objectives.parse` reads it."""
    temperature: float
    """nan for hard labels, and for an objective that does not use one."""
    learning_rate: float
    at_edge: bool = False
    """It is the smallest or the largest rate tried: a better one may lie beyond."""
    soft_weight: float = 1.0
    possible: tuple[float, ...] = ()
    """The rates tried that are not excluded as best, at its soft weight, by the hold-out errors of the tuning seeds
    (`stats.candidates_for_best`: the best rate tried is among them with 95 %). It is about the teachers that tuned."""

    @property
    def name(self) -> str:
        """The setting, in words."""
        if self.objective == "hard":
            return "hard labels"
        at = "" if math.isnan(self.temperature) else f"T = {number(self.temperature)}"
        return at if self.objective == "kd" else ", ".join(filter(None, [words_of(self.objective), at]))


def choices(tried: pd.DataFrame) -> list[Choice]:
    """The rate and soft weight with the fewest mean hold-out errors, over seeds and teachers, of each setting; of equal
    ones the smaller. A rate at which a run failed is not chosen; a setting with no other has no choice. The students of
    soft targets have one soft weight at all T: that whose errors, at each T's best rate, are the fewest in the mean.

    Args:
        tried: rows of the tuning sweeps of one width and schedule. Their test errors are not looked at.
    """
    rates, soft = tried["learning_rate"], tried["objective"] == "kd"
    if runs.finished(tried[soft])["soft_weight"].nunique() > 1:
        each = runs.best_on_holdout(tried[soft], by=["soft_weight", "temperature"])
        of_weight = each.groupby(["soft_weight", "temperature"])["holdout_errors"].mean().groupby("soft_weight")
        whole = of_weight.mean()[of_weight.size() == of_weight.size().max()]
        if len(whole):
            tried = tried[~soft | (tried["soft_weight"] == whole.idxmin())]
    best = runs.best_on_holdout(tried, by=CHOICE).drop_duplicates(CHOICE)
    return [
        Choice(
            str(row["objective"]),
            float(row["temperature"]),
            float(row["learning_rate"]),
            row["learning_rate"] in (rates.min(), rates.max()),
            float(row["soft_weight"]),
            _possible(tried, row),
        )
        for _, row in best.sort_values(CHOICE, key=runs.hard_labels_first).iterrows()
    ]


def _possible(tried: pd.DataFrame, chosen: pd.Series) -> tuple[float, ...]:
    """The rates that are not excluded as best of a setting at its soft weight, over seeds; none with a failed run."""
    named = [*CHOICE, "soft_weight"]
    of_setting = tried[(tried[named].fillna(runs.NONE) == chosen[named].fillna(runs.NONE)).all(axis="columns")]
    whole = runs.whole(of_setting, "holdout_errors")
    errors = whole.pivot_table(index="seed", columns="learning_rate", values="holdout_errors").dropna(axis="columns")
    kept = stats.candidates_for_best(errors.to_numpy(float))
    return tuple(float(rate) for rate, may in zip(errors.columns, kept, strict=True) if may)


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


def at_settings(rows: pd.DataFrame, chosen: Sequence[Choice]) -> pd.DataFrame:
    """Those rows whose setting has a choice, at whatever rate, with that rate in the column `chosen`."""
    rates = {"temperature": [one.temperature for one in chosen], "chosen": [one.learning_rate for one in chosen]}
    named = pd.DataFrame(rates, dtype=float).assign(objective=[one.objective for one in chosen])
    return rows.merge(named, on=CHOICE)  # pandas joins nan to nan


def at_rates(rows: pd.DataFrame, chosen: Sequence[Choice]) -> pd.DataFrame:
    """Those rows whose setting has the rate chosen for it."""
    joined = at_settings(rows, chosen)
    return joined[np.isclose(joined["learning_rate"], joined["chosen"], rtol=1e-6, atol=0)].drop(columns="chosen")
