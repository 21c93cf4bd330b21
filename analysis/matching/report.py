"""Logit matching from a run directory to its report: measures the pair, trains students, writes table and figures."""

import time
from collections.abc import Sequence
from pathlib import Path

from analysis.matching import claims, figures, measurements, training
from analysis.matching import pair as pair_
from analysis.matching.rows import Numbers, Row
from analysis.tables import write_csv
from kdjax import run_directory
from kdjax.errors import require
from kdjax.files import write_whole
from kdjax.progress import clock, say


def write(
    run: Path | None,
    out: Path,
    *,
    classes: Sequence[int],
    main_classes: int,
    scale: float,
    images: int,
    seeds: int,
    epochs: int | None,
) -> Path:
    """Measures and writes everything; returns the folder, `out/logit_matching/NAME`.

    Args:
        run: run directory of the pair (None: the newest sweep in `out`, else a small pair that is trained).
        out: holds run directories and teachers.
        classes: numbers of classes of the random logits.
        main_classes: that whose random logits stand for all where one is enough.
        scale: standard deviation of the random logits.
        images: training images of the pair on which gradients are measured.
        seeds: of the students trained near the limit; 0: none are.
        epochs: their passes over the transfer set (None: as many as the pair's student had).
    """
    run = run or _newest(out) or pair_.small_pair(out)
    pair = pair_.load(run, out)
    there = len(pair.data.dataset.train.images)
    require(images <= there, f"--images {images} is more than the {there:,} training images")
    folder = out / "logit_matching" / run.resolve().name
    run_directory.make_folder(folder)
    begin = time.perf_counter()
    rows = [*measurements.random_rows(classes, main_classes, scale), *measurements.pair_rows(pair, images)]
    seconds = time.perf_counter() - begin
    note = f"Pair: {pair.where}. Gradients on {images:,} of its training images, in {seconds:.0f} s."
    numbers = _write(folder, rows, note, main_classes)
    say(f"gradients: {seconds:.0f} s")
    if seeds:
        begin = time.perf_counter()
        for measure in training.train(pair, seeds, epochs):
            rows.append(Row("training", measure.optimizer, measure.name, *measure[2:]))
        rates = ", ".join(f"{rate:g} ({name})" for name, rate in training.RATES.items())
        recipe = f"{epochs or pair.config.epochs} epochs, batch {pair.config.batch_size}, peak rates {rates}"
        note += f" Students: seeds 0 to {seeds - 1}, {recipe}, in {clock(time.perf_counter() - begin)}."
        numbers = _write(folder, rows, note, main_classes)
    figures.draw(folder, numbers, pair.where, classes, main_classes, scale)
    say(f"written: {folder}")
    return folder


def _write(folder: Path, rows: list[Row], note: str, main_classes: int) -> Numbers:
    """Writes the table and the summary of what has been measured so far."""
    numbers = Numbers(rows)
    write_csv(folder / "logit_matching.csv", numbers.table, digits=9)
    write_whole(folder / "summary.md", claims.summary(numbers, note, main_classes))
    return numbers


def _newest(out: Path) -> Path | None:
    any_run = any((out / "temperature_sweep").glob("*/results.csv"))
    return run_directory.latest_run(out, "temperature_sweep") if any_run else None
