"""The figure of `analysis.objectives`: how near each objective is to its limit, and what its gradient changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis import style
from analysis.atlas.page import near
from analysis.atlas.table import HIGH, LOW, MIDDLE, Atlas, of_student
from analysis.tables import number

WIDTH, ROW = 10.0, 0.34
"""Inches: of the figure, and of an objective."""
RANGE = (0.1, 3e3)
"""Temperatures across."""
PARTS = {"scale": style.PALETTE[0], "direction": style.PALETTE[5], "mean_logit": style.GREY}
WORDS = {"scale": "changes scale", "direction": "changes direction", "mean_logit": "changes the mean logit"}


@style.applied()
def draw(folder: Path, atlas: Atlas, table: pd.DataFrame) -> list[Path]:
    """Draws it; `table` as `table.frame` gives it. Returns the files written."""
    figure = style.figure(WIDTH, ROW * len(table) + 2.2)
    errors, *parts = figure.subplots(1, 4, sharey=True, width_ratios=[3.4, 1, 1, 1])
    _errors(figure, errors, atlas, table)
    for axes, temperature in zip(parts, (LOW, MIDDLE, HIGH), strict=True):
        _parts(axes, table, temperature)
    _groups([errors, *parts], table)
    style.legend(figure)
    style.title(figure, "What each objective is, from low T to infinity", atlas.pairs.where)
    return style.save_all(folder, {"objectives": figure})


def _errors(figure: Figure, axes: Axes, atlas: Atlas, table: pd.DataFrame) -> None:
    """The distance of each gradient from its limit's, as a colour, against T."""
    curves = of_student(atlas.curves, atlas.pairs.followed)
    curves = curves[curves["temperature"].between(*RANGE)]
    errors = curves.pivot_table(values="error", index="objective", columns="temperature", dropna=False)
    errors = errors.reindex(table["objective"])
    logs = np.log10(errors.columns.to_numpy(np.float64))
    middles = (logs[1:] + logs[:-1]) / 2
    edges = 10 ** np.array([2 * logs[0] - middles[0], *middles, 2 * logs[-1] - middles[-1]])
    values = np.ma.masked_invalid(errors.to_numpy(np.float64))
    look: dict[str, Any] = {"cmap": "Blues", "norm": LogNorm(0.01, 1, clip=True)}
    mesh = axes.pcolormesh(edges, np.arange(len(table) + 1) - 0.5, np.maximum(values, 1e-9), **look)
    for place, (_, row) in enumerate(table.iterrows()):
        at, text = row["threshold"], near(row).partition(" [")[0]
        if not row["depends_on_temperature"]:
            axes.text(30, place, "its limit at every T", ha="center", va="center", fontsize=9.5)
        elif np.isnan(at):
            axes.text(30, place, "no limit", ha="center", va="center", fontsize=9.5)
        elif at < RANGE[1]:
            axes.plot([at, at], [place - 0.5, place + 0.5], color="black", lw=2)
            axes.text(at * 1.2, place, text, va="center", fontsize=9.5)
    axes.set_xscale("log")
    axes.set_xlim(*RANGE)
    axes.xaxis.set_major_locator(FixedLocator([0.1, 1, 4, 20, 100, 1e3]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("temperature T (log scale); bar: within 10 %")
    axes.set_yticks(range(len(table)), list(table["objective"]))
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_title("Distance from its own limit", loc="left")
    axes.grid(visible=False)
    bar = figure.colorbar(mesh, ax=axes, location="bottom", shrink=0.8, aspect=40, pad=0.02)
    bar.set_ticks([0.01, 0.1, 1], labels=["1 %", "10 %", "100 %"])
    bar.set_label("relative error of the gradient")


def _parts(axes: Axes, table: pd.DataFrame, temperature: float) -> None:
    """What the gradient changes at one temperature, in shares of its square."""
    before = np.zeros(len(table))
    for name, colour in PARTS.items():
        column = f"{name}_{temperature:g}"
        shares = 100 * table[column].to_numpy(np.float64)
        axes.barh(range(len(table)), np.nan_to_num(shares), left=before, height=0.72, color=colour, label=WORDS[name])
        before += np.nan_to_num(shares)
    for place in np.flatnonzero(before == 0):
        axes.text(
            50, float(place), "no limit" if np.isinf(temperature) else "none", ha="center", va="center", fontsize=9.5
        )
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 50, 100])
    axes.set_xlabel("% of Σg²")
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"T = {number(temperature)}", loc="left")


def _groups(every: list[Axes], table: pd.DataFrame) -> None:
    """A line between objectives that become different things, and at the right what they become."""
    kinds = list(table["becomes"])
    for kind in dict.fromkeys(kinds):
        places = [place for place, other in enumerate(kinds) if other == kind]
        if places[0]:
            for axes in every:
                axes.axhline(places[0] - 0.5, color="black", lw=0.8)
        text = kind.replace(", ", ",\n").replace("another distance of", "another distance\nof")
        look: dict[str, Any] = {"transform": every[-1].get_yaxis_transform(), "va": "center", "fontsize": 9.5}
        every[-1].text(1.06, float(np.mean(places)), text, **look)
