"""Which test images a sweep keeps to look at: those of which the teacher is least sure, and the students' mistakes."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from kdjax.arrays import HostLogits

MOST = 10
"""Mistakes that are kept."""
Rows = Int[np.ndarray, "examples"]


def least_sure(teacher: HostLogits, labels: Int[np.ndarray, "images"]) -> Rows:
    """Of each class the row of the image whose two largest logits are nearest to each other."""
    second, first = np.sort(teacher, axis=1)[:, -2:].T
    order = np.argsort(first - second, kind="stable")
    return order[np.unique(labels[order], return_index=True)[1]]


def mistakes(
    teacher: HostLogits,
    labels: Int[np.ndarray, "images"],
    students: Iterable[Float[np.ndarray, "_ images classes"]],
) -> Rows:
    """The rows of the images that the teacher gets right and students most often get wrong, those of the most first.

    At most `MOST`; of equal ones the first; none that every student gets right. `students`: logits of the students of a
    block at a time, `[students, images, classes]`.
    """
    wrong = np.zeros(len(labels), np.int64)
    for logits in students:
        wrong += (logits.argmax(axis=-1) != labels).sum(axis=0)
    wrong[teacher.argmax(axis=-1) != labels] = 0
    order = np.argsort(-wrong, kind="stable")[:MOST]
    return order[wrong[order] > 0]
