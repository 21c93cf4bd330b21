"""A dataset in memory: splits of images with labels, and how they are cut."""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, UInt8

from kdjax.errors import require, require_option


class Split(NamedTuple):
    """Images and their labels, in a fixed order."""

    images: UInt8[np.ndarray, "n height width channels"] | Float[np.ndarray, "n *shape"]
    """Grey levels or RGB, from 0 to 255; or, of a user's arrays or file, floats as they are."""
    labels: Int32[np.ndarray, " n"]
    """Class numbers from 0."""


HostLogits = Float32[np.ndarray, "images classes"]
"""`kdjax.arrays` imports JAX."""
NO_MASS = 1e10
"""Below the largest logit, a class has no mass at any T up to `MOST_T`, and sums of squares stay finite in float32."""
MOST_T = 1e7
"""The highest T at which a class `NO_MASS` below has none."""


def has_no_mass(teacher_logits: HostLogits) -> bool:
    """Whether a class of some example has no mass: a top-k teacher's whose other classes were dropped."""
    return float(np.ptp(teacher_logits, axis=1).max(initial=0)) > NO_MASS / 2


class Standardisation(NamedTuple):
    """Features less the mean of the training part, over its deviation."""

    mean: Float64[np.ndarray, " d"]
    deviation: Float64[np.ndarray, " d"]
    """1 where a column is constant."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of both."""
        return hashlib.sha256(np.stack(self).tobytes()).hexdigest()

    def apply(self, features: np.ndarray) -> Float32[np.ndarray, "n d"]:
        """`(features − mean) / deviation`, `[n, d]`, as networks take them. Raises BadInput: another shape."""
        width = len(self.mean)
        fits = features.ndim == 2 and features.shape[1] == width
        require(fits, f"features of shape {features.shape} do not fit a network for {width}: give [n, {width}]")
        return ((features - self.mean) / self.deviation).astype(np.float32)


class GivenTeacher(NamedTuple):
    """A teacher's logits that came with the data: no network is at hand."""

    train: HostLogits
    """`[n, classes]`, as the splits of the dataset."""
    holdout: HostLogits
    test: HostLogits
    fingerprint: str
    """SHA-256 (hex) of the logits of all three."""
    kind: str = "logits"
    """logits, logprobs, top-k logits or top-k logprobs."""
    kept: int | None = None
    """Of a top-k teacher: k, where it is not all classes. The other classes share what is left of the mass evenly."""
    rest: Float[np.ndarray, "images"] | None = None
    """Of a top-k teacher, for each test image: the logit of each of the other classes; `NO_MASS` below the largest one
    where they have none."""
    dropped: float | None = None
    """Mean share of the mass, at T = 1, that was given to no class; None where nothing was dropped, or it is unknown.
    """

    @property
    def renormalised(self) -> bool:
        """Whether the classes that were not given have no mass at any T."""
        return self.rest is not None and bool((self.rest < self.test.max(axis=1) - NO_MASS / 2).all())

    def not_given(self, temperature: float) -> float:
        """Mean share of the soft targets' mass, over the test images, on classes that were not given:
        `(N − k) e^(rest/T) / Σ e^(v/T)`. 0 where all were."""
        if self.rest is None or self.kept is None:
            return 0.0
        logits = np.asarray(self.test, np.float64)
        log_rest = (self.rest - logits.max(axis=1)) / temperature
        total = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature).sum(axis=1)
        return float(np.mean((logits.shape[1] - self.kept) * np.exp(log_rest) / total))


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
    teacher: GivenTeacher | None = None
    """The teacher that came with the data: then none is trained."""
    standardisation: Standardisation | None = None
    """Of features: what was done to those of the file."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels) of an image, or (d,) of features."""
        return self.train.images.shape[1:]

    def identity(self) -> dict[str, Any]:
        """What of the data fixes the results of a run: names, sizes, fingerprints of all three parts."""
        names = ("name", "description", "fingerprint", "input_shape", "num_classes", "class_names")
        facts = {name: getattr(self, name) for name in names}
        facts |= {f"{split}_fingerprint": fingerprint(getattr(self, split)) for split in ("holdout", "test")}
        if self.standardisation is not None:
            facts["standardisation"] = self.standardisation.fingerprint
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
