"""Options of the dataset: its name or file, its hold-out."""

import dataclasses
import os
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from kdjax.errors import require_count, require_option
from kdjax.identity import added

TopkRest = Literal["spread", "renormalised"]
"""What becomes of the mass that a teacher's largest k classes leave."""


def default_data_dir() -> Path:
    """The folder of prepared data: `KDJAX_DATA_DIR`, or `kdjax/data` in the user's cache folder."""
    return Path(os.environ.get("KDJAX_DATA_DIR") or cache_folder() / "data")


def cache_folder() -> Path:
    """`kdjax` in the user's cache folder: what can be made again. A user without a home folder has it in the working
    folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdjax"
    except RuntimeError:  # neither HOME, nor such a user
        return Path.cwd() / ".cache" / "kdjax"


def default_raw_dir() -> Path | None:
    """The raw folder named by `KDJAX_RAW_DIR`, if any."""
    folder = os.environ.get("KDJAX_RAW_DIR")
    return Path(folder) if folder else None


def as_declared(config: Any) -> None:
    """Gives the fields of a frozen dataclass the types that they are declared with, where a script wrote 1 for 1.0,
    text for a path, or a list, an array, a range or a single value for a tuple: what is equal has one identity. Raises
    BadInput: a fraction for a whole number."""
    declared = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = _as_kind(field.name, getattr(config, field.name), declared[field.name])
        object.__setattr__(config, field.name, value)


def _as_kind(name: str, value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):  # X | None
        return None if value is None else _as_kind(name, value, typing.get_args(kind)[0])
    if hasattr(value, "tolist"):  # of NumPy
        value = value.tolist()
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float):
        require_option(value.is_integer(), name.replace("_", "-"), value, "it is a whole number")
        return int(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if typing.get_origin(kind) is tuple:
        values = [value] if isinstance(value, (str, int, float, Path)) else value
        return tuple(_as_kind(name, one, typing.get_args(kind)[0]) for one in values)
    return value


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how many of them."""

    dataset: str = "auto"
    """Name of the dataset: mnist, fashion_mnist, cifar10, mnist5k (5,000 real digits that need no download), or auto:
    mnist where it is prepared or can be had, else mnist5k. Or a file of your own, with labels, images or features, and
    a teacher's logits if you have them: NAME.npz, .safetensors, .parquet, or a folder of .npy files."""
    raw_dir: Path | None = dataclasses.field(default_factory=default_raw_dir)
    """Folder searched, with all below it, for the official data files, gzipped or not (those of fashion_mnist: in a
    folder of that name); the environment variable KDJAX_RAW_DIR sets its default."""
    data_dir: Path = dataclasses.field(default_factory=default_data_dir)
    """Folder of prepared datasets; the environment variable KDJAX_DATA_DIR sets its default."""
    train_images: int | None = None
    """Use only the first N training images, after the hold-out is cut (default: all)."""
    holdout: int = 0
    """Training images set aside, from the end of the training set, for choosing T and rates; never trained on. A file
    has its own: what its column split says, else a tenth."""
    columns: tuple[str, ...] = dataclasses.field(default=(), metadata=added(()))
    """Your file's own names of its columns, each as OURS=THEIRS, such as images=x labels=y. Ours are: images or
    features, labels, teacher_logits or teacher_logprobs, teacher_topk_logits or teacher_topk_logprobs with
    teacher_topk_indices, teacher_logsumexp, split, groups."""
    topk_rest: TopkRest = dataclasses.field(default="spread", metadata=added("spread"))
    """For a file with a top-k teacher: spread divides the remaining probability mass (at T = 1) evenly among the other
    classes; renormalised gives them none, at any T."""

    def __post_init__(self) -> None:
        as_declared(self)
        require_count("holdout", self.holdout, "images", 0)
        require_count("train-images", self.train_images, "images")


@dataclasses.dataclass(frozen=True)
class NamedDataConfig(DataConfig):
    """Which images, and how many of them: of experiments that are not for a user's own file."""

    dataset: str = "auto"
    """Name of the dataset: mnist, fashion_mnist, cifar10, mnist5k (5,000 real digits that need no download), or auto:
    mnist where it is prepared or can be had, else mnist5k."""
    columns: Annotated[tuple[str, ...], tyro.conf.Suppress] = dataclasses.field(default=(), metadata=added(()))
    topk_rest: Annotated[TopkRest, tyro.conf.Suppress] = dataclasses.field(default="spread", metadata=added("spread"))
