"""The figures of learning curves: errors against epochs."""

import pandas as pd
from matplotlib.figure import Figure

from analysis import runs, scales, style, temperature_plot, wording
from analysis.sweep.run import SweepResults
from analysis.tables import number
from analysis.temperature_plot import TemperatureAxis
from kdjax.objectives import is_compared, words_of

FLOOR = 0.01
"""Per cent: smaller training errors, and none at all, which has no logarithm, are drawn here."""
HALF = 0.5
"""The same of errors that are counted."""


def draw(sweep: SweepResults) -> dict[str, Figure]:
    """Errors against epochs, one row per width, one colour per T; a figure for each objective, weight and rate."""
    history = sweep.history
    soft = history[history["objective"].map(is_compared).astype(bool)]  # of none it would be a mask of objects
    names = ["objective", "soft_weight", "learning_rate"]
    grid = soft[names].drop_duplicates()
    varying = [name for name in names if grid[name].nunique() > 1]
    figures = {}
    for objective, weight, rate in grid.itertuples(index=False) if len(grid) else []:
        of_weight = history["objective"].eq(objective) & history["soft_weight"].eq(weight)
        shown = history[history["learning_rate"].eq(rate) & (of_weight | history["objective"].eq("hard"))]
        setting = {"objective": objective, "soft_weight": weight, "learning_rate": rate}
        stem = {"objective": objective, "soft_weight": f"weight{weight:g}", "learning_rate": f"rate{rate:g}"}
        named = [*["objective"] * (objective != "kd" and "objective" not in varying), *varying]
        details = f" ({', '.join(wording.in_words(setting, named))})" if named else ""
        below = (shown["transfer_error_rate"] < FLOOR / 100).any()
        floor = f"; training errors under {FLOOR:g} %, and none at all, are drawn at {FLOOR:g} %" * bool(below)
        fewer = (shown.groupby([*runs.SETTING, "epoch"], dropna=False)["monitor_errors"].mean() < HALF).any()
        floor += f"; a mean of fewer errors than {HALF:g} is drawn at {HALF:g}" * bool(fewer)
        figure = _learning_curves(shown, TemperatureAxis(sweep.temperatures).temperatures, sweep.examples, sweep.unit)
        style.finish(figure, f"Learning curves{details}{': mean over runs' * sweep.several}{floor}", sweep.where)
        figures["_".join(["learning_curves", *(stem[name] for name in varying)])] = figure
    return figures


def _learning_curves(history: pd.DataFrame, temperatures: list[float], examples: str, unit: str) -> Figure:
    widths = sorted(history["width"].unique())
    monitor = "hold-out" if "holdout" in set(history["monitor"]) else "test"
    figure = style.figure(6.8, 0.9 + 2.7 * len(widths))
    panels = figure.subplots(len(widths), 2, sharex=True, squeeze=False)
    for (left, right), width in zip(panels, widths, strict=True):
        of_width = history[history["width"] == width]
        none = of_width["objective"].map({"hard": runs.HARD}).fillna(runs.NONE)
        for t, rows in of_width.assign(temperature=of_width["temperature"].fillna(none)).groupby("temperature"):
            look = {"color": "black", "ls": "--", "label": "hard labels"}
            if t == runs.NONE:
                look = {"color": style.PALETTE[0], "label": words_of(str(rows["objective"].iloc[0]))}
            elif t != runs.HARD:
                look = {"color": temperature_plot.shade(t, temperatures), "label": f"T = {number(t)}"}
            error_rate = 100 * rows.groupby("epoch")["transfer_error_rate"].mean()
            left.plot(error_rate.index, error_rate.clip(lower=FLOOR), lw=1.4, **look)
            monitored = rows.dropna(subset="monitor_errors").groupby("epoch")["monitor_errors"].mean()
            right.plot(monitored.index, monitored.clip(lower=HALF), lw=1.4, marker=".", ms=5, **look)
        scales.log_axis(left.yaxis, "training errors (%)")
        scales.log_axis(right.yaxis, f"{monitor} errors ({examples})")
        left.set_title(f"{width} {unit}", loc="left")
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure
