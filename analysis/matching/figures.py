"""The figures of `analysis.logit_matching`: six of two panels each."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import scales, stats, style, temperature_plot
from analysis.matching.config import MatchingConfig
from analysis.matching.rows import STAGES, Numbers
from analysis.matching.theory import APPROXIMATIONS
from analysis.matching.training import named

WIDTH, HEIGHT = 10.0, 4.5
"""Inches of a figure."""
T = "temperature T"
SPREADS = "T / standard deviation s of the logits"
WORDS = {"start": "untrained student", "middle": "half trained", "end": "trained"}
"""`STAGES` in words."""
Panel = Callable[[Axes, Numbers, MatchingConfig], None]


@style.applied()
def draw(folder: Path, numbers: Numbers, where: str, config: MatchingConfig) -> list[Path]:
    """Draws each figure that has been measured, with the pair in the title; returns the files written."""
    rows: dict[str, tuple[Panel, Panel]] = {
        "1_limit": (random_errors, pair_errors),
        "2_teachers_and_norms": (teachers, norms),
        "3_who_gets_the_gradient": (shares, effective_number),
        "4_weights_and_low_temperatures": (weights, labels),
        "5_rounding_and_parameters": (rounding, parameters),
    }
    if numbers.data("training"):
        rows["6_training"] = (distances, drifts)
    figures: dict[str, Figure | None] = {"6_training": None}  # it may be there, of a command with training
    for name, panels in rows.items():
        figures[name] = figure = style.figure(WIDTH, HEIGHT)
        for number, (axes, panel) in enumerate(zip(figure.subplots(1, 2), panels, strict=True), 1):
            panel(axes, numbers, config)
            axes.set_title(f"{number}. {axes.get_title(loc='left')}", loc="left")
        shown = [where, *[f"random logits N(0, {config.scale:g}²)"] * (not {random_errors, labels}.isdisjoint(panels))]
        if distances in panels:
            seeds = len(numbers.seeds(numbers.data("training")[0], "floor"))
            shown[0] = where.rpartition(", T = ")[0]  # these students have every T
            shown.append(f"{seeds} seeds, 95 % intervals, cut at a third of the mean where they reach below it")
        words = "When soft targets are logit matching (z: student's logits, v: teacher's)"
        style.title(figure, words, "; ".join(shown))
    return style.save_all(folder, figures)


def random_errors(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Error of the limit against T/s on random logits, a curve a number of classes, with the law in closed form."""
    main = f"random {config.main_classes}"
    for index, count in enumerate(config.classes):
        data = f"random {count}"
        x, y = numbers.curve("error", data, APPROXIMATIONS[0])
        axes.plot(x / config.scale, y, color=style.colour(index), label=f"N = {count}")
        law = {name: numbers.one("law", data, f"first order: {name}") for name in ("closed form", "predicted slope")}
        far = np.array([20, 1e4])
        axes.plot(far, law["closed form"] * far ** law["predicted slope"], color="black", ls=":", lw=1.2, zorder=3)
    for name, ls, label in ((APPROXIMATIONS[1], "--", "with the 1/T term"), (APPROXIMATIONS[2], "-.", "not centred")):
        x, y = numbers.curve("error", main, name)
        axes.plot(x / config.scale, y, color=style.GREY, ls=ls, label=f"N = {config.main_classes}, {label}")
    axes.plot([], [], color="black", ls=":", lw=1.2, label="predicted")
    _logs(axes, SPREADS, "relative error", f"Gradient of N classes: error of (z − v)/N, s = {config.scale:g}")
    axes.set_ylim(1e-9, 30)
    _legend(axes, fontsize=8.5, loc="lower left")


def pair_errors(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Error of three approximations against T on the trained pair, with where the first falls below 10 and 1 %."""
    labels = "(z − v)/N, centred logits", "with the 1/T term", "(z − v)/N, not centred"
    for index, (name, label) in enumerate(zip(APPROXIMATIONS[:3], labels, strict=True)):
        axes.plot(*numbers.curve("error", "pair, end", name), color=style.PALETTE[index], label=label)
    error = numbers.one("threshold", "pair, end", "error at T = 20")
    axes.plot([20], [error], ls="", marker="o", color="black", zorder=4)
    lines = [f"● T = 20: error {100 * error:.0f} %"]
    for level in (10, 1):
        at = numbers.one("threshold", "pair, end", f"T at {level} %")
        axes.plot([at], [level / 100], ls="", marker="D", color="black", zorder=4)
        lines.append(f"◆ {level} % at T = {at:.0f}")
    axes.text(0.62, 0.72, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=9.5)
    _logs(axes, T, "relative error", "The same on a trained pair")
    axes.set_ylim(1e-5, 20)
    _legend(axes, loc="lower left")


def teachers(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Error of the limit against T/s, one curve per teacher."""
    for index, name in enumerate(numbers.data("teachers")):
        s = numbers.one("teachers", name, "s")
        x, y = numbers.curve("teachers", name, "error")
        known = np.isfinite(x)
        ls = ("-", (0, (6, 6)), (6, (3, 9)), (9, (3, 9)))[index % 4]  # they lie on each other
        axes.plot(x[known] / s, y[known], color=style.colour(index), ls=ls, label=f"{name}: s = {s:.1f}")
    _logs(axes, SPREADS, "relative error", "Error of (z − v)/N: teachers fall on one curve")
    axes.set_xlim(0.1, 1e3)
    axes.set_ylim(1e-3, 10)
    _legend(axes, fontsize=8.5, loc="lower left")


def norms(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Norm of an example's gradient against T, of plain C and of T² C."""
    for index, stage in enumerate(STAGES):
        for name, ls in (("C", "--"), ("T² C", "-")):
            curve = numbers.curve("norm", f"pair, {stage}", name)
            axes.plot(*curve, color=style.PALETTE[index], ls=ls, label=f"{WORDS[stage]}: {name}")
    _logs(axes, T, "norm of an example's gradient", "Cross-entropy C: T² undoes its small gradients")
    _legend(axes, fontsize=8.5, loc="lower left")


def shares(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Share of the squared gradient by rank of the teacher's logit, against T."""
    count = numbers.ranks()
    for rank, colour in zip(range(1, count + 1), _shades(count), strict=True):
        label = f"rank {rank}" if rank in (1, 2, 3, count // 2, count) else ""
        axes.plot(*numbers.curve("attention", "pair, end", f"share rank {rank}"), color=colour, label=label or None)
    _logs(axes, T, "share of the squared gradient", "Who gets it: by rank of the teacher's logit")
    axes.set_ylim(1e-6, 1.5)
    _legend(axes, loc="lower right")


def effective_number(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Per cent of the examples that carry the gradient, against T."""
    for index, stage in enumerate(STAGES):
        x, y = numbers.curve("attention", f"pair, {stage}", "effective number")
        axes.plot(x, 100 * y, color=style.PALETTE[index], label=WORDS[stage])
    scales.log_axis(axes.xaxis, T)
    axes.set_ylim(0, 103)
    axes.set_ylabel("effective examples (%)")
    axes.set_title("How many examples carry the gradient", loc="left")
    _legend(axes, loc="lower right")


def weights(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Weight of each squared difference of logits by rank, against T."""
    count = numbers.ranks()
    for rank, colour in zip(range(1, count + 1), _shades(count), strict=True):
        label = f"rank {rank}" if rank in (1, 2, 3, count // 2, count) else None
        axes.plot(*numbers.curve("attention", "pair, end", f"weight rank {rank}"), color=colour, label=label)
    axes.axhline(1, color=style.GREY, ls="--", lw=1.2)
    scales.log_axis(axes.xaxis, T)
    axes.set_xlim(5, 1e3)
    axes.set_ylim(-0.3, 3.2)
    axes.set_ylabel("weight 1 + (2vc + zc)/(3T)")
    axes.set_title("Less attention to negative logits", loc="left")
    _legend(axes)


def labels(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Error of label matching as T → 0, beside √T."""
    names = [f"random {config.main_classes}", *[f"pair, {stage}" for stage in STAGES]]
    for index, data in enumerate(name for name in names if name in numbers.data("label")):
        x, y = numbers.curve("label", data, "gradient")
        known = np.isfinite(x)
        axes.plot(x[known], y[known], color=style.PALETTE[index], label=_data(data))
    x = np.array([1e-3, 0.1])
    reference = numbers.at("label", names[0], "gradient", 0.01)
    axes.plot(x, reference * np.sqrt(x / 0.01), color="black", ls=":", lw=1.2, label="√T")
    _logs(axes, T, "relative error", "T → 0: error of matching the top class alone")
    axes.set_ylim(1e-3, 2)
    _legend(axes, loc="lower right")


def rounding(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Relative error of float32, of the plain and of the exact form, against T."""
    for index, what in enumerate(("value", "gradient")):
        for form, ls in (("plain", "--"), ("exact", "-")):
            curve = numbers.curve("rounding", "pair, end", f"{what}, {form} form")
            axes.plot(*curve, color=style.PALETTE[index], ls=ls, label=f"{what}, {form}")
    x, y = numbers.curve("error", "pair, end", APPROXIMATIONS[0])
    axes.plot(x, y, color=style.GREY, ls=":", label="error of (z − v)/N")
    _logs(axes, T, "relative error", "float32: where rounding takes over")
    axes.set_ylim(1e-8, 10)
    _legend(axes, fontsize=8.5, loc="upper right")


def parameters(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Distance (logarithmic, left) and cosine (linear, right) of the parameter gradients at T and at ∞, against T."""
    right = axes.twinx()
    for index, stage in enumerate(STAGES):
        axes.plot(
            *numbers.curve("parameters", f"pair, {stage}", "distance"), color=style.PALETTE[index], label=WORDS[stage]
        )
        right.plot(*numbers.curve("parameters", f"pair, {stage}", "cosine"), color=style.PALETTE[index], ls="--")
    axes.plot([], [], color=style.GREY, ls="--", label="cosine (right)")
    _logs(axes, T, "relative distance", "The whole parameter gradient, G(T) and G(∞)")
    axes.set_ylim(1e-6, 3)
    right.set_ylim(min(0.0, right.get_ylim()[0]), 1.05)
    right.set_ylabel("cosine")
    right.spines["right"].set_visible(True)
    right.grid(False)
    handles, labels = axes.get_legend_handles_labels()
    _legend(right, handles=handles, labels=labels, fontsize=8.5, loc="lower left")  # above the lines of both


def distances(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Distance of trained students from the ∞ student of the same seed, against T."""
    finite = [value for value in _temperatures(numbers) if math.isfinite(value)]
    axis = temperature_plot.TemperatureAxis(finite)
    levels = {"floor": (":", "∞ again, start changed by a rounding"), "ceiling": ("--", "∞, another seed")}
    for index, optimizer in enumerate(numbers.data("training")):
        name = named(optimizer)
        temperature_plot.curve(
            axes, axis, finite, *_means(numbers, optimizer, "distance", finite), label=name, index=index
        )
        for level, (ls, words) in levels.items():
            value = float(numbers.seeds(optimizer, level).mean())
            style.band(axes, value, math.nan, math.nan, colour=style.PALETTE[index], ls=ls, label=f"{name}: {words}")
    axis.dress(axes, crowded=0.12)
    scales.log_axis(axes.yaxis, "distance from the ∞ student (logits)")
    axes.set_ylim(top=30)  # room for the legend
    axes.set_title("Where students end up", loc="left")
    _legend(axes, fontsize=8.5)


def drifts(axes: Axes, numbers: Numbers, config: MatchingConfig) -> None:
    """Drift of the mean logit and of the class mean of the output layer, against T."""
    axis = temperature_plot.TemperatureAxis(_temperatures(numbers))
    for index, optimizer in enumerate(numbers.data("training")):
        for part, name in enumerate(("mean logit drift", "class mean drift")):
            label = f"{named(optimizer)}: {('mean logit', 'class mean of the output layer')[part]}"
            means = _means(numbers, optimizer, name, axis.temperatures)
            temperature_plot.curve(axes, axis, axis.temperatures, *means, label=label, index=index + 2 * part)
        value = float(numbers.seeds(optimizer, "MSE: class mean drift").mean())
        label, colour = f"{named(optimizer)}, MSE: class mean", style.PALETTE[index + 2]
        style.band(axes, value, math.nan, math.nan, colour=colour, label=label)
    axis.dress(axes, crowded=0.12)
    scales.log_axis(axes.yaxis, "drift from the start")
    axes.set_title("What is conserved", loc="left")
    _legend(axes, fontsize=8.5)


def _means(numbers: Numbers, optimizer: str, name: str, temperatures: list[float]) -> list[np.ndarray]:
    """Means over seeds and their intervals; one that reaches to 0, which has no logarithm, is cut at a third."""
    intervals = [stats.interval(numbers.seeds(optimizer, name, t)) for t in temperatures]
    mean, low, high = np.array([interval[:3] for interval in intervals]).T
    return [mean, np.maximum(low, mean / 3), high]


def _temperatures(numbers: Numbers) -> list[float]:
    return sorted(set(numbers.curve("training", numbers.data("training")[0], "distance")[0]))


def _data(name: str) -> str:
    """What was measured on, in words: random logits, or the student of the pair."""
    kind, _, stage = name.partition(", ")
    return WORDS[stage] if kind == "pair" else name.replace("random", "random, N =")


def _legend(axes: Axes, **look: Any) -> None:
    """A legend that can be read where a curve runs below it."""
    axes.legend(frameon=True, framealpha=0.85, edgecolor="none", handlelength=3, **look)


def _shades(count: int) -> list[Any]:
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, count)))


def _logs(axes: Axes, x: str, y: str, title: str) -> None:
    scales.log_axis(axes.xaxis, x)
    scales.log_axis(axes.yaxis, y)
    axes.set_title(title, loc="left")
