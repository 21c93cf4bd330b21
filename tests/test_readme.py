"""The README's Python blocks run as they stand, in one namespace each; commands and links in it and in docs/ hold."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from kdjax import cli
from tests import commands
from tests.test_fuzz import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {page: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
COMMAND_LINES = re.findall(r"\bpython -m ((?:experiments|analysis|kdjax)\.[^`\n…]*)", "\n".join(PAGES.values()))
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("source", BLOCKS, ids=[f"block{index}" for index in range(len(BLOCKS))])
def test_snippet_runs(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    monkeypatch.setenv("KDJAX_DATA_DIR", str(tmp_path / "data"))
    np.savez(
        tmp_path / "mine.npz",
        images=random.integers(0, 256, (600, 28, 28, 1)).astype(np.uint8),
        labels=random.integers(0, 10, 600).astype(np.int32),
        teacher_logits=random.normal(0, 5, (600, 10)).astype(np.float32),
        test_images=random.integers(0, 256, (50, 28, 28, 1)).astype(np.uint8),
    )
    _write_idx(tmp_path / "raw" / "letters", random)
    if "runs/temperature_sweep/NAME" in source:
        code, said = commands.call_sweep(tmp_path, "--name", "NAME", "--seeds", "1")
        assert code == 0, said
    exec(compile(source, "README.md", "exec"), {})


def test_there_are_snippets():
    assert len(BLOCKS) >= 3 and len(COMMAND_LINES) >= 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        if link.startswith("http"):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else []
        named = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}
        assert not heading or heading in named, link


@pytest.mark.parametrize("line", sorted(set(COMMAND_LINES)))
def test_command_is_understood(line):
    name, *arguments = [word.replace("$(hostname)", "host") for word in shlex.split(line, comments=True)]
    cli.parse(getattr(importlib.import_module(name), COMMANDS[name].split(".")[-1]), name, arguments)


def _write_idx(folder, random):
    folder.mkdir(parents=True)
    for prefix, count in (("train", 60), ("t10k", 20)):
        images = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = random.integers(0, 26, count).astype(np.uint8)
        header = np.array([2051, count, 28, 28], ">i4").tobytes()
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(
            np.array([2049, count], ">i4").tobytes() + labels.tobytes()
        )
