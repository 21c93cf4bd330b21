"""Draws what the teacher of a CIFAR-10 table knows: which classes it takes for alike, at several temperatures.

    python -m analysis.plot_cifar10_table [FOLDER]

Figures go into FOLDER/figures, as PNG and PDF.
"""

import dataclasses
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float, Int

from kdjax import cli, records
from kdjax.config import BadInput
from kdjax.files import write_whole

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
    import pandas as pd

    from analysis import style, tables_cifar10

    answers = tables_cifar10.load(folder)
    names = answers.identity["data"]["class_names"]
    split = "holdout" if "holdout" in answers.teacher else "test"
    try:
        with np.load(folder / "teacher.npz") as arrays:
            logits, labels = arrays[f"{split}_logits"], arrays[f"{split}_labels"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{folder / 'teacher.npz'} is damaged ({error}): give the experiment's command again") from None
    tables = {temperature: class_similarity(logits, labels, temperature) for temperature in TEMPERATURES}
    lines = [
        (temperature, true, soft, table[row, column])
        for temperature, table in tables.items()
        for row, true in enumerate(names)
        for column, soft in enumerate(names)
    ]
    frame = pd.DataFrame(lines, columns=["temperature", "true", "soft", "share"])
    write_whole(folder / "class_similarity.csv", frame.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    with style.applied():
        figure = style.figure(9.6, 9.0)
        for axes, (temperature, table) in zip(figure.subplots(2, 2).ravel(), tables.items(), strict=True):
            shown = np.where(np.eye(len(table), dtype=bool), np.nan, table)  # the right class would outshine the rest
            image = axes.imshow(shown, cmap="viridis")
            figure.colorbar(image, ax=axes, shrink=0.8)
            first, second = (names[index] for index in most_alike(table))
            axes.set_title(f"T = {temperature:g}: most alike {first}, {second}", fontsize=10)
            ticks = range(len(names))
            axes.set_xticks(ticks, names, rotation=90, fontsize=8)
            axes.set_yticks(ticks, names, fontsize=8)
            axes.set(xlabel="class in the soft target", ylabel="true class")
            axes.grid(visible=False)
        what = "Mean soft target of the teacher, by true class (the right class left out; each panel its own scale)"
        many = len(answers.taught_by)
        of = "one teacher" if many == 1 else f"an ensemble of {many} teachers"
        images = f"{len(labels):,} {tables_cifar10.SPLITS[split]} images"
        style.title(figure, what, f"{answers.identity['data']['description']}; {of}, n = {images}")
        return style.save(figure, folder / "figures", "class_similarity")


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
