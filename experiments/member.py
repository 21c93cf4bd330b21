"""A sweep of a study. Configs name theirs when they are made, which is before JAX is imported."""

from typing import NamedTuple

from kdjax.config import SweepConfig

TUNING_SEED = 10_000
"""The first seed of students whose rates are compared: more than there are seeds of any others."""


class Member(NamedTuple):
    """One sweep of a study."""

    role: str
    """An enum's value: what the table and the figures look its runs up by."""
    config: SweepConfig
    part: str = ""
    """The part of the study that it belongs to, where the study has parts."""
