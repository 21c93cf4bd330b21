"""How tables print: numbers, intervals, and a table as Markdown, as aligned text, or as columns of a CSV."""

import io
import math
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from analysis import fieller, stats
from kdjax.progress import count_of as count_of  # one rule for all counts

Estimate = stats.Interval | stats.Difference
"""A mean with its interval."""


class Table(NamedTuple):
    """Cells, and what has to be said below them. Columns stand in the order of their importance."""

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

    def text(self, width: int | None = None) -> str:
        """The table in aligned columns, its notes below it.

        Within `width` characters (None: no limit) cells of words, and headings, are folded at spaces; numbers never
        are. Where that is not enough, the last columns are left out, and a line below says which.
        """
        columns = list(zip(self.header, *self.rows, strict=True))
        widths = _fit([_span(heading, cells) for heading, *cells in columns], width)
        shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for i, (heading, characters) in enumerate(zip(self.header, widths, strict=False)):
            shown.add_column(heading, width=characters, justify="left" if i < self.left else "right", overflow="fold")
        for row in self.rows:
            shown.add_row(*row[: len(widths)])
        printed = io.StringIO()
        space = sum(widths) + GAP * len(widths)
        plain = Console(file=printed, width=space, color_system=None, markup=False, emoji=False)
        plain.print(shown, highlight=False)
        lines = [line.rstrip().replace("─", "-") for line in printed.getvalue().splitlines()]
        if left_out := ", ".join(filter(None, self.header[len(widths) :])):
            lines += textwrap.wrap(f"(no room here for: {left_out})", width or 80, break_long_words=False)
        return "\n".join([*lines, *[""] * bool(self.notes), *self.notes])


GAP = 2
"""Characters between columns."""


def seeds_of(numbers: Sequence[int], noun: str = "seed") -> str:
    """`5 seeds`; `4 to 5 seeds` where they are not all alike; or of another noun."""
    least, most = min(numbers), max(numbers)
    return f"{least} to " * (least < most) + count_of(most, noun)


def _span(heading: str, cells: Sequence[str]) -> tuple[int, int]:
    """The least and the natural width of a column: cells of numbers are one piece, words are folded at spaces."""
    pieces = [piece for cell in cells for piece in ([cell] if _is_number(cell) else cell.split())]
    least = max(map(len, [*heading.split(), *pieces]), default=1)
    return max(least, 1), max(map(len, [heading, *cells]))


def _is_number(cell: str) -> bool:
    return sum(map(str.isalpha, cell)) == 0


def _fit(spans: Sequence[tuple[int, int]], width: int | None) -> list[int]:
    """The widths of the first columns, as many as there is room for, none of them narrower than its least."""
    if width is None:
        return [natural for _, natural in spans]
    widths = [least for least, _ in spans]
    while len(widths) > 1 and sum(widths) + GAP * (len(widths) - 1) > width:
        widths.pop()
    room = width - sum(widths) - GAP * (len(widths) - 1)
    while room > 0 and (lacking := [i for i, (_, natural) in enumerate(spans[: len(widths)]) if widths[i] < natural]):
        widths[max(lacking, key=lambda i: spans[i][1] - widths[i])] += 1
        room -= 1
    return widths


def number(value: float | int) -> str:
    """A number as short as it is: ∞ for infinity, a dash for nan, a true minus sign."""
    if math.isnan(value):
        return "–"
    return ("−" if value < 0 else "") + ("∞" if math.isinf(value) else f"{abs(value):g}")


def fixed(value: float | int, decimals: int = 1, sign: bool = False) -> str:
    """A number to so many decimals: a dash for nan, ∞, a true minus sign, but none before zero."""
    if not math.isfinite(value):
        return number(value)
    value = round(value, decimals) + 0.0
    return (f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}").replace("-", "−")


def with_bounds(mean: float, low: float, high: float, decimals: int = 1, sign: bool = False) -> str:
    """`mean [low, high]`; the mean alone where there is no interval."""
    between = "" if math.isnan(low) else f" [{fixed(low, decimals, sign)}, {fixed(high, decimals, sign)}]"
    return fixed(mean, decimals, sign) + between


def bounds(interval: Estimate | fieller.Ratio, decimals: int = 1, sign: bool = False) -> str:
    """`[low, high]`; empty where there is no interval."""
    if math.isnan(interval.low):
        return ""
    return f"[{fixed(interval.low, decimals, sign)}, {fixed(interval.high, decimals, sign)}]"


def estimate(interval: Estimate, decimals: int = 1, sign: bool = False) -> str:
    """`mean [low, high]`; the mean alone where there is no interval."""
    return with_bounds(interval.mean, interval.low, interval.high, decimals, sign)


CLAIMED = "†"
"""Behind a difference that is claimed."""
CLAIMED_NOTE = f"{CLAIMED} Told apart from zero, considering all of its column (Holm, or all on one side of zero)."


def differences(column: Sequence[stats.Difference | None], decimals: int) -> list[str]:
    """A column of differences, `CLAIMED` behind those that are claimed for all of the column at once (`stats.claimed`);
    empty cells for None."""
    calls = iter(stats.claimed([one for one in column if one]))
    return [estimate(one, decimals, sign=True) + f" {CLAIMED}" * next(calls) if one else "" for one in column]


def p_value(value: float) -> str:
    """A p value; empty for nan."""
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def columns_of(name: str, interval: Estimate) -> dict[str, float]:
    """An estimate as columns of a CSV: `name`, `name_low`, `name_high`."""
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
