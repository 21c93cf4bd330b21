"""The paper's MNIST table, with intervals, and the studies behind it: `python -m experiments.mnist_table`

Hinton et al. 2015, Section 3: a large net with dropout and jitter (67 test errors), a small net alone (146), the small
net distilled at T = 20 (74), and what temperature does to students of different widths. `--dry-run` says how long each
part would take here. The default is the three rows from one teacher; `--preset full` is everything, and takes many
hours; `--preset quick` on the bundled digits takes minutes.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import tyro

from analysis.mnist.roles import Role
from experiments.member import Member
from kdjax import cli
from kdjax.config import (
    TEACHER_SEED,
    TUNING_SEED,
    NamedDataConfig,
    Precision,
    RunConfig,
    SweepConfig,
    Targets,
    TeacherConfig,
    as_declared,
)
from kdjax.errors import require, require_count, require_distinct, require_option, require_positive
from kdjax.identity import NO_RESULT, result_fields

if TYPE_CHECKING:
    from analysis.tuning import Choice
    from experiments.study import Study
    from kdjax.forecast import Forecast

PROG = "python -m experiments.mnist_table"

Part = Literal["teacher", "small", "distilled", "widths", "transfer", "shifted", "better", "controls"]
PARTS: tuple[Part, ...] = get_args(Part)
ROWS: tuple[Part, ...] = ("teacher", "small", "distilled")
"""The paper's three rows."""
LONG = 300
"""Units; wider students are trained for the first of the schedules alone."""
SETTINGS = 16
"""Settings of one width that are trained together: all temperatures and hard labels fit in one block."""
SMOOTHINGS = (0.03, 0.1, 0.3)
"""Label smoothings among which the hold-out chooses."""
JITTER = 2
"""Pixels; as the paper's teacher."""
NEGATIVE: tuple[Targets, ...] = ("shuffled", "random", "uniform")
"""Controls: targets that say nothing of the image; what students gain is not the teacher's."""

PAPER = TeacherConfig(epochs=100, learning_rate=1.5e-3, input_dropout=0.2, max_norm=3.0)
"""Dropout of inputs and units, max-norm and jitter, all of the paper's means."""
TUNED = TeacherConfig(
    epochs=200, batch_size=128, learning_rate=1e-3, max_norm=0.0, average=0.9995, precision="bfloat16"
)
"""Without input dropout and max-norm, which changed nothing on the hold-out; longer, and averaged."""


def distorted(teacher: TeacherConfig) -> TeacherConfig:
    """The same recipe on elastically distorted images, without dropout and jitter."""
    return dataclasses.replace(teacher, input_dropout=0.0, hidden_dropout=0.0, jitter=0, augment="elastic")


@dataclasses.dataclass(frozen=True)
class DigitsConfig(NamedDataConfig):
    """Which images, and how many of them."""

    holdout: Annotated[int, tyro.conf.Suppress] = 0


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """Makes the paper's MNIST table with seeds and intervals, and judges its claims about temperature."""

    preset: Literal["tuned", "full", "paper", "distorted", "quick"] = dataclasses.field(
        default="tuned", metadata=NO_RESULT
    )
    """Whole settings to start from. tuned: the three rows, of a teacher without input dropout and max-norm, averaged.
    full: the same, from three teachers, with other soft weights and all parts, which takes many hours. paper:
    dropout of inputs too, and max-norm. distorted: teachers of elastically distorted images, without dropout and
    jitter. quick: few epochs and seeds, for a first look. (Without bfloat16 units, --precision and --teacher.precision
    float32 are faster.)"""
    only: tuple[Part, ...] = dataclasses.field(default=ROWS, metadata=NO_RESULT)
    """Parts to make (default: the paper's three rows: teacher, small and distilled). widths: errors against T at each
    width, each T at a learning rate chosen for it, and all at one rate; transfer: fewer images; shifted: errors on
    shifted test images; better: other targets and ensembles; controls: label smoothing, self-distillation, temperature
    scaling, double softmax, shuffled, uniform and untrained targets. The first teacher is trained whatever the parts:
    it is the table's first row."""
    teachers: int = 1
    """Number of teachers, each from its own seed. All teach the rows and form an ensemble; the first teaches the rest,
    but for the widths."""
    seeds: int = 5
    """Number of students of each kind, but for widths."""
    width: int = 800
    """Units in each of the two hidden layers of the small net."""
    temperature: float = 20.0
    """Temperature T of the soft targets (no unit), except where T is what varies."""
    soft_weights: tuple[float, ...] = (0.9,)
    """Weights w of the soft term. The first holds everywhere but for the widths, which have 1; the others show, under
    the first teacher, how much w matters."""
    epochs: int = 80
    """Passes of a student over the training images."""
    elastic_epochs: int = 60
    """Passes over the training images for students of the part better whose images are distorted at each step."""
    batch_size: int = 128
    """Images per step."""
    learning_rate: float = 2e-3
    """Peak learning rate of Adam; its default was chosen on the hold-out, for distilled students. The widths are also
    trained at rates tuned for each T."""
    widths: tuple[int, ...] = (30, 300, 800)
    """Units in each hidden layer of the students whose errors against T are compared."""
    width_temperatures: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 32.0, math.inf)
    """Temperatures T (no unit) of the students of --widths; inf is the limit."""
    width_epochs: tuple[int, ...] = (20, 60)
    """Passes over the training images of the students of --widths, a schedule for each number; above 300 units, the
    first alone. Students of fewer images make as many steps as the first schedule."""
    width_teachers: int = 6
    """Number of teachers of the students of each width: the first ones are those of the rows."""
    width_seeds: int = 5
    """Number of students at each width and T, under each of those teachers."""
    tuning_rates: tuple[float, ...] = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
    """Peak learning rates among which the hold-out (a sixth of the training images) chooses one for hard labels and one
    for each T, at each width and schedule. While a choice lies at an edge, the grid is widened, up to three times."""
    tuning_seeds: int = 4
    """Number of students at each of these rates. Their seeds are other ones, and a teacher that never saw the hold-out
    teaches them."""
    fractions: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    """Shares of the training images that are the transfer set, each in (0, 1]."""
    precision: Precision = "bfloat16"
    """Operands of the students' matrix products."""
    data: Annotated[DigitsConfig, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=DigitsConfig)
    """Which images."""
    run: Annotated[RunConfig, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=RunConfig)
    """Where to run and what to write."""
    teacher: TeacherConfig = dataclasses.field(default_factory=lambda: TUNED)
    """The teacher's recipe; its seed is the first teacher's."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": (),
        "teacher": ("teachers",),
        "student": ("width", "seeds", "epochs", "learning_rate", "batch_size", "precision"),
        "objective": ("temperature", "soft_weights"),
        "part": (
            *("widths", "width_temperatures", "width_epochs", "width_teachers", "width_seeds", "tuning_rates"),
            *("tuning_seeds", "fractions", "elastic_epochs"),
        ),
        "run": (),
    }
    """Options by group, the most used first (`kdjax.options`)."""

    def __post_init__(self) -> None:
        as_declared(self)
        require(self.only, f"--only is empty: name one or more of {', '.join(PARTS)}")
        require(len(set(self.only)) == len(self.only), "--only names a part twice: give each part once")
        require_count("teachers", self.teachers, "teachers", most=100)
        require_distinct("fractions", self.fractions)
        require_distinct("widths", self.widths)
        require_distinct("width-temperatures", self.width_temperatures)
        require_distinct("width-epochs", self.width_epochs)
        require_distinct("tuning-rates", self.tuning_rates)
        require_distinct("soft-weights", self.soft_weights)
        for value in self.fractions:
            require_option(0 < value <= 1, "fractions", value, "it is a share of the images, in (0, 1]")
        require_positive("learning-rate", self.learning_rate)
        require_count("width", self.width, "units")
        require_count("elastic-epochs", self.elastic_epochs, "epochs")
        require_count("epochs", self.epochs, "epochs")
        require_count("width-teachers", self.width_teachers, "teachers", most=100)
        reason = "its controls cut one of their own, and its recipes were chosen before"
        require(not self.data.holdout, f"--holdout is not for this table: {reason}")
        self.sweep()
        if set(self.only) == set(PARTS):
            members(self, 60_000)  # what the sweep refuses is refused here
        else:
            dataclasses.replace(self, only=PARTS)  # whatever the parts

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
            "data": self.data,
            "run": self.run.of_member(),
            "teacher": dataclasses.replace(self.teacher, seed=self.teacher.seed + by),
        }
        return SweepConfig(**{**common, **changes})

    def teachers_needed(self) -> int:
        """Some parts ask one teacher, whatever their number."""
        wanted = set(self.parts())
        of_rows = self.teachers if {"teacher", "distilled", "better"} & wanted else 1
        return max(of_rows, self.width_teachers if "widths" in wanted else 1)

    def schedules(self) -> list[tuple[int, int]]:
        """Width and epochs of each of the studies of T."""
        return [
            (width, epochs)
            for width in self.widths
            for epochs in (self.width_epochs if width <= LONG else self.width_epochs[:1])
        ]

    def parts(self) -> tuple[Part, ...]:
        """The parts to make, in order."""
        return tuple(part for part in PARTS if part in self.only)


def members(config: TableConfig, images: int, folders: tuple[Path, ...] = ()) -> list[Member]:
    """The sweeps behind the parts that are wanted, in order, but for those at tuned rates (`tuned_members`).

    Args:
        config: the table.
        images: number of training images.
        folders: the teachers; an ensemble is named by them.
    """
    wanted, sweeps = config.parts(), list[Member]()

    def add(parts: set[Part], role: Role, by: int = 0, **changes: Any) -> None:
        serving = [part for part in wanted if part in parts]
        if serving:
            sweeps.append(Member(role, config.sweep(by, **changes), serving[0]))

    hard: dict[str, Any] = {
        "hard_labels": True,
        "objectives": (),
        "soft_weights": (1.0,),  # no student of soft targets: any weight
    }
    add({"small", "distilled", "shifted", "better"}, Role.SMALL, **hard)
    for t in range(config.teachers):
        if t == 0 or "distilled" in wanted:
            add({"distilled", "shifted", "better"}, Role.DISTILLED, t)
    if others := config.soft_weights[1:]:
        add({"distilled"}, Role.SOFT_WEIGHTS, soft_weights=others)
    data = dataclasses.replace(config.data, holdout=max(images // 6, 1))  # of what is there before --train-images
    seeds = {"seeds": config.tuning_seeds, "first_seed": TUNING_SEED}
    for width, epochs in config.schedules():
        rates = {"learning_rates": config.tuning_rates, "data": data}
        add({"widths"}, Role.TUNING, hard_labels=True, **{**at_width(config, width, epochs), **seeds, **rates})
        for t in range(config.width_teachers):
            # A student of hard labels has no teacher: once is enough.
            add({"widths"}, Role.ONE_RATE, t, hard_labels=t == 0, **at_width(config, width, epochs))
    steps = config.width_epochs[0] * (images // config.batch_size)
    for count in dict.fromkeys(max(round(share * images), config.batch_size) for share in config.fractions):
        epochs = max(1, round(steps / (count // config.batch_size)))
        add({"transfer"}, Role.TRANSFER, hard_labels=True, transfer_images=count, epochs=epochs)
    add({"shifted", "better"}, Role.HARD_JITTERED, jitter=JITTER, **hard)
    still = dataclasses.replace(config.teacher, jitter=0, augment="none")
    add({"shifted"}, Role.STILL_TEACHER, teacher=still)
    add({"better"}, Role.SHIFT_AVERAGED, targets="shift_averaged")
    add({"better", "shifted"}, Role.JITTERED, jitter=JITTER)
    # The baseline of the same images in the same blocks: how much is the images', how much the teacher's?
    add({"better"}, Role.ELASTIC, teacher=distorted(config.teacher), hard_labels=True, **elastic(config))
    if len(folders) > 1:
        for role, changes in of_ensemble(config).items():
            add({"better"}, role, teacher=TeacherConfig(), teacher_from=folders, **changes)
    add({"controls"}, Role.HELD_OUT, hard_labels=True, data=data)
    smoothing: dict[str, Any] = {"targets": "uniform", "temperatures": (1.0,), "soft_weights": SMOOTHINGS}
    add({"controls"}, Role.LABEL_SMOOTHING, data=data, **smoothing)
    bug: dict[str, Any] = {"objectives": ("double_softmax",)}
    add({"controls"}, Role.DOUBLE_SOFTMAX, data=data, **bug)
    for control in NEGATIVE:
        add({"controls"}, Role(control), targets=control, data=data)
    add({"controls"}, Role.SELF_DISTILLATION, teacher=own_kind(config), data=data)
    return sweeps


def tuned_members(config: TableConfig, choices: Mapping[tuple[int, int], Sequence["Choice"]]) -> list[Member]:
    """The sweeps of the widths at tuned rates: what has its rate in the sweeps at one rate already is not in them.

    Args:
        config: the table.
        choices: by width and epochs, the rate of hard labels and of each T.
    """
    sweeps = list[Member]()
    for (width, epochs), of_schedule in choices.items():
        apart = [one for one in of_schedule if not math.isclose(one.learning_rate, config.learning_rate, rel_tol=1e-6)]
        soft = [one for one in apart if one.objective == "kd"]
        for t in range(config.width_teachers):
            asked = apart if t == 0 else soft
            if asked:
                changes: dict[str, Any] = {"hard_labels": len(asked) > len(soft), "objectives": ("kd",) * bool(soft)}
                changes |= {"own_rates": True, "learning_rates": tuple(one.learning_rate for one in asked)}
                changes |= {"temperatures": tuple(one.temperature for one in soft)} if soft else {}
                changes = {**at_width(config, width, epochs), **changes}
                sweeps.append(Member(Role.TUNED, config.sweep(t, **changes), "widths"))
    return sweeps


def at_width(config: TableConfig, width: int, epochs: int) -> dict[str, Any]:
    """What is particular to students whose errors against T are compared at one width and schedule."""
    return {
        "widths": (width,),
        "soft_weights": (1.0,),  # so that T is all that changes
        "temperatures": config.width_temperatures,
        "seeds": config.width_seeds,
        "epochs": epochs,
        "block_size": SETTINGS,
    }


def own_kind(config: TableConfig) -> TeacherConfig:
    """A teacher of the small net's own kind, for self-distillation."""
    return TeacherConfig(
        widths=(config.width, config.width),
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        hidden_dropout=0.0,
        max_norm=0.0,
        jitter=0,
        seed=TEACHER_SEED + 100,  # of none of the table's teachers
        precision=config.precision,
    )


def elastic(config: TableConfig) -> dict[str, Any]:
    """What is particular to students of distorted images."""
    return {"augment": "elastic", "epochs": config.elastic_epochs}


def of_ensemble(config: TableConfig) -> dict[Role, dict[str, Any]]:
    """Students of all teachers together, by role: of the images as they are; distorted where the teachers' were, else
    jittered."""
    if config.teacher.augment == "elastic":
        return {Role.ENSEMBLE: {}, Role.ENSEMBLE_ELASTIC: elastic(config)}
    return {Role.ENSEMBLE: {}, Role.ENSEMBLE_JITTERED: {"jitter": JITTER}}


PRESETS = {
    "tuned": TableConfig(),
    "full": TableConfig(preset="full", only=PARTS, teachers=3, soft_weights=(0.9, 0.5, 0.99, 1.0)),
    "paper": TableConfig(preset="paper", teacher=PAPER),
    "distorted": TableConfig(preset="distorted", elastic_epochs=100, teacher=distorted(TUNED)),
    "quick": TableConfig(
        preset="quick",
        seeds=3,
        width=100,
        epochs=30,
        elastic_epochs=30,
        widths=(30, 100),
        width_temperatures=(1.0, 2.0, 4.0, math.inf),
        width_epochs=(30,),
        width_teachers=2,
        width_seeds=3,
        tuning_rates=(1e-3, 4e-3, 1.6e-2),
        tuning_seeds=2,
        fractions=(0.1, 1.0),
        teacher=dataclasses.replace(TUNED, widths=(300, 300), epochs=40, average=0.0),
    ),
}


OF_PARTS: dict[tuple[Part, ...], tuple[str, ...]] = {
    ("widths",): ("widths", "width_temperatures", "width_teachers", "width_seeds", "tuning_rates", "tuning_seeds"),
    ("widths", "transfer"): ("width_epochs",),
    ("transfer",): ("fractions",),
    ("better",): ("elastic_epochs",),
}
"""Options that are of some parts alone."""


def prepare(config: TableConfig) -> "Study":
    """Reads the data and refuses what cannot work, before any training."""
    from experiments import study
    from kdjax import datasets, grids, sweeps
    from kdjax.progress import say

    datasets.require_named(config.data, "mnist_table")
    sweeps.check_run(config.run)
    dataset = sweeps.read_data(config.data)
    count = len(dataset.train.images)
    for name, size in (("batch-size", config.batch_size), ("teacher.batch-size", config.teacher.batch_size)):
        left = count - count // 6 if {"controls", "widths"} & set(config.parts()) else count
        require(size <= left, f"--{name} {size} is more than the {left:,} training images: give at most {left}")
    for t in range(config.teachers_needed()):
        config.sweep(t).teacher.train_config(grids.teacher_epochs(dataset))
    for parts, options in OF_PARTS.items():
        changed = [name for name in options if getattr(config, name) != getattr(PRESETS[config.preset], name)]
        if changed and not set(parts) & set(config.only):
            which = " or ".join(parts)
            say(f"note: --{' --'.join(changed).replace('_', '-')} has no effect without the part {which} (--only)")
    resolved: dict[str, Any] = {"parts": config.parts(), "teacher": result_fields(config.teacher)}
    words = ["all"] if config.parts() == PARTS else config.parts()
    return study.prepare("mnist_table", words, config, dataset, "mlp", **resolved)


def run(table: "Study") -> Path:
    """Finds or trains the teachers and runs every sweep; writes where each is. Returns the folder."""
    from analysis import tuning
    from analysis.mnist import table as summary
    from experiments import evaluations, study
    from kdjax import metrics, run_directory, sweeps
    from kdjax.progress import say
    from kdjax.run_folders import sweep_folder

    config, dataset = table.config, table.dataset
    if not (table.folder / "table.csv").exists():
        for line in slower_precision(config):
            say(f"note: {line}")
    with run_directory.opened(table.folder, table.identity, table.run.fresh) as record:
        teachers = study.train_teachers(config.teacher, config.teachers_needed(), table)
        folders = tuple(teacher.folder for teacher in teachers[: config.teachers])
        test = dataset.test
        described = [
            {"name": one.name, "folder": one.folder.name, "test": metrics.evaluate(logits, test.labels)}
            for one in teachers[: config.teachers]
            for logits in [one.logits(test.images)]
        ]
        sweeps.describe(record, config, dataset, teachers=described, answers=[])
        first = members(config, len(dataset.train.images), folders)
        entries = study.run_members(table, record, first, summary.write_summary)
        tuned = [sweep_folder(table.folder, entry["run"]) for entry in entries if entry["role"] == Role.TUNING]
        choices = dict(zip(config.schedules(), map(tuning.choices_in, tuned), strict=False))  # none without the part
        study.run_members(table, record, tuned_members(config, choices), summary.write_summary, entries)
        evaluations.write_shifted(table.folder, dataset)
        evaluations.write_cost(table.folder, dataset)
        record.seal(["config.json"])
    return table.folder


def forecast(table: "Study") -> "Forecast":
    """What would run and cost, one line per sweep; a teacher that several sweeps share is counted once."""
    from experiments import study
    from kdjax import forecast as costs
    from kdjax import teachers
    from kdjax.progress import clock, count_of

    config, images = table.config, len(table.dataset.train.images)
    of_teachers = list(study.forecast_teachers(table, config.teacher, range(config.teachers_needed())))
    lines, seconds = [line for line, _, _ in of_teachers], sum(cost for _, cost, _ in of_teachers)
    fingerprints = [name for *_, name in of_teachers]
    folders = tuple(teachers.place(config.run.out, name) for name in fingerprints[: config.teachers])
    there = all(folder.exists() for folder in folders)
    known = known_choices(table)
    asked = [*members(config, images, folders if there else ()), *tuned_members(config, known)]
    tuned = forecast_tuned(table, [one for one in config.schedules() if one not in known])
    for line, cost in itertools.chain(study.forecast_members(table, asked, fingerprints), tuned):
        lines.append(line)
        seconds += cost
    if "better" in config.parts() and config.teachers > 1 and not there:  # an ensemble that is not there yet
        for role, changes in of_ensemble(config).items():
            sweep = study.prepare_sweep(table, config.sweep(**changes))
            cost = costs.sweep_seconds(sweep._replace(folder=sweep.folder / "none"), False, config.teachers)
            lines.append(f"better, {role}: would train {count_of(config.seeds, 'student')}, about {clock(cost)}")
            seconds += cost
    lines.append(f"in all about {clock(seconds)} on this device")
    return costs.Forecast("\n".join([*lines, *slower_precision(config)]), seconds)


def known_choices(table: "Study") -> dict[tuple[int, int], list["Choice"]]:
    """By width and epochs, the rates chosen by the tuning sweeps that are finished."""
    from analysis import tuning
    from experiments import study
    from kdjax.files import MANIFEST

    config = table.config
    asked = [one.config for one in members(config, len(table.dataset.train.images)) if one.role == Role.TUNING]
    folders = [study.prepare_sweep(table, sweep).folder for sweep in asked]
    pairs = zip(config.schedules(), folders, strict=False)  # no folders without the part
    return {schedule: tuning.choices_in(folder) for schedule, folder in pairs if (folder / MANIFEST).exists()}


def forecast_tuned(table: "Study", schedules: Sequence[tuple[int, int]]) -> Iterator[tuple[str, float]]:
    """What the sweeps at tuned rates would run and cost at schedules whose rates are not chosen yet: a line each, and
    seconds. At most, no setting has the one rate of all."""
    from analysis.tuning import Choice
    from experiments import study
    from kdjax import forecast as costs
    from kdjax.progress import clock, count_of

    config, other = table.config, 2 * table.config.learning_rate
    settings = [Choice("hard", math.nan, other), *(Choice("kd", t, other) for t in config.width_temperatures)]
    for width, epochs in schedules if "widths" in config.parts() else ():
        asked = [study.prepare_sweep(table, one.config) for one in tuned_members(config, {(width, epochs): settings})]
        cost = sum(costs.sweep_seconds(sweep._replace(folder=sweep.folder / "none"), False) for sweep in asked)
        students = sum(len(block.runs) for sweep in asked for block in sweep.blocks)
        what = f"{count_of(students, 'student')} of {width} units, {count_of(epochs, 'epoch')}, at rates not chosen yet"
        what = f"{what}, about {clock(cost)}"
        yield f"widths, tuned rates: would train up to {what}", cost


def slower_precision(config: TableConfig) -> list[str]:
    """A line where bfloat16 is the slower precision here; measured in half a second."""
    from kdjax import forecast as costs

    if "bfloat16" not in (config.precision, config.teacher.precision):
        return []
    times = costs.dense_rate("float32") / costs.dense_rate("bfloat16")
    line = f"bfloat16 takes {times:.1f} times as long as float32 on this device: --precision float32 and "
    return [line + "--teacher.precision float32 are faster"] if times > 1.2 else []


def main(config: TableConfig) -> None:
    """Makes the table (or resumes it), draws the figures and prints it."""
    from analysis.mnist import figures, table  # late, so that --help is quick
    from experiments import study

    shorter = "--preset quick, --dataset mnist5k, fewer --teachers, or fewer parts (--only)"
    study.execute(prepare(config), run, forecast, table.write_summary, figures.draw, shorter)


if __name__ == "__main__":
    cli.run(main, TableConfig, PROG, presets=PRESETS)
