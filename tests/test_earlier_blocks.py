"""More seeds, widths or rates train only what no earlier run beside them has finished."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest

from kdjax import earlier_blocks, forecast, sweeps
from kdjax.files import read_json
from kdjax.provenance import cpus
from tests.small_sweep import config

OMIT = (
    "--digit 3 --dataset mnist5k --holdout 500 --width 12 --epochs 2 --batch-size 250 --devices 1 "
    "--teacher.widths 16 --teacher.epochs 2"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    asked = config(tmp_path_factory.mktemp("earlier"), temperatures=(1.0, 4.0), learning_rates=(1e-3,))
    return asked, sweeps.run(sweeps.prepare(asked))


@pytest.fixture
def two_seeds(trained, tmp_path):
    """Two seeds, finished, and nothing beside them."""
    asked, folder = trained
    shutil.copytree(asked.run.out, tmp_path / "runs")
    own = dataclasses.replace(asked, run=dataclasses.replace(asked.run, out=tmp_path / "runs"))
    return own, tmp_path / folder.relative_to(asked.run.out.parent)


def more(asked, run=(), **changes):
    """The sweep with more of something, prepared."""
    return sweeps.prepare(dataclasses.replace(asked, run=dataclasses.replace(asked.run, **dict(run)), **changes))


def trained_of(sweep, monkeypatch):
    """The results of a sweep, and the names of the blocks that it trained."""
    trained, usual = [], sweeps.students.train_block
    monkeypatch.setattr(
        sweeps.students, "train_block", lambda block, *rest: trained.append(block.name) or usual(block, *rest)
    )
    return (sweeps.run(sweep) / "results.csv").read_bytes(), trained


@pytest.mark.parametrize(
    ("changes", "new"),
    [
        ({"seeds": 3}, ["width12-seed2-rate0.001-0"]),
        ({"seeds": 2, "first_seed": 1}, ["width12-seed2-rate0.001-0"]),
        ({"widths": (12, 8), "seeds": 1}, ["width8-seed0-rate0.001-0"]),
        ({"learning_rates": (1e-3, 2e-3), "seeds": 1}, ["width12-seed0-rate0.002-0"]),
    ],
)
def test_only_new_blocks_are_trained_and_the_results_are_the_same(two_seeds, monkeypatch, capfd, changes, new):
    asked, folder = two_seeds
    sweep = more(asked, **changes)
    assert [block.name for block in sweep.missing] == new
    count = len(sweep.blocks) - 1
    assert f"({count} taken over from earlier runs)" in forecast.of_sweep(sweep).text
    results, trained = trained_of(sweep, monkeypatch)
    assert trained == new
    assert f"{count} block{'s' * (count > 1)} of {folder.name} taken over: same settings" in capfd.readouterr().err
    record, times = (read_json(sweep.folder / name) for name in ("config.json", "timing.json"))
    assert len(record["taken_over"]) == count and set(record["taken_over"].values()) == {folder.name}
    assert times.keys() == {block.name for block in sweep.blocks}
    again, all_trained = trained_of(more(asked, run={"fresh": True}, **changes), monkeypatch)
    assert len(set(all_trained)) == len(sweep.blocks) and again == results


def test_a_grid_that_was_widened_is_widened_with_more_seeds(tmp_path, monkeypatch):
    asked = config(tmp_path, holdout=100, learning_rates=(1e-5, 3e-4), temperatures=(4.0,), seeds=1, widths=(64,))
    sweeps.run(sweeps.prepare(asked))
    results, trained = trained_of(more(asked, seeds=2), monkeypatch)
    assert any("rate0.009" in name for name in trained) and not any("seed0" in name for name in trained)
    elsewhere = more(asked, run={"out": tmp_path / "elsewhere"}, seeds=2)
    assert trained_of(elsewhere, monkeypatch)[0] == results


def test_more_seeds_of_an_omitted_digit(tmp_path):
    asked = [*OMIT.split(), "--out", str(tmp_path / "runs"), "--data-dir", str(tmp_path / "data")]
    for seeds, said in ((1, ""), (2, "blocks of mnist5k-digit3-T20-")):
        command = [sys.executable, "-m", "experiments.omit_digit", *asked, "--seeds", str(seeds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert said in done.stderr and ("taken over" in done.stderr) == bool(said)
    records = map(read_json, (tmp_path / "runs" / "omit_digit").glob("*/config.json"))
    (record,) = (one for one in records if "taken_over" in one)
    assert all("seed0" in name for name in record["taken_over"])


def test_blocks_of_a_process_with_other_cores_are_trained(two_seeds, monkeypatch):
    asked, folder = two_seeds
    monkeypatch.setattr(earlier_blocks, "cpus", lambda: 999)
    assert len(more(asked, seeds=3).missing) == 3
    for path in folder.glob("blocks/*/rows.json"):  # of before they were noted
        written = read_json(path)
        assert written["made_with"].pop("cpus") == cpus()
        path.write_text(json.dumps(written))
    monkeypatch.undo()
    assert len(more(asked, seeds=3).missing) == 3


@pytest.mark.parametrize("changes", [{"epochs": 3}, {"temperatures": (1.0, 8.0)}, {"batch_size": 25}])
def test_blocks_of_other_settings_are_trained(two_seeds, changes):
    assert len(more(two_seeds[0], seeds=3, **changes).missing) == 3


def test_the_same_sweep_under_another_name_is_trained_whatever_lies_beside_it(two_seeds):
    asked, _ = two_seeds
    assert len(more(asked, run={"name": "again"}).missing) == 2
    sweeps.run(more(asked, seeds=3))
    assert len(more(asked, run={"name": "again"}).missing) == 2


def test_fresh_stays_fresh_when_it_is_resumed(two_seeds, monkeypatch):
    asked, _ = two_seeds
    usual = sweeps.students.train_block

    def interrupted(block, *rest):
        if "seed1" in block.name:
            raise KeyboardInterrupt
        return usual(block, *rest)

    monkeypatch.setattr(sweeps.students, "train_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweeps.run(more(asked, run={"fresh": True}, seeds=3))
    monkeypatch.setattr(sweeps.students, "train_block", usual)
    assert [block.name[8:13] for block in more(asked, seeds=3).missing] == ["seed1", "seed2"]
    assert trained_of(more(asked, seeds=3), monkeypatch)[1] == [f"width12-seed{n}-rate0.001-0" for n in (1, 2)]


def test_blocks_at_rates_that_their_names_do_not_tell_are_trained(tmp_path):
    asked = config(tmp_path, temperatures=(4.0,), hard_labels=False, own_rates=True, learning_rates=(1e-3,), seeds=1)
    sweeps.run(sweeps.prepare(asked))
    assert len(more(asked, seeds=2).missing) == 1
    assert len(more(asked, seeds=2, learning_rates=(2e-3,)).missing) == 2


@pytest.mark.parametrize("name", ["processor", "toolchain"])
def test_blocks_of_another_machine_or_version_are_trained(two_seeds, monkeypatch, name):
    monkeypatch.setattr(earlier_blocks, name, lambda: {"versions": "other"} if name == "toolchain" else "other")
    assert len(more(two_seeds[0], seeds=3).missing) == 3


def test_blocks_of_other_compiler_flags_are_trained(two_seeds, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert len(more(two_seeds[0], seeds=3).missing) == 3


def test_blocks_of_a_teacher_that_was_trained_again_to_other_bits_are_trained(two_seeds, monkeypatch):
    asked, _ = two_seeds
    usual = sweeps.query_teachers
    other = lambda *given: (data := usual(*given))._replace(train_logits=data.train_logits + 1e-3)  # noqa: E731
    monkeypatch.setattr(sweeps, "query_teachers", other)
    assert len(trained_of(more(asked, seeds=3), monkeypatch)[1]) == 3


@pytest.mark.parametrize("text", ["not JSON", "[]", "null", '{"identity": 3}'])
def test_a_record_that_cannot_be_read_stops_nothing(two_seeds, text):
    asked, folder = two_seeds
    (folder / "config.json").write_text(text)
    assert len(more(asked, seeds=3).missing) == 3


def test_a_block_that_cannot_be_read_is_trained_and_the_others_are_not(two_seeds, monkeypatch, capfd):
    asked, folder = two_seeds
    first, second = (folder / "blocks" / f"width12-seed{seed}-rate0.001-0" for seed in (0, 1))
    (first / "rows.json").unlink()
    (first / "rows.json").mkdir()  # no permission can be taken away from root
    assert len(more(asked, seeds=3).missing) == 2
    (second / "logits.npz").write_bytes(b"damaged")
    _, trained = trained_of(more(asked, seeds=3), monkeypatch)
    said = f"block {second.name} of {folder.name} is not taken over: it is damaged, or cannot be copied ("
    assert said in capfd.readouterr().err and len(trained) == 3


def test_a_whole_copy_in_another_run_serves_where_the_first_is_damaged(two_seeds, monkeypatch):
    asked, folder = two_seeds
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    record = read_json(other / "config.json")
    record["identity"]["config"]["seeds"] = 4  # another run of such students
    (other / "config.json").write_text(json.dumps(record))
    (folder / "blocks" / "width12-seed0-rate0.001-0" / "logits.npz").write_bytes(b"damaged")
    assert trained_of(more(asked, seeds=3), monkeypatch)[1] == ["width12-seed2-rate0.001-0"]
