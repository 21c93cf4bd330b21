"""What a log says of long work: how far it is, and how long it will still take."""

import pytest

from kdjax import progress


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
