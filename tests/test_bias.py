"""Bias corrections: the search against brute force, and what each of them reads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdjax import bias


def brute_force(logits, labels, omitted):
    """Fewest errors over biases between, below and above all places where any two logits change order."""
    wide = logits.astype(np.float64)
    seen = [value for value in range(wide.shape[1]) if value not in omitted]
    crossings = np.unique([row[s] - row[o] for row in wide for s in seen for o in omitted])
    tried = np.concatenate([[crossings[0] - 1], (crossings[1:] + crossings[:-1]) / 2, [crossings[-1] + 1]])
    return min(errors(wide, labels, omitted, value) for value in tried)


def errors(logits, labels, omitted, value):
    raised = logits.astype(np.float64)
    raised[:, omitted] += value
    return int((raised.argmax(axis=1) != labels).sum())


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 40),
    omitted=st.sets(st.integers(0, 4), min_size=1, max_size=4),
)
def test_search_equals_brute_force(seed, images, omitted):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (images, 5)).astype(np.float32)
    if seed % 2:  # many equal leads
        logits = np.round(logits)
    labels = random.integers(0, 5, images)
    omitted = sorted(omitted)
    found = bias.best_bias(logits, labels, omitted)
    fewest = int((bias.answers(logits, omitted, found) != labels).sum())
    assert fewest == brute_force(logits, labels, omitted)
    assert fewest == errors(logits, labels, omitted, found) or seed % 2  # where no lead is hit exactly


def test_search_by_hand():
    # Leads of class 1 over class 0: 1, 2, 5, 6; the first two images are 1s. Best: above 2, not above 5.
    logits = np.array([[1.0, 0], [2, 0], [5, 0], [6, 0]])
    assert bias.best_bias(logits, np.array([1, 1, 0, 0]), [1]) == 3.5
    # Class 1 is omitted instead of 0: the mirror image.
    assert bias.best_bias(logits, np.array([1, 1, 0, 0]), [0]) == -3.5


def test_search_takes_the_widest_of_several_and_one_unit_beyond_the_outermost():
    logits = np.array([[0.0, 0], [1, 0], [5, 0]])
    # Errors: 1 below 0 and in (1, 5], where nothing separates the last from the first; 2 elsewhere.
    assert bias.best_bias(logits, np.array([0, 1, 0]), [1]) == 3.0
    assert bias.best_bias(logits, np.zeros(3, int), [1]) == -0.5
    assert bias.best_bias(logits, np.ones(3, int), [1]) == 5.5


def test_neighbouring_floats_have_no_middle():
    low = 1.0
    logits = np.array([[low, 0], [np.nextafter(low, 2), 0]])
    found = bias.best_bias(logits, np.array([1, 0]), [1])
    assert (bias.answers(logits, [1], found) == [1, 0]).all()


def test_raising_the_omitted_is_lowering_the_others():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (100, 10))
    lowered = logits.copy()
    lowered[:, [7, 8]] -= 2.5
    omitted = [value for value in range(10) if value not in (7, 8)]
    assert (bias.answers(logits, omitted, 2.5) == lowered.argmax(axis=1)).all()


def test_answers_are_the_argmax_after_raising():
    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (200, 6)).astype(np.float32)
    raised = logits.astype(np.float64)
    raised[:, [1, 4]] += 1.7
    assert (bias.answers(logits, [1, 4], 1.7) == raised.argmax(axis=1)).all()


@pytest.mark.parametrize("omitted", [[3], [3, 5], [0, 1, 2, 4]])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.8])
def test_label_free_calls_the_share_omitted(omitted, share):
    logits = np.random.default_rng(2).normal(0, 3, (4000, 10))
    found = bias.label_free(logits, omitted, share)
    assert np.isin(bias.answers(logits, omitted, found), omitted).mean() == pytest.approx(share, abs=1 / 4000)


def test_label_free_is_minus_the_quantile_of_the_formula():
    logits = np.random.default_rng(3).normal(0, 3, (501, 10))
    others = np.delete(logits, 3, axis=1).max(axis=1)
    assert bias.label_free(logits, [3], 0.1) == pytest.approx(-np.quantile(logits[:, 3] - others, 0.9))


def test_share_is_the_teachers():
    logits = np.eye(10)[[3, 5, 3, 1]]
    assert bias.share_of_omitted(logits, [3]) == 0.5
    assert bias.share_of_omitted(logits, [3, 5]) == 0.75


def test_seen_only_fits_each_class_among_the_seen_ones():
    random = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2, 4], 50)
    logits = random.normal(0, 1, (200, 5))
    logits[np.arange(200), labels] += 8.0
    students = {}
    for without in (0, 1, 2, 4):  # as if class c had been underestimated by 6, and by 20 for the last
        said = logits.copy()
        said[:, without] -= 20.0 if without == 4 else 6.0
        students[without] = said
    found = bias.seen_only(students, labels, [3])
    assert set(found) == {0, 1, 2, 4}
    for without, value in found.items():
        assert value == pytest.approx(20.0 if without == 4 else 6.0, abs=3)
    # The omitted class's own logit is nowhere looked at, not even where it is the largest.
    poisoned = {without: np.where(np.arange(5)[None] == 3, 1e9, said) for without, said in students.items()}
    assert bias.seen_only(poisoned, labels, [3]) == found


def test_seen_only_refuses_an_image_of_an_omitted_class():
    with pytest.raises(ValueError, match="omitted"):
        bias.seen_only({0: np.zeros((2, 5))}, np.array([0, 3]), [3])


@pytest.mark.parametrize("omitted", [[], range(5)])
def test_none_or_all_omitted_is_refused(omitted):
    with pytest.raises(ValueError, match="some, and not all"):
        bias.sides(np.zeros((2, 5)), list(omitted))
