"""Accuracy against epochs, from labels and from soft targets: what does the teacher give, what longer training?"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import runs, stats
from analysis.cifar10.roles import Role
from analysis.cifar10.run import Cifar10Results
from analysis.measures import SPLITS
from analysis.tables import Table, estimate, number


class Gains(NamedTuple):
    """What another number of epochs gains over that of the table, paired by seed, in points; None without pairs."""

    hard: stats.Difference | None
    soft: stats.Difference | None
    apart: stats.Difference | None
    """What soft targets gain less what hard labels gain."""


class Length(NamedTuple):
    """The small networks of one number of epochs; accuracies in per cent."""

    epochs: int
    hard: stats.Interval
    soft: stats.Interval
    less: stats.Difference | None
    """Soft less hard, paired by seed, in points; None without pairs."""
    gains: Gains | None
    """None of the table's own number of epochs."""

    @property
    def pairs(self) -> int:
        """Seeds that have both networks."""
        return self.less.n if self.less else 0


def read(results: Cifar10Results) -> list[Length]:
    """By epochs, those of the table among them; empty where the table has no other lengths. One of whose hard labels,
    or soft targets, every run failed is left out."""
    if results.lengths.empty:
        return []
    usual, column = results.identity["config"]["epochs"], results.columns[0]
    everything = pd.concat([results.results.assign(epochs=usual), results.lengths])
    hard, soft = (everything[everything["role"] == role] for role in (Role.SMALL, Role.DISTILLED))
    taught_by = results.lengths["teacher"].iloc[0]  # the first teacher alone
    soft = soft[np.isclose(soft["temperature"], results.temperature, rtol=1e-8) & (soft["teacher"] == taught_by)]
    values = {
        int(epochs): [runs.finished(rows[rows["epochs"] == epochs]).set_index("seed")[column] for rows in (hard, soft)]
        for epochs in sorted(everything["epochs"].unique())
    }

    def of_length(epochs: int) -> Length:
        (labels, targets), (usual_labels, usual_targets) = values[epochs], values[usual]
        apart = runs.paired((targets - labels).dropna(), (usual_targets - usual_labels).dropna())
        gains = Gains(runs.paired(labels, usual_labels), runs.paired(targets, usual_targets), apart)
        less, own = runs.paired(targets, labels), epochs == usual
        return Length(epochs, runs.mean(labels), runs.mean(targets), less, None if own else gains)

    return [of_length(epochs) for epochs, of_both in values.items() if all(map(len, of_both))]


def section(results: Cifar10Results) -> str:
    """A table in Markdown, and below it what other lengths gain; empty where the table has none."""
    found = read(results)
    if not found:
        return ""
    usual, split = results.identity["config"]["epochs"], SPLITS[results.split]
    t = number(results.temperature)
    header = ["epochs", f"hard labels, {split} accuracy, %", f"soft targets, T = {t}", "difference, points", "pairs"]
    cells = [
        [
            str(one.epochs),
            estimate(one.hard, 2),
            estimate(one.soft, 2),
            estimate(one.less, 2, sign=True) if one.less else "",
            str(one.pairs),
        ]
        for one in found
    ]
    notes = [
        "Under the first teacher. Each length has its own whole schedule; rates and soft weight are those of the "
        "table's epochs."
    ]
    lines = []
    for one in found:
        words = ("hard labels", "soft targets", "soft targets more than hard labels")
        gained = zip(words, one.gains or (), strict=False)
        text = "; ".join(f"{what} {estimate(gain, 2, sign=True)} points" for what, gain in gained if gain)
        if text:
            lines.append(f"* {one.epochs} epochs instead of {usual}: {text}.")
    text = "## Accuracy against epochs\n\n" + Table(header, cells, notes).markdown()
    return "\n\n".join(filter(None, [text, "\n".join(lines)]))
