"""Options of the dataset: its name, its files, its hold-out."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from kdjax.errors import require_count


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


def as_paths(config: Any, *names: str) -> None:
    """Makes paths of fields of a frozen dataclass that were given as text, as a script may."""
    for name in names:
        if isinstance(value := getattr(config, name), str):
            object.__setattr__(config, name, Path(value))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how many of them."""

    dataset: str = "auto"
    """Name of the dataset: mnist, fashion_mnist, cifar10, mnist5k (5,000 real digits that need no download), or auto:
    mnist where it is prepared or can be had, else mnist5k."""
    raw_dir: Path | None = dataclasses.field(default_factory=default_raw_dir)
    """Folder searched, with all below it, for the official data files, gzipped or not; the environment variable
    KDJAX_RAW_DIR sets its default."""
    data_dir: Path = dataclasses.field(default_factory=default_data_dir)
    """Folder of prepared datasets; the environment variable KDJAX_DATA_DIR sets its default."""
    train_images: int | None = None
    """Use only the first N training images, after the hold-out is cut (default: all)."""
    holdout: int = 0
    """Training images set aside, from the end of the training set, for choosing T and rates; never trained on."""

    def __post_init__(self) -> None:
        as_paths(self, "raw_dir", "data_dir")
        require_count("holdout", self.holdout, "images", 0)
        require_count("train-images", self.train_images, "images")
