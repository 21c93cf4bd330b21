"""A dataset in memory: splits of images with labels, and how they are cut."""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from kdjax.errors import require


class Split(NamedTuple):
    """Images and their labels, in a fixed order.

    Attributes:
        images: uint8 `[n, height, width, channels]`, grey levels or RGB from 0 to 255.
        labels: int32 `[n]`, class numbers from 0.
    """

    images: UInt8[np.ndarray, "n height width channels"]
    labels: Int32[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images for training, for choosing settings and for testing. The three share no image."""

    name: str
    """Name of the data in use: never `auto`."""
    num_classes: int
    class_names: tuple[str, ...]
    train: Split
    holdout: Split
    """The last images of the training set, for choosing settings; empty by default."""
    test: Split
    fingerprint: str
    """SHA-256 (hex) of the training images without the hold-out: shape, pixels and labels."""
    description: str
    """Title and numbers of images, for people: "MNIST (60,000 training images, 10,000 test images)"."""
    hint: str | None = None
    """Where this is a substitute for the full dataset: the command that gets it."""

    def identity(self) -> dict[str, Any]:
        """What of the data fixes the results of a run: names, sizes, fingerprints of all three parts."""
        return {
            "name": self.name,
            "description": self.description,
            "fingerprint": self.fingerprint,
            "holdout_fingerprint": fingerprint(self.holdout),
            "test_fingerprint": fingerprint(self.test),
            "input_shape": self.train.images.shape[1:],
            "num_classes": self.num_classes,
            "class_names": self.class_names,
            "train_images": len(self.train.images),
            "holdout": len(self.holdout.images),
            "test_images": len(self.test.images),
        }


def cut(train: Split, holdout: int, train_images: int | None) -> tuple[Split, Split]:
    """The remaining training set, and the hold-out.

    The hold-out is the last `holdout` images, cut first; of the rest the first `train_images` are kept (None: all).

    Raises:
        BadInput: the hold-out leaves nothing, or there are fewer than `train_images` images left.
    """
    total = len(train.labels)
    left = total - holdout
    require(
        left > 0,
        f"--holdout {holdout} is not allowed: there are {total:,} training images, and some must be left; give at most "
        f"{total - 1}",
    )
    if train_images is not None:
        after = "" if holdout == 0 else f" after a hold-out of {holdout:,}"
        require(
            train_images <= left,
            f"--train-images {train_images} is not allowed: there are {left:,} training images{after}; give at most "
            f"{left}",
        )
    end = left if train_images is None else train_images
    return Split(train.images[:end], train.labels[:end]), Split(train.images[left:], train.labels[left:])


def omit(split: Split, classes: Iterable[int]) -> Split:
    """The images of all other classes, in their order. A class without images changes nothing.

    Raises:
        BadInput: no image is left.
    """
    classes = sorted(set(classes))
    rest = ~np.isin(split.labels, classes)
    present = ", ".join(str(label) for label in np.unique(split.labels)) or "none"
    require(rest.any(), f"omitting the classes {classes} leaves no image: the classes here are {present}")
    return Split(split.images[rest], split.labels[rest])


def fingerprint(split: Split) -> str:
    """SHA-256 (hex) over shape, pixels and labels: equal for equal images in equal order, on any machine."""
    digest = hashlib.sha256(repr(split.images.shape).encode())
    digest.update(np.ascontiguousarray(split.images).data)
    digest.update(np.ascontiguousarray(split.labels, dtype="<i4").data)
    return digest.hexdigest()
