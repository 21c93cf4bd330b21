"""More seeds, widths or rates train only what no earlier run beside them has finished."""

import dataclasses
import json
import shutil

import pytest

from kdjax import forecast, sweeps
from tests.small_sweep import config


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
    assert f"({count} are there)" in forecast.of_sweep(sweep).text
    results, trained = trained_of(sweep, monkeypatch)
    assert trained == new
    said = f"{count} block{'s' * (count > 1)} of {folder.name} taken over: same settings; --fresh trains all again"
    assert said in capfd.readouterr().err
    again, all_trained = trained_of(more(asked, run={"fresh": True}, **changes), monkeypatch)
    assert len(set(all_trained)) == len(sweep.blocks) and again == results


@pytest.mark.parametrize("changes", [{"epochs": 3}, {"temperatures": (1.0, 8.0)}, {"batch_size": 25}])
def test_blocks_of_other_settings_are_trained(two_seeds, changes):
    assert len(more(two_seeds[0], seeds=3, **changes).missing) == 3


def test_the_same_sweep_under_another_name_is_trained(two_seeds):
    assert len(more(two_seeds[0], run={"name": "again"}).missing) == 2


def test_blocks_at_rates_that_their_names_do_not_tell_are_trained(tmp_path):
    asked = config(tmp_path, temperatures=(4.0,), hard_labels=False, own_rates=True, learning_rates=(1e-3,), seeds=1)
    sweeps.run(sweeps.prepare(asked))
    assert len(more(asked, seeds=2).missing) == 1
    assert len(more(asked, seeds=2, learning_rates=(2e-3,)).missing) == 2


def test_what_another_device_or_version_or_a_fault_left_is_trained(tmp_path, monkeypatch, capfd):
    asked = config(tmp_path, temperatures=(4.0,))
    folder = sweeps.run(sweeps.prepare(asked))
    path, block = folder / "config.json", folder / "blocks" / "width12-seed0-rate0.001-0"
    whole = path.read_text()
    for group, name in (("details", "device"), ("details", "versions")):
        record = json.loads(whole)
        record[group][name] = "another"
        path.write_text(json.dumps(record))
        assert len(more(asked, seeds=3).missing) == 3
    path.write_text("not JSON")
    assert len(more(asked, seeds=3).missing) == 3
    path.write_text(whole)
    rows = json.loads((block / "rows.json").read_text())
    (block / "rows.json").write_text(json.dumps({**rows, "schema": {"number": 0, "metrics": []}}))
    assert len(more(asked, seeds=3).missing) == 2
    (block / "rows.json").write_text(json.dumps(rows))  # the same rows, but not the same bytes
    _, trained = trained_of(more(asked, seeds=3), monkeypatch)
    assert "seed0-rate0.001-0 is not taken over: " in capfd.readouterr().err
    assert sorted(trained) == ["width12-seed0-rate0.001-0", "width12-seed2-rate0.001-0"]
