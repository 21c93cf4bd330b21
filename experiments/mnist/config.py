"""The config of the MNIST table, checked, and its presets."""

import dataclasses
import math

from experiments.mnist.members import members
from experiments.mnist.options import PAPER, PARTS, TUNED, TableOptions, distorted
from kdjax.config import as_declared
from kdjax.errors import require, require_count, require_distinct, require_option, require_positive


@dataclasses.dataclass(frozen=True)
class TableConfig(TableOptions):
    """Makes the paper's MNIST table with seeds and intervals, and judges its claims about temperature."""

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
