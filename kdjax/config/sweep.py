"""A temperature sweep: its grid, its students, its teacher."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

import tyro

from kdjax.config.data import DataConfig, as_declared
from kdjax.config.network import (
    DEFAULT_RATES,
    Augment,
    Optimizer,
    Precision,
    Schedule,
    TeacherConfig,
    TemperatureSchedule,
    TrainConfig,
    network_spec,
    shared_fields,
)
from kdjax.config.run import RunConfig
from kdjax.errors import (
    require,
    require_count,
    require_distinct,
    require_known,
    require_option,
    require_positive,
    require_soft_weight,
    require_temperature,
)
from kdjax.identity import NO_RESULT, added

Targets = Literal["teacher", "shift_averaged", "shuffled", "random", "uniform"]
"""What stands for the teacher's logits where students learn; `kdjax.targets` says what each is."""
OmissionStudent = Literal[
    "distilled", "all_digits", "control", "permuted", "mean_logit", "with_pool", "pairs", "control_pairs"
]
"""Kinds of students for a set of omitted classes; `kdjax.omission.transfers` says what each learns from."""

MOST_RUNS = 100_000
"""In one run directory: planning more of them would take minutes, and reading them again more memory than training."""
STABILITY_EPOCHS = 6
"""Fewest epochs of which half have a standard deviation of differences (`analysis.stability`)."""


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """Trains a teacher, then students at every temperature, from several seeds, and draws test errors against T."""

    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)
    """Temperatures T of the objectives (no unit), each above 0; inf is the limit: for kd, centred logit matching."""
    soft_weights: tuple[float, ...] = (1.0,)
    """Weights w of the soft term, in (0, 1]: the loss is w·soft + (1 − w)·CE, soft being T²·KL for kd. Below 1, T also
    changes how much the soft term counts beside the labels."""
    learning_rates: tuple[float, ...] = ()
    """Peak learning rates, each a setting like T (default: 0.001 for adam, 0.02 for sgd, 0.3 for nesterov). With a
    hold-out, the best of several is chosen on it at each T; while that choice lies at an edge, the grid is widened for
    all, up to three times."""
    own_rates: Annotated[bool, tyro.conf.Suppress] = dataclasses.field(default=False, metadata=added(False))
    """Instead of a grid, each setting has its own of the learning rates, in order: hard labels, where they are trained,
    then each temperature of the one objective. For studies, which choose them elsewhere."""
    hard_labels: bool = True
    """Also train each student on hard labels alone, with which all others are compared."""
    baselines: bool | None = dataclasses.field(default=None, metadata=NO_RESULT)  # its objectives are identified
    """Also train each student on label_smoothing, and on shuffled (at each step, the teacher's logits of another
    example). The hold-out chooses the best of these and hard labels, with which distillation is compared (default:
    where the teacher came with the data)."""
    objectives: tuple[str, ...] = ("kd",)
    """What students minimise, each trained at every temperature, or once where it has none: kd (soft targets), another
    name in docs/extending.md, such as mse, or a name with hyper-parameters in quotes, such as "dkd(beta=2)" or, for
    several values, "dkd(beta=2|4|8)"; parameters left out have their authors' values. With none, hard labels alone are
    trained."""
    targets: Targets = "teacher"
    """What students learn from: teacher (its logits); shift_averaged (their mean over all shifts of an image by up to 2
    pixels); and controls: shuffled (the logits of another image), random (an untrained teacher's), uniform (equal for
    all classes: at T = 1 and soft weight w, label smoothing)."""
    jitter: int = 0
    """Students' images are shifted, at each step, by up to N pixels in each direction; the teacher is then queried
    about the shifted image (except for shift_averaged, shuffled and uniform targets, which belong to the image)."""
    augment: Augment = "none"
    """Random augmentation of students' images at each step, about which the teacher is queried as with --jitter:
    flip_shift (mirrored, shifted by up to 10 %), alternate (mirrored every second epoch, shifted by up to 2 pixels),
    full (as flip_shift, also sheared, zoomed and rotated), or elastic (distorted as handwriting is; for digits)."""
    transfer_images: int | None = None
    """Students learn from the first N training images only; the teacher learns from all (default: all)."""
    widths: tuple[int, ...] = (300,)
    """Units in each of the student's two hidden layers, one or more widths. (small and big have one such layer, of 256
    and 512 units at full width, and channels in proportion; fast has groups of w, 2w and 2w channels.)"""
    network: str = "mlp"
    """The student: mlp; small or big: convolutional, with batch norm and dropout (small_after_norm, big_after_norm:
    dropout once, after the last batch norm); or fast: convolutional, for CIFAR-10 in minutes with --optimizer nesterov
    --schedule triangle --augment alternate --batch-size 250."""
    schedule: Schedule = "cosine"
    """cosine: one epoch of warm-up (of a training of one epoch, half of it), then a half cosine to 0; triangle: from
    0.2 of the rate up to it at 23 % of the training, then down to 0.07; or constant."""
    temperature_schedule: TemperatureSchedule = dataclasses.field(default="constant", metadata=added("constant"))
    """constant; or linear or cosine: T goes from each of the temperatures to --last-temperature over the training, as
    in annealed distillation."""
    last_temperature: float = dataclasses.field(default=1.0, metadata=added(1.0))
    """Temperature T at the end of the training, where it changes."""
    seeds: int = 3
    """Number of seeds: 0, 1, … Each fixes initial weights, batch order, masks and jitter, the same at every T.
    With more of them later, only the new ones are trained."""
    first_seed: int = dataclasses.field(default=0, metadata=added(0))
    """The first seed; the others follow it. For fresh seeds, begin after those of earlier sweeps."""
    epochs: int | None = None
    """Passes over the transfer set by a student (default: 20; 40 on mnist5k; of a file as many as make 1,000 steps, 20
    to 200)."""
    batch_size: int = 256
    """Images per step."""
    optimizer: Optimizer = "adam"
    """adam (b1 0.9, b2 0.999, eps 1e-8), sgd (momentum 0.9), or nesterov (momentum 0.85, weight decay, lookahead)."""
    precision: Precision = "float32"
    """Operands of the students' matrix products: float32, or bfloat16, which rounds them to 8 significant bits (faster
    where the processor has such products). Sums, parameters, optimizer and losses stay float32; the teacher has its
    own."""
    mirrored_views: bool = dataclasses.field(default=False, metadata=added(False))
    """Students are evaluated by the mean of their logits for an image and for its mirror image."""
    monitor_every: int | None = None
    """Epochs between two counts of the errors on the hold-out (without one: the test set) for the learning curves
    (default: at most 12 counts in all). With 1, history.jsonl also tells how many answers change between epochs."""
    block_size: int = 8
    """Settings trained together as one program; bounds the memory of a block."""
    teacher_from: tuple[Path, ...] = dataclasses.field(default=(), metadata=NO_RESULT)
    """Folders of teachers to use instead of training one; several are an ensemble (their logits are averaged)."""
    data: Annotated[DataConfig, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=DataConfig)
    """Which images."""
    run: Annotated[RunConfig, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=RunConfig)
    """Where to run and what to write."""
    teacher: TeacherConfig = dataclasses.field(default_factory=TeacherConfig)
    """The teacher's recipe."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": (),
        "teacher": ("teacher_from",),
        "student": (
            *("widths", "seeds", "epochs", "learning_rates", "network", "batch_size", "optimizer", "schedule"),
            *("jitter", "augment", "transfer_images", "precision", "first_seed", "mirrored_views", "monitor_every"),
            "block_size",
        ),
        "objective": (
            *("temperatures", "objectives", "soft_weights", "hard_labels", "baselines", "targets"),
            *("temperature_schedule", "last_temperature"),
        ),
        "run": (),
    }
    """Options by group, the most used first (`kdjax.options`)."""

    def __post_init__(self) -> None:
        as_declared(self)
        require_known("targets", self.targets, get_args(Targets))
        require_distinct("temperatures", self.temperatures)
        for temperature in self.temperatures:
            require_temperature("temperatures", temperature)
        require_distinct("soft-weights", self.soft_weights)
        for weight in self.soft_weights:
            require_soft_weight("soft-weights", weight, "0 is --hard-labels")
        if self.learning_rates and not self.own_rates:
            require_distinct("learning-rates", self.learning_rates)
        for rate in self.learning_rates:
            require_positive("learning-rates", rate)
        if self.transfer_images is not None:
            allowed = f"it is --batch-size ({self.batch_size}) or more"
            require_option(self.transfer_images >= self.batch_size, "transfer-images", self.transfer_images, allowed)
        refused = "--no-hard-labels with no --objectives is not allowed: nothing is left to train"
        require(self.hard_labels or bool(self.objectives), refused)
        refused = "--baselines with --no-hard-labels is not allowed: hard labels are one of them"
        require(self.hard_labels or not self.baselines, refused)
        require("hard" not in self.objectives, "--objectives hard is not allowed: --hard-labels trains the baseline")
        settings = self.hard_labels + len(self.objectives) * len(self.temperatures) * len(self.soft_weights)
        refused = f"own rates: {len(self.learning_rates)} for {settings} settings of hard labels and one objective"
        require(not self.own_rates or (len(self.learning_rates) == settings and len(self.objectives) < 2), refused)
        finite = max(*self.temperatures, self.last_temperature) < math.inf or self.temperature_schedule == "constant"
        require(
            finite, f"--temperature-schedule {self.temperature_schedule} with T = inf is not allowed: give finite ones"
        )
        require_distinct("widths", self.widths)
        folders = set(map(os.path.realpath, self.teacher_from))  # a loop of links is no error of this one
        twice = "--teacher-from names a folder twice: give each teacher once"
        require(len(folders) == len(self.teacher_from), twice)
        require_count("seeds", self.seeds, "seeds", most=10_000)
        require_option(0 <= self.first_seed <= 2**30, "first-seed", self.first_seed, f"it lies in 0 to {2**30}")
        grid = settings * (1 if self.own_rates else len(self.rates()))
        runs = f"that is {grid * self.seeds * len(self.widths):,} runs, and one run directory holds up to {MOST_RUNS:,}"
        remedy = "give fewer temperatures, seeds, widths, rates, weights or objectives"
        require(grid * self.seeds * len(self.widths) <= MOST_RUNS, f"{runs}: {remedy}")
        require_count("monitor-every", self.monitor_every, "epochs", most=100_000)
        require_count("block-size", self.block_size, "settings")
        for width in self.widths:
            self.student(width, 1)

    def rates(self) -> tuple[float, ...]:
        """The learning rates, or the optimizer's default."""
        return self.learning_rates or (DEFAULT_RATES[self.optimizer],)

    def student(self, width: int, default_epochs: int) -> TrainConfig:
        """The student of this width as a network to train."""
        hidden = (width,) * network_spec(self.network).hidden_layers
        epochs = default_epochs if self.epochs is None else self.epochs
        return TrainConfig(**{**shared_fields(self), "hidden": hidden, "epochs": epochs})
