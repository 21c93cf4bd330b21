"""The figures of a temperature sweep: errors, differences from hard labels and calibration against T; the others have
files of their own."""

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import runs, scales, style, temperature_plot, wording
from analysis.runs import RUN
from analysis.sweep import against_kd, learning_curves, softening
from analysis.sweep.run import Curve, SweepResults, curves, load
from analysis.temperature_plot import TemperatureAxis
from kdjax.errors import require_option

CURVES = 7
"""Where there are more in a panel, those of one rate for all T are grey, and one entry of the legend."""


@style.applied()
def draw(folder: Path, image: int | None = None) -> list[Path]:
    """Draws every figure of a run directory into its folder `figures`; returns the files written.

    Args:
        folder: the run directory.
        image: which of the test images that it keeps the softening is shown of; None: the one that the teacher gets
            right and finds most ambiguous at T = 4.

    Raises:
        BadInput: `folder` is no run directory, or what is in it is damaged; it keeps no such image.
    """
    sweep = load(folder)
    _require_image(sweep, folder, image)
    before = (path.stem for path in (folder / "figures").glob("learning_curves*.svg"))  # of fewer objectives or rates
    figures: dict[str, Figure | None] = {
        **dict.fromkeys(before),
        "errors": draw_errors(sweep),
        "difference_from_hard_labels": draw_differences(sweep),
        "difference_from_kd": against_kd.draw(sweep.results, sweep.where, sweep.unit),
        "calibration_and_agreement": draw_calibration(sweep),
        "softening": softening.draw(sweep, image),
        **learning_curves.draw(sweep),
    }
    return style.save_all(folder, figures)


def require_image(folder: Path, image: int | None) -> None:
    """Raises BadInput where `draw` would, which writes nothing then; so does what is written before it."""
    if image is not None:
        _require_image(load(folder), folder, image)


def _require_image(sweep: SweepResults, folder: Path, image: int | None) -> None:
    allowed = f"{folder} keeps {len(sweep.example_rows)} test images (one a class: of which the teacher is least sure)"
    known = image is None or 0 <= image < len(sweep.example_rows)
    require_option(known, "image", image, f"{allowed}; give 0 to {len(sweep.example_rows) - 1}")


def draw_errors(sweep: SweepResults) -> Figure | None:
    """Test errors against T, one panel per width; None where nothing was trained at a temperature."""
    everything, axis = curves(sweep), TemperatureAxis(sweep.temperatures)
    widths = sorted({curve.width for curve in everything})
    if not axis.temperatures:
        return None
    figure = style.figure(5.4, 1.8 + 2.0 * len(widths))
    panels = figure.subplots(len(widths), 1, sharex=True, squeeze=False)[:, 0]
    for row, (axes, width) in enumerate(zip(panels, widths, strict=True)):
        own = [curve for curve in everything if curve.width == width]
        shuffled = [curve for curve in own if curve.baseline and curve.swept and not curve.thin]
        of_width = sorted([one for one in own if not (one.baseline and one.swept)], key=lambda curve: curve.thin)
        bold = [curve for curve in of_width if not curve.thin]
        several = len({tuple(sorted(set(curve.hard["learning_rate"]))) for curve in bold}) > 1  # hard labels
        for i, curve in enumerate(of_width):
            index = i if len(of_width) > 1 else row
            many = curve.thin and len(of_width) > CURVES
            label, nudge = "one rate for all T" if many else curve.label, axis.nudge(i, len(bold)) * (not curve.thin)
            _plot(axes, axis, curve, "test_errors", label, index, nudge, grey=many)
            if len(of_width) == 1 and curve.swept and sweep.several:  # the runs themselves, beside their interval
                finished = runs.finished(curve.runs)
                x = [axis.place(value) + 1.5 * axis.nudge(1, 2) for value in finished["temperature"]]
                axes.plot(x, finished["test_errors"], ls="", marker=".", ms=5, color=style.colour(index), alpha=0.5)
            hard = runs.finished(curve.hard)
            if len(hard) and not curve.thin and (several or i == 0):
                mean = runs.mean(hard.set_index(RUN)["test_errors"])
                colour = style.colour(index) if several else style.GREY
                label = ", ".join(wording.in_words(hard.iloc[0], ["objective"] + ["learning_rate"] * several))
                style.band(axes, *mean[:3], colour=colour, label=label, filled=not several)
        beyond = [_draw_baseline(axes, axis, curve, len(of_width) + i) for i, curve in enumerate(shuffled)]
        _draw_teacher(axes, sweep.teacher["errors"], *beyond)
        axes.set_ylabel(f"test errors ({sweep.examples})")
        axes.set_title(f"{width} {sweep.unit}", loc="left")
        axis.dress(axes, label=axes is panels[-1])
    reading = f"Each point is a mean number of wrong answers on the test set: lower is better.{_key(axis, figure)}"
    return style.finish(
        figure,
        f"Test errors with {sweep.learnt_from}{style.of_runs(sweep.several)}",
        sweep.headline,
        sweep.where,
        reading=reading,
    )


def draw_differences(sweep: SweepResults) -> Figure | None:
    """The paired difference from hard labels against T; None where there is no hard baseline."""
    everything, axis = [curve for curve in _shown(sweep) if len(curve.hard)], TemperatureAxis(sweep.temperatures)
    if not everything or not axis.temperatures:
        return None
    figure = style.figure(5.4, 3.7)
    axes = figure.subplots()
    axes.axhline(0, color=style.GREY, ls="--", lw=1.4, zorder=1.5, label="hard labels")
    for index, curve in enumerate(everything):
        hard, groups = curve.hard.set_index(RUN), curve.runs.groupby("temperature", dropna=False)
        paired = {t: runs.difference(of_t.set_index(RUN), hard) for t, of_t in groups}
        known = {t: difference for t, difference in paired.items() if difference}
        nudge = axis.nudge(index, len(everything))
        temperature_plot.estimates(axes, axis, known, label=curve.name, index=index, nudge=nudge)
    axis.dress(axes)
    axes.set_ylabel(f"difference in test errors ({sweep.examples})")
    reading = "Below zero are fewer errors than on hard labels, paired by seed"
    several = "; an interval that holds zero is no difference that was seen, and of several intervals outside zero some"
    reading += f"{several} may be chance: the verdict is corrected for their number." if sweep.several else "."
    reading += _key(axis, figure)
    soft = sweep.learnt_from[0].upper() + sweep.learnt_from[1:]
    what = f"{soft} minus hard labels, paired{style.of_runs(sweep.several)}"
    return style.finish(figure, what, sweep.where, reading=reading)


def draw_calibration(sweep: SweepResults) -> Figure | None:
    """Calibration error, NLL, agreement with the teacher and KL from it, against T; None without soft targets."""
    everything, axis = _shown(sweep), TemperatureAxis(sweep.temperatures)
    if not everything or not axis.temperatures:
        return None
    figure = style.figure(6.8, 6.6)
    panels = figure.subplots(2, 2, sharex=True).ravel()
    measures = {
        "test_ece": ("calibration error, ECE (%)", "ece", 100.0),
        "test_nll": ("NLL (nats)", "nll", 1.0),
        "test_agreement": ("agreement with teacher (%)", "", 100.0),
        "test_teacher_kl": ("KL from teacher (nats)", "", 1.0),
    }
    compared: dict[tuple[Any, ...], int] = {}  # hard labels, once where several curves are compared with the same
    for index, curve in enumerate(everything):
        compared.setdefault((curve.width, *sorted(set(curve.hard["learning_rate"]))), index)
    rates = len({key[1:] for key in compared}) > 1
    for axes, (column, (label, teacher, scale)) in zip(panels, measures.items(), strict=True):
        for index, curve in enumerate(everything):
            _plot(axes, axis, curve, column, curve.name, index, axis.nudge(index, len(everything)), scale)
            hard = runs.finished(curve.hard)
            if len(hard) and index in compared.values():
                mean, alone = runs.mean(hard.set_index(RUN)[column] * scale), len(compared) == 1
                bounds = mean[1:3] if alone else (math.nan, math.nan)  # bands on bands are mud
                named = ["objective"] if alone else ["width", "objective"] + ["learning_rate"] * rates
                name = ", ".join(wording.in_words(hard.iloc[0], named))
                style.band(axes, mean.mean, *bounds, colour=style.GREY if alone else style.colour(index), label=name)
        if teacher:
            _draw_teacher(axes, sweep.teacher[teacher] * scale)
        axes.set_ylabel(label)
        axis.dress(axes, label=axes in panels[2:], crowded=0.09)
        if "nats" in label and len({curve.width for curve in everything}) > 1:  # small widths would flatten the others
            scales.log_axis(axes.yaxis, label)
    reading = (
        "Calibration error and negative log-likelihood (NLL) say how far a student's probabilities can be trusted: "
    )
    reading += f"lower is better. Agreement and divergence (KL) say how near it is to its teacher.{_key(axis, figure)}"
    return style.finish(
        figure, f"Calibration and agreement{style.of_runs(sweep.several)}", sweep.where, reading=reading
    )


def _plot(
    axes: Axes,
    axis: TemperatureAxis,
    curve: Curve,
    column: str,
    label: str,
    index: int,
    nudge: float,
    scale: float = 1.0,
    grey: bool = False,
) -> None:
    groups = runs.finished(curve.runs).groupby("temperature", dropna=False)
    means = {t: runs.mean(of_t.set_index(RUN)[column] * scale) for t, of_t in groups}
    temperature_plot.estimates(axes, axis, means, label=label, index=index, nudge=nudge, thin=curve.thin, grey=grey)


def _shown(sweep: SweepResults) -> list[Curve]:
    """The curves beside which nothing else is off the scale: without fixed rates, and without shuffled teachers."""
    return [curve for curve in curves(sweep) if not curve.thin and not (curve.baseline and curve.swept)]


def _draw_teacher(axes: Axes, value: float, *beyond: str) -> None:
    """The teacher as a line; an arrow where the line would flatten the curves, beside what else is `beyond` the
    scale."""
    words = list(filter(None, beyond))
    if _fits(axes, value):
        style.band(axes, value, math.nan, math.nan, colour="black", ls=":", label="teacher")
    else:
        words.insert(0, _arrow(axes, "teacher", value))
    axes.set_title(", ".join(words), loc="right", fontsize=10)


def _draw_baseline(axes: Axes, axis: TemperatureAxis, curve: Curve, index: int) -> str:
    """A baseline's curve, thin; where it would flatten the others it is left out, and told in words."""
    means = runs.finished(curve.runs).groupby("temperature")["test_errors"].mean()
    if means.empty:
        return ""
    if not all(_fits(axes, value) for value in means):
        return _arrow(axes, curve.label, float(means.min()))
    _plot(axes, axis, curve._replace(thin=True), "test_errors", curve.label, index, 0.0)
    return ""


def _fits(axes: Axes, value: float) -> bool:
    """Whether a value may be drawn without the curves becoming flat."""
    low, high = axes.get_ylim()
    return bool(low - (high - low) <= value <= high + (high - low))


def _arrow(axes: Axes, name: str, value: float) -> str:
    """What lies beyond the scale, in words."""
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{name}: {shown} {'↓' if value < axes.get_ylim()[0] else '↑'}"


def _key(axis: TemperatureAxis, figure: Figure) -> str:
    """What the lines across the panels are, and what lies beyond their scale, as far as it is drawn."""
    kinds = {"--": "dashed", "-.": "dash-dotted", ":": "dotted"}
    styles = {str(line.get_label()): str(line.get_linestyle()) for axes in figure.axes for line in axes.lines}
    named = {name: ls for name, ls in styles.items() if not name.startswith("_")}
    drawn = {kind: [name for name, own in named.items() if own == ls] for ls, kind in kinds.items()}
    levels = [f"{kind}, {' and '.join(names)}" for kind, names in drawn.items() if names]
    thin = any(ls == "--" for name, ls in styles.items() if name not in named)
    said = [f"Across: {'; '.join(levels)}{'; thin dashes, ends of intervals' * thin}."] * bool(levels)
    beyond = dict.fromkeys(part for axes in figure.axes for part in axes.get_title(loc="right").split(", ") if part)
    said += [f"Beyond the scale: {', '.join(beyond)}."] * bool(beyond)
    return "".join(f" {one}" for one in said) + axis.stretch
