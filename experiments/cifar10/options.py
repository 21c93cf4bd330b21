"""The options of the CIFAR-10 table, with its networks' recipes."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from kdjax.config import (
    AFTER_NORM,
    NETWORKS,
    TEACHER_SEED,
    Augment,
    NamedDataConfig,
    Optimizer,
    Precision,
    RunConfig,
    Schedule,
    SweepConfig,
    TeacherConfig,
)
from kdjax.identity import NO_RESULT, added

Control = Literal["double_softmax", "label_smoothing", "shuffled", "random", "uniform"]
OBJECTIVES = {"double_softmax": "double_softmax", "label_smoothing": "label_smoothing(eps=0.2)"}
"""Controls that are objectives, trained in the blocks of hard labels; the others stand for the teacher's logits."""


@dataclasses.dataclass(frozen=True)
class ColourConfig(NamedDataConfig):
    """Which images, and how many of them."""

    dataset: str = "cifar10"
    """Name of the dataset: one of colour images, such as cifar10."""
    holdout: int = 5_000
    """Training images set aside, from the end of the training set, on which recipes are chosen; never trained on."""


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """The options, and what follows from them; `config.TableConfig` refuses what cannot be."""

    preset: Literal["cpu", "full", "post", "fast"] = dataclasses.field(default="cpu", metadata=NO_RESULT)
    """Whole settings to start from. cpu: halved widths, flips and shifts, few epochs. full: full widths, all
    augmentation, a cosine schedule of 30 epochs, T = 4, 10 and inf, three seeds. post: full widths, all augmentation, a
    constant rate for 300 epochs, T = 10, five seeds. fast: fast networks, students of three teachers at six
    temperatures, rates and soft weight tuned."""
    networks: Literal["post", "fast"] = dataclasses.field(default="post", metadata=added("post"))
    """post: the blog post's small and big. fast: `kdjax.models.fast`, narrow and wide."""
    dropout_after_norm: bool = dataclasses.field(default=False, metadata=added(False))
    """The networks of the post with dropout once, after the last batch norm. Without this option: after each pooling,
    as in the post."""
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
