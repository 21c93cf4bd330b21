"""The config of the CIFAR-10 table, checked, and its presets."""

import dataclasses
import math

from experiments.cifar10.members import members, tuning_members
from experiments.cifar10.options import OBJECTIVES, TableOptions
from kdjax.config import STABILITY_EPOCHS, TEACHER_SEED, as_declared
from kdjax.errors import (
    require,
    require_count,
    require_distinct,
    require_option,
    require_positive,
    require_soft_weight,
    require_temperature,
)

FAST_TEACHERS = {"teachers": 3, "each_teaches": True, "teacher_epochs": 16}
"""Of the preset fast, unless teachers are given."""


@dataclasses.dataclass(frozen=True)
class TableConfig(TableOptions):
    """Makes the table of small, big and distilled networks on CIFAR-10, with seeds, intervals and controls."""

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
            require(self.big_width == TableOptions.big_width, f"--big-width {self.big_width} {refused}")
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
        require(self.batch_size > 1, "--batch-size 1 is not allowed: batch norm needs 2 images or more")
        (tuning_members if own_rates else members)(self)  # what the sweep refuses is refused here


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
