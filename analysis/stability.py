"""How much a network's answers fluctuate from epoch to epoch: `python -m analysis.stability [RUN]`

Of a sweep of `--schedule constant --monitor-every 1` (a falling rate would calm everything down). Over the second half
of the epochs, on the hold-out (without one, on the test images):

    fluctuation   standard deviation of a_{e+1} − a_e, where a_e is the accuracy after epoch e (points of per cent)
    churn         mean share of images answered otherwise than after the epoch before (per cent)

Students of soft targets are compared with those of hard labels by ln(soft/hard), paired by seed: its mean and 95 % t
interval, given as ratios. Is a distilled network steadier? A ratio below 1 says so.
"""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import tyro

from analysis import stats, tables
from analysis.sweep import run as sweep_run
from kdjax import cli, run_directory
from kdjax.config import STABILITY_EPOCHS
from kdjax.errors import require
from kdjax.files import write_whole

MEASURES = {"fluctuation": "fluctuation, points", "churn": "churn, %"}


@dataclasses.dataclass(frozen=True)
class StabilityConfig:
    """Compares how answers fluctuate between epochs, on soft targets and on hard labels."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory of a sweep (default: the newest in runs/temperature_sweep)."""
    out: Path = Path("runs")
    """Folder in which the newest run is sought."""


def measure(folder: Path) -> pd.DataFrame:
    """Fluctuation and churn of every finished run of a sweep, in per cent of the monitored images.

    Raises:
        BadInput: its learning rate was not constant, or its answers were not counted after every epoch.
    """
    run, identity = sweep_run.load(folder), run_directory.read_json(folder / "config.json")["identity"]
    require(
        identity["experiment"] == "temperature_sweep", f"{folder} is no run of temperature_sweep: name one of its runs"
    )
    again = "give its command again with --schedule constant --monitor-every 1"
    require(
        identity["config"].get("schedule") == "constant",
        f"{folder} was trained at a falling learning rate, which calms every network down: {again}",
    )
    epochs = int(identity["config"]["epochs"])
    late = run.history[run.history["epoch"] > epochs // 2]
    require(
        "monitor_changed" in late and late[["monitor_errors", "monitor_changed"]].notna().all(axis=None),
        f"{folder} does not tell after every epoch how many answers changed: {again}",
    )
    require(
        epochs >= STABILITY_EPOCHS,
        f"{folder} has {epochs} epochs: a standard deviation over half of them needs {STABILITY_EPOCHS} or more",
    )
    images, keys = identity["data"]["holdout"] or len(run.labels), [*tables.SETTING, *tables.RUN]
    rows = []
    for key, lines in late.groupby(keys, dropna=False):
        accuracy = 100 - 100 * lines.sort_values("epoch")["monitor_errors"].to_numpy(float) / images
        changed = 100 * lines["monitor_changed"].to_numpy(float) / images
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                "fluctuation": float(np.std(np.diff(accuracy), ddof=1)),
                "churn": float(changed.mean()),
            }
        )
    require(len(rows), f"{folder} holds no run that did not fail: nothing is to be measured")
    return pd.DataFrame(rows)


def ratio(runs: pd.DataFrame, base: pd.DataFrame, column: str) -> stats.Difference | None:
    """ln(runs/base) of a measure, paired by seed, in ratios; None where no seed has both, or one of them is 0."""
    mine, base = (rows.groupby("seed")[column].mean() for rows in (runs, base))
    shared = mine.index.intersection(base.index)
    both = mine[shared].to_numpy(float), base[shared].to_numpy(float)
    if not len(shared) or not all((values > 0).all() for values in both):
        return None
    found = stats.paired_difference(*map(np.log, both))
    return found._replace(mean=math.exp(found.mean), low=math.exp(found.low), high=math.exp(found.high))


def write(folder: Path) -> str:
    """Writes `stability.csv` and `stability.md` into a run directory; returns the latter."""
    measured, config = measure(folder), run_directory.read_json(folder / "config.json")["identity"]["config"]
    ratios = [f"{name}: ratio to hard labels" for name in MEASURES]
    header = ["units", "", "T", "rate", *MEASURES.values(), "n", *ratios, "pairs"]
    cells = []
    for (width, rate), of_width in measured.groupby(["width", "learning_rate"]):
        hard = of_width[of_width["objective"] == "hard"]
        groups = of_width.groupby(["objective", "soft_weight", "temperature"], dropna=False)
        for (objective, weight, temperature), runs in groups:
            each = [stats.interval(runs[column].to_numpy(float)) for column in MEASURES]
            name = _name(objective, weight, config.get("targets", "teacher"))
            cell = [str(width), name, "–" if objective == "hard" else tables.number(temperature), f"{rate:g}"]
            cell += [tables.estimate(found, 2) for found in each] + [str(each[0].n)]
            compared = [None if objective == "hard" else ratio(runs, hard, column) for column in MEASURES]
            cell += ["" if found is None else tables.estimate(found, 2) for found in compared]
            cells.append([*cell, next((str(found.n) for found in compared if found is not None), "")])
    data = run_directory.read_json(folder / "config.json")["identity"]["data"]
    said = []
    for (width, rate, weight, temperature), runs in measured.groupby(
        ["width", "learning_rate", "soft_weight", "temperature"]
    ):
        control, soft = (runs[runs["objective"] == kind] for kind in ("double_softmax", "soft"))
        ratios_of = {name: ratio(control, soft, name) for name in MEASURES}
        numbers = ", ".join(f"{name} {tables.estimate(found, 2)}" for name, found in ratios_of.items() if found)
        if numbers:
            where = f"{width} units, T = {tables.number(temperature)}, soft weight {weight:g}, rate {rate:g}"
            said.append(f"Double softmax, ratio to distilled ({where}): {numbers}.")
    watched = f"{data['holdout']:,} held-out images" if data["holdout"] else "the test images"
    notes = [
        f"At a constant learning rate, over the second half of {config['epochs']} epochs, on {watched}. Fluctuation: "
        "standard deviation of the change of accuracy from one epoch to the next. Churn: images answered otherwise "
        "than an epoch before.",
        "Mean and 95 % t interval over runs; ratios are of geometric means, paired by seed, and a difference is seen "
        "where the interval excludes 1.",
        *said,
    ]
    title = f"# Fluctuation from epoch to epoch, {data['description']}"
    text = f"{title}\n\n{tables.markdown(header, cells, notes, left=2)}\n"
    write_whole(folder / "stability.csv", measured.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    write_whole(folder / "stability.md", text)
    return text


def _name(objective: str, weight: float, targets: str) -> str:
    if objective == "hard":
        return "hard labels"
    soft = "distilled" if targets == "teacher" else targets.replace("_", " ")
    named = {"soft": soft, "double_softmax": "double softmax"}.get(objective, objective)
    return f"{named}, soft weight {weight:g}"


def main(config: StabilityConfig) -> None:
    """Prints the table."""
    print(write(config.run or run_directory.latest_run(config.out, "temperature_sweep")))


if __name__ == "__main__":
    cli.run(main, StabilityConfig, "python -m analysis.stability")
