"""How one network is built and trained, and the teacher's recipe."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, Literal, get_args

from kdjax.config.data import as_declared
from kdjax.errors import (
    BadInput,
    require,
    require_count,
    require_known,
    require_new,
    require_option,
    require_positive,
    require_temperature,
)
from kdjax.identity import added

NUMERICS = {"mlp": 5, "cnn": 5, "fast": 1}
"""By family of networks: raised when a golden test of the family changes, or the order of a block's sums. The same
config then no longer means the same numbers, and what was trained before is trained again. CHANGELOG.md says why."""

Precision = Literal["float32", "bfloat16"]

Augment = Literal["none", "flip_shift", "alternate", "full", "elastic"]
"""Random maps of the images at each step: `kdjax.transforms` says what each is."""

Optimizer = Literal["adam", "sgd", "nesterov"]

DEFAULT_RATES = {"adam": 1e-3, "sgd": 0.02, "nesterov": 0.3}
"""Students' peak learning rate by optimizer."""

Schedule = Literal["cosine", "triangle", "constant"]

TemperatureSchedule = Literal["constant", "linear", "cosine"]


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """An entry of the registry of networks: what a command line needs to know, and where the network is built."""

    name: str
    """On the command line."""
    hidden_layers: int
    """Of a student, all of one width w: `hidden = (w,) * hidden_layers`."""
    build: str | Callable[..., Any]
    """(config, input_shape, num_classes) → `models.Model`: a function, or "module:function", imported when needed."""
    family: str
    """Networks whose numerics change together (`NUMERICS`)."""
    full_units: int | None = None
    """Of a convolutional network at full width: units of the hidden dense layer, or channels of the first group (fast).
    None for other networks."""


TEACHER_SEED = 1000
"""A teacher's default seed, or the first of several: students have 0, 1, …"""
AFTER_NORM = "_after_norm"
"""Ends the names of `small` and `big` with dropout once, after the last batch norm."""

NETWORKS: dict[str, NetworkSpec] = {}
"""By name; `register_network` adds to it."""


def register_network(spec: NetworkSpec) -> None:
    """Adds a network. Raises BadInput: there is one of that name."""
    require_new("network", spec.name, NETWORKS)
    NETWORKS[spec.name] = spec


register_network(NetworkSpec("mlp", 2, "kdjax.models.mlp:mlp", "mlp"))
register_network(NetworkSpec("small", 1, "kdjax.models.cnn:cnn", "cnn", full_units=256))
register_network(NetworkSpec("big", 1, "kdjax.models.cnn:cnn", "cnn", full_units=512))
register_network(NetworkSpec("fast", 1, "kdjax.models.fast:fast", "fast", full_units=64))
register_network(NetworkSpec(f"small{AFTER_NORM}", 1, "kdjax.models.cnn:cnn", "cnn", full_units=256))
register_network(NetworkSpec(f"big{AFTER_NORM}", 1, "kdjax.models.cnn:cnn", "cnn", full_units=512))


def network_spec(name: str) -> NetworkSpec:
    """The registered network of that name; `BadInput`, which names the nearest, if there is none."""
    require_known("network", name, NETWORKS)
    return NETWORKS[name]


def numerics(network: str) -> int:
    """The number in `NUMERICS` of a network's family; 1 for a family that is not listed there."""
    return NUMERICS.get(network_spec(network).family, 1)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How one network is built and trained: all that a compiled program closes over (equal configs share it)."""

    hidden: tuple[int, ...]
    """Units of each hidden layer. small and big have one, of 256 or 512 units at full width, and channels in
    proportion. Of fast: the channels of its groups (`kdjax.models.fast`)."""
    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Images per step; the incomplete last batch of an epoch is dropped (in training, never in evaluation)."""
    optimizer: Optimizer = "adam"
    """adam (b1 0.9, b2 0.999, eps 1e-8), sgd (momentum 0.9), or nesterov (`kdjax.optimizers`)."""
    schedule: Schedule = "cosine"
    """cosine: one epoch of linear warm-up (of a training of one epoch, half of it), then a half cosine to 0; triangle:
    from 0.2 up to 1 at 23 % of the training, then down to 0.07; or constant."""
    input_dropout: float = 0.0
    """Probability of dropping an input pixel, below 1, in steps of 1/256."""
    hidden_dropout: float = 0.0
    """Probability of dropping a hidden unit, below 1, in steps of 1/256."""
    max_norm: float = 0.0
    """Bound on the L2 norm of each hidden unit's incoming weights; 0: no bound."""
    jitter: int = 0
    """Each image is shifted, at each step, by up to this number of pixels in each direction."""
    average: float = 0.0
    """Decay, per step, of an exponential moving average of the parameters, which is then what is evaluated; 0: none.
    After t steps it is at most (1 + t)/(10 + t), so that the initial weights are soon forgotten. Batch statistics are
    not averaged."""
    network: str = dataclasses.field(default="mlp", metadata=added("mlp"))
    """A name in `NETWORKS`."""
    augment: Augment = dataclasses.field(default="none", metadata=added("none"))
    """Random maps of each image at each step."""
    precision: Precision = dataclasses.field(default="float32", metadata=added("float32"))
    """Operands of the matrix products; sums, parameters, optimizer and losses are float32 in any case."""
    temperature_schedule: TemperatureSchedule = dataclasses.field(default="constant", metadata=added("constant"))
    """How T goes from the setting's to `last_temperature` over the steps of the training."""
    last_temperature: float = dataclasses.field(default=1.0, metadata=added(1.0))
    """T at the end of the training, where it changes."""
    devices: int = dataclasses.field(default=1, metadata=added(1))
    """Each batch is divided over N devices (pmap), for one big network; sums are then taken in another order."""
    mirrored_views: bool = dataclasses.field(default=False, metadata=added(False))
    """In evaluation, the logits of an image are the mean of its own and its mirror image's."""

    def __post_init__(self) -> None:
        as_declared(self)
        network_spec(self.network)
        for name, known in (
            ("optimizer", Optimizer),
            ("schedule", Schedule),
            ("augment", Augment),
            ("precision", Precision),
            ("temperature_schedule", TemperatureSchedule),
        ):
            require_known(name.replace("_", "-"), getattr(self, name), get_args(known))
        for width in self.hidden:
            require_option(0 < width <= 100_000, "widths", width, "a layer has 1 unit or more, up to 100,000")
        require_count("epochs", self.epochs, "epochs", most=100_000)
        require_count("batch-size", self.batch_size, "images")
        for name in ("input_dropout", "hidden_dropout"):
            rate = getattr(self, name)
            allowed = rate == 0 or (0 < rate < 1 and 0 < round(rate * 256) < 256)
            require_option(allowed, name.replace("_", "-"), rate, "it is 0, or rounds to one of 1/256 … 255/256")
        require_option(0 <= self.average < 1, "average", self.average, "it lies in [0, 1)")
        require_option(0 <= self.max_norm <= 3.4e38, "max-norm", self.max_norm, "it is 0 (no bound) or more")
        divides = self.devices > 0 and self.batch_size % self.devices == 0
        limits = f"it is 1 or more, and divides the {self.batch_size} images of a batch"
        require_option(divides, "devices", self.devices, limits)
        require_count("jitter", self.jitter, "pixels", 0)
        require_temperature("last-temperature", self.last_temperature)
        changes = self.temperature_schedule != "constant"
        finite = not changes or self.last_temperature < math.inf
        require_option(finite, "last-temperature", self.last_temperature, "T changes to a finite one")
        require(
            changes or self.last_temperature == 1, "--last-temperature needs --temperature-schedule linear or cosine"
        )


def shared_fields(config: Any) -> dict[str, Any]:
    """The fields of a `TrainConfig` that another config has too, with its values."""
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    return {name: getattr(config, name) for name in names if hasattr(config, name)}


def of_teacher(refused: BadInput) -> BadInput:
    """A refusal of a network, which names the student's options, with those of the teacher."""
    return BadInput(re.sub("--(?=[a-z])", "--teacher.", str(refused)))


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """The teacher: 784-1200-1200-10 with dropout, max-norm and jittered inputs, as in the paper's Section 3."""

    widths: tuple[int, ...] = (1200, 1200)
    """Units of each hidden layer, a number a layer (not alternatives, as in --widths)."""
    epochs: int | None = None
    """Passes over the training images (default: 30; 80 on mnist5k; of a file as many as make 1,000 steps of 256
    rows, 30 to 200)."""
    batch_size: int = 256
    """Images per step."""
    learning_rate: float | None = None
    """Peak learning rate (default: 1.5e-3; with sgd 0.02, with nesterov 0.3)."""
    input_dropout: float = 0.0
    """Probability of dropping an input pixel, below 1, in steps of 1/256."""
    hidden_dropout: float = 0.5
    """Probability of dropping a hidden unit, below 1, in steps of 1/256."""
    max_norm: float = 4.0
    """Bound on the L2 norm of each hidden unit's incoming weights; 0: no bound."""
    jitter: int = 2
    """Shift of each image at each step, up to this number of pixels in each direction."""
    average: float = 0.0
    """Decay per step, in [0, 1), of a moving average of the parameters (after t steps at most (1 + t)/(10 + t)), though
    not of batch statistics; 0: none."""
    devices: int = 1
    """Divide each batch over N devices (pmap). It is part of the recipe: the last digits depend on it."""
    seed: int = TEACHER_SEED
    """Fixes initial weights, batch order, masks, jitter and augmentation. Give one that no student has: with one seed
    they share these random numbers."""
    network: str = "mlp"
    """mlp; or small or big: convolutional, with one width (256 and 512 at full width, channels in proportion), batch
    norm and their own dropout (small_after_norm, big_after_norm: once, after the last batch norm); or fast:
    convolutional, with three widths, or w for w, 2w, 2w. The dropout and max-norm options above are for the mlp."""
    augment: Augment = "none"
    """Random augmentation of each image at each step: flip_shift (mirrored, shifted by up to 10 %), alternate (mirrored
    every second epoch, shifted by up to 2 pixels), full (as flip_shift, also sheared, zoomed and rotated), or elastic
    (distorted as handwriting is; for digits)."""
    optimizer: Optimizer = "adam"
    """adam, sgd, or nesterov, as for students; the learning rate is its peak rate."""
    schedule: Schedule = "cosine"
    """cosine, triangle or constant, as for students."""
    mirrored_views: bool = False
    """The teacher's logits are the mean of those of an image and of its mirror image."""
    precision: Precision = "float32"
    """Operands of the teacher's matrix products: float32, or bfloat16, as for students."""

    def __post_init__(self) -> None:
        as_declared(self)

    @property
    def rate(self) -> float:
        """The peak learning rate: as given, or the default of the optimizer."""
        return {**DEFAULT_RATES, "adam": 1.5e-3}[self.optimizer] if self.learning_rate is None else self.learning_rate

    def train_config(self, default_epochs: int) -> TrainConfig:
        """The teacher as a network to train."""
        require_positive("teacher.learning-rate", 1 if self.learning_rate is None else self.learning_rate)
        require_option(0 <= self.seed < 2**31, "teacher.seed", self.seed, f"it lies in 0 to {2**31 - 1}")
        epochs = default_epochs if self.epochs is None else self.epochs
        recipe = {**shared_fields(self), "hidden": self.widths, "epochs": epochs}
        try:
            if network_spec(self.network).family != "mlp":  # the defaults are for that
                default = {field.name: field.default for field in dataclasses.fields(self)}
                of_mlp = ("input_dropout", "hidden_dropout", "max_norm")
                recipe |= {name: 0.0 for name in of_mlp if recipe[name] == default[name]}
            return TrainConfig(**recipe)
        except BadInput as error:
            raise of_teacher(error) from None
