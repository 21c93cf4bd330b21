"""What work will take is said before it starts: all that costs time is counted, once, and nothing that is done."""

import dataclasses
from unittest import mock

import pytest

from experiments import study
from kdjax import cli, forecast, sweeps
from kdjax.config import NETWORKS, DataConfig, RunConfig, SweepConfig, TeacherConfig, TrainConfig
from tests import commands

SHORTER = "--dataset mnist5k"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep that is trained."""
    root = tmp_path_factory.mktemp("forecast")
    code, said = commands.call_sweep(root)
    assert code == 0, said
    return root


def prepared(root, *more):
    return sweeps.prepare(cli.parse(SweepConfig, commands.PROG, commands.tiny(root, *more)))


def said_at_the_start(sweep, cost, capsys):
    """What `execute` writes before it runs anything."""
    with mock.patch.object(study.page, "at_the_end"):
        study.execute(sweep, lambda _: sweep.folder, lambda _: cost, lambda _: "summary", lambda _: [], SHORTER)
    shown = capsys.readouterr()
    assert shown.out == "summary\n"
    return [line for line in shown.err.splitlines() if not line.startswith("data: ")]


def test_minutes_are_said_before_it_starts_and_not_of_what_is_done(swept, tmp_path, capsys):
    new, done = prepared(tmp_path), prepared(swept)
    cost = forecast.of_sweep(new)
    (said,) = said_at_the_start(new, cost, capsys)
    assert said == f"about {forecast.clock(cost.seconds)} on this device" and said.removeprefix("about ") in cost.text
    assert forecast.of_sweep(done).seconds == 0 and said_at_the_start(done, forecast.of_sweep(done), capsys) == []
    again = forecast.of_sweep(prepared(swept, "--fresh"))
    assert 0 < again.seconds < cost.seconds  # its teacher stays


@pytest.mark.parametrize(("minutes", "named"), [(29, False), (31, True)])
def test_a_shorter_way_is_named_above_half_an_hour(swept, capsys, minutes, named):
    said = said_at_the_start(prepared(swept), forecast.Forecast("", 60.0 * minutes), capsys)
    assert said[0] == f"about {minutes} min 00 s on this device"
    assert (SHORTER in "".join(said)) == named


def test_a_dry_run_prints_its_forecast_alone(swept, capsys):
    sweep = prepared(swept, "--dry-run")
    study.execute(sweep, pytest.fail, forecast.of_sweep, pytest.fail, pytest.fail, SHORTER)
    shown = capsys.readouterr()
    assert shown.out == f"{forecast.of_sweep(sweep)}\n" and "about" not in shown.err


def test_compiling_evaluating_and_writing_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "product_rate", lambda precision: 1e12)
    sweep = prepared(tmp_path)
    training = sum(forecast.block_flops(block, sweep.dataset) for block in sweep.blocks)
    training += forecast.network_flops(sweep.teacher_config, sweep.dataset)
    # Two programs, the teacher's and that of both blocks; all else is the same for any speed.
    fixed = 2 * forecast.COMPILE_SECONDS["mlp"] + 2 * forecast.BLOCK_SECONDS + forecast.SWEEP_SECONDS
    seconds = forecast.sweep_seconds(sweep)
    metrics = 2 * commands.SETTINGS * (500 + 1_000) * forecast.METRIC_SECONDS
    assert fixed + metrics + training / 0.7e12 < seconds < fixed + metrics + 3 * training / 0.7e12
    counted = set()
    first = forecast.sweep_seconds(sweep, compiled=counted)
    assert (first, len(counted)) == (seconds, 2)
    assert forecast.sweep_seconds(sweep, compiled=counted) == pytest.approx(first - 2 * forecast.COMPILE_SECONDS["mlp"])


def test_evaluations_are_counted_as_they_are_made(tmp_path):
    data = DataConfig("mnist5k", None, tmp_path, train_images=1_000, holdout=100)
    asked = SweepConfig(temperatures=(4.0,), seeds=1, epochs=24, data=data, teacher=TeacherConfig((16,), epochs=1))
    sweep = sweeps.prepare(dataclasses.replace(asked, run=RunConfig(out=tmp_path)))
    (block,) = sweep.blocks
    forward = 2 * (784 * 300 + 300 * 300 + 300 * 10)
    # At the end training, test and hold-out images; the test images before the first step; the hold-out 12 times.
    images = 1_000 + 1_000 + 100 + 1_000 + 12 * 100
    assert forecast.evaluation_flops(block, sweep.dataset) == block.size * forward * images


def test_every_family_of_convolutional_networks_is_timed_as_one():
    families = {spec.family for spec in NETWORKS.values() if spec.full_units}
    assert families == set(forecast.CONVOLUTIONS) and families <= set(forecast.COMPILE_SECONDS)
    with mock.patch.object(forecast, "product_rate", {"float32": 8e10, "bfloat16": 2e11}.get):
        rates = [forecast.training_rate("fast", precision) for precision in ("float32", "bfloat16")]
        assert rates[0] == rates[1] < forecast.training_rate("mlp", "float32")  # on a CPU


def test_narrow_fast_networks_are_forecast_slower_an_operation():
    with mock.patch.object(forecast, "product_rate", {"float32": 1e11, "bfloat16": 1e11}.get):
        recipe = TrainConfig(hidden=(16,), epochs=1, batch_size=1, network="fast")
        shares = [forecast.rate_of(dataclasses.replace(recipe, hidden=(width,))) / 1e11 for width in (16, 32, 64)]
        assert shares == pytest.approx([0.34, 0.44, 0.5], abs=0.01)
        small = dataclasses.replace(recipe, network="small")
        assert forecast.rate_of(small) == forecast.training_rate("small", "float32")


@pytest.mark.parametrize(
    "more, passes",
    (([], 0), (["--jitter", "2"], 1), (["--jitter", "2", "--objectives", "label_smoothing", "--no-hard-labels"], 0)),
)
def test_the_passes_of_queried_teachers_are_counted(tmp_path, monkeypatch, more, passes):
    monkeypatch.setattr(forecast, "product_rate", lambda precision: 1e9)
    sweep = prepared(tmp_path, *more)
    one, two = (forecast.sweep_seconds(sweep, members=members) for members in (1, 2))
    images = 500 + 1_000  # of a teacher more: training and test images, once
    images += passes * sum(block.steps * block.config.batch_size for block in sweep.blocks)
    forward = 2 * (784 * 32 + 32 * 10)
    assert two - one == pytest.approx(images * forward / 0.7e9, rel=1e-6)
