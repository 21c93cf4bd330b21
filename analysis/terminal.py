"""A summary as it is printed: tables aligned, headings and sentences without the signs of Markdown."""

import itertools
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator

from analysis.tables import Table


def show(page: str) -> None:
    """Prints a page of Markdown: fitted to the terminal's width; elsewhere, as in a log, as wide as it is."""
    print(text(page, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))


def text(page: str, width: int | None = None) -> str:
    """A page of Markdown (headings, paragraphs, lists by `*`, tables) as plain text, at most `width` characters wide;
    None: no limit, and each paragraph is a line."""
    blocks = itertools.groupby(page.splitlines(), lambda line: line.startswith("|"))
    shown = (_table(list(lines)).text(width) if of_table else _prose(lines, width) for of_table, lines in blocks)
    return "\n".join(shown)


def _table(lines: list[str]) -> Table:
    cells = (re.split(r"(?<!\\)\|", line[1:-1]) for line in lines)  # `\|` is a bar inside a cell
    header, rule, *rows = ([_plain(cell.strip()).replace("\\|", "|") for cell in row] for row in cells)
    return Table(header, rows, left=sum(not cell.endswith(":") for cell in rule))


def _prose(lines: Iterator[str], width: int | None) -> str:
    """Headings and list items, and paragraphs, which may go over several lines."""
    printed = list[str]()
    for stands_alone, of_kind in itertools.groupby(lines, lambda line: not line or line.startswith(("#", "* "))):
        given = list(of_kind)
        for line in given if stands_alone else [" ".join(given)]:
            line = _plain(line.lstrip("#").lstrip() if line.startswith("#") else line)
            indent = "  " if line.startswith("* ") else ""
            wrapped = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False) if width else [line]
            printed += wrapped or [""]
    return "\n".join(printed)


def _plain(line: str) -> str:
    """Without the signs of code and bold type, and of links, of which the words stay."""
    return re.sub(r"\[([^\]]+)\]\([^)\s]+\)", r"\1", line).replace("`", "").replace("**", "")
