"""The verdict of a sweep: what it says of made-up results, and how often it claims a difference where there is none."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis import crossed, stats, terminal
from analysis.sweep import calls, groups, plan, power, table, verdict
from analysis.sweep.groups import HARD as AT_HARD
from tests.made_results import HARD, INF, T4, sweep

T8 = ("kd", 8.0)
TEMPERATURES = [("kd", t) for t in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)]
WORSE = {HARD: [100, 103, 98, 101], T4: [120, 121, 119, 122], INF: [140, 144, 139, 143]}
BETTER = {HARD: [146, 150, 142, 145], T4: [101, 108, 97, 100], T8: [103, 107, 99, 101], INF: [140, 156, 141, 139]}
NOISE = {HARD: [100, 110, 90], T4: [104, 103, 95], INF: [97, 113, 92]}


def claims(results):
    """The claims of all groups: −1 fewer errors than hard labels, 1 more, 0 none."""
    differences = [less for group in groups.of(results) for less in group.differences().values()]
    return [int(np.sign(less.mean)) * call for less, call in zip(differences, stats.claimed(differences), strict=True)]


def simulated(random, seeds, settings=TEMPERATURES, shift=0.0, **also):
    """A sweep of normal errors: each run has its seed's part (3 errors) and its own (5), soft targets a shift."""
    common = random.normal(0, 3, seeds)
    runs = {HARD: 100 + random.normal(0, 5, seeds) + common}
    for setting in settings:
        runs[setting] = 100 + shift + common + random.normal(0, 5, seeds)
    return sweep(runs, **also)


def several(random):
    """Two widths, two rates, no hold-out: four groups."""
    cases = [(width, rate) for width in (30, 300) for rate in (1.0, 2.0)]
    return pd.concat([simulated(random, 3, TEMPERATURES[2:4], width=width, rate=rate) for width, rate in cases])


def test_of_500_sweeps_without_a_difference_5_percent_claim_one_at_most():
    """24 do, 0.048, of the usual sweep: 7 temperatures, 3 seeds. (Of 40,000: 0.036 to 0.050, by seeds and settings.)"""
    random = np.random.default_rng(0)
    assert np.mean([any(claims(simulated(random, 3))) for _ in range(500)]) <= 0.05


@pytest.mark.parametrize(
    ("draw", "count"),
    [
        (lambda random: simulated(random, 10, TEMPERATURES[:4]), 200),
        (several, 100),
    ],
    ids=["10 seeds", "4 groups"],
)
def test_so_do_other_sweeps_as_far_as_simulation_tells(draw, count):
    random = np.random.default_rng(0)
    false = sum(any(claims(draw(random))) for _ in range(count))
    assert scipy.stats.binomtest(false, count, 0.05, alternative="greater").pvalue > 0.01


def test_what_is_said_of_two_standard_errors():
    """A difference of two standard errors at each of 7 temperatures is claimed at one or more of them by 22 % of the
    verdicts on 3 seeds, by 47 % of those on 10, and never with the wrong sign: the others say that seeds are few."""
    for seeds, share in ((3, 0.22), (10, 0.47)):
        random, two = np.random.default_rng(1), 2 * math.sqrt(2 * 5**2 / seeds)
        found = [claims(simulated(random, seeds, shift=-two)) for _ in range(150)]
        assert np.mean([-1 in one for one in found]) == pytest.approx(share, abs=3 * math.sqrt(0.25 / 150))
        assert not any(1 in one for one in found)


SMOOTH, MIXED = ("label_smoothing", math.nan), ("shuffled", 4.0)


def with_baselines(random, seeds, errors, temperatures=(1.0, 2.0, 4.0, 8.0, math.inf), shared=0.7, holdout=True):
    """A group of normal errors of which a share of a run's own part (5 errors) is the same on hold-out and test images,
    and so is the seed's (3). `errors`: expected ones, by objective; the rest make 100."""
    common = random.normal(0, 3, seeds)

    def run(objective):
        mean, own = errors.get(objective, 100.0) + common, random.normal(0, math.sqrt(shared) * 5, seeds)
        return [mean + own + random.normal(0, math.sqrt(1 - shared) * 5, seeds) for _ in ("test", "hold-out")]

    runs = {AT_HARD: run("hard"), **{t: run("kd") for t in temperatures}}
    others = {"label smoothing": run("smooth"), **{f"shuffled teacher ({t})": run("shuffled") for t in temperatures}}
    held = {t: both[1].mean() for t, both in runs.items()} if holdout else {}
    baselines = [
        groups.Baseline(name, pd.Series(test), held.mean() if holdout else math.nan)
        for name, (test, held) in others.items()
    ]
    tests = pd.DataFrame({t: both[0] for t, both in runs.items()})
    return groups.Group("30 units", "soft targets", tests, pd.Series(held, dtype=float), tuple(baselines))


def said_of(group):
    """What is claimed of a group: against hard labels, against the best baseline."""
    (found,) = calls.tested([group])
    return [call.word for call in found.calls], [call.word for call in found.beyond]


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_with_baselines_5_percent_of_500_sweeps_without_a_difference_claim_one_at_most(shared):
    """What is claimed against a baseline stands on a claim against hard labels: the share is that without baselines."""
    random, any_, of_hard = np.random.default_rng(3), 0, 0
    for _ in range(500):
        group = with_baselines(random, 3, {}, (1.0, 4.0, math.inf), shared)
        any_ += any(any(words) for words in said_of(group))
        of_hard += any(stats.claimed(list(group.differences().values())))
    assert any_ == of_hard <= 25


@pytest.mark.parametrize("holdout", [True, False])
def test_of_500_teachers_no_better_than_label_smoothing_5_percent_are_told_apart_at_most(holdout):
    """… though all beat hard labels, and a shuffled teacher is as good too, or far worse."""
    random, seeds = np.random.default_rng(4), 4
    errors = [{"hard": 190.0, "shuffled": 300.0 * far} for far in (0.0, 1.0)]
    errors[0]["shuffled"] = 100.0
    said = [said_of(with_baselines(random, seeds, errors[i % 2], (1.0, 4.0), 0.9, holdout)) for i in range(500)]
    assert np.mean([hard == ["fewer"] * 2 for hard, _ in said]) > 0.99
    assert sum(any(one) for _, one in said) <= 25


def test_more_errors_than_a_chosen_baseline_count_as_often_as_there_were_to_choose_from():
    group = with_baselines(np.random.default_rng(5), 8, {"smooth": 90.0, "shuffled": 300.0, "hard": 150.0})
    (rival,) = group.rivals
    assert rival.name == "label smoothing" and len(group.baselines) == 6
    for t, (name, less) in group.from_rivals().items():
        plain = scipy.stats.ttest_rel(group.errors[t], rival.errors)
        assert name == rival.name and less.mean > 0 and less.p == pytest.approx(min(1, 6 * plain.pvalue))
    better = with_baselines(np.random.default_rng(5), 8, {"kd": 80.0, "smooth": 90.0, "shuffled": 300.0, "hard": 150.0})
    for t, (_, less) in better.from_rivals().items():
        assert less.p == pytest.approx(scipy.stats.ttest_rel(better.errors[t], better.rivals[0].errors).pvalue)


def test_without_a_holdout_a_temperature_has_to_beat_every_baseline():
    group = with_baselines(np.random.default_rng(6), 6, {"kd": 80.0, "hard": 150.0}, holdout=False)
    assert group.rivals == list(group.baselines) and len(group.rivals) == 6
    for t, (name, less) in group.from_rivals().items():
        p = {one.name: scipy.stats.ttest_rel(group.errors[t], one.errors).pvalue for one in group.baselines}
        assert less.mean < 0 and p[name] == max(p.values()) == pytest.approx(less.p)


def test_claims_in_turn():
    random = np.random.default_rng(7)
    for _ in range(200):  # one in each chain: as without turns
        firsts = differences(*random.normal(-6 * random.random(), 4, (4, 5)))
        assert stats.claimed_in_turn([[one] for one in firsts]) == [int(one) for one in stats.claimed(firsts)]
    one, two, three = differences([-10, -11, -9, -10], [-5, -8, -2.3, -5], [-5, 5, 3, -3])
    assert 0.05 / 3 < two.p < 0.05 / 2  # at 0.05 or a half of it, not at a third
    assert stats.claimed_in_turn([[one, two], [two, two]]) == [2, 2]  # all lie on one side: then all again
    assert stats.claimed_in_turn([[one, two], [two, three]]) == [2, 1]
    assert stats.claimed_in_turn([[one, two], [three, one]]) == [2, 0]  # what is not claimed ends its chain
    assert stats.claimed_in_turn([[one, three], [three], [two]]) == [1, 0, 0]  # a stuck chain keeps its level
    assert stats.claimed_in_turn([[one], [three], [two]]) == [1, 0, 1]  # and one that is through hands it on
    assert stats.claimed_in_turn([]) == []


PLANTED = {
    **{("kd", t): values for t, values in ((2.0, [101, 108, 97, 100, 103]), (8.0, [100, 107, 99, 101, 102]))},
    HARD: [146, 150, 142, 145, 147],
    SMOOTH: [120, 125, 118, 119, 121],
    MIXED: [800, 850, 790, 801, 812],
}


def interval(errors, others):
    """The mean paired difference with its interval, by SciPy."""
    low, high = scipy.stats.ttest_rel(errors, others).confidence_interval()
    return f"{np.mean(np.subtract(errors, others)):+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")


BEST = "label smoothing, the best baseline"


def held_out(runs, **other):
    return {setting: other.get(setting[0], values) for setting, values in runs.items()}


def test_a_helpful_teacher_beats_the_best_baseline():
    headline, found, _, choice = sentences(sweep(PLANTED, holdout=held_out(PLANTED)))
    assert headline == f"Distillation helps at all 2 temperatures, against hard labels and against {BEST}."
    less = interval(PLANTED["kd", 2.0], PLANTED[SMOOTH])
    assert f"fewer errors than {BEST}, at T = 2, 8, most at T = 2 (oracle): {less}" in found
    assert choice.startswith("The hold-out would choose T = 2: 101.8 test errors, −44.2 [")
    details = verdict.of(sweep(PLANTED, holdout=held_out(PLANTED))).details
    assert "The best baseline is chosen by mean hold-out errors: label smoothing. That is no test of it." in details[0]


def test_one_that_is_no_better_than_label_smoothing_is_not_told_apart_from_it():
    equal = {**PLANTED, SMOOTH: [100, 104, 101, 98, 105]}
    headline, found, _, choice = sentences(sweep(equal, holdout=held_out(equal, label_smoothing=[90] * 5)))
    assert (
        headline == f"Distillation helps at all 2 temperatures, against hard labels, but is not told apart from {BEST}."
    )
    assert found.endswith(f"; not told apart from {BEST}, at T = 2, 8.")
    assert choice.startswith("The hold-out would choose label smoothing: 101.6 test errors.")
    half = {**equal, ("kd", 8.0): [80, 84, 80, 79, 84]}
    headline, found, *_ = sentences(sweep(half, holdout=held_out(half, label_smoothing=[70] * 5)))
    assert headline == f"Distillation helps at all 2 temperatures, against hard labels; against {BEST}, at 1."
    assert f"fewer errors than {BEST}, at T = 8: −20.2 [" in found and f"apart from {BEST}, at T = 2." in found
    worse = {**PLANTED, SMOOTH: [71, 78, 67, 71, 73]}
    headline, *_ = sentences(sweep(worse, holdout=held_out(worse)))
    assert headline.endswith(f"against hard labels, but makes more errors than {BEST}, at 2 of these.")


def test_hard_labels_may_be_the_best_baseline():
    headline, found, *_ = sentences(sweep(PLANTED, holdout=held_out(PLANTED, hard=[95] * 5)))
    assert headline == "Distillation helps at all 2 temperatures, against hard labels, the best baseline."
    assert "smoothing" not in found
    two = [sweep(PLANTED, width=w, holdout=held_out(PLANTED, **b)) for w, b in ((30, {}), (300, {"hard": [95] * 5}))]
    assert sentences(pd.concat(two))[0] == (
        "Distillation helps at all 4 settings, against hard labels and against the best baseline of each width."
    )


def test_a_teacher_that_does_not_help_is_not_compared_with_baselines():
    useless = {**PLANTED, ("kd", 2.0): [801, 852, 791, 800, 810], ("kd", 8.0): [820, 861, 800, 809, 830]}
    more = interval(useless["kd", 8.0], PLANTED[HARD])
    assert sentences(sweep(useless, holdout=held_out(useless)))[:2] == [
        "Distillation is worse at all 2 temperatures: use hard labels.",
        f"More errors than hard labels at T = 2, 8, most at T = 8 (oracle): {more}.",
    ]


def test_without_a_holdout_it_is_against_every_baseline():
    headline, found, _ = sentences(sweep(PLANTED))
    assert headline == "Distillation helps at all 2 temperatures, against hard labels and against every baseline."
    assert "fewer errors than every baseline at T = 2, 8, most at T = 2 (oracle): −18.8 [" in found
    assert "] from label smoothing." in found
    equal = sweep({**PLANTED, SMOOTH: [100, 104, 101, 98, 105]})
    assert sentences(equal)[0].endswith("against hard labels; against every baseline, at none.")
    assert "a hold-out would choose" in verdict.of(equal).details[0]
    headline, found, best = sentences(sweep({**PLANTED, SMOOTH: [71, 78, 67, 71, 73]}))
    assert headline.endswith("against hard labels, but makes more errors than some baseline, at 2 of these.")
    assert (
        "; more errors than label smoothing at T = 2, 8, most at T = 2 (oracle): +29.8 [" in found
        and "every" not in found
    )
    assert best.startswith("Fewest test errors (oracle): label smoothing (72.0), of the temperatures T = 2 (101.8);")


def test_a_holdout_that_can_choose_nothing_is_not_called_missing():
    lost = {(*setting, 0) for setting in PLANTED}
    held = [sweep(PLANTED, rate=rate, failed=lost, holdout=held_out(PLANTED)) for rate in (0.001, 0.003)]
    for results in (held[0], pd.concat(held)):
        said = " ".join(verdict.of(results).details)
        assert said.startswith("As some run of every setting failed, the hold-out chooses no best baseline, and"), said
        assert "would choose" not in said and "rate that the hold-out chooses" not in said


def test_a_baseline_that_failed_is_not_called_beaten():
    lost = {(*SMOOTH, seed) for seed in range(5)}
    alone = {setting: errors for setting, errors in PLANTED.items() if setting != MIXED}
    ended = "; not compared with label smoothing, of which a run failed or is missing."
    helps = "Distillation helps at all 2 temperatures, against hard labels"
    assert sentences(sweep(alone, failed=lost))[0] == helps + ended
    assert sentences(sweep(alone, failed=set(list(lost)[1:])))[0] == helps + ended  # one seed is no comparison
    headline, found, *_ = sentences(sweep(PLANTED, failed=lost))
    assert headline == f"{helps} and against every other baseline{ended}"
    assert "fewer errors than every other baseline at T = 2, 8" in found and "] from shuffled teacher" in found
    held = sweep(alone, failed=lost, holdout=held_out(alone))
    assert sentences(held)[0] == f"{helps}, the best baseline of those compared{ended}"


def test_a_temperature_of_which_a_run_failed_is_not_called_excluded():
    runs = {**BETTER, T4: [121, 122, 120, 123], T8: [103, 107, 99, 101]}
    found = " ".join(sentences(sweep(runs, failed={(*T8, 0)})))
    assert "not excluded as the best T: 4 (not tested, as a run failed or is missing: 8)" in found, found
    assert "every other T" not in found


def test_baselines_have_a_setting_each_and_are_not_judged():
    runs = {**PLANTED, ("shuffled", 8.0): [820, 861, 800, 809, 830]}
    half, whole = (sweep(runs, weight=weight, holdout=held_out(runs)) for weight in (0.5, 1.0))
    (first, second) = groups.of(pd.concat([half, whole]).drop_duplicates())
    names = [f"shuffled teacher (T = {t}, soft weight {w})" for t in (4, 8) for w in (0.5, 1)]
    names += [f"label smoothing (soft weight {w})" for w in (0.5, 1)]
    assert {one.name for one in first.baselines} == set(names) == {one.name for one in second.baselines}
    assert first.name == "800 units, soft weight 0.5"
    failed = sweep(PLANTED, holdout=held_out(PLANTED), failed={(*SMOOTH, 0)})
    assert all(call.word == "fewer" for call in calls.tested(groups.of(failed))[0].calls)
    alone = sweep({HARD: PLANTED[HARD], SMOOTH: PLANTED[SMOOTH]})
    assert verdict.of(alone).headline.startswith("Controls or baselines alone")
    (row,) = [row for row in table.summarise(alone).rows if row.setting["objective"] == "label_smoothing"]
    assert row.differences["test_errors"].mean == pytest.approx(-25.4)


def test_an_objective_without_temperature_is_named():
    runs = {HARD: PLANTED[HARD], ("mse", math.nan): PLANTED["kd", 2.0]}
    less = interval(PLANTED["kd", 2.0], PLANTED[HARD])
    assert sentences(sweep(runs, holdout=runs)) == [
        "Distillation helps, against hard labels.",
        f"Fewer errors than hard labels: {less}.",
        "Fewest test errors (oracle): squared error of logits (101.8).",
        f"The hold-out would choose squared error of logits: 101.8 test errors, {less} from hard labels.",
    ]


def test_a_plan_corrects_for_as_many_tests_as_the_verdict():
    """Of several widths, soft weights and objectives, not of one width's temperatures alone."""
    runs = {**PLANTED, ("mse", math.nan): PLANTED["kd", 2.0]}
    parts = [sweep(runs, width=width, weight=weight) for width in (30, 300) for weight in (0.5, 1.0)]
    results = pd.concat(parts).drop_duplicates()
    together = [call for one in calls.tested(groups.of(results)) for call in one.calls]
    assert plan.settings_compared(results) == len(together) == 2 * 2 * 3
    tuned = pd.concat([sweep(runs, rate=rate, holdout=held_out(runs)) for rate in (0.001, 0.002)])
    assert plan.settings_compared(tuned) == len(calls.tested(groups.of(tuned))[0].calls) + 1 == 3


def test_of_several_rates_what_failed_at_each_is_said():
    """As it is where there is one rate."""

    def tuned(failed, runs=PLANTED):
        rates = (0.001, 0.002)
        return pd.concat([sweep(runs, rate=rate, holdout=held_out(runs), failed=failed) for rate in rates])

    alone = {setting: errors for setting, errors in PLANTED.items() if setting != MIXED}
    said = sentences(tuned({(*SMOOTH, 0)}, alone))[0]
    assert said.endswith("; not compared with label smoothing, of which a run failed or is missing."), said
    (group,) = groups.of(tuned({(*T8, 0)}))
    assert group.temperatures == [2.0, 8.0] and group.errors[8.0].isna().all()
    said = " ".join(sentences(tuned({(*T8, 0)}, {**BETTER, T4: BETTER[T8]})))
    assert "(not tested, as a run failed or is missing: 8)" in said and "every other T" not in said
    assert "no setting has two seeds that finished" in sentences(tuned({(*HARD, 0)}))[0]


def differences(*samples):
    return [crossed.paired_difference(np.array(one, float), np.zeros(len(one))) for one in samples]


def test_all_are_claimed_at_once_or_those_that_a_correction_leaves():
    clear, alone, none = [-10, -11, -9, -10], [-5, -8, -2, -5], [-5, 5, 3, -3]
    three = differences(clear, alone, none)
    assert [one.differs for one in three] == [True, True, False]
    assert [p <= 0.05 for p in stats.holm(np.array([one.p for one in three]))] == [True, False, False]
    assert stats.claimed(three) == [True, False, False]
    assert stats.claimed(three[:2]) == [True, True]  # both lie below zero
    assert stats.claimed(differences(alone, [5, 8, 2, 5], none)) == [False] * 3
    assert stats.claimed([]) == []


def sentences(results, **also):
    said = verdict.of(results, **also)
    return [said.headline, *said.sentences]


def test_worse_everywhere():
    assert sentences(sweep(WORSE)) == [
        "Distillation is worse at all 2 temperatures: use hard labels.",
        "More errors than hard labels at T = 4, ∞, most at T = ∞ (oracle): +41.0 [+39.7, +42.3].",
        "Fewest test errors (oracle): hard labels (100.5), of the temperatures T = 4 (120.5).",
    ]
    only = sweep({HARD: WORSE[HARD], T4: WORSE[T4]})
    assert sentences(only, subject="Distillation (uniform targets)")[0].startswith(
        "Distillation (uniform targets) is w"
    )
    assert "is worse at T = 4: use hard labels." in sentences(only)[0]


def test_helps_at_some():
    headline, found, best = sentences(sweep(BETTER))
    assert headline == "Distillation helps at 2 of 3 temperatures, against hard labels."
    t4 = scipy.stats.ttest_rel(BETTER[T4], BETTER[HARD]).confidence_interval()
    assert f"−44.2 [{t4.low:.1f}, {t4.high:.1f}]".replace("-", "−") in found
    assert found.startswith("Fewer errors than hard labels at T = 4, 8, most at T = 4 (oracle): ")
    assert "not told apart from hard labels at T = ∞." in found
    assert best.startswith("Fewest test errors (oracle): T = 4 (101.5); not excluded as the best T: 4, 8.")
    assert best.endswith("`python -m analysis.plan RUN --difference 5`")


def test_better_at_one_and_worse_at_another():
    mixed = sweep({HARD: BETTER[HARD], T4: BETTER[T4], INF: [190, 193, 187, 190]})
    headline, found, best = sentences(mixed)
    assert headline == "Distillation beats hard labels at 1 of 2 temperatures, and is worse at 1 of 2 temperatures."
    fewer, more = found.split("; ")
    assert fewer.startswith("Fewer errors than hard labels at T = 4: −44.2 [")
    assert more.startswith("more errors than hard labels at T = ∞: +44.2 [")
    assert best.endswith("every other T is excluded as the best.")


def test_where_seeds_are_too_few_it_says_how_many_would_tell():
    results = sweep(NOISE)
    less = np.array([NOISE[T4], NOISE[INF]]) - np.array(NOISE[HARD])
    spread = power.Spread(math.nan, 0.0, math.sqrt(np.mean(np.var(less, axis=1, ddof=1))))
    needed = power.seeds_for(lambda n: power.power(5.0, spread, n, tests=2))
    headline, best = sentences(results, run="mine")
    assert headline == (
        f"3 seeds cannot tell whether distillation helps: about {needed} would, for a difference of 5 errors."
    )
    fewest = "Fewest test errors (oracle): hard labels (100.0), of the temperatures T = 4 (100.7)"
    assert best.startswith(f"{fewest}; not excluded")
    assert best.endswith("`python -m analysis.plan mine --difference 5`")
    wild = sweep({setting: [10 * value for value in values] for setting, values in NOISE.items()})
    assert "nor would 1,000, for a difference of 5 errors." in sentences(wild)[0]
    random = np.random.default_rng(2)
    many = sweep({setting: random.normal(100, 2, 30) for setting in (HARD, T4, INF)})
    assert sentences(many)[0] == (
        "No difference from hard labels is seen, where 30 seeds would show a difference of 5 errors."
    )


def test_the_number_of_seeds_is_that_of_the_corrected_test():
    spread, seeds, tests = power.Spread(math.nan, 0.0, 8.0), 12, 6
    shift, bound = 5 / 8 * math.sqrt(seeds), scipy.stats.t.ppf(1 - 0.025 / tests, seeds - 1)
    expected = scipy.stats.nct.sf(bound, seeds - 1, shift) + scipy.stats.nct.cdf(-bound, seeds - 1, shift)
    assert power.power(5.0, spread, seeds, tests=tests) == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (sweep({HARD: [146], T4: [101]}), "1 seed cannot tell whether distillation helps: give --seeds 3 or more."),
        (sweep({T4: [101, 108, 97]}), "Whether distillation helps is not known: there are no hard labels"),
        (sweep({HARD: [146, 150]}), "Hard labels alone"),
        (sweep(NOISE, failed={(*T4, 0), (*T4, 1), *((*INF, i) for i in range(3))}), "no setting has two seeds"),
        (sweep({HARD: [9, 9, 9], T4: [9, 9, 9]}), "3 seeds cannot tell whether distillation helps."),
        (sweep({HARD: [146, 150], ("matched(reference=2)", 4.0): [101, 108]}), "Controls or baselines alone"),
    ],
)
def test_what_cannot_be_judged(results, said):
    assert said in verdict.of(results).headline
    assert "nan" not in verdict.of(results).markdown()


def test_failed_runs_are_left_out():
    failed = sweep({**BETTER, INF: [1, 2, 3, 4]}, failed={(*T4, 0), *((*INF, i) for i in range(4))})
    (group,) = groups.of(failed)
    assert {t: less.n for t, less in group.differences().items()} == {4.0: 3, 8.0: 4}
    assert group.candidates() == [] and math.isnan(group.errors[4.0][0])
    assert "at all 2 temperatures" in verdict.of(failed).headline


HOLDOUT = {HARD: [150] * 4, T4: [90, 95, 100, 95], T8: [99] * 4, INF: [95, 95, 89, 93]}


def test_what_the_holdout_would_choose():
    said = sentences(sweep(BETTER, holdout=HOLDOUT))[-1]
    assert said.startswith("The hold-out would choose T = ∞: 144.0 test errors, −1.8") and "(not told apart)." in said
    failed = sentences(sweep(BETTER, holdout=HOLDOUT, failed={(*INF, 0)}))[-1]
    assert "choose T = 4: 101.5 test errors, −44.2 [" in failed and "apart" not in failed
    hard = sentences(sweep(BETTER, holdout=HOLDOUT | {HARD: [1] * 4}))[-1]
    assert "The hold-out would choose hard labels: 145.8 test errors." in hard


def test_each_setting_has_the_rate_that_the_holdout_chooses_hard_labels_too():
    slow = sweep({HARD: [100, 101, 99], T4: [80, 82, 81]}, rate=0.001, holdout={HARD: [50] * 3, T4: [60] * 3})
    fast = sweep({HARD: [70, 71, 69], T4: [95, 97, 99]}, rate=0.01, holdout={HARD: [40] * 3, T4: [70] * 3})
    (group,) = groups.of(pd.concat([slow, fast]))
    assert group.name == "800 units" and group.means() == {AT_HARD: 70.0, 4.0: 81.0}
    assert "at the rate that the hold-out chooses" in verdict.of(pd.concat([slow, fast])).details[-1]
    without = pd.concat([slow, fast]).drop(columns="holdout_errors")
    assert [group.name for group in groups.of(without)] == ["800 units, rate 0.001", "800 units, rate 0.01"]


def test_several_groups_have_a_line_each_and_many_stand_below():
    two = pd.concat([sweep(BETTER, width=width) for width in (30, 300)])
    headline, *lines = sentences(two)
    assert headline == "Distillation helps at 4 of 6 settings, against hard labels."
    assert [line.split(":")[0] for line in lines] == ["30 units", "300 units"]
    weights = pd.concat([sweep(BETTER, width=w, weight=q) for w in (30, 300, 800) for q in (0.5, 1.0)])
    said = verdict.of(weights.drop_duplicates())
    method, *lines = said.details
    assert not said.sentences and len(lines) == 6 and lines[0].startswith("30 units, soft weight 0.5: ")
    assert method.startswith("Not excluded as the best T: 95 %") and not verdict.of(sweep(WORSE)).details
    other = pd.concat([sweep(BETTER), sweep({("mse", 4.0): BETTER[INF]})])
    assert [group.name for group in groups.of(other)] == [
        "800 units, soft targets",
        "800 units, squared error of logits",
    ]


def written(folder, results, teacher, images=10_000, targets="teacher"):
    """A run directory, as far as a summary needs it."""
    folder.mkdir(exist_ok=True)
    results.assign(epochs=1).to_csv(folder / "results.csv", index=False)
    data = {"description": "MNIST", "test_images": images, "num_classes": 10}
    teachers = [{"name": "a", "test": {"errors": teacher}}]
    identity = {"experiment": "temperature_sweep", "data": data, "config": {"targets": targets}}
    (folder / "config.json").write_text(json.dumps({"identity": identity, "details": {"teachers": teachers}}))
    return folder


def test_it_stands_first_in_the_summary_and_on_the_terminal(tmp_path):
    text = table.write_summary(written(tmp_path, sweep(WORSE), 74))
    lines, printed = text.splitlines(), terminal.text(text, 80).splitlines()
    assert printed[2] == "Distillation is worse at all 2 temperatures: use hard labels."
    assert lines[0].startswith("# ") and lines[2] == f"**{printed[2]}**"
    assert lines[4].startswith("More errors than hard labels") and "Warning" not in text
    assert (tmp_path / "summary.md").read_text() == text
    text = table.write_summary(written(tmp_path, sweep(NOISE), 74, targets="uniform"))
    assert "cannot tell whether distillation (uniform targets) helps" in text
    assert f"python -m analysis.plan {tmp_path} --difference 5" in text


@pytest.mark.parametrize(
    ("results", "teacher", "images", "said"),
    [
        (
            NOISE,
            8990,
            10_000,
            "the teacher is right on 10.1 % of the test images, as one that guesses",
        ),
        (
            NOISE,
            120,
            10_000,
            "120.0 test errors, and students of hard labels, 800 units 100.0",
        ),
        ({T4: [100, 103, 97]}, 120, 10_000, "120.0 test errors, and its students, 800 units 100.0"),
        ({HARD: [100, 104], T4: [90, 93]}, 74, 10_000, "2 seeds say next to nothing of spread"),
        (
            {HARD: [1, 9, 0], T4: [2, 3, 1]},
            0,
            10_000,
            "some interval reaches beyond 0 to 10,000, the number",
        ),
        ({HARD: [99, 90, 98], T4: [70, 71, 72]}, 40, 100, "reaches beyond 0 to 100, the number of test images"),
        (
            {HARD: [3000, 3010, 2990], T4: [2900, 2905, 2895]},
            100,
            10_000,
            "the best students make 2900.0 test errors, and the teacher 100.0: train for more epochs.",
        ),
    ],
)
def test_warnings(tmp_path, results, teacher, images, said):
    text = table.write_summary(written(tmp_path / "run", sweep(results), teacher, images))
    (warning,) = [line for line in text.splitlines() if line.startswith("Warning: ")]
    assert said in warning and warning in (tmp_path / "run" / "summary.md").read_text()


def test_a_difference_that_a_correction_takes_back_is_none():
    runs = {HARD: [100, 100, 100, 100], T4: [95, 92, 98, 95], INF: [95, 105, 103, 97]}
    lines = table.summarise(sweep(runs)).table().text().splitlines()
    p = 2 * scipy.stats.ttest_1samp([-5, -8, -2, -5], 0).pvalue
    assert 0.05 < p < 0.1 and f" {p:.3f}" in lines[3] and "fewer" not in lines[3]
    assert verdict.of(sweep(runs)).headline.startswith("4 seeds cannot tell")


def test_table_and_verdict_claim_alike():
    """Where all intervals lie on one side of zero, none needs a correction; at two widths, all settings count."""
    together = {HARD: [100, 100, 100, 100], T4: [95, 92, 98, 95], INF: [94, 97, 92, 97]}
    one = sweep(together)
    assert verdict.of(one).headline.startswith("Distillation helps at all 2 temperatures")
    assert [row.claimed for row in table.summarise(one).rows] == [False, True, True]
    assert all(row.p_holm["test_errors"] > 0.05 for row in table.summarise(one).rows[1:])
    apart = {HARD: [100, 100, 100, 100], T4: [95, 105, 103, 97]}
    both = pd.concat([one.assign(width=30), sweep(apart).assign(width=300)])
    claims = [row.claimed for row in table.summarise(both).rows]
    assert not any(claims) and verdict.of(both).headline.startswith("4 seeds cannot tell")


def test_table_and_verdict_claim_alike_where_baselines_are_trained():
    """The verdict corrects for its comparisons with baselines; so does the table, which says `told apart` and p."""
    random = np.random.default_rng(11)
    claimed, kept = [], 0
    for _ in range(60):
        settings = [("kd", 1.0), ("kd", 4.0), ("kd", 16.0), SMOOTH]
        results = simulated(random, 6, settings, shift=-5.0)
        (found,) = calls.tested(groups.of(results))
        summary = table.summarise(results)
        rows = {row.setting["temperature"]: row for row in summary.rows if row.setting["objective"] == "kd"}
        for call in found.calls:
            row = rows[call.temperature]
            assert row.claimed == call.claimed and row.p_holm["test_errors"] == call.p
            assert row.differences["test_errors"].p <= call.p
        claimed.append(sum(call.claimed for call in found.calls))
        kept += sum(stats.claimed(list(found.group.differences().values())))
    assert 0 < sum(claimed) < kept, "in some of these sweeps a test against a baseline costs one against hard labels"
    assert "and over their comparisons with baselines, those of baselines apart" in " ".join(summary.notes)


def test_adjusted_in_turn():
    one, two, three = differences([-10, -11, -9, -10], [-5, -8, -2.3, -5], [-5, 5, 3, -3])
    assert stats.adjusted_in_turn([[one], [two], [three]]) == [
        [pytest.approx(p)] for p in stats.holm(np.array([one.p, two.p, three.p]))
    ]
    first, second = stats.adjusted_in_turn([[one, three], [two]])
    assert first == [pytest.approx(2 * one.p), pytest.approx(max(2 * two.p, three.p))]  # alone at the end
    assert second == [pytest.approx(2 * two.p)]  # while the first chain keeps its part
    nan = one._replace(p=math.nan)
    assert stats.adjusted_in_turn([[nan, one], [two]])[1] == [two.p] and stats.adjusted_in_turn([]) == []
