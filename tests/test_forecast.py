"""What work will take is said before it starts: all that costs time is counted, once, and nothing that is done."""

import dataclasses
from unittest import mock

import jax
import pytest

from experiments import study
from kdjax import cli, forecast, models, sweeps, teachers
from kdjax.config import NETWORKS, DataConfig, RunConfig, SweepConfig, TeacherConfig, TrainConfig
from kdjax.run_directory import RunDirectory
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


def test_of_what_was_begun_the_rest_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "product_rate", lambda precision: 1e9)
    sweep = prepared(tmp_path)
    block, whole = sweep.blocks[0], forecast.sweep_seconds(sweep)
    record = RunDirectory(sweep.folder)
    record.open(sweep.identity)
    (record.checkpoints(block.name) / f"{block.steps // 2:09d}").mkdir(parents=True)
    half = forecast.block_flops(block, sweep.dataset) / forecast.dense_rate("float32") / 2
    rest = forecast.sweep_seconds(sweep)
    assert whole - rest == pytest.approx(half, rel=1e-6)
    assert forecast.sweep_seconds(prepared(tmp_path, "--fresh")) == pytest.approx(whole, rel=1e-6)
    recipe = sweep.teacher_config
    steps = recipe.epochs * (len(sweep.dataset.train.images) // recipe.batch_size)
    stored = teachers.checkpoints_of(teachers.place(sweep.run.out, sweep.identity["teachers"][0]))
    (stored.folder / f"{steps:09d}").mkdir(parents=True)  # all but what follows the last step
    images = len(sweep.dataset.train.images)
    of_teacher = forecast.training_flops(recipe, images, sweep.dataset) / forecast.dense_rate("float32")
    assert rest - forecast.sweep_seconds(sweep) == pytest.approx(of_teacher, rel=1e-6)


@pytest.mark.parametrize(("minutes", "named"), [(29, False), (31, True)])
def test_a_shorter_way_is_named_above_half_an_hour(swept, capsys, minutes, named):
    said = said_at_the_start(prepared(swept), forecast.Forecast("", 60.0 * minutes), capsys)
    assert said[0] == f"about {minutes} min 00 s on this device"
    assert (SHORTER in "".join(said)) == named


def test_a_dry_run_prints_its_forecast_alone(swept, capsys):
    sweep = prepared(swept, "--dry-run")
    study.execute(sweep, pytest.fail, forecast.of_sweep, pytest.fail, pytest.fail, SHORTER)
    shown = capsys.readouterr()
    assert shown.out == f"{forecast.of_sweep(sweep).text}\n" and "about" not in shown.err


def test_compiling_evaluating_and_writing_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "product_rate", lambda precision: 1e12)
    sweep = prepared(tmp_path)
    training = sum(forecast.block_flops(block, sweep.dataset) for block in sweep.blocks)
    training += forecast.training_flops(sweep.teacher_config, len(sweep.dataset.train.images), sweep.dataset)
    # Two programs, the teacher's and that of both blocks; all else is the same for any speed.
    fixed = 2 * forecast.COMPILE_SECONDS["mlp"] + 2 * forecast.BLOCK_SECONDS + forecast.SWEEP_SECONDS
    seconds = forecast.sweep_seconds(sweep)
    metrics = 2 * commands.SETTINGS * (500 + 1_000) * forecast.METRIC_SECONDS
    assert fixed + metrics + training / 0.7e12 < seconds < fixed + metrics + 3 * training / 0.7e12
    counted = set()
    first = forecast.sweep_seconds(sweep, compiled=counted)
    assert (first, len(counted)) == (seconds, 2)
    assert forecast.sweep_seconds(sweep, compiled=counted) == pytest.approx(first - 2 * forecast.COMPILE_SECONDS["mlp"])


@pytest.mark.parametrize(("epochs", "counts"), [(24, 12), (32, 11), (80, 12)])  # the last epoch is always counted
def test_evaluations_are_counted_as_they_are_made(tmp_path, epochs, counts):
    data = DataConfig("mnist5k", None, tmp_path, train_images=1_000, holdout=100)
    asked = SweepConfig(temperatures=(4.0,), seeds=1, epochs=epochs, data=data, teacher=TeacherConfig((16,), epochs=1))
    sweep = sweeps.prepare(dataclasses.replace(asked, run=RunConfig(out=tmp_path)))
    (block,) = sweep.blocks
    forward = 2 * (784 * 300 + 300 * 300 + 300 * 10)
    # At the end training, test and hold-out images; the test images before the first step; the hold-out now and then.
    images = 1_000 + 1_000 + 100 + 1_000 + counts * 100
    assert forecast.evaluation_flops(block, sweep.dataset) == block.size * forward * images


def test_every_family_of_networks_has_its_compile_time():
    assert {spec.family for spec in NETWORKS.values()} <= set(forecast.COMPILE_SECONDS)


def test_convolutional_networks_are_timed_at_their_own_width_and_others_by_a_bare_product(tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "product_rate", {"float32": 8e10, "bfloat16": 2e11}.__getitem__)
    data = DataConfig("mnist5k", None, tmp_path, train_images=1_000)
    dataset = sweeps.prepare(SweepConfig(seeds=1, data=data, run=RunConfig(out=tmp_path))).dataset
    narrow = TrainConfig(hidden=(8,), epochs=3, batch_size=50, network="fast")
    wide = dataclasses.replace(narrow, hidden=(32,))
    forecast.network_rate.cache_clear()
    rates = {forecast.rate_of(recipe, dataset, train) for recipe in (narrow, wide) for train in (True, False)}
    assert min(rates) > 0 and len(rates) == forecast.network_rate.cache_info().misses == 4
    longer = dataclasses.replace(narrow, epochs=30)
    assert forecast.rate_of(longer, dataset) == forecast.rate_of(narrow, dataset)
    assert forecast.network_rate.cache_info().misses == 4
    dense = TrainConfig(hidden=(8, 8), epochs=3, batch_size=50, precision="bfloat16")
    assert forecast.rate_of(dense, dataset, True) == forecast.rate_of(dense, dataset, False) == 0.45 * 2e11


def test_the_steps_of_a_network_are_timed_on_batches_that_take_no_minutes(monkeypatch):
    done = []
    monkeypatch.setattr(forecast, "seconds_each", lambda work, _: done.append(work(2)) or 0.25)
    recipe, shape = TrainConfig(hidden=(8,), epochs=1, batch_size=20, network="fast"), (32, 32, 3)
    network, uncached = models.network(recipe, shape, 10), forecast.network_rate.__wrapped__
    batches = 20 / 0.25
    assert uncached(recipe, shape, 10, True) == pytest.approx(batches * models.step_flops(network, 1))
    assert uncached(recipe, shape, 10, False) == pytest.approx(batches * models.forward_flops(network))
    start = network.init(jax.random.key(0))[0]
    (trained, _), (same, _) = done
    assert (start["head"] != trained["head"]).any() and (start["head"] == same["head"]).all()
    forward = models.forward_flops(network)
    monkeypatch.setattr(forecast, "TIMED_FLOPS", 7.5 * forward)
    assert uncached(recipe, shape, 10, False) == pytest.approx(7 * forward / 0.25)
    monkeypatch.setattr(forecast, "TIMED_FLOPS", 0.5 * forward)
    assert uncached(recipe, shape, 10, False) == pytest.approx(forward / 0.25)


@pytest.mark.parametrize(
    "more, passes, shifts",
    (
        ([], 0, 0),
        (["--jitter", "2"], 1, 0),
        (["--jitter", "2", "--objectives", "label_smoothing", "--no-hard-labels"], 0, 0),
        (["--targets", "shift_averaged"], 0, 25),
    ),
)
def test_the_passes_of_queried_teachers_are_counted(tmp_path, monkeypatch, more, passes, shifts):
    monkeypatch.setattr(forecast, "product_rate", lambda precision: 1e9)
    sweep = prepared(tmp_path, *more)
    one, two = (forecast.sweep_seconds(sweep, members=members) for members in (1, 2))
    images = 500 + 1_000  # of a teacher more: training and test images, once
    images += passes * sum(block.steps * block.config.batch_size for block in sweep.blocks) + shifts * 500
    forward = 2 * (784 * 32 + 32 * 10)
    assert two - one == pytest.approx(images * forward / 0.7e9, rel=1e-6)
