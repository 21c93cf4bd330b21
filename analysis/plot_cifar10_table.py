"""Draws a CIFAR-10 table: what became of the small networks, and which classes the teacher takes for alike.

    python -m analysis.plot_cifar10_table [FOLDER]

Figures go into FOLDER/figures, as PNG and PDF.
"""

import dataclasses
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from jaxtyping import Float, Int

from kdjax import cli, run_directory
from kdjax.errors import BadInput
from kdjax.files import write_whole

if TYPE_CHECKING:
    from analysis.cifar10.table import Answers

PROG = "python -m analysis.plot_cifar10_table"
TEMPERATURES = (1.0, 4.0, 10.0, 20.0)
CLEAN = "batch statistics without dropout"
"""How the marks beside the intervals were evaluated."""


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """Draws the figures of a CIFAR-10 table, and writes its summary again."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory to draw (default: the one under --out with the newest table)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""


def main(config: PlotConfig) -> None:
    """Draws, and says where."""
    from analysis.cifar10 import table as cifar10_table_

    folder = config.folder or run_directory.latest_run(config.out, "cifar10_table", "table", "table.csv")
    cifar10_table_.write_summary(folder)
    for path in draw(folder):
        if path.suffix == ".png":
            print(path)


def class_similarity(
    logits: Float[np.ndarray, "images classes"], labels: Int[np.ndarray, "images"], temperature: float
) -> Float[np.ndarray, "classes classes"]:
    """Mean soft target by true class: row c is the mean of `softmax(v / T)` over the images of class c.

    Rows sum to 1; a class without images has a row of nan.

    Args:
        logits: the teacher's, v.
        labels: the true classes.
        temperature: T in (0, ∞).
    """
    from scipy.special import softmax

    targets = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    belongs = labels[:, None] == np.arange(logits.shape[1])[None]
    counts = belongs.sum(axis=0)[:, None]
    sums: np.ndarray = belongs.T.astype(np.float64) @ targets
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def most_alike(similarity: Float[np.ndarray, "classes classes"]) -> tuple[int, int]:
    """The two different classes that share most: the largest of `(s_cd + s_dc)/2`."""
    both = np.nan_to_num((similarity + similarity.T) / 2)
    np.fill_diagonal(both, -1)
    first, second = np.unravel_index(both.argmax(), both.shape)
    return int(first), int(second)


def draw(folder: Path) -> list[Path]:
    """Draws the figures of a table's run directory into its folder `figures`; returns the files written.

    Raises:
        BadInput: `folder` is no run directory, or what is in it is damaged.
    """
    from analysis import style
    from analysis.cifar10 import table as cifar10_table_

    answers = cifar10_table_.load(folder)
    with style.applied():
        figures = {"students": draw_students(answers), "class_similarity": draw_class_similarity(answers)}
        return [path for name, figure in figures.items() for path in style.save(figure, folder / "figures", name)]


def draw_students(answers: "Answers") -> Any:
    """What the small networks became, a line for each kind of targets: accuracy, NLL, and confidence less accuracy."""
    from analysis import style, tables
    from analysis.cifar10 import table as cifar10_table_

    everything = cifar10_table_.rows_of_table(answers)
    rows = [row for row in everything if row.measures and row.role not in ("big", "ensemble")]
    split = answers.columns[0].split("_", 1)[0]
    shown = [f"{split}_{measure}" for measure in ("accuracy", "nll", "overconfidence")]
    figure = style.figure(9.6, 1.6 + 0.36 * len(rows))
    panels = figure.subplots(1, len(shown), sharey=True)
    places, clean = range(len(rows), 0, -1), _without_dropout(answers)
    taught = ("ensemble" if len(answers.taught_by) > 1 else "big", "nan")
    for axes, column in zip(panels, shown, strict=True):
        for place, row in zip(places, rows, strict=True):
            found = row.measures[column]
            index = {"small": 6, "distilled": 0}.get(row.role, 1)
            bars = [[found.mean - found.low], [found.high - found.mean]]
            known = None if math.isnan(found.low) else bars
            marker = style.MARKERS[index % len(style.MARKERS)]
            axes.errorbar([found.mean], [place], xerr=known, fmt=marker, color=style.PALETTE[index], ms=6, capsize=3)
        for place, row in zip(places, rows, strict=True):
            if (value := clean.get((column, row.role, str(row.temperature)))) is not None:
                axes.plot(
                    value, place, ls="", marker="|", color="black", ms=11, mew=1.6, zorder=3, label=f"mean, {CLEAN}"
                )
        teacher = answers.teacher[split][column.split("_", 1)[1]]
        axes.axvline(teacher, color=style.GREY, ls="--", lw=1.4, label="the teacher", zorder=1.5)
        if (value := clean.get((column, *taught))) is not None:
            axes.axvline(value, color="black", ls=":", lw=1.4, label=f"the teacher, {CLEAN}", zorder=1.5)
        axes.set_xlabel(cifar10_table_.column_name(column).replace(" ", "\n", 1))
        axes.set_ylim(0.4, len(rows) + 0.6)
    names = [
        row.name.removeprefix("small, ").removeprefix("control: ")
        + ("" if math.isnan(row.temperature) else f", T = {tables.number(row.temperature)}")
        for row in rows
    ]
    panels[0].set_yticks(places, names)
    style.legend(figure)
    seeds, failed = answers.results["seed"].nunique(), sum(row.failed for row in everything)
    where = f"{answers.identity['data']['description']}; n = {tables.count_of(seeds, 'seed')}, {_teachers(answers)}"
    where += f", {tables.count_of(failed, 'failed run')} left out" * bool(failed)
    style.title(figure, "Small networks by what they learn from, with 95 % intervals over seeds", where)
    return figure


def _without_dropout(answers: "Answers") -> dict[tuple[str, str, str], float]:
    """(column, role, temperature as text) → mean with batch statistics that were collected without dropout."""
    from analysis.cifar10 import batch_statistics

    frame = batch_statistics.read(answers.folder)
    if frame is None:
        return {}
    clean = frame[frame["statistics"] == "clean"]
    clean = clean[(clean["role"] != "big") | (clean["seed"] < len(answers.taught_by))]
    means = clean.groupby(["role", "temperature"], dropna=False)[answers.columns].mean()
    return {
        (column, role, str(temperature)): value
        for column in answers.columns
        for (role, temperature), value in means[column].items()
    }


def draw_class_similarity(answers: "Answers") -> Any:
    """The teacher's mean soft targets by true class, a panel a temperature; their numbers go into a table beside."""
    import pandas as pd

    from analysis import style
    from analysis.cifar10 import table as cifar10_table_

    names, path = answers.identity["data"]["class_names"], answers.folder / "teacher.npz"
    split = answers.columns[0].split("_", 1)[0]
    try:
        with np.load(path) as arrays:
            logits, labels = arrays[f"{split}_logits"], arrays[f"{split}_labels"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is damaged ({error}): give the experiment's command again") from None
    found = {temperature: class_similarity(logits, labels, temperature) for temperature in TEMPERATURES}
    lines = [
        (temperature, true, soft, table[row, column])
        for temperature, table in found.items()
        for row, true in enumerate(names)
        for column, soft in enumerate(names)
    ]
    frame = pd.DataFrame(lines, columns=["temperature", "true", "soft", "share"])
    text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_whole(answers.folder / "class_similarity.csv", text)
    figure = style.figure(9.6, 9.0)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    for axes, (temperature, table) in zip(panels, found.items(), strict=True):
        shown = np.where(np.eye(len(table), dtype=bool), np.nan, table)  # the right class would outshine the rest
        image = axes.imshow(shown, cmap="viridis")
        figure.colorbar(image, ax=axes, shrink=0.8, label="mean probability")
        first, second = (names[index] for index in most_alike(table))
        axes.set_title(f"T = {temperature:g}: most alike {first}, {second}", fontsize=10)
        ticks = range(len(names))
        axes.set_xticks(ticks, names, rotation=90, fontsize=8)
        axes.set_yticks(ticks, names, fontsize=8)
        axes.set(xlabel="class in the soft target", ylabel="true class")
        axes.label_outer()
        axes.grid(visible=False)
    what = "Mean soft target of the teacher, by true class (the right class left out; each panel its own scale)"
    images = f"n = {len(labels):,} {cifar10_table_.SPLITS[split]} images"
    style.title(figure, what, f"{answers.identity['data']['description']}; {_teachers(answers)}, {images}")
    return figure


def _teachers(answers: "Answers") -> str:
    many = len(answers.taught_by)
    return "one teacher" if many == 1 else f"an ensemble of {many} teachers"


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
