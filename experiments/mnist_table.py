"""The paper's MNIST table, with intervals, and what lies below it: `python -m experiments.mnist_table`

Hinton et al. 2015, Section 3: a large net with dropout and jitter (67 test errors), a small net alone (146), the small
net distilled at T = 20 (74), and what temperature does to students of different widths. Nothing is trained here: the
sweep is asked, and what it has trained before is found again. On two cores with full MNIST the three rows from one
teacher at one soft weight (`--only teacher small distilled --teachers 1 --soft-weights 0.9`) take 31 to 37 minutes,
everything several hours; on the bundled digits `--preset quick` takes a few minutes.
"""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

import tyro

from kdjax import cli
from kdjax.config import (
    CHECKPOINT_SECONDS,
    NUMERICS,
    DataConfig,
    Precision,
    SweepConfig,
    Targets,
    TeacherConfig,
    WhereConfig,
)
from kdjax.errors import require, require_distinct, require_name, require_positive

if TYPE_CHECKING:
    from kdjax.datasets import Dataset
    from kdjax.sweeps import Sweep

PROG = "python -m experiments.mnist_table"

Part = Literal["teacher", "small", "distilled", "widths", "transfer", "shifted", "better", "controls"]
PARTS: tuple[Part, ...] = get_args(Part)
NARROW = 30
"""Units; up to here the paper finds an optimum in T, and this asks more finely and twice as often."""
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)
FINE = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 16.0, math.inf)
SMOOTHINGS = (0.03, 0.1, 0.3)
"""Label smoothings among which the hold-out chooses."""
JITTER = 2
"""Pixels; as the paper's teacher."""
NEGATIVE: tuple[Targets, ...] = ("double_softmax", "shuffled", "random", "uniform")
"""Targets that know nothing of the image, or are a known bug: what students gain under them is not the teacher's."""

PAPER = TeacherConfig(epochs=100, learning_rate=1.5e-3, input_dropout=0.2, max_norm=3.0)
"""Dropout of inputs and units, max-norm and jitter, all of the paper's means."""
TUNED = TeacherConfig(
    epochs=200, batch_size=128, learning_rate=1e-3, max_norm=0.0, average=0.9995, precision="bfloat16"
)
"""Without input dropout and max-norm, which change nothing on the hold-out (77 errors of 10,000 with and without, after
100 epochs); longer, and averaged: 69."""


def distorted(teacher: TeacherConfig) -> TeacherConfig:
    """The same of elastically distorted images, without dropout.

    Of 10,000 hold-out images it then has 72 errors after 40 epochs, 88 with a hidden dropout of 0.2.
    """
    return dataclasses.replace(teacher, input_dropout=0.0, hidden_dropout=0.0, jitter=0, augment="elastic")


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """Makes the paper's MNIST table with seeds and intervals, and judges its claims about temperature."""

    preset: Literal["tuned", "paper", "distorted", "quick"] = "tuned"
    """Whole settings to start from (full MNIST, two cores, the three rows from one teacher). tuned: a teacher without
    input dropout and max-norm, averaged; about 68, 151 and 101 errors over three teachers (64 to 76 of one teacher), in
    31 to 37 minutes on cores with bfloat16 units, and 7 to 11 more for each further soft weight; without such units
    give --precision and --teacher.precision float32, and --dry-run says about two hours. paper: dropout of inputs too,
    and max-norm; about 91 errors of the teacher. distorted: teachers without dropout, of elastically distorted images;
    about 58, 151 and 84 errors over three of them (from one 59, 151 and 86, in 44 minutes on such cores); students of
    better who see such images do so for 100 epochs. quick: few epochs and seeds, for a first look, in minutes on the
    bundled digits."""
    only: tuple[Part, ...] = ()
    """Parts to make (default: all). teacher, small and distilled are the paper's three rows; widths: errors against T
    at each width; transfer: fewer images; shifted: errors on shifted test images; better: other targets and ensembles;
    controls: label smoothing, self-distillation, temperature scaling, double softmax, and targets that know nothing of
    the image. The first teacher is trained whatever the parts: it is the table's first row."""
    teachers: int = 3
    """Number of teachers, each from a seed of its own. All teach the rows and the widths, and are an ensemble; the
    first teaches the rest."""
    seeds: int = 5
    """Number of students of each kind, but for widths."""
    width: int = 800
    """Units in each of the two hidden layers of the small net."""
    temperature: float = 20.0
    """Temperature T of the soft targets (no unit) where it is not what is asked about."""
    soft_weights: tuple[float, ...] = (0.9, 0.5, 0.99, 1.0)
    """Weights w of the soft term: the first makes the row, and holds for all but the widths, which have 1; the others,
    under the first teacher, are its sensitivity."""
    epochs: int = 80
    """Passes of a student over the training images (distilled at a rate of 0.002, the hold-out has 102 errors of 10,000
    after 80 and 105 after 40)."""
    elastic_epochs: int = 60
    """The same for the students of better whose images are distorted anew at each step."""
    batch_size: int = 128
    """Images a step (of 256 and 128 the hold-out prefers 128, for hard labels and soft targets alike)."""
    learning_rate: float = 2e-3
    """Peak learning rate of Adam (distilled, the hold-out has 122, 108, 105 and 106 errors of 10,000 at 0.0005, 0.001,
    0.002 and 0.004; the higher, the nearer the student is to its teacher on the transfer set)."""
    widths: tuple[int, ...] = (30, 300, 800)
    """Units in each hidden layer of the students whose errors against T are compared."""
    width_seeds: int | None = None
    """Number of students at each width and temperature, under each teacher (default: 10; 20 up to 30 units)."""
    width_epochs: int = 20
    """Their passes over the training images; students of fewer images make as many steps."""
    fractions: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    """Shares of the training images that are the transfer set, each in (0, 1]."""
    precision: Precision = "bfloat16"
    """Operands of the students' matrix products; bfloat16 costs no errors that ten paired seeds can tell."""
    out: Path = Path("runs")
    """Folder that holds run directories and teachers."""
    name: str | None = None
    """Name of the run directory in OUT/mnist_table (default: a hash of the config)."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints of what is being trained: the most that a kill can cost. Results do not depend on
    it."""
    fresh: bool = False
    """Start the table's run directory anew. Sweeps and teachers are kept: what is trained is found again."""
    dry_run: bool = False
    """Only say what would run, part by part: runs, minutes, memory, disk."""
    data: Annotated[DataConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DataConfig)
    """Which images."""
    where: Annotated[WhereConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=WhereConfig)
    """Where students are trained."""
    teacher: TeacherConfig = dataclasses.field(default_factory=lambda: TUNED)
    """The teacher's recipe; its seed is the first teacher's."""

    def __post_init__(self) -> None:
        require(len(set(self.only)) == len(self.only), "--only names a part twice: give each part once")
        require(0 < self.teachers <= 100, f"--teachers {self.teachers} is not allowed: it is a number from 1 to 100")
        require_distinct("fractions", self.fractions)
        require_distinct("widths", self.widths)
        require_distinct("soft-weights", self.soft_weights)
        for value in self.fractions:
            require(0 < value <= 1, f"--fractions {value:g} is not allowed: it is a share of the images, in (0, 1]")
        require_positive("learning-rate", self.learning_rate)
        require(self.width > 0, f"--width {self.width} is not allowed: a layer has 1 unit or more")
        require(
            self.elastic_epochs > 0,
            f"--elastic-epochs {self.elastic_epochs} is not allowed: it is a number of epochs, 1 or more",
        )
        require(self.epochs > 0, f"--epochs {self.epochs} is not allowed: it is a number of epochs, 1 or more")
        require(
            self.width_seeds is None or self.width_seeds > 0,
            f"--width-seeds {self.width_seeds} is not allowed: it is a number of seeds, 1 or more",
        )
        require(
            not self.data.holdout,
            "--holdout is not for this table: its controls cut one of their own, and its recipes were chosen before",
        )
        require_name(self.name)
        self.sweep()
        questions(self, 60_000)  # what the sweep refuses is refused here

    def sweep(self, by: int = 0, **changes: Any) -> SweepConfig:
        """What every sweep of the table has in common, under the teacher of that number; and what is its own."""
        common: dict[str, Any] = {
            "temperatures": (self.temperature,),
            "soft_weights": self.soft_weights[:1],
            "learning_rates": (self.learning_rate,),
            "hard_labels": False,
            "widths": (self.width,),
            "seeds": self.seeds,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "out": self.out,
            "checkpoint_seconds": self.checkpoint_seconds,
            "data": self.data,
            "where": self.where,
            "teacher": dataclasses.replace(self.teacher, seed=self.teacher.seed + by),
        }
        return SweepConfig(**{**common, **changes})

    def teachers_needed(self) -> int:
        """Some parts ask one teacher, whatever their number."""
        return self.teachers if {"teacher", "distilled", "widths", "better"} & set(self.parts()) else 1

    def parts(self) -> tuple[Part, ...]:
        """The parts to make, in order."""
        return tuple(part for part in PARTS if part in (self.only or PARTS))


class Question(NamedTuple):
    """One sweep that is asked for."""

    part: Part
    role: str
    """Which students: the tables and figures look them up by it."""
    config: SweepConfig


def questions(config: TableConfig, images: int, folders: tuple[Path, ...] = ()) -> list[Question]:
    """The sweeps behind the parts that are asked for, in order.

    Args:
        config: the table.
        images: number of training images.
        folders: the teachers; those who are asked as an ensemble are named by them.
    """
    wanted, asked = config.parts(), list[Question]()

    def ask(parts: set[Part], role: str, by: int = 0, **changes: Any) -> None:
        here = [part for part in wanted if part in parts]
        if not here:
            return
        asked.append(Question(here[0], role, config.sweep(by, **changes)))

    hard: dict[str, Any] = {
        "hard_labels": True,
        "soft_targets": False,
        "soft_weights": (1.0,),  # no student of soft targets: any weight
    }
    ask({"small", "distilled", "shifted", "better"}, "small", **hard)
    for t in range(config.teachers):
        if t == 0 or "distilled" in wanted:
            ask({"distilled", "shifted", "better"}, "distilled", t)
    if others := config.soft_weights[1:]:
        ask({"distilled"}, "other soft weights", soft_weights=others)
    for width in config.widths:
        narrow = width <= NARROW
        for t in range(config.teachers):
            ask(
                {"widths"},
                "widths",
                t,
                widths=(width,),
                soft_weights=(1.0,),  # so that T is all that changes
                temperatures=FINE if narrow else TEMPERATURES,
                seeds=config.width_seeds or (20 if narrow else 10),
                epochs=config.width_epochs,
                hard_labels=t == 0,  # a student of hard labels has no teacher: once is enough
            )
    steps = config.width_epochs * (images // config.batch_size)
    for shown in dict.fromkeys(max(round(share * images), config.batch_size) for share in config.fractions):
        epochs = max(1, round(steps / (shown // config.batch_size)))
        ask({"transfer"}, "transfer", hard_labels=True, transfer_images=shown, epochs=epochs)
    ask({"shifted", "better"}, "hard jittered", jitter=JITTER, **hard)
    still = dataclasses.replace(config.teacher, jitter=0, augment="none")
    ask({"shifted"}, "of a still teacher", teacher=still)
    ask({"better"}, "shift-averaged", targets="shift_averaged")
    ask({"better", "shifted"}, "jittered", jitter=JITTER)
    # The baseline of the same images in the same blocks: how much is the images', how much the teacher's?
    ask({"better"}, "elastic", teacher=distorted(config.teacher), hard_labels=True, **elastic(config))
    if len(folders) > 1:
        for role, changes in of_ensemble(config).items():
            ask({"better"}, role, teacher_from=folders, **changes)
    data = dataclasses.replace(config.data, holdout=max(images // 6, 1))  # of what is there before --train-images
    ask({"controls"}, "held out", hard_labels=True, data=data)
    ask({"controls"}, "label smoothing", targets="uniform", temperatures=(1.0,), soft_weights=SMOOTHINGS, data=data)
    for control in NEGATIVE:
        ask({"controls"}, control, targets=control, data=data)
    alone = TeacherConfig(
        (config.width, config.width),
        config.epochs,
        config.batch_size,
        config.learning_rate,
        0.0,
        0.0,
        0.0,
        0,
        seed=1_000,
        precision=config.precision,
    )
    ask({"controls"}, "self-distillation", teacher=alone, data=data)
    return asked


def elastic(config: TableConfig) -> dict[str, Any]:
    """What is particular to students of distorted images."""
    return {"augment": "elastic", "epochs": config.elastic_epochs}


def of_ensemble(config: TableConfig) -> dict[str, dict[str, Any]]:
    """Students of all teachers together, by role: of the images as they are; distorted where the teachers' were, else
    jittered."""
    if config.teacher.augment == "elastic":
        return {"ensemble": {}, "ensemble, elastic": elastic(config)}
    return {"ensemble": {}, "ensemble, jittered": {"jitter": JITTER}}


PRESETS = {
    "tuned": TableConfig(),
    "paper": TableConfig(preset="paper", teacher=PAPER),
    "distorted": TableConfig(preset="distorted", elastic_epochs=100, teacher=distorted(TUNED)),
    "quick": TableConfig(
        preset="quick",
        teachers=2,
        seeds=3,
        width=100,
        epochs=30,
        elastic_epochs=30,
        widths=(30, 100),
        width_seeds=3,
        width_epochs=30,
        fractions=(0.1, 1.0),
        teacher=dataclasses.replace(TUNED, widths=(300, 300), epochs=40, average=0.0),
    ),
}


class Table(NamedTuple):
    """The table, ready to be made."""

    config: TableConfig
    dataset: "Dataset"
    identity: dict[str, Any]
    folder: Path


def prepare(config: TableConfig) -> Table:
    """Reads the data and refuses what cannot work, before any training."""
    from kdjax import datasets, run_directory, scheduling, sweeps
    from kdjax.progress import say

    scheduling.check(config.where)
    dataset = datasets.load(config.data)
    count = len(dataset.train.images)
    say(f"data: {dataset.description}" + (f"; for the full set: {dataset.hint}" if dataset.hint else ""))
    for name, size in (("batch-size", config.batch_size), ("teacher.batch-size", config.teacher.batch_size)):
        left = count - count // 6 if "controls" in config.parts() else count
        require(size <= left, f"--{name} {size} is more than the {left:,} training images")
    for t in range(config.teachers_needed()):
        teacher = config.sweep(t).teacher.train_config(sweeps.teacher_epochs(dataset))
    scheduling.check_devices("teacher.devices", teacher.devices)
    elsewhere = {"preset", "only", "out", "name", "checkpoint_seconds", "fresh", "dry_run", "data", "where"}
    asked = {
        field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name not in elsewhere
    }
    identity = {
        "experiment": "mnist_table",
        "config": {**asked, "parts": config.parts()},
        "data": dataset.identity(),
        "numerics": NUMERICS,
    }
    return Table(config, dataset, identity, run_directory.run_folder(config.out, "mnist_table", config.name, identity))


def prepared(config: SweepConfig, read: dict[DataConfig, "Dataset"]) -> "Sweep":
    """The sweep, ready to train; what many sweeps ask for is read once, and kept in `read`."""
    from kdjax import sweeps

    sweep = sweeps.prepare(config, dataset=read.get(config.data))
    read[config.data] = sweep.dataset
    return sweep


def run(table: Table) -> Path:
    """Finds or trains the teachers and asks every sweep; writes where each answer lies. Returns the folder."""
    from kdjax import metrics, run_directory, sweeps, teachers
    from kdjax.progress import say
    from kdjax.provenance import provenance

    config, dataset = table.config, table.dataset
    if not (table.folder / "table.csv").exists():
        for line in slower_precision(config):
            say(f"note: {line}")
    with run_directory.opened(table.folder, table.identity, config.fresh) as record:
        found = []
        recipe = config.teacher.train_config(sweeps.teacher_epochs(dataset))
        for t in range(config.teachers_needed()):
            seed, rate = config.teacher.seed + t, config.teacher.learning_rate
            found.append(teachers.find_or_train(recipe, rate, seed, dataset, config.out, config.checkpoint_seconds))
        asked = questions(config, len(dataset.train.images), tuple(teacher.folder for teacher in found))
        answers, read = [], {config.data: dataset}
        for index, question in enumerate(asked):
            say(f"part {question.part}: {question.role} ({index + 1} of {len(asked)} sweeps)")
            folder = sweeps.run(prepared(question.config, read))
            answers.append({"part": question.part, "role": question.role, "run": folder.name})
        test = dataset.test
        teachers_of = [
            {
                "name": one.name,
                "folder": one.folder.name,
                "test": metrics.evaluate(one.logits(test.images), test.labels),
            }
            for one in found
        ]
        details = {"config": config, "hint": dataset.hint, "teachers": teachers_of, "answers": answers}
        record.describe({**provenance(), **details})

        from experiments import evaluations

        evaluations.write_shifted(table.folder, dataset)
        evaluations.write_cost(table.folder, dataset)
    return table.folder


def forecast(table: Table) -> str:
    """What would run and cost, a line a sweep; a teacher that several sweeps share is counted once."""
    from kdjax import forecast, teachers
    from kdjax.progress import clock

    config = table.config
    lines, known, read, seconds = [], list[str](), {config.data: table.dataset}, 0.0
    for t in range(config.teachers_needed()):
        sweep = prepared(config.sweep(t), read)
        known += sweep.identity["teachers"]
        there = teachers.place(config.out, known[-1]).exists()
        needed = 0.0 if there else forecast.training_seconds(sweep.teacher_config, table.dataset)
        lines.append(f"teacher {t + 1}: " + ("it is there" if there else f"would be trained, about {clock(needed)}"))
        seconds += needed
    folders = tuple(teachers.place(config.out, name) for name in known)
    whole = all(folder.exists() for folder in folders)
    for question in questions(config, len(table.dataset.train.images), folders if whole else ()):
        sweep = prepared(question.config, read)
        counted = sweep.identity["teachers"][0] in known
        known += sweep.identity["teachers"]
        lines.append(f"{question.part}, {question.role}: {forecast.of_sweep(sweep, teacher=not counted)}")
        seconds += forecast.sweep_seconds(sweep, teacher=not counted)
    if "better" in config.parts() and config.teachers > 1 and not whole:  # who are not there cannot be asked yet
        for role, changes in of_ensemble(config).items():
            sweep = prepared(config.sweep(**changes), read)
            needed = forecast.sweep_seconds(sweep._replace(folder=sweep.folder / "none"), False, config.teachers)
            lines.append(f"better, {role}: would train {config.seeds} students, about {clock(needed)}")
            seconds += needed
    lines.append(f"in all about {clock(seconds)} on this device")
    return "\n".join([*lines, *slower_precision(config)])


def slower_precision(config: TableConfig) -> list[str]:
    """A line where bfloat16 was asked for and is slower here; measured in half a second."""
    from kdjax import forecast

    if "bfloat16" not in (config.precision, config.teacher.precision):
        return []
    times = forecast.training_rate("mlp", "float32") / forecast.training_rate("mlp", "bfloat16")
    said = f"bfloat16 takes {times:.1f} times as long as float32 on this device: --precision float32 and "
    return [said + "--teacher.precision float32 are faster"] if times > 1.2 else []


def main(config: TableConfig) -> None:
    """Makes the table (or goes on with it), draws the figures and prints it."""
    from kdjax.progress import say

    table = prepare(config)
    if config.dry_run:
        print(forecast(table))
        return
    folder = run(table)

    from analysis import plot_mnist_table
    from analysis.mnist import table as mnist_table_

    print(mnist_table_.write_summary(folder))
    if figures := plot_mnist_table.draw(folder):  # the three rows by themselves have none
        say(f"figures: {', '.join(str(path) for path in figures if path.suffix == '.png')}")


if __name__ == "__main__":
    cli.run(main, TableConfig, PROG, presets=PRESETS)
