"""Writes the tables of docs/results/, docs/machines.md and the README from the CSV files in docs/results/data/.

    python docs/results/tables.py            # rewrites the pages
    python docs/results/tables.py --check    # changes nothing, names the pages that differ and exits with 1

A page marks the place of a table by `<!-- table: NAME -->` and `<!-- end -->`. The columns, headings and decimals of
each table, and the convention for columns that make one cell, are in data/sources.toml.
"""

import argparse
import os
import re
import sys
import tomllib
from decimal import Decimal
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent
DATA = RESULTS / "data"
SOURCES = tomllib.loads((DATA / "sources.toml").read_text())
PAGES = (*sorted(RESULTS.glob("*.md")), RESULTS.parent / "machines.md", RESULTS.parents[1] / "README.md")
MARKED = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
QUOTED = re.compile(r"\{(\w+)\.(\w+)\.(\w+)(\.interval)?(?::(\d))?\}")
NUMERIC = re.compile(r"-?\d+(\.\d+)?|inf")


def read(name: str) -> pd.DataFrame:
    """`data/NAME.csv` as strings, so that no digit is lost or added, indexed by the column `key`."""
    frame = pd.read_csv(DATA / f"{name}.csv", dtype=str, keep_default_na=False, index_col="key")
    if not frame.index.is_unique:
        raise ValueError(f"{name}.csv has two rows with the same key")
    return frame


def number(text: str, style: str = "") -> str:
    """A number as it is printed: a true minus, thousands with a comma, ∞.

    Style: the greatest number of decimals, then + to sign positive numbers. Text that is no number is returned as is.
    """
    if not NUMERIC.fullmatch(text):
        return text
    if text == "inf":
        return "∞"
    held, most = len(text.partition(".")[2]), style.rstrip("+")
    decimals = min(held, int(most)) if most else held
    return f"{Decimal(text):{'+' if style.endswith('+') else ''},.{decimals}f}".replace("-", "−")


def interval(row: "pd.Series[str]", stem: str, style: str) -> str:
    """`[low, high]`, or nothing where the row has none."""
    low, high = row.get(f"{stem}_low", ""), row.get(f"{stem}_high", "")
    return f"[{number(low, style)}, {number(high, style)}]" if low else ""


def quote(text: str) -> str:
    """Replaces {FILE.KEY.COLUMN} by that number, {FILE.KEY.COLUMN.interval} by its interval."""

    def found(match: re.Match[str]) -> str:
        file, key, column, bounds, decimals = match.groups()
        row = read(file).loc[key]
        return interval(row, column, decimals or "") if bounds else number(row[column], decimals or "")

    return QUOTED.sub(found, text)


def cell(row: "pd.Series[str]", stem: str, style: str, page: Path) -> str:
    """All columns of one stem as the text of one cell."""
    text = row.get(stem, "")
    if style == "link":
        return f"[{Path(text).stem.replace('_', ' ')}]({os.path.relpath(RESULTS / text, page.parent)})"
    shown = f"{number(quote(text), style)} {interval(row, stem, style)}".strip()
    if row.get(f"{stem}_from"):
        shown = f"{number(row[f'{stem}_from'], style)} to {number(row[f'{stem}_to'], style)}"
    if row.get(f"{stem}_unit"):
        shown = f"{shown} {row[f'{stem}_unit']}".strip()
    return shown


def table(name: str, page: Path) -> str:
    """The Markdown of a table, with links relative to the page; columns of numbers are aligned right."""
    frame, columns = read(name), SOURCES[name]["columns"]
    stems = [(stem, style[0] if style else "") for stem, _, *style in columns]
    texts = [any(not NUMERIC.fullmatch(value) for value in frame.get(stem, ()) if value) for stem, _ in stems]
    lines = [[heading for _, heading, *_ in columns], ["---" if text else "---:" for text in texts]]
    lines += [[cell(row, stem, style, page) for stem, style in stems] for _, row in frame.iterrows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def regenerated(page: Path) -> str:
    """The text of a page with every marked table written anew."""

    def replace(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{table(match[1], page)}\n<!-- end -->"

    return MARKED.sub(replace, page.read_text())


def main() -> int:
    """Rewrites the pages, or checks them."""
    parser = argparse.ArgumentParser(description="Writes the tables of the docs and of the README.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a page differs")
    check = parser.parse_args().check
    differing = [page for page in PAGES if regenerated(page) != page.read_text()]
    for page in differing:
        print(f"{page}: {'differs from' if check else 'rewritten from'} docs/results/data/")
        if not check:
            page.write_text(regenerated(page))
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
