"""Logarithmic axes that can be read alone: three labelled ticks or more, and a label that names the scale."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, NullLocator


class LogTicks(Locator):
    """Three ticks or more on a logarithmic axis, whatever its range: decades, or with 3 or 2 and 5 between them, or
    evenly spaced numbers."""

    def __call__(self) -> Sequence[float]:
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """The ticks from `vmin` to `vmax`."""
        low, high = sorted((vmin, vmax))
        decades = np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for between in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
            ticks = [value * 10.0**decade for decade in decades for value in between]
            ticks = [tick for tick in ticks if low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9)]
            if len(ticks) >= 3:
                return ticks[:: math.ceil(len(ticks) / 7)]
        evenly, intervals = list[float](), 4
        while len(evenly) < 3:  # of the intervals some may lie outside
            even = MaxNLocator(intervals, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
            evenly, intervals = [float(tick) for tick in even if low <= tick <= high], intervals + 1
        return evenly


def scaled(label: str) -> str:
    """The label of an axis with the name of its scale."""
    return f"{label[:-1]}, log scale)" if label.endswith(")") else f"{label} (log scale)"


def log_axis(axis: Axis, label: str) -> None:
    """A logarithmic axis (`axes.xaxis` or `axes.yaxis`) with three labelled ticks or more, which names its scale."""
    axes: Any = axis.axes
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    axis.set_major_locator(LogTicks())
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_locator(NullLocator())
    axis.set_label_text(scaled(label))


def _plain(value: float, _: object = None) -> str:
    """A number on an axis: as it is, or a power of ten where that would be long."""
    exponent = math.floor(math.log10(value) + 1e-9)
    if -3 <= exponent <= 4:
        return f"{value:,g}" if value < 1e4 else f"{value:,.0f}"
    times = f"{value / 10.0**exponent:g}"
    return f"$10^{{{exponent}}}$" if times == "1" else f"${times}\\cdot10^{{{exponent}}}$"
