"""What a table shows of its runs: a registry of measures, each one column.

To add a column to the summary and `table.csv` of a table, register a measure before the table is made:

    from analysis import measures

    measures.register(
        measures.Measure("confidence", "confidence, %", lambda row: row["confidence"], decimals=2, scale=100),
        tables=("sweep", "mnist"),
    )
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from kdjax.errors import require

TABLES = ("sweep", "mnist", "controls", "cifar10")
"""`controls` is a section of the MNIST summary."""
SPLITS = {"holdout": "hold-out", "test": "test"}
"""The splits that networks are evaluated on, in words."""


class Measure(NamedTuple):
    """A number of each run; a table gives its mean over runs, with an interval, and its paired differences."""

    name: str
    """After the split, as in the column `test_errors`."""
    heading: str
    """With its unit: `NLL, nats`."""
    from_row: Callable[[Mapping[str, Any]], float]
    """From a row of `results.csv`, which also has the measures of the split by their bare names: `row["nll"]`."""
    decimals: int = 1
    scale: float = 1.0
    """A factor on what `from_row` returns: 100 for per cent."""


MEASURES: dict[str, dict[str, Measure]] = {table: {} for table in TABLES}
"""Table → name → measure, in the order of the columns."""


def register(measure: Measure, tables: Iterable[str]) -> None:
    """Makes a measure a column of the given tables.

    Raises:
        BadInput: an unknown table, or one that has another measure of that name.
    """
    for table in tables:
        require(table in MEASURES, f"table {table} is unknown: there are {', '.join(TABLES)}")
        require(measure.name not in MEASURES[table], f"table {table} has a measure {measure.name} already")
        MEASURES[table][measure.name] = measure


def of_column(table: str, column: str) -> Measure:
    """The measure that a column such as `test_nll` shows, its heading led by the split: `test NLL, nats`."""
    split, name = column.split("_", 1)
    measure = MEASURES[table][name]
    return measure._replace(heading=f"{SPLITS[split]} {measure.heading}")


def columns(table: str, split: str = "test") -> list[str]:
    """The columns of a table that show a split: `test_errors`, …"""
    return [f"{split}_{name}" for name in MEASURES[table]]


def of_row(table: str, row: Mapping[str, Any], split: str = "test") -> dict[str, float]:
    """The measures of one run on one split, by column; nan where the run lacks what a measure needs."""
    prefix = f"{split}_"
    row = {**row, **{name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}}
    values = {}
    for name, measure in MEASURES[table].items():
        try:
            values[prefix + name] = float(measure.scale * measure.from_row(row))
        except KeyError:
            values[prefix + name] = math.nan
    return values


def add(table: str, results: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """The runs with the measures of a split as columns."""
    values = [of_row(table, row, split) for row in results.to_dict("records")]
    return results.assign(**pd.DataFrame(values, index=results.index, columns=columns(table, split)))


def _accuracy(row: Mapping[str, Any]) -> float:
    return float(100 - 100 * row["errors"] / row["images"])


register(Measure("errors", "errors", lambda row: row["errors"]), ("sweep", "mnist", "controls"))
register(Measure("accuracy", "accuracy, %", _accuracy, decimals=2), ("cifar10",))
register(Measure("nll", "NLL, nats", lambda row: row["nll"], decimals=4), ("controls",))
register(Measure("nll", "NLL, nats", lambda row: row["nll"], decimals=3), ("cifar10",))
register(Measure("ece", "ECE, %", lambda row: row["ece"], decimals=2, scale=100), ("controls",))
register(Measure("ece", "ECE", lambda row: row["ece"], decimals=3), ("cifar10",))
register(
    Measure(  # the mean probability of the class chosen, less the accuracy
        "overconfidence",
        "confidence − accuracy, points",
        lambda row: 100 * row["confidence"] - _accuracy(row),
        decimals=2,
    ),
    ("cifar10",),
)
