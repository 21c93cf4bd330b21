"""Bytes that changed on disk: noticed with a clear line or harmless, never a traceback, never another result.

A fixed few of the random damages run here; `KDJAX_FLIPS=100 pytest tests/test_faults.py` does a hundred.
"""

import os
import random
import shutil

import numpy as np
import pandas as pd
import pytest

from analysis.sweep import run as sweep_run
from analysis.sweep import table as sweep_table
from experiments import temperature_sweep
from kdjax import loop, run_directory, students
from kdjax.checkpoints import Checkpoints
from kdjax.config import NUMERICS, SweepConfig
from kdjax.errors import BadInput
from tests import commands, raw_files

FLIPS = int(os.environ.get("KDJAX_FLIPS", "20"))
PLACES = (  # each as likely as another, however many files it has
    "data/**/*",
    "runs/teachers/*/**/*",
    "runs/temperature_sweep/run/blocks/**/*",
    "runs/temperature_sweep/run/checkpoints/**/*",
    "runs/temperature_sweep/run/config.json",
    "runs/temperature_sweep/run/*",
)
STATES = ("finished", "teacher under way", "block under way")


class Cut(BaseException):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return raw_files.write_digits(tmp_path_factory.mktemp("raw") / "mnist")


@pytest.fixture(scope="module")
def states(raw, tmp_path_factory):
    """A finished run, one cut off while its teacher was trained, and one cut off in its second block."""
    roots = {name: tmp_path_factory.mktemp("state") for name in STATES}
    save = Checkpoints.save

    def saving_until(folder, step):
        def cut_off(self, now, tree):
            save(self, now, tree)
            if folder in str(self.folder) and now >= step:
                raise Cut

        return cut_off

    with pytest.MonkeyPatch.context() as patch:
        for name, folder in (("teacher under way", ".checkpoints"), ("block under way", "seed1")):
            patch.setattr(Checkpoints, "save", saving_until(folder, 30))
            with pytest.raises(Cut):
                go_on(roots[name], raw, "--checkpoint-seconds", "0")
    assert go_on(roots["finished"], raw)[0] == 0
    return roots


def go_on(root, raw, *more):
    data = ("--dataset", "mnist", "--raw-dir", str(raw))
    return commands.call_sweep(root, *data, "--checkpoint-seconds", "30", *more)


def copy(root, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root, target)
    return target


@pytest.mark.parametrize("state", STATES)
def test_resuming_after_a_cut_gives_the_same_to_the_bit(states, raw, tmp_path, state):
    root = copy(states[state], tmp_path / "root")
    code, said = go_on(root, raw)
    assert code == 0 and ("resumes at step 3" in said) == (state != "finished"), said
    assert commands.outcome(root) == commands.outcome(states["finished"])
    assert not commands.leftovers(root)


def test_random_flips_and_truncations(states, raw, tmp_path):
    expected, noticed = commands.outcome(states["finished"]), 0
    for number in range(FLIPS):
        rng = random.Random(number)
        root = copy(states[STATES[number % len(STATES)]], tmp_path / "root")
        places = [
            sorted(path for path in root.glob(place) if path.is_file() and path.stat().st_size) for place in PLACES
        ]
        done = commands.flip(rng.choice(rng.choice([place for place in places if place])), rng)
        code, said = go_on(root, raw)
        assert code in (0, 2) and "Traceback" not in said, f"{done}\n{said}"
        noticed += "SHA-256" in said or "damaged" in said or "another config" in said
        if code == 2:
            assert said.count("error: ") == 1, f"{done}\n{said}"
            assert go_on(root, raw, "--fresh")[0] == 0, done
        assert commands.outcome(root) == expected, f"{done}\n{said}"
        assert not commands.leftovers(root), done
    print(f"{FLIPS} damages: {noticed} were noticed, the rest changed nothing that is read")
    assert noticed >= FLIPS / 2


def seen(folder):
    """All that the figures and the table are made of, as text."""
    run = sweep_run.load(folder)
    parts = [part.to_csv() if hasattr(part, "to_csv") else part for part in run]
    return [part.tobytes() if hasattr(part, "tobytes") else part for part in parts], sweep_table.write_summary(folder)


def test_results_that_changed_are_not_drawn(states, tmp_path):
    undamaged = seen(copy(commands.run_directory(states["finished"]), tmp_path / "undamaged"))
    for number in range(FLIPS):
        rng = random.Random(number)
        folder = copy(commands.run_directory(states["finished"]), tmp_path / "run")
        name = rng.choice(["results.csv", "history.jsonl", "test.npz", "config.json", "MANIFEST.json"])
        done = commands.flip(folder / name, rng)
        try:
            assert seen(folder) == undamaged, done
        except BadInput as damage:
            assert str(folder) in str(damage) and "\n" not in str(damage)


def whole_command(root, raw):
    """The sweep as a user gives it, figures and summary included; the bytes of all that follows from its blocks."""
    arguments = commands.tiny(root, "--dataset", "mnist", "--raw-dir", str(raw), "--checkpoint-seconds", "30")
    code, said = commands.call(temperature_sweep.main, SweepConfig, arguments)
    assert code == 0, said
    folder = commands.run_directory(root)
    derived = [folder / name for name in DERIVED] + sorted((folder / "figures").iterdir())
    return {path.relative_to(folder): path.read_bytes() for path in derived}


DERIVED = ("results.csv", "history.jsonl", "test.npz", "summary.md", "table.csv")


@pytest.mark.parametrize("how", ["missing", "rubbish"])
def test_what_follows_from_the_blocks_is_written_again(states, raw, tmp_path, how):
    root = copy(states["finished"], tmp_path / "root")
    before = whole_command(root, raw)
    assert len(before) > len(DERIVED) + 4
    for name in before:
        path = commands.run_directory(root) / name
        if how == "missing":
            path.unlink()
        else:
            path.write_text("[rubbish")
    after = whole_command(root, raw)
    assert after.keys() == before.keys()
    for name, content in before.items():
        assert after[name] == content, name
    assert commands.outcome(root) == commands.outcome(states["finished"])


@pytest.mark.parametrize("content", [None, "[rubbish"])
def test_lost_timing_costs_nothing_else(states, raw, tmp_path, content):
    root = copy(states["finished"], tmp_path / "root")
    path = commands.run_directory(root) / "timing.json"
    path.unlink()
    if content:
        path.write_text(content)
    assert go_on(root, raw)[0] == 0
    assert commands.outcome(root) == commands.outcome(states["finished"])
    assert (path.read_text() if path.exists() else None) == content  # a finished run has no new times to tell


def test_all_checkpoints_damaged_is_reported_and_the_block_starts_again(states, raw, tmp_path):
    root = copy(states["block under way"], tmp_path / "root")
    for folder in commands.run_directory(root).glob("checkpoints/*/[0-9]*"):
        (folder / "MANIFEST.json").unlink()
    code, said = go_on(root, raw)
    assert code == 0 and said.count("checkpoint set aside") == 2 and "no whole checkpoint is left" in said
    assert commands.outcome(root) == commands.outcome(states["finished"])


def test_other_data_or_numerics_under_the_same_name_are_refused(states, raw, tmp_path, monkeypatch):
    root = copy(states["finished"], tmp_path / "root")
    before = {path: path.read_bytes() for path in commands.files(commands.run_directory(root))}
    other = copy(raw, tmp_path / "mnist")
    content = bytearray((other / "t10k-images-idx3-ubyte").read_bytes())
    content[100] ^= 255  # one pixel of one test image
    (other / "t10k-images-idx3-ubyte").write_bytes(content)
    code, said = go_on(root, other)
    assert code == 2 and "differing: data.test_fingerprint)" in said and "--fresh" in said
    monkeypatch.setitem(NUMERICS, "mlp", 0)
    code, said = go_on(root, raw)
    assert code == 2 and "differing: numerics, teachers)" in said
    kept = {path: path.read_bytes() for path in commands.files(commands.run_directory(root)) if path.name != ".lock"}
    assert kept == {path: content for path, content in before.items() if path.name != ".lock"}


def test_a_broken_run_says_where_and_its_neighbours_do_not_notice(tmp_path):
    rows = {}
    for name, rate in (("broken", "1e12"), ("harmless", "0.002")):
        more = ("--learning-rates", "0.001", rate, "--temperatures", "4", "--name", name, "--checkpoint-seconds", "30")
        assert commands.call_sweep(tmp_path, *more)[0] == 0
        rows[name] = run_directory.read_results(tmp_path / "runs" / "temperature_sweep" / name)
    broken, harmless = (rows[name].set_index("learning_rate") for name in ("broken", "harmless"))
    assert (broken.loc[1e12, "failed_at"] >= 0).all() and (broken.loc[0.001, "failed_at"] == -1).all()
    pd.testing.assert_frame_equal(broken.loc[0.001], harmless.loc[0.001], check_exact=True)


def test_the_last_good_errors_are_those_counted_before_the_failure():
    errors = np.array([[np.nan], [50.0], [np.nan], [40.0], [np.nan], [900.0]])
    history = loop.History(errors, errors, errors, errors, np.zeros((1, 0), np.int32))
    for failed_at, expected in ((-1, None), (15, None), (20, None), (21, 50.0), (39, 50.0), (45, 40.0), (60, 40.0)):
        assert students._last_good(history, 0, failed_at, steps_per_epoch=10) == expected
