"""What stands for the teacher's logits where students learn: the teacher's own, a better table, or a control.

    teacher          v
    shift_averaged   the mean of v over all shifts of the image by up to `SHIFTS` pixels: what the teacher says of the
                     image wherever it stands, computed once
    double_softmax   softmax(v) taken for logits, a known bug: the target softmax(softmax(v) / T) is nearly uniform
    shuffled         v of another image: a fixed permutation of the table
    random           v of an untrained network of the teacher's shape
    uniform          0: all classes alike. At T = 1 and soft weight w the loss is (1 − w)·CE(y, q) + w·CE(1/N, q) less
                     a constant: label smoothing by w (Szegedy et al. 2016, arXiv 1512.00567, Section 7)

All but the first two are controls: what a student gains under them it does not owe to what the teacher knows.
"""

import numpy as np
from jax import nn
from jaxtyping import Array, Float

from kdjax.config import Targets

SHIFTS = 2
"""Pixels; the jitter of the paper's teacher."""
ASKED: tuple[Targets, ...] = ("teacher", "double_softmax", "random")
"""Targets that follow the image as it is shifted or augmented: the teacher is then asked at each step."""


def alter(kind: Targets, logits: Float[Array, "*images classes"]) -> Float[Array, "*images classes"]:
    """What a control makes of the teacher's logits, image by image; other kinds leave them as they are."""
    if kind == "double_softmax":
        return nn.softmax(logits)
    return 0 * logits if kind == "uniform" else logits


def shuffle(logits: Float[np.ndarray, "images classes"], seed: int) -> Float[np.ndarray, "images classes"]:
    """The rows in another order, fixed by the seed and their number."""
    return logits[np.random.default_rng([seed, len(logits)]).permutation(len(logits))]
