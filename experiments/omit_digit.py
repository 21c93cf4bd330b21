"""What does a student know of a digit it never saw? `python -m experiments.omit_digit --digit 3`

Hinton et al. 2015, Section 3: the teacher learns all digits, the student only others, from soft targets; then one bias
is raised. Beside the distilled student stand the controls that show where its knowledge comes from, and beside the
bias chosen on the test set three that are not. On two cores the default takes 35 minutes with full MNIST once its
teacher is trained, and under 2 with the bundled 5,000 digits, teacher and all. `--keep 7 8` is the paper's other row,
`--each` all ten digits.

The pool (`--holdout`) is cut from the training set before anything else: neither teacher nor student is trained on it
(but for the student `with_pool`), so this teacher is not the temperature sweep's. Test images are never the pool.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

import tyro

from kdjax import cli
from kdjax.config import CHECKPOINT_SECONDS, NUMERICS, DataConfig, Targets, TeacherConfig, TrainConfig, WhereConfig
from kdjax.errors import require, require_distinct, require_name, require_positive, require_temperature

if TYPE_CHECKING:
    from kdjax import omission
    from kdjax.datasets import Dataset
    from kdjax.teachers import Teacher

PROG = "python -m experiments.omit_digit"

Student = Literal["distilled", "all_digits", "control", "permuted", "mean_logit", "with_pool", "pairs", "control_pairs"]
STUDENTS: tuple[Student, ...] = get_args(Student)
EACH: tuple[Student, ...] = ("distilled", "all_digits", "control", "pairs")
"""With `--each`: a student without {3, 5} is a pair of both, so that all pairs cost half."""
SMALL = "mnist5k"
POOL = 5_000, 500
WIDTH = 800, 200
EPOCHS = 8, 15
"""Defaults: those of full datasets, and that of `mnist5k`."""
FEW = 3
"""By how much epochs are multiplied by default where under half of the images are left: few images are few steps."""


@dataclasses.dataclass(frozen=True)
class PoolConfig(DataConfig):
    """Which images, and how many of them are the pool."""

    holdout: int = 0
    """Images of the pool, cut from the end of the training set before anything else: biases are chosen on it, and
    neither teacher nor student is trained on it (default: 5000; 500 on mnist5k)."""


@dataclasses.dataclass(frozen=True)
class OmitConfig:
    """Distils students that never see a digit, corrects their bias, and shows what they know of it."""

    digit: int | None = None
    """Class to omit from the transfer set (default: 3, where nothing else is said)."""
    digits: tuple[int, ...] = ()
    """Several classes to omit together; they share one bias."""
    keep: tuple[int, ...] = ()
    """Omit all classes but these, two or more: their biases are lowered by one amount."""
    each: bool = False
    """Omit each class in turn, one after another."""
    temperatures: tuple[float, ...] = (20.0,)
    """Temperatures T of the soft targets (no unit), each above 0; inf is the limit, centred logit matching."""
    soft_weight: float = 1.0
    """Weight w of the soft term, in (0, 1]: the loss is w·T²·KL + (1 − w)·CE. At 1 the student sees soft targets only:
    hard labels say nothing of an omitted class."""
    targets: Targets = "teacher"
    """Logits that all students of soft targets are taught, as of temperature_sweep: teacher; shift_averaged; and
    controls: double_softmax, shuffled (those of another image that is left), random, uniform. At soft weight 1 a
    student of the last three is told nothing of its images."""
    students: tuple[Student, ...] = ()
    """Which students to train beside distilled (default: all; with --each distilled, all_digits, control and pairs).
    control: hard labels alone. permuted, mean_logit: altered teachers. with_pool: sees the unlabelled pool too. pairs,
    control_pairs: without a further class c, for each c; the correction seen_only needs them."""
    width: int | None = None
    """Units in each of the student's two hidden layers (default: 800; 200 on mnist5k)."""
    seeds: int = 5
    """Number of seeds: 0, 1, … Each fixes initial weights and batch order, the same for all students where they have
    as many images."""
    epochs: int | None = None
    """Passes of every student over its transfer set (default: 8, on mnist5k 15; three times that where under half of
    the images are left)."""
    batch_size: int = 256
    """Images a step."""
    learning_rate: float = 8e-3
    """Peak learning rate of Adam (of 0.002 to 0.016 the default has the fewest errors on the pool: those of distilled,
    with the bias validation, and of all_digits together, on MNIST and on mnist5k)."""
    teacher_from: tuple[Path, ...] = ()
    """Folders of teachers to use instead of training one; several are an ensemble (their logits are averaged)."""
    out: Path = Path("runs")
    """Folder that holds run directories and teachers."""
    name: str | None = None
    """Name of the run directory in OUT/omit_digit (default: a hash of the config)."""
    fresh: bool = False
    """Remove what the run directory holds and start anew, instead of going on with it. Teachers are kept."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints of what is being trained: the most that a kill can cost. Results do not depend on
    it."""
    dry_run: bool = False
    """Only say what would run: blocks, students, minutes."""
    data: Annotated[PoolConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=PoolConfig)
    """Which images."""
    where: Annotated[WhereConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=WhereConfig)
    """Where students are trained."""
    teacher: TeacherConfig = dataclasses.field(default_factory=TeacherConfig)
    """The teacher's recipe."""

    def __post_init__(self) -> None:
        said = {"--digit": self.digit is not None, "--digits": self.digits, "--keep": self.keep, "--each": self.each}
        given = [option for option, value in said.items() if value]
        require(len(given) <= 1, f"{' with '.join(given)} is not allowed: they say different things; give one of them")
        for name, classes in (("digits", self.digits), ("keep", self.keep), ("students", self.students)):
            repeated = sorted({f"{value}" for value in classes if classes.count(value) > 1})  # type: ignore[arg-type]
            require(not repeated, f"--{name} repeats {', '.join(repeated)}: give each once")
        require(
            len(self.keep) != 1,
            f"--keep {' '.join(map(str, self.keep))} is not allowed: a student that sees one class has nothing to tell "
            "apart; keep two or more",
        )
        require_distinct("temperatures", self.temperatures)
        for temperature in self.temperatures:
            require_temperature("temperatures", temperature)
        require(
            0 < self.soft_weight <= 1,
            f"--soft-weight {self.soft_weight:g} is not allowed: it lies in (0, 1]; hard labels alone are the control",
        )
        require(self.seeds > 0, f"--seeds {self.seeds} is not allowed: it is a number of seeds, 1 or more")
        require_positive("learning-rate", self.learning_rate)
        require(
            self.checkpoint_seconds >= 0,
            f"--checkpoint-seconds {self.checkpoint_seconds:g} is not allowed: it is a number of seconds, 0 or more",
        )
        require_name(self.name)
        self.student(1, 1)

    def student(self, width: int, epochs: int) -> TrainConfig:
        """The student as a network to train; `width` and `epochs` are what holds where the user says nothing."""
        width = width if self.width is None else self.width
        require(width > 0, f"--width {width} is not allowed: a layer has 1 unit or more")
        return TrainConfig((width, width), epochs if self.epochs is None else self.epochs, self.batch_size)

    def chosen(self) -> tuple[Student, ...]:
        """The students to train, in the order of `STUDENTS`."""
        asked = {*(self.students or (EACH if self.each else STUDENTS)), "distilled"}
        return tuple(student for student in STUDENTS if student in asked)

    def tasks(self, num_classes: int) -> list[tuple[int, ...]]:
        """The sets of classes to omit: one set, or with `each` one a class.

        Raises:
            BadInput: a class that the dataset does not have; fewer than two classes would be left.
        """
        option = "digit"
        classes: tuple[int, ...] = (3,) if self.digit is None else (self.digit,)
        if self.digits or self.keep:
            option, classes = ("digits", self.digits) if self.digits else ("keep", self.keep)
        for value in classes:
            require(
                0 <= value < num_classes,
                f"--{option} {value} is not allowed: the classes of this dataset are 0 to {num_classes - 1}",
            )
        everything = range(num_classes)
        if self.each:
            return [(value,) for value in everything]
        omitted = [value for value in everything if (value in classes) != bool(self.keep)]
        require(omitted, f"--keep with all {num_classes} classes omits nothing: leave out one or more")
        require(
            len(omitted) <= num_classes - 2,
            f"--{option} {' '.join(map(str, classes))} is not allowed: it leaves {num_classes - len(omitted)} of "
            f"{num_classes} classes, and a student needs two or more",
        )
        return [tuple(omitted)]


class Plan(NamedTuple):
    """An omission experiment that is ready to train: what the config became once the data were seen."""

    config: OmitConfig
    dataset: "Dataset"
    """Its hold-out is the pool."""
    teacher_config: TrainConfig
    given: tuple["Teacher", ...]
    studies: list["omission.Study"]
    identity: dict[str, Any]
    folder: Path


def prepare(config: OmitConfig) -> Plan:
    """Reads the data, settles the defaults that depend on them, and refuses what cannot work, before any training."""
    from kdjax import datasets, omission, run_directory, scheduling, students, sweeps, teachers
    from kdjax.progress import say

    scheduling.check(config.where)
    dataset = datasets.load(config.data)
    small = dataset.name == SMALL
    if not config.data.holdout:
        dataset = datasets.load(dataclasses.replace(config.data, dataset=dataset.name, holdout=POOL[small]))
    say(f"data: {dataset.description}" + (f"; for the full set: {dataset.hint}" if dataset.hint else ""))
    tasks = config.tasks(dataset.num_classes)
    for what, split in (("training", dataset.train), ("pool", dataset.holdout), ("test", dataset.test)):
        missing = sorted(set(range(dataset.num_classes)) - set(split.labels.tolist()))
        require(
            not missing,
            f"the {len(split.labels):,} {what} images hold none of class {', '.join(map(str, missing))}: "
            "give more with --train-images or --holdout",
        )
    count = len(dataset.train.images)
    require(
        config.teacher.batch_size <= count,
        f"--teacher.batch-size {config.teacher.batch_size} is more than the {count:,} training images",
    )

    def recipe(images: int) -> TrainConfig:
        return config.student(WIDTH[small], EPOCHS[small] * (FEW if images < count / 2 else 1))

    runs = [students.Run("soft", value, config.soft_weight, config.learning_rate) for value in config.temperatures]
    studies = omission.plan(tasks, config.chosen(), runs, config.seeds, dataset, recipe)
    teacher_config = config.teacher.train_config(sweeps.teacher_epochs(dataset))
    given = tuple(teachers.load(folder, dataset) for folder in config.teacher_from)
    known = [teacher.info["fingerprint"] for teacher in given] or [
        teachers.fingerprint(teacher_config, config.teacher.learning_rate, config.teacher.seed, dataset)
    ]
    if not given and not teachers.place(config.out, known[0]).exists():
        scheduling.check_devices("teacher.devices", config.teacher.devices)
    identity = {
        "experiment": "omit_digit",
        "config": {
            "omitted": tasks,
            "students": config.chosen(),
            "temperatures": config.temperatures,
            "soft_weight": config.soft_weight,
            "learning_rate": config.learning_rate,
            "batch_size": config.batch_size,
            "width": studies[0].block.width,
            "seeds": config.seeds,
            "epochs": {study.block.name: study.block.config.epochs for study in studies if study.block.seed == 0},
            # It came later: runs begun before it are found still.
            **({} if config.targets == "teacher" else {"targets": config.targets}),
        },
        "data": dataset.identity(),
        "teachers": known,
        "numerics": NUMERICS,
    }
    folder = run_directory.run_folder(config.out, "omit_digit", config.name, identity)
    return Plan(config, dataset, teacher_config, given, studies, identity, folder)


def run(plan: Plan) -> Path:
    """Finds or trains the teacher, trains each block that is not there yet, writes the rows; returns the folder."""
    from kdjax import corrections, omission, run_directory, scheduling, students, teachers
    from kdjax.provenance import provenance

    config, dataset = plan.config, plan.dataset
    with run_directory.opened(plan.folder, plan.identity, config.fresh) as record:
        rate, seed = config.teacher.learning_rate, config.teacher.seed
        taught_by = plan.given or (
            teachers.find_or_train(plan.teacher_config, rate, seed, dataset, config.out, config.checkpoint_seconds),
        )
        taught = students.lesson(dataset, taught_by)
        details = {"config": config, "hint": dataset.hint, "teacher": taught.teacher}
        record.describe({**provenance(), **details})
        corrections.write_images(plan.folder, taught)
        scheduling.train(
            omission.jobs(plan.studies, config.targets), taught, record, config.where, config.checkpoint_seconds
        )
        corrections.write_results(plan.folder, plan.studies)
    return plan.folder


def forecast(plan: Plan) -> str:
    """What would run and cost: blocks, students, minutes."""
    from kdjax import forecast, teachers
    from kdjax.datasets import Split
    from kdjax.progress import clock

    operations = 0.0
    missing = [study for study in plan.studies if not (plan.folder / "blocks" / study.block.name).exists()]
    for study in missing:
        some = Split(*(array[: study.images] for array in plan.dataset.train))
        operations += forecast.block_flops(study.block, dataclasses.replace(plan.dataset, train=some))
    found = bool(plan.given) or teachers.place(plan.config.out, plan.identity["teachers"][0]).exists()
    seconds = operations / forecast.training_rate("mlp", "float32")
    seconds += 0 if found else forecast.training_seconds(plan.teacher_config, plan.dataset)
    trained = sum(len(study.block.runs) for study in missing)
    return (
        f"would train {'no teacher (it is there)' if found else 'a teacher'} and {trained} students in "
        f"{len(missing)} blocks in {plan.folder}: about {clock(seconds)} on this device"
    )


def main(config: OmitConfig) -> None:
    """Trains the students (or goes on with it), draws the figures and prints the table."""
    from kdjax.progress import say

    plan = prepare(config)
    if config.dry_run:
        print(forecast(plan))
        return
    folder = run(plan)

    from analysis import plot_omit_digit
    from analysis.omission import table as omission_table

    figures = plot_omit_digit.draw(folder)
    print(omission_table.write_summary(folder))
    say(f"figures: {', '.join(str(path) for path in figures if path.suffix == '.png')}")


if __name__ == "__main__":
    cli.run(main, OmitConfig, PROG)
