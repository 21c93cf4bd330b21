"""The figure of `analysis.logit_matching --curvature`: curvature over T, and the best learning rate beside it."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from analysis import scales, style, temperature_plot
from analysis.matching import best_rates, rates
from analysis.matching.best_rates import FACTOR
from analysis.matching.rates import TEMPERATURES
from analysis.matching.rows import Numbers
from analysis.matching.training import named

NONE = [math.nan] * len(TEMPERATURES)


@style.applied()
def draw(folder: Path, numbers: Numbers, where: str) -> list[Path]:
    """Draws the four panels; returns the files written."""
    figure = style.figure(10.0, 8.0)
    for axes, panel in zip(figure.subplots(2, 2).flat, (logits, parameters, best, products), strict=True):
        axis = temperature_plot.TemperatureAxis(TEMPERATURES)
        panel(axes, axis, numbers)
        axis.dress(axes)
    style.title(figure, "Curvature over T, and the best learning rate", where)
    return style.save_all(folder, {"curvature": figure})


def logits(axes: Axes, axis: temperature_plot.TemperatureAxis, numbers: Numbers) -> None:
    """Mean largest eigenvalue in the logits, of teacher and student; and 1/N, its limit."""
    for index, name in enumerate(("teacher", "student")):
        _line(axes, axis, numbers.curve("logits", name, "largest")[1], f"{name}'s logits", index)
    limit = float(numbers.curve("logits", "teacher", "largest")[1][-1])
    style.band(axes, limit, math.nan, math.nan, label="1/N")
    scales.log_axis(axes.yaxis, "mean largest eigenvalue")
    axes.set_title("1. In the logits: diag(q) − q qᵀ", loc="left")
    axes.legend()


def parameters(axes: Axes, axis: temperature_plot.TemperatureAxis, numbers: Numbers) -> None:
    """Sharpness in the parameters: at the two common points, and where students at one rate end."""
    places = {"initial weights": "start", "one trained student": "trained student"}
    places |= {f"{named(each)}, each T's own student": f"{each}, common rate, the last epoch" for each in rates.RATES}
    for index, (label, data) in enumerate(places.items()):
        _line(axes, axis, numbers.curve("curvature", data, "hessian")[1], label, index)
    scales.log_axis(axes.yaxis, "largest Hessian eigenvalue")
    axes.set_title("2. In the parameters: sharpness", loc="left")
    axes.legend(fontsize=8.5)


def best(axes: Axes, axis: temperature_plot.TemperatureAxis, numbers: Numbers) -> None:
    """The best rates on the hold-out, with those not told apart from them."""
    for index, optimizer in enumerate(rates.RATES):
        values = best_rates.best_rates(numbers, optimizer)
        temperature_plot.curve(
            axes, axis, TEMPERATURES, *values, label=named(optimizer), index=index, nudge=axis.nudge(index, 2)
        )
    scales.log_axis(axes.yaxis, "best peak learning rate")
    axes.set_title("3. Best rates (bars: rates not told apart from them)", loc="left")
    axes.legend()


def products(axes: Axes, axis: temperature_plot.TemperatureAxis, numbers: Numbers) -> None:
    """Best rate times eigenvalue, over the geometric mean of its largest and smallest over T: within the band where
    1/eigenvalue is a prediction."""
    names = {"sharpness in the teacher's logits": "logits", "sharpness of one trained student": "trained student"}
    for row, (name, short) in enumerate(names.items()):
        for column, optimizer in enumerate(rates.RATES):
            values = best_rates.best_rates(numbers, optimizer)[0] * best_rates.predictors(numbers, optimizer)[name]
            label = f"{named(optimizer)}, {short}"
            _line(axes, axis, values / math.sqrt(np.min(values) * np.max(values)), label, 2 * row + column)
    axes.axhspan(1 / FACTOR, FACTOR, color=style.GREY, alpha=0.15, lw=0, label="within a factor of 2")
    axes.axhline(1, color=style.GREY, lw=1.2, ls="--")
    scales.log_axis(axes.yaxis, "rate · eigenvalue (middle: 1)")
    axes.set_title("4. Is the best rate one over the eigenvalue?", loc="left")
    axes.legend(fontsize=8.5)


def _line(axes: Axes, axis: temperature_plot.TemperatureAxis, values: np.ndarray, label: str, index: int) -> None:
    temperature_plot.curve(axes, axis, TEMPERATURES, values, NONE, NONE, label=label, index=index)
