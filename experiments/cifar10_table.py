"""Small, big and distilled on CIFAR-10, and the bug that passed for distillation: `python -m experiments.cifar10_table`

Two convolutional networks of 770,378 and 3,844,938 parameters (at full width) on hard labels; the small one distilled
from the big one at T = 10 with soft weight 0.9; beside it the control `double_softmax`, a student of the teacher's
probabilities taken for logits, and others on request. `--temperatures 1 2 4 10 20 inf` adds what temperature does.
Nothing is trained here: the sweep is asked, and what it has trained before is found again.

The last 5,000 training images are held out: no network learns from them. Where images are augmented, the teacher is
asked, at each step, about the image as the student sees it; with `--augment none` its logits are looked up.
`--preset cpu` is meant for two cores, in pieces by resume; `seed` and `fast` are meant for a GPU.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

from kdjax import cli
from kdjax.config import (
    CHECKPOINT_SECONDS,
    CONVOLUTIONAL,
    NUMERICS,
    STABILITY_EPOCHS,
    Augment,
    DataConfig,
    Precision,
    Schedule,
    SweepConfig,
    TeacherConfig,
    WhereConfig,
)
from kdjax.errors import BadInput, require, require_distinct, require_name, require_positive, require_temperature

if TYPE_CHECKING:
    from kdjax.datasets import Dataset

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

    preset: Literal["cpu", "fast", "seed"] = "cpu"
    """Whole settings to start from. cpu: halved widths, flips and shifts, few epochs. fast: full widths, flips and
    shifts, a cosine schedule of 30 epochs. seed: full widths, all augmentation, a constant rate for 300 epochs."""
    temperature: float = 10.0
    """Temperature T of the distilled row and of the controls (no unit)."""
    temperatures: tuple[float, ...] = ()
    """Temperatures T at which the small network is distilled too, each above 0; inf is the limit. They share blocks:
    another set of them is trained anew."""
    soft_weight: float = 0.9
    """Weight w of the soft term, in (0, 1]: the loss is w·T²·KL + (1 − w)·CE."""
    controls: tuple[Control, ...] = ("double_softmax",)
    """What else stands for the teacher's logits: double_softmax (its probabilities taken for logits), shuffled (those
    of another image), random (an untrained teacher's), uniform (all alike)."""
    stability: bool = False
    """Also train small networks at a constant rate, and compare how their answers fluctuate from epoch to epoch."""
    batch_statistics: bool = False
    """Also judge every network with batch statistics that are collected anew, under dropout and without: some seconds a
    network."""
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
    """Images a step."""
    learning_rate: float = 3e-3
    """Peak learning rate of Adam."""
    schedule: Schedule = "cosine"
    """cosine: one epoch of warm-up, then a half cosine to 0; or constant."""
    augment: Augment = "flip_shift"
    """Random maps of each image at each step: none, flip_shift (mirrored, shifted by up to 10 %), or full (also
    sheared, zoomed and rotated); elastic is meant for digits."""
    precision: Precision = "float32"
    """Operands of the products of both networks."""
    teacher_from: tuple[Path, ...] = ()
    """Folders of teachers to use instead of training big networks; several are an ensemble."""
    out: Path = Path("runs")
    """Folder that holds run directories and teachers."""
    name: str | None = None
    """Name of the run directory in OUT/cifar10_table (default: a hash of the config)."""
    fresh: bool = False
    """Start the table's run directory anew. Sweeps and teachers are kept: what is trained is found again."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints of what is being trained: the most that a kill can cost. Results do not depend on
    it."""
    dry_run: bool = False
    """Only say what would run: blocks, minutes, memory, disk."""
    data: Annotated[ColourConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ColourConfig)
    """Which images."""
    where: Annotated[WhereConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=WhereConfig)
    """Where small networks are trained."""

    def __post_init__(self) -> None:
        require_temperature("temperature", self.temperature)
        require(
            0 < self.soft_weight <= 1,
            f"--soft-weight {self.soft_weight:g} is not allowed: it lies in (0, 1]; hard labels alone are a row anyway",
        )
        require(len(set(self.controls)) == len(self.controls), "--controls names one twice: give each once")
        require(0 < self.teachers <= 100, f"--teachers {self.teachers} is not allowed: it is a number from 1 to 100")
        require(
            not self.teacher_from or self.teachers == 1,
            f"--teachers {self.teachers} with --teacher-from is not allowed: they are either given or trained",
        )
        require_positive("learning-rate", self.learning_rate)
        require_positive("width-multiplier", self.width_multiplier)
        require(self.width_multiplier <= 16, f"--width-multiplier {self.width_multiplier:g} is too large: at most 16")
        require(
            self.teacher_epochs is None or self.teacher_epochs > 0,
            f"--teacher-epochs {self.teacher_epochs} is not allowed: it is 1 epoch or more",
        )
        require(
            not self.teacher_from or self.teacher_epochs is None,
            f"--teacher-epochs {self.teacher_epochs} with --teacher-from is not allowed: that teacher is trained",
        )
        if self.temperatures:
            require_distinct("temperatures", self.temperatures)
        require(
            not self.stability or self.epochs >= STABILITY_EPOCHS,
            f"--stability needs --epochs {STABILITY_EPOCHS} or more: it is a standard deviation over half of them",
        )
        require_name(self.name)
        questions(self)  # what the sweep refuses is refused here

    def units(self, network: Literal["small", "big"]) -> int:
        """Units of a network's hidden dense layer: they name its width."""
        return max(1, round(CONVOLUTIONAL[network] * self.width_multiplier))

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


class Question(NamedTuple):
    """One sweep that is asked for."""

    role: str
    """What its soft students learn from: `teacher` (`temperatures`: at other T), or a control; or `stability`."""
    config: SweepConfig


def questions(config: TableConfig) -> list[Question]:
    """The sweeps behind the table: the teacher's students, double softmax in their blocks; other T; other controls."""
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
        out=config.out,
        checkpoint_seconds=config.checkpoint_seconds,
        data=config.data,
        where=config.where,
        teacher=config.teacher(),
    )
    asked = [Question("teacher", dataclasses.replace(common, double_softmax="double_softmax" in config.controls))]
    if others := tuple(value for value in config.temperatures if value != config.temperature):
        asked.append(Question("temperatures", dataclasses.replace(common, hard_labels=False, temperatures=others)))
    for kind in config.controls:
        if kind != "double_softmax":
            asked.append(Question(kind, dataclasses.replace(common, hard_labels=False, targets=kind)))
    if config.stability and config.schedule == "constant":  # then the table's own students serve
        asked[0] = Question("teacher", dataclasses.replace(asked[0].config, monitor_every=1))
        asked.append(Question("stability", asked[0].config))
    elif config.stability:
        steady: dict[str, Any] = {"schedule": "constant", "monitor_every": 1}
        asked.append(Question("stability", dataclasses.replace(asked[0].config, **steady)))
    return asked


PRESETS = {
    "cpu": TableConfig(),
    "fast": TableConfig(preset="fast", width_multiplier=1.0, epochs=30),
    "seed": TableConfig(preset="seed", width_multiplier=1.0, epochs=300, schedule="constant", augment="full"),
}


class Table(NamedTuple):
    """The table, ready to be made."""

    config: TableConfig
    dataset: "Dataset"
    identity: dict[str, Any]
    folder: Path


def prepare(config: TableConfig) -> Table:
    """Reads the data and refuses what cannot work, before any training."""
    from kdjax import datasets, models, run_directory, sweeps

    spec = datasets.CATALOG.get(config.data.dataset)
    grey = config.data.dataset in ("auto", "mnist5k") or (spec is not None and spec.shape[2] != 3)
    require(
        not grey,
        f"--dataset {config.data.dataset} is grey-scale: this table is of networks for colour images (3 channels); "
        "give cifar10",
    )
    asked = questions(config)
    recipes = [config.teacher().train_config(1), asked[0].config.student(config.units("small"), 1)]
    for recipe in recipes:
        try:
            models.network(recipe, (32, 32, 3), 10)
        except BadInput as error:
            raise BadInput(f"--width-multiplier {config.width_multiplier:g} is not allowed: {error}") from None
    sweep = sweeps.prepare(asked[0].config)
    dataset = sweep.dataset
    elsewhere = {
        "preset",
        "batch_statistics",
        "out",
        "name",
        "fresh",
        "checkpoint_seconds",
        "dry_run",
        "data",
        "where",
        "teacher_from",
    }
    identity = {
        "experiment": "cifar10_table",
        "config": {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(config)
            if field.name not in elsewhere
        },
        "data": dataset.identity(),
        "teachers": sweep.identity["teachers"],
        "parameters": models.parameter_count(
            models.network(recipes[1], dataset.train.images.shape[1:], dataset.num_classes)
        ),
        "numerics": NUMERICS,
    }
    return Table(
        config, dataset, identity, run_directory.run_folder(config.out, "cifar10_table", config.name, identity)
    )


def run(table: Table) -> Path:
    """Finds or trains the big networks and asks every sweep; writes where each answer lies. Returns the folder."""
    import numpy as np

    from kdjax import metrics, run_directory, sweeps, teachers
    from kdjax.files import seal
    from kdjax.progress import say
    from kdjax.provenance import provenance

    config, dataset = table.config, table.dataset
    splits = {"test": dataset.test} | ({"holdout": dataset.holdout} if len(dataset.holdout.images) else {})
    with run_directory.opened(table.folder, table.identity, config.fresh) as record:
        (table.folder / "batch_statistics.csv").unlink(missing_ok=True)  # students may be trained anew
        recipe, rate = config.teacher().train_config(1), config.learning_rate
        given = [teachers.load(folder, dataset) for folder in config.teacher_from]
        found = given or [
            teachers.find_or_train(recipe, rate, seed, dataset, config.out, config.checkpoint_seconds)
            for seed in range(config.teachers)
        ]
        answers = []
        for role, asked in questions(config):
            say("students at a constant rate" if role == "stability" else f"students of {role}")
            folder = sweeps.run(sweeps.prepare(asked, dataset=dataset))
            answers.append({"role": role, "run": folder.name})
        taught_by = len(given) or 1  # the first so many
        arrays = {f"{name}_labels": split.labels for name, split in splits.items()}
        said = {name: np.stack([one.logits(split.images) for one in found]) for name, split in splits.items()}
        arrays |= {f"{name}_logits": teachers.mean_logits(tables[:taught_by]) for name, tables in said.items()}
        run_directory.write_arrays(table.folder / "teacher.npz", **arrays)
        networks = [
            {
                **{"name": one.name, "network": one.config.network, "epochs": one.config.epochs},
                "parameters": one.info["parameters"],
                **{name: metrics.evaluate(said[name][place], split.labels) for name, split in splits.items()},
            }
            for place, one in enumerate(found)
        ]
        teacher = {name: metrics.evaluate(arrays[f"{name}_logits"], split.labels) for name, split in splits.items()}
        details = {"config": config, "networks": networks, "teacher": teacher, "taught_by": taught_by}
        record.describe({**provenance(), **details, "answers": answers})
        kept = ["config.json", "teacher.npz"]
        if config.batch_statistics:
            from experiments import evaluations

            evaluations.write_batch_statistics(table.folder, dataset, found, taught_by)
            kept.append("batch_statistics.csv")
        seal(table.folder, kept)
    return table.folder


def forecast(table: Table) -> str:
    """What would run and cost, a line a sweep; students that serve twice are counted once."""
    from kdjax import forecast, sweeps, teachers
    from kdjax.progress import clock

    config, lines, seen = table.config, list[str](), list[SweepConfig]()
    for role, asked in questions(config):
        if asked not in seen:
            sweep = sweeps.prepare(asked, dataset=table.dataset)
            lines.append(f"students of {role}: {forecast.of_sweep(sweep, teacher=not seen)}")
        seen.append(asked)
    recipe = config.teacher().train_config(1)
    names = [
        teachers.fingerprint(recipe, config.learning_rate, seed, table.dataset) for seed in range(1, config.teachers)
    ]
    if missing := sum(not teachers.place(config.out, name).exists() for name in names):
        seconds = missing * forecast.training_seconds(recipe, table.dataset)
        lines.append(f"further big networks: {missing}, about {clock(seconds)}")
    return "\n".join(lines)


def main(config: TableConfig) -> None:
    """Makes the table (or goes on with it), draws the figure and prints it."""
    from kdjax.progress import say

    table = prepare(config)
    if config.dry_run:
        print(forecast(table))
        return
    folder = run(table)

    from analysis import plot_cifar10_table
    from analysis.cifar10 import table as cifar10_table_

    print(cifar10_table_.write_summary(folder))
    figures = plot_cifar10_table.draw(folder)
    say(f"figures: {', '.join(str(path) for path in figures if path.suffix == '.png')}")


if __name__ == "__main__":
    cli.run(main, TableConfig, PROG, presets=PRESETS)
