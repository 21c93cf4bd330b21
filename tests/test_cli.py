"""Bad input: one message, exit code 2, nothing written. Help: quick and complete."""

import dataclasses
import re
import subprocess
import time
import typing

import numpy as np
import pytest
import tyro

from kdjax import cli, teachers
from kdjax.config import DataConfig, RunConfig, SweepConfig, TeacherConfig
from tests import commands


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder to work in, and to keep data in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("KDJAX_RAW_DIR", raising=False)
    monkeypatch.setenv("KDJAX_DATA_DIR", str(tmp_path / "work" / "data"))
    return tmp_path / "work"


def refused(alone, *arguments):
    """The message for a command line that is refused, as one line."""
    before = sorted(alone.parent.rglob("*"))
    code, said = commands.call(commands.sweep, SweepConfig, arguments)
    assert code == 2, said
    assert sorted(alone.parent.rglob("*")) == before
    assert "Traceback" not in said and len(re.findall("^error: |For full helptext", said, re.MULTILINE)) == 1, said
    return " ".join(said.replace("│", " ").split())


BUNDLED = ("--dataset", "mnist5k")
BAD = {
    "--temperatures -1": "--temperatures -1 is not allowed: a temperature is a number above 0, or inf",
    "--temperatures 0": "--temperatures 0 is not allowed",
    "--temperatures nan": "--temperatures nan is not allowed",
    "--temperatures -inf": "--temperatures -inf is not allowed",
    "--temperatures=-inf": "--temperatures -inf is not allowed",
    "--temperatures 1 1e400": "1e400 is too large for a floating-point number",
    "--temperatures=-1e400": "1e400 is too large for a floating-point number",
    "--temperatures warm": "['warm']",
    "--temperatures": "--temperatures is empty",
    "--temperatures 1 2 1.0": "--temperatures repeats 1",
    "--temperatures inf inf": "--temperatures repeats inf",
    "--soft-weights 1.5": "--soft-weights 1.5 is not allowed: it lies in (0, 1]",
    "--soft-weights nan": "--soft-weights nan is not allowed",
    "--learning-rates 0": "--learning-rates 0 is not allowed",
    "--learning-rates inf": "--learning-rates inf is not allowed",
    "--widths 0": "--widths 0 is not allowed: a layer has 1 unit or more",
    "--widths": "--widths is empty",
    "--epochs -1": "--epochs -1 is not allowed",
    "--epochs 0": "--epochs 0 is not allowed",
    "--batch-size 0": "--batch-size 0 is not allowed",
    "--block-size 0": "--block-size 0 is not allowed",
    "--seeds 0": "--seeds 0 is not allowed",
    "--seeds 1000000000": "--seeds 1000000000 is not allowed",
    "--checkpoint-seconds -1": "--checkpoint-seconds -1 is not allowed",
    "--checkpoint-seconds nan": "--checkpoint-seconds nan is not allowed",
    "--name ../x": "--name '../x' is not allowed",
    "--name sweeps": "--name 'sweeps' is not allowed",
    "--holdout -1": "--holdout -1 is not allowed",
    "--train-images 0": "--train-images 0 is not allowed",
    "--optimizer lion": "adam",
    "--no-soft-targets --objectives mse": "--no-soft-targets with --objectives, --double-softmax or",
    "--objectives soft": "--objectives soft is not allowed: it has an option of its own",
    "--objectives mze": "--objectives mze is unknown: there are",
    "--objectives dkd(gamma=1)": "--objectives dkd(gamma=1): dkd has no parameter gamma: it has alpha, beta",
    "--objectives nkd": "T = inf with the objective nkd is not allowed: there is no limit, because",
    "--dataset mnist5k --teacher.network mlpp": "--teacher.network mlpp is unknown: there are mlp, small, big; did",
    "--temperature 3": "--temperatures",  # the nearest option
    "--warmth 3": "Unrecognized options: --warmth",
    "--dataset minst": "--dataset minst is unknown: there are mnist, fashion_mnist, cifar10, mnist5k, auto; did",
    "--dataset mnist5k --raw-dir missing": "--raw-dir missing does not exist",
    "--dataset mnist5k --holdout 4000": "--holdout 4000 is not allowed: there are 4,000 training images",
    "--dataset mnist5k --train-images 4001": "--train-images 4001 is not allowed",
    "--dataset mnist5k --batch-size 4001": "--batch-size 4001 is more than the 4,000 training images",
    "--dataset mnist5k --teacher.batch-size 4001": "--teacher.batch-size 4001 is more than",
    "--dataset mnist5k --teacher.seed -1": "--teacher.seed -1 is not allowed",
    "--dataset mnist5k --teacher.learning-rate nan": "--teacher.learning-rate nan is not allowed",
    "--dataset mnist5k --teacher.epochs 0": "--teacher.epochs 0 is not allowed",
    "--dataset mnist5k --teacher-from .": ". is no teacher: name a folder that holds teacher.json",
    "--dataset mnist5k --teacher-from missing": "missing is no teacher",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_message(alone, line):
    assert BAD[line] in refused(alone, *line.split())


def test_an_empty_raw_folder(alone):
    (alone / "raw").mkdir()
    assert "--raw-dir raw is empty" in refused(alone, "--raw-dir", "raw")


def test_a_raw_folder_named_by_the_environment(alone, monkeypatch):
    monkeypatch.setenv("KDJAX_RAW_DIR", "/no/such\n/folder")
    assert "does not exist" in refused(alone)


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/runs"])
def test_an_output_folder_that_cannot_be_written(alone, out):
    (alone / "file").write_text("x")
    assert f"{out}" in (said := refused(alone, *BUNDLED, "--out", out)) and "cannot be written" in said


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    from kdjax import datasets

    digits = datasets.load(DataConfig(dataset="mnist5k", raw_dir=None, train_images=300))
    recipe = TeacherConfig(widths=(16, 12), epochs=1, batch_size=50).train_config(1)
    return teachers.find_or_train(recipe, 1e-3, 0, digits, tmp_path_factory.mktemp("runs"))


UNFIT = {
    "another shape": ({"input_shape": [32, 32, 3]}, "is a teacher for images of shape (32, 32, 3)"),
    "another class count": ({"num_classes": 7}, "is a teacher of 7 classes"),
    "full MNIST": ({"dataset": "mnist"}, "contains the test digits of mnist5k"),
    "another version": ({"config": {"hidden": [16, 12], "colour": "red"}}, "teacher of another version"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_teachers_that_do_not_fit(alone, teacher, case):
    change, expected = UNFIT[case]
    teachers.save(alone / "other", teacher.params, {**teacher.info, **change})
    assert expected in refused(alone, *BUNDLED, "--teacher-from", "other")


def test_a_damaged_teacher_that_was_named(alone, teacher):
    teachers.save(alone / "other", teacher.params, teacher.info)
    (alone / "other" / "teacher.json").write_text("{}")
    assert "other/teacher.json differs from what was written" in refused(alone, *BUNDLED, "--teacher-from", "other")


@dataclasses.dataclass(frozen=True)
class Nothing:
    """No options."""


@pytest.mark.parametrize(
    "error, code, expected",
    [
        (OSError(28, "No space left on device", "/x/y"), 2, "error: /x/y: No space left on device. What was written"),
        (OSError("odd"), 2, "error: odd"),
        (MemoryError("8 TiB"), 2, "error: not enough memory (8 TiB)"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_errors_of_the_system_are_one_line(error, code, expected):
    def fail(config):
        raise error

    found, said = commands.call(fail, Nothing, [], "prog")
    assert (found, said.count("\n")) == (code, 1 if expected else 0) and said.startswith(expected)


def test_errors_of_our_own_keep_their_traceback():
    def fail(config):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        commands.call(fail, Nothing, [], "prog")


def test_how_to_resume_is_the_same_command_without_fresh():
    def fail(config):
        raise OSError(28, "full")

    said = commands.call(fail, SweepConfig, ["--fresh", "--name", "two words"], "prog")[1]
    assert said.endswith("give the same command again: prog --name 'two words'\n")


def test_signal_handlers_are_as_they_were():
    import signal

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert commands.call(lambda config: None, Nothing, [], "prog") == (0, "")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_values_are_what_was_asked_for():
    config = cli.parse(SweepConfig, "prog", ["--temperatures", "0.5", "inf", "--seeds", "2", "--fresh"])
    assert config.temperatures == (0.5, np.inf) and config.seeds == 2 and config.run.fresh


def test_help_is_quick_and_explains_every_field():
    times = []
    for _ in range(2):  # the first may be slow from a cold disk
        begin = time.monotonic()
        asked = commands.start(["--help"], stdout=subprocess.PIPE, env={"COLUMNS": "400"})
        shown = asked.communicate()[0]
        assert asked.returncode == 0
        times.append(time.monotonic() - begin)
    assert min(times) < 2
    # One text an option: what stands between its name and the next one's.
    texts = re.split(r"^[│ ]+(?=-)", re.sub(r"^[│╰╭─ ]*$", "", shown, flags=re.MULTILINE), flags=re.MULTILINE)[2:]
    groups = (DataConfig, TeacherConfig, RunConfig)
    fields = [field for cls in (SweepConfig, *groups) for field in dataclasses.fields(cls)]
    hidden = [field for field in fields if tyro.conf.Suppress in typing.get_args(field.type)]
    assert len(texts) == len(fields) - len(groups) - len(hidden)  # a group's own field is no option
    for text in texts:
        assert len(re.findall(r"[a-z]{3,}", text)) >= 5 and "(default: " in text, f"not explained: {text}"
