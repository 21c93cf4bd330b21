"""Power agrees with simulation and the noncentral t; the command plans from a real sweep, or refuses in one line."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from analysis import crossed, stats, terminal
from analysis import plan as command
from analysis.sweep import plan, power
from analysis.sweep.config import PlanConfig
from analysis.sweep.power import Spread
from kdjax.errors import BadInput
from tests import commands

ALONE = Spread(math.nan, 0.0, 8.0)
CASES = [(ALONE, 1, 10), (Spread(4.0, 3.0, 6.0), 3, 8), (Spread(0.0, 3.0, 8.0), 6, 5), (Spread(5.0, 0.0, 5.0), 2, 6)]


def draws(spread, teachers, seeds, count, seed):
    """Paired differences `[count, teachers, seeds]` of mean 0."""
    random = np.random.default_rng(seed)
    of_teacher = 0.0 if teachers == 1 else spread.teachers
    parts = ((of_teacher, (teachers, 1)), (spread.seeds, (1, seeds)), (spread.runs, (teachers, seeds)))
    return sum(random.normal(0, deviation, (count, *shape)) for deviation, shape in parts)


@pytest.mark.parametrize(("spread", "teachers", "seeds"), CASES)
def test_power_is_how_often_the_verdicts_are_given(spread, teachers, seeds):
    tables = draws(spread, teachers, seeds, 1500, seeds)
    seen = np.mean([crossed.paired_difference(table + 6, np.zeros_like(table)).differs for table in tables])
    shown = np.mean([stats.reach(table[..., None]) < 7.0 for table in tables])
    assert power.power(6.0, spread, seeds, teachers) == pytest.approx(seen, abs=0.04)  # 3 standard errors
    assert power.equivalence_power(7.0, spread, seeds, teachers) == pytest.approx(shown, abs=0.04)


@pytest.mark.parametrize("seeds", [2, 5, 30])
def test_power_under_one_teacher_is_that_of_the_t_test(seeds):
    shift, bound = 5 / 8 * math.sqrt(seeds), scipy.stats.t.ppf(0.975, seeds - 1)
    expected = scipy.stats.nct.sf(bound, seeds - 1, shift) + scipy.stats.nct.cdf(-bound, seeds - 1, shift)
    assert power.power(5.0, ALONE, seeds) == pytest.approx(expected, abs=0.003)
    assert power.power(1e-9, ALONE, seeds) == pytest.approx(0.05, abs=0.003)


def test_the_fewest_seeds():
    found = power.seeds_for(lambda n: power.power(5.0, ALONE, n))
    assert power.power(5.0, ALONE, found) >= 0.8 > power.power(5.0, ALONE, found - 1)
    assert power.seeds_for(lambda n: 1.0) == 2 and power.seeds_for(lambda n: float(n >= 1000)) == 1000
    # The spread over three teachers alone is too much: no number of seeds helps.
    assert power.seeds_for(lambda n: power.power(6.0, Spread(4.0, 3.0, 6.0), n, 3)) is None


def test_the_spread_is_recovered_from_its_draws():
    truth = Spread(6.0, 3.0, 5.0)
    found = power.spread_of(draws(truth, 4, 6, 3000, 1))
    assert found == pytest.approx(truth, rel=0.05)
    alone = power.spread_of(draws(ALONE, 1, 6, 3000, 2))
    assert alone.runs == pytest.approx(8.0, rel=0.05) and math.isnan(alone.teachers)


def test_all_pairs_at_once_are_shown_with_the_power_that_was_planned():
    random, deviation = np.random.default_rng(3), 6 / math.sqrt(2)
    spread, pairs = Spread(math.nan, 0.0, 6.0), 6
    every = plan.Comparison("every two", [np.zeros((1, 2))] * pairs, together=True)
    seeds = int(plan._row(every, spread, 1, 5, PlanConfig(margin=7.0))[2])
    tables = random.normal(0, deviation, (400, seeds, 4))
    shown = np.mean([stats.reach(stats.all_pairs(table)) < 7.0 for table in tables])
    assert 0.8 <= shown < 0.95  # a bound, and not a wasteful one


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    root = tmp_path_factory.mktemp("plan")
    code, said = commands.call_sweep(root, "--temperatures", "1", "8", "inf", "--seeds", "3")
    assert code == 0, said
    return commands.run_directory(root)


def row_of(text, kind):
    (line,) = [line for line in text.splitlines() if kind in line]
    return line.split(kind)[1].split()


def test_a_plan_from_a_sweep(swept, capsys):
    text = terminal.text(plan.describe([swept], PlanConfig(difference=20.0, margin=30.0)))
    results = pd.read_csv(swept / "results.csv")
    soft = results[results["objective"] == "kd"].pivot(index="seed", columns="temperature", values="test_errors")
    pairs = stats.all_pairs(soft.to_numpy(float))
    deviation = math.sqrt(np.mean(np.var(pairs, axis=0, ddof=1)))
    spread = Spread(math.nan, 0.0, deviation)
    expected = [f"{deviation:.1f}", "1"]
    for of, size in ((power.power, 20.0), (power.equivalence_power, 30.0)):
        needed = power.seeds_for(lambda n, of=of, size=size: of(size, spread, n))
        expected += [str(needed), f"{of(size, spread, 3):.2f}"]
    assert row_of(text, "two temperatures ") == expected
    assert row_of(text, "every two of T = 8, ∞")[1] == "1" and "a temperature and hard labels" in text
    assert "16 units: 1 teacher, 3 seeds; the true spread may be up to 6.3 times as large" in text
    less = soft.sub(results[results["objective"] == "hard"].set_index("seed")["test_errors"], axis="index")
    spread = Spread(math.nan, 0.0, math.sqrt(np.mean(np.var(less.to_numpy(float), axis=0, ddof=1))))
    corrected = power.seeds_for(lambda n: power.power(20.0, spread, n, tests=3))
    assert row_of(text, "a temperature and hard labels")[2] == str(corrected)
    for run in ([str(swept)], [swept.name, "--out", str(swept.parents[1])]):
        code, said = commands.call(command.main, PlanConfig, [*run, "--difference", "20"], command.PROG)
        assert code == 0, said


def test_teachers_are_planned_from_sweeps_under_several(swept, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(swept, other)
    (other / "MANIFEST.json").unlink()
    results = pd.read_csv(other / "results.csv").assign(teacher="another")
    results["test_errors"] += np.random.default_rng(4).integers(-9, 9, len(results))
    results.to_csv(other / "results.csv", index=False)
    text = terminal.text(plan.describe([swept, other], PlanConfig(difference=20.0, margin=30.0, teachers=(1, 2, 6))))
    lines = [line for line in text.splitlines() if "two temperatures " in line]
    assert [line.split("two temperatures ")[1].split()[1] for line in lines] == ["1", "2", "6"]
    assert "2 teachers, 3 seeds" in text and "Two teachers are few" in text
    assert "Two teachers are few" in terminal.text(
        plan.describe([swept, other], PlanConfig(difference=20.0, margin=30.0))
    )
    with pytest.raises(BadInput, match="same runs come twice"):
        plan.describe([swept, swept], PlanConfig())
    config = json.loads((other / "config.json").read_text())
    config["identity"]["config"]["padded"] = False  # as of more than one objective
    (other / "config.json").write_text(json.dumps(config))
    assert plan.describe([swept, other], PlanConfig())
    config["identity"]["config"]["epochs"] += 1
    (other / "config.json").write_text(json.dumps(config))
    for rows in (results, pd.read_csv(swept / "results.csv")):  # of the same runs, too
        rows.to_csv(other / "results.csv", index=False)
        with pytest.raises(BadInput, match="different recipes"):
            plan.describe([swept, other], PlanConfig())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--teachers", "3"], "not known from one teacher"),
        (["--teachers", "0"], "--teachers 0 is not allowed"),
        (["--difference", "0"], "--difference 0 is not allowed"),
        (["--margin", "nan"], "--margin nan is not allowed"),
        (["--power", "1"], "--power 1 is not allowed"),
        (["--alike-from", "inf"], "--alike-from inf is not allowed"),
    ],
)
def test_bad_input_is_one_line(swept, arguments, said):
    code, text = commands.call(command.main, PlanConfig, [str(swept), *arguments], command.PROG)
    assert code == 2 and said in " ".join(text.replace("│", " ").split()) and "Traceback" not in text


def test_what_cannot_be_planned_from_is_refused(tmp_path):
    code, text = commands.call(command.main, PlanConfig, [str(tmp_path)], command.PROG)
    assert code == 2 and "config.json is missing" in text and "is no run directory" in text
    assert commands.call_sweep(tmp_path, "--seeds", "1", "--temperatures", "4")[0] == 0
    with pytest.raises(BadInput, match="nothing is to be compared"):
        plan.describe([commands.run_directory(tmp_path)], PlanConfig())


def test_a_run_of_another_experiment_is_refused(swept, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(swept, other)
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"temperature_sweep"', '"omit_digit"'))
    with pytest.raises(BadInput, match="is a run of omit_digit: name one of temperature_sweep"):
        plan.describe([other], PlanConfig())


def test_a_sweep_of_another_objective_alone_can_be_planned_from(tmp_path):
    results = pd.DataFrame(
        [
            {"width": 30, "teacher": "a", "seed": seed, "objective": objective, "temperature": temperature}
            | {"soft_weight": 1.0, "learning_rate": 1e-3, "test_errors": errors, "failed_at": -1}
            for objective, temperature, of_seeds in (
                ("hard", math.nan, (150, 141, 155)),
                ("mse", 2.0, (140, 144, 149)),
                ("mse", 8.0, (142, 146, 151)),  # two more in every run: no spread
            )
            for seed, errors in enumerate(of_seeds)
        ]
    )
    folder = tmp_path / "run"
    folder.mkdir()
    results.to_csv(folder / "results.csv", index=False)
    identity = {"experiment": "temperature_sweep", "config": {}, "data": {}}
    (folder / "config.json").write_text(json.dumps({"identity": identity, "details": {}}))
    once = results[results["temperature"] != 8.0].replace({"temperature": {2.0: math.nan}})
    smoothed = once[once["objective"] == "mse"].assign(objective="label_smoothing", test_errors=(1, 2, 4))
    pd.concat([once, smoothed]).to_csv(folder / "results.csv", index=False)
    said = plan.describe([folder], PlanConfig())
    assert "30 units, squared error of logits | the objective and hard labels" in said and "smoothing" not in said
    results.to_csv(folder / "results.csv", index=False)
    said = plan.describe([folder], PlanConfig())
    assert "30 units, squared error of logits | a temperature and hard labels" in said
    assert "two temperatures differ by the same in every run" in said
