"""Variants of the distillation targets: the teacher's own logits, shift-averaged logits, or a control.

    teacher          v
    shift_averaged   the mean of v over all shifts of the image by up to `SHIFTS` pixels, computed once
    shuffled         v of another image: a fixed permutation of the table
    random           v of an untrained network of the teacher's shape
    uniform          0: equal for all classes. At T = 1 and soft weight w the loss is (1 − w)·CE(y, q) + w·CE(1/N, q)
                     less a constant: label smoothing by w (Szegedy et al. 2016, arXiv 1512.00567, Section 7)

All but the first two are controls: what a student gains under them does not come from the teacher's knowledge. Two more
alter the teacher's logits for students that never see some classes: `permute_wrong` and `flatten_omitted`.
"""

from collections.abc import Collection

import numpy as np
from jaxtyping import Int

from kdjax.arrays import HostLogits
from kdjax.config import Targets

SHIFTS = 2
"""Pixels; the jitter of the paper's teacher."""
FOLLOW_IMAGE: tuple[Targets, ...] = ("teacher", "random")
"""Targets that follow the image as it is shifted or augmented: the teacher is then queried at each step."""
WORDS: dict[str, str] = {
    "teacher": "the teacher's logits",
    "shift_averaged": "averaged over shifts",
    "shuffled": "shuffled targets",
    "random": "untrained teacher",
    "uniform": "uniform targets",
}
"""In tables and on figures."""


def shuffle(logits: HostLogits) -> HostLogits:
    """The rows in another order, fixed by their number."""
    return logits[np.random.default_rng([0, len(logits)]).permutation(len(logits))]


def permute_wrong(logits: HostLogits, labels: Int[np.ndarray, "images"], seed: int) -> HostLogits:
    """The logits of the wrong classes, permuted within each image by a permutation of its own. The right class keeps
    its logit, and the image the entropy of its soft target at every T: what is lost is *which* wrong class is how
    likely."""
    count, classes = logits.shape
    random = np.random.default_rng([seed, classes])
    wrong = np.arange(classes)[None] != labels[:, None]
    order = np.argsort(np.where(wrong, random.random((count, classes)), np.inf), axis=1)[:, : classes - 1]
    altered = logits.copy()
    altered[wrong] = np.take_along_axis(logits, order, axis=1).ravel()
    return altered


def flatten_omitted(logits: HostLogits, omitted: Collection[int]) -> HostLogits:
    """Each omitted class's logit replaced by its mean over the images: all that is left of it is how rare it is."""
    altered, columns = logits.copy(), sorted(omitted)
    altered[:, columns] = logits[:, columns].mean(axis=0, keepdims=True, dtype=np.float64)
    return altered
