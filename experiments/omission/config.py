"""Which digits are omitted, which students are trained, and how."""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, get_args

import tyro

from kdjax.config import NamedDataConfig, OmissionStudent, RunConfig, Targets, TeacherConfig, TrainConfig, as_declared
from kdjax.errors import (
    require,
    require_count,
    require_distinct,
    require_option,
    require_positive,
    require_soft_weight,
    require_temperature,
)
from kdjax.identity import NO_RESULT, added

STUDENTS: tuple[OmissionStudent, ...] = get_args(OmissionStudent)
EACH: tuple[OmissionStudent, ...] = ("distilled", "all_digits", "control", "pairs")
"""With `--each`: a student without {3, 5} is a pair of both, so that all pairs cost half."""
SMALL = "mnist5k"
POOL = 5_000, 500
WIDTH = 800, 200
EPOCHS = 8, 15
"""Defaults: those of full datasets, and that of `mnist5k`."""
FEW = 3
"""By how much epochs are multiplied by default where under half of the images are left: few images are few steps."""


@dataclasses.dataclass(frozen=True)
class PoolConfig(NamedDataConfig):
    """Which images, and how many of them are the pool."""

    holdout: int = 0
    """Images of the pool, cut from the end of the training set before anything else: biases are chosen on it, and no
    teacher and no student but with_pool is trained on it (default: 5000; 500 on mnist5k)."""


@dataclasses.dataclass(frozen=True)
class OmitConfig:
    """Distils students that never see a digit, corrects their bias, and shows what they know of it."""

    digit: tuple[int, ...] = dataclasses.field(default=(), metadata=NO_RESULT)
    """Class to omit from the transfer set, or several, which share one bias (default: 3, without the next two
    options)."""
    keep: tuple[int, ...] = dataclasses.field(default=(), metadata=NO_RESULT)
    """Omit all classes but these, two or more: their biases are lowered by one amount."""
    each: bool = dataclasses.field(default=False, metadata=NO_RESULT)
    """Omit each class in turn, one after another."""
    temperatures: tuple[float, ...] = (20.0,)
    """Temperatures T of the soft targets (no unit), each above 0; inf is the limit, centred logit matching."""
    soft_weight: float = 1.0
    """Weight w of the soft term, in (0, 1]: the loss is w·T²·KL + (1 − w)·CE. At 1 the student sees soft targets only:
    hard labels say nothing of an omitted class."""
    targets: Targets = dataclasses.field(default="teacher", metadata=added("teacher"))
    """What all students of soft targets learn from, as in temperature_sweep: teacher; shift_averaged; and controls:
    shuffled (the logits of another image that is left), random, uniform. At soft weight 1 a student of a control is
    told nothing of its images."""
    students: tuple[OmissionStudent, ...] = ()
    """Which students to train beside distilled (default: all; with --each distilled, all_digits, control and pairs).
    all_digits: distilled on every class. control: hard labels alone. permuted: wrong logits permuted in each image.
    mean_logit: omitted logits replaced by their means. with_pool: sees the unlabelled pool too. pairs, control_pairs:
    without a further class c, for each c; the correction seen_only needs them."""
    width: int | None = None
    """Units in each of the student's two hidden layers (default: 800; 200 on mnist5k)."""
    seeds: int = 5
    """Number of seeds: 0, 1, … Each fixes initial weights and batch order, the same for all students where they have
    as many images. With more of them later, only the new ones are trained."""
    epochs: int | None = None
    """Passes of every student over its transfer set (default: 8, on mnist5k 15; three times that where under half of
    the images are left)."""
    batch_size: int = 256
    """Images per step."""
    learning_rate: float = 8e-3
    """Peak learning rate of Adam; its default was chosen on the pool."""
    teacher_from: tuple[Path, ...] = dataclasses.field(default=(), metadata=NO_RESULT)
    """Folders of teachers to use instead of training one; several are an ensemble (their logits are averaged)."""
    data: Annotated[PoolConfig, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=PoolConfig)
    """Which images."""
    run: Annotated[RunConfig, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=RunConfig)
    """Where to run and what to write."""
    teacher: TeacherConfig = dataclasses.field(default_factory=TeacherConfig)
    """The teacher's recipe."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": (),
        "teacher": ("teacher_from",),
        "student": ("students", "width", "seeds", "epochs", "learning_rate", "batch_size"),
        "objective": ("temperatures", "soft_weight", "targets"),
        "run": (),
    }
    """Options by group, the most used first (`kdjax.options`)."""

    def __post_init__(self) -> None:
        as_declared(self)
        selections = {"--digit": self.digit, "--keep": self.keep, "--each": self.each}
        options = [option for option, value in selections.items() if value]
        require(
            len(options) <= 1, f"{' with '.join(options)} is not allowed: they say different things; give one of them"
        )
        for name, classes in (("digit", self.digit), ("keep", self.keep), ("students", self.students)):
            repeated = sorted({f"{value}" for value in classes if classes.count(value) > 1})  # type: ignore[arg-type]
            require(not repeated, f"--{name} repeats {', '.join(repeated)}: give each once")
        allowed = "a student that sees one class has nothing to tell apart; keep two or more"
        require_option(len(self.keep) != 1, "keep", " ".join(map(str, self.keep)), allowed)
        require_distinct("temperatures", self.temperatures)
        for temperature in self.temperatures:
            require_temperature("temperatures", temperature)
        require_soft_weight("soft-weight", self.soft_weight, "hard labels alone are the control")
        require_count("seeds", self.seeds, "seeds", most=1_000)
        require_positive("learning-rate", self.learning_rate)
        self.student(1, 1)

    def student(self, width: int, epochs: int) -> TrainConfig:
        """The student as a network to train; `width` and `epochs` are what holds where the user says nothing."""
        width = width if self.width is None else self.width
        require_count("width", width, "units", most=100_000)
        return TrainConfig((width, width), epochs if self.epochs is None else self.epochs, self.batch_size)

    def chosen(self) -> tuple[OmissionStudent, ...]:
        """The students to train, in the order of `STUDENTS`."""
        students = {*(self.students or (EACH if self.each else STUDENTS)), "distilled"}
        return tuple(student for student in STUDENTS if student in students)

    def tasks(self, num_classes: int) -> list[tuple[int, ...]]:
        """The sets of classes to omit: one set, or with `each` one per class.

        Raises:
            BadInput: a class that the dataset does not have; fewer than two classes would be left.
        """
        option, classes = ("keep", self.keep) if self.keep else ("digit", self.digit or (3,))
        for value in classes:
            allowed = f"the classes of this dataset are 0 to {num_classes - 1}"
            require_option(0 <= value < num_classes, option, value, allowed)
        everything = range(num_classes)
        if self.each:
            return [(value,) for value in everything]
        omitted = [value for value in everything if (value in classes) != bool(self.keep)]
        require(omitted, f"--keep with all {num_classes} classes omits nothing: leave out one or more")
        left = num_classes - len(omitted)
        allowed = f"it leaves {left} of {num_classes} classes, and a student needs two or more"
        require_option(left >= 2, option, " ".join(map(str, classes)), allowed)
        return [tuple(omitted)]
