"""The run directory: whose it is, what `--fresh` may remove, and what is written in it."""

import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kdjax import run_directory, run_folders
from kdjax.errors import BadInput
from kdjax.files import MANIFEST, Busy, Damaged, lock, make_folder, seal

IDENTITY = {"config": {"temperatures": [1.0, "inf"], "seeds": 3}, "numerics": 1}
ROW = {"width": 8, "seed": 0, "objective": "hard", "temperature": None, "test_errors": 3}


def filled(folder):
    record = run_directory.RunDirectory(folder)
    record.open(IDENTITY)
    finish(record, "one", ROW)
    record.write_tables()
    return record


def finish(record, name, row):
    history = [{**row, "epoch": 1, "loss": 0.5}]
    record.finish(name, [row], history, {"test": np.zeros((1, 2, 3))}, lambda folder: folder.mkdir(), 1.0)
    record.add_timing(name, 1.0)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_directory_is_resumed_with_its_own_identity_and_refuses_another(tmp_path):
    record = filled(tmp_path / "run")
    assert record.finished("one") == [ROW] and record.finished("two") is None
    before = content(tmp_path)
    for other, differing in (
        ({**IDENTITY, "numerics": 2}, "numerics"),
        ({**IDENTITY, "config": {"seeds": 4, "temperatures": [1.0]}}, r"config\.seeds, config\.temperatures"),
        ({**IDENTITY, "data": "new"}, "data"),
    ):
        with pytest.raises(BadInput, match=rf"another config \(differing: {differing}\).*--fresh"):
            run_directory.RunDirectory(tmp_path / "run").open(other)
    assert content(tmp_path) == before
    run_directory.RunDirectory(tmp_path / "run").open(IDENTITY)
    assert record.finished("one") == [ROW]


def test_fresh_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    record = filled(tmp_path / "run")
    record.checkpoints("two").mkdir(parents=True)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    (tmp_path / "teachers").mkdir()
    (tmp_path / "teachers" / "teacher.json").write_text("kept")
    record.open({**IDENTITY, "numerics": 2}, fresh=True)
    assert record.finished("one") is None
    assert {str(path) for path in content(tmp_path)} == {"run/notes.txt", "run/config.json", "teachers/teacher.json"}
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("config", ['{"model_type": "bert"}', "[1]", None])
def test_what_is_not_ours_is_left_alone(tmp_path, config, fresh):
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "data").write_text("theirs")
    (tmp_path / "results.csv").write_text("theirs")
    if config:
        (tmp_path / "config.json").write_text(config)
    before = content(tmp_path)
    with pytest.raises(BadInput, match=r"no file of this program|no config\.json"):
        run_directory.RunDirectory(tmp_path).open(IDENTITY, fresh)
    assert content(tmp_path) == before


def test_a_damaged_config_is_reported_and_only_fresh_gets_over_it(tmp_path):
    record = filled(tmp_path)
    (tmp_path / "config.json").write_text('{"identity": {')
    with pytest.raises(BadInput, match=r"config\.json is damaged.*--fresh"):
        record.open(IDENTITY)
    record.open(IDENTITY, fresh=True)
    assert record.finished("one") is None and not (tmp_path / "results.csv").exists()


def test_a_directory_can_be_opened_while_its_lock_is_held(tmp_path):
    with lock(tmp_path / "run" / ".lock"):
        filled(tmp_path / "run")
        run_directory.RunDirectory(tmp_path / "run").open(IDENTITY, fresh=True)
    assert (tmp_path / "run" / ".lock").exists()


def test_a_process_that_has_a_directory_is_waited_for_where_that_is_asked(tmp_path, capfd):
    held, free = threading.Event(), threading.Event()

    def hold():
        with lock(tmp_path / "run" / ".lock"):
            held.set()
            free.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with pytest.raises(Busy), run_directory.opened(tmp_path / "run", IDENTITY):
        pass
    timer = threading.Timer(0.5, free.set)
    timer.start()
    with run_directory.opened(tmp_path / "run", IDENTITY, wait=True) as record:
        assert free.is_set() and record.folder == tmp_path / "run"
    this = f"process {os.getpid()} on {os.uname().nodename}"
    assert f"waiting for {this}, which has {tmp_path / 'run'}" in capfd.readouterr().err
    holder.join()
    timer.join()


def test_rows_are_written_in_canonical_order_whatever_came_first(tmp_path):
    tables = []
    for name, order in (("a", (1, 0)), ("b", (0, 1))):
        record = run_directory.RunDirectory(tmp_path / name)
        record.open(IDENTITY)
        for seed in order:
            finish(record, f"seed{seed}", {**ROW, "seed": seed, "test_errors": 1 / 3})
        record.write_tables()
        tables.append([(tmp_path / name / file).read_text() for file in ("results.csv", "history.jsonl")])
    assert tables[0] == tables[1] and "0.333333333" in tables[0][0]


def test_tables_are_sealed_and_a_changed_one_is_refused(tmp_path):
    filled(tmp_path)
    assert run_directory.read_results(tmp_path)["test_errors"].tolist() == [3]
    (tmp_path / "results.csv").write_text((tmp_path / "results.csv").read_text().replace("3", "2"))
    with pytest.raises(Damaged, match=r"results\.csv.*give the experiment's command again"):
        run_directory.read_results(tmp_path)
    shutil.copytree(tmp_path / "blocks" / "one", tmp_path / "blocks" / "one (copy)")  # is not of the run
    assert [block.name for block in run_directory.block_folders(tmp_path)] == ["one"]
    record = run_directory.RunDirectory(tmp_path)
    record.open(IDENTITY)
    assert record.finished("one")
    record.write_tables()
    assert run_directory.read_results(tmp_path)["test_errors"].tolist() == [3]


def test_a_damaged_block_is_not_finished(tmp_path, capfd):
    record = filled(tmp_path)
    (tmp_path / "blocks" / "one" / "rows.json").write_text("[]")
    assert record.finished("one") is None
    assert "block one is trained again" in capfd.readouterr().err


def test_a_block_of_an_earlier_version_is_refused(tmp_path):
    record = filled(tmp_path)
    block = tmp_path / "blocks" / "one"
    (block / "rows.json").write_text(json.dumps([ROW]))  # as they were before they had a schema
    seal(
        block,
        [path.relative_to(block).as_posix() for path in block.rglob("*") if path.name != MANIFEST and path.is_file()],
    )
    for read in (record.finished, lambda name: run_directory.read_rows(block)):
        with pytest.raises(BadInput, match="was written by an earlier version of kdjax: give another --out"):
            read("one")


def test_checkpoints_of_a_finished_block_are_removed(tmp_path):
    record = filled(tmp_path)
    (record.checkpoints("one") / "000000010").mkdir(parents=True)
    assert record.finished("one") == [ROW]
    assert not record.checkpoints("one").exists()


def test_of_a_block_that_was_begun_elsewhere_it_is_not_known_what_made_it(tmp_path):
    def stored(name, *cores):
        for count in cores:  # a process each, the last of which finishes it
            record = run_directory.RunDirectory(tmp_path)
            record.made_with = {"cpus": count, "versions": {"jax": "1"}}
            record.begin(name)
            (record.checkpoints(name) / "5").mkdir(exist_ok=True)
        finish(record, name, ROW)
        assert not record.checkpoints(name).exists()
        return json.loads((tmp_path / "blocks" / name / "rows.json").read_text())["made_with"]

    run_directory.RunDirectory(tmp_path).open(IDENTITY)
    assert stored("here", 2, 2) == {"cpus": 2, "versions": {"jax": "1"}}
    assert stored("elsewhere", 2, 4) is None and stored("back", 2, 4, 4) is None
    (tmp_path / "checkpoints" / "before" / "5").mkdir(parents=True)  # of a version that did not note it
    assert stored("before", 2) is None
    (tmp_path / "checkpoints" / "damaged" / "5").mkdir(parents=True)
    (tmp_path / "checkpoints" / "damaged" / "made_with.json").write_text('{"cpus"')
    assert stored("damaged", 2) is None


def test_other_versions_are_warned_of(tmp_path, capfd):
    record = run_directory.RunDirectory(tmp_path)
    record.open(IDENTITY)
    record.config_file.describe({"versions": {"jax": "1"}, "device": "cpu"})
    assert not capfd.readouterr().err
    record.open(IDENTITY)
    record.config_file.describe({"versions": {"jax": "2"}, "device": "cpu"})
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "started with other versions" in said
    assert json.loads((tmp_path / "config.json").read_text())["details"]["versions"] == {"jax": "2"}


def test_a_finished_run_keeps_what_it_was_made_with(tmp_path):
    record = filled(tmp_path)
    record.config_file.describe({"versions": {"jax": "1"}, "cpus": 2, "teacher": "one"})
    record.write_tables()
    record = run_directory.RunDirectory(tmp_path)
    record.open(IDENTITY)
    record.config_file.describe({"versions": {"jax": "2"}, "cpus": 4, "teacher": "the same"})
    assert record.config_file.details() == {"versions": {"jax": "1"}, "cpus": 2, "teacher": "the same"}


def test_blocks_that_were_trained_on_other_cores_are_warned_of_once(tmp_path, capfd):
    record = run_directory.RunDirectory(tmp_path)
    record.open(IDENTITY)
    record.made_with = {"cpus": 2, "teacher": "a"}
    for name in ("one", "two"):
        finish(record, name, ROW)
    for made_with, said in (
        ({"cpus": 2, "teacher": "a"}, ""),
        (None, ""),
        ({"cpus": 4, "teacher": "b"}, "blocks of this run were trained with other cpus: last digits may differ"),
    ):
        again = run_directory.RunDirectory(tmp_path)
        again.open(IDENTITY)
        again.made_with = made_with
        capfd.readouterr()
        assert again.finished("one") and again.finished("two")
        assert capfd.readouterr().err.count(said or "trained with other") == bool(said)


def test_damaged_timing_costs_nothing_else(tmp_path, capfd):
    record = filled(tmp_path)
    (tmp_path / "timing.json").write_text("{")
    record.add_timing("two", 2.0)
    assert json.loads((tmp_path / "timing.json").read_text()) == {"two": 2.0}
    assert "timing starts again" in capfd.readouterr().err


def test_leftovers_of_kills_are_cleared_at_the_next_start(tmp_path):
    record = filled(tmp_path)
    for folder in (tmp_path, *(tmp_path / name for name in ("blocks", "checkpoints", "figures"))):
        (folder / ".something.tmp-1").mkdir()
    record.open(IDENTITY)
    assert not list(tmp_path.rglob(".something*"))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="cannot be written"):
        make_folder(tmp_path / "file" / "run")
    with pytest.raises(BadInput, match="cannot be written"):
        make_folder(tmp_path / "file")


def test_latest_run_is_the_one_with_the_newest_results(tmp_path):
    with pytest.raises(BadInput, match="no finished run"):
        run_folders.latest_run(tmp_path, "sweep")
    filled(tmp_path / "sweep" / "a")
    filled(tmp_path / "sweep" / "b")
    for newest in ("a", "b"):
        os.utime(tmp_path / "sweep" / newest / "results.csv", (time.time() + 10 * ord(newest),) * 2)
        assert run_folders.latest_run(tmp_path, "sweep").name == newest


def test_a_run_is_named_by_its_path_or_by_its_name(tmp_path):
    filled(tmp_path / "sweep" / "a")
    filled(tmp_path / "sweep" / "b")
    own = tmp_path / "sweep" / "a"
    for given in (own, Path("a")):
        assert run_folders.named_run(given, tmp_path, "sweep") == own
    assert run_folders.named_run(None, tmp_path, "sweep").name == "b"
    assert run_folders.named_run(Path("c"), tmp_path, "sweep") == Path("c")  # which its reader refuses


@pytest.mark.parametrize("fresh", [False, True])
def test_after_blocks_of_another_teacher_a_run_is_as_it_was_and_one_started_again_has_no_seal(tmp_path, fresh):
    with run_directory.opened(tmp_path, IDENTITY) as record:
        record.seal(["config.json"])
    before = {name: (tmp_path / name).read_bytes() for name in ("config.json", MANIFEST)}
    with (
        pytest.raises(run_directory.OtherBlocks),
        run_directory.opened(tmp_path, IDENTITY, fresh=fresh) as record,
    ):
        record.config_file.note("workers", 1)
        raise run_directory.OtherBlocks("of a sweep behind a table")
    assert (tmp_path / MANIFEST).exists() == (not fresh)
    assert fresh or {name: (tmp_path / name).read_bytes() for name in before} == before
