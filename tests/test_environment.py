"""Environments that JAX would answer with a traceback, an abort or other numbers: one line, or no difference."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from kdjax import blocks, compilation, config, environment, sweeps
from kdjax.errors import BadInput
from tests import commands, hurry, small_sweep

NOBODY = 54321
"""A user id without a name."""


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"JAX_PLATFORMS": "nonsense"}, "error: JAX does not start with JAX_PLATFORMS=nonsense"),
        ({"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "soon"}, "SECS=soon is no number of seconds"),
        ({"JAX_LOG_COMPILES": "perhaps"}, "JAX_LOG_COMPILES=perhaps"),
        ({"XLA_FLAGS": "--xla_no_such_flag=1"}, "XLA_FLAGS=--xla_no_such_flag=1 (Unknown flag"),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_cpu_enable_fast_math=x"}, "Couldn't interpret"),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=1000000000"}, "1 to 1,000 devices"),
    ],
)
def test_what_jax_would_not_start_with_is_one_line(tmp_path, variables, expected):
    started = commands.start(["--dataset", "mnist5k"], "kdjax.datasets", cwd=tmp_path, env=variables)
    code, said = commands.finish(started)
    assert code == 2 and said.count("\n") == 1 and said.startswith("error: ") and expected in said, said
    assert not list(tmp_path.iterdir())


def test_blank_flags_are_none(tmp_path):
    asked = ["--dataset", "mnist5k", "--out", str(tmp_path), "--dry-run"]
    started = commands.start(asked, "experiments.temperature_sweep", env={"XLA_FLAGS": "  "})
    code, said = commands.finish(started)
    assert code == 0 and "Traceback" not in said, said


def test_flags_in_a_file_without_an_end(monkeypatch):
    monkeypatch.setattr(environment, "SECONDS", 0.5)
    monkeypatch.setenv("XLA_FLAGS", "/dev/zero")
    with pytest.raises(BadInput, match="too long"):
        environment.prepare()


def test_flags_are_not_refused_because_the_machine_is_slow(monkeypatch):
    monkeypatch.setattr(environment, "SECONDS", 0.001)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_thunk_runtime=true")
    environment.prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_user_without_a_home_and_without_a_name(tmp_path):
    left = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "USER")}
    # The real user alone, about whom Python asks: another effective one could not read this Python.
    become = f"import os, sys; os.setreuid({NOBODY}, 0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    asked = ["-m", "experiments.temperature_sweep", "--dataset", "mnist5k", "--dry-run"]
    options = {"env": left | {"PYTHONPATH": str(commands.ROOT)}, "cwd": tmp_path, "capture_output": True, "text": True}
    ran = subprocess.run([sys.executable, "-c", become, *asked], **options)
    assert ran.returncode == 0 and "would train a teacher" in ran.stdout, ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_cache_of_a_user_without_a_home_lies_in_the_working_folder(tmp_path, monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    assert config.cache_folder() == tmp_path / ".cache" / "kdjax"


OTHERS = {"jax_enable_x64": True, "jax_threefry_partitionable": False, "jax_default_prng_impl": "rbg"}
OTHERS |= {"jax_random_seed_offset": 7, "jax_default_matmul_precision": "highest"}
USUAL = {"jax_enable_x64": False, "jax_threefry_partitionable": True, "jax_default_prng_impl": "threefry2x32"}
USUAL |= {"jax_random_seed_offset": 0, "jax_default_matmul_precision": None}


@pytest.fixture
def other_numerics():
    """JAX as a user may have set it for code of their own."""
    for name, value in OTHERS.items():
        jax.config.update(name, value)
    yield
    for name, value in USUAL.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The bits of a tiny sweep in this process."""
    root = tmp_path_factory.mktemp("undisturbed")
    assert commands.call_sweep(root)[0] == 0
    return commands.outcome(root)


def test_the_options_make_a_difference_elsewhere(other_numerics):
    assert jax.numpy.ones(1).dtype == "float64" and str(jax.random.key_impl(jax.random.key(0))) == "rbg"
    with compilation.fixed_numerics():
        assert jax.numpy.ones(1).dtype == "float32" and "fry" in str(jax.random.key_impl(jax.random.key(0)))
        assert jax.config.jax_default_matmul_precision is None
        assert jax.random.key_data(jax.random.key(3)).tolist() == [0, 10]
        assert jax.random.key_data(compilation.key(3)).tolist() == [0, 3]


def test_the_library_computes_the_same_bits_whatever_jax_is_set_to(tmp_path, undisturbed, other_numerics):
    assert commands.call_sweep(tmp_path)[0] == 0
    assert commands.outcome(tmp_path) == undisturbed


def test_a_convolutional_network_too(tmp_path, other_numerics):
    asked = small_sweep.config(tmp_path, network="small", widths=(24,), temperatures=(4.0,), seeds=1)
    (block,) = sweeps.prepare(asked).blocks  # which traces it, as the forecast does

    def start():
        program = blocks.program_for.__wrapped__(block.config, (28, 28, 1), 10, 300, 1)
        state = program.init(0)
        leaves = jax.tree.leaves((state.params, program.logits(state, jax.numpy.full((1, 28, 28, 1), 200, np.uint8))))
        return [np.asarray(leaf).tobytes() for leaf in leaves]

    with_others = start()
    for name, value in USUAL.items():
        jax.config.update(name, value)
    assert start() == with_others


def test_a_command_computes_the_same_bits_whatever_the_environment_says(tmp_path, undisturbed):
    variables = {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg", **hurry.environment()}
    code, said = commands.finish(commands.start(commands.tiny(tmp_path), env=variables))
    assert code == 0 and "warning: JAX_ENABLE_X64=1 has no effect here" in said, said
    assert commands.outcome(tmp_path) == undisturbed


@pytest.mark.parametrize("table", ["cifar10_table", "mnist_table"])
def test_a_table_reads_its_options_before_jax_is_imported(table):
    options = ["--tuning-rates", "0.1"]
    reads = f"from experiments import {table} as t; from kdjax import cli; cli.parse(t.TableConfig, t.PROG, {options})"
    code = f"import sys; {reads}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=commands.ROOT).returncode == 0
