"""Which classes the teacher confuses: its mean soft targets by true class, as a figure and a table."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from scipy.special import softmax

from analysis import runs, style
from analysis.cifar10.run import Cifar10Results
from analysis.measures import SPLITS
from kdjax.files import write_csv

TEMPERATURES = (1.0, 4.0, 10.0, 20.0)


def mean_targets(
    logits: Float[np.ndarray, "images classes"], labels: Int[np.ndarray, "images"], temperature: float
) -> Float[np.ndarray, "classes classes"]:
    """Mean soft target by true class: row c is the mean of `softmax(v / T)` over the images of class c.

    Rows sum to 1; a class without images has a row of nan.

    Args:
        logits: the teacher's, v.
        labels: the true classes.
        temperature: T in (0, ∞).
    """
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


def draw(results: Cifar10Results, teacher: str) -> Figure:
    """The teacher's mean soft targets by true class, a panel a temperature; `teacher` names it. Their numbers go into
    a table beside."""
    names = results.identity["data"]["class_names"]
    arrays = runs.load_arrays(results.folder / "teacher.npz")
    logits, labels = (arrays[f"{results.split}_{name}"] for name in ("logits", "labels"))
    similarities = {temperature: mean_targets(logits, labels, temperature) for temperature in TEMPERATURES}
    lines = [
        (temperature, true, soft, shares[row, column])
        for temperature, shares in similarities.items()
        for row, true in enumerate(names)
        for column, soft in enumerate(names)
    ]
    table = pd.DataFrame(lines, columns=["temperature", "true", "soft", "share"])
    write_csv(results.folder / "class_similarity.csv", table, digits=6)
    figure = style.figure(8.0, 7.8)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
    for axes, (temperature, shares) in zip(panels, similarities.items(), strict=True):
        shown = np.where(np.eye(len(shares), dtype=bool), np.nan, shares)  # the right class would outshine the rest
        image = axes.imshow(shown, cmap="viridis")
        figure.colorbar(image, ax=axes, shrink=0.8, label="mean probability")
        first, second = (names[index] for index in most_alike(shares))
        axes.set_title(f"T = {temperature:g}: most alike {first}, {second}", fontsize=10)
        ticks = range(len(names))
        axes.set_xticks(ticks, names, rotation=90, fontsize=8.5)
        axes.set_yticks(ticks, names, fontsize=8.5)
        axes.set(xlabel="class in the soft target", ylabel="true class")
        axes.label_outer()
        axes.grid(visible=False)
    what = "Mean soft target of the teacher, by true class (the right class left out; each panel its own scale)"
    images = f"n = {len(labels):,} {SPLITS[results.split]} images"
    style.title(figure, what, f"{results.identity['data']['description']}; {teacher}, {images}")
    return figure
