"""The first sentences of the studies' summaries, from made-up results."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import crossed, fieller
from analysis.cifar10 import claims as cifar10_claims
from analysis.cifar10.roles import Role
from analysis.cifar10.rows import TableRow as Cifar10Row
from analysis.cifar10.run import Cifar10Results
from analysis.matching.rows import Claim, verdict
from analysis.mnist import claims
from analysis.mnist import table as mnist_table
from analysis.mnist.roles import Role as MnistRole
from analysis.mnist.rows import TableRow
from analysis.mnist.run import MnistResults
from analysis.omission import claims as omission_claims
from analysis.omission.rows import summarise
from analysis.sweep import stability


def test_predictions_that_hold_are_counted_and_the_others_named():
    held, failed = Claim("one", "0", "0", True), Claim("T² undoes it", "0", "1", False)
    assert verdict([held, held]) == "All 2 predictions hold."
    assert verdict([held, failed]) == "1 of 2 predictions hold; this one does not: T² undoes it."
    assert verdict([failed, held, failed]).startswith("1 of 3 predictions hold; these 2 do not: T² undoes it; T²")


MNIST = MnistResults(
    Path(), {"config": {"temperature": 20.0, "soft_weights": [0.9]}}, [], pd.DataFrame(columns=["role"]), None
)
NAME = "small net distilled, T = 20, soft weight 0.9"


def row(name, gap=(math.nan, math.nan, math.nan), verdict=""):
    role = {"small net alone": MnistRole.SMALL, NAME: MnistRole.DISTILLED}.get(name.removesuffix(", first teacher"))
    return TableRow(name, {}, gap=fieller.Ratio(*map(float, gap), 6), verdict=verdict, role=role)


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        ((0.67, 0.6, 0.74), "closes 0.67 [0.60, 0.74] of the gap between small net and teacher, not all of it."),
        (
            (0.97, 0.9, 1.04),
            "0.97 [0.90, 1.04] of the gap between small net and teacher, which may be all of it.",
        ),
        ((0.2, -0.1, 0.5), "It is not shown that distillation closes any of the gap"),
        ((0.2, -math.inf, math.inf), "It is not shown that distillation closes any of the gap"),
        ((0.2, math.nan, math.nan), "closes 0.20 of the gap between small net and teacher; 6 runs cannot tell more."),
        ((math.nan, math.nan, math.nan), "There is no gap to close"),
    ],
)
def test_whether_the_gap_is_closed(gap, said):
    rows = [row("teacher"), row("small net alone"), row(f"{NAME}, first teacher", gap)]
    assert said in claims.of_table(rows, MNIST)


def test_which_of_the_papers_rows_are_reproduced():
    rows = [row("teacher", verdict="compatible"), row("small net alone", verdict="reproduced")]
    assert claims.of_table(rows, MNIST) == (
        "The paper's single runs, against ours: teacher compatible, small net alone reproduced."
    )
    both = claims.of_table([*rows, row(NAME, (0.9, 0.8, 0.95), "not reproduced (about this teacher)")], MNIST)
    assert both.endswith("small net distilled not reproduced (about this teacher).") and "not all of it" in both
    assert claims.of_table([row("teacher")], MNIST) == ""


def cifar10(points, split="test", from_smoothing=None, sweeps=None, teachers=("one",), nll=None):
    """The verdict on differences of accuracy by temperature, and of `nll`; nan: a run that failed. Of several teachers,
    each one's seeds follow the other's."""
    column = f"{split}_accuracy"
    rows = [
        Cifar10Row(
            *("small, distilled", Role.DISTILLED, t, 0, {}),
            {column: paired(values), **({f"{split}_nll": paired(nll[t])} if nll else {})},
            from_smoothing=paired(from_smoothing[t]) if from_smoothing else None,
        )
        for t, values in points.items()
        if np.isfinite(values).all()
    ]
    lines = [
        {"role": "distilled", "temperature": t, "teacher": teachers[run * len(teachers) // len(values)]}
        | {"seed": run % (len(values) // len(teachers)), column: 80 + value}
        | {"failed_at": -1 if np.isfinite(value) else 9}
        for t, values in points.items()
        for run, value in enumerate(values)
    ]
    table = pd.DataFrame(lines, columns=["role", "temperature", "teacher", "seed", "failed_at", column])
    results = Cifar10Results(Path(), {}, [], [], {}, sweeps or {}, table, pd.DataFrame(), [], [column])
    return cifar10_claims.verdict(rows, results)


def test_the_caution_on_two_seeds_is_about_the_rows_whatever_seeds_the_widths_have():
    of_rows = [{"role": role, "seed": seed} for role in ("small", "distilled") for seed in range(2)]
    tuning = [{"role": "tuning", "seed": 10_000 + seed} for seed in range(4)]
    results = MnistResults(Path(), {"data": {"test_images": 1_000}}, [], pd.DataFrame([*of_rows, *tuning]), None)
    assert mnist_table._cautions([], results) == ["2 seeds say next to nothing of spread: give --seeds 3 or more."]


def paired(values):
    return crossed.paired_difference(np.array(values, float), np.zeros(len(values)))


def test_whether_small_networks_gain_accuracy():
    better, none = [0.8, 0.9, 0.7, 0.85], [0.3, -0.2, 0.1, -0.1]
    size = paired(better)
    assert cifar10({4.0: better, 20.0: none}).startswith(
        f"Distilled small networks are better at 1 of 2 temperatures (T = 4: +0.81 [+{size.low:.2f}, +{size.high:.2f}] "
        "points of accuracy) than those of hard labels."
    )
    assert "worse at 1 of 1 temperature (T = 4: −0.81" in cifar10({4.0: [-value for value in better]})
    both = {4.0: better, 20.0: [value + 0.1 for value in better]}
    assert "better at 2 of 2 temperatures (most at T = 20 (oracle): +0.91" in cifar10(both)
    assert "better at 2 of 2 temperatures (most at T = 20: +0.91" in cifar10(both, "holdout")
    few = paired(none)
    assert cifar10({4.0: none}) == (
        "Distilled small networks are not told apart from those of hard labels (4 pairs; "
        f"T = 4: +{few.mean:.2f} [−{-few.low:.2f}, +{few.high:.2f}] points of accuracy)."
    )
    both = {4.0: none, 20.0: [value - 0.2 for value in none]}
    assert "(4 pairs; largest at T = 20 (oracle): −0.18 [" in cifar10(both)
    assert cifar10({4.0: [0.5]}).startswith("1 seed cannot tell")
    assert "no pairs" in cifar10({})


def test_whether_small_networks_gain_in_nll_is_said_of_all_temperatures_at_once():
    points, lower = {4.0: [0.3, -0.2, 0.1, -0.1], 20.0: [0.1, 0.2, -0.1, -0.1]}, [-0.05, -0.06, -0.055, -0.045]
    said = cifar10(points, "holdout", nll={4.0: lower, 20.0: [0.1, -0.1, 0.0, 0.05]})
    assert " Their NLL is lower at 1 of 2 temperatures (T = 4: −0.053 [" in said
    assert "] nats) than that of hard labels. The best T may be" in said
    said = cifar10(points, nll={4.0: [-value for value in lower], 20.0: [0.04, 0.05, 0.05, 0.045]})
    assert " Their NLL is higher at 2 of 2 temperatures (most at T = 4 (oracle): +0.053 [" in said
    said = cifar10(points, nll=points)
    assert " Their NLL is not told apart from that of hard labels (largest at T = " in said


def test_the_best_temperature_by_test_images_is_called_an_oracles():
    far, close = {4.0: [0.8, 0.9, 0.7, 0.85], 20.0: [0.3, -0.2, 0.1, -0.1]}, {4.0: [0.3, -0.2], 20.0: [0.1, -0.1]}
    assert cifar10(far).endswith(" The best T is 4 (oracle: by test accuracy).")
    assert cifar10(far, "holdout").endswith(" The best T is 4.")
    assert "best T" not in cifar10({1.0: [math.nan] * 4, **far})  # it might have been
    assert cifar10(close).endswith(" The best T may be 4, 20 (oracle: by test accuracy).")


def test_gains_over_label_smoothing_are_told_beside_those_over_hard_labels():
    better, worse = [0.8, 0.9, 0.7, 0.85], [-1.2, -1.1, -1.3, -1.25]
    said = cifar10({4.0: better}, from_smoothing={4.0: worse})
    gain, loss = paired(better), paired(worse)
    assert f"better at 1 of 1 temperature (T = 4: +{gain.mean:.2f} [" in said and "than those of hard labels." in said
    assert (
        f" They are worse at 1 of 1 temperature (T = 4: −{-loss.mean:.2f} [" in said
        and "than those of label smoothing." in said
    )


def test_settings_whose_runs_failed_at_every_rate_are_named(monkeypatch):
    monkeypatch.setattr(cifar10_claims.runs, "read", lambda folder: None)
    monkeypatch.setattr(cifar10_claims.tuning, "settings", lambda runs: {"hard labels": None, "T = 4": None})
    said = cifar10({4.0: [0.8, 0.9, 0.7, 0.85]}, sweeps={"tuning": [Path("tuned")]})
    assert "Left out, where some run failed at every rate tried: T = 4, hard labels." in said


def test_a_temperature_that_only_some_teachers_prefer_may_be_the_best():
    """With the same students under each of three teachers; taken for fifteen runs of one, T = 20 would be excluded."""
    by_teacher, noise = np.repeat([1.6, 1.5, 0.2], 5), np.tile([0.1, -0.1, 0.05, 0.0, -0.05], 3)
    points = {4.0: list(by_teacher + noise), 20.0: list(0 * noise)}
    assert cifar10(points, "holdout", teachers=("one", "two", "three")).endswith("The best T may be 4, 20.")
    assert cifar10(points, "holdout").endswith("The best T is 4.")
    hole = {**points, 20.0: [*points[20.0][:-1], math.nan]}
    assert "best T" not in cifar10(hole, "holdout", teachers=("one", "two", "three"))


def omission(tasks, temperatures=(4.0, 20.0), corrections=("none", "label_free", "oracle")):
    """Rows of an omission run: of 100 omitted images, distilled students get 20 right, then 90; at T = 4 half of it."""
    lines = []
    for task in tasks:
        for seed in range(2):
            line = {
                "omitted": task,
                "seed": seed,
                "failed_at": -1,
                "omitted_images": 100,
                "test_images": 1000,
                "bias": 1.0,
            }
            hard = {"student": "control", "correction": "none", "temperature": math.nan, "omitted_errors": 100}
            lines.append({**line, **hard, "test_errors": 140})
            for t in temperatures:
                whole = {"student": "all_digits", "correction": "none", "temperature": t, "omitted_errors": 3}
                lines.append({**line, **whole, "test_errors": 30 + seed})
                for correction in corrections:
                    wrong = 100 - (20 if correction == "none" else 90) / (1 if t == 20 else 2)
                    mine = {"student": "distilled", "correction": correction, "temperature": t, "omitted_errors": wrong}
                    lines.append({**line, **mine, "test_errors": 40 + 3 * seed})
    return pd.DataFrame(lines)


def test_what_students_know_of_what_they_never_saw():
    data = {"class_names": list("0123456789"), "num_classes": 10}

    def omission_verdict(results, temperature):
        return omission_claims.verdict(results, summarise(results), data, temperature)

    said = omission_verdict(omission(["3"]), 20.0)
    assert said.startswith(
        "Distilled without 3, at T = 20, students are right on 20.0 % of the omitted (0.0 % if taught by hard labels), "
        "and on 90.0 % after correction (label-free). After the oracle's correction, minus students distilled on all "
        "classes: +11.0 ["
    )
    assert "on 10.0 % of the omitted" in omission_verdict(omission(["3"]), 4.0)
    each = omission_verdict(omission(["3", "5"]), 20.0)
    assert each.startswith("Distilled without each of 2 classes in turn, at T = 20") and "oracle" not in each
    bare = omission_verdict(omission(["3"], corrections=("none",)), 20.0)
    assert bare.endswith("(0.0 % if taught by hard labels).")
    assert "nothing can be said" in omission_verdict(omission(["3"]).assign(failed_at=1), 20.0)


def test_whether_soft_targets_are_steadier():
    hard = pd.DataFrame({"seed": range(4), "objective": "hard", "temperature": math.nan, "soft_weight": 0.0})
    hard = hard.assign(fluctuation=[1.0, 1.2, 0.9, 1.1], churn=[5.0, 6.0, 5.5, 5.2])
    soft = hard.assign(objective="kd", soft_weight=1.0)
    steady = soft.assign(temperature=4.0, fluctuation=hard["fluctuation"] * [0.5, 0.52, 0.49, 0.5])
    churning = soft.assign(temperature=8.0, churn=hard["churn"] * [1.5, 1.52, 1.49, 1.5])
    noisy = {"fluctuation": hard["fluctuation"] * [0.8, 1.3, 1.1, 0.9], "churn": hard["churn"] * [1.2, 0.8, 0.9, 1.1]}
    measured = pd.concat([hard, steady.assign(churn=noisy["churn"]), churning.assign(fluctuation=noisy["fluctuation"])])
    said = stability.verdict(measured.assign(width=30, learning_rate=0.001))
    assert said == (
        "On soft targets, against hard labels: fluctuation smaller at 1 and larger at 0 of 2 settings; churn smaller "
        "at 0 and larger at 1 of 2 settings; elsewhere no difference is seen."
    )
    assert "cannot be told" in stability.verdict(hard.assign(width=30, learning_rate=0.001))
