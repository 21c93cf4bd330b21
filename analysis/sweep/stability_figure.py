"""The figure of `analysis.stability`: fluctuation and churn against T, with those of hard labels."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import stats, style, temperature_plot, wording
from analysis.sweep import stability
from analysis.sweep.run import load
from kdjax.files import read_json

LABELS = {"fluctuation": "fluctuation (points)", "churn": "churn (% of the images)"}
KEYS = ["width", "learning_rate", "objective", "soft_weight"]
"""What names a curve."""


@style.applied()
def draw(folder: Path) -> list[Path]:
    """Draws the measures of a sweep's runs into its folder `figures`; returns the files written.

    Raises:
        BadInput: as `stability.measure`.
    """
    return style.save_all(folder, {"stability": figure_of(folder)})


def figure_of(folder: Path) -> Figure | None:
    """The figure of a sweep's run directory; None where there is nothing but hard labels and objectives without a
    temperature."""
    measured, sweep = stability.measure(folder), load(folder)
    soft, hard = (measured[measured["objective"].ne("hard") == is_soft] for is_soft in (True, False))
    axis = temperature_plot.TemperatureAxis(soft["temperature"].tolist())
    if not axis.temperatures:
        return None
    targets = read_json(folder / "config.json")["identity"]["config"].get("targets", "teacher")
    figure = style.figure(6.8, 3.6)
    for axes, column in zip(figure.subplots(1, 2), LABELS, strict=True):
        _panel(axes, axis, column, soft, hard, targets)
        axis.dress(axes, crowded=0.09)
        axes.set_ylabel(LABELS[column])
        axes.set_ylim(bottom=0)
    what = (
        "Fluctuation from epoch to epoch, second half of the epochs, constant learning rate: standard deviation of the "
        "change of accuracy (left), predictions that changed since the epoch before (right)"
    )
    return style.finish(figure, f"{what}{style.of_runs(sweep.several)}", sweep.where)


def _panel(
    axes: Axes,
    axis: temperature_plot.TemperatureAxis,
    column: str,
    soft: pd.DataFrame,
    hard: pd.DataFrame,
    targets: str,
) -> None:
    """One measure: a curve for each kind of student, and a level for hard labels of each width and rate."""
    varying = [name for name in ("width", "learning_rate") if soft[name].nunique() > 1]
    levels = list(hard.groupby(["width", "learning_rate"]))
    for index, (_, rows) in enumerate(levels):
        ls, colour = ("--", ":", "-.")[index % 3], style.GREY if len(levels) == 1 else style.colour(index)
        mean = stats.interval(rows[column].to_numpy(np.float64))
        label = ", ".join(wording.in_words(rows.iloc[0], ["objective", *varying]))
        style.band(axes, *mean[:3], colour=colour, ls=ls, label=label)
    groups = list(soft.groupby(KEYS))
    for index, (_, rows) in enumerate(groups):
        setting = rows.iloc[0]
        by_temperature = rows.groupby("temperature", dropna=False)
        means = {t: stats.interval(of_t[column].to_numpy(np.float64)) for t, of_t in by_temperature}
        name = stability.name(setting["objective"], setting["soft_weight"], targets)
        label = ", ".join([name, *wording.in_words(setting, varying)])
        temperature_plot.estimates(axes, axis, means, label=label, index=index, nudge=axis.nudge(index, len(groups)))
