"""The figures of a CIFAR-10 table: what the small networks became, by targets, temperature and epochs."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import measures, stats, style, temperature_plot
from analysis.cifar10 import batch_statistics, class_similarity, lengths
from analysis.cifar10.roles import Role
from analysis.cifar10.rows import TableRow, big_name, rows_of_table, size
from analysis.cifar10.run import Cifar10Results, load
from analysis.measures import SPLITS
from analysis.scales import scaled
from analysis.tables import count_of, fixed, number, seeds_of
from analysis.temperature_plot import TemperatureAxis

CLEAN = "batch statistics without dropout"
"""How the marks beside the intervals were evaluated."""


@style.applied()
def draw(folder: Path) -> list[Path]:
    """Draws the figures of a table's run directory into its folder `figures`; returns the files written.

    Raises:
        BadInput: `folder` is no run directory, or what is in it is damaged.
    """
    results = load(folder)
    drawn = {
        "students": draw_students(results),
        "difference_from_hard_labels": draw_differences(results),
        "lengths": draw_lengths(results),
        "class_similarity": class_similarity.draw(results, _teacher(results)),
    }
    return style.save_all(folder, drawn)


def draw_students(results: Cifar10Results) -> Figure:
    """What the small networks became, a line for each kind of targets: accuracy, NLL, and confidence − accuracy."""
    everything = rows_of_table(results)
    rows = [row for row in everything if row.measures and row.role not in (Role.BIG, Role.ENSEMBLE)]
    shown = [f"{results.split}_{measure}" for measure in ("accuracy", "nll", "overconfidence")]
    figure = style.figure(7.2, 1.9 + 0.36 * max(len(rows), 2))
    panels = figure.subplots(1, len(shown), sharey=True)
    places, clean = range(len(rows), 0, -1), _without_dropout(results)
    teachers = results.results["teacher"].nunique()
    teacher_role = Role.ENSEMBLE if len(results.taught_by) > 1 else Role.BIG
    for axes, column in zip(panels, shown, strict=True):
        for place, row in zip(places, rows, strict=True):
            mean = row.measures[column]
            index = {Role.SMALL: 6, Role.DISTILLED: 0}.get(row.role, 1)
            look: dict[str, Any] = {"fmt": style.MARKERS[index], "color": style.PALETTE[index], "ms": 6, "capsize": 3}
            axes.errorbar([mean.mean], [place], xerr=stats.error_bars([mean]), **look)
        for place, row in zip(places, rows, strict=True):
            if (value := clean.get((column, row.role.value, str(row.temperature)))) is not None:
                look = {"marker": "|", "color": "black", "ms": 11, "mew": 1.6, "zorder": 3}
                axes.plot(value, place, ls="", label=f"mean, {CLEAN}", **look)
        if column.endswith("overconfidence"):
            axes.axvline(0, color=style.GREY, lw=1.2, zorder=1.5)
        measure = measures.of_column("cifar10", column)
        of_teacher = {"": results.teacher[results.split][column.split("_", 1)[1]]}
        if (value := clean.get((column, teacher_role.value, "nan"))) is not None:
            of_teacher[CLEAN] = value
        _draw_teacher(axes, "the first teacher" if teachers > 1 else "the teacher", of_teacher, measure.decimals)
        images, _, name = measure.heading.partition(" ")
        axes.set_xlabel(f"{images}\n{textwrap.fill(name, 18)}")
        axes.locator_params(axis="x", nbins=5, steps=[1, 2, 5, 10])
        axes.set_ylim(0.4, len(rows) + 0.6)
    names = [
        row.name.removeprefix("small, ").removeprefix("control: ")
        + ("" if math.isnan(row.temperature) else f", T = {number(row.temperature)}")
        for row in rows
    ]
    panels[0].set_yticks(places, names)
    what = f"Small networks by what they learn from{_drawn(results)}"
    return style.finish(figure, what, results.identity["data"]["description"], _trained(results, everything))


def draw_differences(results: Cifar10Results) -> Figure | None:
    """What soft targets of each temperature change in accuracy and NLL: paired differences from hard labels, beside
    that of label smoothing; None where there are fewer than two temperatures with pairs."""
    roles = (Role.SMALL, Role.DISTILLED, Role.LABEL_SMOOTHING)
    rows = [row for row in rows_of_table(results) if row.role in roles]
    soft = [row for row in rows if row.role == Role.DISTILLED and row.differences]
    if len(soft) < 2:
        return None
    axis, figure = TemperatureAxis([row.temperature for row in soft]), style.figure(8.0, 3.6)
    columns = [f"{results.split}_{measure}" for measure in ("accuracy", "nll")]
    for axes, column in zip(figure.subplots(1, 2), columns, strict=True):
        axes.axhline(0, color=style.GREY, ls="--", lw=1.4, zorder=1.5, label="hard labels")
        for row in (row for row in rows if row.role == Role.LABEL_SMOOTHING and row.differences):
            style.band(axes, *row.differences[column][:3], colour=style.PALETTE[1], ls="-.", label="label smoothing")
        values = {row.temperature: row.differences[column] for row in soft}
        temperature_plot.estimates(axes, axis, values, label="soft targets")
        axis.dress(axes)
        name, _, unit = measures.of_column("cifar10", column).heading.rpartition(", ")
        axes.set_ylabel(f"{name}\nminus hard labels, {'points' if unit == '%' else unit}")
    what = f"What soft targets change, by temperature, paired by seed{_drawn(results)}"
    reading = "Higher accuracy and lower NLL than with hard labels are better."
    if results.results["seed"].nunique() > 1:
        reading += " Of several intervals outside zero some may be chance: the verdict is corrected for their number."
    pairs = seeds_of([row.differences[columns[0]].n for row in soft], "pair")
    where = results.identity["data"]["description"], f"{_trained(results, rows)}; {pairs} at each T"
    return style.finish(figure, what, *where, reading=reading + axis.stretch)


def _drawn(results: Cifar10Results) -> str:
    """The end of a title: how the small networks of a setting are drawn."""
    seeds = results.results["seed"].nunique()
    drawn = _intervals(seeds)
    if results.results["teacher"].nunique() > 1:
        over = "over teachers crossed with seeds" if seeds > 1 else "95 % intervals over teachers"
        drawn += f"; soft targets: {over}"
    return drawn


def _trained(results: Cifar10Results, rows: Sequence[TableRow]) -> str:
    """How many seeds and teachers, which networks and soft weight, and how many runs of these rows failed."""
    failed = sum(row.failed for row in rows)
    seeds, teachers = (results.results[name].nunique() for name in ("seed", "teacher"))
    config = results.identity["config"]
    networks = size(config) + ", dropout after the last batch norm" * config.get("dropout_after_norm", False)
    taught = count_of(teachers, "teacher") if teachers > 1 else _teacher(results)
    left_out = f", {count_of(failed, 'failed run')} left out" * bool(failed)
    return f"n = {count_of(seeds, 'seed')}, {taught}, {networks}{_soft_weight(results)}{left_out}"


def _intervals(seeds: int) -> str:
    return style.of_runs(seeds > 1, ", with 95 % intervals over seeds")


def _draw_teacher(axes: Axes, name: str, values: dict[str, float], decimals: int) -> None:
    """A line for each, as trained and without dropout. One that would squeeze the networks into less than half of the
    axis is a number above it, with an arrow to its side."""
    low, high = axes.get_xlim()
    width, left, right = high - low if axes.has_data() else math.inf, list[str](), list[str]()
    looks = ((style.GREY, "--"), ("black", ":"))
    for (color, ls), (how, value) in zip(looks, values.items(), strict=False):
        if low - width < value < high + width:
            label = ", ".join(filter(None, [name, how]))
            axes.axvline(value, color=color, ls=ls, lw=1.4, label=label, zorder=1.5)
        elif math.isfinite(value):
            said = f"{name}{', statistics collected again' * bool(how)}: {fixed(value, decimals)}"
            right.append(f"{said} →") if value > high else left.append(f"← {said}")
    axes.set_title("\n".join(left), fontsize=9, loc="left")
    axes.set_title("\n".join(right), fontsize=9, loc="right")


def _without_dropout(results: Cifar10Results) -> dict[tuple[str, str, str], float]:
    """(column, role, temperature as text) → mean with batch statistics that were collected without dropout."""
    evaluated = batch_statistics.read(results.folder)
    if evaluated is None:
        return {}
    clean = evaluated[evaluated["statistics"] == "clean"]
    clean = clean[(clean["role"] != Role.BIG.value) | (clean["seed"] < len(results.taught_by))]
    means = clean.groupby(["role", "temperature"], dropna=False)[results.columns].mean()
    return {
        (column, role, str(temperature)): value
        for column in results.columns
        for (role, temperature), value in means[column].items()
    }


def draw_lengths(results: Cifar10Results) -> Figure | None:
    """Accuracy against epochs of hard labels and of soft targets, and their paired difference; None where the table has
    no other lengths."""
    found = lengths.read(results)
    if not found:
        return None
    epochs, t = [one.epochs for one in found], f"T = {number(results.temperature)}"
    figure = style.figure(8.0, 3.6)
    accuracy, difference = figure.subplots(1, 2, sharex=True)
    curves: list[tuple[Axes, str, int, int, list[stats.Interval] | list[stats.Difference | None]]] = [
        (accuracy, "hard labels", 6, -1, [one.hard for one in found]),
        (accuracy, f"soft targets, {t}", 0, 1, [one.soft for one in found]),
        (difference, style.UNLISTED, 0, 0, [one.difference for one in found]),
    ]
    for axes, label, index, side, estimates in curves:
        kept = [(at * 1.03**side, one) for at, one in zip(epochs, estimates, strict=True) if one]  # bars stand apart
        means, bars = [one.mean for _, one in kept], stats.error_bars([one for _, one in kept])
        look: dict[str, Any] = {"color": style.PALETTE[index], "marker": style.MARKERS[index]}
        axes.errorbar([at for at, _ in kept], means, bars, capsize=3, elinewidth=1.2, label=label, **look)
        axes.set_xscale("log", base=2)
        axes.set_xticks(epochs, [str(at) for at in epochs])
        axes.set_xlabel(scaled("epochs of training"))
    difference.axhline(0, color=style.GREY, lw=1.2, zorder=1.5)
    accuracy.set_ylabel(f"{SPLITS[results.split]} accuracy, %")
    difference.set_ylabel(f"{t} minus hard labels,\npoints, paired by seed")
    n = seeds_of([one.pairs for one in found])
    most, images = max((one.pairs for one in found), default=0), results.identity["data"]
    what = f"Small networks by how long they learn{_intervals(most)}"
    return style.finish(figure, what, images["description"], f"n = {n}, {results.first_teacher}{_soft_weight(results)}")


def _teacher(results: Cifar10Results) -> str:
    """The one of which the figures show something."""
    own = results.results["teacher"].nunique()
    return f"the first of {own} teachers" if own > 1 else f"{results.first_teacher} ({big_name(results)})"


def _soft_weight(results: Cifar10Results) -> str:
    """That of soft targets, behind what else a title says; controls whose rates were tuned have their own."""
    weight = results.soft_weight
    return "" if weight is None else f", soft weight {weight:g}{' of soft targets' * bool(results.choices)}"
