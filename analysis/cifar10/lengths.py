"""Accuracy against epochs, from labels and from soft targets: what does the teacher give, what longer training?"""

from typing import NamedTuple

import pandas as pd

from analysis import runs, stats
from analysis.cifar10.roles import Role
from analysis.cifar10.run import Cifar10Results
from analysis.measures import SPLITS
from analysis.tables import Table, estimate, number


class Length(NamedTuple):
    """The small networks of one number of epochs; accuracies in per cent."""

    epochs: int
    hard: stats.Interval
    soft: stats.Interval
    less: stats.Difference | None
    """Soft less hard, paired by seed, in points."""
    longer: dict[str, stats.Difference]
    """What this length gains over that of the table, paired by seed, in points: of hard labels (`hard`), of soft
    targets (`soft`), and the latter less the former (`more`). Empty for that of the table, and without pairs."""


def read(results: Cifar10Results) -> list[Length]:
    """By epochs, those of the table among them; empty where the table has no other lengths."""
    if results.lengths.empty:
        return []
    config, column = results.identity["config"], results.columns[0]
    everything = pd.concat([results.results.assign(epochs=config["epochs"]), results.lengths])
    soft = runs.finished(everything[everything["role"] == Role.DISTILLED])
    soft = soft[(soft["temperature"] - config["temperature"]).abs() < 1e-6]
    soft = soft[soft["teacher"] == soft["teacher"].iloc[0]] if len(soft) else soft
    hard, found = runs.finished(everything[everything["role"] == Role.SMALL]), list[Length]()

    def of_length(epochs: int) -> dict[str, pd.Series]:
        ours, others = (rows[rows["epochs"] == epochs].set_index("seed")[column] for rows in (soft, hard))
        return {"hard": others, "soft": ours, "more": (ours - others).dropna()}

    usual = of_length(config["epochs"])
    for epochs in sorted(int(each) for each in everything["epochs"].unique()):
        values = of_length(epochs)
        ours, others = values["soft"], values["hard"]
        if len(ours) and len(others):
            gains = {name: runs.paired(values[name], usual[name]) for name in values if epochs != config["epochs"]}
            longer = {name: gain for name, gain in gains.items() if gain}
            found.append(Length(epochs, runs.mean(others), runs.mean(ours), runs.paired(ours, others), longer))
    return found


def section(results: Cifar10Results) -> str:
    """A table in Markdown; empty where the table has no other lengths."""
    found = read(results)
    if not found:
        return ""
    config, split = results.identity["config"], SPLITS[results.split]
    t = number(config["temperature"])
    header = ["epochs", f"hard labels, {split} accuracy, %", f"soft targets, T = {t}", "difference, points", "n"]
    cells = [
        [
            str(one.epochs),
            estimate(one.hard, 2),
            estimate(one.soft, 2),
            estimate(one.less, 2, sign=True) if one.less else "",
            str(one.soft.n),
        ]
        for one in found
    ]
    notes = [
        "Under the first teacher. Each length has its own whole schedule; rates and soft weight are those of the "
        "table's epochs."
    ]
    text = "## Accuracy against epochs\n\n" + Table(header, cells, notes).markdown()
    lines = []
    for one in found:
        if len(one.longer) == 3:
            hard, soft, more = (estimate(one.longer[name], 2, sign=True) for name in ("hard", "soft", "more"))
            gains = f"hard labels {hard} points, soft targets {soft}; the latter less the former {more}"
            lines.append(f"* {one.epochs} epochs instead of {config['epochs']}: {gains}.")
    return "\n\n".join(filter(None, [text, "\n".join(lines)]))
