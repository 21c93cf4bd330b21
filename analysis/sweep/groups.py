"""Settings that differ in temperature alone, with their hard labels: what the verdict compares.

Errors are a number a seed; a sweep has one teacher, and what is said of them is about that one. Where settings were
trained at several rates and there is a hold-out, each setting, hard labels too, has the rate that it chooses.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from analysis import crossed, runs, stats, wording
from analysis.runs import HARD as HARD
from analysis.runs import NONE
from analysis.sweep import power
from kdjax.objectives import is_baseline, is_compared


class Baseline(NamedTuple):
    """A setting of a baseline other than hard labels."""

    name: str
    """In words: `label smoothing`, `shuffled teacher (T = 4)`."""
    errors: pd.Series
    """Test errors by seed; nan where a run failed."""
    holdout: float
    """Mean hold-out errors; nan where there are none, or a run failed."""


class Group(NamedTuple):
    """One width, objective, soft weight and, where it is not chosen for each setting, rate."""

    name: str
    """What tells it from other groups, after its width: `300 units, rate 0.01`."""
    objective: str
    """In words."""
    errors: pd.DataFrame
    """Test errors, a row a seed, a column a temperature (`NONE` where the objective has none), `HARD` for hard labels;
    nan where a run failed."""
    holdout: pd.Series
    """Mean hold-out errors by column; without those of which a run failed, and empty where there is no hold-out."""
    baselines: tuple[Baseline, ...] = ()
    """Those of its width beside hard labels, at every temperature and soft weight."""
    tuned: bool = False
    """Each setting has the rate that the hold-out chose for it."""
    setting: Mapping[str, Any] = MappingProxyType({})
    """Its columns of `runs.SETTING`, but for the temperature and, where it is chosen or the only one, the rate."""

    @property
    def rivals(self) -> list[Baseline]:
        """What distillation has to beat beside hard labels: the best baseline, which has the fewest mean hold-out
        errors, and none where that is hard labels. Without a hold-out none is chosen: every baseline."""
        if self.holdout.empty:
            return list(self.baselines)
        known = [one for one in self.baselines if one.holdout < self.holdout.get(HARD, math.inf)]
        return [min(known, key=lambda one: one.holdout)] if known else []

    def from_rivals(self) -> dict[float, tuple[str, stats.Difference]]:
        """The difference from the best baseline, and its name, by temperature; without a hold-out, from the one that is
        hardest to tell it from: fewer errors than this one are fewer than every one (intersection-union).

        Of several baselines, that of the fewest hold-out errors has few by chance, and on the test set too, as the same
        runs are judged on both. More errors than it are no surprise then: their p counts as often as there are
        baselines to choose from (Bonferroni). Fewer are all the more of one.
        """
        found = {}
        for t in self.temperatures:
            pairs = [(one.name, pd.concat([self.errors[t], one.errors], axis=1).dropna()) for one in self.rivals]
            less = [(name, crossed.paired_difference(*pair.to_numpy(float).T)) for name, pair in pairs if len(pair) > 1]
            if less:
                name, least = max(less, key=lambda one: _one_sided(one[1]))
                p = min(1.0, least.p * len(self.baselines)) if least.mean > 0 else least.p
                found[t] = name, least._replace(p=p, differs=p < 0.05)
        return found

    @property
    def uncompared(self) -> list[str]:
        """Names of the baselines that are not compared: at some T no two seeds of both finished; or, where the hold-out
        chooses one, a run of theirs failed."""
        if not self.holdout.empty:
            return [one.name for one in self.baselines if math.isnan(one.holdout)]
        finished = [self.errors[t].dropna().index for t in self.temperatures]
        return [
            one.name
            for one in self.baselines
            if any(len(seeds.intersection(one.errors.dropna().index)) < 2 for seeds in finished)
        ]

    @property
    def temperatures(self) -> list[float]:
        """Those that were asked for."""
        return [t for t in self.errors if t != HARD]

    def differences(self) -> dict[float, stats.Difference]:
        """From hard labels, by temperature, over the seeds that have both; without those that have no two."""
        hard = self.errors.get(HARD, pd.Series(dtype=float))
        pairs = {t: pd.concat([self.errors[t], hard], axis=1).dropna().to_numpy(float) for t in self.temperatures}
        return {t: crossed.paired_difference(*pair.T) for t, pair in pairs.items() if len(pair) > 1}

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

    def spread(self) -> power.Spread | None:
        """That of paired differences from hard labels; None where it is not known."""
        whole = self.errors.dropna(axis="columns")
        if HARD not in whole or whole.shape[1] < 2 or len(whole) < 2:
            return None
        less = whole[[t for t in whole if t != HARD]].sub(whole[HARD], axis="index").to_numpy(float)
        spread = power.spread_of([column[None] for column in less.T])
        return spread if spread.runs > 0 else None


def of(results: pd.DataFrame) -> list[Group]:
    """Those of a sweep's runs, by width, those that failed included."""
    names = [name for name in runs.SETTING if name not in ("temperature", "learning_rate")]
    several = results.groupby([*names, "temperature"], dropna=False)["learning_rate"].nunique().max() > 1
    chosen = _at_chosen_rates(results, [*names, "temperature"]) if several else results
    keys = names if len(chosen) else [*names, "learning_rate"]
    results = chosen if len(chosen) else results
    soft, others = (results[results["objective"].map(kind)] for kind in (is_compared, is_baseline))
    hard = results[results["objective"] == "hard"]
    varying = [name for name in keys if soft[name].nunique() > 1 or name == "width"]
    found = []
    for values, of_group in soft.groupby(keys, dropna=False):
        setting = dict(zip(keys, values, strict=True))
        like = {name: setting[name] for name in ("width", "learning_rate") if name in keys}
        same, of_baselines = (rows[(rows[list(like)] == pd.Series(like)).all(axis=1)] for rows in (hard, others))
        both = pd.concat([same.assign(temperature=HARD), of_group.fillna({"temperature": NONE})])
        named, objective = (", ".join(wording.in_words(setting, columns)) for columns in (varying, ["objective"]))
        errors, holdout = _by_seed(both, "test_errors"), _holdout(both)
        baselines, tuned = _baselines(of_baselines), len(chosen) > 0 and several
        found.append(Group(named, objective, errors, holdout, baselines, tuned, setting))
    return found


def _at_chosen_rates(results: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The runs of each setting at the rate that the hold-out chooses. A setting with a failed run at every rate has no
    such rate: all of its runs count as failed. Empty where nothing is chosen."""
    chosen = runs.best_on_holdout(results, by=by)
    if chosen.empty:
        return chosen
    left = results.merge(chosen[by].drop_duplicates(), how="left", on=by, indicator=True)  # pandas joins nan to nan
    left = left[left["_merge"] == "left_only"].drop_duplicates([*by, *runs.RUN]).drop(columns="_merge")
    return pd.concat([chosen, left.assign(failed_at=0)], ignore_index=True)


def _holdout(rows: pd.DataFrame) -> pd.Series:
    """Mean hold-out errors by temperature; without those of which a run failed, and empty without a hold-out."""
    whole = _by_seed(rows, "holdout_errors").dropna(axis="columns") if "holdout_errors" in rows else pd.DataFrame()
    return whole.mean()


def _baselines(rows: pd.DataFrame) -> tuple[Baseline, ...]:
    """Those of one width and rate."""
    found, several = [], rows["soft_weight"].nunique() > 1
    columns = ["objective", "temperature", "soft_weight"]
    for values, runs_ in rows.groupby(columns, dropna=False):
        setting = dict(zip(columns, values, strict=True))
        name, *at = wording.in_words(setting, columns[: 2 + several])
        name += f" ({', '.join(at)})" * bool(at)
        of_one = runs_.assign(temperature=NONE)
        found.append(Baseline(name, _by_seed(of_one, "test_errors")[NONE], float(_holdout(of_one).get(NONE, math.nan))))
    return tuple(found)


def _one_sided(difference: stats.Difference) -> float:
    """p of the one-sided test for fewer errors; above all others where nothing is known about spread."""
    if math.isnan(difference.p):
        return math.inf
    return difference.p / 2 if difference.mean < 0 else 1 - difference.p / 2


def _by_seed(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column by seed and temperature; nan where a run is missing or failed."""
    values = rows.assign(value=rows[column].where(rows["failed_at"] < 0).astype(float))
    return values.set_index(["seed", "temperature"])["value"].unstack("temperature")
