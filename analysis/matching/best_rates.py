"""The page `curvature.md`: the best learning rate at each T, and whether an eigenvalue predicts it."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis import crossed
from analysis.matching import training
from analysis.matching.rates import RATES, TEMPERATURES, best_of, table
from analysis.matching.rows import Claim, Numbers, verdict
from analysis.tables import Table, fixed, number

ROUNDING = float(np.finfo(np.float32).eps)
"""No eigenvalue is nearer: a residual is that of exact arithmetic."""
FACTOR = 2.0
"""A prediction is to be within this factor."""
HEAD = """# Does curvature say which learning rate is best at each T?

**{verdict}**

{note}

Sharpness is the largest eigenvalue of the Hessian of the mean of T²·KL. The best rate has the fewest errors on held-out
images; in brackets, the rates that a paired 95 % interval over seeds does not tell apart from it. Step size is the
gradient's norm; conditioning is the largest over the mean eigenvalue of the Gauss–Newton matrix; the target's entropy
is a share of ln N, that of equal probabilities. A rate at which a run failed is not the best.

"""


def best_rates(numbers: Numbers, optimizer: Any, kind: str = "errors") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each T the best rate, and the lowest and highest that a paired 95 % interval does not tell apart from it. A
    rate at which a run failed, whose errors and loss are infinite, is told apart; nan where that is so of all."""
    rates, found = np.array(RATES[optimizer]), []
    for values in np.moveaxis(table(numbers, optimizer, kind), 1, 0):
        best, whole = best_of(values), np.flatnonzero(np.isfinite(values).all(axis=0))
        alike = [rates[j] for j in whole if not crossed.paired_difference(values[:, j], values[:, best]).low > 0]
        found.append((rates[best], min(alike), max(alike)) if len(whole) else (math.nan,) * 3)
    best, low, high = np.array(found).T
    return best, low, high


OWN = "sharpness at the end of training at T's best rate"


def predictors(numbers: Numbers, optimizer: str) -> dict[str, np.ndarray]:
    """Each eigenvalue whose inverse may be the best rate, over T; first the one that is the same at all T."""
    last, own = (f"{optimizer}, {rate} rate, the last epoch" for rate in ("common", "own"))
    places = {
        "sharpness in the teacher's logits": ("logits", "teacher", "largest"),
        "sharpness at the initial weights": ("curvature", "start", "hessian"),
        "sharpness of one trained student": ("curvature", "trained student", "hessian"),
        "sharpness after epoch 1 at one rate": ("curvature", f"{optimizer}, common rate, epoch 1", "hessian"),
        "sharpness at the end of training at one rate": ("curvature", last, "hessian"),
        OWN: ("curvature", own, "hessian"),
    }
    if optimizer == "adam":
        places["the same, of the Hessian as Adam divides it, at one rate"] = ("curvature", last, "preconditioned")
    found = {"none: one rate for all T": np.ones(len(TEMPERATURES))}
    return found | {name: numbers.curve(*place)[1] for name, place in places.items()}


def claims(numbers: Numbers) -> Iterator[Claim]:
    """Whether each eigenvalue's inverse is the best rate, and whether the measurements bear it out."""
    for optimizer in RATES:
        name = training.named(optimizer)
        for kind in ("errors", "loss"):
            best = best_rates(numbers, optimizer, kind)[0]
            what = "hold-out errors" if kind == "errors" else "training loss"
            for predictor, values in predictors(numbers, optimizer).items():
                if predictor == OWN and kind == "loss":
                    continue  # it was measured at the rates that are best by hold-out errors
                spread = _spread_of(best * values)
                yield Claim(
                    f"{name}, best {what}: {predictor}",
                    f"rate · eigenvalue within a factor of {FACTOR:g}: largest/smallest ≤ {FACTOR**2:g}",
                    f"{spread:.3g}",
                    spread <= FACTOR**2,
                )
            edges = [number(t) for t, rate in zip(TEMPERATURES, best, strict=True) if _at_edge(optimizer, rate)]
            claim = f"{name}, best {what}: no best rate at the grid's edge"
            yield Claim(claim, "none", f"at T = {', '.join(edges)}" if edges else "none", not edges)
    residual = max(float(numbers.curve("curvature", name, "residual")[1].max()) for name in numbers.data("curvature"))
    yield Claim(
        "eigenvalues are converged",
        "‖A x − λ x‖/λ ≤ 1 %",
        f"{100 * max(residual, ROUNDING):.2g} % at most",
        residual <= 0.01,
    )


def _at_edge(optimizer: Any, rate: float) -> bool:
    return rate in (RATES[optimizer][0], RATES[optimizer][-1])


def summary(numbers: Numbers, note: str) -> str:
    """The page: a line a temperature, then every prediction."""
    judged = list(claims(numbers))
    cells = [claim.cells() for claim in judged]
    lines = Table(["prediction of the best rate", "asked", "measured", "holds"], cells, left=4)
    head = HEAD.format(verdict=verdict(judged), note=note)
    return f"{head}{_by_temperature(numbers).markdown()}\n\n{lines.markdown()}\n"


def _by_temperature(numbers: Numbers) -> Table:
    header = ["T", "target's entropy / ln N", "sharpness, logits", "gradient, start", "sharpness, start"]
    header += ["sharpness, trained student", "conditioning, trained student"]
    best = {optimizer: best_rates(numbers, optimizer) for optimizer in RATES}
    for optimizer in RATES:
        header += [f"{training.named(optimizer)}: best rate", "rate · sharpness, trained student", "errors"]
    rows = []
    for index, temperature in enumerate(TEMPERATURES):

        def at(part: str, data: str, curve: str, index: int = index) -> float:
            return float(numbers.curve(part, data, curve)[1][index])

        trained = [at("curvature", "trained student", kind) for kind in ("hessian", "gauss_newton", "mean_eigenvalue")]
        values = [at("target", "teacher", "entropy"), at("logits", "teacher", "largest")]
        values += [at("curvature", "start", kind) for kind in ("gradient", "hessian")]
        row = [number(temperature), *(f"{value:.3g}" for value in (*values, trained[0], trained[1] / trained[2]))]
        for optimizer in RATES:
            rate, low, high = (column[index] for column in best[optimizer])
            errors = table(numbers, optimizer, "errors")[:, index].mean(axis=0).min()
            of_rate = [f"{rate:.3g} [{low:.3g}, {high:.3g}]", f"{rate * trained[0]:.3g}", fixed(float(errors))]
            row += ["none", "", ""] if math.isnan(rate) else of_rate
        rows.append(row)
    return Table(header, rows)


def _spread_of(values: np.ndarray) -> float:
    """Largest over smallest: at most 4 where some constant is within a factor of 2 of all."""
    return float(np.max(values) / np.min(values)) if np.all(values > 0) else math.inf
