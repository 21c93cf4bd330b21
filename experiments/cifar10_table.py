"""Small, big and distilled networks on CIFAR-10: `python -m experiments.cifar10_table`

The blog post's table: two convolutional networks of 770,378 and 3,844,938 parameters (at full width) on hard labels;
the small one distilled from the big one at T = 10 with soft weight 0.9; beside it the control `double_softmax`, a
student of the teacher's probabilities taken for logits, and others on request. `--temperatures 1 2 4 10 20 inf` adds
what temperature does. And the same of networks that are better in fewer minutes, `--preset fast`: errors against T,
each setting's learning rate and soft weight chosen on the hold-out by seeds of their own.

The last 5,000 training images are held out: no network learns from them. Where images are augmented, the teacher is
queried, at each step, about the image as the student sees it; with `--augment none` its logits are looked up.
`--preset cpu`, `full` and `fast` are meant for two cores, in pieces by resume; `post` (the post's recipe) for a GPU.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from analysis.cifar10.roles import SweepRole
from experiments.member import Member
from kdjax import cli
from kdjax.config import (
    AFTER_NORM,
    NETWORKS,
    STABILITY_EPOCHS,
    TEACHER_SEED,
    TUNING_SEED,
    Augment,
    NamedDataConfig,
    Optimizer,
    Precision,
    RunConfig,
    Schedule,
    SweepConfig,
    TeacherConfig,
    as_declared,
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
from kdjax.identity import NO_RESULT, added

if TYPE_CHECKING:
    from analysis.tuning import Choice
    from experiments.study import Study
    from kdjax.forecast import Forecast

PROG = "python -m experiments.cifar10_table"

Control = Literal["double_softmax", "label_smoothing", "shuffled", "random", "uniform"]
OBJECTIVES = {"double_softmax": "double_softmax", "label_smoothing": "label_smoothing(eps=0.2)"}
"""Controls that are objectives, trained in the blocks of hard labels; the others stand for the teacher's logits."""


FAST_TEACHERS = {"teachers": 3, "each_teaches": True, "teacher_epochs": 16}
"""Of the preset fast, unless teachers are given."""


@dataclasses.dataclass(frozen=True)
class ColourConfig(NamedDataConfig):
    """Which images, and how many of them."""

    dataset: str = "cifar10"
    """Name of the dataset: one of colour images, such as cifar10."""
    holdout: int = 5_000
    """Training images set aside, from the end of the training set, on which recipes are chosen; never trained on."""


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """Makes the table of small, big and distilled networks on CIFAR-10, with seeds, intervals and controls."""

    preset: Literal["cpu", "full", "post", "fast"] = dataclasses.field(default="cpu", metadata=NO_RESULT)
    """Whole settings to start from. cpu: halved widths, flips and shifts, few epochs. full: full widths, all
    augmentation, a cosine schedule of 30 epochs, T = 4, 10 and inf, three seeds. post: full widths, all augmentation, a
    constant rate for 300 epochs, T = 10, five seeds. fast: fast networks, students of three teachers at six
    temperatures, rates and soft weight tuned."""
    networks: Literal["post", "fast"] = dataclasses.field(default="post", metadata=added("post"))
    """post: the blog post's small and big. fast: `kdjax.models.fast`, narrow and wide."""
    dropout_after_norm: bool = dataclasses.field(default=False, metadata=added(False))
    """The networks of the post with dropout once, after the last batch norm. After each pooling, as in the post, it
    makes the statistics that batch norm collects in training differ from those of evaluation."""
    temperature: float = 10.0
    """Temperature T of the distilled row and of the controls (no unit)."""
    temperatures: tuple[float, ...] = ()
    """Temperatures T at which the small network is distilled too, each above 0; inf is the limit. They share blocks:
    another set of them is trained anew."""
    soft_weight: float = 0.9
    """Weight w of the soft term, in (0, 1]: the loss is w·T²·KL + (1 − w)·CE."""
    controls: tuple[Control, ...] = ("double_softmax",)
    """What else students learn from: double_softmax (the teacher's probabilities taken for logits), label_smoothing (ε
    = 0.2 in the soft term: 0.2·w in all), shuffled (the logits of another image), random (an untrained teacher's),
    uniform (equal for all classes)."""
    tuning_rates: tuple[float, ...] = dataclasses.field(default=(), metadata=added(()))
    """Peak learning rates among which the hold-out chooses one for each kind of small network and each T (default:
    none; all have --learning-rate). While a choice lies at an edge, the grid is widened, up to three times. One rate
    alone, with one soft weight, is that of all small networks."""
    tuning_weights: tuple[float, ...] = dataclasses.field(default=(), metadata=added(()))
    """Soft weights among which it chooses one for all T (default: none; all have --soft-weight)."""
    tuning_seeds: int = dataclasses.field(default=2, metadata=added(2))
    """Number of small networks at each of these. Their seeds are other ones than the table's."""
    lengths: tuple[int, ...] = dataclasses.field(default=(), metadata=added(()))
    """Other numbers of epochs for which small networks learn from labels and from the teacher at --temperature: what
    does distillation gain by longer training?"""
    stability: bool = False
    """Also train small networks at a constant rate, and compare how their predictions fluctuate between epochs."""
    batch_statistics: bool = dataclasses.field(default=False, metadata=NO_RESULT)
    """Also evaluate every network with batch statistics that are collected again, under dropout and without: some
    seconds per network."""
    teachers: int = 1
    """Number of big networks, each from a seed of its own; the first teaches, or each."""
    teacher_seed: int = dataclasses.field(default=TEACHER_SEED, metadata=NO_RESULT)
    """Seed of the first big network; the others have those after it."""
    each_teaches: bool = dataclasses.field(default=False, metadata=added(False))
    """Every big network teaches students of its own, at each T, not the first alone."""
    seeds: int = 5
    """Number of small networks of each kind."""
    width_multiplier: float = 0.5
    """Share of the channels and hidden units of both networks of the post; 1 is full width."""
    small_width: int = dataclasses.field(default=16, metadata=added(16))
    """Width w of the small network where networks are fast: groups of w, 2w and 2w channels."""
    big_width: int = dataclasses.field(default=64, metadata=added(64))
    """Width w of the big network where networks are fast: groups of w, 2w and 2w channels."""
    epochs: int = 12
    """Passes of every network over the training images."""
    teacher_epochs: int | None = None
    """Passes of a big network over the training images (default: as --epochs)."""
    batch_size: int = 128
    """Images per step."""
    learning_rate: float = 3e-3
    """Peak learning rate; of the big network alone where those of the small ones are tuned."""
    optimizer: Optimizer = dataclasses.field(default="adam", metadata=added("adam"))
    """adam, sgd, or nesterov (momentum, weight decay, lookahead; for batches of 250 a rate of about 0.3)."""
    schedule: Schedule = "cosine"
    """cosine: one epoch of warm-up, then a half cosine to 0; triangle: up for 23 % of the training, then down; or
    constant."""
    augment: Augment = "flip_shift"
    """Random maps of each image at each step: none, flip_shift (mirrored, shifted by up to 10 %), alternate (mirrored
    every second epoch, shifted by up to 2 pixels), or full (as flip_shift, also sheared, zoomed and rotated); elastic
    is meant for digits."""
    mirrored_views: bool = dataclasses.field(default=False, metadata=added(False))
    """All networks are evaluated, and teachers queried, by the mean logits of an image and its mirror image."""
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
        "teacher": ("teacher_from", "teachers", "each_teaches", "teacher_epochs", "teacher_seed", "big_width"),
        "student": (
            *("seeds", "networks", "epochs", "width_multiplier", "dropout_after_norm", "small_width", "batch_size"),
            *("learning_rate", "optimizer", "schedule", "augment", "precision", "mirrored_views", "lengths"),
        ),
        "objective": (
            *("temperature", "soft_weight", "temperatures", "controls"),
            *("tuning_rates", "tuning_weights", "tuning_seeds"),
        ),
        "run": (),
    }
    """Options by group, the most used first (`kdjax.options`); recipes that both networks have stand under student."""

    def __post_init__(self) -> None:
        as_declared(self)
        if self.teacher_from and self.preset == "fast":  # what the preset says of training them is not asked
            unset = {"teachers": 1, "each_teaches": False, "teacher_epochs": None}
            for name, value in FAST_TEACHERS.items():
                if getattr(self, name) == value:
                    object.__setattr__(self, name, unset[name])
        require_temperature("temperature", self.temperature)
        require_soft_weight("soft-weight", self.soft_weight, "hard labels alone are a row anyway")
        require(len(set(self.controls)) == len(self.controls), "--controls names one twice: give each once")
        require_count("teachers", self.teachers, "teachers", most=100)
        require_option(0 <= self.teacher_seed <= 2**30, "teacher-seed", self.teacher_seed, f"it lies in 0 to {2**30}")
        require_positive("learning-rate", self.learning_rate)
        require_positive("width-multiplier", self.width_multiplier)
        require_option(self.width_multiplier <= 16, "width-multiplier", self.width_multiplier, "it is at most 16")
        require_count("teacher-epochs", self.teacher_epochs, "epochs", most=100_000)
        if self.teacher_from:
            refused = "with --teacher-from is not allowed: teachers are either given or trained"
            require(self.big_width == TableConfig.big_width, f"--big-width {self.big_width} {refused}")
            require(self.teacher_seed == TEACHER_SEED, f"--teacher-seed {self.teacher_seed} {refused}")
            require(self.teachers == 1, f"--teachers {self.teachers} {refused}")
            require(self.teacher_epochs is None, f"--teacher-epochs {self.teacher_epochs} {refused}")
        for name in ("temperatures", "tuning_rates", "tuning_weights", "lengths"):
            if getattr(self, name):
                require_distinct(name.replace("_", "-"), getattr(self, name))
        for length in self.lengths:
            require_count("lengths", length, "epochs", most=100_000)
            require_option(length != self.epochs, "lengths", length, "the table itself has these --epochs")
        for rate in self.tuning_rates:
            require_positive("tuning-rates", rate)
        for weight in self.tuning_weights:
            require_soft_weight("tuning-weights", weight, "hard labels alone are a row anyway")
        require_distinct("temperatures", self.all_temperatures())
        require_count("tuning-seeds", self.tuning_seeds, "seeds", most=10_000)
        for name in ("small_width", "big_width"):
            require_count(name.replace("_", "-"), getattr(self, name), "channels", most=10_000)
        default = {field.name: field.default for field in dataclasses.fields(self)}
        idle = ("width_multiplier", "dropout_after_norm") if self.networks == "fast" else ("small_width", "big_width")
        for name in idle:
            told = f"--{name.replace('_', '-')} says nothing of --networks {self.networks}: leave it out"
            require(getattr(self, name) == default[name], told)
        own_rates = bool(self.tuning_rates)
        require(own_rates or not self.tuning_weights, "--tuning-weights needs --tuning-rates")
        tried = "--soft-weight is not allowed with --tuning-weights, among which the hold-out chooses: leave it out"
        require(not self.tuning_weights or self.soft_weight == default["soft_weight"], tried)
        usual = self.tuning_seeds == default["tuning_seeds"]
        require(self.is_tuned or usual, "--tuning-seeds needs several --tuning-rates or --tuning-weights")
        require(not self.is_tuned or bool(self.data.holdout), "--tuning-rates needs a --holdout to choose on")
        plain = set(self.controls) <= set(OBJECTIVES) and not self.stability
        require(
            plain or not own_rates,
            "--tuning-rates is for hard labels, soft targets, double_softmax and label_smoothing",
        )
        refused = "--each-teaches with --teacher-from is not allowed: several folders are one ensemble"
        require(not (self.each_teaches and self.teacher_from), refused)
        require(not self.each_teaches or self.teachers > 1, "--each-teaches needs --teachers 2 or more")
        refused = "--batch-statistics with --each-teaches is not allowed: they are of one teacher's students"
        require(not (self.batch_statistics and self.each_teaches), refused)
        refused = "--batch-statistics with --networks fast is not allowed: they have no dropout; leave it out"
        require(not (self.batch_statistics and self.networks == "fast"), refused)
        reason = "it is a standard deviation over half of them"
        enough = not self.stability or self.epochs >= STABILITY_EPOCHS
        require(enough, f"--stability needs --epochs {STABILITY_EPOCHS} or more: {reason}")
        (tuning_members if own_rates else members)(self)  # what the sweep refuses is refused here

    @property
    def is_tuned(self) -> bool:
        """Whether there are rates or soft weights to choose among."""
        return len(self.tuning_rates) > 1 or len(self.tuning_weights) > 1

    def network(self, size: Literal["small", "big"]) -> str:
        """The registered network of that size."""
        return "fast" if self.networks == "fast" else size + AFTER_NORM * self.dropout_after_norm

    def units(self, size: Literal["small", "big"]) -> int:
        """The width of a network: units of its hidden dense layer, or channels of its first group."""
        if self.networks == "fast":
            return self.small_width if size == "small" else self.big_width
        return max(1, round((NETWORKS[size].full_units or 1) * self.width_multiplier))

    def teacher(self, number: int = 0) -> TeacherConfig:
        """The recipe of the big network of that number."""
        return TeacherConfig(
            widths=(self.units("big"),),
            epochs=self.epochs if self.teacher_epochs is None else self.teacher_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            jitter=0,
            network=self.network("big"),
            augment=self.augment,
            optimizer=self.optimizer,
            schedule=self.schedule,
            mirrored_views=self.mirrored_views,
            precision=self.precision,
            seed=self.teacher_seed + number,
        )

    def sweep(self, by: int = 0, **changes: Any) -> SweepConfig:
        """What every sweep of the table has in common, under the teacher of that number; and what is its own."""
        common: dict[str, Any] = {
            "temperatures": (self.temperature,),
            "soft_weights": (self.soft_weight,),
            "learning_rates": (self.learning_rate,),
            "widths": (self.units("small"),),
            "network": self.network("small"),
            "augment": self.augment,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "mirrored_views": self.mirrored_views,
            "seeds": self.seeds,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "teacher_from": self.teacher_from,
            "data": self.data,
            "run": self.run.of_member(),
            "teacher": TeacherConfig() if self.teacher_from else self.teacher(by),
        }
        return SweepConfig(**{**common, **changes})

    def all_temperatures(self) -> tuple[float, ...]:
        """Those of soft targets, `--temperature` first."""
        return tuple(dict.fromkeys((self.temperature, *self.temperatures)))

    def objectives(self) -> tuple[str, ...]:
        """Soft targets, and the controls that are objectives."""
        return ("kd", *(OBJECTIVES[name] for name in self.controls if name in OBJECTIVES))

    def further_teachers(self) -> range:
        """The numbers of the big networks, after the first, that teach."""
        return range(1, self.teachers if self.each_teaches else 1)


def members(config: TableConfig) -> list[Member]:
    """The sweeps behind the table: the teacher's students, with them controls that are objectives; other T; other
    controls; other lengths. Where rates are tuned, the sweeps on which they are chosen, alone (`tuned_members`)."""
    if config.tuning_rates:
        tuning = tuning_members(config)
        if config.is_tuned:
            return tuning
        return tuned_members(config, [choice for one in tuning for choice in first_choices(one.config)])
    first = config.sweep(objectives=config.objectives())
    sweeps = [Member(SweepRole.TEACHER, first)]
    if others := tuple(value for value in config.temperatures if value != config.temperature):
        sweeps.append(Member(SweepRole.TEMPERATURES, config.sweep(hard_labels=False, temperatures=others)))
    everywhere = config.all_temperatures()
    for number in config.further_teachers():
        sweeps.append(Member(SweepRole.TEMPERATURES, config.sweep(number, hard_labels=False, temperatures=everywhere)))
    for kind in config.controls:
        if kind not in OBJECTIVES:
            sweeps.append(Member(SweepRole(kind), config.sweep(hard_labels=False, targets=kind)))
    sweeps += [Member(SweepRole.LENGTHS, config.sweep(epochs=length)) for length in config.lengths]
    if config.stability and config.schedule == "constant":  # then the table's own students serve
        sweeps[0] = Member(SweepRole.TEACHER, dataclasses.replace(first, monitor_every=1))
        sweeps.append(Member(SweepRole.STABILITY, sweeps[0].config))
    elif config.stability:
        steady: dict[str, Any] = {"schedule": "constant", "monitor_every": 1}
        sweeps.append(Member(SweepRole.STABILITY, dataclasses.replace(first, **steady)))
    return sweeps


def tuning_members(config: TableConfig) -> list[Member]:
    """The sweeps on which rates and soft weights are chosen."""
    tried: dict[str, Any] = {"seeds": config.tuning_seeds, "first_seed": TUNING_SEED}
    tried |= {"learning_rates": config.tuning_rates, "soft_weights": config.tuning_weights or (config.soft_weight,)}
    named = tuple(name for name in config.objectives() if name != "double_softmax")  # tuned at one T
    everywhere = config.all_temperatures()
    sweeps = [Member(SweepRole.TUNING, config.sweep(temperatures=everywhere, objectives=named, **tried))]
    if "double_softmax" in config.controls:
        bug: dict[str, Any] = {"hard_labels": False, "objectives": ("double_softmax",)}
        sweeps.append(Member(SweepRole.TUNING, config.sweep(**bug, **tried)))
    return sweeps


def tuned_members(config: TableConfig, choices: Sequence["Choice"]) -> list[Member]:
    """The sweeps behind a table whose rates were tuned, each setting with what was chosen for it."""

    def own(role: SweepRole, chosen: Sequence["Choice"], by: int = 0, **changes: Any) -> list[Member]:
        """Students of hard labels, if they are among the choices, and of the one other objective; none without."""
        if not chosen:
            return []
        soft = [one for one in chosen if one.objective != "hard"]
        wanted: dict[str, Any] = {"own_rates": True, "hard_labels": len(soft) < len(chosen)}
        if soft:
            temperatures = [config.temperature if math.isnan(one.temperature) else one.temperature for one in soft]
            wanted |= {"temperatures": tuple(temperatures), "soft_weights": (soft[0].soft_weight,)}
        wanted |= {"objectives": tuple(dict.fromkeys(one.objective for one in soft))}
        rates = tuple(one.learning_rate for one in chosen)
        return [Member(role, config.sweep(by, learning_rates=rates, **{**wanted, **changes}))]

    require(choices, "every run failed at every one of --tuning-rates: give smaller ones")
    hard, kd = ([one for one in choices if one.objective == name] for name in ("hard", "kd"))
    sweeps = own(SweepRole.TEACHER, [*hard, *kd])
    for objective in config.objectives()[1:]:
        sweeps += own(SweepRole.TEACHER, [one for one in choices if one.objective == objective])
    for number in config.further_teachers():
        sweeps += own(SweepRole.TEMPERATURES, kd, number)
    both = [*hard, *(one for one in kd if math.isclose(one.temperature, config.temperature, rel_tol=1e-8))]
    for length in config.lengths:
        sweeps += own(SweepRole.LENGTHS, both, epochs=length)
    return sweeps


PRESETS = {
    "cpu": TableConfig(),
    "full": TableConfig(
        preset="full",
        width_multiplier=1.0,
        epochs=30,
        augment="full",
        temperatures=(4.0, 10.0, math.inf),
        seeds=3,
        batch_statistics=True,
    ),
    "post": TableConfig(preset="post", width_multiplier=1.0, epochs=300, schedule="constant", augment="full"),
    "fast": TableConfig(
        preset="fast",
        networks="fast",
        temperature=4.0,
        temperatures=(1.0, 2.0, 4.0, 8.0, 16.0, math.inf),
        controls=("label_smoothing",),
        seeds=10,
        epochs=8,
        batch_size=250,
        learning_rate=0.3,
        optimizer="nesterov",
        schedule="triangle",
        augment="alternate",
        tuning_rates=(0.1, 0.2, 0.4),
        tuning_weights=(0.5, 1.0),
        lengths=(4, 16, 32),
        **FAST_TEACHERS,  # type: ignore[arg-type]
    ),
}


def prepare(config: TableConfig) -> "Study":
    """Reads the data and refuses what cannot work, before any training."""
    from experiments import study
    from kdjax import datasets, models, sweeps
    from kdjax.run_folders import span

    datasets.require_named(config.data, "cifar10_table")
    spec = datasets.CATALOG.get(config.data.dataset)
    if spec is None or spec.shape[2] != 3:  # the bundled digits have none
        raise BadInput(
            f"--dataset {config.data.dataset} is grey-scale: this table is of networks for colour images (3 channels); "
            "give cifar10"
        )
    first = members(config)[0].config
    for recipe in (config.teacher().train_config(1), first.student(config.units("small"), 1)):
        try:
            network = models.network(recipe, spec.shape, len(spec.class_names))
        except BadInput as error:
            given = f"--width-multiplier {config.width_multiplier:g} is not allowed: " * (config.networks == "post")
            raise BadInput(f"{given}{error}") from None
    sweep = sweeps.prepare(first)
    for teacher in sweep.loaded:
        told = "leave out" if config.mirrored_views else "give"
        same = teacher.config.mirrored_views == config.mirrored_views
        require(same, f"{teacher.folder} and the table differ in mirrored views: {told} --mirrored-views")
    fingerprints, parameters = sweep.identity["teachers"], models.parameter_count(network)
    words = [f"{config.network('small')}{config.units('small')}", span([config.temperature, *config.temperatures], "T")]
    kind = config.network("small")
    return study.prepare("cifar10_table", words, config, sweep.dataset, kind, fingerprints, parameters=parameters)


def run(table: "Study") -> Path:
    """Finds or trains the big networks and runs every sweep; writes where each is. Returns the folder."""
    import numpy as np

    from analysis import tuning
    from analysis.cifar10 import table as summary
    from experiments import evaluations, study
    from kdjax import metrics, run_directory, sweeps, teachers
    from kdjax.run_folders import sweep_folder

    config, dataset = table.config, table.dataset
    splits = {"test": dataset.test} | ({"holdout": dataset.holdout} if len(dataset.holdout.images) else {})
    with run_directory.opened(table.folder, table.identity, table.run.fresh) as record:
        loaded = [teachers.load(folder, dataset) for folder in config.teacher_from]
        networks = loaded or study.train_teachers(config.teacher(), config.teachers, table)
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
        details = {"networks": described, "teacher": teacher, "taught_by": teaching, "answers": []}
        sweeps.describe(record, config, dataset, **details)
        entries = study.run_members(table, record, members(config), summary.write_summary)
        if config.is_tuned:
            tuned = [sweep_folder(table.folder, entry["run"]) for entry in entries]
            choices = [choice for folder in tuned for choice in tuning.choices_in(folder)]
            study.run_members(table, record, tuned_members(config, choices), summary.write_summary, entries)
        if config.batch_statistics:
            evaluations.write_batch_statistics(table.folder, dataset, networks, teaching)
        record.seal(("config.json", "teacher.npz", "batch_statistics.csv"))
    return table.folder


def forecast(table: "Study") -> "Forecast":
    """What would run and cost, one line per sweep; students that serve twice are counted once."""
    from experiments import study
    from kdjax.forecast import Forecast
    from kdjax.progress import clock

    config = table.config
    asked = [*members(config), *(tuned_members(config, known_choices(table)) if config.is_tuned else [])]
    further = list(study.forecast_teachers(table, config.teacher(), range(1, config.teachers)))
    of_sweeps = list(study.forecast_members(table, asked, [name for *_, name in further]))
    more = "more where the best rate lies at an edge of those given: then further ones are tried"
    lines, total = [line for line, _ in of_sweeps], sum(seconds for _, seconds in of_sweeps)
    if missing := [seconds for _, seconds, _ in further if seconds]:
        lines.append(f"further big networks: {len(missing)}, about {clock(sum(missing))}")
    total += sum(missing)
    lines += [more] * config.is_tuned
    return Forecast("\n".join([*lines, f"in all about {clock(total)} on this device"]), total)


def known_choices(table: "Study") -> list["Choice"]:
    """What the tuning sweeps chose, if they are finished; else what they might."""
    from analysis import tuning
    from experiments import study
    from kdjax.files import MANIFEST

    choices = list[tuning.Choice]()
    for member in members(table.config):
        sweep = study.prepare_sweep(table, member.config)
        finished = (sweep.folder / MANIFEST).exists()
        choices += tuning.choices_in(sweep.folder) if finished else first_choices(sweep.config)
    return choices


def first_choices(sweep: SweepConfig) -> list["Choice"]:
    """Of each setting of a tuning sweep, the first rate and soft weight that it tries."""
    from analysis.tuning import Choice
    from kdjax.grids import grid

    weights = (0.0, sweep.soft_weights[0])  # that of hard labels, and the first of the others
    runs = (run for group in grid(sweep, sweep.learning_rates[0]) for run in group if run.soft_weight in weights)
    return [Choice(run.objective, run.temperature, run.learning_rate, soft_weight=run.soft_weight) for run in runs]


def main(config: TableConfig) -> None:
    """Makes the table (or resumes it), draws the figures and prints it."""
    from analysis.cifar10 import figures, table  # late, so that --help is quick
    from experiments import study

    narrower = "--small-width 8" if config.networks == "fast" else "--width-multiplier 0.25"
    shorter = f"fewer --epochs or --seeds, or {narrower}"
    study.execute(prepare(config), run, forecast, table.write_summary, figures.draw, shorter)


if __name__ == "__main__":
    cli.run(main, TableConfig, PROG, presets=PRESETS)
