"""Metrics against hand values and independent formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from kdjax import metrics
from kdjax.errors import BadInput

LOGITS = np.log(np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5], [0.5, 0.25, 0.25]]))
LABELS = np.array([0, 1, 1, 0])


def test_errors_by_hand():
    assert metrics.errors(LOGITS, LABELS) == 1


def test_a_logit_that_is_not_finite_is_an_error():
    logits = LOGITS.copy()
    logits[0, 2] = np.nan
    logits[3, 0] = np.inf
    assert metrics.errors(logits, LABELS) == 3


def test_nll_and_brier_by_hand():
    assert metrics.nll(LOGITS, LABELS) == pytest.approx(-np.mean(np.log([0.7, 0.6, 0.3, 0.5])))
    brier = [0.3**2 + 0.2**2 + 0.1**2, 0.3**2 + 0.4**2 + 0.1**2, 0.2**2 + 0.7**2 + 0.5**2, 0.5**2 + 2 * 0.25**2]
    assert metrics.brier(LOGITS, LABELS) == pytest.approx(np.mean(brier))


def test_brier_of_many_classes_needs_no_square_of_them():
    logits = np.zeros((2, 50_000), np.float32)  # whose square is 19 GiB
    assert metrics.brier(logits, np.array([0, 49_999])) == pytest.approx(1 - 1 / 50_000)


def test_calibration_error_by_hand():
    # Confidences .7 .6 .5 .5 lie in the bins 10, 9 (0.6 · 15 = 9.0), 7 and 7; answers right, right, wrong, right.
    expected = (abs(0.7 - 1) + abs(0.6 - 1) + abs(0.5 + 0.5 - 1)) / 4
    assert metrics.calibration_error(LOGITS, LABELS) == pytest.approx(expected)


def test_a_calibrated_classifier_has_no_calibration_error():
    logits = np.tile(np.log([[0.8, 0.2]]), (10, 1))
    assert metrics.calibration_error(logits, np.array([0] * 8 + [1] * 2)) == pytest.approx(0, abs=1e-12)


def test_agreement_and_kl_with_the_teacher():
    teacher = LOGITS[::-1].copy()
    assert metrics.agreement(LOGITS, teacher) == 0.5
    expected = np.mean([scipy_entropy(p, q) for p, q in zip(np.exp(teacher), np.exp(LOGITS), strict=True)])
    assert metrics.teacher_kl(LOGITS, teacher) == pytest.approx(expected)


def test_distance_and_drift_of_logits_by_hand():
    logits, start = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]), np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    # Centred: (−2, −1, 3) and (−1, −1, 2) against (−1, 0, 1) and (2, −1, −1); means 3 and 1 against 1 and 1.
    assert metrics.logit_rmse(logits, start) == pytest.approx(((1 + 1 + 4 + 9 + 0 + 9) / 6) ** 0.5)
    assert metrics.mean_logit_drift(logits, start) == pytest.approx(((2**2 + 0) / 2) ** 0.5)


@given(shift=st.floats(-50, 50), temperature=st.floats(0.1, 1e6))
def test_shifting_logits_changes_only_the_drift(shift, temperature):
    moved = LOGITS + shift
    assert metrics.logit_rmse(moved, LOGITS) == pytest.approx(0, abs=1e-12)
    assert metrics.mean_logit_drift(moved, LOGITS) == pytest.approx(abs(shift), abs=1e-12)
    assert metrics.entropy(moved, temperature) == pytest.approx(metrics.entropy(LOGITS, temperature))


def test_entropy_of_soft_targets():
    assert metrics.entropy(LOGITS, 1.0) == pytest.approx(np.mean(scipy_entropy(np.exp(LOGITS), axis=1)))
    assert metrics.entropy(LOGITS, np.inf) == pytest.approx(np.log(3))


def test_confidence_is_the_mean_probability_of_the_predicted_class():
    assert metrics.confidence(LOGITS) == pytest.approx(np.exp(LOGITS).max(axis=1).mean())


def test_errors_are_counted_apart_where_the_teacher_is_right():
    teacher = np.log(np.array([[0.9, 0.05, 0.05], [0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]]))
    row = metrics.evaluate(LOGITS, LABELS, teacher)
    assert row["errors_where_teacher_right"] + row["errors_where_teacher_wrong"] == row["errors"] == 1
    assert row["errors_where_teacher_right"] == 1


def test_what_is_evaluated_in_the_order_of_the_columns():
    alone = ["errors", "nll", "brier", "ece", "confidence"]
    beside = ["agreement", "teacher_kl", "logit_rmse", "errors_where_teacher_right", "errors_where_teacher_wrong"]
    assert list(metrics.evaluate(LOGITS, LABELS)) == alone
    row = metrics.evaluate(LOGITS, LABELS, LOGITS + 1)
    assert list(row) == alone + beside and row["agreement"] == 1
    failed = metrics.evaluate(np.where(LOGITS < -2, np.nan, LOGITS), LABELS, LOGITS)
    assert list(failed) == alone + beside
    assert failed.pop("errors") == 3 and np.isnan(list(failed.values())).all()


def test_a_registered_metric_is_evaluated_too(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", metrics.METRICS.copy())
    metrics.register(metrics.Metric("largest", lambda logits, labels, _: float(logits.max()), "largest logit"))
    metrics.register(metrics.Metric("same", lambda logits, _, teacher: int((logits == teacher).all()), "", True))
    assert metrics.evaluate(LOGITS, LABELS)["largest"] == np.log(0.7)
    assert metrics.evaluate(LOGITS, LABELS, LOGITS.copy())["same"] == 1
    assert "same" not in metrics.evaluate(LOGITS, LABELS)
    metrics.register(metrics.Metric("array", lambda logits, labels, _: logits[:, 0], "an array"))
    with pytest.raises(BadInput, match="the metric array gives an array of shape"):
        metrics.evaluate(LOGITS, LABELS)
