"""The networks of a CIFAR-10 table, and the sweeps that train the small ones."""

import enum


class Role(enum.StrEnum):
    """A kind of network: a row of the table, in this order."""

    SMALL = "small"
    """The small network on hard labels."""
    BIG = "big"
    """The big network on hard labels: the teacher."""
    ENSEMBLE = "ensemble"
    """Several teachers, their logits averaged."""
    DISTILLED = "distilled"
    """The small network on soft targets."""
    DOUBLE_SOFTMAX = "double_softmax"
    LABEL_SMOOTHING = "label_smoothing"
    SHUFFLED = "shuffled"
    RANDOM = "random"
    UNIFORM = "uniform"


class SweepRole(enum.StrEnum):
    """What a sweep of the study is for."""

    TEACHER = "teacher"
    """Students of the teacher at the table's temperature, or at all of them, hard labels, and controls that are
    objectives."""
    TEMPERATURES = "temperatures"
    """Students of the teacher at the other temperatures; of the other teachers at all of them."""
    SHUFFLED = "shuffled"
    RANDOM = "random"
    UNIFORM = "uniform"
    TUNING = "tuning"
    """Students of other seeds, at the rates and soft weights among which the hold-out chooses."""
    LENGTHS = "lengths"
    """Students of labels and of the teacher, for other numbers of epochs."""
    STABILITY = "stability"
    """Students at a constant learning rate, evaluated after each epoch."""
