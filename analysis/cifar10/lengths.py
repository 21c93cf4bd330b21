"""Accuracy against epochs, from labels and from soft targets: what does the teacher give, what longer training?"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import runs, stats
from analysis.cifar10.roles import Role
from analysis.cifar10.run import Cifar10Results
from analysis.measures import SPLITS
from analysis.tables import CLAIMED_NOTE, Table, differences, estimate, number


class Gains(NamedTuple):
    """What another number of epochs gains over that of the table, paired by seed, in points; None without pairs."""

    hard: stats.Difference | None
    soft: stats.Difference | None
    difference: stats.Difference | None
    """What soft targets gain minus what hard labels gain."""


class Length(NamedTuple):
    """The small networks of one number of epochs; accuracies in per cent."""

    epochs: int
    hard: stats.Interval
    soft: stats.Interval
    difference: stats.Difference | None
    """Soft minus hard, paired by seed, in points; None without pairs."""
    nll: stats.Difference | None
    """The same of NLL, in nats."""
    gains: Gains | None
    """None of the table's own number of epochs."""

    @property
    def pairs(self) -> int:
        """Seeds that have both networks."""
        return self.difference.n if self.difference else 0


def read(results: Cifar10Results) -> list[Length]:
    """One `Length` for each number of epochs, the table's own among them; empty where the table has no other. A number
    of epochs is left out where every run of hard labels, or of soft targets, failed."""
    if results.lengths.empty:
        return []
    usual, accuracy, nll = results.identity["config"]["epochs"], f"{results.split}_accuracy", f"{results.split}_nll"
    everything = pd.concat([results.results.assign(epochs=usual), results.lengths])
    hard, soft = (everything[everything["role"] == role] for role in (Role.SMALL, Role.DISTILLED))
    taught_by = results.lengths["teacher"].iloc[0]  # the first teacher alone
    soft = soft[np.isclose(soft["temperature"], results.temperature, rtol=1e-8) & (soft["teacher"] == taught_by)]
    values = {
        int(epochs): [
            runs.finished(rows[rows["epochs"] == epochs]).set_index("seed")[[accuracy, nll]] for rows in (hard, soft)
        ]
        for epochs in sorted(everything["epochs"].unique())
    }

    def of_length(epochs: int) -> Length:
        hard, soft = values[epochs]
        usual_hard, usual_soft = (rows[accuracy] for rows in values[usual])
        gains = Gains(
            hard=runs.paired(hard[accuracy], usual_hard),
            soft=runs.paired(soft[accuracy], usual_soft),
            difference=runs.paired((soft[accuracy] - hard[accuracy]).dropna(), (usual_soft - usual_hard).dropna()),
        )
        return Length(
            epochs=epochs,
            hard=runs.mean(hard[accuracy]),
            soft=runs.mean(soft[accuracy]),
            difference=runs.paired(soft[accuracy], hard[accuracy]),
            nll=runs.paired(soft[nll], hard[nll]),
            gains=None if epochs == usual else gains,
        )

    return [of_length(epochs) for epochs, of_both in values.items() if all(map(len, of_both))]


def section(results: Cifar10Results) -> str:
    """A table in Markdown; empty where the table has no other lengths."""
    found = read(results)
    if not found:
        return ""
    usual, split = results.identity["config"]["epochs"], SPLITS[results.split]
    t = f"T = {number(results.temperature)}"
    columns = {
        "epochs": [str(one.epochs) for one in found],
        f"hard labels, {split} accuracy, %": [estimate(one.hard, 2) for one in found],
        f"soft targets, {t}": [estimate(one.soft, 2) for one in found],
        "difference, points": differences([one.difference for one in found], 2),
        "NLL: difference, nats": differences([one.nll for one in found], 3),
        "pairs": [str(one.pairs) for one in found],
    }
    gains = [one.gains or Gains(None, None, None) for one in found]
    columns[f"hard labels: minus {usual} epochs, points"] = differences([one.hard for one in gains], 2)
    columns[f"soft targets: minus {usual} epochs, points"] = differences([one.soft for one in gains], 2)
    columns["soft targets gain more by"] = differences([one.difference for one in gains], 2)
    notes = [
        f"Under {results.first_teacher}. Each length has its own whole schedule; rates and soft weight are those of "
        "the table's epochs.",
        f"Paired by seed. {CLAIMED_NOTE}",
    ]
    cells = [list(row) for row in zip(*columns.values(), strict=True)]
    return "## Accuracy against epochs\n\n" + Table(list(columns), cells, notes).markdown()
