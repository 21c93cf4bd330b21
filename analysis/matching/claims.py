"""What the theory claims, what it predicts, what was measured, and whether it holds: `summary.md` and its table."""

from collections.abc import Iterator, Sequence

import numpy as np

from analysis.matching import training
from analysis.matching.laws import falls_below, slope
from analysis.matching.rows import STAGES, Claim, Numbers, verdict
from analysis.tables import Table

HEAD = """# When soft targets are logit matching

**{verdict}**

{note}

z are the student's logits, v the teacher's, N the number of classes, s the standard deviation of the logits. An error
is relative: the root mean square over cases and classes of the difference, over that of the formula. Slopes are fitted
on logarithms over T/s from 20 to 10,000, in float64, of the gradient of `C = −Σ p log q` by automatic differentiation.

"""
AT = (1, 20, 1e5)
"""Temperatures at which a curve is quoted."""
TAIL = """
Formulas: Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), Section 2.1, and its next orders. A prediction "from the
logits" is the first term that the approximation leaves out, for these very logits. a ± b is a mean with its 95 % t
interval over seeds. Every curve is in `logit_matching.csv`, the figures are in `figures/`.
"""


def summary(numbers: Numbers, note: str, main_classes: int) -> str:
    """The claims as a page of Markdown."""
    every = list(claims(numbers, main_classes))
    notes = [f"{claim.claim}: {claim.note}." for claim in every if claim.note]
    table = Table(["claim", "prediction", "measurement", "holds"], [claim.cells() for claim in every], notes, left=4)
    return HEAD.format(verdict=verdict(every), note=note) + table.markdown() + "\n" + TAIL


def claims(numbers: Numbers, main_classes: int) -> Iterator[Claim]:
    """Every claim, in the order of the story."""
    yield from limits(numbers)
    yield from _pair(numbers)
    yield from _attention(numbers)
    yield from _ends(numbers, main_classes)
    for optimizer in numbers.data("training"):
        yield from training.claims(numbers, optimizer)


def limits(numbers: Numbers) -> Iterator[Claim]:
    """How errors fall with T, where they level off, and their constants: on random logits and on the pair."""
    names = numbers.data("law")
    random = {name: int(name.split(",")[0].split()[1]) for name in names if name.startswith("random")}
    yield from _random("random logits, N ≥ 3", {name: n for name, n in random.items() if n > 2}, numbers)
    yield from _random("random logits, N = 2", {name: n for name, n in random.items() if n == 2}, numbers)
    yield from _laws("trained pair, start, middle, end", [name for name in names if name not in random], numbers)


def _random(where: str, classes: dict[str, int], numbers: Numbers) -> Iterator[Claim]:
    """Random logits know their constants in closed form; `classes` maps the data's names to N."""
    if not classes:
        return
    names, n = list(classes), np.array(list(classes.values()))
    yield from _laws(where, names, numbers)
    constants, theory = (_each(numbers, names, "law", f"first order: {kind}") for kind in ("constant", "closed form"))
    formula = "√15/6 and √3/2" if n[0] == 2 else "√((N−2)/(2N)) and √((N−2)/N)"
    yield _near(f"{where}: the first order's constant over {formula} (independent, close)", constants / theory)
    errors, cosines = (_each(numbers, names, "plateau", kind) for kind in ("error", "cosine"))
    yield _near(f"{where}: the level without centring over 1/√N", errors * np.sqrt(n))
    yield _near(f"{where}: the cosine there over √(1 − 1/N)", cosines / np.sqrt(1 - 1 / n))


def _laws(where: str, names: list[str], numbers: Numbers) -> Iterator[Claim]:
    """Slopes, constants and plateau against what the logits themselves predict."""
    if not names:
        return
    for order in ("first", "second"):
        kinds = ("slope", "predicted slope", "constant", "predicted constant")
        fitted, predicted, constants, theory = (
            _each(numbers, names, "law", f"{order} order: {kind}") for kind in kinds
        )
        margin = 0.03 if predicted[0] == -1 else 0.1
        yield _slope(f"{where}: error to {order} order falls as a power of T", fitted, predicted[0], margin)
        yield _near(f"{where}: the {order} order's constant over that predicted from the logits", constants / theory)
    if numbers.one("law", names[0], "first order: predicted slope") == -1:
        yield _slope(f"{where}: 1 − cosine", _each(numbers, names, "law", "1 − cosine: slope"), -2, 0.1)
    errors, theory = (_each(numbers, names, "plateau", kind) for kind in ("error", "predicted error"))
    yield _near(f"{where}: the level without centring over √N·\\|z̄ − v̄\\|/‖z − v‖", errors / theory)


def _pair(numbers: Numbers) -> Iterator[Claim]:
    end = "pair, end"
    error, cosine = (numbers.one("threshold", end, f"{name} at T = 20") for name in ("error", "cosine"))
    ten, one = (numbers.one("threshold", end, f"T at {level} %") for level in (10, 1))
    text = f"error {100 * error:.0f} %, cosine {cosine:.3f}; below 10 % from T = {ten:.0f}, 1 % from T = {one:.0f}"
    yield Claim("trained pair, end: T = 20 is logit matching", "error below 10 %", text, error < 0.1)
    names = numbers.data("teachers")
    if len(names) > 1:
        spreads, falls = (_each(numbers, names, "teachers", kind) for kind in ("s", "T at 10 %"))
        ratios = falls / spreads
        alone, scaled = (float(values.max() / values.min()) for values in (falls, ratios))
        text = f"T from {falls.min():.0f} to {falls.max():.0f} (largest/smallest {alone:.2f}), "
        text += f"T/s from {ratios.min():.2f} to {ratios.max():.2f} ({scaled:.2f})"
        claim = f"{len(names)} teachers (s from {spreads.min():.1f} to {spreads.max():.1f}): one curve against T/s"
        yield Claim(claim, "T/s at 10 % alike within 10 %", text, scaled <= 1.1)
    for name, power, claim in (("C", -2, "large T means small gradients, of plain C"), ("T² C", 0, "T² undoes it")):
        norms = [numbers.at("norm", end, name, temperature) for temperature in (1, 20, 1e3)]
        more = f"; at the end ‖g‖ is {_list(norms, '.2g')} at T = 1, 20, 1000"
        yield _slope(claim, _stages(numbers, "norm", f"{name}: slope"), power, 0.05, more)


def _attention(numbers: Numbers) -> Iterator[Claim]:
    end, classes = "pair, end", numbers.ranks()
    low = range(classes // 2 + 1, classes + 1)
    shares = [100 * sum(numbers.at("attention", end, f"share rank {rank}", t) for rank in low) for t in AT]
    yield Claim(
        "low T pays much less attention to very negative logits (the lower half by rank, trained pair, end)",
        "their share of Σg² rises with T",
        f"{_list(shares, '.2g', ' %')} at T = 1, 20, 100,000",
        shares[0] < shares[1] < shares[2],
    )
    plain, weighted = (_stages(numbers, "value", f"{name}: slope") for name in ("equal weights", "weighted"))
    weights = [numbers.at("attention", end, f"weight rank {classes}", temperature) for temperature in (5, 20, 100)]
    yield Claim(
        "it is the weight 1 + (2vc + zc)/(3T) of each squared difference",
        "T²·KL with it: slope −2 ± 0.1; without: −1 ± 0.1",
        f"{_range(weighted, '.3f')}; {_range(plain, '.3f')}. The smallest logit's weight: {_list(weights, '.2f')} at "
        "T = 5, 20, 100",
        bool((np.abs(plain + 1) <= 0.1).all() and (np.abs(weighted + 2) <= 0.1).all()),
    )
    counts = [100 * numbers.at("attention", end, "effective number", temperature) for temperature in AT]
    yield Claim(
        "at low T few examples carry the gradient (trained pair, end)",
        "(Σ‖g‖)²/Σ‖g‖² rises with T",
        f"{_list(counts, '.0f', ' %')} of the examples at T = 1, 20, 100,000",
        counts[0] < counts[1] < counts[2],
    )


def _ends(numbers: Numbers, main_classes: int) -> Iterator[Claim]:
    random = f"random {main_classes}"
    claim = f"T → 0: T·∂C/∂z becomes label matching (random logits, N = {main_classes})"
    slopes = _slope(claim, _each(numbers, [random], "label", "gradient: slope"), 0.5, 0.1)
    yield slopes._replace(prediction="error falls as √T: slope 0.5 ± 0.1")
    for data in (random, "pair, end"):
        temperatures, value = numbers.curve("rounding", data, "value, plain form")
        lost = falls_below(0.01, temperatures[::-1], value[::-1])
        gradient = numbers.curve("rounding", data, "gradient, plain form")[1][-1]
        exact = [numbers.curve("rounding", data, f"{name}, exact form")[1] for name in ("value", "gradient")]
        worst = max(float(errors[temperatures >= 1].max()) for errors in exact)
        yield Claim(
            f"float32 ({data}): the plain form drowns in rounding, the exact form does not",
            "exact form within 4e-6 for T ≥ 1",
            f"exact {worst:.1g}; plain: value 1 % wrong from T = {lost:.0f}, gradient {gradient:.1g} at 100,000",
            worst <= 4e-6,
        )
    fits = []
    for data in (f"pair, {stage}" for stage in STAGES):
        temperatures, distance = numbers.curve("parameters", data, "distance")
        ratio = temperatures / numbers.one("threshold", data, "s")
        within = (ratio >= 20) & (ratio <= 2e3)  # float32: further out it is rounding
        fits.append(slope(temperatures[within], distance[within]))
    cosines, norms = (
        [numbers.at("parameters", f"pair, {stage}", name, 20) for stage in STAGES] for name in ("cosine", "norm ratio")
    )
    yield Claim(
        "parameter space: the whole gradient's distance from logit matching's falls as 1/T (start, middle, end)",
        "slope −1 ± 0.03",
        f"{_list(fits, '.3f')}; at T = 20 cosine {_list(cosines, '.3f')}, norm ratio {_list(norms, '.2f')}",
        all(abs(fit + 1) <= 0.03 for fit in fits),
    )


def _each(numbers: Numbers, names: Sequence[str], part: str, curve: str) -> np.ndarray:
    return np.array([numbers.one(part, name, curve) for name in names])


def _stages(numbers: Numbers, part: str, curve: str) -> np.ndarray:
    return _each(numbers, [f"pair, {stage}" for stage in STAGES], part, curve)


def _slope(claim: str, fitted: np.ndarray, predicted: float, margin: float, more: str = "") -> Claim:
    holds = bool((np.abs(fitted - predicted) <= margin).all())
    return Claim(claim, f"slope {predicted:g} ± {margin}", _range(fitted, ".3f") + more, holds)


def _near(claim: str, ratios: np.ndarray) -> Claim:
    holds = bool((np.abs(ratios - 1) <= 0.05).all())
    return Claim(claim, "ratio 1 ± 0.05", _range(ratios, ".3f"), holds)


def _range(values: np.ndarray, form: str) -> str:
    if format(values.min(), form) == format(values.max(), form):
        return f"{values[0]:{form}}"
    return f"{values.min():{form}} to {values.max():{form}}"


def _list(values: Sequence[float], form: str, unit: str = "") -> str:
    return ", ".join(f"{value:{form}}{unit}" for value in values)
