"""Real processes, killed at random moments: resuming gives the same results, to the bit.

Three kills run here; `KDJAX_KILLS=25 pytest tests/test_resume.py` does 25, each with an end of its own.
"""

import os
import random
import re
import shutil
import signal
import time

import pytest

from kdjax import teachers
from tests import commands, raw_files

pytestmark = pytest.mark.optimized

KILLS = int(os.environ.get("KDJAX_KILLS", "3"))
KILLS_A_RUN = 1 if "KDJAX_KILLS" in os.environ else 3
RUN = "runs/temperature_sweep/run"
MOMENTS = {  # and the files that show that it has come
    "preparing data": "data/.mnist.tmp-*",
    "saving the teacher's checkpoint": "runs/teachers/*.checkpoints/.*.tmp-*",
    "training, or saving a block's checkpoint": f"{RUN}/checkpoints/*/[0-9]*",
    "keeping the teacher": "runs/teachers/.*.tmp-*",
    "saving a block's checkpoint": f"{RUN}/checkpoints/*/.[0-9]*.tmp-*",
    "keeping a block": f"{RUN}/blocks/.*.tmp-*",
    "writing results": f"{RUN}/.results.csv.tmp-*",
    "drawing": f"{RUN}/figures/*",
    "any": "",
}
IN_CI = ("preparing data", "saving a block's checkpoint", "writing results")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return raw_files.write_digits(tmp_path_factory.mktemp("raw") / "mnist")


def more(raw):
    """As the MNIST table trains, in bfloat16 with an averaged teacher; `tests/test_omit_digit.py` kills in float32."""
    return ["--dataset", "mnist", "--raw-dir", str(raw), "--precision", "bfloat16", "--teacher.average", "0.9"]


def arguments(root, raw):
    return commands.tiny(root, *more(raw))


@pytest.fixture(scope="module")
def uninterrupted(raw, tmp_path_factory):
    """What a run that nobody disturbs finds, and the seconds that it takes."""
    root = tmp_path_factory.mktemp("uninterrupted")
    begin = time.monotonic()
    code, said = commands.finish(commands.start(arguments(root, raw)))
    assert code == 0, said
    assert not commands.leftovers(root)
    return commands.outcome(root), time.monotonic() - begin


def wait_for(root, pattern, process):
    """Until a file of that name is there, or the process has ended."""
    while process.poll() is None and not any(root.glob(pattern)):
        time.sleep(0.001)


def finished_blocks(root):
    return {path: path.stat().st_mtime_ns for path in root.glob(f"{RUN}/blocks/[!.]*/MANIFEST.json")}


def test_kills_at_random_moments(raw, uninterrupted, tmp_path):
    expected, seconds = uninterrupted
    moments = [IN_CI[i] if KILLS_A_RUN > 1 else list(MOMENTS)[i % len(MOMENTS)] for i in range(KILLS)]
    killed = []
    for first in range(0, KILLS, KILLS_A_RUN):
        root = tmp_path / f"run{first}"
        blocks: dict = {}
        for number, moment in list(enumerate(moments))[first : first + KILLS_A_RUN]:
            rng = random.Random(number)
            for _ in range(5):  # "writing results" is so short that it may be missed, but comes at every run
                process = commands.start(arguments(root, raw))
                if MOMENTS[moment]:
                    wait_for(root, MOMENTS[moment], process)
                    time.sleep(rng.uniform(0, 0.03))
                else:
                    time.sleep(rng.uniform(0, seconds))
                process.kill()
                code, said = commands.finish(process)
                assert code in (-signal.SIGKILL, 0), said
                if code:
                    killed.append(moment)
                    break
            assert blocks.items() <= finished_blocks(root).items()
            blocks = finished_blocks(root)
        code, said = commands.finish(commands.start(arguments(root, raw)))
        assert code == 0 and "Traceback" not in said, said
        assert commands.outcome(root) == expected, moments[first : first + KILLS_A_RUN]
        assert not commands.leftovers(root)
        assert blocks.items() <= finished_blocks(root).items(), "a finished block was trained again"
        shutil.rmtree(root)
    print(f"{len(killed)} kills: {', '.join(killed)}")
    assert len(killed) >= KILLS - max(1, KILLS // 5)  # a moment that comes once may have passed when it is looked for


@pytest.mark.parametrize("number, ending", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_sweep_and_a_second_process_beside_it(raw, uninterrupted, tmp_path, number, ending):
    process = commands.start(arguments(tmp_path, raw))
    wait_for(tmp_path, f"{RUN}/checkpoints/*/[0-9]*/MANIFEST.json", process)
    process.send_signal(signal.SIGSTOP)  # it must not end before the second process has looked
    try:
        code, said = commands.call_sweep(tmp_path, *more(raw))
    finally:
        process.send_signal(signal.SIGCONT)
    assert code == 2 and f"in use by process {process.pid}" in said and said.count("error: ") == 1
    begin = time.monotonic()
    process.send_signal(number)
    code, said = commands.finish(process)
    assert time.monotonic() - begin < 5
    assert code == ending and "Traceback" not in said, said
    assert "to resume, give the same command again: python -m experiments.temp" in said.splitlines()[-1]
    code, said = commands.call_sweep(tmp_path, *more(raw))
    assert code == 0 and "found" in said and ("resumes at step" in said or "blocks are finished already" in said), said
    assert commands.outcome(tmp_path) == uninterrupted[0] and not commands.leftovers(tmp_path)


def test_two_processes_that_want_the_same_teacher(tmp_path, monkeypatch):
    other = commands.start(commands.tiny(tmp_path, "--epochs", "1", "--name", "other"))
    wait_for(tmp_path, "runs/teachers/*.checkpoints/*", other)
    other.send_signal(signal.SIGSTOP)  # until the second is waiting for it

    def say(message, said=teachers.say):
        said(message)
        other.send_signal(signal.SIGCONT)

    monkeypatch.setattr(teachers, "say", say)
    try:
        code, said = commands.call_sweep(tmp_path, "--epochs", "1")
    finally:
        other.send_signal(signal.SIGCONT)
    assert code == 0, said
    assert re.search(r"waiting for a teacher that process \d+ on \S+ is training", said), said
    assert re.search(r"teacher \w+ found in", said), said
    assert commands.finish(other)[0] == 0
    results = [(tmp_path / "runs/temperature_sweep" / name / "results.csv").read_bytes() for name in ("run", "other")]
    assert results[0] == results[1]


@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0, 2.0])
def test_a_signal_while_starting(raw, tmp_path, seconds):
    process = commands.start(arguments(tmp_path, raw))
    time.sleep(seconds)
    ended = process.poll() is not None
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # impatient
    code, said = commands.finish(process)
    assert code == (0 if ended else 130) and "Traceback" not in said, said


@pytest.mark.parametrize("module", ["experiments.temperature_sweep", "analysis.plot_mnist_table", "kdjax.datasets"])
def test_a_signal_while_importing(tmp_path, module):
    # In place of what every command imports first: Ctrl-C comes at that moment.
    (tmp_path / "tyro.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    process = commands.start([], module, env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{commands.ROOT}"})
    assert commands.finish(process) == (130, "")


def test_a_command_of_somebody_else_keeps_its_ctrl_c(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import experiments, kdjax")
    asks = "import signal, sys\nsys.exit(signal.getsignal(signal.SIGINT) is signal.default_int_handler and 7)"
    (tmp_path / "mine" / "main.py").write_text(asks)
    process = commands.start(["x"], "mine.main", env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{commands.ROOT}"})
    assert commands.finish(process) == (7, "")


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    for more in ("--help", "--dry-run"):
        process = commands.start(commands.tiny(tmp_path, more), stdout=writer)
        code, said = commands.finish(process)
        assert code == 141 and "Traceback" not in said and "Exception" not in said, said
    os.close(writer)


def test_a_full_standard_output_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        code, said = commands.finish(commands.start(commands.tiny(tmp_path, "--dry-run"), stdout=full))
    assert code == 2 and said.splitlines()[-1].startswith("error: No space left on device"), said
    assert "Traceback" not in said and "Exception" not in said


def test_symbols_that_a_locale_lacks_do_not_end_a_run(tmp_path):
    environment = {"PYTHONIOENCODING": "ascii", "KDJAX_RAW_DIR": str(tmp_path / "nonsense-∞")}
    code, said = commands.finish(commands.start(commands.tiny(tmp_path), env=environment))
    assert code == 2 and said.count("\n") == 1 and said.startswith("error: --raw-dir "), said
