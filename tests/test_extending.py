"""The files of docs/extending.md, as they stand there: each one file outside the package, run by its own command."""

import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tests import commands, hurry

PAGE = (commands.ROOT / "docs" / "extending.md").read_text()
FILES = re.findall(r"`(\w+\.py)`:\n\n```python\n(.*?)```\n\n```bash\n(.*?)\n```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a user's own, with the raw files of a dataset in it."""
    root = tmp_path_factory.mktemp("user")
    random = np.random.default_rng(0)
    (root / "raw").mkdir()
    for name, count in (("train", 200), ("test", 50)):
        labels = (np.arange(count) % 2).astype(np.uint8)
        images = random.integers(0, 100, (count, 64)).astype(np.uint8) + 150 * labels[:, None]
        np.save(root / "raw" / f"{name}.npy", np.concatenate([images, labels[:, None]], axis=1))
    return root


def run(folder, name):
    """Writes the file of that name, gives its command, and returns its run directory."""
    ((_, source, command),) = [parts for parts in FILES if parts[0] == name]
    (folder / name).write_text(source)
    python, *arguments = shlex.split(command)
    assert python == "python" and arguments[0] == name
    environment = {
        **os.environ,
        **hurry.environment(),
        "PYTHONPATH": str(commands.ROOT),
        "KDJAX_DATA_DIR": str(folder / "data"),
        "XDG_CACHE_HOME": str(commands.ROOT / ".pytest_cache" / "user"),
    }
    out = ["--out", f"runs-{name}", "--name", "run", "--devices", "1"]
    done = subprocess.run(
        [sys.executable, *arguments, *out], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder / f"runs-{name}" / "temperature_sweep" / "run"


def test_the_page_shows_one_file_each():
    assert [name for name, *_ in FILES] == ["huber.py", "squares.py", "linear.py", "margin.py", "calibrated.py"]


def test_an_objective(folder):
    run_directory = run(folder, "huber.py")
    results = pd.read_csv(run_directory / "results.csv")
    assert results.groupby("objective").size().to_dict() == {
        "hard": 2,
        "huber": 4,
        "huber(delta=0.5)": 4,
        "huber(delta=2)": 4,
        "kd": 4,
    }
    assert (results["failed_at"] == -1).all()
    summary = (run_directory / "summary.md").read_text()
    assert "2 (Huber loss)" in summary and "8 (Huber loss (delta=0.5))" in summary


def test_a_dataset(folder):
    run_directory = run(folder, "squares.py")
    assert "Squares (200 training images, 50 test images)" in (run_directory / "summary.md").read_text()
    assert np.load(run_directory / "test.npz")["labels"].tolist() == [0, 1] * 25


def test_a_network(folder):
    run_directory = run(folder, "linear.py")
    assert "network linear" in (run_directory / "summary.md").read_text()
    (block,) = (run_directory / "blocks").glob("*seed0*")
    assert {"down", "up"} <= set(re.findall(r"\w+", (block / "parameters" / "structure.json").read_text()))


def test_a_metric(folder):
    results = pd.read_csv(run(folder, "margin.py") / "results.csv")
    assert (results[["test_margin", "transfer_margin"]] > 0).all(axis=None)


def test_a_table_column(folder):
    run_directory = run(folder, "calibrated.py")
    table, results = (pd.read_csv(run_directory / f"{name}.csv") for name in ("table", "results"))
    assert "calibration error, %" in (run_directory / "summary.md").read_text()
    means = 100 * results.groupby("objective")["test_ece"].mean()
    shown = table.set_index("objective")["test_ece"]
    assert shown["kd"] == pytest.approx(means["kd"]) and shown["hard"] == pytest.approx(means["hard"])
