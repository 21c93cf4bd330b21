"""The figure of softening: a test image, the teacher's soft targets of it, and their mean entropy against T."""

import math

import numpy as np
from matplotlib.figure import Figure
from scipy.special import softmax

from analysis import style, temperature_plot
from analysis.sweep.run import SweepResults
from analysis.tables import number
from analysis.temperature_plot import TemperatureAxis
from kdjax import metrics
from kdjax.objectives import is_compared, registered


def draw(sweep: SweepResults, image: int | None = None) -> Figure | None:
    """A test image, its soft targets from the lowest T to the highest, and the mean entropy against T."""
    axis = TemperatureAxis(sweep.temperatures)
    if not axis.temperatures or not len(sweep.example_rows):
        return None
    which = most_ambiguous(sweep) if image is None else image
    logits = sweep.teacher_logits[sweep.example_rows[which]].astype(float)
    classes = np.sort(np.argsort(-logits)[:10])
    shown = axis.spread(7)
    figure = style.figure(6.8, 5.2)
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 1.15])
    top, bottom = (figure.add_subfigure(grid[row]) for row in range(2))
    pixels, label = sweep.example_images[which], sweep.class_names[sweep.labels[sweep.example_rows[which]]]
    pictured = pixels.ndim > 1  # features cannot be looked at
    panels = top.subplots(1, pictured + len(shown), width_ratios=[2.3] * pictured + [1] * len(shown), squeeze=False)[0]
    if pictured:
        panels[0].imshow(pixels if pixels.shape[-1] == 3 else pixels[..., 0], cmap="gray_r")
        panels[0].set_axis_off()
        panels[0].set_title(f"labelled {label}")
    bars = panels[int(pictured) :]
    for axes, temperature in zip(bars, shown, strict=True):
        shares = softmax(logits / temperature)[classes]
        axes.barh(np.arange(len(classes)), shares, color=style.PALETTE[0])
        named = [sweep.class_names[c] if axes is bars[0] else "" for c in classes]
        axes.set_yticks(np.arange(len(classes)), named, fontsize=8.5)
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1.08 * shares.max()), ylim=(len(classes) - 0.4, -0.6))
        axes.set_xticks([0, shares.max()], ["0", f"{shares.max():.2f}"])
        axes.set_title(f"T = {number(temperature)}")
    top.supxlabel("the teacher's soft target: probability of each class (each T has its own scale)", fontsize=10.5)
    axes = bottom.subplots()
    soft = sweep.results[sweep.results["temperature"].notna()]
    compared = soft["objective"].map(is_compared).astype(bool)
    soft = soft[compared] if compared.any() else soft  # else controls alone were trained
    own = soft["objective"].map(_has_own_target).astype(bool)  # logit_standardization softens other logits
    soft = soft[soft["objective"].eq(soft["objective"].iloc[0])] if own.all() else soft[~own]
    entropies = soft.groupby("temperature")["soft_target_entropy"].mean()
    temperature_plot.curve(axes, axis, list(entropies.index), entropies, *[np.full(len(entropies), math.nan)] * 2)
    uniform = math.log(len(logits))
    style.band(axes, uniform, math.nan, math.nan)
    text = f"ln {len(logits)}: uniform targets"
    axes.annotate(text, (0.01, uniform), (0, 5), axes.get_yaxis_transform(), "offset points")
    axis.dress(axes)
    axes.set_ylabel("mean entropy of the\nsoft targets (nats)")
    axes.set_ylim(0, 1.25 * uniform)
    row = sweep.example_rows[which]
    of = f"test image {row}" if pictured else f"row {row} of the test part, labelled {label}"
    what = f"Softening: the teacher's soft targets of {of}; below, the mean entropy of what students learned from"
    reading = (
        "As T grows, the probabilities of the classes become alike: the entropy of equal shares is the dashed line."
    )
    style.title(figure, what, sweep.where, reading=reading + axis.stretch)
    return figure


def most_ambiguous(sweep: SweepResults) -> int:
    """Of the example images that the teacher gets right, the one it finds most ambiguous at T = 4."""
    logits, labels = sweep.teacher_logits[sweep.example_rows], sweep.labels[sweep.example_rows]
    right = logits.argmax(axis=1) == labels
    entropies = np.array([metrics.entropy(row[None], 4.0) for row in logits])
    return int(np.argmax(entropies * (right | ~right.any())))


def _has_own_target(objective: str) -> bool:
    """Whether students of it learn from something else than the teacher's soft targets."""
    entry = registered(objective)
    return entry is not None and entry.target is not None
