"""The pages of docs/results/, docs/machines.md and the README print what the CSV files in docs/results/data/ hold."""

import datetime
import importlib.util
import re
import sys
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("results_tables", ROOT / "docs" / "results" / "tables.py")
assert SPEC and SPEC.loader
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)

PAGES = sorted(tables.RESULTS.glob("*.md"))
EVERY_PAGE = tables.PAGES
NAMES = sorted(path.stem for path in tables.DATA.glob("*.csv"))
NUMBER = r"[+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
BOUNDS = re.compile(rf"\[({NUMBER}), ({NUMBER})\]")
HALF = re.compile(rf"({NUMBER}) ± ({NUMBER})")

each_page = pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.stem)
each_study = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
each_csv = pytest.mark.parametrize("name", NAMES)


def prose(page: Path) -> str:
    """A page on one line, without its generated tables and its code."""
    text = tables.MARKED.sub("", page.read_text())
    return " ".join(re.sub(r"```.*?```", "", text, flags=re.DOTALL).split())


def intervals(text: str) -> list[tuple[str, str, str]]:
    """Each `[low, high]` of a text after the number before it, or "" where it stands alone ("in [low, high]")."""
    found = []
    for match in BOUNDS.finditer(text):
        before = BOUNDS.sub("", text[: match.start()]).rstrip()
        numbers = [] if before.endswith(" in") else re.findall(NUMBER, before[-100:])
        found.append((numbers[-1] if numbers else "", match[1], match[2]))
    return found


def agrees(printed: str, held: str) -> bool:
    """Whether a number, as printed, is a rounding of the one in a CSV file; "" is left unsaid and agrees with all."""
    if not printed:
        return True
    value = Decimal(printed.replace(",", "").replace("−", "-"))
    unit = Decimal(1).scaleb(int(value.as_tuple().exponent))
    return bool(held) and abs(value - Decimal(held)) <= unit / 2


def negative(number: str) -> str:
    """As text, -x."""
    return str(-Decimal(number)) if number else ""


def quoted_by(page: Path) -> set[str]:
    """CSV files from which a page may quote: those shown on it or on a page that it links to, and those of prose."""
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:\s]+\.md)", page.read_text())]
    return {"statements"}.union(*(re.findall(r"<!-- table: (\w+) -->", one.read_text()) for one in (page, *links)))


def held(names: Iterable[str], low: str = "_low", high: str = "_high") -> list[tuple[str, str, str]]:
    """Every estimate of these CSV files with its bounds, and the same of the opposite sign ("7.0 fewer")."""
    found = []
    for name in names:
        frame = tables.read(name)
        for stem in [column.removesuffix(low) for column in frame if column.endswith(low)]:
            estimates = frame[stem] if stem in frame else [""] * len(frame)
            found += [row for row in zip(estimates, frame[stem + low], frame[stem + high], strict=True) if row[1]]
    return found + [(negative(value), negative(high), negative(low)) for value, low, high in found]


def supported(printed: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> bool:
    """Whether one of the rows is an estimate and bounds that round to these."""
    return any(all(map(agrees, printed, row)) for row in rows)


@each_page
def test_regenerating_changes_nothing(page):
    assert tables.regenerated(page) == page.read_text(), "run python docs/results/tables.py"


def test_a_changed_digit_is_named_and_repaired(tmp_path, monkeypatch, capsys):
    page = tmp_path / "mnist.md"
    page.write_text((tables.RESULTS / "mnist.md").read_text().replace("| 101.3 [", "| 999.9 ["))
    monkeypatch.setattr(tables, "PAGES", (page,))
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check"])
    assert tables.main() == 1 and str(page) in capsys.readouterr().out and "999.9" in page.read_text()
    monkeypatch.setattr(sys, "argv", ["tables.py"])
    assert tables.main() == 0 and "999.9" not in page.read_text()


@pytest.mark.parametrize(
    ("text", "style", "printed"),
    [("-0.30", "", "−0.30"), ("1299", "", "1,299"), ("inf", "", "∞"), ("61.2", "2", "61.2"), ("74.06", "1", "74.1")],
)
def test_a_number_is_printed_as_stored_or_rounded(text, style, printed):
    assert tables.number(text, style) == printed


@each_study
def test_a_page_is_short(page):
    assert len(page.read_text().splitlines()) <= 120


@each_page
def test_a_table_cell_is_short(page):
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert [cell for row in rows for cell in row.split("|") if len(cell.strip()) > 120] == []


@each_page
def test_an_interval_in_prose_is_in_a_csv(page):
    names = quoted_by(page)
    rows, halves = held(names), held(names, "_pm", "_pm")
    assert [printed for printed in intervals(prose(page)) if not supported(printed, rows)] == []
    assert [pair for pair in HALF.findall(prose(page)) if not any(map(agrees, pair, row[:2]) for row in halves)] == []


def test_most_pages_quote_intervals():
    assert sum(len(intervals(prose(page))) for page in PAGES) > 30


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("101.3 errors [91.0, 111.5]", True),
        ("101 errors [91, 111]", True),
        ("one more run in [82.6, 119.9]", True),
        ("1,718 errors fewer [1,619, 1,817]", True),
        ("−1,718 [−1,817, −1,619]", True),
        ("101.2 errors [91.0, 111.5]", False),
        ("101.3 errors [91.0, 111.6]", False),
        ("−101.3 errors [91.0, 111.5]", False),
        ("one more run in [82.6, 119.8]", False),
    ],
)
def test_a_wrong_interval_is_found(text, right):
    (printed,) = intervals(text)
    assert supported(printed, held(NAMES)) is right


def test_an_interval_of_an_unrelated_page_is_found():
    (printed,) = intervals("101.3 errors [91.0, 111.5]")
    assert [supported(printed, held(quoted_by(tables.RESULTS / page))) for page in ("mnist.md", "matching.md")] == [
        True,
        False,
    ]


@each_csv
def test_a_csv_has_a_source(name):
    source = tables.SOURCES[name]
    runs = [tables.SOURCES[run] for run in tables.read(name).get("run", [])]
    for entry in (source, *runs):
        assert entry["command"] and entry["device"] and isinstance(entry["date"], datetime.date)
    assert source.get("origin", tables.SOURCES["origin"])


@each_csv
def test_a_csv_is_shown_with_its_command(name):
    if name == "statements":
        return
    shown = [page for page in EVERY_PAGE if f"<!-- table: {name} -->" in page.read_text()]
    assert shown, "no page shows this file"
    if name == "headlines":
        return
    text = " ".join(shown[0].read_text().replace("\\\n", " ").split())
    commands = tables.SOURCES[name]["command"]
    for command in [commands] if isinstance(commands, str) else commands:
        runs = command.startswith("python")  # others are described, not given
        assert not runs or " ".join(command.replace("\\\n", " ").split()) in text


def test_every_figure_is_shown():
    shown = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    figures = [figure.name for figure in (ROOT / "docs" / "figures").glob("*")]
    assert [figure for figure in figures if f"figures/{figure})" not in shown] == []
