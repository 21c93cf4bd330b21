"""Test errors against T at each width and schedule of an MNIST table, at tuned rates and at one rate."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import crossed, fieller, runs, stats, tuning
from analysis.mnist.roles import Role
from analysis.mnist.run import MnistResults
from analysis.tables import count_of, number
from analysis.tuning import SCHEDULE, Choice

MARGIN = 7
"""Test errors of 10,000: smaller differences count as alike; a tenth of what distillation gains in the paper."""
HIGH = 8.0
"""The paper calls temperatures from here on alike."""


class WidthCurve(NamedTuple):
    """Test errors against temperature, of the students of one width and schedule."""

    width: int
    epochs: int
    temperatures: np.ndarray
    errors: np.ndarray
    """[teachers, seeds, temperatures], or [seeds, temperatures] under one teacher."""
    hard: np.ndarray
    """[seeds]; nan where there is no baseline."""
    teachers: int
    candidates: np.ndarray
    """The temperatures that are not excluded as best, all at once (`simultaneous`)."""
    vertex: fieller.Vertex | None
    """Over seeds, each a mean over teachers."""
    reach: float | None
    """How far from 0 the 90 % intervals of the differences of every two temperatures from HIGH on reach, T = ∞ among
    them where it was tried; None where fewer than two were."""
    reach_finite: float | None
    """The same without T = ∞; None where it was not tried, or leaves one."""
    left_out: tuple[float, ...]
    """Temperatures at which some run is missing or failed."""

    @property
    def seeds(self) -> int:
        """Seeds under each teacher."""
        return int(self.errors.shape[-2])

    @property
    def name(self) -> str:
        """Its width and schedule, in words."""
        return name_of(self.width, self.epochs)

    def means(self) -> list[stats.Interval]:
        """At each temperature, the mean of the errors."""
        return [crossed.interval_over(column) for column in np.moveaxis(self.errors, -1, 0)]

    def found(self) -> dict[str, "Found"]:
        """By setting, in words, hard labels first."""
        hard = self.hard[~np.isnan(self.hard)]
        found = {"hard labels": Found(stats.interval(hard))} if len(hard) else {}
        unknown: list[tuple[stats.Difference | None, float]] = [(None, math.nan)] * len(self.temperatures)
        compared = self.from_hard() or unknown
        for temperature, mean, (difference, p) in zip(self.temperatures, self.means(), compared, strict=True):
            best = bool(temperature in self.candidates)
            found[f"T = {number(temperature)}"] = Found(mean, difference, p, best)
        return found

    def from_hard(self) -> list[tuple[stats.Difference, float]]:
        """At each temperature, the paired difference from hard labels, over the seeds that have both, and its p
        adjusted over the temperatures (Holm)."""
        both = ~np.isnan(self.hard)
        if not both.any():
            return []
        columns, hard = np.moveaxis(self.errors[..., both, :], -1, 0), self.hard[both]
        if len(hard) == 1 and self.teachers > 1:  # one run, as hard labels have no teacher
            columns = columns.mean(axis=1)
        differences = [crossed.paired_difference(column, np.broadcast_to(hard, column.shape)) for column in columns]
        adjusted = stats.holm(np.array([difference.p for difference in differences], float))
        return list(zip(differences, map(float, adjusted), strict=True))


class Found(NamedTuple):
    """The errors of one setting at one rate."""

    mean: stats.Interval
    difference: stats.Difference | None = None
    """From hard labels, paired; None for these, or where there are none."""
    p_holm: float = math.nan
    possible: bool = False
    """Not excluded as the best T."""


class AtWidth(NamedTuple):
    """What a table found at one width and schedule."""

    width: int
    epochs: int
    choices: list[Choice]
    """The tuned rates."""
    tried: tuple[float, ...]
    """The rates among which they were chosen."""
    lost: tuple[str, ...]
    """Settings without a choice: some run failed at every rate."""
    tuned: WidthCurve | None
    """Each setting at its own rate; None where some run failed at every temperature, or where it is `under_way`."""
    one_rate: WidthCurve | None
    """All settings at the table's rate."""
    under_way: bool
    """Whether students at some tuned rate are not trained yet."""

    @property
    def name(self) -> str:
        """Width and schedule, in words."""
        return name_of(self.width, self.epochs)


def name_of(width: int, epochs: int) -> str:
    """A width and schedule, in words."""
    return f"{width} units, {count_of(epochs, 'epoch')}"


def read(results: MnistResults) -> list[AtWidth]:
    """One a width and schedule; empty where the part was not made."""
    found, fresh = [], results.trained(Role.ONE_RATE)
    everything = pd.concat([fresh, results.trained(Role.TUNED)], ignore_index=True)
    for (width, epochs), tried in results.trained(Role.TUNING).groupby(SCHEDULE):  # type: ignore[misc]
        chosen, rates = tuning.choices(tried), tuple(sorted(tried["learning_rate"].unique()))
        lost = sorted(tuning.settings(tried) - {choice.name for choice in chosen})
        of_all, of_one = (rows[(rows["width"] == width) & (rows["epochs"] == epochs)] for rows in (everything, fresh))
        at_tuned = tuning.at_rates(of_all, chosen)
        under_way = of_one.empty or len(at_tuned) < len(tuning.at_settings(of_one, chosen))
        tuned = None if under_way else _curve(at_tuned)
        one_rate = _curve(of_one)
        found.append(AtWidth(int(width), int(epochs), chosen, rates, tuple(lost), tuned, one_rate, under_way))
    return found


def _curve(rows: pd.DataFrame) -> WidthCurve | None:
    """Over teachers crossed with seeds, or over seeds under one teacher."""
    soft, hard = (rows[rows["objective"] == kind] for kind in ("kd", "hard"))
    names, seeds = sorted(soft["teacher"].unique()), sorted(soft["seed"].unique())
    table = runs.finished(soft).pivot_table(index=runs.RUN, columns="temperature", values="test_errors")
    table = table.reindex(pd.MultiIndex.from_product([names, seeds]))
    asked = [float(t) for t in sorted(soft["temperature"].unique())]
    whole = [t for t in asked if t in table and not table[t].isna().any()]
    if not whole:
        return None
    temperatures = np.array(whole)
    errors = table[whole].to_numpy(float).reshape(len(names), len(seeds), len(whole))
    errors = errors[0] if len(names) == 1 else errors
    high = temperatures >= HIGH
    finite = high & np.isfinite(temperatures)
    over_seeds = errors if errors.ndim == 2 else errors.mean(axis=0)
    return WidthCurve(
        int(soft["width"].iloc[0]),
        int(soft["epochs"].iloc[0]),
        temperatures,
        errors,
        runs.finished(hard).set_index("seed")["test_errors"].reindex(seeds).to_numpy(float),
        len(names),
        temperatures[stats.candidates_for_best(errors, simultaneous=True)],
        fieller.vertex(temperatures, over_seeds) if np.isfinite(temperatures).sum() >= 3 else None,
        _reach(errors[..., high]),
        _reach(errors[..., finite]) if (high != finite).any() else None,
        tuple(t for t in asked if t not in whole),
    )


def _reach(errors: np.ndarray) -> float | None:
    return stats.reach(stats.all_pairs(errors)) if errors.shape[-1] > 1 else None
