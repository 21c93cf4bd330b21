"""The figure of logits from a file: when they match, who gets the gradient, entropy, and calibration, against T."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import scales, style
from analysis.matching.own_pair import Measured, groups
from analysis.pair_file import PairFile
from kdjax.progress import count_of

WIDTH, HEIGHT = 10.0, 3.9
"""Inches of a row of two panels."""
T = "temperature T"
NETWORKS = {"teacher": ("-", style.PALETTE[0]), "student": ("--", style.PALETTE[1])}
Panel = Callable[[Axes, PairFile, Measured], None]


@style.applied()
def draw(folder: Path, pair: PairFile, measured: Measured) -> list[Path]:
    """Draws the panels that there are numbers for, with file and n in the title; returns the files written."""
    table = measured.table
    panels: list[Panel] = [_shares, _entropy]
    if table["error"].notna().any():
        panels.insert(0, _errors)
    panels.append(_not_given if "not_given" in table else _cosines)
    if pair.labels is not None:
        panels += [_nll, _ece]
    high = math.ceil(len(panels) / 2)
    figure = style.figure(WIDTH, HEIGHT * high + 0.5)
    every = list(figure.subplots(high, 2, squeeze=False).flat)
    for axes, panel in zip(every, panels, strict=False):
        panel(axes, pair, measured)
        scales.log_axis(axes.xaxis, T)
    for axes in every[len(panels) :]:
        axes.set_visible(False)
    where = f"{pair.path.name}: n = {count_of(pair.rows, 'example')}, N = {pair.classes:,} classes"
    style.title(figure, "When soft targets are logit matching (z: student's logits, v: teacher's)", where)
    return style.save_all(folder, {"logits": figure})


def _errors(axes: Axes, pair: PairFile, measured: Measured) -> None:
    table = _finite(measured)
    axes.plot(table["temperature"], table["error"], color=style.PALETTE[0], label="(z − v)/N, centred logits")
    if "error_not_centred" in table:
        look: dict[str, Any] = {"color": style.GREY, "ls": "-."}
        axes.plot(table["temperature"], table["error_not_centred"], **look, label="(z − v)/N, not centred")
    for level, at in measured.facts.below.items():
        if not math.isnan(at):
            words = f"{100 * level:g} % from T = {float(f'{at:.3g}'):,g}"
            marker = "D" if level == 0.1 else "o"
            axes.plot([at], [level], ls="", marker=marker, color=style.PALETTE[1], zorder=4, label=words)
    scales.log_axis(axes.yaxis, "relative error")
    axes.set_title("Error of the logit-matching formula", loc="left")
    axes.legend(loc="lower left")


def _cosines(axes: Axes, pair: PairFile, measured: Measured) -> None:
    table = _finite(measured)
    axes.plot(table["temperature"], table["cosine"], color=style.PALETTE[0])
    axes.set_ylim(min(0.0, float(table["cosine"].min()) - 0.05), 1.05)
    axes.set_ylabel("cosine")
    axes.set_title("Direction: gradient and logit matching", loc="left")


def _shares(axes: Axes, pair: PairFile, measured: Measured) -> None:
    table, names = _finite(measured), groups(pair.classes)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(names)))
    shares = [100 * table[f"share_{name}"] for name in names]
    labels = [f"rank {name}" for name in names]
    axes.stackplot(table["temperature"], shares, colors=list(colours), labels=labels, edgecolor="white", linewidth=0.6)
    axes.set_ylim(0, 100)
    axes.margins(x=0)
    axes.set_ylabel("share of the squared gradient (%)")
    axes.set_title("Who gets it: by rank of the teacher's logit", loc="left")
    handles, words = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], words[::-1], frameon=True, framealpha=0.9, edgecolor="none", loc="upper right")


def _entropy(axes: Axes, pair: PairFile, measured: Measured) -> None:
    table = _finite(measured)
    for name, (ls, colour) in NETWORKS.items():
        share = 100 * table[f"{name}_entropy"] / math.log(pair.classes)
        axes.plot(table["temperature"], share, color=colour, ls=ls, label=name)
    axes.set_ylim(0, 103)
    axes.set_ylabel("entropy (% of ln N)")
    axes.set_title("How soft the targets are", loc="left")
    axes.legend(loc="lower right")


def _not_given(axes: Axes, pair: PairFile, measured: Measured) -> None:
    table, k = _finite(measured), pair.top_k.k if pair.top_k else 0
    axes.plot(table["temperature"], 100 * table["not_given"], color=style.PALETTE[2], label="mass not given")
    if "topk_error" in table:
        look: dict[str, Any] = {"color": style.PALETTE[3], "ls": "--", "label": "gradient's error from them alone"}
        axes.plot(table["temperature"], 100 * table["topk_error"], **look)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("%")
    axes.set_title(f"The k = {k:,} largest of {pair.classes:,} logits", loc="left")
    axes.legend(loc="best")


def _nll(axes: Axes, pair: PairFile, measured: Measured) -> None:
    table = _finite(measured)
    for name, (ls, colour) in NETWORKS.items():
        known = np.isfinite(table[f"{name}_nll"])
        axes.plot(table["temperature"][known], table[f"{name}_nll"][known], color=colour, ls=ls, label=name)
    scales.log_axis(axes.yaxis, "NLL of the labels (nats)")
    axes.set_title("Likelihood of the labels", loc="left")
    axes.legend(loc="best")


def _ece(axes: Axes, pair: PairFile, measured: Measured) -> None:
    table = _finite(measured)
    for name, (ls, colour) in NETWORKS.items():
        axes.plot(table["temperature"], 100 * table[f"{name}_ece"], color=colour, ls=ls, label=name)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("calibration error, ECE (%)")
    axes.set_title("Calibration", loc="left")
    axes.legend(loc="best")


def _finite(measured: Measured) -> pd.DataFrame:
    return measured.table[np.isfinite(measured.table["temperature"])]
