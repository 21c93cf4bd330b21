"""Runs at hand: a sweep that is stopped has results, is listed, and is resumed by its name; names; all in one table."""

import datetime
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text

from analysis.sweep import figures
from analysis.sweep.run import load
from kdjax import __main__ as kdjax_command
from kdjax import interim, listing, provenance, run_directory, run_folders, trained
from kdjax.errors import BadInput
from kdjax.files import MANIFEST, read_json
from kdjax.identity import digest
from kdjax.interim import Interim, Seldom
from tests import commands, hurry
from tests.test_run_directory import IDENTITY, ROW, filled, finish

pytestmark = pytest.mark.optimized

DATA = {"name": "mnist5k", "description": "digits", "class_names": []}
OURS = {**IDENTITY, "experiment": "temperature_sweep", "data": DATA}


def start(root, *more):
    """A sweep of twelve blocks, given in `root` with relative paths."""
    few = ("--seeds", "12", "--epochs", "4", "--teacher.epochs", "2", "--checkpoint-seconds", "30")
    arguments = commands.tiny(Path(), *few, *more)
    return commands.start(arguments, cwd=root, env=hurry.environment())


def call(*arguments):
    return commands.call(kdjax_command.main, kdjax_command.KdjaxConfig, [*map(str, arguments)], kdjax_command.PROG)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The root of a sweep that was ended by Ctrl-C once two blocks were in its results."""
    root = tmp_path_factory.mktemp("stopped")
    folder = commands.run_directory(root)
    process = start(root, "--fresh")
    while process.poll() is None and not (folder.exists() and progress_of(folder) >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, said = commands.finish(process)
    assert code == 130, said
    return root


def progress_of(folder):
    path = folder / "config.json"
    return read_json(path).get("progress", {"done": 0})["done"] if path.exists() else 0


@pytest.fixture(scope="module")
def resumed(stopped, tmp_path_factory):
    """The root of a copy that was resumed by name from another folder, and what that said."""
    root, elsewhere = tmp_path_factory.mktemp("resumed"), tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(stopped, root, dirs_exist_ok=True)
    path = commands.run_directory(root) / "config.json"
    config = read_json(path)  # as though it had been started where it is now
    path.write_text(json.dumps({**config, "command": {**config["command"], "folder": str(root)}}))
    arguments = ["resume", "run", "--out", os.path.relpath(root / "runs", elsewhere)]
    code, said = commands.finish(commands.start(arguments, "kdjax", cwd=elsewhere, env=hurry.environment()))
    assert code == 0, said
    assert not list(elsewhere.iterdir())
    return root, said


def test_a_run_under_way_has_results_of_whole_blocks_and_says_of_how_many(stopped, resumed):
    folder, whole = commands.run_directory(stopped), commands.run_directory(resumed[0])
    done = progress_of(folder)
    rows, expected = run_directory.read_results(folder), run_directory.read_results(whole)
    assert 2 <= done < 12 and not (folder / MANIFEST).exists()
    # A block is a seed; one more may have been written just before the end.
    assert len(rows) in (4 * done, 4 * done + 4) and set(rows.groupby("seed").size()) == {4}
    same = expected[expected["seed"].isin(rows["seed"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, same)
    assert re.match(r"# Temperature sweep on .*, \d+ of 12 blocks\n", (folder / "summary.md").read_text())
    titles = [text.get_text() for text in figures.draw_errors(load(folder)).findobj(Text)]
    assert any(f"{done} of 12 blocks" in title for title in titles)
    assert "blocks" not in load(whole).where + (whole / "summary.md").read_text().splitlines()[0]


def test_a_stopped_run_is_listed_with_the_command_that_resumes_it(stopped):
    listed = commands.start(["runs", "--json", "--out", "runs"], "kdjax", cwd=stopped, stdout=subprocess.PIPE)
    run, teacher = json.loads(listed.communicate()[0])
    assert run["name"] == "run" and run["total"] == 12 and 2 <= run["done"] < 12 and run["finished"] is None
    assert run["temperatures"] == [1, 4, "inf"] and run["dataset"] == "mnist5k" and run["seconds"] > 0
    assert run["resume"] == "python -m kdjax resume temperature_sweep/run --out runs"
    assert 0 < time.time() - datetime.datetime.fromisoformat(run["started"]).timestamp() < 3600
    assert teacher["experiment"] == "teachers" and teacher["size"] > 1000 and teacher["resume"] is None


def test_a_resumed_run_keeps_what_was_finished(stopped, resumed):
    root, said = resumed
    folder = commands.run_directory(root)
    assert f"in {root}: python -m experiments.temperature_sweep" in said and "--fresh" not in said
    assert "of 12 blocks are finished already" in said
    before, after = (
        {path.name: path.stat().st_mtime for path in commands.run_directory(one).glob("blocks/w*")}
        for one in (stopped, root)
    )
    assert 2 <= len(before) < len(after) == 12
    assert all(after[name] == pytest.approx(before[name], abs=1e-5) for name in before)
    run = listing.find(root / "runs")[0]
    assert run.finished and run.resume is None and run.done == run.total == 12
    assert len(run_directory.read_results(folder)) == 48


def test_columns_in_a_pipe_and_no_such_run(resumed):
    out = resumed[0] / "runs"
    listed = commands.start(["runs", "--out", str(out)], "kdjax", stdout=subprocess.PIPE)
    header, run, teacher = listed.communicate()[0].splitlines()
    assert header.split() == ["name", "experiment", "data", "T", "done", "started", "(UTC)", "trained", "size"]
    assert run.split()[:7] == ["run", "temperature_sweep", "mnist5k", "1-inf", "12", "of", "12"]
    assert teacher.split()[1:3] == ["teachers", "mnist5k"]
    code, said = call("resume", "rum", "--out", out)
    assert (code, said) == (2, f"error: {out} holds no run called rum: did you mean run?\n")
    assert call("runs", "--out", out / "none")[0] == 2


@pytest.fixture
def out(tmp_path):
    for experiment in ("temperature_sweep", "omit_digit"):
        record = run_directory.RunDirectory(tmp_path / experiment / "run")
        record.open({**OURS, "experiment": experiment})
        finish(record, "one", {**ROW, "temperature": math.inf, "teacher": "0123"})
        record.write_tables()
    return tmp_path


def test_a_name_that_several_runs_have_is_given_with_its_experiment(out, monkeypatch):
    with pytest.raises(BadInput, match="several runs called run: give one of omit_digit/run, temperature_sweep/run"):
        listing.folder_of(out, "run")
    assert listing.folder_of(out, "omit_digit/run") == out / "omit_digit" / "run"
    path = out / "omit_digit" / "run"
    assert listing.folder_of(Path("elsewhere"), str(path)) == path  # as a run prints it
    monkeypatch.chdir(path.parent)
    assert listing.folder_of(out, "omit_digit/run") == listing.folder_of(Path("elsewhere"), "run") == path
    (out / "models" / "run").mkdir(parents=True)
    (out / "models" / "run" / "config.json").write_text('{"hidden_size": 8}')  # of another program
    with pytest.raises(BadInput, match="give one of omit_digit/run, temperature_sweep/run"):
        listing.folder_of(out, "run")


@pytest.mark.parametrize(
    ("command", "refused"),
    [
        (None, "does not tell the command"),
        ({"module": "experiments.temperature_sweep"}, "does not tell the command"),
        ({"module": "timeit", "arguments": ["import os"], "folder": "/"}, "by timeit, which is no command of kdjax"),
        ({"module": "experiments.x", "arguments": [], "folder": "/gone"}, "/gone, where .* is gone"),
    ],
)
def test_what_is_no_command_of_ours_is_not_executed(out, command, refused):
    path = out / "omit_digit" / "run" / "config.json"
    path.write_text(json.dumps({**read_json(path), "command": command}))
    with pytest.raises(BadInput, match=refused):
        listing.command_of(path.parent)


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["--dataset", "mnist5k"]),
        (["--dataset", "auto"], ["--dataset", "mnist5k"]),
        (["--dataset", "mnist5k"], []),
        (["--dataset=mine.npz"], []),
    ],
)
def test_a_run_on_what_auto_stood_for_is_resumed_on_that(out, given, added):
    path = out / "omit_digit" / "run" / "config.json"
    command = {"module": "experiments.omit_digit", "arguments": given, "folder": str(out)}
    path.write_text(json.dumps({**read_json(path), "command": command}))
    (*_, name), _ = listing.command_of(path.parent)
    assert name == "run" and listing.command_of(path.parent)[0][3:-4] == given + added


def test_a_run_that_was_moved_where_its_command_would_not_find_it_is_refused(out):
    command = {"module": "experiments.omit_digit", "arguments": [], "folder": str(out)}
    (out / "old").mkdir()
    (out / "omit_digit" / "run").rename(out / "old" / "run")
    path = out / "old" / "run" / "config.json"
    path.write_text(json.dumps({**read_json(path), "command": command}))
    with pytest.raises(BadInput, match="is in no folder called omit_digit, where its command would look for it"):
        listing.command_of(path.parent)


def test_what_is_half_written_is_not_listed(out):
    (out / "teachers" / ".abc.tmp-1").mkdir(parents=True)
    (out / "teachers" / ".abc.tmp-1" / "teacher.json").write_text("{}")
    (out / "omit_digit" / "run").rename(out / "omit_digit" / ".run.tmp-1")
    assert [entry.experiment for entry in listing.find(out)] == ["temperature_sweep"]


def test_a_record_that_cannot_be_read_is_left_out(out, capfd):
    (out / "omit_digit" / "run" / "config.json").write_text("{")
    (out / "omit_digit" / "odd").mkdir()
    (out / "omit_digit" / "odd" / "config.json").write_text("[1]")
    (out / "omit_digit" / "deep").mkdir()
    (out / "omit_digit" / "deep" / "config.json").write_text("[" * 100_000)
    assert [entry.experiment for entry in listing.find(out)] == ["temperature_sweep"]
    assert capfd.readouterr().err.count("is left out") == 3


def test_the_commit_is_that_of_kdjax_and_of_no_project_that_it_is_installed_in(tmp_path, monkeypatch):
    who = ["-c", "user.name=a", "-c", "user.email=b"]
    for arguments in (["init", "-q"], [*who, "commit", "-qm", "c", "--allow-empty"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    for tracked in (False, True):
        (tmp_path / "provenance.py").touch()
        if tracked:
            subprocess.run(["git", "add", "provenance.py"], cwd=tmp_path, check=True)
        with monkeypatch.context() as patch:
            patch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
            patch.setenv("GIT_DIR", str(tmp_path))  # as in a hook of another repository
            assert (provenance.provenance()["git_commit"] is not None) == tracked


def test_dates_and_progress(tmp_path):
    record = filled(tmp_path)
    first = read_json(tmp_path / "config.json")
    assert first["started"] <= first["finished"] and first["started"].endswith("+00:00")
    assert first["command"]["folder"] == os.getcwd()
    (tmp_path / "config.json").write_text(json.dumps({**first, "started": "before", "finished": "then"}))
    again = run_directory.RunDirectory(tmp_path)
    again.open(IDENTITY)
    assert again.finished("one") is not None
    again.write_tables()  # nothing was trained: it is as old as it was
    config = read_json(tmp_path / "config.json")
    assert (config["started"], config["finished"]) == ("before", "then")
    record.config_file.note_progress(1, 3)
    record.config_file.note_progress()
    assert run_directory.progress(tmp_path) == "1 of 3 blocks"
    finish(record, "two", {**ROW, "seed": 1})
    record.write_tables()
    assert run_directory.progress(tmp_path) == "" and read_json(tmp_path / "config.json")["finished"] != "then"


def test_a_sweep_whose_rates_were_widened_is_not_called_whole_when_it_is_resumed(tmp_path):
    filled(tmp_path)
    for done, total in ((None, 18), (None, 24), (20, None), (None, 18)):
        record = run_directory.RunDirectory(tmp_path)
        record.open(IDENTITY)
        record.config_file.note_progress(done, total)
    assert run_directory.progress(tmp_path) == "20 of 24 blocks"


def test_a_name_says_what_a_run_is_of_and_one_of_before_is_kept(tmp_path):
    name = run_folders.run_folder(tmp_path, None, IDENTITY, ["my data/set", "300", "T1-inf"])
    assert name == tmp_path / f"my_data_set-300-T1-inf-{digest(IDENTITY)[:6]}"
    assert run_folders.run_folder(tmp_path, "mine", IDENTITY, []) == tmp_path / "mine"
    assert [run_folders.span(values, "T") for values in ([4.0], [8, 1.5, math.inf])] == ["T4", "T1.5-inf"]


def test_work_that_is_seldom_takes_a_twentieth_of_the_time(monkeypatch):
    now, done = [0.0], []

    def work():
        done.append(now[0])
        now[0] += 1.0

    monkeypatch.setattr(interim.time, "monotonic", lambda: now[0])
    seldom = Seldom(work)
    for _ in range(400):
        seldom()
        now[0] += 0.25
    assert done == [0.0, 21.0, 42.0, 63.0, 84.0]


def test_a_summary_that_fails_does_not_end_the_run(tmp_path, capfd):
    record = run_directory.RunDirectory(tmp_path)
    record.open(IDENTITY)

    def fail(folder):
        raise ZeroDivisionError

    record.after_block = Interim(record, record.gather, fail)
    finish(record, "one", ROW)
    assert "summary.md waits for more of the run" in capfd.readouterr().err
    assert len(run_directory.read_results(tmp_path)) == 1


def test_all_runs_of_some_folders_are_one_table(out):
    table = out / "mnist_table" / "table"
    record = run_directory.RunDirectory(table)
    record.open({**OURS, "experiment": "mnist_table"})
    shutil.copytree(out / "temperature_sweep" / "run", table.parent / "sweeps" / "a")
    filled(table.parent / "sweeps" / "unread")
    record.config_file.note_sweeps(["a", "a"], 3)
    record.seal(["config.json"])
    assert trained.results(table)["run"].tolist() == ["a"]
    with pytest.raises(BadInput, match="is a table of 1 sweeps, which hold its students: name one, as"):
        trained.find(table)
    own = out / "temperature_sweep" / "run"
    both = trained.results(str(own), own, table)  # a run that is named twice is read once
    assert both["run"].tolist() == ["run", "a"] and set(both["dataset"]) == {"mnist5k"}
    assert both["temperature"].tolist() == [math.inf] * 2 and both["teacher"].tolist() == ["0123"] * 2
    shutil.rmtree(table.parent / "sweeps" / "unread")
    assert sorted(trained.results(out)["experiment"]) == ["omit_digit", "temperature_sweep", "temperature_sweep"]
    assert listing.find(out)[0].done == 3 and [entry.name for entry in listing.find(out)] == ["table", "run", "run"]
    assert run_folders.latest_run(out, "temperature_sweep") == own
    for wrong, reason in (("teachers", "is no folder"), (".", "holds no results.csv")):
        (out / "empty").mkdir(exist_ok=True)
        with pytest.raises(BadInput, match=reason):
            trained.results(out / "empty" / wrong)
