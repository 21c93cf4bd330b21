"""Objectives against soft targets: the paired differences, the best kd, the table, the figure."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis.sweep import against_kd

ERRORS = {
    ("hard", math.nan): [150, 149, 155, 151],
    ("kd", 2.0): [100, 103, 99, 105],
    ("kd", 8.0): [90, 96, 91, 97],
    ("dkd(beta=2)", 2.0): [95, 99, 93, 100],
    ("dkd(beta=2)", 8.0): [92, 95, 90, 101],
    ("matched(reference=2)", 8.0): [10, 11, 12, 13],
}


def results(holdout=False, failed=()):
    rows = [
        {"width": 30, "teacher": "a", "seed": seed, "objective": objective, "temperature": temperature}
        | {"soft_weight": 0.0 if objective == "hard" else 1.0, "learning_rate": 1e-3, "test_errors": value}
        | {"failed_at": 3 if (objective, temperature, seed) in failed else -1}
        # The hold-out's order is another: it prefers T = 2.
        | ({"holdout_errors": value if temperature == 2.0 else 2 * value} if holdout else {})
        for (objective, temperature), values in ERRORS.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_differences_are_paired_with_kd_at_the_same_temperature():
    comparison = against_kd.compare(results())
    assert [(row.setting["objective"], row.setting["temperature"]) for row in comparison.rows] == [
        ("dkd(beta=2)", 2.0),
        ("dkd(beta=2)", 8.0),
    ]
    for row, temperature in zip(comparison.rows, (2.0, 8.0), strict=True):
        less = np.subtract(ERRORS["dkd(beta=2)", temperature], ERRORS["kd", temperature])
        assert row.same.mean == pytest.approx(less.mean())
        wanted = scipy.stats.ttest_1samp(less, 0)
        assert row.same.p == pytest.approx(wanted.pvalue)
    p = [row.same.p for row in comparison.rows]
    assert comparison.rows[0].p_holm == pytest.approx(min(2 * min(p), 1))  # Holm's step for the smaller of two


@pytest.mark.parametrize(("name", "other"), [("soft_weight", 0.5), ("learning_rate", 1e-2), ("width", 100)])
def test_differences_are_paired_with_kd_of_the_same_setting(name, other):
    rows = results()
    kd, away = rows["objective"].eq("kd"), rows.assign(**{name: other})
    away.loc[kd, "test_errors"] += 50
    comparison = against_kd.compare(pd.concat([rows, away]))
    assert len(comparison.rows) == 4
    for row in comparison.rows:
        less = np.subtract(ERRORS["dkd(beta=2)", row.setting["temperature"]], ERRORS["kd", row.setting["temperature"]])
        assert row.same.mean == pytest.approx(less.mean() - 50 * (row.setting[name] == other)) and row.same.n == 4


@pytest.mark.parametrize(("holdout", "best", "word"), [(False, 8.0, "oracle"), (True, 2.0, "chosen on the hold-out")])
def test_the_best_kd_is_the_holdouts_choice_or_called_an_oracle(holdout, best, word):
    comparison = against_kd.compare(results(holdout))
    less = np.subtract(ERRORS["dkd(beta=2)", 2.0], ERRORS["kd", best])
    assert comparison.rows[0].best.mean == pytest.approx(less.mean())
    note = comparison.table().notes[-1]
    assert word in note and f"T = {best:g} at 30 units" in note
    assert comparison.frame()["from_best_kd"][0] == pytest.approx(less.mean())


def test_of_equally_good_temperatures_one_is_the_best():
    rows = results()
    cold = rows[(rows["objective"] == "kd") & (rows["temperature"] == 8.0)]
    tied = pd.concat([rows, cold.assign(temperature=4.0)])
    comparison = against_kd.compare(tied)
    less = np.subtract(ERRORS["dkd(beta=2)", 2.0], ERRORS["kd", 8.0])
    assert comparison.best[30]["temperature"] == 4.0 and comparison.rows[0].best.mean == pytest.approx(less.mean())


def test_an_objective_without_temperature_is_compared_at_each_of_kd():
    rows = results()
    plain = rows[rows["objective"].eq("dkd(beta=2)") & rows["temperature"].eq(2.0)]
    rows = pd.concat([rows[rows["objective"] != "dkd(beta=2)"], plain.assign(objective="mse", temperature=math.nan)])
    baselines = [plain.assign(objective="label_smoothing", temperature=math.nan), plain.assign(objective="shuffled")]
    comparison = against_kd.compare(pd.concat([rows, *baselines]))
    assert [(row.setting["objective"], row.setting["temperature"]) for row in comparison.rows] == [
        ("mse", 2.0),
        ("mse", 8.0),
    ]
    for row in comparison.rows:
        less = np.subtract(ERRORS["dkd(beta=2)", 2.0], ERRORS["kd", row.setting["temperature"]])
        assert row.same.mean == pytest.approx(less.mean())


def test_failed_runs_are_left_out():
    comparison = against_kd.compare(results(failed={("kd", 8.0, 0)}))
    assert comparison.rows[1].same.n == 3
    assert comparison.best[30]["temperature"] == 2.0  # a setting with a failed run is not the best


def test_nothing_to_compare():
    table = results()
    assert not against_kd.compare(table[table["objective"].isin(["hard", "kd"])]).rows
    assert against_kd.draw(table[table["objective"] == "kd"], "here", "units per layer") is None


def test_the_figure_names_every_objective():
    figure = against_kd.draw(results(), "made results", "units per layer")
    (axes,) = figure.axes
    assert "decoupled (beta=2)" in axes.get_legend_handles_labels()[1] and "made results" in figure.get_suptitle()
