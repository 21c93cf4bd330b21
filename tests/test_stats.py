"""Intervals cover what they say (by simulation), agree with scipy and with hand values, and claim nothing at n = 1."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis import crossed, fieller, runs, stats
from kdjax.errors import BadInput

RUNS = arrays(np.float64, st.integers(2, 8), elements=st.integers(50, 200).map(float))


def covers(found, truth):
    return found.low <= truth <= found.high


def test_interval_by_hand():
    # mean 100, s = 10, t(2, 0.975) = 4.30265: half width 4.30265 * 10 / sqrt(3)
    found = stats.interval(np.array([90, 100, 110]))
    assert found.mean == 100 and found.n == 3
    assert found.high - 100 == pytest.approx(24.8414, abs=1e-4) == 100 - found.low


def test_prediction_interval_by_hand():
    # t(4, 0.975) = 2.77645, s = sqrt(2.5), sqrt(1 + 1/5)
    found = crossed.prediction_interval(np.array([72, 73, 74, 75, 76]))
    assert found.high - 74 == pytest.approx(2.77645 * math.sqrt(2.5) * math.sqrt(1.2), abs=1e-4)


def test_prediction_interval_of_teachers_and_seeds_by_hand():
    # Means of teachers 3, 5; of seeds 2, 3.5, 6.5; mean squares 6, 10.5 and 0.5 with 1, 2 and 2 degrees of freedom.
    parts = 6 * (1 / 3 + 1 / 6), 10.5 * (1 / 2 + 1 / 6), 0.5 * (1 - 1 / 3 - 1 / 2)
    df = sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 2 + parts[2] ** 2 / 2)
    found = crossed.prediction_interval(np.array([[1, 2, 6], [3, 5, 7]]))
    assert (found.mean, found.n) == (4, 6)
    assert found.high - 4 == pytest.approx(scipy.stats.t.ppf(0.975, df) * math.sqrt(sum(parts)))


def test_coverage_of_another_teacher_and_another_seed():
    random, inside = np.random.default_rng(4), []
    for _ in range(2000):
        table = random.normal(0, 5, (5, 1)) + random.normal(0, 4, (1, 6)) + random.normal(0, 3, (5, 6))
        inside.append(covers(crossed.prediction_interval(table[:-1, :-1]), table[-1, -1]))
    assert 0.93 < np.mean(inside) < 0.97


def test_two_teachers_and_two_seeds_with_one_mean_each_say_nothing_of_spread():
    errors = np.array([[70.0, 72.0], [72.0, 70.0]])
    assert stats.reproduced(errors, 74) == "no verdict at n = 4" and math.isnan(
        crossed.prediction_interval(errors).high
    )
    closed = fieller.gap_closed(errors + 60, errors, np.full((2, 2), 67.0))
    assert closed.ratio == pytest.approx(60 / 64) and math.isnan(closed.low)


def test_equal_differences_of_accuracies_and_of_means_are_equal():
    ours, others = np.array([209, 230, 303]), np.array([200, 221, 294])
    accuracies = [100 - 100 * errors / 1_000 for errors in (ours, others)]
    assert np.ptp(accuracies[0] - accuracies[1]) > 0  # by rounding
    assert math.isnan(crossed.paired_difference(*accuracies).p)
    thirds = np.array([[1, 2, 2], [2, 1, 2], [2, 2, 1]]) / 3
    assert math.isnan(crossed.crossed_interval(thirds).low)  # all means are 5/9
    small = 1e-6 * np.array([1.0, 1.1, 0.9])
    assert stats.interval(small).low == pytest.approx(scipy.stats.t.interval(0.95, 2, 1e-6, 1e-7 / 3**0.5)[0])


def test_one_seed_under_several_teachers_is_one_run():
    labels = pd.MultiIndex.from_product([list("abc"), [0]], names=["teacher", "seed"])
    found = runs.paired(pd.Series([80.0, 82, 81], labels), pd.Series([90.0] * 3, labels))
    assert (found.mean, found.n) == (-9, 1) and math.isnan(found.p) and not found.differs


@given(RUNS, st.sampled_from([0.8, 0.95, 0.99]))
def test_interval_is_scipys(values, confidence):
    found = stats.interval(values, confidence)
    if np.ptp(values) == 0:
        assert math.isnan(found.low) and math.isnan(found.high)
        return
    expected = scipy.stats.t.interval(confidence, len(values) - 1, values.mean(), scipy.stats.sem(values))
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-12)


@given(RUNS, st.integers(0, 2**32 - 1))
def test_paired_difference_is_scipys_t_test_and_p_goes_with_the_interval(a, seed):
    b = np.random.default_rng(seed).normal(100, 10, len(a))
    found, expected = crossed.paired_difference(a, b), scipy.stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.differs == (found.p < 0.05)
    swapped = crossed.paired_difference(b, a)
    assert swapped.mean == pytest.approx(-found.mean) and swapped.high == pytest.approx(-found.low)


@pytest.mark.parametrize("values", [[100], [100, 100], [100, 100, 100]])
def test_nothing_is_claimed_without_a_spread(values):
    a = np.array(values)
    difference = crossed.paired_difference(a, a - 50)
    assert difference.mean == 50 and not difference.differs and math.isnan(difference.low) and math.isnan(difference.p)
    assert stats.difference_in_words(difference, False) == stats.reproduced(a, 74.0) == f"no verdict at n = {len(a)}"
    table = np.stack([a, a + 90], axis=1)
    assert stats.candidates_for_best(table).all()
    assert math.isnan(stats.reach(stats.all_pairs(table)))
    assert math.isnan(fieller.gap_closed(a + 50, a, a - 10).low)
    assert math.isnan(fieller.vertex(np.array([1.0, 4.0, 16.0]), np.stack([a + 5, a, a + 5], axis=1)).low)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_coverage_of_t_and_prediction_intervals(n):
    random = np.random.default_rng(n)
    draws = random.normal(74, 8, (3000, n + 1))
    mean = np.mean([covers(stats.interval(row[:n]), 74) for row in draws])
    new = np.mean([covers(crossed.prediction_interval(row[:n]), row[n]) for row in draws])
    assert 0.938 < mean < 0.962 and 0.938 < new < 0.962  # 3 standard errors: 0.012


def test_coverage_over_crossed_teachers_and_seeds_where_the_naive_interval_fails():
    random = np.random.default_rng(1)
    over_both, naive = [], []
    for _ in range(1000):
        table = random.normal(0, 5, (3, 1)) + random.normal(0, 3, (1, 5)) + random.normal(0, 4, (3, 5))
        over_both.append(covers(crossed.crossed_interval(table), 0))
        naive.append(covers(stats.interval(table.ravel()), 0))
    assert np.mean(over_both) > 0.93 and np.mean(naive) < 0.85


def test_a_failed_run_leaves_its_seed_out_of_what_is_crossed():
    random, covered = np.random.default_rng(4), []
    labels = pd.MultiIndex.from_product([range(3), range(10)], names=["teacher", "seed"])
    for _ in range(1000):
        table = random.normal(0, 3, (1, 10)) + random.normal(0, 3, (3, 10))
        values = pd.Series(table.ravel(), labels).drop((1, 4))
        found = runs.mean(values)
        assert found == crossed.crossed_interval(np.delete(table, 4, axis=1))
        covered.append(covers(found, 0))
    assert np.mean(covered) > 0.93 and found.n == 27
    zero = pd.Series(0.0, labels)
    assert runs.paired(values, zero).low == pytest.approx(found.low)  # differences likewise


def test_what_is_missing_on_either_side_of_pairs_is_left_out():
    table = np.random.default_rng(5).normal(0, 1, (3, 10))
    labels = pd.MultiIndex.from_product([range(3), range(10)], names=["teacher", "seed"])
    ours, others = pd.Series(table.ravel(), labels), pd.Series(0.0, labels)
    ours[0, 3], others[2, 5] = math.nan, math.nan
    found, expected = runs.paired(ours, others), crossed.crossed_interval(np.delete(table, [3, 5], axis=1))
    assert (found.mean, found.low, found.n) == (expected.mean, expected.low, 24)


def test_teachers_with_seeds_of_their_own_are_compared_by_their_means():
    values = pd.Series([1.0, 3.0, 5.0], pd.MultiIndex.from_tuples([(0, 0), (0, 1), (1, 2)], names=["teacher", "seed"]))
    assert runs.mean(values) == crossed.crossed_interval(np.array([[2.0], [5.0]]))


def test_two_teachers_cover_less_than_is_said_and_the_table_says_so():
    random = np.random.default_rng(11)

    def coverage(teachers):
        draws = (random.normal(0, 5, (1500, teachers, 1)) + random.normal(0, 4, (1500, teachers, 10))) * 1.0
        return np.mean([covers(crossed.crossed_interval(table), 0) for table in draws])

    assert 0.86 < coverage(2) < 0.915 < coverage(3) < 0.96
    (said,) = crossed.few_draws(2, 10)
    assert said.startswith("Two teachers are few") and "87 to 99 %" in said and crossed.few_draws(3, 2)
    assert not crossed.few_draws(1, 2) and not crossed.few_draws(3, 3)


def test_crossed_interval_ignores_a_teacher_that_changes_nothing():
    seeds = np.array([3.0, 5.0, 10.0])
    over_both, plain = crossed.crossed_interval(np.tile(seeds, (4, 1))), stats.interval(seeds)
    np.testing.assert_allclose([over_both.low, over_both.high], [plain.low, plain.high])


def test_holm_by_hand():
    adjusted = stats.holm(np.array([0.04, math.nan, 0.01, 0.03, 0.5]))
    np.testing.assert_allclose(adjusted, [0.09, math.nan, 0.04, 0.09, 0.5])


@given(arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 1)))
def test_holm_lies_between_p_and_bonferroni_and_keeps_order(p):
    adjusted = stats.holm(p)
    assert np.all(p <= adjusted) and np.all(adjusted <= np.minimum(1, len(p) * p))
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)


def test_equivalence_is_two_one_sided_t_tests():
    differences = np.random.default_rng(3).normal(1, 4, (10, 1))
    reach = stats.reach(differences)
    both = max(
        scipy.stats.ttest_1samp(differences[:, 0], m, alternative=side).pvalue
        for m, side in ((-reach, "greater"), (reach, "less"))
    )
    assert both == pytest.approx(0.05)


def test_equivalence_is_rarely_claimed_at_the_margin():
    random = np.random.default_rng(4)
    tables = [random.normal(0, 5, (10, 1)) + random.normal(0, 2, (10, 3)) + np.array([0, 3.5, 7]) for _ in range(400)]
    found = [stats.reach(stats.all_pairs(table)) < 7 for table in tables]
    assert np.mean(found) <= 0.08  # alpha 0.05, and three standard errors
    near = [stats.reach(stats.all_pairs(table - np.array([0, 3.5, 7]))) < 7 for table in tables]
    assert np.mean(near) > 0.95


def test_the_best_is_among_the_candidates_and_the_worst_is_not():
    random = np.random.default_rng(5)
    truth = np.array([120.0, 100, 100, 101, 140])
    kept = [
        stats.candidates_for_best(truth + random.normal(0, 8, (6, 1)) + random.normal(0, 4, (6, 5))) for _ in range(300)
    ]
    assert np.mean([row[1] for row in kept]) >= 0.95 and np.mean([row[2] for row in kept]) >= 0.95
    assert np.mean([row[4] for row in kept]) < 0.05
    assert np.mean([row.sum() > 1 for row in kept]) > 0.95  # two are equally good: no winner


@pytest.mark.parametrize("simultaneous", [False, True])
def test_a_clear_winner_is_named(simultaneous):
    table = np.random.default_rng(6).normal(0, 1, (5, 3)) + np.array([100, 50, 100])
    assert stats.candidates_for_best(table, simultaneous=simultaneous).tolist() == [False, True, False]


def test_among_equal_settings_none_is_excluded_only_where_all_are_tested_together():
    random = np.random.default_rng(12)
    tables = random.normal(0, 8, (240, 10, 1)) + random.normal(0, 4, (240, 10, 6))
    each, all_of_them = (
        [stats.candidates_for_best(table, simultaneous=together) for table in tables] for together in (False, True)
    )
    assert np.mean(each, axis=0).min() > 0.93  # per setting, as it says
    assert np.mean([not may.all() for may in each]) > 0.15  # and yet some one is excluded
    assert np.mean([not may.all() for may in all_of_them]) < 0.075  # α is 0.05; two standard errors
    assert np.all(np.array(each) <= np.array(all_of_them))


def test_over_six_teachers_no_equal_setting_is_excluded():
    random = np.random.default_rng(18)
    tables = random.normal(0, 2, (120, 6, 1, 5)) + random.normal(0, 4, (120, 6, 5, 5))
    assert np.mean([not stats.candidates_for_best(table, simultaneous=True).all() for table in tables]) < 0.06


def test_fieller_by_its_definition():
    random = np.random.default_rng(7)
    x, y = random.normal(60, 6, 5), random.normal(72, 6, 5)
    found = fieller.ratio_of_means(x, y)
    for rho in (found.low, found.high):  # at its ends the t test of x − ρy is just significant
        assert scipy.stats.ttest_1samp(x - rho * y, 0).pvalue == pytest.approx(0.05, abs=1e-9)
    assert found.low < found.ratio < found.high


def test_gap_closed_is_the_papers_and_covers():
    assert fieller.gap_closed(np.array([146]), np.array([74]), np.array([67])).ratio == pytest.approx(72 / 79)
    random = np.random.default_rng(8)
    hit = []
    for _ in range(2000):
        small, distilled = random.normal(146, 6, 5), random.normal(82, 6, 5)
        hit.append(covers(fieller.gap_closed(small, distilled, np.full(5, 66)), 0.8))
    assert 0.935 < np.mean(hit) < 0.965


def crossed_gaps(count, truth, seed):
    """Errors of small nets, students and teachers, `[teachers, seeds]` each; students go with teacher and seed."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        teacher = 66 + random.normal(0, 9, (3, 1)) + np.zeros((3, 5))
        small = 146 + random.normal(0, 8, (1, 5)) + np.zeros((3, 5))
        of_teacher = random.normal(0, 4, (3, 1)) + 0.4 * (teacher - 66)
        distilled = 146 - 80 * truth + of_teacher + 0.3 * (small - 146) + random.normal(0, 4, (3, 5))
        yield small, distilled, teacher


def test_the_gap_closed_covers_over_teachers_where_that_of_the_teachers_mean_fails():
    gaps = list(crossed_gaps(800, 0.62, 13))
    assert np.mean([covers(fieller.gap_closed(*gap), 0.62) for gap in gaps]) > 0.92
    assert np.mean([covers(fieller.gap_closed(*(table.mean(axis=0) for table in gap)), 0.62) for gap in gaps]) < 0.75


def test_the_crossed_gap_by_its_definition():
    small, distilled, teacher = next(crossed_gaps(1, 0.6, 14))
    found, x, y = fieller.gap_closed(small, distilled, teacher), small - distilled, small - teacher
    assert found.ratio == pytest.approx(x.mean() / y.mean()) and found.n == 15
    df = crossed.crossed_interval(x - found.ratio * y).df
    for rho in (found.low, found.high):
        at = crossed.crossed_interval(x - rho * y)
        assert abs(at.mean) == pytest.approx(scipy.stats.t.ppf(0.975, df) * at.standard_error)
    # One teacher, or one seed, is a column of runs.
    plain = fieller.gap_closed(small[0], distilled[0], teacher[0])
    for axis in (0, 1):
        one = [np.expand_dims(table[0], axis) for table in (small, distilled, teacher)]
        assert fieller.gap_closed(*one) == pytest.approx(plain)


def test_a_gap_that_may_be_nothing_bounds_nothing():
    found = fieller.gap_closed(np.array([70.0, 60, 68]), np.array([65.0, 66, 61]), np.full(3, 66.0))
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_vertex_finds_the_bottom_of_a_parabola_and_covers():
    t = np.array([1.0, 2, 4, 8, 16, math.inf])
    curve = 100 + 3 * (np.log(t / 5.0)) ** 2
    curve[-1] = 500  # infinity is left out
    random = np.random.default_rng(9)
    exact = fieller.vertex(t, curve + random.normal(0, 5, (3, 1)))
    assert exact.temperature == pytest.approx(5) and exact.inside
    found = [fieller.vertex(t, curve + random.normal(0, 2, (5, 6))) for _ in range(1500)]
    assert 0.93 < np.mean([covers(one, 5.0) for one in found]) < 0.97


def test_a_vertex_outside_the_grid_or_of_a_flat_or_bent_down_curve_is_not_claimed():
    t, random = np.array([1.0, 2, 4, 8]), np.random.default_rng(10)
    beyond = fieller.vertex(t, 2 * np.log(t / 100) ** 2 + random.normal(0, 0.01, (4, 4)))
    assert not beyond.inside and beyond.temperature == pytest.approx(100, rel=0.1)
    assert math.isnan(fieller.vertex(t, -(np.log(t) ** 2) + random.normal(0, 0.01, (4, 4))).temperature)
    flat = [fieller.vertex(t, random.normal(0, 1, (4, 4))) for _ in range(100)]
    assert np.mean([one.inside for one in flat]) < 0.1
    with pytest.raises(BadInput, match="three finite"):
        fieller.vertex(np.array([1.0, 2, math.inf]), np.zeros((3, 3)))


@pytest.mark.parametrize(("paper", "word"), [(74.0, "reproduced"), (95.0, "better"), (50.0, "not reproduced")])
def test_verdicts_on_the_paper(paper, word):
    assert stats.reproduced(np.array([70, 72, 74, 76, 78]), paper) == word


def test_a_recipe_that_is_far_off_is_rarely_called_reproduced():
    draws = np.random.default_rng(15).normal(91, 7, (2000, 3))
    words = [stats.reproduced(errors, 67) for errors in draws]
    inside = np.mean([covers(crossed.prediction_interval(errors), 67) for errors in draws])
    assert inside > 0.55 and words.count("reproduced") <= 0.01 * len(words)
    assert words.count("compatible") == pytest.approx(inside * len(words) - words.count("reproduced"))
    near = np.random.default_rng(16).normal(67, 3, (300, 5))  # a sound recipe still is
    assert np.mean([stats.reproduced(errors, 67) == "reproduced" for errors in near]) > 0.85


def test_an_interval_over_images_is_mcnemars():
    a, b = np.zeros((2, 1, 1000), bool)
    a[0, :30], b[0, 20:34] = True, True  # 20 images only a gets wrong, 4 only b, 10 both
    found = stats.difference_over_images(a, b)
    assert found.mean == 16 and found.n == 1000
    half = scipy.stats.norm.ppf(0.975) * math.sqrt((24 - 16**2 / 1000) * 1000 / 999)
    assert [found.low, found.high] == pytest.approx([16 - half, 16 + half])
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(16 / half * scipy.stats.norm.ppf(0.975)))
    assert math.isnan(stats.difference_over_images(a, a).low)
    with pytest.raises(BadInput, match="same images"):
        stats.difference_over_images(a, b[:, :10])


def test_an_interval_over_images_covers_where_one_over_seeds_does_not():
    random = np.random.default_rng(17)
    over_images, over_seeds = [], []
    for _ in range(600):
        hard_for_a, hard_for_b = random.random((2, 1, 1000)) < np.array([[[0.03]], [[0.04]]])
        a, b = (hard & (random.random((3, 1000)) < 0.9) for hard in (hard_for_a, hard_for_b))
        truth = 1000 * 0.9 * (0.03 - 0.04)
        over_images.append(covers(stats.difference_over_images(a, b), truth))
        over_seeds.append(covers(crossed.paired_difference(a.sum(1), b.sum(1)), truth))
    assert 0.93 < np.mean(over_images) < 0.97 and np.mean(over_seeds) < 0.75


@settings(max_examples=30)
@given(st.integers(2, 12), st.floats(-30, 30), st.integers(0, 1000))
def test_a_difference_is_called_one_only_where_the_interval_excludes_zero(n, shift, seed):
    found = crossed.paired_difference(np.random.default_rng(seed).normal(shift, 5, n), np.zeros(n))
    words = stats.difference_in_words(found, *stats.claimed([found]))
    expected = (
        "fewer errors" if found.high < 0 else "more errors" if found.low > 0 else f"no difference seen at n = {n}"
    )
    assert words == expected


def test_bad_input():
    for call in (lambda: stats.interval(np.array([])), lambda: stats.interval(np.arange(3), 1.5)):
        with pytest.raises(BadInput):
            call()
    with pytest.raises(BadInput, match="unequal"):
        crossed.paired_difference(np.arange(3), np.arange(4))


def test_an_interval_over_teachers_is_wider_where_teachers_differ():
    table = np.array([[100.0, 103, 98], [110, 112, 109], [90, 93, 91]])
    over_both, naive = crossed.crossed_interval(table), stats.interval(table.ravel())
    assert over_both.mean == naive.mean and over_both.high - over_both.low > 2 * (naive.high - naive.low)


def test_crossed_interval_by_hand():
    # MS_teachers = 2 * var(2, 6) = 16, MS_seeds = 2 * var(3, 5) = 4: se² = 20 / 4, df = 20² / (16² + 4²)
    found = crossed.crossed_interval(np.array([[1.0, 3.0], [5.0, 7.0]]))
    assert (
        found.mean == 4 and found.standard_error == pytest.approx(math.sqrt(5)) and found.df == pytest.approx(400 / 272)
    )
    assert found.high == pytest.approx(4 + scipy.stats.t.ppf(0.975, 400 / 272) * math.sqrt(5))
