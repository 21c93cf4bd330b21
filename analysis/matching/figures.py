"""The figures of `analysis.logit_matching`: six rows of two panels, each row a figure, all of them one page."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from analysis import stats, style
from analysis.matching.config import MatchingConfig
from analysis.matching.rows import STAGES, Numbers
from analysis.matching.theory import APPROXIMATIONS
from analysis.matching.training import named

WIDTH, HEIGHT = 10.0, 4.0
"""Inches of a row."""
Panel = Callable[[Axes, Numbers, MatchingConfig], None]


@style.applied()
def draw(folder: Path, numbers: Numbers, where: str, config: MatchingConfig) -> list[Path]:
    """Draws each row that has been measured, and the page, with the pair in the title; returns the files written."""
    rows: dict[str, Sequence[Panel]] = {
        "1_limit": (random_errors, pair_errors),
        "2_teachers_and_norms": (teachers, norms),
        "3_who_gets_the_gradient": (shares, effective_number),
        "4_weights_and_low_temperatures": (weights, labels),
        "5_rounding_and_parameters": (rounding, parameters),
    }
    if numbers.data("training"):
        rows["6_training"] = (distances, drifts)
    rows["page"] = [panel for row in rows.values() for panel in row]
    figures: dict[str, Figure | None] = {}
    for name, panels in rows.items():
        high = len(panels) // 2
        figures[name] = figure = style.figure(WIDTH, HEIGHT * high + 0.5)
        for axes, panel in zip(figure.subplots(high, 2, squeeze=False).flat, panels, strict=True):
            panel(axes, numbers, config)
        style.title(figure, "When soft targets are logit matching", f"{where}; random logits N(0, {config.scale:g}²)")
    return style.save_all(folder, figures)


def random_errors(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Error of the limit against T/s on random logits, a curve a number of classes, with the law in closed form."""
    main = f"random {config.main_classes}"
    for index, count in enumerate(config.classes):
        data = f"random {count}"
        x, y = numbers.curve("error", data, APPROXIMATIONS[0])
        axes.plot(x / config.scale, y, color=style.PALETTE[index % 7], label=f"N = {count}")
        law = {name: numbers.one("law", data, f"first order: {name}") for name in ("closed form", "predicted slope")}
        far = np.array([20, 1e4])
        axes.plot(far, law["closed form"] * far ** law["predicted slope"], color="black", ls=":", lw=1.2, zorder=3)
    for name, ls, label in ((APPROXIMATIONS[1], "--", "second order"), (APPROXIMATIONS[2], "-.", "not centred")):
        x, y = numbers.curve("error", main, name)
        axes.plot(x / config.scale, y, color=style.GREY, ls=ls, label=f"N = {config.main_classes}, {label}")
    axes.plot([], [], color="black", ls=":", lw=1.2, label="theory")
    _logs(axes, "T / s", "relative error", f"1. The limit: random logits, s = {config.scale:g}")
    axes.set_ylim(1e-9, 30)
    axes.legend(fontsize=8.5, loc="lower left")


def pair_errors(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Error of three approximations against T on the trained pair, with where the first falls below 10 and 1 %."""
    for index, (name, label) in enumerate(
        zip(APPROXIMATIONS[:3], ("first order", "second order", "first, not centred"), strict=True)
    ):
        axes.plot(*numbers.curve("error", "pair, end", name), color=style.PALETTE[index], label=label)
    error = numbers.one("threshold", "pair, end", "error at T = 20")
    axes.plot([20], [error], ls="", marker="o", color="black", zorder=4)
    lines = [f"● T = 20: error {100 * error:.0f} %"]
    for level in (10, 1):
        at = numbers.one("threshold", "pair, end", f"T at {level} %")
        axes.plot([at], [level / 100], ls="", marker="D", color="black", zorder=4)
        lines.append(f"◆ {level} % at T = {at:.0f}")
    axes.text(0.62, 0.72, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=9.5)
    _logs(axes, "temperature T (logits)", "relative error", "2. The same on a trained pair")
    axes.set_ylim(1e-5, 20)
    axes.legend(loc="lower left")


def teachers(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Error of the limit against T/s, one curve per teacher."""
    for index, name in enumerate(numbers.data("teachers")):
        s = numbers.one("teachers", name, "s")
        x, y = numbers.curve("teachers", name, "error")
        known = np.isfinite(x)
        ls = ("-", (0, (6, 6)), (6, (3, 9)), (9, (3, 9)))[index % 4]  # they lie on each other
        axes.plot(x[known] / s, y[known], color=style.PALETTE[index % 7], ls=ls, label=f"{name}: s = {s:.1f}")
    _logs(axes, "T / s", "relative error", "3. Teachers fall on one curve")
    axes.set_xlim(0.1, 1e3)
    axes.set_ylim(1e-3, 10)
    axes.legend(fontsize=8.5, loc="lower left")


def norms(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Norm of an example's gradient against T, of plain C and of T² C."""
    for index, stage in enumerate(STAGES):
        for name, ls in (("C", "--"), ("T² C", "-")):
            curve = numbers.curve("norm", f"pair, {stage}", name)
            axes.plot(*curve, color=style.PALETTE[index], ls=ls, label=f"{stage}: {name}")
    _logs(axes, "temperature T (logits)", "norm of an example's gradient", "4. Large T, small gradients: T² undoes it")
    axes.legend(ncols=1, fontsize=8.5, loc="lower left")


def shares(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Share of the squared gradient by rank of the teacher's logit, against T."""
    count = numbers.ranks()
    for rank, colour in zip(range(1, count + 1), _shades(count), strict=True):
        label = f"rank {rank}" if rank in (1, 2, 3, count // 2, count) else ""
        axes.plot(*numbers.curve("attention", "pair, end", f"share rank {rank}"), color=colour, label=label or None)
    _logs(axes, "temperature T (logits)", "share of Σ g²", "5. By rank of the teacher's logit")
    axes.set_ylim(1e-6, 1.5)
    axes.legend(loc="lower right")


def effective_number(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Per cent of the examples that carry the gradient, against T."""
    for index, stage in enumerate(STAGES):
        x, y = numbers.curve("attention", f"pair, {stage}", "effective number")
        axes.plot(x, 100 * y, color=style.PALETTE[index], label=stage)
    _log_x(axes, "temperature T (logits)")
    axes.set_ylim(0, 103)
    axes.set_ylabel("effective examples (%)")
    axes.set_title("6. How many examples carry it", loc="left")
    axes.legend(loc="lower right")


def weights(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Weight of each squared difference of logits by rank, against T."""
    count = numbers.ranks()
    for rank, colour in zip(range(1, count + 1), _shades(count), strict=True):
        label = f"rank {rank}" if rank in (1, 2, 3, count // 2, count) else None
        axes.plot(*numbers.curve("attention", "pair, end", f"weight rank {rank}"), color=colour, label=label)
    axes.axhline(1, color=style.GREY, ls="--", lw=1.2)
    _log_x(axes, "temperature T (logits)")
    axes.set_xlim(5, 1e3)
    axes.set_ylim(-0.3, 3.2)
    axes.set_ylabel("weight 1 + (2vc + zc)/(3T)")
    axes.set_title("7. Less attention to negative logits", loc="left")
    axes.legend()


def labels(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Error of label matching as T → 0, beside √T."""
    names = [f"random {config.main_classes}", *[f"pair, {stage}" for stage in STAGES]]
    for index, data in enumerate(name for name in names if name in numbers.data("label")):
        x, y = numbers.curve("label", data, "gradient")
        known = np.isfinite(x)
        axes.plot(x[known], y[known], color=style.PALETTE[index], label=data.replace("random", "random, N ="))
    x = np.array([1e-3, 0.1])
    reference = numbers.at("label", names[0], "gradient", 0.01)
    axes.plot(x, reference * np.sqrt(x / 0.01), color="black", ls=":", lw=1.2, label="√T")
    _logs(axes, "temperature T (logits)", "relative error", "8. T → 0: label matching")
    axes.set_ylim(1e-3, 2)
    axes.legend(loc="lower right")


def rounding(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Relative error of float32, of the plain and of the exact form, against T."""
    for index, what in enumerate(("value", "gradient")):
        for form, ls in (("plain", "--"), ("exact", "-")):
            curve = numbers.curve("rounding", "pair, end", f"{what}, {form} form")
            axes.plot(*curve, color=style.PALETTE[index], ls=ls, label=f"{what}, {form}")
    x, y = numbers.curve("error", "pair, end", APPROXIMATIONS[0])
    axes.plot(x, y, color=style.GREY, ls=":", label="error of the limit")
    _logs(axes, "temperature T (logits)", "relative error", "9. float32: where rounding takes over")
    axes.set_ylim(1e-8, 10)
    axes.legend(fontsize=8.5, loc=(0.01, 0.37))


def parameters(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Distance and cosine of the parameter gradients at T and at ∞, against T."""
    for index, stage in enumerate(STAGES):
        axes.plot(*numbers.curve("parameters", f"pair, {stage}", "distance"), color=style.PALETTE[index], label=stage)
        x, y = numbers.curve("parameters", f"pair, {stage}", "cosine")
        axes.plot(x, y, color=style.PALETTE[index], ls="--", label=f"{stage}: cosine")
    _logs(
        axes, "temperature T (logits)", "relative distance; cosine", "10. The whole parameter gradient, G(T) and G(∞)"
    )
    axes.set_ylim(1e-5, 3)
    axes.legend(fontsize=8.5, loc="lower left")


def distances(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Distance of trained students from the ∞ student of the same seed, against T."""
    finite = [value for value in _temperatures(numbers) if math.isfinite(value)]
    axis = style.TemperatureAxis(finite)
    for index, optimizer in enumerate(numbers.data("training")):
        name = named(optimizer)
        style.curve(axes, axis, finite, *_means(numbers, optimizer, "distance", finite), label=name, index=index)
        for level, ls in (("floor", ":"), ("ceiling", "--")):
            value = float(numbers.seeds(optimizer, level).mean())
            style.band(axes, value, math.nan, math.nan, colour=style.PALETTE[index], ls=ls, label=f"{name}: {level}")
    axis.dress(axes, crowded=0.1)
    style.log_axis(axes)
    axes.set_ylabel("distance from the ∞ student (logits)")
    axes.set_title("11. Where students end up", loc="left")
    axes.legend(fontsize=8.5)


def drifts(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Drift of the mean logit and of the class mean of the output layer, against T."""
    axis = style.TemperatureAxis(_temperatures(numbers))
    for index, optimizer in enumerate(numbers.data("training")):
        for part, name in enumerate(("mean logit drift", "class mean drift")):
            label = f"{named(optimizer)}: {('mean logit', 'class mean of the output layer')[part]}"
            means = _means(numbers, optimizer, name, axis.temperatures)
            style.curve(axes, axis, axis.temperatures, *means, label=label, index=index + 2 * part)
        value = float(numbers.seeds(optimizer, "MSE: class mean drift").mean())
        label, colour = f"{named(optimizer)}, MSE: class mean", style.PALETTE[index + 2]
        style.band(axes, value, math.nan, math.nan, colour=colour, label=label)
    axis.dress(axes, crowded=0.1)
    _log_y(axes)
    axes.set_ylabel("drift from the start")
    axes.set_title("12. What is conserved", loc="left")
    axes.legend(fontsize=8.5)


def _means(numbers: Numbers, optimizer: str, name: str, temperatures: list[float]) -> list[np.ndarray]:
    """Means over seeds and their intervals; one that reaches to 0, which has no logarithm, is cut at a third."""
    intervals = [stats.interval(numbers.seeds(optimizer, name, t)) for t in temperatures]
    mean, low, high = np.array([interval[:3] for interval in intervals]).T
    return [mean, np.maximum(low, mean / 3), high]


def _temperatures(numbers: Numbers) -> list[float]:
    return sorted(set(numbers.curve("training", numbers.data("training")[0], "distance")[0]))


def _shades(count: int) -> list[Any]:
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, count)))


def _log_x(axes: Axes, label: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def _log_y(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())


def _logs(axes: Axes, x: str, y: str, title: str) -> None:
    _log_x(axes, x)
    _log_y(axes)
    axes.set_ylabel(y)
    axes.set_title(title, loc="left")
