"""What a summary looks like on terminals of several widths, and in a log."""

import re

import pytest

from analysis import terminal
from analysis.tables import Table
from tests import terminals

HEADER = [
    *("units", "T", "test errors", "n", "from hard labels", "told apart", "p (Holm)", "over images"),
    "test NLL, nats",
]
ROWS = [
    ["300", "hard labels", "146.0 [133.1, 158.9]", "3", "", "", "", "", "0.1122 [0.1101, 0.1143]"],
    ["300", "∞", "102.0 [88.1, 115.9]", "3", "−44.0 [−60.5, −27.5]", "fewer", "< 0.001", "[−51.2, −37.0]", ""],
]
NOTE = "Seeds are paired, and " + "this sentence is longer than any terminal is wide, " * 4 + "so it is folded."
TABLE = Table(HEADER, ROWS, [NOTE])
PAGE = f"# Sweep\n\nA paragraph\nof two lines, with `code` and [a page](page.md).\n\n{TABLE.markdown()}\n"
NUMBERS = [cell for row in ROWS for cell in row if cell and not cell.isalpha() and cell != "hard labels"]


def numbers_in(text):
    return [re.sub(" +", " ", cell) for cell in re.split(r"\s{2,}|\n", text)]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_table_fits_and_no_number_is_broken(width):
    text = TABLE._replace(notes=()).text(width)
    assert max(map(len, text.splitlines())) <= width
    whole, shown = TABLE._replace(notes=()).text(), numbers_in(text)
    left_out = " ".join(text.partition("(no room here for: ")[2].split())  # its line may be folded
    for heading, *cells in zip(HEADER, *ROWS, strict=True):
        for cell in cells:
            assert cell in whole
            if cell in NUMBERS and heading not in left_out:
                assert cell in shown, (cell, text)


def test_at_80_columns_the_errors_the_difference_and_its_p_are_there():
    lines = TABLE.text(80).splitlines()
    (of_infinity,) = [line for line in lines if "∞" in line]
    shown = numbers_in(of_infinity.strip())
    assert shown == ["300", "∞", "102.0 [88.1, 115.9]", "3", "−44.0 [−60.5, −27.5]", "fewer", "< 0.001"]
    assert any("(no room here for: over images, test NLL, nats)" in line for line in lines)
    assert "no room" not in TABLE.text(200) and "no room" not in TABLE.text()


def test_columns_are_aligned():
    header, _, hard, infinity = TABLE._replace(left=2, notes=()).text().splitlines()
    assert header.index("test errors") + len("test errors") == hard.index("158.9]") + 6 == infinity.index("115.9]") + 6
    assert header.index("T  ") == hard.index("hard labels") == infinity.index("∞")


def test_a_page_has_no_signs_of_markdown_and_a_log_has_a_line_a_paragraph():
    for width in (None, 80):
        text = terminal.text(PAGE, width)
        assert not re.search(r"^#|^\||---:|`|\]\(", text, re.MULTILINE)
        assert "of two lines, with code and a page." in " ".join(text.split())
    lines = terminal.text(PAGE).splitlines()
    assert lines[0] == "Sweep" and "A paragraph of two lines, with code and a page." in lines and f"* {NOTE}" in lines
    folded = terminal.text(PAGE, 80).splitlines()
    assert max(map(len, folded)) <= 80
    assert [line[:2] for line in folded[-4:]] == ["* ", "  ", "  ", "  "]


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_is_asked_how_wide_it_is(columns):
    lines = terminals.screen(["-c", f"from analysis import terminal; terminal.show({PAGE!r})"], columns)
    assert [line for line in lines if line] == [line for line in terminal.text(PAGE, columns).splitlines() if line]


def test_elsewhere_there_is_no_limit(capsys):
    terminal.show(PAGE)
    assert capsys.readouterr().out == terminal.text(PAGE) + "\n"


def test_a_bar_inside_a_cell_is_no_border():
    page = "| norm | n |\n| --- | ---: |\n| Σ\\|u\\| | 3 |"
    assert terminal.text(page, 80).splitlines()[-1].split() == ["Σ|u|", "3"]
