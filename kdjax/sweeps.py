"""A sweep: a grid of settings as blocks, its teacher, its run directory."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdjax import (
    cluster,
    datasets,
    earlier_blocks,
    examples,
    grids,
    memory,
    objectives,
    run_directory,
    scheduling,
    students,
    sweep_checks,
    sweep_teachers,
    teachers,
)
from kdjax.config import DataConfig, RunConfig, SweepConfig, TrainConfig, numerics
from kdjax.datasets import Dataset
from kdjax.files import write_arrays
from kdjax.identity import identity
from kdjax.interim import Interim
from kdjax.progress import say, warn
from kdjax.provenance import provenance
from kdjax.run_directory import FEATURES, RunDirectory, read_logits
from kdjax.run_folders import run_folder
from kdjax.students import Block
from kdjax.teachers import Teacher
from kdjax.transfer import DistillationData, given_logits, query_teachers

MOST_EXTENSIONS = 3
"""Times a grid of learning rates is widened because the best lies at its edge."""


class Sweep(NamedTuple):
    """A grid of blocks that is ready to train: a config resolved against its data."""

    config: Any
    """`SweepConfig`, or that of another experiment."""
    dataset: Dataset
    teacher_config: TrainConfig | None
    """The recipe of the teacher that is found or trained; None: it was named, or came with the data."""
    loaded: tuple[Teacher, ...]
    """Teachers that the user named; none: one is found or trained, or came with the data."""
    blocks: list[Block]
    identity: dict[str, Any]
    """What fixes the results: it names the run directory and must not change under the same name."""
    folder: Path

    @property
    def run(self) -> RunConfig:
        """Where to run and what to write."""
        options: RunConfig = self.config.run
        return options

    @property
    def has_teacher(self) -> bool:
        """Whether no teacher is to be trained: it is there, or came with the data."""
        if self.dataset.teacher is not None or self.loaded:
            return True
        return teachers.place(self.run.out, self.identity["teachers"][0]).exists()

    @property
    def at_once(self) -> int:
        """How many of the absent blocks train at once in this machine's memory; 0 where other machines train them."""
        return scheduling.at_once(self.run, len(self.absent))

    @property
    def absent(self) -> list[Block]:
        """The blocks that are not there yet."""
        return [one for one in self.blocks if self.run.fresh or not (self.folder / "blocks" / one.name).exists()]

    @property
    def missing(self) -> list[Block]:
        """The blocks that are to be trained: those absent that no earlier run beside this one has finished."""
        absent = self.absent
        if not absent or self.run.fresh or self.run.cluster:
            return absent
        names, made_with = [block.name for block in absent], earlier_blocks.circumstances()
        found = earlier_blocks.find(self.folder, self.identity, names, students.row_schema(), made_with)
        return [block for block in absent if block.name not in found]


def read_data(config: DataConfig) -> Dataset:
    """Loads the dataset and says which it is."""
    dataset = datasets.load(config)
    say_data(dataset)
    return dataset


def say_data(dataset: Dataset) -> None:
    """Says which images are used."""
    say(f"data: {dataset.description}" + (f"; for the full set: {dataset.hint}" if dataset.hint else ""))


def require_startable(sweep: Sweep) -> None:
    """Refuses a sweep whose run directory is of another config, or of which what is not there yet needs more memory or
    disk than there is."""
    RunDirectory(sweep.folder).config_file.check(sweep.identity, sweep.run.fresh)
    absent, teacher = sweep.absent, None if sweep.has_teacher else sweep.teacher_config
    memory.require_enough(absent, teacher, sweep.dataset, sweep.at_once)
    memory.require_disk(absent, sweep.dataset, sweep.run.out)


def check_run(run: RunConfig) -> None:
    """Refuses devices that do not exist, and a cluster that does not answer."""
    if run.cluster is not None:
        cluster.check(run)  # first: it leaves the memory of accelerators to workers
    scheduling.require_devices("devices", run.devices or 1)


def prepare(
    config: SweepConfig,
    experiment: str = "temperature_sweep",
    dataset: Dataset | None = None,
    parent: Path | None = None,
) -> Sweep:
    """Reads the data, resolves the defaults that depend on them, and refuses what cannot work, before any training; a
    run directory of another config, too. `dataset` is that of `config.data`, where it has been read before; `parent`
    the folder that holds the run directory (default: that of the experiment)."""
    check_run(config.run)
    config = grids.with_checked_objectives(config)
    dataset = dataset or read_data(config.data)
    config = grids.with_baselines(config, dataset)
    sweep_checks.require_fit(config, dataset)
    recipe, loaded, fingerprints = sweep_teachers.find(config.teacher, config.teacher_from, dataset, config.run)
    blocks = grids.plan(config, grids.student_epochs(dataset, config.batch_size), len(dataset.train.images))
    sweep_checks.check_blocks(blocks, recipe, config.teacher.seed, loaded, dataset)
    resolved: dict[str, Any] = {"epochs": blocks[0].config.epochs, "learning_rates": config.rates()}
    if once := [text for text in config.objectives if not objectives.parse(text).uses_temperature]:
        resolved["without_temperature"] = once  # only where there is one: other sweeps keep their names
    swept = [len(runs) for runs in grids.grid(config, 1.0) if not math.isnan(runs[-1].temperature)]
    if len({min(config.block_size, runs) for runs in swept}) > 1:
        resolved["padded"] = False  # only where sizes of groups differ: other sweeps keep their names
    facts = identity(experiment, config, dataset.identity(), numerics(config.network), fingerprints, **resolved)
    folder = run_folder(parent or config.run.out / experiment, config.run.name, facts, grids.words(config, dataset))
    sweep = Sweep(config, dataset, recipe, loaded, blocks, facts, folder)
    require_startable(sweep)
    return sweep


def run(sweep: Sweep, summarise: Callable[[Path], object] | None = None, wait: bool = False) -> Path:
    """Finds or trains the teacher, trains each block that is not there yet, writes the tables; returns the folder.
    `summarise(folder)` writes a summary of what the tables hold so far: it is called now and then. With `wait`, a
    process that has the folder is waited for. Raises Busy: another process has it."""
    config = sweep.config
    with open_directory(sweep, wait) as record:
        record.after_block = Interim(record, record.gather, summarise)
        data = distillation_data(sweep)
        sweep_teachers.require_same(record, data)
        describe(record, config, sweep.dataset, teachers=sweep_teachers.evaluate(data, sweep.dataset, config))
        _write_test_images(record, data)
        rates, blocks = config.rates(), sweep.blocks
        for extension in range(MOST_EXTENSIONS + 1):
            train(blocks, data, record, sweep.run)
            results = record.rows_of(record.whole)  # not written: the rates of later rounds may be there, too
            further = () if config.own_rates else grids.wider(results, rates)
            if not further:
                break
            if extension == MOST_EXTENSIONS:
                warn("the best learning rate still lies at an edge of the grid: give other --learning-rates")
                break
            added = ", ".join(f"{rate:g}" for rate in further)
            say(f"the best learning rate lies at an edge of the grid: adding {added}")
            rates = (*rates, *further)
            blocks = grids.plan(config, blocks[0].config.epochs, len(sweep.dataset.train.images), rates)
        _write_test_images(record, data, record.whole)
        record.write_tables()
    return sweep.folder


@contextlib.contextmanager
def open_directory(sweep: Sweep, wait: bool = False) -> Iterator[RunDirectory]:
    """The sweep's run directory, locked; arguments as those of `run`."""
    with run_directory.opened(sweep.folder, sweep.identity, sweep.run.fresh, students.row_schema(), wait) as record:
        record.config_file.note_progress(None, len(sweep.blocks))
        yield record


def distillation_data(sweep: Sweep) -> DistillationData:
    """The dataset with its teacher's logits: those that came with it, or of one that is found or trained."""
    if sweep.dataset.teacher is not None:
        return given_logits(sweep.dataset)
    return query_teachers(sweep.dataset, teachers_of(sweep))


def teachers_of(sweep: Sweep) -> tuple[Teacher, ...]:
    """The teachers of `--teacher-from`, or the sweep's own, found or trained."""
    if sweep.loaded:
        return sweep.loaded
    recipe, where = sweep.config.teacher, (sweep.run.out, sweep.run.checkpoint_seconds)
    config, rate = sweep.teacher_config, recipe.rate
    assert config is not None
    return (teachers.find_or_train(config, rate, recipe.seed, sweep.dataset, *where),)


def describe(record: RunDirectory, config: Any, dataset: Dataset, **details: Any) -> None:
    """Writes what else is worth knowing of a sweep or a study into its `config.json`."""
    record.config_file.describe({**provenance(), "config": config, "hint": dataset.hint, **details})


def train(blocks: Sequence[Block], data: DistillationData, record: RunDirectory, run: RunConfig) -> None:
    """Trains every block that the run directory does not hold yet, or resumes it, where `run` says. What an earlier run
    beside it has finished is taken over (`earlier_blocks`)."""
    record.config_file.note_progress(None, len(blocks))
    record.made_with = earlier_blocks.circumstances(data) if run.cluster is None else None
    earlier_blocks.take_over(record, [block.name for block in blocks])
    (scheduling.train if run.cluster is None else cluster.train)(blocks, data, record, run)


def _write_test_images(record: RunDirectory, data: DistillationData, blocks: Iterable[str] = ()) -> None:
    """With examples to look at; once blocks are finished, those that their students get wrong too."""
    (images, labels), logits = data.dataset.test, data.test_logits
    arrays = {"labels": labels, "teacher_logits": logits, "holdout_labels": data.dataset.holdout.labels}
    kept = {"example": examples.least_sure(logits, labels)}
    if blocks:
        of_blocks = (read_logits(record.folder / "blocks" / block, "test") for block in sorted(blocks))
        kept["mistake"] = examples.mistakes(logits, labels, of_blocks)
    for name, rows in kept.items():
        arrays |= {f"{name}_images": images[rows], f"{name}_rows": rows}
    write_arrays(record.folder / "test.npz", **arrays)
    if data.dataset.standardisation is not None:
        write_arrays(record.folder / FEATURES, **data.dataset.standardisation._asdict())
