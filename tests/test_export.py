"""A trained student is taken away whole, with the same logits in NumPy and PyTorch; what cannot be, is refused."""

import itertools
import json
import math
import subprocess
import sys

import jax
import numpy as np
import pytest

from kdjax import checkpoints, datasets, export, exported, models, run_directory, trained
from kdjax.config import DataConfig, SweepConfig
from kdjax.datasets import Standardisation
from kdjax.errors import BadInput
from kdjax.export import ExportConfig
from kdjax.files import read_json, whole_folder, write_arrays, write_json
from tests import commands

PROG = "python -m kdjax.export"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of 2 widths × 2 seeds × (hard labels, kd at T = 4 and ∞)."""
    root = tmp_path_factory.mktemp("export")
    options = ("--temperatures", "4", "inf", "--widths", "16", "20", "--epochs", "1", "--teacher.epochs", "1")
    code, said = commands.call_sweep(root, *options)
    assert code == 0, said
    return commands.run_directory(root)


@pytest.fixture(scope="module")
def images():
    return datasets.load(DataConfig(dataset="mnist5k", raw_dir=None)).test.images


@pytest.fixture
def alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def called(*arguments):
    return commands.call(export.main, ExportConfig, list(map(str, arguments)), PROG)


def refused(*arguments):
    """The one line with which an export is refused."""
    code, said = called(*arguments)
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1, said
    return said.removeprefix("error: ").strip()


def made(folder, network="mlp", input_shape=(5,), width=7, standardisation=None, **row):
    """A run directory with one student, of random parameters, as kdjax writes it; the student."""
    row = {"width": width, "teacher": "0" * 12, "seed": 0, "objective": "kd", "temperature": 4.0, "soft_weight": 1.0,
           "learning_rate": 0.001, "test_errors": 3, "failed_at": -1, **row}  # fmt: skip
    data = {"input_shape": input_shape, "num_classes": 3, "class_names": ["a", "b", "c"], "description": "made"}
    folder.mkdir()
    if standardisation is not None:
        write_arrays(folder / run_directory.FEATURES, **standardisation)
        data["standardisation"] = Standardisation(**standardisation).fingerprint
    write_json(folder / "config.json", {"identity": {"config": {"network": network}, "data": data}})
    model = models.network(SweepConfig(network=network).student(width, 1), input_shape, 3)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.float32(random.normal(size=leaf.shape)), models.variable_shapes(model, 1))
    with whole_folder(folder / "blocks" / "b") as block:
        write_json(block / "rows.json", {"schema": {}, "rows": [row]})
        checkpoints.save(block / "parameters", variables)
    return trained.find(folder)[0]


def multiplied(arrays, inputs):
    """A multi-layer perceptron as kdjax.exported says that its arrays are to be used."""
    units = inputs.reshape(len(inputs), -1).astype(np.float64)
    if "input_mean" in arrays:
        units = (units - arrays["input_mean"]) / arrays["input_deviation"]
    for layer in range(3):
        units = units @ arrays[f"dense_{layer}/kernel"] + arrays[f"dense_{layer}/bias"]
        units = np.maximum(units, 0) if layer < 2 else units
    return units


def sequential(torch, sizes):
    layers = [torch.nn.Linear(one, other) for one, other in itertools.pairwise(sizes)]
    return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])


def test_the_command_writes_a_file_that_numpy_reads(swept, alone, images):
    process = commands.start(
        ["run", "--out", swept.parents[1], "--objective", "kd", "--temperature", "4", "--seed", "1", "--width", "20"],
        "kdjax.export", cwd=alone, stdout=subprocess.PIPE,
    )  # fmt: skip
    printed, said = process.communicate(timeout=300)
    assert (process.returncode, printed) == (0, "run-20-kd-T4-seed1.npz\n"), said
    (student,) = trained.find(swept, objective="kd", temperature=4.0, seed=1, width=20)
    assert said == f"kd at T = 4, 20 units, seed 1: {student.row['test_errors']:,} test errors\n"
    with np.load(alone / "run-20-kd-T4-seed1.npz", allow_pickle=False) as file:
        arrays = dict(file)
    shapes = {name: array.shape for name, array in arrays.items() if name != "metadata"}
    assert shapes == {
        "dense_0/kernel": (784, 20), "dense_0/bias": (20,), "dense_1/kernel": (20, 20), "dense_1/bias": (20,),
        "dense_2/kernel": (20, 10), "dense_2/bias": (10,),
    }  # fmt: skip
    np.testing.assert_allclose(multiplied(arrays, images / 255), student.stored_logits("test"), rtol=0, atol=1e-5)
    about = json.loads(arrays["metadata"].tobytes())
    assert about["student"] == json.loads(json.dumps(student.row)) and about["input_shape"] == [28, 28, 1]
    assert about["network"] == {"network": "mlp", "hidden": [20, 20], "precision": "float32"}
    assert about["classes"] == [str(digit) for digit in range(10)] and about["run"] == "run"


def test_pytorch_computes_the_same_logits(swept, alone, images):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    for where in ({"objective": "hard"}, {"temperature": math.inf}):
        options = [word for name, value in where.items() for word in (f"--{name}", value)]
        code, said = called(swept, *options, "--seed", 0, "--width", 16, "--to", "student.pt", "--overwrite")
        assert code == 0, said
        network = sequential(torch, (784, 16, 16, 10))
        network.load_state_dict(torch.load("student.pt", weights_only=True))
        with torch.no_grad():
            logits = network(torch.from_numpy(images).flatten(1) / 255).numpy()
        (student,) = trained.find(swept, seed=0, width=16, **where)
        np.testing.assert_allclose(logits, student.stored_logits("test"), rtol=0, atol=1e-5)


def test_safetensors_hold_the_same(swept, alone):
    safetensors = pytest.importorskip("safetensors", reason="needs safetensors")
    options = ("--objective", "hard", "--seed", 0, "--width", 16)
    assert called(swept, *options, "--format", "safetensors")[0] == 0
    assert called(swept, *options, "--to", "student.npz")[0] == 0
    with safetensors.safe_open("run-16-hard-seed0.safetensors", "np") as file, np.load("student.npz") as expected:
        assert {*file.keys(), "metadata"} == {*expected.files}
        for name in file.keys():  # noqa: SIM118
            np.testing.assert_array_equal(file.get_tensor(name), expected[name])
        assert file.metadata()["metadata"].encode() == expected["metadata"].tobytes()


def test_standardised_features(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    random = np.random.default_rng(0)
    mean, deviation = random.normal(3, 2, 5), random.uniform(0.1, 4, 5)
    features = random.normal(mean, deviation, (50, 5)).astype(np.float32)
    assert "input_mean" not in exported.arrays(made(tmp_path / "plain"))
    student = made(tmp_path / "run", standardisation={"mean": mean, "deviation": deviation})
    expected = student.logits(features)
    arrays = exported.arrays(student)
    np.testing.assert_allclose(multiplied(arrays, features), expected, rtol=0, atol=1e-5)
    network = sequential(torch, (5, 7, 7, 3))
    network.load_state_dict({name: torch.from_numpy(array) for name, array in exported.state_dict(student).items()})
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(features)).numpy(), expected, rtol=0, atol=1e-5)
    without = {name: array for name, array in arrays.items() if not name.startswith("input_")}
    assert abs(multiplied(without, features) - expected).max() > 0.1


def test_another_precision_is_said(alone):
    pytest.importorskip("torch", reason="needs PyTorch")
    made(alone / "run")
    config = read_json(alone / "run" / "config.json")
    config["identity"]["config"]["precision"] = "bfloat16"
    write_json(alone / "run" / "config.json", config)
    assert "warning: it was trained and tested with products of bfloat16" in called("run", "--to", "student.pt")[1]
    assert "note" not in called("run", "--to", "student.npz")[1]


def test_the_mean_of_two_views_is_said(alone):
    pytest.importorskip("torch", reason="needs PyTorch")
    made(alone / "run", input_shape=(4, 4, 1))
    config = read_json(alone / "run" / "config.json")
    config["identity"]["config"]["mirrored_views"] = True
    write_json(alone / "run" / "config.json", config)
    assert "the mean logits of an image and its mirror image" in called("run", "--to", "student.pt")[1]


def test_a_convolutional_network_is_arrays_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = made(tmp_path / "run", "small", (8, 8, 1), 64)
    said = refused("run", "--format", "torch")
    assert said.startswith("a state_dict is written of multi-layer perceptrons alone; the small network is exported as")
    assert not list(tmp_path.glob("*.pt"))
    assert called("run")[0] == 0
    with np.load("run-64-kd-T4-seed0.npz") as file:
        assert file["kernel_0"].shape == (3, 3, 1, file["bias_0"].shape[0])
        assert file["hidden/kernel"].shape[1] == 64 and file["logits/kernel"].shape == (64, 3)
        assert file["batch_stats/norm_hidden/mean"].shape == (64,)
        params, state = student.variables
        leaves = [*jax.tree.leaves(params), *jax.tree.leaves(state)]
        assert sum(file[name].size for name in file.files if name != "metadata") == sum(leaf.size for leaf in leaves)


def test_what_is_not_one_student_is_refused(swept, alone):
    where = f"of {swept}: choose by"
    assert refused(swept, "--temperature", 4, "--width", 16) == f"that names 2 students {where} --seed 0|1"
    options = "--objective hard|kd, --temperature 4|inf, --seed 0|1, --width 16|20, --soft-weight 0|1"
    assert refused(swept) == f"that names 12 students {where} {options}"
    none = (
        f"{swept} holds no student of objective kd, temperature 5: there are objective hard|kd; temperature none|4|inf"
    )
    assert refused(swept, "--temperature", 5, "--objective", "kd").startswith(none)
    assert "holds no run called other: `python -m kdjax runs` lists all" in refused("other", "--out", swept.parents[1])
    assert "--temperature 0 is not allowed" in refused(swept, "--temperature", 0)
    assert not list(alone.iterdir())


def test_files_that_are_refused(swept, alone):
    one = (swept, "--objective", "hard", "--seed", 0, "--width", 16)
    (alone / "there.npz").write_text("mine")
    (alone / "folder.npz").mkdir()
    assert refused(*one, "--to", "there.npz") == (
        "there.npz is there already: give --overwrite, or another file with --to"
    )
    assert refused(*one, "--to", "folder.npz", "--overwrite") == "folder.npz is a folder: name a file with --to"
    assert refused(*one, "--to", "no/where.npz").startswith("no is no folder")
    assert refused(*one, "--to", "x.onnx").startswith("--to x.onnx does not say a format: end it with .npz, .safe")
    assert refused(*one, "--to", "x.pt", "--format", "npz").startswith("--to x.pt with --format npz is not allowed")
    assert sorted(path.name for path in alone.iterdir()) == ["folder.npz", "there.npz"]
    assert (alone / "there.npz").read_text() == "mine"
    assert called(*one, "--to", "there.npz", "--overwrite")[0] == 0
    assert np.load("there.npz")["dense_0/bias"].shape == (16,)


@pytest.mark.parametrize(("package", "kind"), [("torch", "torch"), ("safetensors.numpy", "safetensors")])
def test_a_missing_package_is_named(swept, alone, monkeypatch, package, kind):
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(swept, "--objective", "hard", "--seed", 0, "--width", 16, "--format", kind)
    assert said.startswith(f"--format {kind} needs ") and "pip install" in said
    assert not list(alone.iterdir())


def test_students_and_runs_that_cannot_be_exported(tmp_path, alone):
    made(tmp_path / "failed", failed_at=12)
    assert "failed at step 12" in refused(tmp_path / "failed")
    (tmp_path / "table").mkdir()
    config = read_json(tmp_path / "failed" / "config.json")
    write_json(tmp_path / "table" / "config.json", {**config, "sweeps": ["one", "two"]})
    assert refused(tmp_path / "table").endswith(f"name one, as {tmp_path}/sweeps/one")
    (tmp_path / "empty").mkdir()
    write_json(tmp_path / "empty" / "config.json", config)
    with pytest.raises(BadInput, match="holds no student of seed 0: no block of it is finished"):
        trained.find(tmp_path / "empty", seed=0)
