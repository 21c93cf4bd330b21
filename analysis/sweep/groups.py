"""Settings that differ in temperature alone, with their hard labels: what the verdict compares.

Errors are means over teachers, a number a seed, so that what is said of them is about these teachers. Where settings
were trained at several rates and there is a hold-out, each setting, hard labels too, has the rate that it chooses.
"""

from typing import NamedTuple

import pandas as pd

from analysis import runs, stats
from analysis.runs import NAMES
from analysis.sweep import plan
from analysis.tables import number
from kdjax.objectives import is_control, words_of

HARD = 0.0
"""Stands for hard labels among temperatures, which are above 0."""


def is_compared(objective: str) -> bool:
    """Whether an objective is compared with hard labels: it is neither these nor a control."""
    return objective != "hard" and not is_control(objective)


class Group(NamedTuple):
    """One width, objective, soft weight and, where it is not chosen for each setting, rate."""

    name: str
    """What tells it from other groups, after its width: `300 units, rate 0.01`."""
    errors: pd.DataFrame
    """Test errors, a row a seed, a column a temperature, `HARD` for hard labels; nan where a run failed."""
    holdout: pd.Series
    """Mean hold-out errors by column; without those of which a run failed, and empty where there is no hold-out."""

    @property
    def temperatures(self) -> list[float]:
        """Those that were asked for."""
        return [t for t in self.errors if t != HARD]

    def differences(self) -> dict[float, stats.Difference]:
        """From hard labels, by temperature, over the seeds that have both; without those that have no two."""
        hard = self.errors.get(HARD, pd.Series(dtype=float))
        pairs = {t: pd.concat([self.errors[t], hard], axis=1).dropna().to_numpy(float) for t in self.temperatures}
        return {t: stats.paired_difference(*pair.T) for t, pair in pairs.items() if len(pair) > 1}

    def means(self) -> dict[float, float]:
        """Of the columns in which a run finished."""
        return {float(t): float(mean) for t, mean in self.errors.mean().dropna().items()}

    def candidates(self) -> list[float]:
        """The temperatures that are not excluded as best, all at once; none where that cannot be told."""
        whole = self.errors[self.temperatures].dropna(axis="columns")
        if whole.shape[1] < 2 or len(whole) < 2:
            return []
        possible = stats.candidates_for_best(whole.to_numpy(float), simultaneous=True)
        return [t for t, may in zip(whole, possible, strict=True) if may]

    def spread(self) -> plan.Spread | None:
        """That of paired differences from hard labels; None where it is not known."""
        whole = self.errors.dropna(axis="columns")
        if HARD not in whole or whole.shape[1] < 2 or len(whole) < 2:
            return None
        less = whole[[t for t in whole if t != HARD]].sub(whole[HARD], axis="index").to_numpy(float)
        spread = plan.spread_of([column[None] for column in less.T])
        return spread if spread.runs > 0 else None


def of(results: pd.DataFrame) -> list[Group]:
    """Those of a sweep's runs, by width, those that failed included."""
    names = [name for name in runs.SETTING if name not in ("temperature", "learning_rate")]
    several = results.groupby([*names, "temperature"], dropna=False)["learning_rate"].nunique().max() > 1
    chosen = runs.best_on_holdout(results, by=[*names, "temperature"]) if several else results
    keys = names if len(chosen) else [*names, "learning_rate"]
    results = chosen if len(chosen) else results
    soft = results[results["objective"].map(is_compared)]
    hard = results[results["objective"] == "hard"]
    varying = [name for name in keys if soft[name].nunique() > 1 or name == "width"]
    found = []
    for values, of_group in soft.groupby(keys, dropna=False):
        setting = dict(zip(keys, values, strict=True))
        same = hard["width"].eq(setting["width"])
        if "learning_rate" in keys:
            same &= hard["learning_rate"].eq(setting["learning_rate"])
        both = pd.concat([hard[same].assign(temperature=HARD), of_group])
        named = ", ".join(_named(name, setting[name]) for name in varying)
        whole = _by_seed(both, "holdout_errors").dropna(axis="columns") if "holdout_errors" in both else pd.DataFrame()
        found.append(Group(named, _by_seed(both, "test_errors"), whole.mean()))
    return found


def _by_seed(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column by seed and temperature, each a mean over the teachers; nan where a run is missing or failed."""
    values, place = rows[column].where(rows["failed_at"] < 0).astype(float), [rows["seed"], rows["temperature"]]
    teachers = rows.groupby("temperature")["teacher"].transform("nunique")
    complete = values.groupby(place).transform("count") == teachers
    return values.where(complete).groupby(place).mean().unstack("temperature")


def _named(column: str, value: float | str) -> str:
    """A part of a setting in words."""
    if column == "width":
        return f"{value} {NAMES[column]}"
    if column == "objective":
        return words_of(str(value))
    return f"{NAMES.get(column, column)} {number(float(value))}"
