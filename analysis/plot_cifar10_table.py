"""Draws what the teacher of a CIFAR-10 table knows: which classes it takes for alike, at several temperatures.

    python -m analysis.plot_cifar10_table [FOLDER]

Figures go into FOLDER/figures, as PNG and PDF.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float, Int

from kdjax import cli, records

PROG = "python -m analysis.plot_cifar10_table"
TEMPERATURES = (1.0, 4.0, 10.0, 20.0)


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """Draws the class similarities of a CIFAR-10 table's teacher, and writes its summary again."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory to draw (default: the one under --out with the newest table)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""


def main(config: PlotConfig) -> None:
    """Draws, and says where."""
    from analysis import tables_cifar10

    folder = config.folder or records.latest_run(config.out, "cifar10_table", "table", "table.csv")
    tables_cifar10.write_summary(folder)
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
    """Draws the figure of a table's run directory into its folder `figures`; returns the files written.

    Raises:
        BadInput: `folder` is no run directory, or what is in it is damaged.
    """
    from analysis import style, sweep_run, tables_cifar10

    answers = tables_cifar10.load(folder)
    run = sweep_run.load(answers.runs["teacher"])
    with style.applied():
        figure = style.figure(9.6, 9.0)
        for axes, temperature in zip(figure.subplots(2, 2).ravel(), TEMPERATURES, strict=True):
            table = class_similarity(run.teacher_logits, run.labels, temperature)
            shown = np.where(np.eye(len(table), dtype=bool), np.nan, table)  # the right class would outshine the rest
            image = axes.imshow(shown, cmap="viridis", vmin=0)
            figure.colorbar(image, ax=axes, shrink=0.8)
            first, second = (run.class_names[index] for index in most_alike(table))
            axes.set_title(f"T = {temperature:g}: most alike {first}, {second}", fontsize=10)
            ticks = range(len(run.class_names))
            axes.set_xticks(ticks, run.class_names, rotation=90, fontsize=8)
            axes.set_yticks(ticks, run.class_names, fontsize=8)
            axes.set(xlabel="class in the soft target", ylabel="true class")
            axes.grid(visible=False)
        what = "Mean soft target of the big network's test logits, by true class (the right class left out)"
        style.title(figure, what, run.where)
        return style.save(figure, folder / "figures", "class_similarity")


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
