"""How tables print: numbers, intervals, and a table as Markdown, as aligned text, or as columns of a CSV."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from analysis import stats

Estimate = stats.Interval | stats.Difference
"""A mean with its interval."""


class Table(NamedTuple):
    """Cells, and what has to be said below them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    left: int = 0
    """Number of columns, from the left, that are aligned left: they hold words."""

    def markdown(self) -> str:
        """The table in Markdown, its notes as a list below it."""
        rule = ["---"] * self.left + ["---:"] * (len(self.header) - self.left)
        lines = ["| " + " | ".join(row) + " |" for row in [self.header, rule, *self.rows]]
        return "\n".join([*lines, "", *(f"* {note}" for note in self.notes)]).rstrip()

    def text(self) -> str:
        """The table in aligned columns, for a terminal, its notes below it."""
        rows = [self.header, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.header))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < self.left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * sum(widths, 2 * (len(widths) - 1)))
        return "\n".join([*lines, "", *self.notes])


def number(value: float | int) -> str:
    """A number as short as it is: ∞ for infinity, a dash for nan, a true minus sign."""
    if math.isnan(value):
        return "–"
    return ("−" if value < 0 else "") + ("∞" if math.isinf(value) else f"{abs(value):g}")


def fixed(value: float | int, decimals: int = 1, sign: bool = False) -> str:
    """A number to so many decimals: a dash for nan, a true minus sign, but none before zero."""
    if math.isnan(value):
        return "–"
    value = round(value, decimals) + 0.0
    return (f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}").replace("-", "−")


def bounds(interval: Estimate | stats.Ratio, decimals: int = 1, sign: bool = False) -> str:
    """`[low, high]`; empty where there is no interval."""
    if math.isnan(interval.low):
        return ""
    return f"[{fixed(interval.low, decimals, sign)}, {fixed(interval.high, decimals, sign)}]"


def estimate(interval: Estimate, decimals: int = 1, sign: bool = False) -> str:
    """`mean [low, high]`; the mean alone where there is no interval."""
    return f"{fixed(interval.mean, decimals, sign)} {bounds(interval, decimals, sign)}".rstrip()


def p_value(value: float) -> str:
    """A p value; empty for nan."""
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def count_of(number_of: int, noun: str) -> str:
    """A count with its noun: `1 seed`, `3 seeds`."""
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"


def columns_of(name: str, interval: Estimate) -> dict[str, float]:
    """An estimate as columns of a CSV: `name`, `name_low`, `name_high`."""
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
