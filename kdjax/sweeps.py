"""A sweep: a grid of settings as blocks, its teacher, its run directory."""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kdjax import (
    cluster,
    datasets,
    earlier_blocks,
    examples,
    memory,
    metrics,
    models,
    objectives,
    run_directory,
    scheduling,
    students,
    teachers,
)
from kdjax.compilation import fixed_numerics
from kdjax.config import AFTER_NORM, DataConfig, RunConfig, SweepConfig, TeacherConfig, TrainConfig, numerics
from kdjax.datasets import Dataset, GivenTeacher
from kdjax.datasets.splits import MOST_T, NO_MASS
from kdjax.errors import require, require_option
from kdjax.files import write_arrays
from kdjax.identity import identity
from kdjax.interim import Interim
from kdjax.objectives import Objective
from kdjax.progress import say
from kdjax.provenance import provenance
from kdjax.run_directory import FEATURES, RunDirectory
from kdjax.run_folders import run_folder, span
from kdjax.students import Block, Run
from kdjax.teachers import Teacher
from kdjax.transfer import DistillationData, TransferSpec, given_logits, query_teachers

EPOCHS = {"mnist5k": 40}
"""Default epochs of a student, by dataset; elsewhere 20. Small datasets have fewer steps per epoch."""
OWN_STEPS, MOST_OWN_EPOCHS = 1_000, 200
"""Of a user's file: as many epochs as make so many steps, between those and so many."""
TEACHER_EPOCHS = {"mnist5k": 80}
"""Default epochs of a teacher; elsewhere 30."""
MOST_EXTENSIONS = 3
"""Times a grid of learning rates is widened because the best lies at its edge."""


class Sweep(NamedTuple):
    """A grid of blocks that is ready to train: a config resolved against its data."""

    config: Any
    """`SweepConfig`, or that of another experiment."""
    dataset: Dataset
    teacher_config: TrainConfig | None
    """Its recipe; None: it came with the data."""
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
        """The absent blocks that share this machine's memory in training; 0 where other machines train them."""
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


def student_epochs(dataset: Dataset, batch_size: int) -> int:
    """Default epochs of a student."""
    if dataset.name in datasets.names():
        return EPOCHS.get(dataset.name, 20)
    steps = max(len(dataset.train.images) // batch_size, 1)
    return min(max(-(-OWN_STEPS // steps), 20), MOST_OWN_EPOCHS)


def teacher_epochs(dataset: Dataset) -> int:
    """Default epochs of a teacher."""
    own = max(30, student_epochs(dataset, TeacherConfig.batch_size))
    return TEACHER_EPOCHS.get(dataset.name, 30) if dataset.name in datasets.names() else own


def grid(config: SweepConfig, rate: float) -> list[list[Run]]:
    """The runs of a sweep at one learning rate, in groups that share a program: each temperature (once, where it is not
    used) for every objective of one name, whatever its hyper-parameters; hard labels are in the first."""
    groups: dict[str, list[Run]] = {}
    for objective in map(objectives.parse, config.objectives):
        temperatures = config.temperatures if objective.uses_temperature else (math.nan,)
        settings = itertools.product(config.soft_weights, temperatures)
        of_name = groups.setdefault(objective.name, [])
        of_name += [Run(str(objective), temperature, weight, rate) for weight, temperature in settings]
    hard = [Run("hard", math.nan, 0.0, rate)] if config.hard_labels else []
    first, *others = groups.values() or [[]]
    return [[*hard, *first], *others]


def plan(config: SweepConfig, epochs: int, images: int, rates: Sequence[float] = ()) -> list[Block]:
    """The blocks of a sweep, in order. K is fixed by the config: at most `block_size`, less only for a group that has
    fewer runs; a group's last block is padded, not smaller. `epochs` are those of a student where the config gives
    none, `images` the number of training images. `rates` stand in place of the config's learning rates; a further rate
    adds blocks and changes none. With `own_rates` a block holds runs of several rates."""
    transfer = TransferSpec(config.targets, config.transfer_images)
    grids = {f"rate{rate:.9g}": grid(config, rate) for rate in rates or config.rates()}
    if config.own_rates:
        pairs = zip(grid(config, 1.0)[0], config.rates(), strict=True)
        grids = {"own-rates": [[run._replace(learning_rate=rate) for run, rate in pairs]]}
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    blocks = []
    for width, seed, (rate, groups) in itertools.product(config.widths, seeds, grids.items()):
        sized = [(runs, min(config.block_size, len(runs))) for runs in groups]
        parts = [(runs[i : i + size], size) for runs, size in sized for i in range(0, len(runs), size)]
        for index, (runs, size) in enumerate(parts):
            last = runs[-1].objective
            objective = "kd" if last == "hard" else objectives.parse(last).name
            name, student = f"width{width}-seed{seed}-{rate}-{index}", config.student(width, epochs)
            block = Block(name, width, student, seed, tuple(runs), size, config.transfer_images or images, transfer)
            blocks.append(block._replace(objective=objective, monitor_every=config.monitor_every))
    return blocks


def read_data(config: DataConfig) -> Dataset:
    """The images, and a line that says which."""
    dataset = datasets.load(config)
    say_data(dataset)
    return dataset


def say_data(dataset: Dataset) -> None:
    """Says which images are used."""
    say(f"data: {dataset.description}" + (f"; for the full set: {dataset.hint}" if dataset.hint else ""))


def find_teachers(
    config: TeacherConfig, folders: Sequence[Path], dataset: Dataset, run: RunConfig
) -> tuple[TrainConfig | None, tuple[Teacher, ...], list[str]]:
    """A teacher's recipe (None: it came with the data), the teachers that the user named, and the fingerprints of those
    that students learn from.

    Raises BadInput: a teacher that cannot be loaded, does not fit, or saw the hold-out; a recipe that cannot be trained
    on these images, or that is given beside a teacher.
    """
    if dataset.teacher is not None:
        there = f"the teacher of {dataset.name} came with the data, and no other is loaded or trained"
        require(not folders, f"--teacher-from is not allowed: {there}; leave it out, or the teacher's columns")
        require(config == TeacherConfig(), f"--teacher options are not allowed: {there}; leave them out")
        return None, (), [dataset.teacher.fingerprint]
    refused = "--teacher options are not allowed with --teacher-from"
    given = f"{refused}: teachers are either given or trained; leave out one of them"
    require(not folders or config == TeacherConfig(), given)
    if len(dataset.input_shape) == 1:
        config = dataclasses.replace(config, jitter=0)  # which is a teacher's default, and shifts images
    recipe = config.train_config(teacher_epochs(dataset))
    if named := tuple(teachers.load(folder, dataset) for folder in folders):
        for teacher in named:
            unseen = not len(dataset.holdout.images) or teacher.info.get("data") == dataset.fingerprint
            reason = "a choice on a hold-out needs a teacher that never saw it"
            remedy = f"{reason}; give the --holdout of its own training, or leave out --teacher-from"
            require(unseen, f"{teacher.folder} was not trained on these training images less the hold-out: {remedy}")
            teachers.warn_of_differences(teacher)
        return recipe, named, [teacher.info["fingerprint"] for teacher in named]
    _require_images_to_change("teacher.augment", config.augment != "none", dataset)
    _require_images("teacher.batch-size", config.batch_size, dataset)
    _require_jitter("teacher.jitter", config.jitter, dataset)
    models.network(recipe, dataset.input_shape, dataset.num_classes)
    name = teachers.fingerprint(recipe, config.learning_rate, config.seed, dataset)
    if not teachers.place(run.out, name).exists():
        scheduling.require_devices("teacher.devices", config.devices)
    return recipe, (), [name]


def _require_images(option: str, number: int, dataset: Dataset) -> None:
    count = len(dataset.train.images)
    require(number <= count, f"--{option} {number} is more than the {count:,} training images")


def _require_classes(transfer_images: int | None, dataset: Dataset) -> None:
    """Refuses a transfer set of one class, and warns of one without all classes: its images are the first ones."""
    first, there = np.unique(dataset.train.labels[:transfer_images]), np.unique(dataset.train.labels)
    about = f"the first {transfer_images} training rows are of {len(first):,} of the {len(there):,} classes"
    mixed = "if they are sorted by class, shuffle them first"
    require(transfer_images is None or len(first) > 1, f"--transfer-images is not allowed: {about}; {mixed}")
    if len(first) < len(there):
        say(f"warning: {about}; {mixed}")


def _require_images_to_change(option: str, changes: object, dataset: Dataset) -> None:
    features = f"--{option} is not allowed: it changes images, and {dataset.name} has features; leave it out"
    require(not changes or len(dataset.input_shape) == 3, features)


def _require_jitter(option: str, pixels: int, dataset: Dataset) -> None:
    _require_images_to_change(option, pixels, dataset)
    side = min(dataset.input_shape[:2])
    require_option(pixels < side, option, pixels, f"images of {side} pixels a side are shifted by less than that")


def _require_own_start(
    blocks: Sequence[Block], recipe: TrainConfig | None, seed: int, loaded: Sequence[Teacher]
) -> None:
    """Refuses students that would start from a teacher's own initial weights: those of its network and seed. Warns of
    other students of its seed, which see its batches and augmented images, and may start from a part of its weights:
    the first layer of a narrower perceptron is the first rows of a wider one's."""
    taken = {(_layers(one.config), one.info.get("seed")) for one in loaded}
    if recipe is not None and not loaded:
        taken = {(_layers(recipe), seed)}
    remedy = "give another --teacher.seed, such as 1000, or a teacher that was trained with one"
    for block in blocks:
        about = f"the student of seed {block.seed} would start from its teacher's own initial weights"
        same = f"{about}, as both are {block.config.network} of width {block.width}: {remedy}"
        require((_layers(block.config), block.seed) not in taken, same)
    taught = {block.seed for block in blocks if any(run.objective != "hard" for run in block.runs)}
    if shared := sorted(taught & {seed for _, seed in taken}):
        seeds = ", ".join(map(str, shared))
        about = f"students and their teacher share the random numbers of seed {seeds} (batches, augmentation, perhaps"
        _warn(f"{about} initial weights): give another --teacher.seed, or --first-seed")


@functools.cache  # once for all sweeps of a table
def _warn(about: str) -> None:
    say(f"warning: {about}")


def _layers(config: TrainConfig) -> tuple[str, tuple[int, ...]]:
    """What fixes the shapes of a network's weights."""
    return config.network.removesuffix(AFTER_NORM), config.hidden


def check_blocks(
    blocks: Sequence[Block], recipe: TrainConfig | None, seed: int, loaded: Sequence[Teacher], dataset: Dataset
) -> None:
    """Refuses students that cannot be built, and that would start as their teacher did. `recipe` and `seed` are of the
    teacher that is trained where none is `loaded`."""
    _require_own_start(blocks, recipe, seed, loaded)
    for config in dict.fromkeys(block.config for block in blocks):
        models.network(config, dataset.input_shape, dataset.num_classes)


def require_room(sweep: Sweep) -> None:
    """Refuses what needs more memory or disk than there is, of what is left to train."""
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
    """Reads the data, resolves the defaults that depend on them, and refuses what cannot work, before any training.
    `dataset` is that of `config.data`, where it has been read before; `parent` the folder that holds the run directory
    (default: that of the experiment)."""
    check_run(config.run)
    config = with_checked_objectives(config)
    dataset = dataset or read_data(config.data)
    config = with_baselines(config, dataset)
    _require_images("transfer-images", config.transfer_images or 0, dataset)
    _require_classes(config.transfer_images, dataset)
    _require_images("batch-size", config.batch_size, dataset)
    _require_jitter("jitter", config.jitter, dataset)
    _require_images_to_change("augment", config.augment != "none", dataset)
    _require_images_to_change("targets shift_averaged", config.targets == "shift_averaged", dataset)
    if dataset.teacher is not None:
        _require_given(config, dataset.name, dataset.teacher)
    recipe, loaded, fingerprints = find_teachers(config.teacher, config.teacher_from, dataset, config.run)
    blocks = plan(config, student_epochs(dataset, config.batch_size), len(dataset.train.images))
    check_blocks(blocks, recipe, config.teacher.seed, loaded, dataset)
    resolved: dict[str, Any] = {"epochs": blocks[0].config.epochs, "learning_rates": config.rates()}
    if once := [text for text in config.objectives if not objectives.parse(text).uses_temperature]:
        resolved["without_temperature"] = once  # before there was such a thing, they were trained at each temperature
    swept = [len(runs) for runs in grid(config, 1.0) if not math.isnan(runs[-1].temperature)]
    if len({min(config.block_size, runs) for runs in swept}) > 1:
        resolved["padded"] = False  # before, K was that of the largest group that is trained at each temperature
    facts = identity(experiment, config, dataset.identity(), numerics(config.network), fingerprints, **resolved)
    folder = run_folder(parent or config.run.out / experiment, config.run.name, facts, _words(config, dataset))
    sweep = Sweep(config, dataset, recipe, loaded, blocks, facts, folder)
    require_room(sweep)
    return sweep


def _require_given(config: SweepConfig, name: str, given: GivenTeacher) -> None:
    """Refuses what a teacher of which there are logits alone cannot do, or not such logits."""
    asked = f"the teacher of {name} came with the data, as logits: there is no network to ask about other images"
    for option, changes in (
        ("jitter", config.jitter),
        ("augment", config.augment != "none"),
        (f"targets {config.targets}", config.targets in ("shift_averaged", "random")),
    ):
        require(not changes, f"--{option} is not allowed: {asked}; leave it out")
    for objective in map(objectives.parse, config.objectives):
        counts = f"--objectives {objective} is not allowed: a constant added to all logits changes it"
        known = given.kind == "logits" or objective.shift_invariant
        require(known, f"{counts}, and {given.kind} do not tell it; give teacher_logits, or leave it out")
    if given.renormalised:
        finite = [min(t, MOST_T) for t in (*config.temperatures, config.last_temperature)]
        allowed = f"with --topk-rest renormalised it is {MOST_T:g} at most, as classes without mass have no limit"
        require_option(max(config.temperatures) <= MOST_T, "temperatures", max(config.temperatures), allowed)
        for objective in map(objectives.parse, config.objectives):
            reason = "it depends on the logits of classes that have no mass with --topk-rest renormalised"
            ignores = all(_ignores_absent(objective, t) for t in (min(finite), max(finite)))
            require(ignores, f"--objectives {objective} is not allowed: {reason}; give spread, or leave it out")


@fixed_numerics()
def _ignores_absent(objective: Objective, temperature: float) -> bool:
    """Whether a loss is the same wherever the logits of classes without mass lie."""
    random = np.random.default_rng(0)
    student, teacher = random.normal(0, 2, (2, 4, 6)).astype(np.float32)
    values = []
    for below in (NO_MASS, NO_MASS / 8):
        teacher[:, 4:] = -below
        values.append(np.asarray(objective.loss(student, teacher, np.arange(4), temperature)))
    return bool(np.allclose(values[0], values[1], rtol=1e-3))


def _words(config: SweepConfig, dataset: Dataset) -> list[str]:
    """What a sweep's default name says of it: data, students, temperatures."""
    network = "" if config.network == "mlp" else config.network
    words = [dataset.name, span(config.widths, network)]
    if not config.objectives:
        return [*words, "hard"]
    parsed = {one.name: one for one in map(objectives.parse, config.objectives)}
    temperatures = [span(config.temperatures, "T")] * any(one.uses_temperature for one in parsed.values())
    named = [name for name, one in parsed.items() if not one.baseline] or list(parsed)
    return [*words, *(named if named != ["kd"] else ()), *temperatures]


def with_checked_objectives(config: SweepConfig) -> SweepConfig:
    """The config with each objective in the one way to write it, which names its runs. Raises BadInput: an objective
    that is unknown, named twice, cannot be trained on such batches or by Adam, or has no limit where a temperature is
    inf."""
    parsed = [objective for text in config.objectives for objective in objectives.parse_each(text)]
    names = tuple(map(str, parsed))
    require(len(set(names)) == len(names), "--objectives names one twice: give each once")
    for objective in parsed:
        if max(config.temperatures) == math.inf:
            objective.require_limit()
        reason = "Adam divides the size of its steps out again"
        sgd = config.optimizer != "adam" or not objective.for_sgd
        require(sgd, f"--objectives {objective} is for --optimizer sgd: {reason}")
        objectives.loss_of(objective.name, min(config.batch_size, 2))  # one is too few for some
    return dataclasses.replace(config, objectives=names)


def with_baselines(config: SweepConfig, dataset: Dataset) -> SweepConfig:
    """The config with the registry's baselines among its objectives, where `--baselines` says so; by default, where the
    dataset came with its teacher and something is to be compared with hard labels. A baseline that is named already is
    not named again."""
    compared = bool(config.objectives) and config.hard_labels and not config.own_rates
    default = compared and dataset.teacher is not None
    if not (default if config.baselines is None else config.baselines):
        return config
    named = {objectives.parse(text).name for text in config.objectives}
    missing = sorted(name for name, one in objectives.OBJECTIVES.items() if one.baseline and name not in named)
    return with_checked_objectives(dataclasses.replace(config, objectives=(*config.objectives, *missing)))


def run(sweep: Sweep, summarise: Callable[[Path], object] | None = None, wait: bool = False) -> Path:
    """Finds or trains the teacher, trains each block that is not there yet, writes the tables; returns the folder.
    `summarise(folder)` writes a summary of what the tables hold so far: it is called now and then. With `wait`, a
    process that has the folder is waited for. Raises Busy: another process has it."""
    config = sweep.config
    with open_directory(sweep, wait) as record:
        record.after_block = Interim(record, lambda: record.gather(record.whole), summarise)
        data = ask_teacher(sweep)
        describe(record, config, sweep.dataset, teachers=_evaluate_teachers(data, sweep.dataset, config))
        _write_test_images(record, data)
        rates, blocks = config.rates(), sweep.blocks
        for extension in range(MOST_EXTENSIONS + 1):
            train(blocks, data, record, sweep.run)
            results = record.rows_of(record.whole)  # not written: the rates of later rounds may be there, too
            further = () if config.own_rates else wider(results, rates)
            if not further:
                break
            if extension == MOST_EXTENSIONS:
                say("the best learning rate still lies at an edge of the grid: give other --learning-rates")
                break
            added = ", ".join(f"{rate:g}" for rate in further)
            say(f"the best learning rate lies at an edge of the grid: adding {added}")
            rates = (*rates, *further)
            blocks = plan(config, blocks[0].config.epochs, len(sweep.dataset.train.images), rates)
        _write_test_images(record, data, record.whole)
        record.write_tables()
    return sweep.folder


@contextlib.contextmanager
def open_directory(sweep: Sweep, wait: bool = False) -> Iterator[RunDirectory]:
    """The sweep's run directory, locked; arguments as those of `run`."""
    with run_directory.opened(sweep.folder, sweep.identity, sweep.run.fresh, students.row_schema(), wait) as record:
        record.note_progress(None, len(sweep.blocks))
        yield record


def ask_teacher(sweep: Sweep) -> DistillationData:
    """The dataset with its teacher's logits: those that came with it, or of one that is found or trained."""
    if sweep.dataset.teacher is not None:
        return given_logits(sweep.dataset)
    return query_teachers(sweep.dataset, train_teacher(sweep))


def train_teacher(sweep: Sweep) -> tuple[Teacher, ...]:
    """The teachers of `--teacher-from`, or the sweep's own, found or trained."""
    if sweep.loaded:
        return sweep.loaded
    recipe, where = sweep.config.teacher, (sweep.run.out, sweep.run.checkpoint_seconds)
    config, rate = sweep.teacher_config, recipe.learning_rate
    assert config is not None
    return (teachers.find_or_train(config, rate, recipe.seed, sweep.dataset, *where),)


def describe(record: RunDirectory, config: Any, dataset: Dataset, **details: Any) -> None:
    """Writes what else is worth knowing of a sweep or a study into its `config.json`."""
    record.describe({**provenance(), "config": config, "hint": dataset.hint, **details})


def train(blocks: Sequence[Block], data: DistillationData, record: RunDirectory, run: RunConfig) -> None:
    """Trains every block that the run directory does not hold yet, or resumes it, where `run` says. What an earlier run
    beside it has finished is taken over (`earlier_blocks`)."""
    record.note_progress(None, len(blocks))
    record.made_with = earlier_blocks.circumstances(data) if run.cluster is None else None
    earlier_blocks.take_over(record, [block.name for block in blocks])
    (scheduling.train if run.cluster is None else cluster.train)(blocks, data, record, run)


def wider(results: Any, rates: Sequence[float]) -> tuple[float, ...]:
    """Learning rates to add to `rates` because, for some setting, the hold-out's choice lies at an edge of the grid.
    One grid for all: what one temperature or the baseline needs, every one gets. An edge is moved out by the step of
    the grid there. Without a hold-out, or with a single rate, nothing is chosen and nothing is added."""
    if "holdout_errors" not in results or len(rates) < 2:
        return ()
    setting = ["width", "objective", "temperature", "soft_weight"]
    errors = results["holdout_errors"].where(results["failed_at"] < 0, float("inf"))
    groups = results.assign(errors=errors).groupby(setting, dropna=False)
    chosen = [runs.groupby("learning_rate")["errors"].mean().idxmin() for _, runs in groups]
    ordered = sorted(rates)
    below = [ordered[0] ** 2 / ordered[1]] if min(chosen) <= ordered[0] * 1.000001 else []
    above = [ordered[-1] ** 2 / ordered[-2]] if max(chosen) >= ordered[-1] * 0.999999 else []
    return tuple(float(f"{rate:.6g}") for rate in below + above)


def _evaluate_teachers(data: DistillationData, dataset: Dataset, config: SweepConfig) -> list[dict[str, Any]]:
    """Measures of what the students learn from, the one teacher or the ensemble, first; then of its members. Of a
    teacher that came with the data also its soft targets at each T: their entropy (nats) on the test images, and the
    share of their mass on classes that were not given."""
    measures = {"test": metrics.evaluate(data.test_logits, dataset.test.labels)}
    if len(dataset.holdout.images):
        measures["holdout"] = metrics.evaluate(data.holdout_logits, dataset.holdout.labels)
    errors = {f"{split}_errors": measures.get(split, {}).get("errors") for split in ("test", "holdout")}
    report: list[dict[str, Any]] = [{"name": data.teacher, **measures, **errors}]
    if (given := dataset.teacher) is not None:
        at = [
            {"temperature": t, "entropy": metrics.entropy(given.test, t), "not_given": given.not_given(t)}
            for t in sorted(config.temperatures)
        ]
        about = {"kind": given.kind, "classes": dataset.num_classes, "kept": given.kept, "soft_targets": at}
        report[0] |= {**about, "renormalised": given.renormalised, "dropped": given.dropped}
    for teacher in data.teachers if len(data.teachers) > 1 else ():
        of_member = metrics.evaluate(teacher.logits(dataset.test.images), dataset.test.labels)
        report.append({"name": teacher.name, "test": of_member, "test_errors": of_member["errors"]})
    return report


def _write_test_images(record: RunDirectory, data: DistillationData, blocks: Iterable[str] = ()) -> None:
    """With examples to look at; once blocks are finished, those that their students get wrong too."""
    (images, labels), logits = data.dataset.test, data.test_logits
    arrays = {"labels": labels, "teacher_logits": logits, "holdout_labels": data.dataset.holdout.labels}
    kept = {"example": examples.least_sure(logits, labels)}
    if blocks:
        kept["mistake"] = examples.mistakes(logits, labels, map(record.test_logits, sorted(blocks)))
    for name, rows in kept.items():
        arrays |= {f"{name}_images": images[rows], f"{name}_rows": rows}
    write_arrays(record.folder / "test.npz", **arrays)
    if data.dataset.standardisation is not None:
        write_arrays(record.folder / FEATURES, **data.dataset.standardisation._asdict())
