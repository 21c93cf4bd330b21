"""The logits on which a loss is asked."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

HostLogits = Float[np.ndarray, "*batch classes"]


class Case(NamedTuple):
    """One batch: logits `[B, N]` in float64, labels `[B]`, and T."""

    student: HostLogits
    teacher: HostLogits
    labels: Int[np.ndarray, "*batch"]
    temperature: float

    @property
    def classes(self) -> int:
        """N."""
        return self.student.shape[-1]

    @property
    def examples(self) -> int:
        """B."""
        return self.labels.size


def draw(shape: tuple[int, ...], temperature: float, student_scale: float = 2.0, teacher_scale: float = 3.0) -> Case:
    """Normal logits of these standard deviations, the same for the same arguments; their means are not 0."""
    random = np.random.default_rng([*shape, round(temperature)])
    student = random.normal(0.5, student_scale, shape)
    teacher = random.normal(1.5, teacher_scale, shape)
    return Case(student, teacher, random.integers(0, shape[-1], shape[:-1]), temperature)


ORDINARY = (
    *(draw((4, 10), temperature) for temperature in (3.0, 1.0, 20.0)),
    *(draw(shape, 3.0) for shape in ((4, 100), (8, 10), (6, 2))),
)
"""T, N and B vary each for itself, so that a factor's dependence on each can be told. The first tells most apart."""
EXTREME = draw((4, 10), 1.0, 100.0, 100.0)
"""Where probabilities underflow, or are clipped."""
TOKENS = draw((2, 3, 10), 3.0)
"""Two leading axes, as of a language model."""
