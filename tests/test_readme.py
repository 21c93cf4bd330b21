"""The README is short and its Python blocks run as they stand; commands and links in all pages of the docs hold."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from kdjax import cli
from tests import commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {page: page.read_text() for page in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))}
JOINED = re.sub(r"\\\n\s*", "", "\n".join(PAGES.values()))
COMMAND_LINES = re.findall(r"(?<!['\"(])\bpython -m ((?:experiments|analysis|kdjax)\.[^`\n…]*)", JOINED)
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MOST_LINES, MOST_WORDS, LONGEST_CELL = 160, 1_500, 120


def words(text):
    """Words of prose and tables: code blocks, comments and the targets of links are not read."""
    for passed_over in (r"^```.*?^```", r"<!--.*?-->", r"(?<=\])\([^)]*\)"):
        text = re.sub(passed_over, " ", text, flags=re.DOTALL | re.MULTILINE)
    return [word for word in text.split() if re.search(r"\w", word)]


def cells(text):
    """The cells of all tables."""
    rows = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    return [cell.strip() for row in rows if row.startswith("|") for cell in re.split(r"(?<!\\)\|", row)]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MOST_LINES
    assert len(words(README)) <= MOST_WORDS
    assert not [cell for cell in cells(README) if len(cell) > LONGEST_CELL]


def test_how_words_and_cells_are_counted():
    page = "Two words\n\n```bash\nnot these\n```\n<!-- nor this -->\n| a | [b c](x/y.md) |\n|---|---:|\n"
    assert words(page) == ["Two", "words", "a", "[b", "c]"]
    assert [cell for cell in cells(page) if cell] == ["a", "[b c](x/y.md)", "---", "---:"]


@pytest.mark.parametrize("source", SNIPPETS, ids=[f"snippet{index}" for index in range(len(SNIPPETS))])
def test_snippet_runs(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 600).astype(np.int32)
    np.savez(
        tmp_path / "train.npz",
        images=random.integers(0, 256, (600, 28, 28, 1)).astype(np.uint8),
        labels=labels,
        teacher_logits=(random.normal(0, 5, (600, 10)) + 10 * np.eye(10)[labels]).astype(np.float32),
    )
    np.savez(
        tmp_path / "test.npz",
        images=random.integers(0, 256, (50, 28, 28, 1)).astype(np.uint8),
        labels=random.integers(0, 10, 50).astype(np.int32),
    )
    if "runs/temperature_sweep/NAME" in source:
        code, said = commands.call_sweep(tmp_path, "--name", "NAME", "--seeds", "1")
        assert code == 0, said
    exec(compile(source, "README.md", "exec"), {})


def test_there_are_snippets_and_commands():
    assert len(SNIPPETS) >= 2 and len(COMMAND_LINES) >= 15


def test_the_pages_that_the_readme_is_the_door_to():
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    pages = ("run_directory", "guarantees", "glossary", "machines", "extending", "results/index")
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{page}.md" for page in pages)} <= names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if link.startswith("http"):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else []
        named = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
        assert not heading or heading in named, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_a_page_names_are_there(page):
    for name in re.findall(r"`(tests/\w+\.py)`", PAGES[page]):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("line", sorted(set(COMMAND_LINES)))
def test_command_is_understood(line):
    name, *arguments = [word.replace("$(hostname)", "host") for word in shlex.split(line, comments=True)]
    presets = getattr(importlib.import_module(name), "PRESETS", None)
    cli.parse(commands.config_class(name), name, arguments, presets)
