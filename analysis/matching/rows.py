"""The numbers of `analysis.logit_matching` as rows of a table, and how to find one again."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

STAGES = ("start", "middle", "end")
"""Of the pair's student: untrained, after half of its epochs, trained."""


class Row(NamedTuple):
    """One number of `logit_matching.csv`."""

    part: str
    """error, cosine, law, plateau, threshold, teachers, norm, attention, value, label, rounding, parameters or
    training; of curvature: logits, target, curvature or rate."""
    data: str
    """`random N`, `random N, close`; `pair, start` …; a teacher; an optimizer."""
    curve: str
    temperature: float
    """nan where the number belongs to a whole curve."""
    seed: float
    """nan where there is none."""
    value: float


class Claim(NamedTuple):
    """One line of the table."""

    claim: str
    prediction: str
    measurement: str
    holds: bool
    note: str = ""
    """What else was measured, for below the table."""

    def cells(self) -> list[str]:
        """The line."""
        return [self.claim, self.prediction, self.measurement, "yes" if self.holds else "**no**"]


def verdict(claims: Sequence[Claim]) -> str:
    """How many predictions hold, and which do not."""
    failed = [claim.claim for claim in claims if not claim.holds]
    if not failed:
        return f"All {len(claims)} predictions hold."
    which = "this one does not" if len(failed) == 1 else f"these {len(failed)} do not"
    return f"{len(claims) - len(failed)} of {len(claims)} predictions hold; {which}: {'; '.join(failed)}."


class Numbers:
    """The rows, by part, data and curve."""

    def __init__(self, rows: Iterable[Row]):
        self.table = pd.DataFrame(list(rows), columns=Row._fields)
        self._groups = dict(list(self.table.groupby(["part", "data", "curve"], sort=False)))

    def one(self, part: str, data: str, curve: str) -> float:
        """A number that belongs to a whole curve."""
        return float(self._groups[part, data, curve]["value"].iloc[0])

    def curve(self, part: str, data: str, curve: str) -> tuple[np.ndarray, np.ndarray]:
        """Temperatures and values."""
        rows = self._groups[part, data, curve]
        return rows["temperature"].to_numpy(), rows["value"].to_numpy()

    def at(self, part: str, data: str, curve: str, temperature: float) -> float:
        """A curve's value at the measured temperature nearest to the one given. Raises ValueError: none is within
        1 %."""
        temperatures, values = self.curve(part, data, curve)
        far = np.abs(np.log(temperatures / temperature))
        if far.min() > 0.01:
            raise ValueError(f"{part}, {data}, {curve}: nothing was measured at T = {temperature:g}")
        return float(values[far.argmin()])

    def seeds(self, data: str, curve: str, temperature: float = math.inf) -> np.ndarray:
        """One value a seed, of the training part."""
        rows = self._groups["training", data, curve]
        values: np.ndarray = rows.loc[rows["temperature"] == temperature, "value"].to_numpy()
        return values

    def ranks(self) -> int:
        """How many classes the pair has: the ranks of a logit."""
        names = self.table.loc[self.table["part"] == "attention", ["data", "curve"]]
        names = names.loc[names["data"] == "pair, end", "curve"]
        return int(names[names.str.startswith("share")].nunique())

    def data(self, part: str) -> list[str]:
        """The names of the data of a part, in order."""
        return list(dict.fromkeys(self.table.loc[self.table["part"] == part, "data"]))
