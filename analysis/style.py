"""How every figure looks: colours for colour-blind readers, and type that can be read at half the width."""

import contextlib
import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure

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
