"""Logit matching from a run directory to its report: measures the pair, trains students, writes table and figures."""

import time
from pathlib import Path

from analysis.matching import claims, figures, measurements, training
from analysis.matching import pair as pair_
from analysis.matching.config import MatchingConfig
from analysis.matching.rows import Numbers, Row
from kdjax import run_directory
from kdjax.errors import require
from kdjax.files import make_folder, write_csv, write_whole
from kdjax.progress import clock, say


def write(config: MatchingConfig) -> Path:
    """Measures and writes everything; returns the folder, OUT/logit_matching/NAME."""
    run = config.run or _newest(config.out) or pair_.small_pair(config.out)
    pair = pair_.load(run, config.out)
    images = len(pair.data.dataset.train.images)
    require(config.images <= images, f"--images {config.images} is more than the {images:,} training images")
    folder = config.out / "logit_matching" / run.resolve().name
    make_folder(folder)
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
        recipe = f"{config.epochs or pair.config.epochs} epochs, batch {pair.config.batch_size}, peak rates {rates}"
        note += f" Students: seeds 0 to {config.seeds - 1}, {recipe}, in {clock(time.perf_counter() - begin)}."
        numbers = _write(folder, rows, note, config.main_classes)
    figures.draw(folder, numbers, pair.where, config)
    say(f"written: {folder}")
    return folder


def _write(folder: Path, rows: list[Row], note: str, main_classes: int) -> Numbers:
    """Writes the table and the summary of what has been measured so far."""
    numbers = Numbers(rows)
    write_csv(folder / "logit_matching.csv", numbers.table)
    write_whole(folder / "summary.md", claims.summary(numbers, note, main_classes))
    return numbers


def _newest(out: Path) -> Path | None:
    any_run = any((out / "temperature_sweep").glob("*/results.csv"))
    return run_directory.latest_run(out, "temperature_sweep") if any_run else None
