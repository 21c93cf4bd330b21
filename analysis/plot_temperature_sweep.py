"""Draws a temperature sweep: errors against T, learning curves, calibration and agreement, and softening itself.

    python -m analysis.plot_temperature_sweep [FOLDER]

Figures go into FOLDER/figures, as PNG and PDF. pandas, scipy and matplotlib are imported late, so that `--help` is
quick.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from analysis.sweep.run import Curve, Run, curves, load
from kdjax import cli, run_directory


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """Draws the figures of a temperature sweep."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory to draw (default: the one under --out with the newest results)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""


FLOOR = 0.01
"""Percent: training errors below it (and none at all, which has no logarithm) are drawn here."""


def main(config: PlotConfig) -> None:
    """Draws, and says where."""
    folder = config.folder or run_directory.latest_run(config.out, "temperature_sweep")
    for path in draw(folder):
        if path.suffix == ".png":
            print(path)


def draw(folder: Path) -> list[Path]:
    """Draws every figure of a run directory into its folder `figures`; returns the files written.

    Raises:
        BadInput: `folder` is no run directory, or what is in it is damaged.
    """
    from analysis import style

    run = load(folder)
    with style.applied():
        figures = {
            "errors": draw_errors(run),
            "difference_from_hard_labels": draw_differences(run),
            "calibration_and_agreement": draw_calibration(run),
            "softening": draw_softening(run),
            **draw_learning_curves(run),
        }
        return [
            path for name, figure in figures.items() if figure for path in style.save(figure, folder / "figures", name)
        ]


def draw_errors(run: Run) -> Any:
    """Test errors against T, a panel a width; None where there are no soft targets."""
    from analysis import style, tables

    everything = curves(run)
    widths = sorted({curve.width for curve in everything})
    if not widths:
        return None
    axis = _axis(run)
    figure = style.figure(5.4, 1.5 + 2.0 * len(widths))
    panels = figure.subplots(len(widths), 1, sharex=True, squeeze=False)[:, 0]
    for row, (axes, width) in enumerate(zip(panels, widths, strict=True)):
        mine = sorted([curve for curve in everything if curve.width == width], key=lambda curve: curve.thin)
        bold = [curve for curve in mine if not curve.thin]
        baselines = {tuple(sorted(set(curve.hard["learning_rate"]))) for curve in bold}
        for i, curve in enumerate(mine):
            index = i if len(mine) > 1 else row
            _plot(axes, axis, curve, "test_errors", curve.label, index, 0.0 if curve.thin else axis.nudge(i, len(bold)))
            if len(mine) == 1 and _several(run):  # the runs themselves, beside their interval
                good = tables.finished(curve.runs)
                x = [axis.place(value) + 1.5 * axis.nudge(1, 2) for value in good["temperature"]]
                axes.plot(x, good["test_errors"], ls="", marker=".", ms=5, color=style.PALETTE[index % 7], alpha=0.5)
            hard = tables.finished(curve.hard)
            if len(hard) and not curve.thin and (len(baselines) > 1 or i == 0):
                found = tables.mean_over_runs(hard.set_index(tables.RUN)["test_errors"])
                colour = style.GREY if len(baselines) == 1 else style.PALETTE[index % 7]
                style.band(axes, *found[:3], colour=colour, label="hard labels")
        _draw_teacher(axes, run.teachers["errors"])
        axes.set_ylabel("test errors (images)")
        axes.set_title(f"{width} units per layer", loc="left")
        axis.dress(axes, label=axes is panels[-1])
    style.legend(figure)
    style.title(figure, f"Test errors with soft targets{_bars(run)}", run.where)
    return figure


def draw_differences(run: Run) -> Any:
    """The paired difference from hard labels against T; None where there is no hard baseline."""
    from analysis import style, tables

    everything = [curve for curve in curves(run) if len(curve.hard) and not curve.thin]
    if not everything:
        return None
    axis = _axis(run)
    figure = style.figure(5.4, 3.7)
    axes = figure.subplots()
    axes.axhline(0, color=style.GREY, ls="--", lw=1.4, zorder=1.5, label="hard labels")
    for index, curve in enumerate(everything):
        hard = curve.hard.set_index(tables.RUN)
        groups = {
            t: tables.from_hard(runs.set_index(tables.RUN), hard) for t, runs in curve.runs.groupby("temperature")
        }
        points = {t: found for t, found in groups.items() if found}
        values = [[getattr(found, name) for found in points.values()] for name in ("mean", "low", "high")]
        nudge = axis.nudge(index, len(everything))
        style.curve(axes, axis, list(points), *values, label=_name(curve), index=index, nudge=nudge)
    axis.dress(axes)
    axes.set_ylabel("difference in test errors (images)")
    style.legend(figure)
    style.title(figure, f"Soft targets less hard labels, paired{_bars(run)}", run.where)
    return figure


def draw_calibration(run: Run) -> Any:
    """Calibration error, NLL, agreement with the teacher and KL from it, against T; None without soft targets."""
    from analysis import style, tables

    everything = [curve for curve in curves(run) if not curve.thin]
    if not everything:
        return None
    axis = _axis(run)
    figure = style.figure(6.8, 5.8)
    panels = figure.subplots(2, 2, sharex=True).ravel()
    measures = {
        "test_ece": ("calibration error, ECE (%)", "ece", 100.0),
        "test_nll": ("NLL (nats)", "nll", 1.0),
        "test_agreement": ("agreement with teacher (%)", "", 100.0),
        "test_teacher_kl": ("KL from teacher (nats)", "", 1.0),
    }
    for axes, (column, (label, teacher, scale)) in zip(panels, measures.items(), strict=True):
        for index, curve in enumerate(everything):
            _plot(axes, axis, curve, column, _name(curve), index, axis.nudge(index, len(everything)), scale)
            hard = tables.finished(curve.hard)
            if len(hard):
                found = tables.mean_over_runs(hard.set_index(tables.RUN)[column] * scale)
                bounds = found[1:3] if len(everything) == 1 else (math.nan, math.nan)  # bands on bands are mud
                style.band(axes, found.mean, *bounds, colour=style.PALETTE[index % 7])
        if teacher:
            _draw_teacher(axes, [value * scale for value in run.teachers[teacher]])
        axes.set_ylabel(label)
        axis.dress(axes, label=axes in panels[2:], crowded=0.09)
        if "nats" in label and len({curve.width for curve in everything}) > 1:  # small widths would flatten the others
            style.log_axis(axes)
            axes.set_ylabel(label.replace("nats", "nats, log"))
    style.legend(figure)
    dashed = "; dashed: hard labels" if any(len(curve.hard) for curve in everything) else ""
    style.title(figure, f"Calibration and agreement{_bars(run)}{dashed}", run.where)
    return figure


def draw_softening(run: Run) -> Any:
    """A test image, its soft targets from the lowest T to the highest, and the mean entropy against T."""
    from scipy.special import softmax

    from analysis import style

    axis = _axis(run)
    if not axis.temperatures or not len(run.example_rows):
        return None
    which = _example(run)
    logits = run.teacher_logits[run.example_rows[which]].astype(float)
    classes = np.sort(np.argsort(-logits)[:10])
    shown = axis.spread(7)
    figure = style.figure(6.8, 5.2)
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 1.15])
    top, bottom = (figure.add_subfigure(grid[row]) for row in range(2))
    panels = top.subplots(1, 1 + len(shown), width_ratios=[2.3] + [1] * len(shown))
    image = run.example_images[which]
    panels[0].imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray_r")
    panels[0].set_axis_off()
    panels[0].set_title(f"labelled {run.class_names[run.labels[run.example_rows[which]]]}")
    for axes, temperature in zip(panels[1:], shown, strict=True):
        axes.barh(np.arange(len(classes)), softmax(logits / temperature)[classes], color=style.PALETTE[0])
        axes.set_yticks(np.arange(len(classes)), [run.class_names[c] if axes is panels[1] else "" for c in classes])
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1), ylim=(len(classes) - 0.4, -0.6), xticks=[0, 1])
        axes.set_title(f"T = {temperature:g}" if math.isfinite(temperature) else "T = ∞")
    top.supxlabel("the teacher's soft target: probability of each class", fontsize=11)
    axes = bottom.subplots()
    soft = run.results[run.results["objective"] == "soft"]
    entropies = soft.groupby("temperature")["soft_target_entropy"].mean()
    style.curve(axes, axis, list(entropies.index), entropies, *[np.full(len(entropies), math.nan)] * 2)
    uniform = math.log(len(logits))
    style.band(axes, uniform, math.nan, math.nan)
    axes.annotate(
        f"ln {len(logits)}: all classes alike", (0.01, uniform), (0, 3), axes.get_yaxis_transform(), "offset points"
    )
    axis.dress(axes)
    axes.set_ylabel("mean entropy of the\nsoft targets (nats)")
    axes.set_ylim(0, 1.2 * uniform)
    style.title(figure, "Softening: soft targets of one test image; their mean entropy, transfer set", run.where)
    return figure


def draw_learning_curves(run: Run) -> dict[str, Any]:
    """Errors against epochs, a row a width, a colour a temperature; a figure for each soft weight and learning rate."""
    from analysis import style

    axis = _axis(run)
    # (Not the runs of matched norm, nor the placebos, which have the same T and rate.)
    soft = run.history[run.history["objective"] == "soft"]
    several = soft[["soft_weight", "learning_rate"]].drop_duplicates()
    figures = {}
    for weight, rate in several.itertuples(index=False) if len(several) else []:
        mine = run.history["learning_rate"].eq(rate) & (
            run.history["objective"].eq("soft") & run.history["soft_weight"].eq(weight)
            | run.history["objective"].eq("hard")
        )
        chosen = run.history[mine].fillna({"temperature": 0.0})  # 0 stands for hard labels
        widths = sorted(chosen["width"].unique())
        figure = style.figure(6.8, 1.2 + 2.2 * len(widths))
        panels = figure.subplots(len(widths), 2, sharex=True, squeeze=False)
        for (left, right), width in zip(panels, widths, strict=True):
            for t, rows in chosen[chosen["width"] == width].groupby("temperature"):
                look = {"color": "black", "ls": "--", "label": "hard labels"}
                if t:
                    name = "T = ∞" if math.isinf(t) else f"T = {t:g}"
                    look = {"color": style.shade(t, axis.temperatures), "label": name}
                rate_by_epoch = 100 * rows.groupby("epoch")["transfer_error_rate"].mean()
                left.plot(rate_by_epoch.index, rate_by_epoch.clip(lower=FLOOR), lw=1.4, **look)
                monitored = rows.dropna(subset="monitor_errors").groupby("epoch")["monitor_errors"].mean()
                right.plot(monitored.index, monitored, lw=1.4, marker=".", ms=5, **look)
            style.log_axis(left)
            style.log_axis(right)
            left.set_title(f"{width} units per layer", loc="left")
            left.set_ylabel("training error (%)")
            right.set_ylabel(f"{'hold-out' if 'holdout' in set(chosen['monitor']) else 'test'} errors (images)")
        for axes in panels[-1]:
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(*panels[0, 1].get_legend_handles_labels(), loc="outside right center")
        floor = "; 0.01 %: no more than that" if (chosen["transfer_error_rate"] < FLOOR / 100).any() else ""
        details = f" (soft weight {weight:g}, rate {rate:g})" if len(several) > 1 else ""
        style.title(figure, f"Learning curves{details}{': mean over runs' * _several(run)}{floor}", run.where)
        figures["learning_curves" + (f"_weight{weight:g}_rate{rate:g}" if len(several) > 1 else "")] = figure
    return figures


def _plot(
    axes: Any, axis: Any, curve: Curve, column: str, label: str, index: int, nudge: float, scale: float = 1.0
) -> None:
    from analysis import style, tables

    groups = tables.finished(curve.runs).groupby("temperature")
    found = {t: tables.mean_over_runs(runs.set_index(tables.RUN)[column] * scale) for t, runs in groups}
    values = [[getattr(interval, name) for interval in found.values()] for name in ("mean", "low", "high")]
    style.curve(axes, axis, list(found), *values, label=label, index=index, nudge=nudge, thin=curve.thin)


def _draw_teacher(axes: Any, values: list[float]) -> None:
    """The teacher as a line; several as a band; an arrow where the line would flatten the curves."""
    from analysis import stats, style

    found = stats.interval(np.array(values))
    low, high = axes.get_ylim()
    if low - (high - low) <= found.mean <= high + (high - low):
        style.band(axes, *found[:3], colour="black", ls=":", label="teacher")
    else:
        axes.set_title(f"teacher: {found.mean:.3g} {'↓' if found.mean < low else '↑'}", loc="right", fontsize=10)


def _example(run: Run) -> int:
    """Of the example images the teacher gets right, the one it finds most ambiguous at T = 4."""
    from kdjax import metrics

    logits, labels = run.teacher_logits[run.example_rows], run.labels[run.example_rows]
    right = logits.argmax(axis=1) == labels
    return int(
        np.argmax(
            [metrics.entropy(row[None], 4.0) * (ok or not right.any()) for row, ok in zip(logits, right, strict=True)]
        )
    )


def _axis(run: Run) -> Any:
    from analysis import style

    return style.TemperatureAxis(run.results.loc[run.results["objective"] == "soft", "temperature"].tolist())


def _name(curve: Curve) -> str:
    return ", ".join([f"{curve.width} units", *[curve.label] * bool(curve.label)])


def _several(run: Run) -> bool:
    return len(run.results[["seed", "teacher"]].drop_duplicates()) > 1


def _bars(run: Run) -> str:
    return ": mean, 95 % t interval" if _several(run) else " (single runs)"


if __name__ == "__main__":
    cli.run(main, PlotConfig, "python -m analysis.plot_temperature_sweep")
