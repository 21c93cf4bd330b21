"""Random and hostile command lines of every experiment and analysis: exit code 0 or 2, never a traceback, nothing
written. What is tried follows from the fields of the configs: a new option is covered by itself.

Here in this process, without training: experiments stop at `--dry-run` (the tables at parsing), analyses find nothing
to read.
`KDJAX_FUZZ=300 pytest tests/test_fuzz.py` also starts so many real processes.
"""

import dataclasses
import functools
import os
import re
import shutil
import tempfile
import typing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments import omit_digit, temperature_sweep
from kdjax import datasets, forecast, sweeps
from kdjax.config import SweepConfig
from tests import commands
from tests.commands import COMMANDS, config_class

PROCESSES = int(os.environ.get("KDJAX_FUZZ", "0"))


# Other data might be downloaded; whether to train is not left to chance.
KEPT = ("--dataset", "--dry-run", "--out", "--data-dir")
assert {"experiments.temperature_sweep", "analysis.logit_matching", "kdjax.datasets"} < set(COMMANDS)


def dry_runs(module):
    """Can it be asked what it would do?"""
    return "run" in [field.name for field in dataclasses.fields(config_class(module))] and "experiments" in module


def options(cls, prefix=""):
    """The options of a config class and its groups, each with its default."""
    found = {}
    for field in dataclasses.fields(cls):
        name = field.name.replace("_", "-")
        inner = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(inner):
            found |= options(type(inner), "" if name in ("data", "run") else f"{name}.")
        elif f"--{name}" not in KEPT:
            found[f"--{prefix}{name}"] = field.default
    return found


REAL = [name for name in COMMANDS if name.startswith(("analysis.plot", "kdjax.")) or dry_runs(name)]
"""What ends soon as a real process: nothing is trained or measured."""

VALUES = st.one_of(
    st.integers(-3, 40).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.sampled_from(
        ["inf", "nan", "1e400", "-1e400", "", "None", "True", "warm", ".", "..", "/", "~", "adam", "0x10", "٣"]
    ),
    st.sampled_from(["/dev/null", "/proc/self/mem", "a/b", "x" * 300, "-", "--", "=", "{", "🜁", "1 2", "\n"]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
)


def sensible(name, default, factor):
    """An option as it is meant to be used: its default, or a multiple of it."""
    values = (
        default if isinstance(default, tuple) else () if default is None or isinstance(default, bool) else [default]
    )
    scaled = [value * factor if isinstance(value, (int, float)) else value for value in values]
    return [name, *map(str, scaled)] if values or isinstance(default, (tuple, bool)) else [name, "None"]


def lines(cls):
    """Strategy: options that exist, with values of any kind; now and then one misspelt, or something else."""
    named = options(cls)
    option = st.sampled_from(sorted(named))
    good = st.builds(
        lambda name, factor: sensible(name, named[name], factor), option, st.sampled_from([1, 2, 3, 10**7])
    )
    spelt = st.one_of(option, option, option, option.map(lambda name: name[:-1]), option.map(lambda name: name + "=1"))
    part = st.tuples(spelt, st.lists(VALUES, max_size=3)).map(lambda pair: [pair[0], *pair[1]])
    return st.lists(st.one_of(good, good, good, part, VALUES.map(lambda value: [value])), max_size=4).map(
        lambda parts: [word for part in parts for word in part if not harmful(word)]
    )


def harmful(word):
    """Would take another dataset or train: also as an abbreviation of an option, should there be such."""
    return bool(re.match(r"--?(d|no-dr|o)", word))


def check(code, said, arguments, *folders):
    assert code in (0, 2), (arguments, code, said)
    assert "Traceback" not in said and "Error:" not in said, (arguments, said)
    assert bool(code) == bool(re.findall("^error: |For full helptext|usage:", said, re.MULTILINE)), (arguments, said)
    for folder in folders:
        assert not list(folder.iterdir()), (arguments, list(folder.iterdir()))


@pytest.fixture
def empty(monkeypatch):
    """An empty working folder."""
    folder = Path(tempfile.mkdtemp())
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KDJAX_DATA_DIR", str(folder / "data"))
    monkeypatch.delenv("KDJAX_RAW_DIR", raising=False)
    yield folder
    shutil.rmtree(folder)


QUICK = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("module", COMMANDS)
def test_parsing(module, empty):
    cls = config_class(module)

    @QUICK
    @given(lines(cls))
    def test(arguments):
        check(*commands.call(lambda config: None, cls, arguments, f"python -m {module}"), arguments, empty)

    test()


def test_the_temperature_sweep_up_to_its_training(empty):
    def dry(config):
        print(forecast.of_sweep(sweeps.prepare(config)).text)

    @QUICK
    @given(lines(SweepConfig))
    def test(arguments):
        check(*commands.call(dry, SweepConfig, ["--dataset", "mnist5k", *arguments]), arguments, empty)

    test()


HOSTILE = {
    float: ["nan", "inf", "-inf", "-0.0", "1e300", "1e-300", "1e400"],
    int: ["-1", "0", str(2**31), str(2**40), str(2**63), "1" + 30 * "0"],
    str: ["", " ", "\udcff", "a\nb", "\x1b[2J", "x" * 300, "../x"],
    Path: ["", "\udcff", "loop", "pipe", "file", "/dev/zero", "x" * 5000],
}
"""By type: what is no number, or too large or small for any array; what is no text; what is no folder."""
ENVIRONMENTS = [
    *({}, {}, {"JAX_PLATFORMS": "nonsense"}, {"JAX_ENABLE_X64": "perhaps"}, {"JAX_LOG_COMPILES": "perhaps"}),
    *({"XLA_FLAGS": "--nonsense"}, {"XLA_FLAGS": "nonsense"}, {"KDJAX_RAW_DIR": "/dev/null"}),
    *({"KDJAX_RAW_DIR": "\udcff"}, {"KDJAX_DATA_DIR": "\udcff"}, {"COLUMNS": "-1"}, {"LANG": "nonsense"}),
]
"""Variables of processes, of which most cannot be what they should."""
PREPARED = {"experiments.temperature_sweep": temperature_sweep.main, "experiments.omit_digit": omit_digit.main}
"""The commands of which everything up to the training is tried, not only the parsing."""


def hostile(cls, prefix=""):
    """Every option of a config class and its groups with each hostile value of its type."""
    types = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = field.name.replace("_", "-")
        inner = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(inner):
            yield from hostile(type(inner), "" if name in ("data", "run") else f"{name}.")
        elif f"--{name}" not in KEPT:
            kinds = kinds_of(types[field.name])
            for command in filter(dataclasses.is_dataclass, kinds):
                name_of = command.__name__.removesuffix("Config").lower()
                yield from ([name_of, *arguments] for arguments in hostile(command))
            yield from ([f"--{prefix}{name}={value}"] for kind in kinds for value in HOSTILE.get(kind, ()))


def kinds_of(hint):
    """The plain types in an annotation."""
    inner = [kind for part in typing.get_args(hint) for kind in kinds_of(part)]
    return {hint} if isinstance(hint, type) and not inner else set(inner)


@pytest.mark.parametrize("module", COMMANDS)
def test_hostile_values_of_every_option(module, empty, monkeypatch):
    cls, dry = config_class(module), ["--dataset", "mnist5k", "--dry-run"] * (module in PREPARED)
    os.symlink("loop", empty / "loop")
    os.mkfifo(empty / "pipe")
    (empty / "file").touch()
    there = sorted(empty.iterdir())
    monkeypatch.setattr(datasets, "load", functools.cache(datasets.load))
    monkeypatch.setattr(forecast, "product_rate", lambda precision: 1e11)
    tried = list(hostile(cls))[:: 3 if module == "experiments.mnist_table" else 1]  # whose config is slow to make
    assert len(tried) > 4
    for arguments in tried:
        main = PREPARED.get(module, lambda config: None)
        check(*commands.call(main, cls, [*dry, *arguments], f"python -m {module}"), arguments)
        assert sorted(empty.iterdir()) == there, arguments


@pytest.mark.skipif(not PROCESSES, reason="by hand: KDJAX_FUZZ=300")
@pytest.mark.parametrize("module", REAL)
def test_processes(module, empty):
    cls = config_class(module)
    bundled = ["--dataset", "mnist5k"] * (module == "kdjax.datasets" or dry_runs(module))
    fixed = [*bundled, *["--dry-run"] * dry_runs(module)]

    @settings(QUICK, max_examples=-(-PROCESSES // len(REAL)))
    @given(lines(cls) | st.sampled_from(list(hostile(cls)) or [[]]), st.sampled_from(ENVIRONMENTS))
    def test(arguments, variables):
        environment = {"KDJAX_DATA_DIR": str(empty / "data"), **variables}
        process = commands.start([*fixed, *arguments], module, cwd=empty, env=environment)
        check(*commands.finish(process), (arguments, variables), empty)

    test()
