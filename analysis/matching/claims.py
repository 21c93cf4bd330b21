"""What the theory claims, what it predicts, what was measured, and whether it holds: `summary.md` and its table."""

import numpy as np

from analysis.matching import training
from analysis.matching.rows import STAGES, Claim, Numbers
from analysis.matching.theory import falls_below, slope
from analysis.tables import Table

HEAD = """# When soft targets are logit matching

{note}

z are the student's logits, v the teacher's, N the number of classes, s the standard deviation of the logits. An error
is relative: the root mean square over cases and classes of the difference, over that of the formula. Slopes are fitted
on logarithms over T/s from 20 to 10,000, in float64, of the gradient of `C = −Σ p log q` by automatic differentiation.

"""
TAIL = """
Formulas: Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), Section 2.1, and its next orders. A prediction "from the
logits" is the first term that the approximation leaves out, for these very logits. a ± b is a mean with its 95 % t
interval over seeds. Every curve is in `logit_matching.csv`, the figures are in `figures/`.
"""


def summary(numbers: Numbers, note: str, main_classes: int) -> str:
    """The claims as a page of Markdown."""
    every = claims(numbers, main_classes)
    notes = [f"{claim.claim}: {claim.note}." for claim in every if claim.note]
    table = Table(["claim", "prediction", "measurement", "holds"], [claim.cells() for claim in every], notes, left=4)
    return HEAD.format(note=note) + table.markdown() + "\n" + TAIL


def claims(numbers: Numbers, main_classes: int) -> list[Claim]:
    """Every claim, in the order of the story."""
    story = [*_limit(numbers), *_pair(numbers), *_attention(numbers), *_ends(numbers, main_classes)]
    return story + [claim for optimizer in numbers.data("training") for claim in training.claims(numbers, optimizer)]


def _limit(numbers: Numbers) -> list[Claim]:
    names = numbers.data("law")
    random = {name: int(name.split(",")[0].split()[1]) for name in names if name.startswith("random")}
    listed = _random("random logits, N ≥ 3", {name: n for name, n in random.items() if n > 2}, numbers)
    listed += _random("random logits, N = 2", {name: n for name, n in random.items() if n == 2}, numbers)
    return listed + _laws("trained pair, start, middle, end", [name for name in names if name not in random], numbers)


def _random(where: str, classes: dict[str, int], numbers: Numbers) -> list[Claim]:
    """Random logits know their constants in closed form; `classes` maps the data's names to N."""
    if not classes:
        return []
    names, n = list(classes), np.array(list(classes.values()))
    constants, theory = (_each(numbers, names, "law", f"first order: {kind}") for kind in ("constant", "closed form"))
    errors, cosines = (_each(numbers, names, "plateau", kind) for kind in ("error", "cosine"))
    formula = "√15/6 and √3/2" if n[0] == 2 else "√((N−2)/(2N)) and √((N−2)/N)"
    return [
        *_laws(where, names, numbers),
        _near(f"{where}: the first order's constant over {formula} (independent, close)", constants / theory),
        _near(f"{where}: the level without centring over 1/√N", errors * np.sqrt(n)),
        _near(f"{where}: the cosine there over √(1 − 1/N)", cosines / np.sqrt(1 - 1 / n)),
    ]


def _laws(where: str, names: list[str], numbers: Numbers) -> list[Claim]:
    """Slopes, constants and plateau against what the logits themselves predict."""
    listed = []
    for order in ("first", "second") if names else ():
        fitted, wanted, constants, theory = (
            _each(numbers, names, "law", f"{order} order: {kind}")
            for kind in ("slope", "predicted slope", "constant", "predicted constant")
        )
        margin = 0.03 if wanted[0] == -1 else 0.1
        listed += [
            Claim(
                f"{where}: error to {order} order falls as a power of T",
                f"slope {wanted[0]:g} ± {margin}",
                _range(fitted, ".3f"),
                bool((np.abs(fitted - wanted) <= margin).all()),
            ),
            _near(f"{where}: the {order} order's constant over that predicted from the logits", constants / theory),
        ]
    if names:
        if numbers.one("law", names[0], "first order: predicted slope") == -1:
            fitted = _each(numbers, names, "law", "1 − cosine: slope")
            good = bool((np.abs(fitted + 2) <= 0.1).all())
            listed.append(Claim(f"{where}: 1 − cosine", "slope -2 ± 0.1", _range(fitted, ".3f"), good))
        errors, theory = (_each(numbers, names, "plateau", kind) for kind in ("error", "predicted error"))
        listed.append(_near(f"{where}: the level without centring over √N·\\|z̄ − v̄\\|/‖z − v‖", errors / theory))
    return listed


def _pair(numbers: Numbers) -> list[Claim]:
    end = "pair, end"
    error, cosine = (numbers.one("threshold", end, f"{name} at T = 20") for name in ("error", "cosine"))
    ten, one = (numbers.one("threshold", end, f"T at {level} %") for level in (10, 1))
    listed = [
        Claim(
            "trained pair, end: T = 20 is logit matching",
            "error below 10 %",
            f"error {100 * error:.0f} %, cosine {cosine:.3f}; below 10 % from T = {ten:.0f}, 1 % from T = {one:.0f}",
            error < 0.1,
        )
    ]
    names = numbers.data("teachers")
    if len(names) > 1:
        spreads, falls = (_each(numbers, names, "teachers", kind) for kind in ("s", "T at 10 %"))
        alone, scaled = (float(values.max() / values.min()) for values in (falls, falls / spreads))
        listed.append(
            Claim(
                f"{len(names)} teachers (s from {spreads.min():.1f} to {spreads.max():.1f}): one curve against T/s",
                "T/s at 10 % alike within 10 %",
                f"T from {falls.min():.0f} to {falls.max():.0f} (largest/smallest {alone:.2f}), "
                f"T/s from {(falls / spreads).min():.2f} to {(falls / spreads).max():.2f} ({scaled:.2f})",
                scaled <= 1.1,
            )
        )
    stages = [f"pair, {stage}" for stage in STAGES]
    for name, wanted, words in (("C", -2, "large T means small gradients, of plain C"), ("T² C", 0, "T² undoes it")):
        slopes = _each(numbers, stages, "norm", f"{name}: slope")
        at = [numbers.at("norm", end, name, temperature) for temperature in (1, 20, 1e3)]
        measured = f"{_range(slopes, '.3f')}; at the end ‖g‖ is {', '.join(f'{x:.2g}' for x in at)} at T = 1, 20, 1000"
        listed.append(
            Claim(f"{words}", f"slope {wanted} ± 0.05", measured, bool((np.abs(slopes - wanted) <= 0.05).all()))
        )
    return listed


def _attention(numbers: Numbers) -> list[Claim]:
    end, classes = "pair, end", numbers.ranks()
    low = range(classes // 2 + 1, classes + 1)
    shares = [
        sum(numbers.at("attention", end, f"share rank {rank}", temperature) for rank in low)
        for temperature in (1, 20, 1e5)
    ]
    counts = [numbers.at("attention", end, "effective number", temperature) for temperature in (1, 20, 1e5)]
    stages = [f"pair, {stage}" for stage in STAGES]
    slopes = [_each(numbers, stages, "value", f"{name}: slope") for name in ("equal weights", "weighted")]
    good = (np.abs(slopes[0] + 1) <= 0.1).all() and (np.abs(slopes[1] + 2) <= 0.1).all()
    weight = [numbers.at("attention", end, f"weight rank {classes}", temperature) for temperature in (5, 20, 100)]
    return [
        Claim(
            "low T pays much less attention to very negative logits (the lower half by rank, trained pair, end)",
            "their share of Σg² rises with T",
            f"{', '.join(f'{100 * share:.2g} %' for share in shares)} at T = 1, 20, 100,000",
            shares[0] < shares[1] < shares[2],
        ),
        Claim(
            "it is the weight 1 + (2vc + zc)/(3T) of each squared difference",
            "T²·KL with it: slope −2 ± 0.1; without: −1 ± 0.1",
            f"{_range(slopes[1], '.3f')}; {_range(slopes[0], '.3f')}. The smallest logit's weight: "
            f"{', '.join(f'{value:.2f}' for value in weight)} at T = 5, 20, 100",
            bool(good),
        ),
        Claim(
            "at low T few examples carry the gradient (trained pair, end)",
            "(Σ‖g‖)²/Σ‖g‖² rises with T",
            f"{', '.join(f'{100 * count:.0f} %' for count in counts)} of the examples at T = 1, 20, 100,000",
            counts[0] < counts[1] < counts[2],
        ),
    ]


def _ends(numbers: Numbers, main_classes: int) -> list[Claim]:
    random = f"random {main_classes}"
    slopes = _each(numbers, [random], "label", "gradient: slope")
    listed = [
        Claim(
            f"T → 0: T·∂C/∂z becomes label matching (random logits, N = {main_classes})",
            "error falls as √T: slope 0.5 ± 0.1",
            _range(slopes, ".3f"),
            bool((np.abs(slopes - 0.5) <= 0.1).all()),
        )
    ]
    for data in (random, "pair, end"):
        curves = {
            name: numbers.curve("rounding", data, name)
            for name in ("value, plain form", "gradient, plain form", "value, exact form", "gradient, exact form")
        }
        temperatures, plain = curves["value, plain form"]
        lost = falls_below(0.01, temperatures[::-1], plain[::-1])
        worst = max(float(curves[name][1][temperatures >= 1].max()) for name in list(curves)[2:])
        gradient = float(curves["gradient, plain form"][1][-1])
        listed.append(
            Claim(
                f"float32 ({data}): the plain form drowns in rounding, the exact form does not",
                "exact form within 4e-6 for T ≥ 1",
                f"exact {worst:.1g}; plain: value 1 % wrong from T = {lost:.0f}, gradient {gradient:.1g} at 100,000",
                worst <= 4e-6,
            )
        )
    fits = []
    for stage in STAGES:
        temperatures, distance = numbers.curve("parameters", f"pair, {stage}", "distance")
        ratio = temperatures / numbers.one("threshold", f"pair, {stage}", "s")
        within = (ratio >= 20) & (ratio <= 2e3)  # float32: further out it is rounding
        fits.append(slope(temperatures[within], distance[within]))
    at = [
        [numbers.at("parameters", f"pair, {stage}", name, 20) for stage in STAGES] for name in ("cosine", "norm ratio")
    ]
    listed.append(
        Claim(
            "parameter space: the whole gradient's distance from logit matching's falls as 1/T (start, middle, end)",
            "slope −1 ± 0.03",
            f"{_list(fits, '.3f')}; at T = 20 cosine {_list(at[0], '.3f')}, norm ratio {_list(at[1], '.2f')}",
            all(abs(fit + 1) <= 0.03 for fit in fits),
        )
    )
    return listed


def _each(numbers: Numbers, names: list[str], part: str, curve: str) -> np.ndarray:
    return np.array([numbers.one(part, name, curve) for name in names])


def _near(claim: str, ratios: np.ndarray, margin: float = 0.05) -> Claim:
    good = bool((np.abs(ratios - 1) <= margin).all())
    return Claim(claim, f"ratio 1 ± {margin}", _range(ratios, ".3f"), good)


def _range(values: np.ndarray, form: str) -> str:
    if format(values.min(), form) == format(values.max(), form):
        return f"{values[0]:{form}}"
    return f"{values.min():{form}} to {values.max():{form}}"


def _list(values: list[float], form: str) -> str:
    return ", ".join(f"{value:{form}}" for value in values)
