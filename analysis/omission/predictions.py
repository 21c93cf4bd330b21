"""What students predict for omitted classes: the classes they are mistaken for, and soft predictions of some images."""

from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from scipy.special import softmax

from analysis import style
from analysis.omission.rows import CORRECTIONS
from analysis.omission.run import OmissionResults, name_task
from analysis.tables import number
from kdjax import bias


def taken_for(results: OmissionResults) -> Figure | None:
    """What test images of the omitted classes are taken for: per cent, before and after, distilled and control. None
    where none of these finished."""
    task = results.tasks[0]
    omitted = [int(value) for value in task.split()]
    names = results.data["class_names"]
    confusions = list(_confusions(results, task, omitted))
    if not confusions:
        return None
    panels_of: list[tuple[str, np.ndarray, list[str]]]
    if len(omitted) == 1:  # one panel, a row a student
        panels_of = [("", np.concatenate([table for _, table in confusions]), [label for label, _ in confusions])]
    else:
        panels_of = [(label, table, [names[value] for value in omitted]) for label, table in confusions]
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
    described = name_task(task, results.data)
    what = f"What omitted classes are taken for (%), students {described}, T = {number(results.temperature)}"
    style.title(figure, f"{what}{results.means}", results.where)
    return figure


def strip(results: OmissionResults) -> Figure | None:
    """Test images of omitted classes, and under each the soft prediction of a student that never saw such an image.
    None where no distilled student finished."""
    classes = results.labels[results.example_rows]
    chosen: list[tuple[int, str]] = []
    first = {task: rows.iloc[0] for task in results.tasks if len(rows := results.of(task, "distilled", "none"))}
    for task in first:
        of_task = [index for index, value in enumerate(classes) if str(value) in task.split()]
        if len(results.tasks) > 1:
            of_task = of_task[:1]
        elif " " in task:  # the first of each class, then the second, …
            of_task.sort(key=lambda index: (list(classes[:index]).count(classes[index]), classes[index]))
        chosen += [(index, task) for index in of_task]
    chosen = chosen[: 10 if len(results.tasks) > 1 else 8]
    if not chosen:
        return None
    names = results.data["class_names"]
    figure = style.figure(1.05 * len(chosen) + 0.6, 4.2)
    panels = figure.subplots(2, len(chosen), squeeze=False, height_ratios=[1, 1.9])
    for (top, below), (index, task) in zip(panels.T, chosen, strict=True):
        omitted = [int(value) for value in task.split()]
        row, after = first[task], results.of(task, "distilled", "label_free")
        after = after[after["seed"] == row["seed"]]
        logits = results.logits(row)[results.example_rows[index]][None].astype(float)
        image = results.example_images[index]
        top.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray_r")
        top.set_axis_off()
        biases = [0.0, *after["bias"].iloc[:1]]
        predictions = [int(bias.answers(logits, omitted, value)[0]) for value in biases]
        top.set_title(" → ".join(names[value] for value in predictions), fontsize=11)
        colours = [style.PALETTE[1] if value in omitted else style.PALETTE[0] for value in range(len(names))]
        below.barh(range(len(names)), softmax(logits[0]), color=colours)
        below.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xticks=[0, 1])
        below.set_yticks(range(len(names)), names if below is panels[1][0] else [""] * len(names))
        below.tick_params(axis="y", length=0)
    figure.supxlabel("the student's soft prediction before correction, T = 1: probability of each class", fontsize=10.5)
    seeds = ", ".join(map(str, dict.fromkeys(int(row["seed"]) for row in first.values())))
    what = f"Classes that the student never saw (orange), seed {seeds}; above: its answer before → after label-free "
    what += "correction"
    style.title(figure, what, results.where)
    return figure


def _confusions(results: OmissionResults, task: str, omitted: list[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Student and correction in words, and per cent `[omitted, classes]`: rows are what an image is."""
    count = len(results.data["class_names"])
    for student, name in (("distilled", "distilled"), ("control", "hard labels")):
        for correction in ("none", "label_free", "oracle"):
            shares = []
            for _, row in results.of(task, student, correction).iterrows():
                predictions = bias.answers(results.logits(row), omitted, row["bias"])
                table = np.zeros((count, count))
                np.add.at(table, (results.labels, predictions), 1)
                shares.append(100 * table[omitted] / table[omitted].sum(axis=1, keepdims=True))
            if shares:
                after = "before correction" if correction == "none" else CORRECTIONS[correction]
                yield f"{name}, {after}", np.mean(shares, axis=0)
