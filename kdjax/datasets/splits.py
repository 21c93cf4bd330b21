"""What a dataset is once it is in memory: splits of images with labels, and how they are cut."""

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
    """Images to train on, to choose settings on, and to test on. The three share no image."""

    name: str
    """Name of the data that were used: never `auto`."""
    num_classes: int
    class_names: tuple[str, ...]
    train: Split
    holdout: Split
    """The last images of the training set, for choosing settings; empty unless a hold-out was asked for."""
    test: Split
    fingerprint: str
    """SHA-256 (hex) of the training images that are left after the hold-out is cut: shape, pixels and labels."""
    description: str
    """Title and numbers of images, for people: "MNIST (60,000 training images, 10,000 test images)"."""
    hint: str | None = None
    """Where these are not the full set: the one-line command that gets it."""

    def identity(self) -> dict[str, Any]:
        """What of the images fixes the results of a run: names, numbers, fingerprints of all three parts."""
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
    """The training set that is left, and the hold-out.

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
        kept = "" if holdout == 0 else f" after a hold-out of {holdout:,}"
        require(
            train_images <= left,
            f"--train-images {train_images} is not allowed: there are {left:,} training images{kept}; give at most "
            f"{left}",
        )
    return _take(train, slice(0, left if train_images is None else train_images)), _take(train, slice(left, total))


def omit(split: Split, classes: Iterable[int]) -> Split:
    """The images of all classes but these, in their order. A class that has no images here changes nothing.

    Raises:
        BadInput: no image is left.
    """
    classes = sorted(set(classes))
    return _select(split, ~np.isin(split.labels, classes), f"omitting the classes {classes} leaves no image")


def keep(split: Split, classes: Iterable[int]) -> Split:
    """The images of these classes alone, in their order.

    Raises:
        BadInput: no image is left.
    """
    classes = sorted(set(classes))
    return _select(split, np.isin(split.labels, classes), f"keeping only the classes {classes} leaves no image")


def fingerprint(split: Split) -> str:
    """SHA-256 (hex) over shape, pixels and labels: equal for equal images in equal order, on any machine."""
    digest = hashlib.sha256(repr(split.images.shape).encode())
    digest.update(np.ascontiguousarray(split.images).data)
    digest.update(np.ascontiguousarray(split.labels, dtype="<i4").data)
    return digest.hexdigest()


def _select(split: Split, chosen: np.ndarray, complaint: str) -> Split:
    present = ", ".join(str(label) for label in np.unique(split.labels))
    require(chosen.any(), f"{complaint}: the classes here are {present or 'none'}")
    return Split(split.images[chosen], split.labels[chosen])


def _take(split: Split, part: slice) -> Split:
    return Split(split.images[part], split.labels[part])
