"""How every figure looks: colours for colour-blind readers, and type that can be read at half the width."""

import contextlib
import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from analysis.scales import scaled
from analysis.tables import Estimate
from kdjax.files import remove, write_whole

PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
    *("#8B0000", "#2F4F4F", "#332288", "#117733", "#6A5ACD", "#999933", "#9AC0CD"),
)
"""Okabe and Ito (2008), without the yellow that white paper swallows; then darker ones, chosen for their distance from
all before, with simulated red and green blindness too (CIELAB, 12 or more)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d", "8")
"""In the order of the colours, for print without colour."""
GREY = "#6E6E6E"
UNLISTED = "_"
"""matplotlib leaves a label that starts so out of a legend: of a band, whose level is there."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.06,  # of a panel: labels keep off the panel at their left
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # letters stay text
    "svg.fonttype": "none",
    "svg.hashsalt": "kdjax",  # the same figure gives the same bytes
    "axes.unicode_minus": True,
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """The style on matplotlib's own defaults, whatever the user's settings are; they are restored afterwards."""
    with matplotlib.rc_context(matplotlib.rcParamsDefault | STYLE):
        yield


def figure(width: float, height: float) -> Figure:
    """A figure of that many inches, outside pyplot and its global state."""
    return Figure(figsize=(width, height))


def title(figure: Figure, what: str, *below: str, reading: str = "") -> None:
    """The title: what is drawn, and below it what it says, if given, and from which data; wrapped to the width. For
    captions the figure's label is the same as sentences, a line each, and, behind an empty line, how to read it."""
    sentences = [text if text.endswith((".", "!", "?")) else f"{text}." for text in (what, *below)]
    figure.set_label("\n".join(sentences + ["", reading] * bool(reading)))
    columns = int(figure.get_figwidth() * 13)
    unbroken = [re.sub(r" ([=<>≤≥]) ", "\u00a0\\1\u00a0", text) for text in (what, *below)]  # "T = 20" stays together
    lines = [line for text in unbroken for line in textwrap.wrap(text, columns, break_long_words=False)]
    plain = "\n".join(lines).replace("$", r"\$")  # a name may hold one: no formula
    figure.suptitle(plain, fontsize=10, x=0.02, ha="left")


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes `name.png`, `name.pdf` and `name.svg` whole; the same figure gives the same bytes (no dates inside). The
    last is for `report.html`: its title is no part of the picture, but of its metadata, with how to read it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    first, _, reading = str(figure.get_label()).partition("\n\n")
    words = {"Title": first, "Description": reading or None, "Date": None}
    kinds: dict[str, dict[str, Any]] = {
        "png": {},
        "pdf": {"metadata": {"CreationDate": None}},
        "svg": {"metadata": words, "bbox_inches": "tight", "transparent": True},
    }
    paths = []
    for kind, options in kinds.items():
        if kind == "svg":
            figure.suptitle("")
        content = io.BytesIO()
        figure.savefig(content, format=kind, **options)
        figure.set_layout_engine("none")  # laid out once: half the time
        write_whole(folder / f"{name}.{kind}", content.getvalue())
        paths.append(folder / f"{name}.{kind}")
    return paths


def save_all(folder: Path, figures: Mapping[str, Figure | None]) -> list[Path]:
    """Saves the figures of a run directory in its folder `figures`. Of None there is nothing, and what was drawn of it
    before is removed: it is not of this run as it is now."""
    for name in (name for name, drawn in figures.items() if drawn is None):
        for kind in ("png", "pdf", "svg"):
            remove(folder / "figures" / f"{name}.{kind}")
    return [path for name, drawn in figures.items() if drawn for path in save(drawn, folder / "figures", name)]


def colour(index: int) -> str:
    """The colour of a curve: of the palette, and beyond it of further hues, so that no two curves share one."""
    return PALETTE[index] if index < len(PALETTE) else to_hex(tuple(hsv_to_rgb((0.618 * index % 1, 0.8, 0.6))))


def marker(index: int) -> str:
    """The marker of a curve."""
    return MARKERS[index % len(MARKERS)]


def shade(temperature: float, temperatures: Sequence[float]) -> str:
    """A temperature's colour: dark blue to yellow-green in their order, vermilion for ∞ (logit matching)."""
    if math.isinf(temperature):
        return PALETTE[1]
    finite = [value for value in temperatures if math.isfinite(value)]
    return to_hex(matplotlib.colormaps["viridis"](0.9 * finite.index(temperature) / max(len(finite) - 1, 1)))


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


def finish(figure: Figure, what: str, *below: str, reading: str = "") -> Figure:
    """Adds legend and title; returns the figure."""
    legend(figure)
    title(figure, what, *below, reading=reading)
    return figure


def of_runs(several: bool, drawn: str = ": mean, 95 % t interval") -> str:
    """The end of a title: how the runs of a setting are drawn, or that there is one of each."""
    return drawn if several else " (single runs)"


def legend(figure: Figure) -> None:
    """One legend for all panels, below them: never over data."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        bands = {patch.get_label(): patch for patch in axes.patches}
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            filled = bands.get(UNLISTED + label)
            entries.setdefault(label, (filled, handle) if filled else handle)  # the one over the other
    if entries:
        room = int(figure.get_figwidth() * 11.5)  # letters in the width of the figure
        labels = [textwrap.fill(label, room - 4) for label in entries]
        longest = max(len(line) for label in labels for line in label.splitlines())
        columns = max(1, min(len(entries), int(room / (longest + 4))))
        lines = math.ceil(sum(label.count("\n") + 1 for label in labels) / columns)
        figure.set_figheight(figure.get_figheight() + 0.22 * lines)  # none from the panels
        figure.legend(entries.values(), labels, loc="outside lower center", ncols=columns)


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


def band(
    axes: Axes,
    mean: float,
    low: float,
    high: float,
    *,
    colour: str = GREY,
    ls: str = "--",
    label: str = "",
    filled: bool = True,
    thin: bool = False,
) -> None:
    """A level across the axes, with its interval where one is known: a band, or, as bands on bands are mud, thin dashes
    at its ends."""
    look = {"lw": 0.9, "alpha": 0.6} if thin else {"lw": 1.4}
    axes.axhline(mean, color=colour, ls=ls, label=label or None, zorder=1.5, **look)
    if math.isnan(low):
        return
    if filled:
        axes.axhspan(low, high, color=colour, alpha=0.15, lw=0, zorder=0.5, label=UNLISTED + label)
    else:
        for end in (low, high):
            axes.axhline(end, color=colour, ls=(0, (2, 4)), lw=0.9, zorder=0.5)
