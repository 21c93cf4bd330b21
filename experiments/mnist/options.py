"""The options of the MNIST table, and its teachers' recipes."""

import dataclasses
import math
from typing import Annotated, Any, ClassVar, Literal, get_args

import tyro

from kdjax.config import NamedDataConfig, Precision, RunConfig, SweepConfig, TeacherConfig
from kdjax.identity import NO_RESULT

Part = Literal["teacher", "small", "distilled", "widths", "transfer", "shifted", "better", "controls"]
PARTS: tuple[Part, ...] = get_args(Part)
ROWS: tuple[Part, ...] = ("teacher", "small", "distilled")
"""The paper's three rows."""
LONG = 300
"""Units; wider students are trained for the first of the schedules alone."""

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
class TableOptions:
    """The options, and what follows from them; `config.TableConfig` refuses what cannot be."""

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
    """Weights w of the soft term, in (0, 1]. The first holds everywhere but for the widths, which have 1; the others
    show, under the first teacher, how much w matters."""
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
    """Temperatures T > 0 (no unit) of the students of --widths; inf is the limit."""
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
