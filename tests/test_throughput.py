"""The speed table: real steps, a share of a bare product, whole trainings, PyTorch beside it, and refusals."""

import json
import sys

import pytest

import experiments
from analysis import plot_throughput
from experiments import throughput
from experiments.throughput import ThroughputConfig
from kdjax import blocks, layers
from tests import commands

pytestmark = pytest.mark.optimized

QUICK = {"cases": ("2x16", "teacher"), "images": 600, "batch_size": 64, "rounds": 2, "seconds": 0.05, "name": "run"}


def run(folder, capsys, **options):
    throughput.main(ThroughputConfig(out=folder, **{**QUICK, **options}))
    path = folder / "throughput" / "run"
    return json.loads((path / "throughput.json").read_text()), path, capsys.readouterr().out.splitlines()


def test_measures_each_case(tmp_path, capsys):
    found, path, lines = run(tmp_path, capsys, precisions=("float32", "bfloat16"))
    named = [(case["case"], case["precision"]) for case in found["cases"]]
    assert named == [("2x16", "float32"), ("2x16", "bfloat16"), ("teacher", "float32")]
    assert lines[0].split()[0] == "case" and [line.split()[0] for line in lines[1:]] == ["2x16", "2x16", "teacher"]
    for case in found["cases"]:
        measured = [case[name] for name in throughput.Speed._fields[2:-2]]
        assert all(value > 0 for value in measured)
        assert case["torch_tuned"] is None
    teacher = found["cases"][-1]
    assert teacher["compiler_count"] == pytest.approx(1, abs=0.1)  # masks, Adam and max-norm count too
    assert teacher["gflops"] * teacher["step_ms"] == pytest.approx(256 * 2 * (3 * 2394000 - 940800) / 1e6, rel=1e-3)
    assert (path / "figures" / "share_of_a_bare_product.png").stat().st_size > 10_000
    assert "| 2x16 | bfloat16 |" in (path / "summary.md").read_text()
    with pytest.raises(SystemExit):
        plot_throughput.cli.run(plot_throughput.main, plot_throughput.PlotConfig, "x", ["--out", str(tmp_path)])
    assert "share_of_a_bare_product.png" in capsys.readouterr().out


def test_a_convolutional_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(layers, "PATCHES", 2**40)  # in one piece: XLA counts a loop once
    blocks.program_for.cache_clear()
    found, _, _ = run(tmp_path, capsys, cases=("small",), images=256, rounds=1)
    (case,) = found["cases"]
    assert case["gflops"] * case["step_ms"] == pytest.approx(128 * 2 * SMALL / 1e6, rel=1e-3)
    assert 0.9 < case["compiler_count"] < 1.2  # masks, batch norm, pooling and Adam count too
    assert case["images_runs_per_second"] == pytest.approx(128e3 / case["step_ms"], rel=1e-3)


# Multiplications an image, forward and backward, of the small network: nine neighbours inside the image of each pixel.
LAYERS = (94**2 * 3 * 32, 46**2 * 32 * 64, 22**2 * 64 * 128, 22**2 * 128 * 128, 2048 * 256, 2560)
SMALL = 3 * sum(LAYERS) - LAYERS[0]


def test_whole_trainings(tmp_path, capsys, monkeypatch):
    # Six times the work: what else the machine does is less than that.
    monkeypatch.setattr(throughput, "BLOCKS", (1, 6))
    monkeypatch.setattr(throughput, "IMAGES", (500, 3000))
    monkeypatch.setattr(throughput, "BLOCK_IMAGES", 1000)
    found, path, _ = run(tmp_path, capsys, cases=("2x16",), scaling=True)
    for key, numbers in (("blocks", [1, 6]), ("images", [500, 3000])):
        assert [number for number, _ in found["scaling"][key]] == numbers
        assert found["scaling"][key][1][1] > found["scaling"][key][0][1] > 0
    assert (path / "figures" / "linear_cost.png").exists()


def test_a_line_is_fitted():
    start, slope, deviation = plot_throughput.fit_line([[1, 3.0], [2, 5.0], [4, 9.0]])
    assert (start, slope, deviation) == (pytest.approx(1), pytest.approx(2), pytest.approx(0, abs=1e-9))
    assert plot_throughput.fit_line([[1, 1.0], [2, 4.0], [3, 1.0]])[2] == pytest.approx(0.5)


def test_pytorch_beside_it(tmp_path):
    pytest.importorskip("torch", reason="needs the extra bench")
    arguments = ["--cases", "2x16", "--images", "600", "--rounds", "1", "--seconds", "0.05", "--against", "torch"]
    code, said = commands.finish(
        commands.start([*arguments, "--out", str(tmp_path), "--name", "run"], "experiments.throughput")
    )
    assert code == 0, said
    case = json.loads((tmp_path / "throughput/run/throughput.json").read_text())["cases"][0]
    assert case["torch_idiomatic"] > 1 and case["torch_tuned"] > 0


def test_the_networks_of_pytorch_are_these():
    torch = pytest.importorskip("torch", reason="needs the extra bench")
    from experiments import torch_baseline

    for kind, parameters in (("small", 770_378), ("big", 3_844_938)):
        network = torch_baseline._network(kind, torch.zeros(1, 3, 32, 32))
        counted = sum(value.numel() for name, value in network.state_dict().items() if "num_batches" not in name)
        assert counted == parameters


def test_without_pytorch_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "experiments.torch_styles", None)
    monkeypatch.delattr(experiments, "torch_styles", raising=False)  # imported by a test before
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
        (["--batch-size", "5000", "--scaling"], "--batch-size 5000 is not allowed with --scaling"),
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
    for arguments, content in ((["--out", str(tmp_path)], None), ([str(tmp_path)], None), ([str(tmp_path)], "{}")):
        if content:
            (tmp_path / "throughput.json").write_text(content)
        code, told = commands.call(plot_throughput.main, plot_throughput.PlotConfig, arguments, plot_throughput.PROG)
        assert code == 2 and told.startswith("error: ") and told.count("\n") == 1, told
