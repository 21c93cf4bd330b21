"""Small, big and distilled on CIFAR-10, and the double-softmax bug: `python -m experiments.cifar10_table`

Two convolutional networks of 770,378 and 3,844,938 parameters (at full width) on hard labels; the small one distilled
from the big one at T = 10 with soft weight 0.9; beside it the control `double_softmax`, a student of the teacher's
probabilities taken for logits, and others on request. `--temperatures 1 2 4 10 20 inf` adds what temperature does.

The last 5,000 training images are held out: no network learns from them. Where images are augmented, the teacher is
queried, at each step, about the image as the student sees it; with `--augment none` its logits are looked up.
`--preset cpu` is meant for two cores, in pieces by resume; `post` (the blog post's recipe) and `fast` for a GPU.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from kdjax import cli
from kdjax.config import (
    NETWORKS,
    STABILITY_EPOCHS,
    Augment,
    DataConfig,
    Precision,
    RunConfig,
    Schedule,
    SweepConfig,
    TeacherConfig,
)
from kdjax.errors import (
    BadInput,
    require,
    require_count,
    require_distinct,
    require_option,
    require_positive,
    require_soft_weight,
    require_temperature,
)
from kdjax.files import write_arrays
from kdjax.identity import NO_RESULT

if TYPE_CHECKING:
    from experiments.study import Member, Study
    from kdjax.forecast import Forecast

PROG = "python -m experiments.cifar10_table"

Control = Literal["double_softmax", "shuffled", "random", "uniform"]


@dataclasses.dataclass(frozen=True)
class ColourConfig(DataConfig):
    """Which images, and how many of them."""

    dataset: str = "cifar10"
    """Name of the dataset: one of colour images, such as cifar10."""
    holdout: int = 5_000
    """Training images set aside, from the end of the training set, on which recipes are chosen; never trained on."""


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """Makes the table of small, big and distilled networks on CIFAR-10, with seeds, intervals and controls."""

    preset: Literal["cpu", "fast", "post"] = dataclasses.field(default="cpu", metadata=NO_RESULT)
    """Whole settings to start from. cpu: halved widths, flips and shifts, few epochs. fast: full widths, flips and
    shifts, a cosine schedule of 30 epochs. post: full widths, all augmentation, a constant rate for 300 epochs."""
    temperature: float = 10.0
    """Temperature T of the distilled row and of the controls (no unit)."""
    temperatures: tuple[float, ...] = ()
    """Temperatures T at which the small network is distilled too, each above 0; inf is the limit. They share blocks:
    another set of them is trained anew."""
    soft_weight: float = 0.9
    """Weight w of the soft term, in (0, 1]: the loss is w·T²·KL + (1 − w)·CE."""
    controls: tuple[Control, ...] = ("double_softmax",)
    """What else stands for the teacher's logits: double_softmax (its probabilities taken for logits), shuffled (those
    of another image), random (an untrained teacher's), uniform (equal for all classes)."""
    stability: bool = False
    """Also train small networks at a constant rate, and compare how their predictions fluctuate between epochs."""
    batch_statistics: bool = dataclasses.field(default=False, metadata=NO_RESULT)
    """Also evaluate every network with batch statistics that are collected again, under dropout and without: some
    seconds per network."""
    teachers: int = 1
    """Number of big networks, each from a seed of its own; the first teaches."""
    seeds: int = 5
    """Number of small networks of each kind."""
    width_multiplier: float = 0.5
    """Share of the channels and hidden units of both networks; 1 is full width."""
    epochs: int = 12
    """Passes of every network over the training images."""
    teacher_epochs: int | None = None
    """Passes of a big network, where it is to be another number (default: that of --epochs)."""
    batch_size: int = 128
    """Images per step."""
    learning_rate: float = 3e-3
    """Peak learning rate of Adam."""
    schedule: Schedule = "cosine"
    """cosine: one epoch of warm-up, then a half cosine to 0; or constant."""
    augment: Augment = "flip_shift"
    """Random maps of each image at each step: none, flip_shift (mirrored, shifted by up to 10 %), or full (also
    sheared, zoomed and rotated); elastic is meant for digits."""
    precision: Precision = "float32"
    """Operands of the products of both networks."""
    teacher_from: tuple[Path, ...] = dataclasses.field(default=(), metadata=NO_RESULT)
    """Folders of teachers to use instead of training big networks; several are an ensemble."""
    data: Annotated[ColourConfig, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=ColourConfig)
    """Which images."""
    run: Annotated[RunConfig, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=RunConfig)
    """Where to run and what to write."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": (),
        "teacher": ("teacher_from", "teachers", "teacher_epochs"),
        "student": (
            *("seeds", "epochs", "width_multiplier", "batch_size", "learning_rate", "schedule", "augment"),
            "precision",
        ),
        "objective": ("temperature", "soft_weight", "temperatures", "controls"),
        "run": (),
    }
    """Options by group, the most used first (`kdjax.options`); recipes that both networks have stand under student."""

    def __post_init__(self) -> None:
        require_temperature("temperature", self.temperature)
        require_soft_weight("soft-weight", self.soft_weight, "hard labels alone are a row anyway")
        require(len(set(self.controls)) == len(self.controls), "--controls names one twice: give each once")
        require_count("teachers", self.teachers, "teachers", most=100)
        require_positive("learning-rate", self.learning_rate)
        require_positive("width-multiplier", self.width_multiplier)
        require_option(self.width_multiplier <= 16, "width-multiplier", self.width_multiplier, "it is at most 16")
        require_count("teacher-epochs", self.teacher_epochs, "epochs")
        if self.teacher_from:
            refused = "with --teacher-from is not allowed: teachers are either given or trained"
            require(self.teachers == 1, f"--teachers {self.teachers} {refused}")
            require(self.teacher_epochs is None, f"--teacher-epochs {self.teacher_epochs} {refused}")
        if self.temperatures:
            require_distinct("temperatures", self.temperatures)
        reason = "it is a standard deviation over half of them"
        enough = not self.stability or self.epochs >= STABILITY_EPOCHS
        require(enough, f"--stability needs --epochs {STABILITY_EPOCHS} or more: {reason}")
        members(self)  # what the sweep refuses is refused here

    def units(self, network: Literal["small", "big"]) -> int:
        """Units of a network's hidden dense layer: they name its width."""
        return max(1, round((NETWORKS[network].full_units or 1) * self.width_multiplier))

    def teacher(self) -> TeacherConfig:
        """The big network's recipe."""
        return TeacherConfig(
            widths=(self.units("big"),),
            epochs=self.epochs if self.teacher_epochs is None else self.teacher_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            jitter=0,
            network="big",
            augment=self.augment,
            schedule=self.schedule,
            precision=self.precision,
        )


def members(config: TableConfig) -> list["Member"]:
    """The sweeps behind the table: the teacher's students, double softmax in their blocks; other T; other controls."""
    from analysis.cifar10.roles import SweepRole
    from experiments.study import Member

    common = SweepConfig(
        temperatures=(config.temperature,),
        soft_weights=(config.soft_weight,),
        learning_rates=(config.learning_rate,),
        widths=(config.units("small"),),
        network="small",
        augment=config.augment,
        schedule=config.schedule,
        seeds=config.seeds,
        epochs=config.epochs,
        batch_size=config.batch_size,
        precision=config.precision,
        teacher_from=config.teacher_from,
        data=config.data,
        run=config.run.of_member(),
        teacher=config.teacher(),
    )
    bug = ("double_softmax",) if "double_softmax" in config.controls else ()
    first = dataclasses.replace(common, objectives=("kd", *bug))
    sweeps = [Member(SweepRole.TEACHER, first)]
    if others := tuple(value for value in config.temperatures if value != config.temperature):
        varied = dataclasses.replace(common, hard_labels=False, temperatures=others)
        sweeps.append(Member(SweepRole.TEMPERATURES, varied))
    for kind in config.controls:
        if kind != "double_softmax":
            sweeps.append(Member(SweepRole(kind), dataclasses.replace(common, hard_labels=False, targets=kind)))
    if config.stability and config.schedule == "constant":  # then the table's own students serve
        sweeps[0] = Member(SweepRole.TEACHER, dataclasses.replace(first, monitor_every=1))
        sweeps.append(Member(SweepRole.STABILITY, sweeps[0].config))
    elif config.stability:
        steady: dict[str, Any] = {"schedule": "constant", "monitor_every": 1}
        sweeps.append(Member(SweepRole.STABILITY, dataclasses.replace(first, **steady)))
    return sweeps


PRESETS = {
    "cpu": TableConfig(),
    "fast": TableConfig(preset="fast", width_multiplier=1.0, epochs=30),
    "post": TableConfig(preset="post", width_multiplier=1.0, epochs=300, schedule="constant", augment="full"),
}


def prepare(config: TableConfig) -> "Study":
    """Reads the data and refuses what cannot work, before any training."""
    from experiments import study
    from kdjax import datasets, models, sweeps
    from kdjax.run_folders import span

    datasets.require_named(config.data, "cifar10_table")
    spec = datasets.CATALOG.get(config.data.dataset)
    grey = config.data.dataset in ("auto", "mnist5k") or (spec is not None and spec.shape[2] != 3)
    require(
        not grey,
        f"--dataset {config.data.dataset} is grey-scale: this table is of networks for colour images (3 channels); "
        "give cifar10",
    )
    first = members(config)[0].config
    for recipe in (config.teacher().train_config(1), first.student(config.units("small"), 1)):
        try:
            network = models.network(recipe, (32, 32, 3), 10)
        except BadInput as error:
            raise BadInput(f"--width-multiplier {config.width_multiplier:g} is not allowed: {error}") from None
    sweep = sweeps.prepare(first)
    fingerprints, parameters = sweep.identity["teachers"], models.parameter_count(network)
    words = [f"small{config.units('small')}", span([config.temperature, *config.temperatures], "T")]
    return study.prepare("cifar10_table", words, config, sweep.dataset, "small", fingerprints, parameters=parameters)


def run(table: "Study") -> Path:
    """Finds or trains the big networks and runs every sweep; writes where each is. Returns the folder."""
    import numpy as np

    from experiments import evaluations, study
    from kdjax import metrics, run_directory, sweeps, teachers

    config, dataset = table.config, table.dataset
    splits = {"test": dataset.test} | ({"holdout": dataset.holdout} if len(dataset.holdout.images) else {})
    with run_directory.opened(table.folder, table.identity, table.run.fresh) as record:
        (table.folder / "batch_statistics.csv").unlink(missing_ok=True)  # students may be trained again
        loaded = [teachers.load(folder, dataset) for folder in config.teacher_from]
        networks = loaded or study.train_teachers(config.teacher(), config.teachers, table)
        entries = study.run_members(table, record, members(config))
        teaching = len(loaded) or 1  # the first so many
        arrays = {f"{name}_labels": split.labels for name, split in splits.items()}
        logits = {name: np.stack([one.logits(split.images) for one in networks]) for name, split in splits.items()}
        arrays |= {f"{name}_logits": teachers.mean_logits(tables[:teaching]) for name, tables in logits.items()}
        write_arrays(table.folder / "teacher.npz", **arrays)
        described = [
            {
                **{"name": one.name, "network": one.config.network, "epochs": one.config.epochs},
                "parameters": one.info["parameters"],
                **{name: metrics.evaluate(logits[name][index], split.labels) for name, split in splits.items()},
            }
            for index, one in enumerate(networks)
        ]
        teacher = {name: metrics.evaluate(arrays[f"{name}_logits"], split.labels) for name, split in splits.items()}
        details = {"networks": described, "teacher": teacher, "taught_by": teaching, "answers": entries}
        sweeps.describe(record, config, dataset, **details)
        sealed = ["config.json", "teacher.npz"]
        if config.batch_statistics:
            evaluations.write_batch_statistics(table.folder, dataset, networks, teaching)
            sealed.append("batch_statistics.csv")
        record.seal(sealed)
    return table.folder


def forecast(table: "Study") -> "Forecast":
    """What would run and cost, one line per sweep; students that serve twice are counted once."""
    from experiments import study
    from kdjax.forecast import Forecast
    from kdjax.progress import clock

    config = table.config
    of_sweeps = list(study.forecast_members(table, members(config), []))
    lines, total = [line for line, _ in of_sweeps], sum(seconds for _, seconds in of_sweeps)
    further = list(study.forecast_teachers(table, config.teacher(), config.teachers))[1:]
    if missing := [seconds for _, seconds, _ in further if seconds]:
        lines.append(f"further big networks: {len(missing)}, about {clock(sum(missing))}")
    total += sum(missing)
    return Forecast("\n".join([*lines, f"in all about {clock(total)} on this device"]), total)


def main(config: TableConfig) -> None:
    """Makes the table (or resumes it), draws the figures and prints it."""
    from analysis.cifar10 import figures, table  # late, so that --help is quick
    from experiments import study

    shorter = "fewer --epochs or --seeds, or --width-multiplier 0.25"
    study.execute(prepare(config), run, forecast, table.write_summary, figures.draw, shorter)


if __name__ == "__main__":
    cli.run(main, TableConfig, PROG, presets=PRESETS)
