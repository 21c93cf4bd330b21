"""The figures of an MNIST table: errors against T at each width, fewer images, shifted test images."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import scales, stats, style, temperature_plot
from analysis.mnist import shifted, transfer, widths
from analysis.mnist.run import MnistResults, load
from analysis.mnist.widths import WidthCurve
from analysis.tables import count_of, number, seeds_of


@style.applied()
def draw(folder: Path) -> list[Path]:
    """Draws every figure of a table's run directory into its folder `figures`; returns the files written.

    Raises:
        BadInput: `folder` is no run directory, or what is in it is damaged.
    """
    results = load(folder)
    figures = {
        **draw_widths(results),
        "fewer_images": draw_transfer(results),
        "shifted": draw_shifted(results),
    }
    return style.save_all(folder, figures)


def draw_widths(results: MnistResults) -> dict[str, Figure]:
    """By width, test errors against T at tuned rates and at one rate, one panel per schedule; filled: may be best.
    Empty where the part was not made."""
    pairs = [(one.tuned, one.one_rate) for one in widths.read(results) if one.tuned and one.one_rate]
    by_width = itertools.groupby(pairs, key=lambda pair: pair[0].width)
    return {f"errors_against_temperature_{width}_units": _draw_width(list(ones), results) for width, ones in by_width}


def _draw_width(drawn: list[tuple[WidthCurve, WidthCurve]], results: MnistResults) -> Figure:
    axis = temperature_plot.TemperatureAxis([t for curves in drawn for curve in curves for t in curve.temperatures])
    figure = style.figure(5.4, 1.6 + 2.3 * len(drawn))
    panels = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    names = "rate tuned for each T", f"one rate, {results.learning_rate:g}"
    for axes, curves in zip(panels, drawn, strict=True):
        for index, (curve, name) in enumerate(zip(curves, names, strict=True)):
            means = dict(zip(curve.temperatures, curve.means(), strict=True))
            shift = axis.nudge(index, 2)
            temperature_plot.estimates(axes, axis, means, index=index, nudge=shift, label=f"soft targets, {name}")
            out = [t for t in curve.temperatures if t not in curve.candidates]
            look = {"color": style.PALETTE[index], "mfc": "white", "marker": style.MARKERS[index], "zorder": 3}
            axes.plot([axis.place(t) + shift for t in out], [means[t].mean for t in out], ls="", **look)
        tuned, one_rate = (curve.hard[~np.isnan(curve.hard)] for curve in curves)
        _draw_hard(axes, tuned, one_rate, names[1])
        axes.set_ylabel("test errors (images)")
        n = f"{count_of(curves[0].seeds, 'seed')}, {count_of(curves[0].teachers, 'teacher')}"
        axes.set_title(f"{count_of(curves[0].epochs, 'epoch')} ({n})", loc="left")
        axis.dress(axes, label=axes is panels[-1], crowded=0.05)
    whose = _of_whom(results, max(curve.teachers for curves in drawn for curve in curves))
    several = any(curve.seeds * curve.teachers > 1 for curves in drawn for curve in curves)
    what = f"{drawn[0][0].width} units per layer: test errors with soft targets{whose}; filled: may be best"
    return style.finish(figure, f"{what}{style.of_runs(several, '; bars: 95 % intervals')}", _where(results))


def _draw_hard(axes: Axes, tuned: np.ndarray, one_rate: np.ndarray, rate: str) -> None:
    """Hard labels at their tuned rate and at the one rate; one level where these are the same."""
    looks = [
        (tuned, style.PALETTE[0], "--", "hard labels, rate tuned"),
        (one_rate, style.PALETTE[1], "-.", f"hard labels, {rate}"),
    ]
    if np.array_equal(tuned, one_rate):
        looks = [(tuned, style.GREY, "--", f"hard labels, {rate} (the tuned one)")]
    for hard, colour, ls, label in looks:
        if len(hard):
            interval = stats.interval(hard)[:3]
            style.band(axes, *interval, colour=colour, ls=ls, label=label, filled=len(looks) == 1)


def draw_transfer(results: MnistResults) -> Figure | None:
    """Test errors against images of the transfer set, soft against hard; None where the part was not made."""
    if not (errors := transfer.pairs(results)):
        return None
    figure = style.figure(5.4, 3.6)
    axes = figure.subplots()
    for index, name in enumerate(("soft targets", "hard labels")):
        intervals = [stats.interval(pair[index]) for pair in errors.values()]
        means, bars = [mean.mean for mean in intervals], stats.error_bars(intervals)
        look: dict[str, Any] = {"color": style.PALETTE[index], "marker": style.MARKERS[index], "capsize": 3}
        axes.errorbar(list(errors), means, bars, label=name, **look)
    scales.log_axis(axes.xaxis, "images in the transfer set")
    scales.log_axis(axes.yaxis, "test errors (images)")
    axes.set_xticks(list(errors), [f"{images:,}" for images in errors])
    config = results.identity["config"]
    what = (
        f"Fewer images, equal steps: {config['width']} units per layer, soft targets{_of_whom(results, 1)} at "
        f"T = {number(results.temperature)}"
    )
    counts = [len(pair[0]) for pair in errors.values()]
    what += style.of_runs(max(counts) > 1, f"; bars: 95 % intervals, {seeds_of(counts)}")
    return style.finish(figure, what, _where(results))


def draw_shifted(results: MnistResults) -> Figure | None:
    """Test errors on shifted test images; None where the part was not made."""

    kinds = shifted.read(results.folder)
    if not kinds:
        return None
    figure = style.figure(5.4, 4.0)
    axes = figure.subplots()
    for index, kind in enumerate(kinds):
        ls = "--" if kind.name.startswith("distilled") else "-"  # what lies under a curve shows through
        colour, marker = style.colour(index), style.marker(index)
        axes.plot(shifted.PIXELS, kind.errors.mean(axis=0), color=colour, marker=marker, ls=ls, label=kind.name)
    scales.log_axis(axes.yaxis, "test errors (images)")
    axes.set_xticks(shifted.PIXELS)
    axes.set_xlabel("shift of the test images (pixels, mean over eight directions)")
    of_students = [len(kind.errors) for kind in kinds if not kind.name.startswith("teacher")]
    config = results.identity["config"]
    what = f"Errors on shifted digits: students of {config['width']} units per layer, T = {number(results.temperature)}"
    return style.finish(figure, f"{what}; means of {seeds_of(of_students)}", _where(results))


def _where(results: MnistResults) -> str:
    data = results.identity["data"]
    test = "" if "test images" in data["description"] else f", {data['test_images']:,} test"
    return data["description"] + test


def _of_whom(results: MnistResults, teachers: int) -> str:
    """Whose soft targets they are, where that is not the paper's kind of teacher."""
    whose = "a teacher" if teachers == 1 else "teachers"
    return f" of {whose}{results.of_which_images}" if results.of_which_images else ""
