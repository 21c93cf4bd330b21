"""The networks of a CIFAR-10 table with batch statistics collected without dropout: the section of its summary.

`kdjax.batch_statistics` says why and how they are collected, `experiments.cifar10_table --batch-statistics` does it.
"""

from pathlib import Path

import pandas as pd

from analysis import stats, tables
from analysis.cifar10 import table as cifar10_table_
from analysis.cifar10.table import Answers
from kdjax.errors import BadInput

EVALUATIONS = {"trained": "as trained", "dropout": "anew, under dropout", "clean": "anew, without dropout"}
"""With which batch statistics a network is evaluated, in words."""
KEYS = ["role", "temperature", "seed"]
FILE = "batch_statistics.csv"


def read(folder: Path) -> pd.DataFrame | None:
    """`batch_statistics.csv` of a table; None where it was not asked for.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        frame = pd.read_csv(folder / FILE)
        return frame.astype({"role": str, "statistics": str, "temperature": float, "seed": int, "images": int})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder / FILE} is damaged ({error}): give the experiment's command again") from None


def section(answers: Answers) -> str:
    """Two tables in Markdown: each row of the table by evaluation, and its paired differences from `small`."""
    frame = read(answers.folder)
    if frame is None or frame.empty:
        return ""
    split = answers.columns[0].split("_", 1)[0]
    measures = [f"{split}_accuracy", f"{split}_nll"]
    shown = [(column, name) for column in measures for name in EVALUATIONS]
    values = frame.pivot(index=KEYS, columns="statistics", values=measures)
    small = values[values.index.get_level_values("role") == "small"].droplevel(["role", "temperature"])
    cells, differences = [], []
    groups = values.groupby(["role", "temperature"], dropna=False)
    for (role, temperature), runs in sorted(
        groups, key=lambda group: (cifar10_table_.ROLES.index(group[0][0]), group[0][1])
    ):
        mine = runs.droplevel(["role", "temperature"])
        known = {"big": f"{answers.networks[0]['network']}, hard labels", "ensemble": "their ensemble"}
        name = known.get(role) or cifar10_table_.row_name(role)
        found = [stats.interval(mine[column].to_numpy(float)) for column in shown]
        numbers = [cifar10_table_.estimate(column, each) for (column, _), each in zip(shown, found, strict=True)]
        cells.append([name, tables.number(temperature), *numbers, str(len(mine))])
        shared = mine.index.intersection(small.index)
        if len(shared) and role not in ("small", "big", "ensemble"):
            less = (mine.loc[shared] - small.loc[shared])[measures[0]]
            each = [stats.interval(less[name].to_numpy(float)) for name in EVALUATIONS]
            each.append(stats.interval((less["clean"] - less["dropout"]).to_numpy(float)))
            numbers = [tables.estimate(one, 2, sign=True) for one in each]
            differences.append([name, tables.number(temperature), *numbers, str(len(shared))])
    titles = [f"{cifar10_table_.column_name(column)}: {EVALUATIONS[name]}" for column, name in shown]
    notes = [
        "The same weights throughout. As trained: with the running averages of training, under dropout. Anew: means "
        f"over batches of {frame['images'].iloc[0]:,} training images, changed at random as in training.",
        "Mean and 95 % t interval over seeds; those that are taught, about the one teacher. One set of images, their "
        "changes and masks serves all networks: the noise of collecting is not in the intervals.",
    ]
    parts = [
        "## Batch statistics collected without dropout",
        tables.markdown(["", "T", *titles, "n"], cells, notes, left=1),
    ]
    if differences:
        what = f"{cifar10_table_.SPLITS[split]} accuracy less that of small, points"
        change = "change without dropout, points"
        header = ["paired by seed", "T", *(f"{what}: {words}" for words in EVALUATIONS.values()), change, "n"]
        notes = [
            "Change: of the difference, anew without dropout less anew under dropout.",
            "A difference is one only where its interval excludes zero; of twenty such intervals one misses by chance, "
            "for which nothing is corrected here.",
        ]
        parts.append(tables.markdown(header, differences, notes, left=1))
    return "\n\n".join(parts)
