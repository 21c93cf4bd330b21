"""Curves against temperature: an axis with ∞ behind a break, and means with their intervals on it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from numpy.typing import ArrayLike

from analysis.scales import scaled
from analysis.style import GREY, PALETTE, band, colour, marker
from analysis.tables import Estimate


class TemperatureAxis:
    """log₂ T across, each temperature labelled with itself, and ∞ behind a break at the right."""

    def __init__(self, temperatures: Sequence[float]):
        self.temperatures = sorted({float(value) for value in temperatures if not math.isnan(value)})
        self._finite = [value for value in self.temperatures if math.isfinite(value)]
        logs = np.log2(self._finite) if self._finite else np.zeros(1)
        self._infinity = float(logs.max() + max(1.0, 0.18 * np.ptp(logs))) if self._finite else 0.0
        self._span = (self._infinity if self.has_infinity else float(logs.max())) - float(logs.min())

    @property
    def has_infinity(self) -> bool:
        return math.inf in self.temperatures

    @property
    def stretch(self) -> str:
        """What the end of the axis is, where T = ∞ is on it: a sentence behind others."""
        return " T = ∞ is logit matching; the stretch to it is dotted, as no distance is meant." * self.has_infinity

    def place(self, temperature: float) -> float:
        """Where a temperature stands on the axis."""
        return self._infinity if math.isinf(temperature) else math.log2(temperature)

    def nudge(self, index: int, count: int) -> float:
        """A shift that keeps the bars of several curves apart, and within half the way to the next temperature."""
        places = [self.place(value) for value in self.temperatures]
        room = max(self._span, 1.0) * min(0.018, 0.1 / count)  # all of them within the margin of the axis
        step = min(room, float(np.min(np.diff(places), initial=math.inf)) / 2 / count)
        return float(index - (count - 1) / 2) * step

    def spread(self, count: int) -> list[float]:
        """At most `count` of the temperatures, the outermost among them, as evenly as they come."""
        places = np.array([self.place(value) for value in self.temperatures])
        wanted = np.linspace(places[0], places[-1], count)
        return [self.temperatures[i] for i in sorted({int(np.abs(places - at).argmin()) for at in wanted})]

    def dress(self, axes: Axes, label: bool = True, crowded: float = 0.06) -> None:
        """Ticks, limits and the break. Labels stand `crowded` of the axis apart, or more; powers of two go first."""
        span = max(self._span, 1.0)
        places = [self.place(value) for value in self.temperatures]
        shown: list[float] = []
        for place in sorted(places, key=lambda place: (place not in (places[0], places[-1]), place % 1 != 0, place)):
            if all(abs(place - other) >= crowded * span for other in shown):
                shown.append(place)
        names = ["∞" if math.isinf(value) else f"{value:,g}" for value in self.temperatures]
        axes.set_xticks(places, [name if place in shown else "" for name, place in zip(names, places, strict=True)])
        axes.set_xlim(min(places) - 0.06 * span, max(places) + 0.06 * span)
        if label:
            axes.set_xlabel(scaled("temperature T") if len(self._finite) > 1 else "temperature T")
        if self.has_infinity and self._finite:
            middle = (self.place(self._finite[-1]) + self._infinity) / 2
            for at, colour, width in ((0.0, "white", 5), (-0.012, "black", 1), (0.012, "black", 1)):
                x, slash = [middle + at * span] * (2 if width > 1 else 1), [(-0.5, -1), (0.5, 1)]
                look: dict[str, Any] = {"marker": slash, "ms": 9, "mec": colour, "mew": width, "clip_on": False}
                axes.plot(x, [0] * len(x), ls="", transform=axes.get_xaxis_transform(), **look)


def shade(temperature: float, temperatures: Sequence[float]) -> str:
    """A temperature's colour: dark blue to yellow-green in their order, vermilion for ∞ (logit matching)."""
    if math.isinf(temperature):
        return PALETTE[1]
    finite = [value for value in temperatures if math.isfinite(value)]
    return to_hex(matplotlib.colormaps["viridis"](0.9 * finite.index(temperature) / max(len(finite) - 1, 1)))


def curve(
    axes: Axes,
    axis: TemperatureAxis,
    temperatures: Sequence[float],
    means: ArrayLike,
    lows: ArrayLike,
    highs: ArrayLike,
    *,
    label: str = "",
    index: int = 0,
    nudge: float = 0.0,
    thin: bool = False,
    grey: bool = False,
) -> None:
    """Means with intervals against T; the step to ∞ is dotted, because no distance is meant. nan bounds draw no bar."""
    look: dict[str, Any] = {"color": GREY if grey else colour(index), "alpha": 0.6 if thin else 1}
    x = np.array([axis.place(value) + nudge for value in temperatures])
    y, low, high = (np.asarray(values, float) for values in (means, lows, highs))
    finite = np.isfinite(temperatures)
    width = 1.0 if thin else 1.8
    axes.plot(x[finite], y[finite], lw=width, **look)
    if not finite.all():
        axes.plot(x[-2:], y[-2:], lw=width, ls=":", **look)
    axes.plot(x, y, ls="", marker=marker(index), ms=3.5 if thin else 6, label=label or None, **look)
    known = ~np.isnan(low) & ~np.isnan(y)
    if known.any() and not thin:
        bars = np.stack([y - low, high - y])[:, known]
        axes.errorbar(x[known], y[known], bars, ls="", color=colour(index), elinewidth=1.2, capsize=3)


def estimates(axes: Axes, axis: TemperatureAxis, values: Mapping[float, Estimate], **look: Any) -> None:
    """A `curve` of estimates by temperature; a `band` where there is none (nan)."""
    if len(values) == 1 and math.isnan(next(iter(values))):
        (value,), shown = values.values(), look.get("label", "")
        own, bounds = GREY if look.get("grey") else colour(look.get("index", 0)), (value.low, value.high)
        bounds = (math.nan, math.nan) if look.get("thin") else bounds
        band(axes, value.mean, *bounds, colour=own, ls="-.", label=shown, filled=False, thin=look.get("thin", False))
        return
    columns = ([getattr(value, name) for value in values.values()] for name in ("mean", "low", "high"))
    curve(axes, axis, list(values), *columns, **look)
