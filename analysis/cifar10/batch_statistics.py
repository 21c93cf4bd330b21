"""The networks of a CIFAR-10 table with batch statistics collected without dropout: the section of its summary.

`kdjax.batch_statistics` says why and how they are collected, `experiments.cifar10_table --batch-statistics` does it.
"""

from pathlib import Path

import pandas as pd

from analysis import measures, runs, stats
from analysis.cifar10.roles import Role
from analysis.cifar10.rows import big_name, row_name
from analysis.cifar10.run import Cifar10Results
from analysis.measures import SPLITS
from analysis.tables import CLAIMED_NOTE, Table, differences, estimate, number

EVALUATIONS = {
    "trained": "as trained",
    "dropout": "collected again, under dropout",
    "clean": "collected again, without dropout",
}
"""With which batch statistics a network is evaluated, in words."""
KEYS = ["role", "temperature", "seed"]
FILE = "batch_statistics.csv"


def read(folder: Path) -> pd.DataFrame | None:
    """`batch_statistics.csv` of a table; None where it was not asked for.

    Raises:
        BadInput: the file is damaged.
    """
    if not (folder / FILE).exists():
        return None
    with runs.reading(folder / FILE):
        table = pd.read_csv(folder / FILE)
        return table.astype({"role": str, "statistics": str, "temperature": float, "seed": int, "images": int})


def section(results: Cifar10Results) -> str:
    """Two tables in Markdown: each row of the table by evaluation, and its paired differences from `small`."""
    evaluated = read(results.folder)
    if evaluated is None or evaluated.empty:
        return ""
    accuracy, nll = (f"{results.split}_{name}" for name in ("accuracy", "nll"))
    shown = [
        (measures.of_column("cifar10", column), column, name) for column in (accuracy, nll) for name in EVALUATIONS
    ]
    values = evaluated.pivot(index=KEYS, columns="statistics", values=[accuracy, nll])
    small = values[values.index.get_level_values("role") == Role.SMALL.value].droplevel(["role", "temperature"])
    names = {Role.BIG: f"{big_name(results)}, hard labels", Role.ENSEMBLE: "their ensemble"}
    cells, of_rows, less = [], [], []
    groups = {(Role(role), t): rows for (role, t), rows in values.groupby(["role", "temperature"], dropna=False)}
    for role, temperature in sorted(groups, key=lambda group: (list(Role).index(group[0]), group[1])):
        rows = groups[role, temperature].droplevel(["role", "temperature"])
        name, t = names.get(role) or row_name(role), number(temperature)
        means = [(stats.interval(rows[column, of].to_numpy(float)), one.decimals) for one, column, of in shown]
        cells.append([name, t, *(estimate(*mean) for mean in means), str(len(rows))])
        shared = rows.index.intersection(small.index)
        if len(shared) and role not in (Role.SMALL, Role.BIG, Role.ENSEMBLE):
            from_small = (rows.loc[shared] - small.loc[shared])[accuracy]
            each = [from_small[of] for of in EVALUATIONS] + [from_small["clean"] - from_small["dropout"]]
            less.append([stats.difference(stats.interval(one.to_numpy(float))) for one in each])
            of_rows.append((name, t, str(len(shared))))
    notes = [
        "The same weights throughout. As trained: with the running averages of training, under the network's "
        f"dropout. Collected again: means over batches of {evaluated['images'].iloc[0]:,} training images, changed at "
        "random as in training.",
        "Mean and 95 % t interval over seeds; those that are taught, about the one teacher. One set of images, their "
        "changes and masks serves all networks: the noise of collecting is not in the intervals.",
    ]
    titles = [f"{one.heading}: {EVALUATIONS[of]}" for one, _, of in shown]
    parts = ["## Batch statistics collected without dropout"]
    parts.append(Table(["", "T", *titles, "n"], cells, notes, left=1).markdown())
    if less:
        what = f"{SPLITS[results.split]} accuracy minus that of small, points"
        header = ["paired by seed", "T", *(f"{what}: {words}" for words in EVALUATIONS.values())]
        notes = [
            "Change: the difference without dropout minus the difference under dropout.",
            f"{CLAIMED_NOTE} Intervals are not corrected for their number.",
        ]
        columns = [differences(column, 2) for column in zip(*less, strict=True)]
        lines = [[name, t, *texts, n] for (name, t, n), *texts in zip(of_rows, *columns, strict=True)]
        parts.append(Table([*header, "change without dropout, points", "n"], lines, notes, left=1).markdown())
    return "\n\n".join(parts)
