"""Options of the dataset: its name or file, its hold-out."""

import dataclasses
import os
from pathlib import Path
from typing import Any, Literal

from kdjax.errors import require_count
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
    mnist where it is prepared or can be had, else mnist5k. Or a file of your own, with labels, images or features, and
    a teacher's logits if you have them: NAME.npz, .safetensors, .parquet, or a folder of .npy files."""
    raw_dir: Path | None = dataclasses.field(default_factory=default_raw_dir)
    """Folder searched, with all below it, for the official data files, gzipped or not; the environment variable
    KDJAX_RAW_DIR sets its default."""
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
        as_paths(self, "raw_dir", "data_dir")
        require_count("holdout", self.holdout, "images", 0)
        require_count("train-images", self.train_images, "images")
