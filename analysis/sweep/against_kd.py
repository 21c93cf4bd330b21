"""Objectives against soft targets: paired differences of test errors at the same T, and from the best T of `kd`."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import runs, stats, style, temperature_plot, wording
from analysis.runs import RUN
from analysis.tables import Table, bounds, columns_of, fixed, number, p_value
from analysis.wording import NAMES
from kdjax.objectives import is_compared, words_of

KEYS = ["width", "soft_weight", "learning_rate"]


class Row(NamedTuple):
    """One setting of another objective than `kd`."""

    setting: pd.Series
    same: stats.Difference
    """From `kd` at the same T (at each, where the objective has none), soft weight and rate."""
    best: stats.Difference | None
    """From the best `kd` of its width; None where there is none without a failed run."""
    p_holm: float
    """Of the first, adjusted over all rows (Holm)."""


class Comparison(NamedTuple):
    """What a sweep says of its objectives beside `kd`."""

    rows: list[Row]
    best: dict[int, pd.Series]
    """By width, the setting of `kd` with the fewest hold-out errors, or, without a hold-out, test errors."""
    oracle: bool
    """Whether that was chosen on the test set."""

    def table(self) -> Table:
        """As it is printed; empty where there is nothing to compare."""
        varying = [name for name in KEYS[1:] if len({row.setting[name] for row in self.rows}) > 1]
        header = ["units", "objective", "T", *(NAMES[name] for name in varying)]
        header += ["from kd at this T", "its 95 % interval", "p (Holm)", "from the best kd", "95 % interval, best kd"]
        cells = []
        for row in self.rows:
            cell = [str(row.setting["width"]), words_of(row.setting["objective"]), number(row.setting["temperature"])]
            cell += [number(row.setting[name]) for name in varying]
            for one, p in ((row.same, [p_value(row.p_holm)]), (row.best, [])):
                cell += [fixed(one.mean, sign=True), bounds(one, sign=True), *p] if one else ["", "", *[""] * len(p)]
            cells.append(cell)
        settings = [", ".join(wording.in_words(one, [*varying, "temperature"])) for one in self.best.values()]
        at = ", ".join(f"{setting} at {width} units" for setting, width in zip(settings, self.best, strict=True))
        on = "the hold-out, by the runs that are compared, so it is flattered a little"
        on = "the test set itself (oracle), so it is flattered" if self.oracle else on
        notes = ["Differences of test errors, paired by seed; below zero: fewer errors than soft targets."]
        return Table(header, cells, [*notes, *[f"The best kd (chosen on {on}): {at}."] * bool(at)])

    def frame(self) -> pd.DataFrame:
        """For `from_kd.csv`."""
        lines = []
        for row in self.rows:
            best = columns_of("from_best_kd", row.best) if row.best else {}
            lines.append(
                {**row.setting, **columns_of("from_kd", row.same), "p": row.same.p, "p_holm": row.p_holm} | best
            )
        return pd.DataFrame(lines)


def compare(results: pd.DataFrame) -> Comparison:
    """The comparison of a sweep's runs; without rows where there is no `kd`, or nothing beside it."""
    kd = results[results["objective"] == "kd"]
    others = _at_each(results[results["objective"].map(is_compared) & results["objective"].ne("kd")], kd)
    oracle = "holdout_errors" not in kd
    chosen = runs.best(kd, ["width"], "test_errors" if oracle else "holdout_errors")
    best = {int(width): rows for width, rows in chosen.groupby("width")}
    rows = []
    for setting, of_setting in runs.by_setting(others) if len(kd) and len(others) else []:
        same = kd[(kd[[*KEYS, "temperature"]] == setting[[*KEYS, "temperature"]]).all(axis=1)]
        less = runs.difference(of_setting, same.set_index(RUN))
        of_width = best.get(int(setting["width"]))
        if less:
            from_best = runs.difference(of_setting, of_width.set_index(RUN)) if of_width is not None else None
            rows.append(Row(setting, less, from_best, np.nan))
    adjusted = stats.holm(np.array([row.same.p for row in rows], float))
    rows = [row._replace(p_holm=float(p)) for row, p in zip(rows, adjusted, strict=True)]
    settings = {width: runs.by_setting(one)[0][0] for width, one in best.items()}
    return Comparison(rows, settings, oracle)


def _at_each(others: pd.DataFrame, kd: pd.DataFrame) -> pd.DataFrame:
    """The runs of other objectives, those without a temperature at every T of kd."""
    none = others["temperature"].isna()
    every = kd["temperature"].drop_duplicates()
    return pd.concat([others[~none], others[none].drop(columns="temperature").merge(every, how="cross")])


def draw(results: pd.DataFrame, where: str, unit: str) -> Figure | None:
    """The differences from `kd` at the same T, one curve an objective, one panel a width; None where there are none."""
    comparison = compare(results)
    if not comparison.rows:
        return None
    table = pd.DataFrame([{**row.setting, "less": row.same} for row in comparison.rows])
    axis = temperature_plot.TemperatureAxis(sorted(table["temperature"].unique()))
    widths = sorted(table["width"].unique())
    figure = style.figure(6.8, 1.8 + 2.2 * len(widths))
    panels = figure.subplots(len(widths), 1, sharex=True, squeeze=False)[:, 0]
    for axes, width in zip(panels, widths, strict=True):
        axes.axhline(0, color=style.GREY, ls="--", lw=1.4, zorder=1.5, label="soft targets (kd)")
        curves = list(table[table["width"] == width].groupby(["objective", *KEYS[1:]], sort=False))
        varying = [name for name in KEYS[1:] if table[name].nunique() > 1]
        for index, (_, rows) in enumerate(curves):
            known = dict(zip(rows["temperature"], rows["less"], strict=True))
            nudge = axis.nudge(index, len(curves))
            label = ", ".join(wording.in_words(rows.iloc[0], ["objective", *varying]))
            temperature_plot.estimates(axes, axis, known, label=label, index=index, nudge=nudge)
        axes.set_title(f"{width} {unit}", loc="left")
        axes.set_ylabel("difference in\ntest errors (images)")
        axis.dress(axes, label=axes is panels[-1])
    drawn = style.of_runs(results["seed"].nunique() > 1)
    return style.finish(figure, f"Objectives minus soft targets (kd) at the same T, paired{drawn}", where)
