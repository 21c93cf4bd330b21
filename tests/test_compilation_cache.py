"""Compiled programs are found again by the next process; damaged or unwritable ones cost time and nothing else."""

import os

import pytest

from kdjax import compilation_cache, files
from tests import commands, hurry

pytestmark = pytest.mark.optimized


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The cache and results of a first run."""
    root = tmp_path_factory.mktemp("first")
    code, said = run(root, root / "cache")
    assert code == 0, said
    return root / "cache", commands.outcome(root)


def run(root, cache, **environment):
    arguments = commands.tiny(root, "--seeds", "1", "--epochs", "2", "--teacher.epochs", "2")
    # In a hurry, from half the seconds on: what is kept and found does not depend on how it was compiled.
    kept = {"XDG_CACHE_HOME": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    return commands.finish(commands.start(arguments, env={**hurry.environment(), **kept, **environment}))


def entries(cache):
    return sorted(cache.glob("kdjax/compiled/*/*-cache"))


def training(cache):
    """What takes longest. (Whether a small program took the 0.2 s from which on it is kept is a matter of chance.)"""
    return [path for path in entries(cache) if path.name.startswith("jit_advance-")]


def test_damaged_entries_are_reported_and_replaced_and_the_next_start_compiles_no_training(first, tmp_path):
    cache, expected = first
    assert len(training(cache)) == 2  # the teacher's and the students'
    for path in entries(cache):
        os.truncate(path, path.stat().st_size // 2)
    code, said = run(tmp_path, cache)
    assert code == 0 and "Warning" not in said and "Traceback" not in said, said
    assert "is damaged: jit_advance is compiled again" in said
    assert commands.outcome(tmp_path) == expected
    stored = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in training(cache)}
    code, said = run(tmp_path / "again", cache)
    assert code == 0 and "is damaged:" not in said, said
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in training(cache)} == stored
    assert len(stored) == 2 and commands.outcome(tmp_path / "again") == expected


def test_a_cache_that_cannot_be_used_is_done_without(first, tmp_path):
    (tmp_path / "file").touch()
    code, said = run(tmp_path, tmp_path / "file")
    assert code == 0 and "Warning" not in said and "Traceback" not in said, said
    assert said.count("cannot be used (NotADirectoryError): compiled programs are not stored") == 1, said
    assert commands.outcome(tmp_path) == first[1]


def test_a_folder_of_the_users_own_is_left_to_jax(monkeypatch):
    for named in ("", "/somewhere"):
        monkeypatch.setenv(compilation_cache.VARIABLE, named)
        with compilation_cache.persistent_cache():
            assert os.environ[compilation_cache.VARIABLE] == named


def test_a_cache_that_has_grown_too_large_is_emptied(tmp_path, monkeypatch):
    monkeypatch.delenv(compilation_cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with compilation_cache.persistent_cache():
        folder = os.environ[compilation_cache.VARIABLE]
    assert compilation_cache.VARIABLE not in os.environ
    os.makedirs(f"{folder}/deeper")
    start = files.size_of(compilation_cache.folder())
    monkeypatch.setattr(compilation_cache, "LARGEST", start + 20)
    for size, left in ((9, True), (30, False)):
        with open(f"{folder}/deeper/x", "wb") as file:
            file.write(b"x" * size)
        os.symlink("nowhere", f"{folder}/dangling{size}") if left else None
        with compilation_cache.persistent_cache():
            assert os.path.exists(folder) == left
