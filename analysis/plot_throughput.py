"""The table and the figures of a throughput measurement: `python -m analysis.plot_throughput [FOLDER]`"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from kdjax import cli
from kdjax.config import CONVOLUTIONAL

PROG = "python -m analysis.plot_throughput"
COLUMNS = {
    "case": "case",
    "precision": "precision",
    "step_ms": "ms/step",
    "images_runs_per_second": "images·runs/s",
    "gflops": "GFLOP/s",
    "share": "share",
    "epoch_seconds": "s/epoch",
    "compiler_count": "XLA/formula",
    "peak_mib": "MiB",
    "compile_seconds": "compile s",
    "torch_idiomatic": "× idiomatic",
    "torch_tuned": "× tuned",
}
FORMATS = {"step_ms": ".2f", "images_runs_per_second": ",.0f", "gflops": ".0f", "share": ".2f", "epoch_seconds": ".4f",
           "compiler_count": ".2f", "peak_mib": ".0f", "compile_seconds": ".1f", "torch_idiomatic": ".2f",
           "torch_tuned": ".2f"}  # fmt: skip
NOTE = (
    "share: of a bare float32 product, 256 × width × width, in the same process; s/epoch: of one network; MiB: the "
    "compiled step with its data; ×: PyTorch's seconds over these"
)


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """Draws a measurement again."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """A folder that experiments.throughput wrote (default: the newest in OUT)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""


def header() -> str:
    """The first line of the table."""
    return "  ".join(f"{name:>{_width(column)}}" for column, name in COLUMNS.items())


def line(case: dict[str, Any]) -> str:
    """One case as a line of the table."""
    return "  ".join(f"{cell(case, column):>{_width(column)}}" for column in COLUMNS)


def cell(case: dict[str, Any], column: str) -> str:
    """One number as it is printed; empty where it was not measured."""
    value = case.get(column)
    return "" if value is None else format(value, FORMATS.get(column, ""))


def read(folder: Path) -> dict[str, Any]:
    """A measurement.

    Raises:
        BadInput: the folder holds none, or a damaged one.
    """
    from kdjax import run_directory
    from kdjax.errors import require

    found = run_directory.read_json(folder / "throughput.json")
    whole = isinstance(found, dict) and {"config", "provenance", "cases", "scaling"} <= found.keys()
    require(whole, f"{folder / 'throughput.json'} is no measurement: run python -m experiments.throughput")
    return dict(found)


def draw(folder: Path) -> list[Path]:
    """Draws the figures of a measurement into `folder/figures`, and writes `summary.md`; returns the figures' paths."""
    from analysis import style
    from kdjax.files import write_whole

    found = read(folder)
    convolutional = [case["case"] for case in found["cases"] if case["case"] in CONVOLUTIONAL]
    kinds = [f"784 pixels, batches of {found['config']['batch_size']} (teacher 256)"]
    kinds = kinds if len(convolutional) < len(found["cases"]) or found["scaling"] else []
    kinds += ["32 × 32 × 3 values, batches of 128 (small, big)"] if convolutional else []
    where = f"random images of {'; '.join(kinds)}, "
    where += f"{found['provenance']['device'].partition(' (')[0]}, "
    where += f"{found['provenance']['cpus']} cores, JAX {found['provenance']['versions']['jax']}"
    with style.applied():
        paths = style.save(_shares(found["cases"], where), folder / "figures", "share_of_a_bare_product")
        if found["scaling"]:
            paths += style.save(_scaling(found["scaling"], where), folder / "figures", "linear_cost")
    rows = [[cell(case, column) for column in COLUMNS] for case in found["cases"]]
    rule = ["---", "---", *["---:"] * (len(COLUMNS) - 2)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in ([*COLUMNS.values()], rule, *rows))
    write_whole(folder / "summary.md", f"# Throughput\n\n{where}\n\n{table}\n\n{NOTE}\n")
    return paths


def fit_line(points: list[list[float]]) -> tuple[float, float, float]:
    """Least squares `seconds = a + b·number`; returns (a, b, largest deviation as a share of the largest seconds)."""
    import numpy as np

    numbers, seconds = np.array(points, float).T
    slope, start = np.polyfit(numbers, seconds, 1)
    deviation = np.abs(start + slope * numbers - seconds).max() / seconds.max()
    return float(start), float(slope), float(deviation)


def _shares(cases: list[dict[str, Any]], where: str) -> Any:
    from analysis import style

    figure = style.figure(5.6, 1.7 + 0.42 * len(cases))
    axes = figure.subplots()
    names = [f"{case['case']}, {case['precision']}" for case in cases]
    colours = [style.PALETTE[case["precision"] == "bfloat16"] for case in cases]
    axes.barh(range(len(cases)), [case["share"] for case in cases], color=colours, height=0.6)
    for place, case in enumerate(cases):
        said = f"{case['share']:.2f} ({case['gflops']:,.0f} GFLOP/s)"
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text(case["share"] + 0.04, place, said, va="center", fontsize=9.5, bbox=behind)
    axes.axvline(1, color=style.GREY, linestyle="--", linewidth=1.2)
    axes.set_yticks(range(len(cases)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.45 * max([1.0, *(case["share"] for case in cases)]))
    axes.set_xlabel("speed, as a share of a bare float32 product")
    style.title(figure, "Training steps: a teacher, and blocks of K students of W units (KxW)", where)
    return figure


def _scaling(scaling: dict[str, Any], where: str) -> Any:
    import numpy as np

    from analysis import style

    figure = style.figure(7.2, 3.9)
    for axes, (key, label) in zip(
        figure.subplots(1, 2),
        (("blocks", "blocks of 8 students"), ("images", "training images (thousands)")),
        strict=True,
    ):
        scale = 1 if key == "blocks" else 1000
        points = [[number / scale, seconds] for number, seconds in scaling[key]]
        start, slope, deviation = fit_line(points)
        across = np.array([0, points[-1][0]])
        axes.plot(across, start + slope * across, color=style.GREY, linewidth=1.4, zorder=1)
        axes.plot(*np.array(points).T, style.MARKERS[0], color=style.PALETTE[0])
        said = f"{start:.2f} + {slope:.3f} · x s\nwithin {100 * deviation:.1f} % of the largest"
        axes.text(0.04, 0.96, said, transform=axes.transAxes, va="top", fontsize=9.5)
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    figure.axes[0].set_ylabel("seconds of training")
    style.title(figure, "Cost grows linearly: students 784-300-300-10, eight a block; lines: least squares", where)
    return figure


def _width(column: str) -> int:
    return max(len(COLUMNS[column]), 9)


def main(config: PlotConfig) -> None:
    """Draws, and says where."""
    from kdjax.errors import require

    found = sorted(config.out.glob("throughput/*/throughput.json"), key=lambda path: path.stat().st_mtime)
    missing = f"{config.out / 'throughput'} holds no measurement: run python -m experiments.throughput first"
    require(config.folder or found, missing)
    folder = config.folder or found[-1].parent
    for path in draw(folder):
        if path.suffix == ".png":
            print(path)


if __name__ == "__main__":
    cli.run(main, PlotConfig, PROG)
