"""A throughput measurement: its table and its figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis import style
from analysis.runs import reading
from analysis.tables import Table, fixed
from kdjax.errors import require
from kdjax.files import read_json, write_whole

COLUMNS = {
    "case": ("case", ""),
    "precision": ("precision", ""),
    "step_ms": ("ms/step", ".2f"),
    "images_runs_per_second": ("images·runs/s", ",.0f"),
    "gflops": ("GFLOP/s", ".0f"),
    "share": ("share", ".2f"),
    "memory_share": ("memory", ".2f"),
    "epoch_seconds": ("s/epoch", ".4f"),
    "compiler_count": ("XLA/count", ".2f"),
    "peak_mib": ("MiB", ".0f"),
    "compile_seconds": ("compile s", ".1f"),
    "torch_idiomatic": ("× idiomatic", ".2f"),
    "torch_tuned": ("× tuned", ".2f"),
}
"""Number → its heading and format."""
NOTES = (
    "share: of the speed of a bare product of the same precision, 256 × width × width, in the same process",
    "memory: share of memory's speed that reading and writing parameters and moments once a step needs",
    "s/epoch: of one network; XLA/count: operations that XLA counts over those of the products",
    "MiB: the compiled step with its data; ×: PyTorch's seconds over these",
)


def read(folder: Path) -> dict[str, Any]:
    """A measurement, as `experiments.throughput` wrote it.

    Raises:
        BadInput: the folder holds none, or a damaged one.
    """
    path = folder / "throughput.json"
    measurement = read_json(path)
    with reading(path):
        complete = {"provenance", "cases", "scaling"} <= measurement.keys()
        complete = complete and {"device", "cpus", "versions"} <= measurement["provenance"].keys()
        needed = {*COLUMNS, "image_shape", "batch_size"}
        complete = complete and all(needed <= case.keys() for case in measurement["cases"])
    require(complete, f"{path} is no measurement: run python -m experiments.throughput")
    return dict(measurement)


def table(cases: Sequence[dict[str, Any]]) -> Table:
    """One row per case; a cell is empty where the number was not measured."""
    cells = [[(case[name], form) for name, (_, form) in COLUMNS.items()] for case in cases]
    rows = [["" if value is None else format(value, form) for value, form in row] for row in cells]
    return Table([heading for heading, _ in COLUMNS.values()], rows, NOTES, left=2)


def draw(folder: Path) -> list[Path]:
    """Draws a measurement into `folder/figures` and writes `summary.md`; returns the figures' paths."""
    measurement = read(folder)
    cases, provenance = measurement["cases"], measurement["provenance"]
    kinds = dict.fromkeys((tuple(case["image_shape"]), case["batch_size"]) for case in cases)
    images = " and ".join(f"{'×'.join(map(str, shape))} in batches of {batch}" for shape, batch in kinds)
    device = provenance["device"].partition(" (")[0]
    machine = f"{device}, {provenance['cpus']} cores, JAX {provenance['versions'].get('jax')}"
    where, scaling = f"random images of {images}; {machine}", measurement["scaling"]
    with style.applied():
        figures = {
            "share_of_a_bare_product": _shares(cases, where),
            "linear_cost": _scaling(scaling, machine) if scaling else None,
        }
        paths = style.save_all(folder, figures)
    write_whole(folder / "summary.md", f"# Throughput\n\n{where}\n\n{table(cases).markdown()}\n")
    return paths


def fit_line(points: list[list[float]]) -> tuple[float, float, float]:
    """Least squares `seconds = a + b·number`; returns (a, b, largest deviation as a share of the largest seconds)."""
    numbers, seconds = np.array(points, float).T
    slope, start = np.polyfit(numbers, seconds, 1)
    deviation = np.abs(start + slope * numbers - seconds).max() / seconds.max()
    return float(start), float(slope), float(deviation)


def _shares(cases: list[dict[str, Any]], where: str) -> Figure:
    figure = style.figure(5.6, 1.7 + 0.42 * len(cases))
    axes = figure.subplots()
    names = [f"{case['case']}, {case['precision']}" for case in cases]
    colours = [style.PALETTE[case["precision"] == "bfloat16"] for case in cases]
    axes.barh(range(len(cases)), [case["share"] for case in cases], color=colours, height=0.6)
    for place, case in enumerate(cases):
        label = f"{case['share']:.2f} ({case['gflops']:,.0f} GFLOP/s)"
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(case["share"] + 0.04, place, label, va="center", fontsize=9.5, bbox=behind)
    axes.axvline(1, color=style.GREY, linestyle="--", linewidth=1.2)
    axes.set_yticks(range(len(cases)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.45 * max([1.0, *(case["share"] for case in cases)]))
    axes.set_xlabel("share of a bare product of the same precision")
    style.title(figure, "Training steps beside a bare product (KxW: a block of K students of W units)", where)
    return figure


def _scaling(scaling: dict[str, Any], where: str) -> Figure:
    figure = style.figure(7.2, 3.9)
    panels = (("blocks", "blocks of 8 students", 1), ("images", "training images (thousands)", 1000))
    for axes, (key, label, scale) in zip(figure.subplots(1, 2), panels, strict=True):
        points = [[number / scale, seconds] for number, seconds in scaling[key]]
        start, slope, deviation = fit_line(points)
        across = np.array([0, points[-1][0]])
        axes.plot(across, start + slope * across, color=style.GREY, linewidth=1.4, zorder=1)
        axes.plot(*np.array(points).T, style.MARKERS[0], color=style.PALETTE[0])
        line = f"{fixed(start, 2)} + {slope:.3f} · x s\nwithin {100 * deviation:.1f} % of the largest"
        axes.text(0.04, 0.96, line, transform=axes.transAxes, va="top", fontsize=9.5)
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    figure.axes[0].set_ylabel("seconds of training")
    style.title(
        figure,
        "Time against size: students 784-300-300-10 on random images, eight a block; lines: least squares",
        where,
    )
    return figure
