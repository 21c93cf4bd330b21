"""Fluctuation and churn: their definitions on made-up curves, and the whole of it after a real sweep."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from analysis import stability as command
from analysis import style
from analysis.sweep import stability, stability_figure
from analysis.tables import estimate
from kdjax.errors import BadInput
from tests import commands

EPOCHS = 8


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    root = tmp_path_factory.mktemp("stability")
    more = (
        "--schedule",
        "constant",
        "--monitor-every",
        "1",
        "--epochs",
        str(EPOCHS),
        "--objectives",
        "kd",
        "double_softmax",
    )
    code, said = commands.call_sweep(root, *more, "--name", "run")
    assert code == 0, said
    return root / "runs" / "temperature_sweep" / "run"


def lines_of(folder):
    return pd.DataFrame(map(json.loads, (folder / "history.jsonl").read_text().splitlines()))


def test_every_epoch_but_the_first_tells_what_changed(swept):
    lines = lines_of(swept)
    first = lines["epoch"] == 1
    assert lines["monitor_errors"].notna().all() and lines["monitor_changed"].notna().eq(~first).all()
    # Errors cannot change by more than answers do.
    for _, run in lines.groupby(["seed", "objective", "temperature"], dropna=False):
        steps = np.abs(np.diff(run.sort_values("epoch")["monitor_errors"]))
        assert (steps <= run.sort_values("epoch")["monitor_changed"].iloc[1:].to_numpy()).all()
    assert lines["monitor_changed"].max() > 0


def test_the_measures_are_those_of_the_second_half(swept):
    measured, lines = stability.measure(swept), lines_of(swept)
    images = len(np.load(swept / "test.npz")["labels"])
    row = measured[(measured["objective"] == "hard") & (measured["seed"] == 1)].iloc[0]
    mine = lines[(lines["objective"] == "hard") & (lines["seed"] == 1) & (lines["epoch"] > EPOCHS // 2)]
    accuracy = 100 * (1 - mine["monitor_errors"].to_numpy() / images)
    changes = accuracy[1:] - accuracy[:-1]
    assert row["fluctuation"] == pytest.approx(math.sqrt(((changes - changes.mean()) ** 2).sum() / (len(changes) - 1)))
    assert row["churn"] == pytest.approx(100 * mine["monitor_changed"].mean() / images)


def test_ratios_are_geometric_and_paired_by_seed():
    hard = pd.DataFrame({"seed": [0, 1, 2], "churn": [1.0, 2.0, 4.0]})
    soft = hard.assign(churn=[0.5, 1.0, 2.0])
    found = stability.ratio(soft, hard.iloc[::-1], "churn")
    assert found.mean == pytest.approx(0.5) and found.n == 3
    wild = soft.assign(churn=[10.0 ** (3 * (seed % 2)) for seed in soft["seed"]])
    assert stability.ratio(wild, hard.assign(churn=1.0), "churn").high == math.inf
    assert estimate(stability.ratio(wild, hard.assign(churn=1.0), "churn"), 2).endswith("[0.00, ∞]")
    assert stability.ratio(soft.assign(churn=0.0), hard, "churn") is None
    assert stability.ratio(soft.assign(seed=soft["seed"] + 5), hard, "churn") is None


def test_controls_and_settings_that_are_not_compared_are_named():
    rows = [
        {"width": 8, "learning_rate": 0.1, "objective": kind, "soft_weight": w, "temperature": t, "seed": seed}
        | {"fluctuation": value + 0.1 * seed, "churn": 0.0}
        for kind, w, t, value in (("hard", 0.0, math.nan, 3.0), ("kd", 0.9, 4.0, 1.0), ("kd", 0.9, 8.0, 1.0))
        for seed in range(3)
    ]
    measured = pd.DataFrame(rows)
    measured.loc[(measured["temperature"] == 8) & (measured["seed"] == 1), "fluctuation"] = 0
    said = stability.verdict(measured, "shuffled")
    assert said.startswith("On soft targets (shuffled targets), against hard labels: fluctuation smaller at 1 and")
    assert "of 1 setting (1 not compared)" in said


def test_the_command_writes_its_table(swept):
    code, said = commands.call(command.main, command.StabilityConfig, [str(swept)], command.PROG)
    assert code == 0, said
    assert {path.name for path in (swept / "figures").iterdir()} == {
        f"stability.{kind}" for kind in ("png", "pdf", "svg")
    }
    text = (swept / "stability.md").read_text()
    assert text.startswith("# Fluctuation") and "double softmax" in text and "ratio to hard labels" in text
    assert "Double softmax, ratio to distilled (16 units, T = " in text


def test_the_figure_shows_what_the_table_says(swept):
    with style.applied():
        measured, panels = stability.measure(swept), stability_figure.figure_of(swept).axes
    assert [axes.get_ylabel().split(" ")[0] for axes in panels] == ["fluctuation", "churn"]
    for axes, column in zip(panels, ("fluctuation", "churn"), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        hard = measured.loc[measured["objective"] == "hard", column].mean()
        assert lines["hard labels"].get_ydata()[0] == pytest.approx(hard)
        soft = measured[measured["objective"] == "kd"].groupby("temperature")[column].mean()
        assert lines["distilled, soft weight 1"].get_ydata() == pytest.approx(soft.to_numpy())


def test_rates_are_not_pooled(tmp_path):
    more = ("--schedule", "constant", "--monitor-every", "1", "--epochs", "6", "--learning-rates", "0.001", "0.01")
    assert commands.call_sweep(tmp_path, *more, "--name", "rates")[0] == 0
    text = stability.write(tmp_path / "runs" / "temperature_sweep" / "rates")
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if "hard labels |" in line]
    assert [(row[4], row[7]) for row in rows[1:]] == [("0.001", "2"), ("0.01", "2")]


def test_other_runs_are_refused_in_one_line(tmp_path):
    assert commands.call_sweep(tmp_path, "--name", "cosine")[0] == 0
    with pytest.raises(BadInput, match="--schedule constant --monitor-every 1"):
        stability.measure(tmp_path / "runs" / "temperature_sweep" / "cosine")
    # Of 13 epochs every second is counted, and the last.
    assert commands.call_sweep(tmp_path, "--name", "curve", "--schedule", "constant", "--epochs", "13")[0] == 0
    with pytest.raises(BadInput, match="after every epoch how many predictions changed"):
        stability.measure(tmp_path / "runs" / "temperature_sweep" / "curve")
    code, said = commands.call_sweep(tmp_path, "--monitor-every", "0")
    assert code == 2 and "--monitor-every 0 is not allowed" in said


def test_an_objective_without_a_temperature_is_judged_and_not_drawn(tmp_path):
    more = ("--schedule", "constant", "--monitor-every", "1", "--epochs", str(EPOCHS), "--objectives", "mse")
    code, said = commands.call_sweep(tmp_path, *more, "--name", "run")
    assert code == 0, said
    folder = tmp_path / "runs" / "temperature_sweep" / "run"
    code, said = commands.call(command.main, command.StabilityConfig, [str(folder)], command.PROG)
    assert code == 0, said
    text = (folder / "stability.md").read_text()
    assert "**On squared error of logits, against hard labels: fluctuation" in text
    assert "Warning: 2 seeds say next to nothing of spread" in text and not list(folder.glob("figures/stability*"))
