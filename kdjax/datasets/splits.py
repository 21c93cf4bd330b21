"""A dataset in memory: splits of images with labels, and how they are cut."""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int32, UInt8

from kdjax.errors import require, require_option


class Split(NamedTuple):
    """Images and their labels, in a fixed order."""

    images: UInt8[np.ndarray, "n height width channels"] | Float[np.ndarray, "n *shape"]
    """Grey levels or RGB, from 0 to 255; or where the arrays are a user's (`kdjax.distil`), floats as they are."""
    labels: Int32[np.ndarray, " n"]
    """Class numbers from 0."""


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

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels) of an image."""
        return self.train.images.shape[1:]

    def identity(self) -> dict[str, Any]:
        """What of the data fixes the results of a run: names, sizes, fingerprints of all three parts."""
        names = ("name", "description", "fingerprint", "input_shape", "num_classes", "class_names")
        facts = {name: getattr(self, name) for name in names}
        facts |= {f"{split}_fingerprint": fingerprint(getattr(self, split)) for split in ("holdout", "test")}
        sizes = {"train_images": self.train, "holdout": self.holdout, "test_images": self.test}
        return {**facts, **{name: len(split.images) for name, split in sizes.items()}}


def cut(train: Split, holdout: int, train_images: int | None) -> tuple[Split, Split]:
    """The remaining training set, and the hold-out: its last `holdout` images, cut before the first `train_images` of
    the rest are taken (None: all).

    Raises BadInput: the hold-out leaves nothing, or there are fewer than `train_images` images left.
    """
    total, left = len(train.labels), len(train.labels) - holdout
    allowed = f"there are {total:,} training images, and some must be left; give at most {total - 1}"
    require_option(left > 0, "holdout", holdout, allowed)
    after = f" after a hold-out of {holdout:,}" if holdout else ""
    allowed = f"there are {left:,} training images{after}; give at most {left}"
    require_option(train_images is None or train_images <= left, "train-images", train_images, allowed)
    end = left if train_images is None else train_images
    return Split(train.images[:end], train.labels[:end]), Split(train.images[left:], train.labels[left:])


def omit(split: Split, classes: Iterable[int]) -> Split:
    """The images of all other classes, in their order; `BadInput` if none is left."""
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
