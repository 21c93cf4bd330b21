"""What does a student know of a digit it never saw? `python -m experiments.omit_digit --digit 3`

Hinton et al. 2015, Section 3: the teacher learns all digits, the student only others, from soft targets; then one bias
is raised. Beside the distilled student stand the controls that show where its knowledge comes from, and beside the
bias chosen on the test set (`oracle`) three that are not. `--keep 7 8` is the paper's other row, `--each` all digits.

The pool (`--holdout`) is cut from the training set before anything else: neither teacher nor student is trained on it
(except the student `with_pool`), so this teacher is not the temperature sweep's. Test images are never in the pool.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.omission.config import EPOCHS, FEW, POOL, SMALL, WIDTH, OmitConfig
from kdjax import cli
from kdjax.config import TrainConfig, numerics
from kdjax.errors import require
from kdjax.identity import identity

if TYPE_CHECKING:
    from kdjax.sweeps import Sweep

PROG = "python -m experiments.omit_digit"


def prepare(config: OmitConfig) -> "Sweep":
    """Reads the data, settles the defaults that depend on them, and refuses what cannot work, before any training.

    The dataset's hold-out is the pool.
    """
    from kdjax import datasets, omission, students, sweep_checks, sweep_teachers, sweeps
    from kdjax.run_folders import run_folder, span

    datasets.require_named(config.data, "omit_digit")
    sweeps.check_run(config.run)
    dataset = datasets.load(config.data)
    small = dataset.name == SMALL
    if not config.data.holdout:
        data = dataclasses.replace(config.data, dataset=dataset.name, holdout=POOL[small])
        dataset = dataclasses.replace(datasets.load(data), hint=dataset.hint)
    sweeps.say_data(dataset)
    tasks = config.tasks(dataset.num_classes)
    for what, split in (("training", dataset.train), ("pool", dataset.holdout), ("test", dataset.test)):
        missing = sorted(set(range(dataset.num_classes)) - set(split.labels.tolist()))
        require(
            not missing,
            f"the {len(split.labels):,} {what} images hold none of class {', '.join(map(str, missing))}: "
            "give more with --train-images or --holdout",
        )
    recipe, loaded, fingerprints = sweep_teachers.find(config.teacher, config.teacher_from, dataset, config.run)
    count = len(dataset.train.images)

    def student(images: int) -> TrainConfig:
        return config.student(WIDTH[small], EPOCHS[small] * (FEW if images < count / 2 else 1))

    runs = [students.Run("kd", value, config.soft_weight, config.learning_rate) for value in config.temperatures]
    blocks = omission.plan(tasks, config.chosen(), runs, config.seeds, dataset, student, config.targets)
    sweep_checks.check_blocks(blocks, recipe, config.teacher.seed, loaded, dataset)
    resolved = {
        "omitted": tasks,
        "students": config.chosen(),
        "width": blocks[0].width,
        "epochs": {block.name: block.config.epochs for block in blocks if block.seed == 0},
    }
    facts = identity("omit_digit", config, dataset.identity(), numerics("mlp"), teachers=fingerprints, **resolved)
    words = [dataset.name, name_tasks(tasks, dataset.num_classes), span(config.temperatures, "T")]
    folder = run_folder(config.run.out / "omit_digit", config.run.name, facts, words)
    sweep = sweeps.Sweep(config, dataset, recipe, loaded, blocks, facts, folder)
    sweeps.require_startable(sweep)
    return sweep


def name_tasks(tasks: Sequence[tuple[int, ...]], num_classes: int) -> str:
    """What is omitted, for a run's default name: `digit3`, `digits3-5`, `keep7-8`, `each`."""
    if len(tasks) > 1:
        return "each"
    (omitted,) = tasks
    kept = [value for value in range(num_classes) if value not in omitted]
    shown = kept if len(kept) < len(omitted) else omitted
    before = "keep" if shown is kept else "digit" if len(omitted) == 1 else "digits"
    return before + "-".join(map(str, shown))


def run(sweep: "Sweep", summarise: Callable[[Path], object] | None = None) -> Path:
    """Finds or trains the teacher, trains each block that is not there yet, writes the rows; returns the folder.
    `summarise(folder)` is called now and then, as by `sweeps.run`, once there are rows."""
    from kdjax import corrections, run_directory, sweep_teachers, sweeps, transfer
    from kdjax.interim import Interim

    def of_rows(folder: Path) -> None:  # the first student may need several blocks
        if summarise and (folder / "results.csv").exists():
            summarise(folder)

    with sweeps.open_directory(sweep) as record:
        data = transfer.query_teachers(sweep.dataset, sweeps.teachers_of(sweep))
        sweep_teachers.require_same(record, data)
        sweeps.describe(record, sweep.config, sweep.dataset, teacher=data.teacher)
        corrections.write_images(sweep.folder, data)
        write = functools.partial(corrections.write_results, sweep.folder, sweep.blocks)
        record.after_block = Interim(record, write, of_rows)
        sweeps.train(sweep.blocks, data, record, sweep.run)
        write(record.whole)
        record.seal(run_directory.SEALED)
    return sweep.folder


def main(config: OmitConfig) -> None:
    """Trains the students (or resumes), draws the figures and prints the table."""
    from analysis.omission import figures, table  # late, so that --help is quick
    from experiments import study
    from kdjax import forecast

    running = functools.partial(run, summarise=table.write_summary)
    shorter = "--dataset mnist5k, fewer --seeds, or --students without pairs"
    study.execute(prepare(config), running, forecast.of_sweep, table.write_summary, figures.draw, shorter)


if __name__ == "__main__":
    cli.run(main, OmitConfig, PROG)
