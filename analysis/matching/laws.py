"""How the errors of the limits fall with T, as power laws: fitted, and predicted from the next term of the expansion.

Words and symbols as in `analysis.matching.theory`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from analysis.matching.theory import (
    APPROXIMATIONS,
    Logits,
    Temperatures,
    centred,
    errors_and_cosines,
    rms,
    spread,
)

FIT = np.geomspace(20, 1e4, 28)
"""T/s over which slopes are fitted: below, higher orders count; above, rounding bends the second order."""
LOW_FIT = np.geomspace(1e-3, 0.03, 10)
"""The same for T → 0."""


class Law(NamedTuple):
    """How one error falls: `constant · (T/s)^slope`, measured and predicted."""

    slope: float
    predicted_slope: float
    constant: float
    """At the largest T/s of the fit, where higher orders are gone."""
    predicted_constant: float
    """From the next term of the expansion, for these very logits."""


def laws(z: Logits, v: Logits) -> list[Law]:
    """Slopes and constants of the two centred approximations over `FIT`.

    Predicted from the first term left out, at T = s: with `k(x) = x³/6 − x·mean(x²)/2 − mean(x³)/6` the expansion of
    `∂C/∂z` goes on with `[k(zc) − k(vc)]/(N T⁴)`. With two classes the second-order term is 0, and the first order is
    as good as the second.
    """
    s, zc, vc = spread(z, v), centred(z), centred(v)  # numpy's: the helpers below serve both
    errors, _ = errors_and_cosines(z, v, FIT * s)
    size = float(rms(zc - vc))
    second = float(rms(centred(zc**2) - centred(vc**2))) / (2 * size * s)
    third = float(rms(_third(zc) - _third(vc))) / (size * s**2)
    two = z.shape[1] == 2
    predicted = [(-2.0, third) if two else (-1.0, second), (-2.0, third)]
    return [
        Law(slope(FIT, errors[name]), power, float(errors[name][-1] * FIT[-1] ** -power), constant)
        for name, (power, constant) in zip(APPROXIMATIONS[:2], predicted, strict=True)
    ]


def cosine_slope(z: Logits, v: Logits) -> float:
    """Slope of 1 − cosine of the first order, centred, over T/s up to 1,000 (further out it is rounding): −2, the
    square of the error's, for three classes or more."""
    ratios = FIT[FIT <= 1e3]
    _, cosines = errors_and_cosines(z, v, ratios * spread(z, v))
    return slope(ratios, 1 - cosines[APPROXIMATIONS[0]])


def random_constant(classes: int, close: bool) -> float:
    """The first order's constant for N(0, s²) logits, independent or with the student close to its teacher.

    `√((N−2)/(2N))` and `√((N−2)/N)`; for two classes, where it belongs to `(s/T)²`, `√15/6` and `√3/2`.
    """
    if classes == 2:
        return math.sqrt(3) / 2 if close else math.sqrt(15) / 6
    return math.sqrt((classes - 2) / classes / (1 if close else 2))


def plateau(z: Logits, v: Logits) -> float:
    """Where the error levels off without centring: `√N·|z̄ − v̄| / ‖z − v‖` (RMS over cases); `1/√N` if random."""
    return float(rms((z - v).mean(axis=1)) / rms(z - v))


def slope(x: Temperatures, y: Temperatures) -> float:
    """Of the straight line through log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def falls_below(level: float, temperatures: Temperatures, errors: Temperatures) -> float:
    """The T above which the error stays below `level`, interpolated on logarithms; nan where it never does."""
    above = np.flatnonzero(errors >= level)
    if not len(above) or above[-1] + 1 == len(errors):
        return math.nan if len(above) else float(temperatures[0])
    i = above[-1]
    x, y = np.log(temperatures[i : i + 2]), np.log(errors[i : i + 2])
    return float(np.exp(x[0] + (math.log(level) - y[0]) * (x[1] - x[0]) / (y[1] - y[0])))


def _third(x: Any) -> Any:
    return centred(x**3) / 6 - x * (x**2).mean(axis=-1, keepdims=True) / 2
