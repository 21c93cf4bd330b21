"""Throughput: real steps, a share of a bare product, whole trainings, PyTorch, and bad input."""

import json
import sys

import pytest

import experiments
from analysis import plot_throughput
from analysis.throughput import fit_line
from experiments import speed, throughput
from experiments.throughput import ThroughputConfig
from kdjax import blocks, layers
from kdjax.config import TrainConfig
from kdjax.identity import canonical_json
from tests import commands

pytestmark = pytest.mark.optimized

QUICK = {"cases": ("2x16", "teacher"), "images": 600, "batch_size": 64, "rounds": 2, "seconds": 0.05, "name": "run"}


def run(folder, capsys, **options):
    throughput.main(ThroughputConfig(out=folder, **{**QUICK, **options}))
    path = folder / "throughput" / "run"
    return json.loads((path / "throughput.json").read_text()), path, capsys.readouterr().out.splitlines()


def test_measures_each_case(tmp_path, capsys):
    measurement, path, lines = run(tmp_path, capsys, precisions=("float32", "bfloat16"))
    named = [(case["case"], case["precision"]) for case in measurement["cases"]]
    precisions = ["float32", "bfloat16"]
    assert named == [(case, precision) for case in QUICK["cases"] for precision in precisions]
    assert lines[0].split()[0] == "case" and [line.split()[0] for line in lines[2:6:2]] == ["2x16", "teacher"]
    for case in measurement["cases"]:
        assert all(case[name] > 0 for name in speed.Speed._fields[1:-2])
        assert case["torch_tuned"] is None
    teacher = measurement["cases"][-1]
    assert teacher["compiler_count"] == pytest.approx(1, abs=0.1)  # masks, Adam and max-norm count too
    assert teacher["gflops"] * teacher["step_ms"] == pytest.approx(256 * 2 * (3 * 2392800 - 940800) / 1e6)
    assert (path / "figures" / "share_of_a_bare_product.png").stat().st_size > 10_000
    assert "| 2x16 | bfloat16 |" in (path / "summary.md").read_text()
    with pytest.raises(SystemExit):
        plot_throughput.cli.run(plot_throughput.main, plot_throughput.PlotConfig, "x", ["--out", str(tmp_path)])
    assert "share_of_a_bare_product.png" in capsys.readouterr().out


def test_a_measurement_of_another_config_is_not_replaced(tmp_path):
    folder = tmp_path / "throughput" / "mine"
    folder.mkdir(parents=True)
    config = ThroughputConfig(cases=("8x30",), out=tmp_path, name="mine")
    (folder / "throughput.json").write_text(json.dumps({"config": json.loads(canonical_json(config))}))
    arguments = ["--cases", "32x30", "--out", str(tmp_path), "--name", "mine"]
    code, said = commands.call(throughput.main, ThroughputConfig, arguments, throughput.PROG)
    assert code == 2 and "holds a measurement of another config (differing: cases): choose another --name" in said


def test_a_convolutional_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(layers, "PATCHES", 2**40)  # in one piece: XLA counts a loop once
    blocks.program_for.cache_clear()
    measurement, _, _ = run(tmp_path, capsys, cases=("small",), precisions=("float32",), images=256, rounds=1)
    (case,) = measurement["cases"]
    assert case["gflops"] * case["step_ms"] == pytest.approx(128 * 2 * SMALL / 1e6)
    assert 0.9 < case["compiler_count"] < 1.2  # masks, batch norm, pooling and Adam count too
    assert case["images_runs_per_second"] == pytest.approx(128e3 / case["step_ms"], rel=1e-3)


# Multiplications an image of the small network on a CPU. The first convolution and every kernel's gradient are products
# over all nine neighbours of a pixel; the others, forward and for the gradient of their input, have 3n − 2 taps along n
# pixels.
SMALL = (
    2 * 9 * 32**2 * 3 * 32
    + (9 * 16**2 + 2 * 46**2) * 32 * 64
    + (9 * 8**2 + 2 * 22**2) * (64 * 128 + 128 * 128)
    + 3 * (2048 * 256 + 2560)
)


def test_whole_trainings(tmp_path, capsys, monkeypatch):
    # Six times the work: what else the machine does is less than that. As many images as a case has: one program less.
    monkeypatch.setattr(speed, "BLOCKS", (1, 6))
    monkeypatch.setattr(speed, "IMAGES", (600, 3600))
    monkeypatch.setattr(speed, "BLOCK_IMAGES", 600)
    measurement, path, _ = run(tmp_path, capsys, cases=("2x16",), scaling=True)
    for key, numbers in (("blocks", [1, 6]), ("images", [600, 3600])):
        assert [number for number, _ in measurement["scaling"][key]] == numbers
        assert measurement["scaling"][key][1][1] > measurement["scaling"][key][0][1] > 0
    assert (path / "figures" / "linear_cost.png").exists()


def test_a_line_is_fitted():
    start, slope, deviation = fit_line([[1, 3.0], [2, 5.0], [4, 9.0]])
    assert (start, slope, deviation) == (pytest.approx(1), pytest.approx(2), pytest.approx(0, abs=1e-9))
    assert fit_line([[1, 1.0], [2, 4.0], [3, 1.0]])[2] == pytest.approx(0.5)


def test_pytorch_beside_it(tmp_path):
    pytest.importorskip("torch", reason="needs the extra bench")
    arguments = ["--cases", "2x16", "--images", "600", "--rounds", "1", "--seconds", "0.05", "--against", "torch"]
    code, said = commands.finish(
        commands.start([*arguments, "--out", str(tmp_path), "--name", "run"], "experiments.throughput")
    )
    assert code == 0, said
    cases = json.loads((tmp_path / "throughput/run/throughput.json").read_text())["cases"]
    assert [case["precision"] for case in cases] == ["float32", "bfloat16"]
    for case in cases:
        assert case["torch_idiomatic"] > 1 and case["torch_tuned"] > 0


def test_the_networks_of_pytorch_are_these():
    torch = pytest.importorskip("torch", reason="needs the extra bench")
    from experiments import torch_baseline

    for kind, units, parameters in (("small", 256, 770_378), ("big", 512, 3_844_938)):
        images = torch.zeros(1, 3, 32, 32)
        network = torch_baseline._network(TrainConfig((units,), 1, 1, network=kind), images)
        counted = sum(value.numel() for name, value in network.state_dict().items() if "num_batches" not in name)
        assert counted == parameters
        tuned = torch_baseline._network(TrainConfig((units,), 1, 1, network=kind), images, biased=False)
        biases = [name for name, _ in tuned.named_parameters() if name.endswith("bias")]
        norms = sum(isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) for part in tuned)
        assert len(biases) == norms + 1  # as in a training step here: those of batch norm, and of the logits
        after = torch_baseline._network(TrainConfig((units,), 1, 1, network=f"{kind}_after_norm"), images)
        assert sum(isinstance(part, torch.nn.Dropout) for part in network) == 3
        assert [isinstance(part, torch.nn.Dropout) for part in after][-2:] == [True, False]
        assert sum(isinstance(part, torch.nn.Dropout) for part in after) == 1


def test_without_pytorch_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "experiments.torch_baseline", None)
    monkeypatch.delattr(experiments, "torch_baseline", raising=False)  # imported by a test before
    arguments = ["--against", "torch", "--out", str(tmp_path)]
    code, said = commands.call(throughput.main, ThroughputConfig, arguments, throughput.PROG)
    assert code == 2 and said.startswith("error: --against torch needs PyTorch") and said.count("\n") == 1, said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--cases", "huge"], "--cases huge is unknown"),
        (["--cases", "0x8"], "--cases 0x8 is unknown"),
        (["--batch-size", "0"], "--batch-size 0 is not allowed"),
        (
            ["--batch-size", "5000", "--scaling"],
            "--batch-size 5000 is not allowed: it is a number of images, 1 to",
        ),
        (["--rounds", "0"], "--rounds 0 is not allowed"),
        (["--name", "a/b"], "--name 'a/b' is not allowed"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path):
    arguments = [*arguments, "--out", str(tmp_path)]
    code, told = commands.call(throughput.main, ThroughputConfig, arguments, throughput.PROG)
    assert code == 2 and said in told and told.count("\n") == 1, told
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_measurement_is_one_line(tmp_path):
    here = [str(tmp_path)]
    whole = {"provenance": {}, "scaling": []}
    damaged = ["{}", *(json.dumps({"cases": cases, **whole}) for cases in (5, ["a"], []))]
    for arguments, content in ((["--out", *here], None), (here, None), *((here, content) for content in damaged)):
        if content:
            (tmp_path / "throughput.json").write_text(content)
        code, told = commands.call(plot_throughput.main, plot_throughput.PlotConfig, arguments, plot_throughput.PROG)
        assert code == 2 and told.startswith("error: ") and told.count("\n") == 1, told
