"""Bias corrections for classes that a student never saw: how much to raise their logits, and how to estimate it.

Hinton et al. 2015, Section 3, choose the bias on the test set (`oracle`); the other corrections never use a test image
(`corrections.Reader.biases` says which images each is chosen on). One bias b is shared by all omitted classes. Raising
those by b is the same as lowering all others by b, since only differences of logits decide: the paper's "+3.5 on the 3"
and its "−7.6 on the 7 and the 8" are both b > 0.

An image's *lead* is `m = max over seen classes of z − max over omitted classes of z`: it is classified as omitted
exactly where b > m. Everything below uses the logits only through it. numpy only, float64.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Logits = Float[np.ndarray, "images classes"]
Labels = Int[np.ndarray, "images"]


class Sides(NamedTuple):
    """What determines an image's class under any bias."""

    inside: Labels
    """The omitted class with the largest logit."""
    outside: Labels
    """The seen class with the largest logit."""
    lead: Float[np.ndarray, "images"]
    """The latter's logit less the former's: the bias at which the answer changes."""


def sides(logits: Logits, omitted: Sequence[int]) -> Sides:
    """Best omitted class, best seen class, and the lead of the latter; `ValueError` if none or all are omitted."""
    wide = np.asarray(logits, np.float64)
    raised = np.isin(np.arange(wide.shape[1]), omitted)
    if not 0 < raised.sum() < len(raised):
        raise ValueError(f"omitted classes {list(omitted)} of {len(raised)}: some, and not all")
    inside, outside = np.where(raised[None], wide, -np.inf), np.where(raised[None], -np.inf, wide)
    return Sides(inside.argmax(axis=1), outside.argmax(axis=1), outside.max(axis=1) - inside.max(axis=1))


def answers(logits: Logits, omitted: Sequence[int], bias: float) -> Labels:
    """The class of each image, `argmax(z + b·1[class is omitted])`; at a tie (b = lead) the seen class."""
    inside, outside, lead = sides(logits, omitted)
    return np.where(bias > lead, inside, outside)


def best_bias(logits: Logits, labels: Labels, omitted: Sequence[int]) -> float:
    """The bias with the fewest errors: exact, in O(n log n).

    The number of errors is a step function of b that can change only where b passes an image's lead: sorted once, the
    running sum of those changes is the number of errors in every interval between neighbouring leads. Neighbouring
    intervals with the fewest errors are one. Of several the widest is taken (the least likely to be chance; of equally
    wide ones that whose middle is nearest to 0), and of it the middle. Beyond the outermost leads nothing changes:
    there the search extends by one unit.
    """
    inside, outside, lead = sides(logits, omitted)
    # The change of errors where b passes an image's lead: +1 if the seen class is right, −1 if the omitted one is.
    cost = (outside == labels).astype(np.int64) - (inside == labels)
    leads, which = np.unique(lead, return_inverse=True)
    steps = np.rint(np.bincount(which, cost, minlength=len(leads))).astype(np.int64)
    errors = np.concatenate([[0], np.cumsum(steps)])  # relative to b = −∞, in each interval (edge, next edge]
    edges = np.concatenate([[leads[0] - 1], leads, [leads[-1] + 1]])
    fewest = errors == errors.min()
    first = np.flatnonzero(fewest & ~np.concatenate([[False], fewest[:-1]]))
    last = np.flatnonzero(fewest & ~np.concatenate([fewest[1:], [False]]))
    low, high = edges[first], edges[last + 1]
    middle = low + (high - low) / 2
    # Between two neighbouring floats there is no middle; the upper edge still belongs to the interval.
    middle = np.where(middle > low, middle, high)
    return float(middle[np.lexsort((np.abs(middle), low - high))[0]])


def share_of_omitted(teacher_logits: Logits, omitted: Sequence[int]) -> float:
    """π: the share of images that the teacher classifies as omitted."""
    return float(np.mean(np.isin(teacher_logits.argmax(axis=1), omitted)))


def label_free(pool_logits: Logits, omitted: Sequence[int], share: float) -> float:
    """`b = −quantile_{1−π}(z_o − max of the other z)`: student and teacher classify as many images as omitted.

    Uses no label. Assumed: (1) the pool was never trained on and holds the omitted classes in the same share as the
    images to be classified; (2) the teacher knows these classes, so that π is about right (its misses and false alarms
    need only balance); (3) the student ranks images by `z_o − max of the other z` well, so that the highest share π are
    mostly the right ones. Misses and false alarms of the student then balance; their sum need not be the smallest.

    Args:
        pool_logits: the student's, `[images, classes]`, for the unlabelled pool. With several omitted classes z_o is
            the largest of theirs.
        omitted: classes that share the bias.
        share: π, in [0, 1), from `share_of_omitted`.
    """
    return -float(np.quantile(-sides(pool_logits, omitted).lead, 1 - share))


def seen_only(students: Mapping[int, Logits], labels: Labels, omitted: Sequence[int]) -> dict[int, float]:
    """For each seen class c, the bias that c would have needed had it been omitted too. Their median is the correction.

    Needs no image of the omitted classes, labelled or not: a student trained without them *and* without c is evaluated
    on held-out labelled images of the seen classes, and c's bias is the one with the fewest errors among them. The
    omitted classes are excluded from its answers. Assumed: that an omitted class is as much underestimated, whichever
    it is.

    Args:
        students: c → logits `[images, classes]` of the student without the omitted classes and c.
        labels: `[images]`, of the same images, all of seen classes (else `ValueError`).
        omitted: the classes to be corrected.
    """
    if np.isin(labels, omitted).any():
        raise ValueError("seen_only was given images of an omitted class")
    biases = {}
    for without, logits in students.items():
        seen = np.setdiff1d(np.arange(logits.shape[1]), omitted)
        among = np.searchsorted(seen, [without])
        biases[without] = best_bias(logits[:, seen], np.searchsorted(seen, labels), among.tolist())
    return biases
