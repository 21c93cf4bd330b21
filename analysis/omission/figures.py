"""The figures of an omission run, from what `plot_omit_digit.load` reads: each function draws one, or none."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import LogLocator
from scipy.special import softmax

from analysis import style, tables
from analysis.omission.table import CORRECTIONS, STUDENTS, shown, summarise
from kdjax import bias

if TYPE_CHECKING:
    from analysis.plot_omit_digit import Run

COLOURS = {"distilled": 0, "control": 1, "permuted": 3, "mean_logit": 5, "all_digits": 2, "with_pool": 4}
"""Each student's place in the palette, the same in every figure."""
MARKS = {"oracle": "*", "validation": "s", "label_free": "o", "seen_only": "^"}
FLOOR = 0.5
"""Errors: no error at all has no logarithm, and is drawn here."""
SHOWN_T = 1.0
"""Temperature of the soft predictions under the images."""


def against_bias(run: "Run") -> Any:
    """Errors against bias, all and on the omitted classes, with the biases that were chosen and what they score."""
    task = run.tasks[0]
    described = shown(task, run.data)
    distilled = run.of(task, "distilled", "oracle")
    if not len(distilled):
        return None
    chosen = {name: run.of(task, "distilled", name) for name in MARKS}
    top = max(rows["bias"].max() for rows in chosen.values() if len(rows))
    grid = np.linspace(-0.35 * max(top, 1.0), 2.2 * max(top, 1.0), 241)
    figure = style.figure(5.6, 5.6)
    panels = figure.subplots(2, 1, sharex=True)
    for student in ("distilled", "control"):
        curves = [_along(run, row, task, grid) for _, row in run.of(task, student, "none").iterrows()]
        if not curves:
            continue
        stack, colour = np.array(curves).clip(min=FLOOR), style.PALETTE[COLOURS[student]]
        for axes, values in zip(panels, stack.swapaxes(0, 1), strict=True):
            label = STUDENTS[student].format(shown=described)
            axes.plot(grid, values.mean(axis=0), color=colour, label=label, ls="-" if student == "distilled" else "--")
            if len(values) > 1:
                axes.fill_between(grid, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)
    everything = run.of(task, "all_digits", "none")
    for axes, column in zip(panels, ("test_errors", "omitted_errors"), strict=True):
        axes.axvline(0, color=style.GREY, lw=0.8, zorder=0.8)
        if len(everything):
            level: dict[str, Any] = {
                "colour": style.PALETTE[COLOURS["all_digits"]],
                "ls": ":",
                "label": STUDENTS["all_digits"],
            }
            style.band(axes, everything[column].mean(), math.nan, math.nan, **level)
        for index, (name, rows) in enumerate(chosen.items()):
            if len(rows):
                chosen_bias = f"{rows['bias'].mean():+.2f}".replace("-", "−")
                label = f"{CORRECTIONS[name]}: b = {chosen_bias}"
                # Open marks of four shapes: they often lie on one another.
                look: dict[str, Any] = {"mfc": "none", "mew": 1.8, "ms": (13, 8, 9, 10)[index], "zorder": 3}
                axes.plot(
                    rows["bias"].mean(),
                    max(rows[column].mean(), FLOOR),
                    ls="",
                    marker=MARKS[name],
                    color=style.PALETTE[(6, 3, 1, 2)[index]],
                    label=label,
                    **look,
                )
    panels[0].set_ylabel("test errors (images, log)")
    panels[1].set_ylabel("on omitted classes (log)" if " " in task else f"on class {described.split()[-1]} (log)")
    for axes in panels:  # a control that knows nothing of a digit has ten times the errors
        style.log_axis(axes)
    kept = described.removeprefix("on ").removesuffix(" alone")
    lowered = f"by how much the logits of {kept} are lowered"
    panels[1].set_xlabel(lowered if described.startswith("on ") else "bias added to the omitted logit")
    style.legend(figure)
    what = f"Students {described}: errors against the bias, T = {tables.number(run.temperature)}{_spread(run)}"
    style.title(figure, what, run.where)
    return figure


def classes(run: "Run") -> Any:
    """Errors on each class before and after correction, beside those of the student that saw all classes."""
    task = run.tasks[0]
    after = "label_free"
    series: list[tuple[str, Any, dict[str, Any]]] = [
        ("before correction", run.of(task, "distilled", "none"), {"color": style.PALETTE[0], "mfc": "white"}),
        ("label-free", run.of(task, "distilled", after), {"color": style.PALETTE[0]}),
        ("oracle", run.of(task, "distilled", "oracle"), {"color": "black", "mfc": style.PALETTE[5]}),
        (STUDENTS["all_digits"], run.of(task, "all_digits", "none"), {"color": style.PALETTE[2]}),
    ]
    markers = ("o", "o", "*", "D")
    names, omitted = run.data["class_names"], {int(value) for value in task.split()}
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
    axes.set_xlabel("test errors on images of the class (logarithmic above 10)")
    style.legend(figure)
    described = shown(task, run.data)
    what = f"Errors by class of students {described}, T = {tables.number(run.temperature)}: means over seeds"
    style.title(figure, what, run.where)
    return figure


def taken_for(run: "Run") -> Any:
    """What test images of the omitted classes are taken for: per cent, before and after, distilled and control."""
    task = run.tasks[0]
    omitted = [int(value) for value in task.split()]
    names = run.data["class_names"]
    found = list(_confusions(run, task, omitted))
    panels_of: list[tuple[str, np.ndarray, list[str]]]
    if len(omitted) == 1:  # one panel, a row a student
        panels_of = [("", np.concatenate([table for _, table in found]), [label for label, _ in found])]
    else:
        panels_of = [(label, table, [names[value] for value in omitted]) for label, table in found]
    across = 1 if len(panels_of) == 1 else 3
    down = -(-len(panels_of) // across)
    height = 0.36 * len(panels_of[0][1]) * down + 1.0 + 0.5 * down
    figure = style.figure(6.4 if across == 1 else 10.2, height)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (label, table, rows) in zip(panels, panels_of, strict=False):
        axes.grid(False)
        axes.imshow(table, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (i, j), share in np.ndenumerate(table):
            if share >= 0.05:
                text = f"{share:.0f}" if share >= 9.95 or across > 1 else f"{share:.1f}"
                text = "<1" if text == "0" else text
                axes.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if share > 55 else "black")
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        axes.set_title(label, loc="left")
        for value in omitted:
            axes.get_xticklabels()[value].set(color=style.PALETTE[1], fontweight="bold")
    for axes in panels[len(panels_of) :]:
        axes.set_axis_off()
    figure.supxlabel("taken for", fontsize=11)
    described = shown(task, run.data)
    what = f"What omitted classes are taken for (%, means over seeds), students {described}"
    style.title(figure, f"{what}, T = {tables.number(run.temperature)}", run.where)
    return figure


def strip(run: "Run") -> Any:
    """Test images of omitted digits, and under each the soft prediction of a student that never saw such a digit."""
    classes = run.labels[run.example_rows]
    chosen: list[tuple[int, str]] = []
    for task in run.tasks:
        mine = [index for index, value in enumerate(classes) if str(value) in task.split()]
        if len(run.tasks) > 1:
            mine = mine[:1]
        elif " " in task:  # the first of each class, then the second, …
            mine.sort(key=lambda index: (list(classes[:index]).count(classes[index]), classes[index]))
        chosen += [(index, task) for index in mine]
    chosen = chosen[: 10 if len(run.tasks) > 1 else 8]
    names = run.data["class_names"]
    figure = style.figure(1.05 * len(chosen) + 0.6, 4.2)
    panels = figure.subplots(2, len(chosen), squeeze=False, height_ratios=[1, 1.9])
    for (top, below), (index, task) in zip(panels.T, chosen, strict=True):
        omitted = [int(value) for value in task.split()]
        row = run.of(task, "distilled", "none").iloc[0]
        after = run.of(task, "distilled", "label_free")
        logits = run.logits(row)[run.example_rows[index]][None].astype(float)
        image = run.example_images[index]
        top.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray_r")
        top.set_axis_off()
        before = int(bias.answers(logits, omitted, 0.0)[0])
        says = [before]
        if len(after):
            says.append(int(bias.answers(logits, omitted, after.iloc[0]["bias"])[0]))
        top.set_title(" → ".join(names[value] for value in says), fontsize=11)
        colours = [style.PALETTE[1] if value in omitted else style.PALETTE[0] for value in range(len(names))]
        below.barh(range(len(names)), softmax(logits[0] / SHOWN_T), color=colours)
        below.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xticks=[0, 1])
        below.set_yticks(range(len(names)), names if below is panels[1][0] else [""] * len(names))
        below.tick_params(axis="y", length=0)
    figure.supxlabel("the student's soft prediction before correction, T = 1: probability of each class", fontsize=10.5)
    what = "Digits that the student never saw (orange), seed 0; above: its answer before → after label-free correction"
    style.title(figure, what, run.where)
    return figure


def temperatures(run: "Run") -> Any:
    """Errors, and per cent of the omitted classes right, against T: before and after correction."""
    rows = summarise(run.results)
    axis = style.TemperatureAxis(run.results["temperature"].tolist())
    figure = style.figure(5.6, 6.0)
    panels = figure.subplots(2, 1, sharex=True)
    lines = {"none": "before correction", "label_free": "label-free", "oracle": "oracle", "seen_only": "seen only"}
    series = [("distilled", correction, label) for correction, label in lines.items()]
    series.append(("all_digits", "none", STUDENTS["all_digits"]))
    for index, (student, correction, label) in enumerate(series):
        mine = [row for row in rows if (row.student, row.correction) == (student, correction)]
        for axes, name in zip(panels, ("errors", "right"), strict=True):
            found = [getattr(row, name) for row in mine]
            most = 100.0 if name == "right" else math.inf  # a t interval knows nothing of 0 and 100 %
            values = [np.clip([getattr(one, part) for one in found], 0, most) for part in ("mean", "low", "high")]
            look: dict[str, Any] = {"label": label, "index": index, "nudge": axis.nudge(index, len(series))}
            if mine:
                style.curve(axes, axis, [row.temperature for row in mine], *values, **look)
    panels[0].set_ylabel("test errors (images)")
    described = shown(run.tasks[0], run.data)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylabel("of the omitted right (%)")
    panels[1].set_ylim(-2, 102)
    axis.dress(panels[0], label=False)
    axis.dress(panels[1])
    style.legend(figure)
    style.title(figure, f"The temperature's role, students {described}: mean, 95 % t interval", run.where)
    return figure


def each(run: "Run") -> Any:
    """A row for each omitted class: errors on it and errors in all, for each correction."""
    rows = summarise(run.results)
    found = {(row.omitted, row.student, row.correction): row for row in rows if row.temperature == run.temperature}
    series: list[tuple[str, str, str, str, dict[str, Any]]] = [
        ("distilled", "none", "before correction", "o", {"color": style.PALETTE[0], "mfc": "white"}),
        ("distilled", "seen_only", "seen only", "^", {"color": "black", "mfc": style.PALETTE[6]}),
        ("distilled", "label_free", "label-free", "o", {"color": style.PALETTE[0]}),
        ("distilled", "oracle", "oracle", "*", {"color": "black", "mfc": style.PALETTE[5], "ms": 11}),
        ("control", "oracle", "hard labels, oracle", "X", {"color": style.PALETTE[1]}),
        ("all_digits", "none", STUDENTS["all_digits"], "D", {"color": style.PALETTE[2]}),
    ]
    names = [shown(task, run.data).removeprefix("without ") for task in run.tasks]
    figure = style.figure(7.2, 1.5 + 0.42 * len(names))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("omitted_errors", "errors"), strict=True):
        for index, (student, correction, label, marker, look) in enumerate(series):
            for at, task in enumerate(run.tasks):
                row = found.get((task, student, correction))
                if row is not None:
                    y = at + 0.11 * (index - 2.5)
                    axes.plot(max(getattr(row, name).mean, FLOOR), y, ls="", marker=marker, label=label, **look)
        for at in range(len(names) - 1):
            axes.axhline(at + 0.5, color="#E4E4E4", lw=0.8, zorder=0.5)
        axes.grid(False, axis="y")
        axes.set_xscale("log")  # a control that knows nothing of a digit has ten times the errors
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    panels[0].set_ylabel("omitted class")
    panels[0].set_xlabel("errors on its test images (log)")
    panels[1].set_xlabel("test errors in all (log)")
    style.legend(figure)
    style.title(
        figure, f"Each class omitted in turn, T = {tables.number(run.temperature)}: means over seeds", run.where
    )
    return figure


def _confusions(run: "Run", task: str, omitted: list[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Student and correction in words, and per cent `[omitted, classes]`: rows are what an image is."""
    count = len(run.data["class_names"])
    for student, name in (("distilled", "distilled"), ("control", "hard labels")):
        for correction in ("none", "label_free", "oracle"):
            shares = []
            for _, row in run.of(task, student, correction).iterrows():
                said = bias.answers(run.logits(row), omitted, row["bias"])
                table = np.zeros((count, count))
                np.add.at(table, (run.labels, said), 1)
                shares.append(100 * table[omitted] / table[omitted].sum(axis=1, keepdims=True))
            if shares:
                after = "before correction" if correction == "none" else CORRECTIONS[correction]
                yield f"{name}, {after}", np.mean(shares, axis=0)


def _along(run: "Run", row: Any, task: str, grid: np.ndarray) -> np.ndarray:
    """Errors in all and on the omitted classes at each bias of the grid, `[2, biases]`, for one student."""
    omitted = [int(value) for value in task.split()]
    inside, outside, lead = bias.sides(run.logits(row), omitted)
    of_omitted = np.isin(run.labels, omitted)
    wrong = np.where(grid[:, None] > lead[None], inside[None] != run.labels[None], outside[None] != run.labels[None])
    return np.stack([wrong.sum(axis=1), wrong[:, of_omitted].sum(axis=1)])


def _spread(run: "Run") -> str:
    return " (mean; least to most over seeds)" if run.results["seed"].nunique() > 1 else " (one seed)"
