"""The table of a sweep, against numbers worked by hand and by scipy, and for sweeps that lack something."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import scipy

from analysis import crossed, measures, runs, stats, wording
from analysis.measures import Measure
from analysis.sweep.table import norm_notes, summarise, write_summary
from kdjax.errors import BadInput
from tests.made_results import HARD, INF, T4, sweep


def row(summary, setting, width=800, **also):
    wanted = {"width": width, "objective": setting[0], "temperature": setting[1], **also}

    def fits(setting):
        return all(setting[name] == value or pd.isna([setting[name], value]).all() for name, value in wanted.items())

    (found,) = (row for row in summary.rows if fits(row.setting))
    return found


def errors(row):
    return row.measures["test_errors"]


def less_hard(row):
    return row.differences["test_errors"]


def text(results):
    return summarise(results).table().text()


def test_equal_gradient_norms_tell_temperature_from_step_size():
    settings = {("kd", 1.0): [120, 130, 140], T4: [100, 101, 105], ("matched(reference=4)", 1.0): [104, 107, 110]}
    (note,) = norm_notes(sweep({**settings, ("placebo(reference=4)", 1.0): [110, 121, 132]}))
    assert note.startswith(
        "800 units, T = 1, reference T = 4: gradient norm of the reference, against the reference: +5.0 "
    )
    assert "; gradient norm of T, against the placebo: +9.0 " in note and norm_notes(sweep(settings)) == []


RESULTS = sweep({HARD: [146, 150, 142], T4: [101, 108, 97], INF: [140, 152, 141]})


def test_mean_interval_and_paired_difference():
    summary = summarise(RESULTS)
    soft = row(summary, T4)
    assert errors(soft).mean == 102 and errors(soft).n == 3 and soft.failed == 0
    expected = scipy.stats.t.interval(0.95, 2, 102, scipy.stats.sem([101, 108, 97]))
    np.testing.assert_allclose([errors(soft).low, errors(soft).high], expected)
    assert less_hard(soft).mean == -44
    paired = scipy.stats.ttest_rel([101, 108, 97], [146, 150, 142])
    np.testing.assert_allclose([less_hard(soft).low, less_hard(soft).high], paired.confidence_interval())
    assert less_hard(soft).p == pytest.approx(paired.pvalue)
    assert soft.p_holm["test_errors"] == pytest.approx(2 * paired.pvalue)
    assert less_hard(soft).differs and not less_hard(row(summary, INF)).differs
    assert not row(summary, HARD).differences


def test_pairs_are_found_by_seed_whatever_the_order_of_the_rows():
    shuffled = RESULTS.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(summarise(shuffled).frame(), summarise(RESULTS).frame())


def test_only_a_difference_is_called_one():
    lines = text(RESULTS).splitlines()
    assert lines[2].split()[:3] == ["800", "hard", "labels"]
    assert "fewer" in lines[3] and "−44.0" in lines[3]
    assert "−1.7" in lines[4] and lines[4].split()[1] == "∞" and "fewer" not in lines[4] and "more" not in lines[4]
    assert "3 seeds, 1 teacher" in lines[6]


def test_markdown_is_a_table():
    lines = summarise(RESULTS).table().markdown().splitlines()
    assert {line.count("|") for line in lines[:5]} == {lines[0].count("|")}
    assert "| 800 | 4 | 102.0 [" in lines[3]


def test_no_hard_baseline():
    summary = summarise(sweep({T4: [101, 108, 97]}))
    assert not any(row.differences for row in summary.rows) and "hard" not in summary.table().text()


def test_one_seed_claims_nothing():
    said = text(sweep({HARD: [146], T4: [101]}))
    assert "−45.0" in said and "fewer" not in said and "[" not in said and "nothing is known about spread" in said


def test_failed_runs_are_shown_and_left_out():
    summary = summarise(
        sweep(
            {HARD: [146, 150, 142], T4: [101, 9000, 97], INF: [1, 2, 3]},
            failed={(*T4, 1), *((*INF, i) for i in range(3))},
        )
    )
    soft = row(summary, T4)
    assert (errors(soft).mean, errors(soft).n, soft.failed) == (99, 2, 1)
    assert less_hard(soft).mean == -45 and less_hard(soft).n == 2  # against the same two seeds of the baseline
    assert not row(summary, INF).measures and row(summary, INF).failed == 3
    said = summary.table().text()
    assert "failed" in said.splitlines()[0] and "Failed runs" in said and "nan" not in said


def test_each_width_weight_and_rate_has_a_row_and_its_own_baseline():
    parts = [
        sweep({HARD: [146 + w, 150 + w, 142 + w], T4: [101, 108, 97]}, width=w, rate=rate, weight=weight)
        for w in (30, 800)
        for rate in (0.001, 0.01)
        for weight in (0.9, 1.0)
    ]
    results = pd.concat(parts).drop_duplicates()
    summary = summarise(results)
    assert len(summary.rows) == 2 * 2 * (1 + 2)
    assert less_hard(row(summary, T4, 30, soft_weight=0.9, learning_rate=0.01)).mean == -44 - 30
    header = summary.table().text().splitlines()[0]
    assert "soft weight" in header and "rate" in header and "soft weight" not in text(RESULTS)


def test_a_baseline_at_another_rate_is_no_baseline():
    results = pd.concat([sweep({HARD: [146, 150]}, rate=0.01), sweep({T4: [101, 108]}, rate=0.001)])
    assert not any(row.differences for row in summarise(results).rows)


def test_teachers_crossed_with_seeds():
    table, hard = np.array([[100, 103, 98], [110, 112, 109]]), np.array([150, 149, 151])
    results = sweep({HARD: [*hard] * 2, T4: table.ravel()}, teachers=("a", "b")).set_index(runs.RUN)
    of_hard, soft = (results[results["objective"] == name]["test_errors"] for name in ("hard", "kd"))
    assert runs.mean(soft) == crossed.crossed_interval(table)
    assert runs.paired(soft, of_hard)[:3] == crossed.crossed_interval(table - hard)[:3]
    assert runs.mean(soft.drop(index=("b", 2))) == crossed.crossed_interval(table[:, :2])  # the seeds that both have


def test_the_holdout_chooses_a_rate_for_each_temperature():
    slow = sweep({T4: [90, 92], INF: [90, 92]}, rate=0.001, holdout={T4: [80, 80], INF: [60, 80]})
    fast = sweep({T4: [95, 97], INF: [95, 97]}, rate=0.01, holdout={T4: [79, 79], INF: [71, 71]})
    chosen = runs.best_on_holdout(pd.concat([slow, fast]), by=["temperature"])
    assert set(zip(chosen["temperature"], chosen["learning_rate"], strict=True)) == {(4.0, 0.01), (math.inf, 0.001)}
    assert len(chosen) == 4 and runs.best_on_holdout(RESULTS, by=["temperature"]).empty


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (RESULTS.drop(columns="seed"), "lacks the columns seed"),
        (RESULTS.iloc[:0], "no run yet"),
        (RESULTS.assign(test_errors="many"), "test_errors"),
        (RESULTS.assign(objective=math.nan), "objective"),
        (RESULTS.assign(objective=3), "objective"),
        (RESULTS.assign(test_errors=math.nan), "test_errors"),
    ],
)
def test_what_is_no_sweep_is_refused(results, said):
    with pytest.raises(BadInput, match=said):
        summarise(results)


def test_what_a_sweep_does_otherwise_than_most_stands_in_its_title():
    assert wording.unusual_options({"config": {"targets": "teacher", "network": "mlp", "jitter": 0}}) == []
    config = {"targets": "shuffled", "network": "small", "augment": "flip_shift", "jitter": 2}
    said = ["targets: shuffled", "network small", "augment flip shift", "jitter 2", "transfer images 600"]
    assert wording.unusual_options({"config": {**config, "transfer_images": 600}}) == said


@pytest.fixture
def confidence():
    """A measure of a user's own, registered as in the docstring of `analysis.measures`."""
    measure = Measure("confidence", "confidence, %", lambda row: row["confidence"], decimals=2, scale=100)
    measures.register(measure, ["sweep"])
    yield measure
    del measures.MEASURES["sweep"]["confidence"]


def test_a_registered_measure_is_a_column_of_summary_and_csv(confidence, tmp_path):
    of_runs = RESULTS.assign(test_confidence=[0.90, 0.91, 0.95, 0.80, 0.82, 0.87, 0.5, 0.5, 0.5], epochs=1)
    of_runs.to_csv(tmp_path / "results.csv", index=False)
    identity = {"experiment": "temperature_sweep", "data": {"description": "MNIST"}}
    (tmp_path / "config.json").write_text(json.dumps({"identity": identity, "details": {"teachers": []}}))
    said = write_summary(tmp_path)
    table = pd.read_csv(tmp_path / "table.csv").set_index("temperature")
    soft = stats.interval(np.array([80.0, 82, 87]))
    mean = table.loc[4.0, ["test_confidence", "test_confidence_low", "test_confidence_n"]]
    assert mean.tolist() == pytest.approx([soft.mean, soft.low, 3], rel=1e-5)
    less = crossed.paired_difference(np.array([80.0, 82, 87]), np.array([90.0, 91, 95]))
    assert table.loc[4.0, "test_confidence_difference_high"] == pytest.approx(less.high, rel=1e-5)
    p = row(summarise(of_runs), T4).p_holm["test_errors"]
    assert table.loc[4.0, "test_errors_p_holm"] == pytest.approx(p, rel=1e-5)
    for page in (said, (tmp_path / "summary.md").read_text()):
        assert "test confidence, %" in page and f"83.00 [{soft.low:.2f}, {soft.high:.2f}]" in page
        assert "test confidence, %, from hard labels" in page and "−9.00 [" in page


def test_a_measure_that_the_runs_lack_is_a_dash(confidence):
    lines = text(RESULTS).splitlines()
    assert "test confidence, %" in lines[0] and "–" in lines[3]


def test_a_measure_has_one_meaning_in_a_table(confidence):
    with pytest.raises(BadInput, match="has a measure confidence already"):
        measures.register(confidence, ["sweep"])
    with pytest.raises(BadInput, match="table chart is unknown"):
        measures.register(confidence, ["chart"])


def test_an_ensemble_is_not_one_teacher():
    told = {("a", "a"): "1 teacher", ("a", "b"): "2 teachers", ("a+b", "a+b"): "an ensemble of 2 teachers"}
    for names, said in told.items():
        assert wording.teachers_in_words(pd.DataFrame({"teacher": names})) == said


def test_a_setting_in_words():
    setting = {"width": 30, "objective": "hard", "temperature": math.nan, "soft_weight": 0.5, "learning_rate": 0.001}
    assert wording.in_words(setting, runs.SETTING) == ["30 units", "hard labels", "soft weight 0.5", "rate 0.001"]
    assert wording.in_words({"objective": "kd", "temperature": math.inf}, ["temperature", "objective"])[0] == "T = ∞"
