"""What a log says of long work: how far it is, and how long it will still take."""

import pytest

from kdjax import progress, scheduling


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
        shown.update(30, "T = 4")
        (task,) = shown._live.tasks
        assert (task.completed, task.total, task.fields["note"]) == (30, 100, "T = 4")
