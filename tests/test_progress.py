"""What a log says of long work: how far it is, and how long it will still take."""

import logging
import re
import subprocess
import sys

import pytest

from kdjax import progress, scheduling
from tests import commands, hurry, terminals


def test_the_time_left_is_told_from_the_speed_since_the_start_not_from_what_was_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress("students", 1000) as shown:
        for done in range(500, 701, 50):  # half of it was found, and compiling took 100 s
            now[0] += 20 if done > 500 else 100
            shown.update(done, "T = 4")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "students: 50 %; T = 4"
    assert lines[1] == "students: 55 %, 3 min 00 s left; T = 4"  # 450 left, 50 in 20 s
    assert lines[-1] == "students: 70 %, 2 min 00 s left; T = 4"


def test_a_log_gets_a_line_in_ten_seconds_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress("teacher", 100) as shown:
        for done in range(100):
            shown.update(done, "")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_program_may_silence_all_but_warnings(monkeypatch, capsys, caplog, is_terminal):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: is_terminal)
    caplog.set_level(logging.WARNING, "kdjax")
    with progress.Progress("students", 100) as shown:
        shown.update(50, "")
    progress.say("run directory: runs")
    progress.warn("of 100 labels 3 are wrong, 100 % sure")
    assert capsys.readouterr().err == "warning: of 100 labels 3 are wrong, 100 % sure\n"


def test_a_program_that_logs_hears_a_line_once():
    program = "import logging; logging.basicConfig(); from kdjax import progress; progress.warn('of few rows')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "warning: of few rows\n"


def test_durations_are_said_as_people_say_them() -> None:
    assert [progress.clock(seconds) for seconds in (45, 200, 7500)] == ["45 s", "3 min 20 s", "2 h 05 min"]


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_resumed_blocks_had_done_does_not_count_as_speed(clock, capsys):
    with progress.Progress("students", 2000) as shown:
        board = scheduling.Board(shown, 0)
        for step in (900, 910, 920, 930):  # two devices at a time, each resuming from 900 of 1,000
            for block in ("one", "two"):
                clock[0] += 5
                board.update(block, step, "")
    # The last line is of 35 s, with 1,850 done, 50 of them here.
    assert capsys.readouterr().err.splitlines()[-1] == "students: 92 %, 1 min 45 s left; "


def test_blocks_of_a_cluster_are_done_when_they_are_reported(clock, capsys):
    with progress.Progress("students", 1000) as shown:
        board = scheduling.Board(shown, 200)  # two of ten blocks were there
        for block in ("three", "four"):
            clock[0] += 3600
            board.update(block, 100, "", whole=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["students: 30 %, 7 h 00 min left; ", "students: 40 %, 6 h 00 min left; "]


def test_a_terminal_sees_what_is_done(clock, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.Progress("students", 100) as shown:
        shown.resumed(20)
        shown.update(30, "T = 4", "block 2 of 3")
        (task,) = shown._live.tasks
        assert (task.completed, task.total, task.fields["note"]) == (30, 100, "T = 4")
        assert task.description == "students, block 2 of 3"


LONG = "epoch 3, 2.13 to 4.56 % errors on training batches, 143 to 156 on monitored images, " + "and more of it " * 10
LIVE = f"""
import time
from kdjax import scheduling
from kdjax.progress import Progress
with Progress("students", 1000) as shown:
    board = scheduling.Board(shown, 200, 2, 10)
    for step in (10, 40, 70, 100):
        time.sleep(0.15)
        board.update("third", step, {LONG!r})
"""


@pytest.mark.parametrize("columns", [80, 200])
def test_a_live_line_loses_the_end_of_its_message_and_nothing_else(columns):
    lines = [line for line in terminals.screen(["-c", LIVE], columns) if "block 3 of 10" in line]
    assert lines and any(re.search(r"\d:\d\d:\d\d left", line) for line in lines)
    for line in lines:
        title, bar, left, note = re.fullmatch(r"(.*) ([━╺╸]+) ([-\d]+:[-\d]+:[-\d]+) left (.*)", line).groups()
        assert title == "students, block 3 of 10" and len(bar) == progress.BAR_WIDTH and len(line) == columns
        assert note.endswith("…") and LONG.startswith(note[:-1]) and len(note) == columns - len(title + bar + left) - 8


ADDRESS = """
from kdjax.progress import Progress
with Progress("downloading https://" + "x" * 90, 100) as shown:
    shown.update(9, "of 9.9 MB")
"""


def test_a_title_that_is_a_whole_address_leaves_room_for_bar_and_time():
    lines = [line for line in terminals.screen(["-c", ADDRESS], 80) if line]
    assert lines and all(re.search(f"… [━╺╸]{{{progress.BAR_WIDTH}}} -:--:-- left", line) for line in lines)


SWEEP = """
import sys
from analysis import terminal
from analysis.sweep import table
from kdjax import cli, sweeps
from kdjax.config import SweepConfig
cli.run(lambda config: terminal.show(table.write_summary(sweeps.run(sweeps.prepare(config)))), SweepConfig, "sweep")
"""


def test_a_sweep_on_a_terminal_of_80_columns(tmp_path):
    lines = terminals.screen(["-c", SWEEP, *commands.tiny(tmp_path)], 80, hurry.environment())
    live = [line for line in lines if " left" in line and "━" in line]
    assert any(re.search("teacher, epoch [1-8] of 8 ━", line) for line in live)
    assert any(re.search("students, block [12] of 2 ━", line) for line in live)
    assert max(map(len, live)) <= 80
    table = lines[lines.index(next(line for line in lines if line.startswith("Temperature sweep on "))) :]
    assert not [line for line in table if line.startswith(("|", "#"))]
    assert max(map(len, table)) <= 80 and any("hard" in line and "[" in line for line in table)


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (60_000, "60,000 epochs")]
)
def test_one_epoch_is_one_epoch(count, said):
    assert progress.count_of(count, "epoch") == said
