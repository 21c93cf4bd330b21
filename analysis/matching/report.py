"""Logit matching from a run directory to its report: measures the pair, trains students, writes table and figures."""

import time
from pathlib import Path

from analysis import analysis_folder
from analysis.matching import best_rates, claims, curvature_figure, figures, measurements, rates, training
from analysis.matching import pair as pair_
from analysis.matching.config import MatchingConfig
from analysis.matching.rows import Numbers, Row
from kdjax import forecast as forecast_
from kdjax import run_folders, sweep_checks, sweeps
from kdjax.errors import require
from kdjax.files import write_csv, write_whole
from kdjax.forecast import Forecast
from kdjax.progress import clock, count_of, say

GRADIENT_SECONDS = 40.0
"""Seconds, roughly, in which gradients are compiled and measured on two cores, and figures drawn."""


def write(config: MatchingConfig) -> Path:
    """Measures and writes everything; returns the folder, OUT/logit_matching/NAME."""
    run = _run(config) or sweeps.run(pair_.small_sweep(config.out))
    pair = pair_.load(run, config.out)
    folder = _folder(config, run)
    begin = time.perf_counter()
    rows = [*measurements.random_rows(config), *measurements.pair_rows(pair, config.images)]
    seconds = time.perf_counter() - begin
    note = f"Pair: {pair.where}. Gradients on {config.images:,} of its training images, in {seconds:.0f} s."
    numbers = _write(folder, rows, note, config.main_classes)
    say(f"gradients: {seconds:.0f} s")
    if config.training:
        begin = time.perf_counter()
        rows += training.train(pair, config.seeds, config.epochs)
        rates = ", ".join(f"{rate:g} ({name})" for name, rate in training.RATES.items())
        epochs = count_of(config.epochs or pair.config.epochs, "epoch")
        recipe = f"{epochs}, batch {pair.config.batch_size}, peak rates {rates}"
        note += f" Students: seeds 0 to {config.seeds - 1}, {recipe}, in {clock(time.perf_counter() - begin)}."
        numbers = _write(folder, rows, note, config.main_classes)
    analysis_folder.note_command(folder, "summary.md", pair.where, run)
    figures.draw(folder, numbers, pair.where, config)
    say(f"written: {folder}")
    return folder


def write_curvature(config: MatchingConfig) -> Path:
    """The same of curvature and the best rates: `curvature.md`, `curvature.csv` and `figures/curvature`."""
    run = _run(config) or sweeps.run(pair_.small_sweep(config.out, curvature=True))
    pair = pair_.load(run, config.out, ("start", "end"))
    epochs = config.epochs or pair.config.epochs
    folder, begin = _folder(config, run), time.perf_counter()
    numbers = Numbers(rates.measure(pair, config.seeds, epochs, config.images))
    note = (
        f"Pair: {pair.where}. Rates: seeds 0 to {config.seeds - 1}, {epochs} epochs, batch {pair.config.batch_size}, "
        f"{len(pair.data.dataset.holdout.images):,} held-out images. Curvature in the parameters: "
        f"{config.images:,} training images. In {clock(time.perf_counter() - begin)}."
    )
    write_csv(folder / "curvature.csv", numbers.table)
    write_whole(folder / "curvature.md", best_rates.summary(numbers, note))
    analysis_folder.note_command(folder, "curvature.md", pair.where, run)
    curvature_figure.draw(folder, numbers, f"{pair.where}; rates: {count_of(config.seeds, 'seed')}")
    say(f"written: {folder}")
    return folder


def forecast(config: MatchingConfig) -> Forecast:
    """What `write`, or with --curvature `write_curvature`, would cost here. Raises BadInput: what they cannot do."""
    run = _run(config)
    if run is None:
        sweep = pair_.small_sweep(config.out, config.curvature)
        recipe, dataset = sweep.blocks[0].config, sweep.dataset
        first, seconds = ["a pair (if it is not there)"], forecast_.sweep_seconds(sweep)
    else:
        pair = pair_.load(run, config.out, ())
        recipe, dataset, first, seconds = pair.config, pair.data.dataset, list[str](), 0.0
    epochs, images = config.epochs or recipe.epochs, len(dataset.train.images)
    if config.curvature:
        rates.require_holdout(dataset)
        require(epochs > 1, "--epochs 1 is not allowed with --curvature, which is followed along training: 2 or more")
    sweep_checks.require_at_most("images", config.images, images)
    rate = forecast_.rate_of(recipe, dataset)
    if config.curvature:
        count, flops = rates.cost(recipe, dataset, config.seeds, epochs, config.images)
        seconds += flops / rate
        trained = " and ".join([*first, f"{count:,} students"])
        text = f"would train {trained}: about {clock(seconds)} on this device, or twice that"
        return Forecast(text, seconds)
    count, flops = training.cost(recipe, dataset, config.seeds, epochs) if config.training else (0, 0.0)
    seconds += GRADIENT_SECONDS + flops / rate
    trained = " and ".join([*first, *[count_of(count, "student")] * (count > 0)])
    text = f"would measure gradients{f' and train {trained}' * bool(trained)}"
    return Forecast(f"{text}: about {clock(seconds)} on this device", seconds)


def _folder(config: MatchingConfig, run: Path) -> Path:
    folder = config.out / "logit_matching" / run.resolve().name
    analysis_folder.make(folder, run)
    return folder


def _write(folder: Path, rows: list[Row], note: str, main_classes: int) -> Numbers:
    """Writes the table and the summary of what has been measured so far."""
    numbers = Numbers(rows)
    write_csv(folder / "logit_matching.csv", numbers.table)
    write_whole(folder / "summary.md", claims.summary(numbers, note, main_classes))
    return numbers


def _run(config: MatchingConfig) -> Path | None:
    """The run that is named; or the newest, but not for curvature, which needs a hold-out; None: there is none."""
    any_run = any((config.out / "temperature_sweep").glob("*/results.csv"))
    if config.run is None and (config.curvature or not any_run):
        return None
    return run_folders.named_run(config.run, config.out, "temperature_sweep")
