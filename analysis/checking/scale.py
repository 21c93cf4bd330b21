"""The factor between a loss and what it should be: `c·T^a·N^b·B^d`, N classes, B examples. Right is 1."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from analysis.checking.cases import Case
from analysis.checking.forms import Finding

TOLERANCE = 1e-3
"""Relative, of values and gradients: Keras computes in float32 even where it is given float64."""


class Scale(NamedTuple):
    """The factor; the powers are whole numbers."""

    constant: float = 1.0
    temperature: int = 0
    classes: int = 0
    batch: int = 0

    def at(self, case: Case) -> float:
        """The factor of a case."""
        powers = case.temperature**self.temperature * case.classes**self.classes * case.examples**self.batch
        return self.constant * float(powers)

    def findings(self, term: str = "") -> list[Finding]:
        """What is wrong with it, and what mends it. `term`: where not all of the loss has this factor."""
        found, of, what = [], f" of {term}" if term else "", term or "the loss"
        if self.constant < 0:
            found.append(Finding(f"the sign{of} is wrong: multiply {what} by −1"))
        if self.temperature:
            known = {-2: "T² is lost", -1: "divided by T: one of the two factors T is lost"}
            wrong = known.get(self.temperature, f"a factor {_power('T', self.temperature)} too much")
            found.append(Finding(f"{wrong}: multiply {what} by {_power('T', -self.temperature)}"))
        if self.classes:
            known = {-1: "divided by N, the number of classes", 1: "multiplied by N, the number of classes"}
            where = ' (F.kl_div: reduction="batchmean", not "mean")' if self.classes == -1 else ""
            text = known.get(self.classes, f"a factor {_power('N', self.classes)} too much, N being the classes")
            found.append(Finding(f"{text}: multiply {what} by {_power('N', -self.classes)}{where}"))
        if self.batch:
            known = {1: "summed over the batch, not averaged", -1: "divided by the size of the batch once too often"}
            where = ' (F.kl_div: reduction="batchmean", not "sum")' if self.batch == 1 else ""
            text = known.get(self.batch, f"a factor {_power('B', self.batch)} too much, B being the size of the batch")
            found.append(Finding(f"{text}: multiply {what} by {_power('B', -self.batch)}{where}"))
        if abs(abs(self.constant) - 1) > TOLERANCE:
            found.append(Finding(f"times {abs(self.constant):.4g}{of}: a weight, where it is meant", fault=False))
        return found

    def mended(self) -> str:
        """What all the powers together are mended by; empty where fewer than two are wrong."""
        powers = (("T", self.temperature), ("N", self.classes), ("B", self.batch))
        factors = [_power(letter, -power) for letter, power in powers if power]
        return " · ".join(factors) if len(factors) > 1 else ""


def _power(letter: str, power: int) -> str:
    return letter + ("" if power == 1 else str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")))


def fit(factors: Sequence[float], cases: Sequence[Case]) -> Scale | None:
    """The scale with these factors, or None: there is none."""
    values = np.asarray(factors)
    signs = np.sign(values)
    if not np.isfinite(values).all() or not signs.all() or np.ptp(signs):
        return None
    sizes = np.log([(case.temperature, case.classes, case.examples) for case in cases])
    sizes[:, 0] *= np.ptp(sizes[:, 0]) > 0  # one T tells nothing of its power
    design = np.column_stack([np.ones(len(cases)), sizes])
    powers = np.rint(np.linalg.lstsq(design, np.log(np.abs(values)), rcond=None)[0][1:])
    rest: Float[np.ndarray, " cases"] = np.log(np.abs(values)) - sizes @ powers
    if np.ptp(rest) > 2 * TOLERANCE:
        return None
    temperature, classes, batch = map(int, powers)
    constant = float(signs[0] * np.exp(np.mean(rest)))
    nearest = round(constant * 60) / 60  # 1, 1/2, 0.9 …: rounding errors are not to be seen
    exact = nearest and abs(constant / nearest - 1) < TOLERANCE / 2
    return Scale(nearest if exact else constant, temperature, classes, batch)
