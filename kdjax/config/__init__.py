"""What every experiment can be told: frozen dataclasses, with no JAX in sight so that `--help` is quick.

A field's comment or docstring is its help text on the command line; its default is said here and nowhere else.
"""

import dataclasses
import json
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from kdjax.errors import BadInput, require, require_distinct, require_name, require_positive, require_temperature

NUMERICS = 4
"""Raised whenever the golden one-step test changes, or the order of a block's sums: the same config then no longer
means the same numbers. 2: wide settings of a block take turns on a CPU, and averages forget the initial weights. 3: of
convolutional networks the sums of a kernel's gradient on a CPU, ties in pooling, no biases that batch norm takes away,
and how many stand in one step; another untrained teacher. 4: on a CPU another library for
convolutions, and initial weights compiled without optimization."""

Precision = Literal["float32", "bfloat16"]

Network = Literal["mlp", "small", "big"]
"""A multi-layer perceptron, or one of two convolutional networks: `kdjax.models` says what each is."""

CONVOLUTIONAL: dict[str, int] = {"small": 256, "big": 512}
"""The convolutional networks, and the units of their hidden dense layers at full width (the channels go with them)."""

Augment = Literal["none", "flip_shift", "full", "elastic"]
"""Random maps of the images at each step: `kdjax.transforms` says what each is."""

Schedule = Literal["cosine", "constant"]

Targets = Literal["teacher", "shift_averaged", "double_softmax", "shuffled", "random", "uniform"]
"""What stands for the teacher's logits where students learn; `kdjax.targets` says what each is."""

STABILITY_EPOCHS = 6
"""Fewest epochs of which half have a standard deviation of differences (`analysis.stability`)."""

CHECKPOINT_SECONDS = 30.0
"""Seconds between checkpoints: what a kill can cost."""


def default_data_dir() -> Path:
    """Where prepared data are kept: `KDJAX_DATA_DIR`, or `kdjax/data` in the user's cache folder."""
    return Path(os.environ.get("KDJAX_DATA_DIR") or cache_folder() / "data")


def cache_folder() -> Path:
    """`kdjax` in the user's cache folder: what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdjax"


def default_raw_dir() -> Path | None:
    """The raw folder named by `KDJAX_RAW_DIR`, if any."""
    named = os.environ.get("KDJAX_RAW_DIR")
    return Path(named) if named else None


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how many of them."""

    dataset: str = "auto"
    """Name of the dataset: mnist, fashion_mnist, cifar10, mnist5k (5,000 real digits that need no download), or auto:
    mnist where it is prepared or can be had, else mnist5k."""
    raw_dir: Path | None = dataclasses.field(default_factory=default_raw_dir)
    """Folder searched, with all below it, for the official data files, gzipped or not (default: KDJAX_RAW_DIR)."""
    data_dir: Path = dataclasses.field(default_factory=default_data_dir)
    """Folder in which prepared datasets are kept (default: KDJAX_DATA_DIR, else the user's cache folder)."""
    train_images: int | None = None
    """Use only the first N training images, after the hold-out is cut (default: all)."""
    holdout: int = 0
    """Training images set aside, from the end of the training set, for choosing T and rates; never trained on."""

    def __post_init__(self) -> None:
        require(self.holdout >= 0, f"--holdout {self.holdout} is not allowed: it is a number of images, 0 or more")
        require(
            self.train_images is None or self.train_images > 0,
            f"--train-images {self.train_images} is not allowed: it is a number of images, 1 or more",
        )


@dataclasses.dataclass(frozen=True)
class WhereConfig:
    """Where blocks are trained. It changes no result."""

    devices: int | None = None
    """Train on the first N of this machine's devices, a block on each at a time (default: all)."""
    cluster: str | None = None
    """Train on the workers of a Dask cluster: its scheduler's address, or local:N for N worker processes on this
    machine, or local for one a device. Needs the extra `cluster`."""

    def __post_init__(self) -> None:
        require(
            self.devices is None or self.devices > 0,
            f"--devices {self.devices} is not allowed: it is a number of devices, 1 or more",
        )
        if self.cluster is None:
            return
        require(self.devices is None, "--devices with --cluster is not allowed: a cluster's workers take one each")
        require(
            re.fullmatch(r"local(:[1-9]\d{0,3})?|[a-z]+://\S+|(?!local:)[^\s:/]+:\d{1,5}", self.cluster),
            f"--cluster {self.cluster!r} is not allowed: give local, local:N, or a scheduler's address such as "
            "tcp://10.0.0.1:8786",
        )

    def local_workers(self) -> float:
        """Worker processes to start on this machine: 0 for none, inf for one a device."""
        kind, _, count = (self.cluster or "").partition(":")
        return 0 if kind != "local" else float(count or math.inf)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How one network is built and trained: everything a compiled program closes over, so equal configs share one."""

    hidden: tuple[int, ...]
    """Units of each hidden layer. The convolutional networks have one, of 256 (small) or 512 (big) at full width; their
    channels are in proportion."""
    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Images a step; the incomplete last batch of an epoch is left out (of training, never of evaluation)."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam (b1 0.9, b2 0.999, eps 1e-8) or sgd (momentum 0.9)."""
    schedule: Schedule = "cosine"
    """cosine: one epoch of linear warm-up, then a half cosine to 0; or constant."""
    input_dropout: float = 0.0
    """Probability of dropping an input pixel."""
    hidden_dropout: float = 0.0
    """Probability of dropping a hidden unit."""
    max_norm: float = 0.0
    """Bound on the L2 norm of each hidden unit's incoming weights; 0: no bound."""
    jitter: int = 0
    """Each image is shifted, at each step, by up to this number of pixels in each direction."""
    average: float = 0.0
    """Decay, per step, of an exponential moving average of the parameters, which is then what is evaluated; 0: none.
    After t steps it is at most (1 + t)/(10 + t), so that the initial weights are soon forgotten."""
    network: Network = "mlp"
    """mlp; or small or big, convolutional, which have batch norm and dropout of their own."""
    augment: Augment = "none"
    """Random flips, shifts and more of each image at each step."""
    precision: Precision = "float32"
    """Operands of the matrix products; sums, parameters, optimizer and losses are float32 in any case."""
    devices: int = 1
    """Each batch is divided over N devices (pmap), for one big network; sums are then taken in another order."""

    def __post_init__(self) -> None:
        require(
            self.network == "mlp"
            or (len(self.hidden) == 1 and not (self.input_dropout or self.hidden_dropout or self.max_norm)),
            f"the {self.network} network has one hidden dense layer, and dropout of its own: give one width, and no "
            "dropout or max-norm",
        )
        for width in self.hidden:
            require(0 < width <= 100_000, f"--widths {width} is not allowed: a layer has 1 unit or more, up to 100,000")
        require(
            0 < self.epochs <= 100_000,
            f"--epochs {self.epochs} is not allowed: it is a number of epochs, 1 or more, up to 100,000",
        )
        require(
            self.batch_size > 0, f"--batch-size {self.batch_size} is not allowed: it is a number of images, 1 or more"
        )
        for name in ("input_dropout", "hidden_dropout"):
            rate = getattr(self, name)
            require(
                rate == 0 or 0 < round(rate * 256) < 256,
                f"--{name.replace('_', '-')} {rate:g} is not allowed: it is 0, or rounds to one of 1/256 … 255/256",
            )
        require(0 <= self.average < 1, f"--average {self.average:g} is not allowed: it lies in [0, 1)")
        require(
            0 <= self.max_norm < math.inf, f"--max-norm {self.max_norm:g} is not allowed: it is 0 (no bound) or more"
        )
        require(
            self.devices > 0 and self.batch_size % self.devices == 0,
            f"--devices {self.devices} is not allowed: it is 1 or more, and divides the {self.batch_size} "
            "images of a batch",
        )
        require(self.jitter >= 0, f"--jitter {self.jitter} is not allowed: it is a number of pixels, 0 or more")


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """The teacher: 784-1200-1200-10 with dropout, max-norm and jittered inputs, as in the paper's Section 3."""

    widths: tuple[int, ...] = (1200, 1200)
    """Units of each hidden layer."""
    epochs: int | None = None
    """Passes over the training images (default: 30; 80 on mnist5k)."""
    batch_size: int = 256
    """Images a step."""
    learning_rate: float = 1.5e-3
    """Peak learning rate of Adam, after one epoch of warm-up."""
    input_dropout: float = 0.0
    """Probability of dropping an input pixel."""
    hidden_dropout: float = 0.5
    """Probability of dropping a hidden unit."""
    max_norm: float = 4.0
    """Bound on the L2 norm of each hidden unit's incoming weights; 0: no bound."""
    jitter: int = 2
    """Shift of each image at each step, up to this number of pixels in each direction."""
    average: float = 0.0
    """Decay, per step, of a moving average of the parameters (after t steps at most (1 + t)/(10 + t)); 0: none."""
    devices: int = 1
    """Divide each batch over N devices (pmap). It is part of the recipe: the last digits depend on it."""
    seed: int = 0
    """Fixes initial weights, batch order, masks, jitter and augmentation."""
    network: Network = "mlp"
    """mlp; or small or big, convolutional, with one width (at full width 256 and 512, channels in proportion), batch
    norm and a dropout of their own: the dropouts and max-norm above are the mlp's."""
    augment: Augment = "none"
    """Random maps of each image at each step: flip_shift (mirrored, shifted by up to 10 %), full (also sheared, zoomed
    and rotated), or elastic (distorted as handwriting is; for digits)."""
    schedule: Schedule = "cosine"
    """cosine: one epoch of warm-up, then a half cosine to 0; or constant."""
    precision: Precision = "float32"
    """Operands of the teacher's matrix products: float32, or bfloat16, as for students."""

    def train_config(self, default_epochs: int) -> TrainConfig:
        """The teacher as a network to train."""
        require_positive("teacher.learning-rate", self.learning_rate)
        require(0 <= self.seed < 2**31, f"--teacher.seed {self.seed} is not allowed: it lies in 0 to {2**31 - 1}")
        mlp = self.network == "mlp"
        try:
            return TrainConfig(
                hidden=self.widths,
                epochs=default_epochs if self.epochs is None else self.epochs,
                batch_size=self.batch_size,
                schedule=self.schedule,
                input_dropout=self.input_dropout if mlp else 0.0,
                hidden_dropout=self.hidden_dropout if mlp else 0.0,
                max_norm=self.max_norm if mlp else 0.0,
                network=self.network,
                augment=self.augment,
                jitter=self.jitter,
                average=self.average,
                devices=self.devices,
                precision=self.precision,
            )
        except BadInput as error:  # which names the student's option
            raise BadInput(re.sub("^--", "--teacher.", str(error))) from None


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """Trains a teacher, then students at every temperature, from several seeds, and draws test errors against T."""

    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)
    """Temperatures T of the soft targets (no unit), each above 0; inf is the limit, centred logit matching."""
    soft_weights: tuple[float, ...] = (1.0,)
    """Weights w of the soft term, in (0, 1]: the loss is w·T²·KL + (1 − w)·CE. Only at w = 1 is T = inf logit matching
    and T all that changes."""
    learning_rates: tuple[float, ...] = ()
    """Peak learning rates, each a setting like T (default: 0.001 for adam, 0.02 for sgd). With a hold-out, the best of
    several is chosen on it at each T, and the grid is widened for all, up to three times, while it lies at an edge."""
    hard_labels: bool = True
    """Also train each student on hard labels alone: the baseline."""
    soft_targets: bool = True
    """Train students on soft targets; --no-soft-targets leaves the baseline alone."""
    targets: Targets = "teacher"
    """Logits that students are taught: teacher; shift_averaged (the teacher's mean over all shifts of an image by up to
    2 pixels); and controls: double_softmax (its probabilities taken for logits), shuffled (those of another image),
    random (an untrained teacher's), uniform (all alike; at T = 1 with soft weight w, label smoothing by w)."""
    jitter: int = 0
    """Students' images are shifted, at each step, by up to N pixels in each direction; the teacher is then asked
    about the shifted image (but for shift_averaged, shuffled and uniform targets, which go with the image)."""
    augment: Augment = "none"
    """Random maps of students' images at each step, about which the teacher is asked as with --jitter: flip_shift
    (mirrored, shifted by up to 10 %), full (also sheared, zoomed and rotated), or elastic (distorted as handwriting is;
    for digits)."""
    double_softmax: bool = False
    """Beside each student on soft targets, also train one on a known bug: the teacher's probabilities taken for logits
    (as --targets double_softmax, but in the same block)."""
    transfer_images: int | None = None
    """Students are shown only the first N training images; the teacher learns from all (default: all)."""
    widths: tuple[int, ...] = (300,)
    """Units in each of the student's two hidden layers; several widths are several sweeps. (Convolutional networks have
    one such layer, of 256 units in small and 512 in big at full width, and channels in proportion.)"""
    network: Network = "mlp"
    """The student: mlp; or small or big, convolutional, with batch norm and dropout."""
    schedule: Schedule = "cosine"
    """cosine: one epoch of warm-up, then a half cosine to 0; or constant."""
    seeds: int = 3
    """Number of seeds: 0, 1, … Each fixes initial weights and batch order, the same at every temperature."""
    epochs: int | None = None
    """Passes over the transfer set by a student (default: 20; 40 on mnist5k)."""
    batch_size: int = 256
    """Images a step."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam (b1 0.9, b2 0.999, eps 1e-8) or sgd (momentum 0.9)."""
    precision: Precision = "float32"
    """Operands of the students' matrix products: float32, or bfloat16, which rounds them to 8 bits (and is faster where
    the processor has such products). Sums, parameters, optimizer and losses stay float32; the teacher has its own."""
    match_gradient_norm: float | None = None
    """Temperature T_REF, for sgd: also train each temperature with its soft gradient rescaled, at each step, to the
    norm it would have at T_REF, and its placebo (T_REF with the norm of T), to tell temperature from step size."""
    monitor_every: int | None = None
    """Epochs between two counts of the errors on the hold-out (without one: the test set) for the learning curves
    (default: at most 12 counts in all). With 1, history.jsonl also tells how many answers change between epochs."""
    block_size: int = 8
    """Settings trained together as one program; bounds the memory of a block."""
    teacher_from: tuple[Path, ...] = ()
    """Folders of teachers to use instead of training one; several are an ensemble (their logits are averaged)."""
    out: Path = Path("runs")
    """Folder that holds run directories and teachers."""
    name: str | None = None
    """Name of the run directory in OUT/temperature_sweep (default: a hash of the config)."""
    fresh: bool = False
    """Remove what the run directory holds and start anew, instead of going on with it. Teachers are kept."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints of what is being trained: the most that a kill can cost. Results do not depend on
    it."""
    dry_run: bool = False
    """Only say what would run: blocks, runs, minutes, memory, disk."""
    data: Annotated[DataConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DataConfig)
    """Which images."""
    where: Annotated[WhereConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=WhereConfig)
    """Where students are trained."""
    teacher: TeacherConfig = dataclasses.field(default_factory=TeacherConfig)
    """The teacher's recipe."""

    def __post_init__(self) -> None:
        require_distinct("temperatures", self.temperatures)
        for temperature in self.temperatures:
            require_temperature("temperatures", temperature)
        require_distinct("soft-weights", self.soft_weights)
        for weight in self.soft_weights:
            require(0 < weight <= 1, f"--soft-weights {weight:g} is not allowed: it lies in (0, 1]; 0 is --hard-labels")
        if self.learning_rates:
            require_distinct("learning-rates", self.learning_rates)
        for rate in self.learning_rates:
            require_positive("learning-rates", rate)
        if self.match_gradient_norm is not None:
            require_temperature("match-gradient-norm", self.match_gradient_norm)
            require(
                self.optimizer == "sgd",
                "--match-gradient-norm is for --optimizer sgd: Adam divides the gradient's size out again",
            )
        require(
            self.transfer_images is None or self.transfer_images >= self.batch_size,
            f"--transfer-images {self.transfer_images} is not allowed: it is --batch-size ({self.batch_size}) or more",
        )
        require(
            self.hard_labels or self.soft_targets,
            "--no-hard-labels with --no-soft-targets is not allowed: nothing is left to train",
        )
        require(
            not self.double_softmax or self.targets in ("teacher", "shift_averaged"),
            f"--double-softmax with --targets {self.targets} is not allowed: it is made of a teacher's own logits",
        )
        require_distinct("widths", self.widths)
        folders = [folder.resolve() for folder in self.teacher_from]
        require(len(set(folders)) == len(folders), "--teacher-from names a folder twice: give each teacher once")
        require(0 < self.seeds <= 10_000, f"--seeds {self.seeds} is not allowed: it is a number of seeds, 1 to 10000")
        require(
            self.monitor_every is None or self.monitor_every > 0,
            f"--monitor-every {self.monitor_every} is not allowed: it is a number of epochs, 1 or more",
        )
        require(self.block_size > 0, f"--block-size {self.block_size} is not allowed: it is 1 or more")
        require(
            self.checkpoint_seconds >= 0,
            f"--checkpoint-seconds {self.checkpoint_seconds:g} is not allowed: it is a number of seconds, 0 or more",
        )
        require_name(self.name)
        for width in self.widths:
            self.student(width, 1)

    def rates(self) -> tuple[float, ...]:
        """The learning rates, or the optimizer's default."""
        return self.learning_rates or ((1e-3,) if self.optimizer == "adam" else (0.02,))

    def student(self, width: int, default_epochs: int) -> TrainConfig:
        """The student of this width as a network to train."""
        return TrainConfig(
            hidden=(width, width) if self.network == "mlp" else (width,),
            epochs=default_epochs if self.epochs is None else self.epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            schedule=self.schedule,
            jitter=self.jitter,
            network=self.network,
            augment=self.augment,
            precision=self.precision,
        )


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal configs give equal text. Infinity is written as "inf"."""

    def plain(item: Any) -> Any:
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return plain({field.name: getattr(item, field.name) for field in dataclasses.fields(item)})
        if isinstance(item, dict):
            return {str(key): plain(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return [plain(entry) for entry in item]
        if isinstance(item, float) and not math.isfinite(item):
            return str(item)
        return str(item) if isinstance(item, Path) else item

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
