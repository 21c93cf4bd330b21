"""Draws the MNIST table's figures: errors against T at each width, fewer images, shifted test images.

    python -m analysis.plot_mnist_table [FOLDER]

Figures go into FOLDER/figures, as PNG and PDF; each is drawn where its part of the table was made.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from kdjax import cli, run_directory
from kdjax.errors import BadInput

if TYPE_CHECKING:
    from analysis.mnist.run import Answers

PROG = "python -m analysis.plot_mnist_table"


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """Draws the figures of an MNIST table, and writes its summary again."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory to draw (default: the one under --out with the newest table)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""


def main(config: PlotConfig) -> None:
    """Draws, and says where."""
    from analysis.mnist import table as mnist_table_

    folder = config.folder or run_directory.latest_run(config.out, "mnist_table", "table", "table.csv")
    mnist_table_.write_summary(folder)
    for path in draw(folder):
        if path.suffix == ".png":
            print(path)


def draw(folder: Path) -> list[Path]:
    """Draws every figure of a table's run directory into its folder `figures`; returns the files written.

    Raises:
        BadInput: `folder` is no run directory, or what is in it is damaged.
    """
    from analysis import style
    from analysis.mnist import run as mnist_run

    answers = mnist_run.load(folder)
    with style.applied():
        figures = {
            "errors_against_temperature": draw_widths(answers),
            "fewer_images": draw_transfer(answers),
            "shifted": draw_shifted(answers),
        }
        return [
            path for name, figure in figures.items() if figure for path in style.save(figure, folder / "figures", name)
        ]


def draw_widths(answers: "Answers") -> Any:
    """Test errors against T, a panel a width; filled signs may be best. None where the part was not made."""
    from analysis import stats, style
    from analysis.mnist import claims

    judged = claims.judge_widths(answers)
    if not judged:
        return None
    axis = style.TemperatureAxis([t for one in judged for t in one.temperatures])
    figure = style.figure(5.4, 1.6 + 1.9 * len(judged))
    panels = figure.subplots(len(judged), 1, sharex=True, squeeze=False)[:, 0]
    for index, (axes, one) in enumerate(zip(panels, judged, strict=True)):
        intervals = [stats.interval_over(column) for column in np.moveaxis(one.errors, -1, 0)]
        values = [[getattr(found, name) for found in intervals] for name in ("mean", "low", "high")]
        teachers = f"{one.teachers} teacher{'s' * (one.teachers > 1)}"
        style.curve(axes, axis, list(one.temperatures), *values, index=index)
        out = ~np.isin(one.temperatures, one.candidates)
        places = [axis.place(t) for t in one.temperatures[out]]
        axes.plot(
            places,
            np.array(values[0])[out],
            ls="",
            marker=style.MARKERS[index],
            ms=6,
            mfc="white",
            mec=style.PALETTE[index],
            label="excluded as best (95 %)" if index == 0 else None,
            zorder=3,
        )
        hard = one.hard[~np.isnan(one.hard)]
        if len(hard):
            found = stats.interval(hard)
            style.band(axes, found.mean, found.low, found.high, label="hard labels")
        axes.set_ylabel("test errors")
        axes.set_title(f"{one.width} units per layer ({one.seeds} seeds, {teachers})", loc="left")
        axis.dress(axes, label=axes is panels[-1], crowded=0.05)
    style.legend(figure)
    taught = _taught(answers, max(one.teachers for one in judged))
    style.title(figure, f"Test errors with soft targets{taught}; bars: 95 % intervals", _where(answers))
    return figure


def draw_transfer(answers: "Answers") -> Any:
    """Test errors against images of the transfer set, soft against hard; None where the part was not made."""
    from analysis import stats, style
    from analysis.mnist import table as mnist_table_

    if not len(answers.of("transfer")):
        return None
    pairs = mnist_table_.transfer_pairs(answers)
    figure = style.figure(5.4, 3.6)
    axes = figure.subplots()
    for index, name in enumerate(("soft targets", "hard labels")):
        intervals = [stats.interval(pair[index]) for pair in pairs.values()]
        means = np.array([found.mean for found in intervals])
        bars = np.nan_to_num([[found.mean - found.low, found.high - found.mean] for found in intervals]).T
        axes.errorbar(
            list(pairs), means, bars, color=style.PALETTE[index], marker=style.MARKERS[index], capsize=3, label=name
        )
    axes.set_xscale("log")
    style.log_axis(axes)
    axes.set_xticks(list(pairs), [f"{images:,}" for images in pairs])
    axes.minorticks_off()
    axes.set_xlabel("images in the transfer set")
    axes.set_ylabel("test errors (images)")
    style.legend(figure)
    config = answers.identity["config"]
    what = (
        f"Fewer images, equal steps: {config['width']} units per layer, soft targets{_taught(answers, 1)} at T = "
        f"{config['temperature']:g}"
    )
    n = len(next(iter(pairs.values()))[0])
    style.title(figure, f"{what}; bars: 95 % intervals, {n} seeds", _where(answers))
    return figure


def draw_shifted(answers: "Answers") -> Any:
    """Test errors on shifted test images; None where the part was not made."""
    import pandas as pd

    from analysis import style

    path = answers.folder / "shifted.csv"
    if not path.exists():
        return None
    try:
        table = pd.read_csv(path)
        means = table.groupby(["network", "pixels"], sort=False)["errors"].mean().unstack("pixels")
        n = table[~table["network"].str.startswith("teacher")].groupby("network")["run"].nunique().max()
    except (ValueError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} is damaged ({error}): give the experiment's command again") from None
    figure = style.figure(5.4, 4.0)
    axes = figure.subplots()
    for index, (name, row) in enumerate(means.iterrows()):
        ls = "--" if str(name).startswith("distilled") else "-"  # what lies under a curve shows through
        colour, marker = style.PALETTE[index % 7], style.MARKERS[index % 7]
        axes.plot(row.index, row, color=colour, marker=marker, ls=ls, label=str(name))
    style.log_axis(axes)
    axes.set_xticks(list(means.columns))
    axes.set_xlabel("shift of the test images (pixels, mean over eight directions)")
    axes.set_ylabel("test errors (images)")
    style.legend(figure)
    config = answers.identity["config"]
    what = f"Errors on shifted digits: students of {config['width']} units per layer, T = {config['temperature']:g}"
    style.title(figure, f"{what}; means of {n} seeds", _where(answers))
    return figure


def _where(answers: "Answers") -> str:
    data = answers.identity["data"]
    test = "" if "test images" in data["description"] else f", {data['test_images']:,} test"
    return data["description"] + test


def _taught(answers: "Answers", teachers: int) -> str:
    """Whose soft targets they are, where that is not the paper's kind of teacher."""
    whose = "a teacher" if teachers == 1 else "teachers"
    return f" of {whose}{answers.of_which_images}" if answers.of_which_images else ""


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
