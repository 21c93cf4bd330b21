"""`python -m analysis.logit_matching` from a run directory to its summary, and what it refuses."""

import json
import math
import shutil

import jax
import numpy as np
import pandas as pd
import pytest

from analysis import logit_matching
from analysis.matching import claims, measurements, own_pair
from analysis.matching import pair as pair_
from analysis.matching.rows import Numbers, Row
from analysis.pair_file import read_pair
from kdjax import cli, sweeps, trained
from kdjax.config import DataConfig, RunConfig, SweepConfig, TeacherConfig
from kdjax.errors import BadInput
from tests import small_sweep

PROG = logit_matching.PROG


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A small sweep on a few of the bundled digits; returns its run directory."""
    root = tmp_path_factory.mktemp("matching")
    data = DataConfig("mnist5k", raw_dir=None, data_dir=root / "data", train_images=300)
    return sweeps.run(
        sweeps.prepare(
            SweepConfig(
                temperatures=(4.0, 20.0, math.inf),
                widths=(12,),
                seeds=2,
                epochs=4,
                batch_size=50,
                block_size=3,
                run=RunConfig(out=root / "runs", name="small", devices=1),
                data=data,
                teacher=TeacherConfig(widths=(16, 12), epochs=5, batch_size=50),
            )
        )
    )


@pytest.fixture(scope="module")
def written(swept):
    out = swept.parent.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurements, "ENTRIES", 100_000)
        logit_matching.main(logit_matching.MatchingConfig(out=out, classes=(10,), images=64, epochs=2))
    return out / "logit_matching" / "small"


def test_everything_is_written(written):
    table = pd.read_csv(written / "logit_matching.csv")
    assert set(table["part"]) == {
        *("error", "cosine", "law", "plateau", "threshold", "teachers", "norm", "attention", "value", "label"),
        *("rounding", "parameters", "training"),
    }
    assert table["value"].notna().all()
    names = {path.name for path in (written / "figures").iterdir()}
    assert len(names) == 18 and {"6_training.png", "6_training.pdf", "6_training.svg"} <= names
    shown = (written / "report.html").read_text()
    assert shown.count("<figure") == 6 and "predictions hold" in shown and "Measured on" in shown
    summary = (written / "summary.md").read_text()
    lines = [line for line in summary.splitlines() if line.startswith("| ")][2:]
    assert len(lines) > 30 and all(line.rstrip(" |").endswith(("yes", "**no**")) for line in lines)
    assert not [line for line in lines if line.startswith(("| random", "| parameter")) and "**no**" in line]
    failed = [line.split(" | ")[0].removeprefix("| ") for line in lines if "**no**" in line]
    first = summary.splitlines()[2]
    assert first.startswith(f"**{len(lines) - len(failed)} of {len(lines)} predictions hold; " if failed else "**All ")
    assert all(claim in first for claim in failed)
    assert "12-12-10, T = 20" in summary and "seeds 0 to 2" in summary
    assert "never within twice the floor" in summary or "within twice the floor from T = " in summary  # in a note
    assert max(len(cell.strip()) for line in lines for cell in line.replace("\\|", " ").split("|")) <= 120


def test_a_file_of_the_same_pair_says_the_same(swept, written, tmp_path):
    pair = pair_.load(swept, swept.parent.parent, ("end",))
    chosen = pair.sample(64)
    logits = {
        "student_logits": pair_.student_logits(pair, "end", chosen),
        "teacher_logits": pair.data.train_logits[chosen],
    }
    np.savez(tmp_path / "pair.npz", **logits)
    found = own_pair.measure(read_pair(tmp_path / "pair.npz"))
    table = pd.read_csv(written / "logit_matching.csv")
    wanted = table[table["data"] == "pair, end"].set_index(["part", "curve"])["value"]
    assert found.facts.spread == pytest.approx(wanted["threshold", "s"])
    at_20 = found.table.set_index("temperature").loc[20.0]
    assert at_20["error"] == pytest.approx(wanted["threshold", "error at T = 20"])
    assert at_20["cosine"] == pytest.approx(wanted["threshold", "cosine at T = 20"])
    for level, at in found.facts.below.items():
        assert at == pytest.approx(
            wanted["threshold", f"T at {100 * level:g} %"], rel=0.01
        )  # half as many temperatures


def test_training_measures(written):
    table = pd.read_csv(written / "logit_matching.csv")
    training = table[table["part"] == "training"]
    assert set(training["data"]) == {"sgd", "adam"} and set(training["seed"]) == {0, 1, 2}
    for _, of_optimizer in training.groupby("data"):
        mean = of_optimizer.groupby(["curve", "temperature"])["value"].mean()
        assert mean["floor", math.inf] < mean["distance", 1.0] and mean["floor", math.inf] < mean["ceiling", math.inf]
        assert mean["distance", 1000.0] < 0.2 * mean["distance", 1.0]
        assert mean["distance", math.inf] == 0
    drift = training[training["curve"] == "class mean drift"].groupby("data")["value"]
    assert drift.max()["sgd"] < 1e-4 and drift.min()["adam"] > 1e-2
    mse = training[training["curve"] == "MSE: class mean drift"].groupby("data")["value"]
    assert mse.min()["sgd"] > 1e-2


def test_the_stages_are_the_students_own(swept):
    pair = pair_.load(swept, swept.parent.parent)
    test = pair.data.dataset.test
    stacked = {stage: params["dense_2"]["kernel"] for stage, params in pair.params.items()}
    with np.load(swept / "blocks" / "width12-seed0-rate0.001-0" / "logits.npz") as arrays:
        kept = arrays["test"][2]  # hard, 4, 20
    found = pair._replace(data=pair.data._replace(dataset=_train_on(pair.data.dataset, test)))
    end = pair_.student_logits(found, "end", np.arange(len(test.images)))
    np.testing.assert_allclose(end, kept, rtol=1e-4, atol=1e-4)
    change = [float(np.linalg.norm(stacked[stage] - stacked["start"])) for stage in ("middle", "end")]
    assert change[0] > 0 and change[0] != change[1]
    # A cosine schedule: the second half moves a network less far than the first.
    assert float(np.linalg.norm(stacked["end"] - stacked["middle"])) < change[0]


def _train_on(dataset, split):
    import dataclasses

    return dataclasses.replace(dataset, train=split)


def test_a_schedule_halfway_is_not_half_a_schedule(swept, monkeypatch):
    # Trained to its end by the same road, the student is the one that is kept (up to the rounding of another stack).
    real = pair_.loop.start
    monkeypatch.setattr(pair_.loop, "start", lambda program, seed, epochs: real(program, seed, 4))
    pair = pair_.load(swept, swept.parent.parent)
    for layer in ("dense_0", "dense_2"):
        middle, end = (pair.params[stage][layer]["kernel"] for stage in ("middle", "end"))
        np.testing.assert_allclose(middle, end, atol=2e-3)


def test_the_gradient_of_all_parameters_approaches_its_limit_as_one_over_t(swept):
    pair = pair_.load(swept, swept.parent.parent)
    found = pair_.parameter_curves(pair, "end", np.arange(64), np.array([1e3, 1e4, 1e6]))
    assert found["distance"][1] == pytest.approx(found["distance"][0] / 10, rel=0.05)
    np.testing.assert_allclose(found["cosine"], 1, atol=1e-3)
    np.testing.assert_allclose(found["norm ratio"], 1, atol=1e-2)


def test_the_pair_is_of_the_first_seed_whichever_it_is(tmp_path):
    asked = small_sweep.config(tmp_path, temperatures=(20.0,), hard_labels=False, seeds=1, first_seed=7)
    folder = sweeps.run(sweeps.prepare(asked))
    pair = pair_.load(folder, asked.run.out, ("end",))
    (student,) = trained.find(folder, seed=7)
    jax.tree.map(
        lambda one, other: np.testing.assert_array_equal(one, other[0]), pair.params["end"], student.variables[0]
    )


def test_what_cannot_be_measured_is_refused_before_anything_is_trained(tmp_path, capsys):
    for line, words in (
        ("--images 5000", "--images 5000 is more than the 4,000"),
        ("--curvature --epochs 1", "2 or more"),
        ("--curvature --no-training", "leave out --no-training, which --curvature does not use"),
        ("--no-training --epochs 3 --seeds 9", "leave out --seeds and --epochs, which --no-training does not use"),
    ):
        for more in ((), ("--dry-run",)):
            assert words in refused(capsys, "--out", tmp_path / "runs", *line.split(), *more)
    assert not list(tmp_path.glob("runs/*/*/blocks/*"))


def test_failed_students_are_neither_followed_nor_teachers(tmp_path):
    asked = small_sweep.config(tmp_path, temperatures=(20.0,), learning_rates=(1e30,), seeds=1)
    folder = sweeps.run(sweeps.prepare(asked))
    with pytest.raises(BadInput, match=r"the student of .* to follow, of T = 20, failed at step \d+ \(loss not finite"):
        pair_.load(folder, asked.run.out, ("end",))
    assert pair_._peers(folder) == {}


def copied(swept, tmp_path):
    shutil.copytree(swept, tmp_path / "temperature_sweep" / "copy")
    shutil.copytree(swept.parent.parent / "teachers", tmp_path / "teachers")
    return tmp_path / "temperature_sweep" / "copy"


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        cli.run(logit_matching.main, logit_matching.MatchingConfig, PROG, [str(argument) for argument in arguments])
    assert exit.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def test_a_run_without_parameters_is_refused(swept, tmp_path, capsys):
    folder = copied(swept, tmp_path)
    shutil.rmtree(folder / "blocks" / "width12-seed0-rate0.001-0" / "parameters")
    assert "holds no parameters of its students" in refused(capsys, folder, "--out", tmp_path)
    shutil.rmtree(folder / "blocks")
    assert "holds no parameters of its students" in refused(capsys, folder, "--out", tmp_path)
    assert not (tmp_path / "logit_matching").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert "is no folder" in refused(capsys, tmp_path / "nowhere", "--out", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "is missing" in refused(capsys, tmp_path / "empty", "--out", tmp_path)
    (tmp_path / "empty" / "config.json").write_text('{"identity": {}}')
    assert "config.json is damaged" in refused(capsys, tmp_path / "empty", "--out", tmp_path)


def test_other_data_or_no_teacher_is_refused(swept, tmp_path, capsys):
    folder = copied(swept, tmp_path)
    shutil.rmtree(tmp_path / "teachers")
    assert "the teacher" in refused(capsys, folder, "--out", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["identity"]["data"]["fingerprint"] = "0" * 64
    (folder / "config.json").write_text(json.dumps(config))
    assert "are not those found" in refused(capsys, folder, "--out", tmp_path)


@pytest.mark.parametrize(
    "option", [{"targets": "shuffled"}, {"jitter": 2}, {"augment": "elastic"}, {"transfer_images": 300}]
)
def test_students_of_another_lesson_are_refused(swept, tmp_path, capsys, option):
    folder = copied(swept, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["identity"]["config"] |= option
    (folder / "config.json").write_text(json.dumps(config))
    assert "not taught at one temperature by a teacher's logits" in refused(capsys, folder, "--out", tmp_path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--classes", "1"), "--classes 1 is not allowed"),
        (("--classes", "100000000"), "--classes 100000000 is not allowed"),
        (("--scale", "1e300"), "--scale 1e+300 is not allowed"),
        (("--seeds", "1000000000"), "--seeds 1000000000 is not allowed"),
        (("--scale", "0"), "--scale 0 is not allowed"),
        (("--seeds", "2"), "--seeds 2 is not allowed"),
        (("--epochs", "0"), "--epochs 0 is not allowed"),
        (("--images", "0"), "--images 0 is not allowed"),
    ],
)
def test_bad_options(arguments, message, capsys):
    assert message in refused(capsys, *arguments)


def test_a_false_claim_is_called_false():
    # A first order that falls as T^-1.1 or whose constant is 10 % off does not hold.
    names = {"slope": -1.1, "predicted slope": -1.0, "constant": 1.1, "predicted constant": 1.0, "closed form": 1.0}
    rows = [
        Row("law", "random 10", f"{order} order: {name}", math.nan, math.nan, value)
        for order in ("first", "second")
        for name, value in names.items()
    ]
    rows.append(Row("law", "random 10", "1 − cosine: slope", math.nan, math.nan, -1.5))
    plateau = {"error": 0.4, "predicted error": 0.316, "cosine": 0.5}
    rows += [Row("plateau", "random 10", name, math.nan, math.nan, value) for name, value in plateau.items()]
    assert not [claim for claim in claims.limits(Numbers(rows)) if claim.holds]


INF = math.inf
PAIR, STAGES = "pair, end", [f"pair, {stage}" for stage in ("start", "middle", "end")]


def sound_numbers():
    """Numbers of which every prediction holds: (part, data, curve, T) → values, one a seed."""
    numbers = {("threshold", PAIR, name, None): [value] for name, value in (
        ("error at T = 20", 0.05), ("cosine at T = 20", 0.99), ("T at 10 %", 10), ("T at 1 %", 100)
    )}  # fmt: skip
    for name, spread in (("one", 10.0), ("other", 5.0)):
        numbers |= {("teachers", name, "s", None): [spread], ("teachers", name, "T at 10 %", None): [2 * spread]}
    for t in (1, 20, 1000):
        numbers |= {("norm", PAIR, "C", t): [1 / t**2], ("norm", PAIR, "T² C", t): [1.0]}
    for t, share in ((1, 0.01), (20, 0.1), (1e5, 0.25)):
        numbers |= {("attention", PAIR, f"share rank {rank}", t): [share] for rank in range(1, 5)}
        numbers["attention", PAIR, "effective number", t] = [share]
    numbers |= {("attention", PAIR, "weight rank 4", t): [0.5] for t in (5, 20, 100)}
    slopes = ("norm", "C", -2), ("norm", "T² C", 0), ("value", "equal weights", -1), ("value", "weighted", -2)
    for stage in STAGES:
        numbers |= {(part, stage, f"{curve}: slope", None): [slope] for part, curve, slope in slopes}
        numbers |= {("parameters", stage, "distance", t): [1 / t] for t in (1, 20, 100, 1000)}
        numbers |= {("parameters", stage, name, 20): [1.0] for name in ("cosine", "norm ratio")}
        numbers["threshold", stage, "s", None] = [1.0]
    numbers["label", "random 10", "gradient: slope", None] = [0.5]
    for data in ("random 10", PAIR):
        for name in ("value", "gradient"):
            numbers |= {("rounding", data, f"{name}, plain form", t): [t * 1e-4] for t in (1, 100, 1e5)}
            numbers |= {("rounding", data, f"{name}, exact form", t): [1e-6] for t in (1, 100, 1e5)}
    for optimizer, moved in (("sgd", 1e-6), ("adam", 0.5)):
        ends = {"floor": 0.001, "ceiling": 1.0, "mean logit drift": 0.1, "distance to the teacher": 0.3}
        ends |= {"MSE: class mean drift": 0.5, "MSE: mean logit drift": 0.5, "MSE: distance to the teacher": 0.3}
        for t in (1, 20, 100, 1000, INF):
            numbers["training", optimizer, "distance", t] = [0.9 / t, 1 / t, 1.1 / t]
            numbers["training", optimizer, "class mean drift", t] = [moved] * 3
        numbers |= {("training", optimizer, name, INF): [value] * 3 for name, value in ends.items()}
    return numbers


@pytest.mark.parametrize(
    ("key", "value", "false"),
    [
        (None, None, None),
        (("threshold", PAIR, "error at T = 20", None), 0.11, "trained pair, end: T = 20 is logit matching"),
        (("teachers", "one", "T at 10 %", None), 22.5, "2 teachers (s from 5.0 to 10.0): one curve against T/s"),
        (("norm", PAIR, "C: slope", None), -1.94, "large T means small gradients, of plain C"),
        (("norm", STAGES[0], "T² C: slope", None), 0.06, "T² undoes it"),
        (("attention", PAIR, "share rank 4", 1), 0.3, "low T pays much less attention"),
        (("attention", PAIR, "share rank 3", 20), 0.5, "low T pays much less attention"),
        (("attention", PAIR, "effective number", 1), 0.11, "at low T few examples carry the gradient"),
        (("attention", PAIR, "effective number", 1e5), 0.09, "at low T few examples carry the gradient"),
        (("value", STAGES[1], "weighted: slope", None), -1.89, "it is the weight"),
        (("value", PAIR, "equal weights: slope", None), -1.11, "it is the weight"),
        (("label", "random 10", "gradient: slope", None), 0.61, "T → 0: T·∂C/∂z becomes label matching"),
        (("rounding", "random 10", "value, exact form", 1), 5e-6, "float32 (random 10)"),
        (("rounding", PAIR, "gradient, exact form", 100), 5e-6, "float32 (pair, end)"),
        (("parameters", STAGES[0], "distance", 1000), 2e-3, "parameter space"),
        (("training", "sgd", "ceiling", INF), 0.0019, "SGD: students end up nearer to the ∞ student"),
        (("training", "adam", "distance", 1), 0.01, "Adam: students end up nearer to the ∞ student"),
        (("training", "adam", "distance", 100), 0.005, "Adam: and as fast as their gradients do"),
        (("training", "sgd", "class mean drift", 20), 2e-4, "SGD: the output layer's class mean stays"),
        (("training", "adam", "class mean drift", INF), 0.009, "Adam: the output layer's class mean moves"),
        (("training", "sgd", "MSE: class mean drift", INF), 0.009, "SGD: KL leaves the mean logit free"),
    ],
)
def test_each_claim_fails_where_its_number_does(key, value, false):
    numbers = sound_numbers()
    if key:
        numbers[key] = [value] * len(numbers[key])
    rows = [
        Row(part, data, curve, math.nan if t is None else t, seed, one)
        for (part, data, curve, t), values in numbers.items()
        for seed, one in enumerate(values)
    ]
    found = list(claims.claims(Numbers(rows), 10))
    failed = [claim.claim for claim in found if not claim.holds]
    assert len(found) == 18 and len(failed) == bool(false) and all(one.startswith(false) for one in failed), failed
