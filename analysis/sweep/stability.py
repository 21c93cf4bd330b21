"""How much a network's predictions fluctuate from epoch to epoch: on soft targets, against hard labels.

Of a sweep of `--schedule constant --monitor-every 1` (a falling rate would reduce all fluctuation). Over the second
half of the epochs, on the hold-out (without one, on the test images):

    fluctuation   standard deviation of a_{e+1} − a_e, where a_e is the accuracy after epoch e (percentage points)
    churn         mean share of images predicted otherwise than after the epoch before (per cent)

Students of soft targets are compared with those of hard labels by ln(soft/hard), paired by seed: its mean and 95 % t
interval, given as ratios. Is a distilled network steadier? A ratio below 1 says so.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import crossed, runs, stats, wording
from analysis.sweep.run import load
from analysis.tables import Table, count_of, estimate, number
from kdjax.config import STABILITY_EPOCHS
from kdjax.errors import require
from kdjax.files import read_json, write_csv, write_whole
from kdjax.objectives import is_compared, words_of
from kdjax.targets import WORDS

MEASURES = {"fluctuation": "fluctuation, points", "churn": "churn, %"}


def measure(folder: Path) -> pd.DataFrame:
    """Fluctuation and churn of every finished run of a sweep, in per cent of the monitored images.

    Raises:
        BadInput: its learning rate was not constant, or its predictions were not compared after every epoch.
    """
    identity = runs.read_config(folder, "temperature_sweep")["identity"]
    sweep = load(folder)
    again = "give its command again with --schedule constant --monitor-every 1"
    require(
        identity["config"].get("schedule") == "constant",
        f"{folder} was trained at a falling learning rate, which calms every network down: {again}",
    )
    epochs = int(identity["config"]["epochs"])
    late = sweep.history[sweep.history["epoch"] > epochs // 2]
    require(
        "monitor_changed" in late and late[["monitor_errors", "monitor_changed"]].notna().all(axis=None),
        f"{folder} does not tell after every epoch how many predictions changed: {again}",
    )
    require(
        epochs >= STABILITY_EPOCHS,
        f"{folder} has {count_of(epochs, 'epoch')}: a standard deviation over half of them needs {STABILITY_EPOCHS} or "
        "more",
    )
    images, keys = identity["data"]["holdout"] or len(sweep.labels), [*runs.SETTING, *runs.RUN]
    rows = []
    for key, lines in late.groupby(keys, dropna=False):
        accuracy = 100 - 100 * lines.sort_values("epoch")["monitor_errors"].to_numpy(float) / images
        changed = 100 * lines["monitor_changed"].to_numpy(float) / images
        fluctuation = float(np.std(np.diff(accuracy), ddof=1))
        rows.append({**dict(zip(keys, key, strict=True)), "fluctuation": fluctuation, "churn": float(changed.mean())})
    require(len(rows), f"{folder} holds no run that did not fail: nothing is to be measured")
    return pd.DataFrame(rows)


def ratio(soft: pd.DataFrame, hard: pd.DataFrame, column: str) -> stats.Difference | None:
    """ln(soft/hard) of a measure, paired by seed, as a ratio; None where no seed has both, or one of them is 0."""
    a, b = (rows.groupby("seed")[column].mean() for rows in (soft, hard))
    shared = a.index.intersection(b.index)
    if not len(shared) or not (a[shared].gt(0) & b[shared].gt(0)).all():
        return None
    logs = crossed.paired_difference(np.log(a[shared].to_numpy(float)), np.log(b[shared].to_numpy(float)))
    return logs._replace(mean=math.exp(logs.mean), low=_bound(logs.low), high=_bound(logs.high))


def _bound(log: float) -> float:
    """A bound of a ratio; 0 or infinity where it lies beyond 1/1,000 or 1,000: it bounds nothing."""
    return math.exp(log) if not abs(log) > math.log(1000) else 0.0 if log < 0 else math.inf


def write(folder: Path) -> str:
    """Writes `stability.csv` and `stability.md` into a run directory; returns the latter."""
    measured, identity = measure(folder), read_json(folder / "config.json")["identity"]
    config, data = identity["config"], identity["data"]
    watched = f"{data['holdout']:,} held-out images" if data["holdout"] else "the test images"
    table = _table(measured, config.get("targets", "teacher"))
    notes = [
        f"At a constant learning rate, over the second half of {config['epochs']} epochs, on {watched}. Fluctuation: "
        "standard deviation of the change of accuracy from one epoch to the next. Churn: predictions that "
        "changed since the epoch before.",
        "Mean and 95 % t interval over runs; ratios are of geometric means, paired by seed. Intervals are not "
        "corrected for their number; the first sentence is.",
        *_double_softmax_notes(measured),
    ]
    title = ", ".join(["# Fluctuation from epoch to epoch", data["description"], *wording.unusual_options(identity)])
    said, shown = verdict(measured, config.get("targets", "teacher")), table._replace(notes=notes).markdown()
    of_settings = measured.groupby(runs.SETTING, dropna=False)
    means = [stats.interval(of_one[name].to_numpy(float)) for _, of_one in of_settings for name in MEASURES]
    warnings = [f"Warning: {one}" for one in stats.cautions(measured["seed"].nunique(), means)]
    text = "\n\n".join([title, f"**{said}**", *warnings, shown]) + "\n"
    write_csv(folder / "stability.csv", measured)
    write_whole(folder / "stability.md", text)
    return text


def verdict(measured: pd.DataFrame, targets: str = "teacher") -> str:
    """Whether networks of the objectives are steadier than those of hard labels, for all settings of a measure at
    once; baselines are no settings."""
    parts, compared = list[str](), measured[measured["objective"].map(is_compared)]
    for column, heading in MEASURES.items():
        ratios = []
        for (width, rate, *_), soft in compared.groupby(
            ["width", "learning_rate", "objective", "soft_weight", "temperature"], dropna=False
        ):
            same = measured["width"].eq(width) & measured["learning_rate"].eq(rate)
            ratios.append(ratio(soft, measured[same & measured["objective"].eq("hard")], column))
        logs = [one._replace(mean=math.log(one.mean)) for one in ratios if one is not None and one.n > 1]
        claims = stats.claimed(logs)
        counts = [sum(call and sign * one.mean > 0 for one, call in zip(logs, claims, strict=True)) for sign in (-1, 1)]
        if logs:
            name, left = heading.split(",")[0], len(ratios) - len(logs)
            parts.append(f"{name} smaller at {counts[0]} and larger at {counts[1]} of {count_of(len(logs), 'setting')}")
            parts[-1] += f" ({left} not compared)" * bool(left)
    if not parts:
        return "Whether a teacher makes a network steadier cannot be told: nothing can be compared over two seeds."
    subject = " and ".join(map(words_of, compared["objective"].unique()))
    subject += f" ({WORDS.get(targets, targets)})" if targets != "teacher" else ""
    return f"On {subject}, against hard labels: {'; '.join(parts)}; elsewhere no difference is seen."


def _table(measured: pd.DataFrame, targets: str) -> Table:
    """Measures of each setting, and their ratios to hard labels."""
    header = ["units", "", "T", "rate", *MEASURES.values(), "n"]
    header += [*(f"{name}: ratio to hard labels" for name in MEASURES), "pairs"]
    cells = []
    for (width, rate), of_width in measured.groupby(["width", "learning_rate"]):
        hard = of_width[of_width["objective"] == "hard"]
        groups = of_width.groupby(["objective", "soft_weight", "temperature"], dropna=False)
        for (objective, weight, temperature), rows in groups:
            means = [stats.interval(rows[column].to_numpy(float)) for column in MEASURES]
            t = "–" if objective == "hard" else number(temperature)
            cell = [str(width), name(objective, weight, targets), t, f"{rate:g}"]
            cell += [*(estimate(mean, 2) for mean in means), str(means[0].n)]
            ratios = [None if objective == "hard" else ratio(rows, hard, column) for column in MEASURES]
            cell += ["" if one is None else estimate(one, 2) for one in ratios]
            cells.append([*cell, next((str(one.n) for one in ratios if one is not None), "")])
    return Table(header, cells, left=2)


def _double_softmax_notes(measured: pd.DataFrame) -> list[str]:
    notes = []
    for _, rows in measured.groupby(["width", "learning_rate", "soft_weight", "temperature"]):
        control, soft = (rows[rows["objective"] == kind] for kind in ("double_softmax", "kd"))
        ratios = {name: ratio(control, soft, name) for name in MEASURES}
        numbers = ", ".join(f"{name} {estimate(one, 2)}" for name, one in ratios.items() if one)
        if numbers:
            where = ", ".join(wording.in_words(rows.iloc[0], ["width", "temperature", "soft_weight", "learning_rate"]))
            notes.append(f"Double softmax, ratio to distilled ({where}): {numbers}.")
    return notes


def name(objective: str, weight: float, targets: str) -> str:
    """What a student minimises, in words."""
    if objective == "hard":
        return "hard labels"
    soft = "distilled" if targets == "teacher" else WORDS.get(targets, targets)
    named = soft if objective == "kd" else words_of(objective)
    return f"{named}, soft weight {weight:g}"
