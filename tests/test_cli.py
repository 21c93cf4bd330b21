"""Bad input: one message, exit code 2, nothing written. Help: quick and complete."""

import contextlib
import dataclasses
import io
import itertools
import os
import re
import subprocess
import sys
import typing
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import tyro

from kdjax import cli, memory, options, teachers
from kdjax.config import DataConfig, RunConfig, SweepConfig, TeacherConfig
from kdjax.datasets import catalog
from tests import commands
from tests.commands import COMMANDS, config_class


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder to work in, and to keep data in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("KDJAX_RAW_DIR", raising=False)
    monkeypatch.setenv("KDJAX_DATA_DIR", str(tmp_path / "work" / "data"))
    monkeypatch.setattr(memory, "available", lambda: 64.0 * 2**30)
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
    "--soft-weights 1.0000001": "--soft-weights 1.0000001 is not allowed: it lies in (0, 1]",
    "--soft-weights nan": "--soft-weights nan is not allowed",
    "--soft-weights 1e-300": "--soft-weights 1e-300 is not allowed",
    "--learning-rates 1e300": "--learning-rates 1e+300 is not allowed",
    "--learning-rates 1e-300": "--learning-rates 1e-300 is not allowed",
    "--name=": "--name '' is not allowed: it is the name of one folder",
    "--name \x1b[2J": "--name '\\x1b[2J' is not allowed",
    "--name \udcff": "'\\udcff' is not valid UTF-8",
    f"--name {'é' * 101}": "up to 200 bytes",
    "--seeds 10000 --widths 10 20": "that is 160,000 runs, and one run directory holds up to 100,000",
    "--dataset mnist5k --devices 1 --widths 99999": "the students would need about 1,5",
    "--dataset mnist5k --teacher.widths 99999 99999": "the teacher would need about 1",
    "--dataset mnist5k --network small --batch-size 1": "batches of one image are not allowed for the small network",
    "--dataset mnist5k --jitter 28": "--jitter 28 is not allowed: images of 28 pixels a side are shifted by",
    "--dataset mnist5k --teacher.jitter 1099511627776": "--teacher.jitter 1099511627776 is not allowed",
    "--dataset mnist5k --teacher.hidden-dropout nan": "--teacher.hidden-dropout nan is not allowed",
    "--dataset mnist5k --teacher.hidden-dropout inf": "--teacher.hidden-dropout inf is not allowed",
    "--dataset mnist5k --teacher-from loop": "loop is no teacher",
    "--learning-rates 0": "--learning-rates 0 is not allowed",
    "--learning-rates inf": "--learning-rates inf is not allowed",
    "--widths 0": "--widths 0 is not allowed: a layer has 1 unit or more",
    "--widths": "--widths is empty",
    "--teacher-from": "--teacher-from is given without a value: give one or more after it, or leave it out",
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
    "--last-temperature 2": "--last-temperature needs --temperature-schedule linear or cosine",
    "--temperature-schedule linear": "--temperature-schedule linear with T = inf is not allowed",
    "--objectives matched(reference=4)": "--objectives matched(reference=4) is for --optimizer sgd",
    "--objectives kd dkd(beta=1|2) dkd(beta=2)": "--objectives names one twice",
    "--objectives soft": "--objectives soft is unknown: there are",
    "--objectives mze": "--objectives mze is unknown: there are",
    "--objectives dkd(gamma=1)": "--objectives dkd(gamma=1): dkd has no parameter gamma: it has alpha, beta",
    "--objectives nkd": "T = inf with the objective nkd is not allowed: there is no limit, because",
    "--dataset mnist5k --teacher.network mlpp": "--teacher.network mlpp is unknown: there are mlp, small, big, fast, "
    "small_after_norm, big_after_norm;",
    "--temperature 3": "--temperatures",  # the nearest option
    "--warmth 3": "Unrecognized options: --warmth",
    "--dataset mnist5k --teacher.network small --teacher.widths 64 --teacher.hidden-dropout 0.3": (
        "the small network has one hidden dense layer and its own dropout"
    ),
    "--dataset missing.csv": "missing.csv does not exist: give a file, .npz",
    "--dataset minst": "--dataset minst is unknown: there are mnist, fashion_mnist, cifar10, mnist5k, auto; did",
    "--dataset mnist5k --raw-dir missing": "--raw-dir missing does not exist",
    "--dataset mnist5k --holdout 4000": "--holdout 4000 is not allowed: there are 4,000 training images",
    "--dataset mnist5k --train-images 4001": "--train-images 4001 is not allowed",
    "--dataset mnist5k --batch-size 4001": "4001 is more than the 4,000 training examples: give at most 4000",
    "--dataset mnist5k --teacher.batch-size 4001": "--teacher.batch-size 4001 is more than",
    "--dataset mnist5k --teacher.seed -1": "--teacher.seed -1 is not allowed",
    "--dataset mnist5k --teacher.learning-rate nan": "--teacher.learning-rate nan is not allowed",
    "--dataset mnist5k --teacher.epochs 0": "--teacher.epochs 0 is not allowed",
    "--dataset mnist5k --teacher-from .": ". is no teacher: name a folder that holds teacher.json",
    "--dataset mnist5k --teacher-from missing": "missing is no teacher",
    "--dataset mnist5k --teacher-from none --teacher.epochs 5": "--teacher options are not allowed with --teacher-from",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_message(alone, line):
    (alone / "loop").symlink_to("loop")
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


def test_closed_streams_are_no_place_for_other_files(alone):
    # With number 2 free, the next file to be opened would get it, and with it what JAX says.
    script = """
import dataclasses, os, sys
from kdjax import cli

def main(config):
    sys.stderr.write("said")
    print(os.readlink("/proc/self/fd/0"), os.readlink("/proc/self/fd/2"))

cli.run(main, dataclasses.make_dataclass("Nothing", [], frozen=True), "prog", [])
"""
    started = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(commands.ROOT)},
        stdout=subprocess.PIPE,
    )
    assert (started.returncode, started.stdout) == (0, b"/dev/null /dev/null\n")


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


@pytest.mark.parametrize(("given", "value"), [([], None), (["--baselines"], True), (["--no-baselines"], False)])
def test_a_flag_may_be_left_open(given, value):
    assert cli.parse(SweepConfig, "sweep", [*given, "--seeds", "2"]).baselines is value


def test_the_last_of_two_lists_holds_which_is_said(capsys):
    arguments = ["--temperatures", "1", "--seeds", "2", "--seeds", "3", "--temperatures=4"]
    parsed = cli.parse(SweepConfig, commands.PROG, arguments)
    assert (parsed.temperatures, parsed.seeds) == ((4.0,), 3)
    said = (
        "warning: --temperatures is given more than once, and the last holds: give it once, with all values after it\n"
    )
    assert capsys.readouterr().err == said


def test_help_is_quick():
    begin = os.times()
    asked = commands.start(["--help"], stdout=subprocess.PIPE)
    assert "--temperatures" in asked.communicate()[0] and asked.returncode == 0
    end = os.times()  # processor time: others may use the machine
    assert end.children_user + end.children_system - begin.children_user - begin.children_system < 2


def help_of(module, *arguments):
    """What a command's `--help` prints."""
    found = config_class(module)
    presets = getattr(sys.modules[found.__module__], "PRESETS", None)
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with pytest.raises(SystemExit) as ending, contextlib.redirect_stdout(shown):
        cli.parse(found, f"python -m {module}", [*arguments, "--help"], presets)
    assert ending.value.code == 0
    shown.seek(0)
    return shown.read()


def texts_of(shown):
    """The words of each option, from its name to the next one's, by the name."""
    parts = re.split(r"^│ (?=-|\[)", re.sub(r"^[╭╰].*$", "", shown, flags=re.MULTILINE), flags=re.MULTILINE)[1:]
    plain = [" ".join(part.replace("│", " ").split()) for part in parts]
    return {part.split(" ")[0].rstrip(","): part for part in plain}


def asks(module):
    """Whether a command has to be told something, so that tyro's own help shows its options."""
    fields = dataclasses.fields(config_class(module))
    return any(field.default is field.default_factory is dataclasses.MISSING for field in fields)


@pytest.mark.parametrize("module", [module for module in COMMANDS if asks(module)])
def test_help_of_what_asks_for_something(module, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = help_of(module)
    assert [line for line in shown.splitlines() if len(line) > 80] == [] and "{None}" not in shown
    assert [text for text in texts_of(shown).values() if text.count("(default: ") > 1] == []


@pytest.mark.parametrize("module", [module for module in COMMANDS if not asks(module)])
def test_help_explains_every_option_with_one_default(module, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = help_of(module)
    lines = shown.splitlines()
    # tyro does not wrap the line of usage: a terminal does.
    assert [line for line in lines if len(line) > 80 and not line.startswith("usage:")] == [] and "{None}" not in shown
    texts = texts_of(shown)
    hints = [option.hint for option in options.options_of(config_class(module)())]
    hidden = [hint for hint in hints if tyro.conf.Suppress in typing.get_args(hint)]
    assert len(texts) == len(hints) - len(hidden) + 1 and texts.pop("-h")
    for text in texts.values():
        assert len(re.findall(r"[a-z]{3,}", text)) >= 5, f"not explained: {text}"
        assert text.count("(default: ") == 1, f"not one default: {text}"
    # A paragraph is broken where the next word would not fit, and nowhere else.
    inside = [line.strip("│").rstrip() for line in lines if line.startswith("│")]
    for line, following in itertools.pairwise(inside):
        indent = len(following) - len(following.lstrip())
        if indent > 4 and len(line) - len(line.lstrip()) == indent:
            assert len(line) + len(following.split()[0]) + 1 > 76, f"broken early: {line}"


def test_help_says_the_default_of_a_preset_and_not_what_is_refused(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    texts = texts_of(help_of("experiments.mnist_table"))
    assert texts["--teacher.epochs"].endswith("(default: 200)")  # the class's own is 30
    assert {"--columns", "--topk-rest", "--holdout"}.isdisjoint(texts)
    assert {"--columns", "--topk-rest", "--holdout"} <= texts_of(help_of("experiments.temperature_sweep")).keys()


@pytest.mark.parametrize("module", ["experiments.temperature_sweep", "experiments.omit_digit"])
def test_help_is_in_groups_the_most_used_first(module, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = help_of(module)
    groups = dict(re.findall(r"^╭─ (\w+) options ─+╮\n(.*?)^╰", shown, re.MULTILINE | re.DOTALL))
    assert list(groups) == ["data", "teacher", "student", "objective", "run"]
    first = ["--dataset", "--teacher-from", "--(widths|students)", "--temperatures", "--out"]
    for text, name in zip(groups.values(), first, strict=True):
        assert re.search(rf"^│ {name} ", text, re.MULTILINE).start() == min(
            found.start() for found in re.finditer(r"^│ --", text, re.MULTILINE)
        )
    assert "--teacher.epochs INT" in groups["teacher"] and "--learning-rate" in groups["student"]


def test_groups_name_each_field_once():
    for found in map(config_class, COMMANDS):
        named = [field for names in getattr(found, "GROUPS", {}).values() for field in names]
        assert len(named) == len(set(named)) and set(named) <= {field.name for field in dataclasses.fields(found)}
    named = [name for names in SweepConfig.GROUPS.values() for name in (*names, "")]
    left = {field.name for field in dataclasses.fields(SweepConfig)} - {*named, *SweepConfig.GROUPS}
    assert left == {"own_rates"}  # which is hidden


def test_help_shows_what_a_preset_changes(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for preset, epochs in (("cpu", 12), ("post", 300)):
        text = texts_of(help_of("experiments.cifar10_table", "--preset", preset))["--epochs"]
        assert text.endswith(f"(default: {epochs})")


def test_every_option_reaches_its_field():
    arguments = ["--widths", "5", "7", "--no-hard-labels", "--epochs", "3", "--teacher-from", "a", "b", "--holdout=9"]
    arguments += ["--name", "x", "--teacher.hidden-dropout", "0.25", "--teacher.epochs", "None"]
    config = cli.parse(SweepConfig, "prog", arguments)
    assert config == SweepConfig(
        widths=(5, 7),
        hard_labels=False,
        epochs=3,
        teacher_from=(Path("a"), Path("b")),
        data=DataConfig(holdout=9),
        run=RunConfig(name="x"),
        teacher=TeacherConfig(hidden_dropout=0.25),
    )


def test_preparing_says_what_it_downloads(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = " ".join(help_of("kdjax.datasets").partition("╭")[0].split())
    for spec in catalog.SPECS:
        (part,) = re.findall(rf"\b{spec.name}, \d+ MB, from [^;]*", said)
        assert all(urllib.parse.urlsplit(mirror).hostname in part for mirror in spec.mirrors)
    assert "under --data-dir" in said and "downloaded" in said


def test_a_shell_completes_options(tmp_path):
    # As docs/machines.md says: bash asks for what may follow "temperature_sweep --teacher.hid".
    printed = commands.start(["--tyro-print-completion", "bash"], stdout=subprocess.PIPE)
    (tmp_path / "completion").write_text(printed.communicate()[0])
    assert printed.returncode == 0
    ask = """source "$1"; complete -p temperature_sweep; COMP_WORDS=(temperature_sweep --teacher.hid); COMP_CWORD=1
    eval "$(complete -p temperature_sweep | sed 's/.*-F \\([^ ]*\\).*/\\1/')"; printf '%s\\n' "${COMPREPLY[@]}"
    """
    found = subprocess.run(["bash", "-c", ask, "bash", tmp_path / "completion"], capture_output=True, text=True)
    assert found.stderr == "" and found.stdout.splitlines()[1:] == ["--teacher.hidden-dropout"], found
