"""The figures of an omission run: errors against bias, by class, by temperature."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import scales, style, temperature_plot
from analysis.omission import predictions
from analysis.omission.rows import CORRECTIONS, STUDENTS, summarise
from analysis.omission.run import OmissionResults, load, name_task
from analysis.tables import fixed, number
from kdjax import bias
from kdjax.errors import require

COLOURS = {"distilled": 0, "control": 1, "all_digits": 2}
"""Each student's place in the palette, the same in every figure."""
MARKS = {"oracle": ("*", 13, 6), "validation": ("s", 8, 3), "label_free": ("o", 9, 1), "seen_only": ("^", 10, 2)}
"""Each correction's marker, its size and its place in the palette; open, as they often lie on one another."""
FLOOR = 0.5
"""Errors: no error at all has no logarithm, and is drawn here."""
NO_ERROR = f"; no error at all is drawn at {FLOOR:g}"


@style.applied()
def draw(folder: Path) -> list[Path]:
    """Draws every figure of a run directory into its folder `figures`; returns the files written.

    Raises:
        BadInput: `folder` is no run directory, what is in it is damaged, or no distilled student is finished yet.
    """
    results = load(folder)
    distilled = results.rows["student"].eq("distilled").any()
    require(distilled, f"{folder} holds no distilled student yet: let the experiment finish further blocks")
    one = len(results.tasks) == 1
    # A run under way may have had one task.
    names = ("errors_against_bias", "errors_by_class", "taken_for", "each", "errors_against_temperature")
    figures: dict[str, Figure | None] = {"soft_predictions": predictions.strip(results), **dict.fromkeys(names)}
    if one:
        figures |= {"errors_against_bias": against_bias(results), "errors_by_class": classes(results)}
        figures |= {"taken_for": predictions.taken_for(results)}
    else:
        figures["each"] = each(results)
    if one and results.rows["temperature"].nunique() > 1:
        figures["errors_against_temperature"] = temperatures(results)
    return style.save_all(folder, figures)


def against_bias(results: OmissionResults) -> Figure | None:
    """Errors against bias, all and on the omitted classes, with the biases that were chosen and what they score."""
    task = results.tasks[0]
    described = name_task(task, results.data)
    distilled = results.of(task, "distilled", "oracle")
    if not len(distilled):
        return None
    chosen = {name: results.of(task, "distilled", name) for name in MARKS}
    top = max(rows["bias"].max() for rows in chosen.values() if len(rows))
    grid = np.linspace(-0.35 * max(top, 1.0), 2.2 * max(top, 1.0), 241)
    figure = style.figure(5.6, 6.4)
    panels, floor = figure.subplots(2, 1, sharex=True), ""
    for student in ("distilled", "control"):
        curves = [_along(results, row, task, grid) for _, row in results.of(task, student, "none").iterrows()]
        if not curves:
            continue
        stack, colour = np.array(curves), style.PALETTE[COLOURS[student]]
        floor = NO_ERROR if np.min(curves) < FLOOR else floor
        for axes, values in zip(panels, stack.swapaxes(0, 1), strict=True):
            label = STUDENTS[student].format(shown=described)
            mean, low, high = (of(axis=0).clip(min=FLOOR) for of in (values.mean, values.min, values.max))
            axes.plot(grid, mean, color=colour, label=label, ls="-" if student == "distilled" else "--")
            if len(values) > 1:
                axes.fill_between(grid, low, high, color=colour, alpha=0.15, lw=0)
    all_digits = results.of(task, "all_digits", "none")
    for axes, column in zip(panels, ("test_errors", "omitted_errors"), strict=True):
        axes.axvline(0, color=style.GREY, lw=0.8, zorder=0.8)
        if len(all_digits):
            colour, label = style.PALETTE[COLOURS["all_digits"]], STUDENTS["all_digits"]
            style.band(
                axes, max(all_digits[column].mean(), FLOOR), math.nan, math.nan, colour=colour, ls=":", label=label
            )
        for name, rows in chosen.items():
            if len(rows):
                label = f"{CORRECTIONS[name]}: b = {fixed(rows['bias'].mean(), 2, sign=True)}"
                marker, size, index = MARKS[name]
                look: dict[str, Any] = {"mfc": "none", "mew": 1.8, "ms": size, "zorder": 3}
                look |= {"marker": marker, "color": style.PALETTE[index], "label": label}
                axes.plot(rows["bias"].mean(), max(rows[column].mean(), FLOOR), ls="", **look)
    on = "on omitted classes" if " " in task else f"on class {described.removeprefix('without ')}"
    # A control that knows nothing of a digit has ten times the errors.
    scales.log_axis(panels[0].yaxis, "test errors (images)")
    scales.log_axis(panels[1].yaxis, f"test errors {on}")
    shown = described.removeprefix("on ").removesuffix(" alone")
    lowered = f"by how much the logits of {shown} are lowered"
    panels[1].set_xlabel(lowered if described.startswith("on ") else "bias added to the omitted logit")
    spread = style.of_runs(results.several, " (mean; least to most over seeds)")
    what = f"Students {described}: errors against the bias, T = {number(results.temperature)}{spread}{floor}"
    return style.finish(figure, what, results.where)


def classes(results: OmissionResults) -> Figure:
    """Errors on each class before and after correction, beside those of the student that saw all classes."""
    task = results.tasks[0]
    series: list[tuple[str, Any, dict[str, Any]]] = [
        ("before correction", results.of(task, "distilled", "none"), {"color": style.PALETTE[0], "mfc": "white"}),
        ("label-free", results.of(task, "distilled", "label_free"), {"color": style.PALETTE[0]}),
        ("oracle", results.of(task, "distilled", "oracle"), {"color": "black", "mfc": style.PALETTE[5]}),
        (STUDENTS["all_digits"], results.of(task, "all_digits", "none"), {"color": style.PALETTE[2]}),
    ]
    markers = ("o", "o", "*", "D")
    names, omitted = results.data["class_names"], {int(value) for value in task.split()}
    figure = style.figure(5.6, 1.5 + 0.34 * len(names))
    axes = figure.subplots()
    for index, ((label, rows, look), marker) in enumerate(zip(series, markers, strict=True)):
        if len(rows):
            counts = [rows[f"class_{value}_errors"].mean() for value in range(len(names))]
            y = np.arange(len(names)) + 0.16 * (index - 1.5)
            axes.plot(counts, y, ls="", marker=marker, ms=10 if marker == "*" else 6, label=label, **look)
    for value in omitted:
        axes.axhspan(value - 0.5, value + 0.5, color=style.PALETTE[1], alpha=0.12, lw=0, zorder=0.5)
    axes.set_yticks(range(len(names)), [f"{name} (omitted)" if i in omitted else name for i, name in enumerate(names)])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(-0.4, 1.3 * axes.get_xlim()[1])
    ticks = [0, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    axes.set_xticks([tick for tick in ticks if tick <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_ylabel("class")
    axes.set_xlabel("test errors on images of the class (log scale above 10)")
    described = name_task(task, results.data)
    what = f"Errors by class of students {described}, T = {number(results.temperature)}"
    return style.finish(figure, f"{what}{results.means}", results.where)


def temperatures(results: OmissionResults) -> Figure:
    """Errors, and per cent of the omitted classes right, against T: before and after correction."""
    rows = summarise(results.rows)
    axis = temperature_plot.TemperatureAxis(results.rows["temperature"].tolist())
    figure = style.figure(5.6, 6.0)
    panels = figure.subplots(2, 1, sharex=True)
    lines = {"none": "before correction", "label_free": "label-free", "oracle": "oracle", "seen_only": "seen only"}
    series = [("distilled", correction, label) for correction, label in lines.items()]
    series.append(("all_digits", "none", STUDENTS["all_digits"]))
    for index, (student, correction, label) in enumerate(series):
        of_line = [row for row in rows if (row.student, row.correction) == (student, correction)]
        for axes, name in zip(panels, ("errors", "right"), strict=True):
            most = 100.0 if name == "right" else math.inf  # a t interval knows nothing of 0 and 100 %
            values = np.clip([getattr(row, name)[:3] for row in of_line], 0, most).T
            look: dict[str, Any] = {"label": label, "index": index, "nudge": axis.nudge(index, len(series))}
            if of_line:
                temperature_plot.curve(axes, axis, [row.temperature for row in of_line], *values, **look)
    panels[0].set_ylabel("test errors (images)")
    described = name_task(results.tasks[0], results.data)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylabel("accuracy on omitted classes (%)")
    panels[1].set_ylim(-2, 102)
    axis.dress(panels[0], label=False)
    axis.dress(panels[1])
    what = f"The temperature's role, students {described}{style.of_runs(results.several)}"
    return style.finish(figure, what, results.where, reading="Test errors, and accuracy on the omitted classes.")


def each(results: OmissionResults) -> Figure:
    """A row for each omitted class: errors on it and errors in all, for each correction."""
    rows = summarise(results.rows)
    by_key = {(row.omitted, row.student, row.correction): row for row in rows if row.temperature == results.temperature}
    series: list[tuple[str, str, str, str, dict[str, Any]]] = [
        ("distilled", "none", "before correction", "o", {"color": style.PALETTE[0], "mfc": "white"}),
        ("distilled", "seen_only", "seen only", "^", {"color": "black", "mfc": style.PALETTE[6]}),
        ("distilled", "label_free", "label-free", "o", {"color": style.PALETTE[0]}),
        ("distilled", "oracle", "oracle", "*", {"color": "black", "mfc": style.PALETTE[5], "ms": 11}),
        ("control", "oracle", "hard labels, oracle", "X", {"color": style.PALETTE[1]}),
        ("all_digits", "none", STUDENTS["all_digits"], "D", {"color": style.PALETTE[2]}),
    ]
    names = [name_task(task, results.data).removeprefix("without ") for task in results.tasks]
    figure = style.figure(7.2, 1.5 + 0.42 * len(names))
    panels = figure.subplots(1, 2, sharey=True)
    floor = ""
    for axes, name in zip(panels, ("omitted_errors", "errors"), strict=True):
        for index, (student, correction, label, marker, look) in enumerate(series):
            for at, task in enumerate(results.tasks):
                row = by_key.get((task, student, correction))
                if row is not None:
                    mean, y = getattr(row, name).mean, at + 0.11 * (index - 2.5)
                    floor = NO_ERROR if mean < FLOOR else floor
                    axes.plot(max(mean, FLOOR), y, ls="", marker=marker, label=label, **look)
        for at in range(len(names) - 1):
            axes.axhline(at + 0.5, color="#E4E4E4", lw=0.8, zorder=0.5)
        axes.grid(False, axis="y")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    panels[0].set_ylabel("omitted class")
    # A control that knows nothing of a digit has ten times the errors.
    scales.log_axis(panels[0].xaxis, "errors on its test images")
    scales.log_axis(panels[1].xaxis, "test errors in all")
    style.legend(figure)
    what = f"Each class omitted in turn, T = {number(results.temperature)}{results.means}"
    style.title(figure, f"{what}{floor}", results.where)
    return figure


def _along(results: OmissionResults, row: pd.Series, task: str, grid: np.ndarray) -> np.ndarray:
    """Errors in all and on the omitted classes at each bias of the grid, `[2, biases]`, for one student."""
    omitted = [int(value) for value in task.split()]
    inside, outside, lead = bias.sides(results.logits(row), omitted)
    of_omitted = np.isin(results.labels, omitted)
    wrong = np.where(
        grid[:, None] > lead[None], inside[None] != results.labels[None], outside[None] != results.labels[None]
    )
    return np.stack([wrong.sum(axis=1), wrong[:, of_omitted].sum(axis=1)])
