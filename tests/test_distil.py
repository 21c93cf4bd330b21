"""`kdjax.distil`: from arrays to students and their comparison; and what it refuses before it trains anything."""

import dataclasses
import inspect
import math
import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.figure import Figure

import kdjax
from kdjax import blocks, evaluation, inputs, loop, objectives
from kdjax.errors import BadInput
from tests import small

ROOT = Path(__file__).parents[1]
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (70, 6, 6, 1)).astype(np.uint8)
LABELS = RANDOM.integers(0, 10, 70)
LOGITS = RANDOM.normal(0, 3, (70, 10)).astype(np.float32)
TEST = (RANDOM.integers(0, 256, (40, 6, 6, 1)).astype(np.uint8), RANDOM.integers(0, 10, 40))
TEMPERATURES = (1.0, 4.0, math.inf)
OPTIONS = {"temperatures": TEMPERATURES, "seeds": 3, "hidden": (16, 12), "epochs": 2, "batch_size": 16}


def distil(given=IMAGES, labels=LABELS, logits=LOGITS, **options):
    unchecked = inspect.unwrap(kdjax.distil)  # a user has no checks of annotated types
    return unchecked(given, labels, logits, **{"test": TEST, **OPTIONS, **options})


@pytest.fixture(scope="module")
def result():
    return distil(objectives=("kd", "mse"))


def test_students_are_those_that_blocks_and_loop_train(result):
    program = small.program(4)
    assert program.model.input_shape == (6, 6, 1)
    transfer_set = blocks.TransferSet(*map(jnp.asarray, (IMAGES, LABELS.astype(np.int32), LOGITS)))
    setting = small.settings((1.0, *TEMPERATURES), soft_weights=(0.0, 1.0, 1.0, 1.0))
    fit = loop.fit(program, transfer_set, setting, 2, loop.start(program, 2))
    logits = np.asarray(program.logits(fit.state, TEST[0]))
    students = [one for one in result.students if one.row["seed"] == 2 and one.row["objective"] != "mse"]
    for index, (student, temperature) in enumerate(zip(students, (None, *TEMPERATURES), strict=True)):
        own = jax.tree.map(lambda leaf, index=index: np.asarray(leaf[index : index + 1]), fit.state.params)
        jax.tree.map(np.testing.assert_array_equal, student.variables[0], own)
        assert student.row["train_loss"] == pytest.approx(float(fit.history.loss[-1, index]))
        where = {"objective": student.row["objective"], "temperature": temperature, "seed": 2}
        np.testing.assert_allclose(result.logits(TEST[0][..., 0], **where), logits[index], atol=1e-5)


def test_the_table_has_a_row_a_student(result):
    table = result.table
    assert table.groupby("objective").size().to_dict() == {"hard": 3, "kd": 9, "mse": 3}  # mse uses no temperature
    assert (table["temperature"].isna() == (table["objective"] != "kd")).all() and set(table["seed"]) == {0, 1, 2}
    for student, (_, row) in zip(result.students, table.iterrows(), strict=True):
        logits = student.logits(TEST[0])
        assert (logits.argmax(axis=1) != TEST[1]).sum() == row["test_errors"]
    assert np.isfinite(table[["train_loss", "transfer_teacher_kl"]]).all(axis=None) and "test_teacher_kl" not in table


def test_students_of_averaged_weights_are_those_of_the_table():
    found = distil(average=0.99, temperatures=4, seeds=1, epochs=3)
    plain = distil(temperatures=4, seeds=1, epochs=3)
    for student, other in zip(found.students, plain.students, strict=True):
        assert (student.logits(TEST[0]).argmax(axis=1) != TEST[1]).sum() == student.row["test_errors"]
        assert np.abs(student.logits(TEST[0]) - other.logits(TEST[0])).max() > 1e-3


def test_one_learning_rate_is_one_number():
    with pytest.raises(BadInput, match=r"learning_rate \[0.001, 0.01\] is not allowed: give one number"):
        distil(learning_rate=[1e-3, 1e-2])


def test_what_cannot_be_compared_is_refused(result):
    alone = distil(objectives=(), temperatures=4, seeds=1)
    for found, against in ((alone, "hard"), (distil(temperatures=4, seeds=1), "kd")):
        with pytest.raises(BadInput, match=f"another objective minus {against} is no comparison: there are no other"):
            found.compare(against=against)


def test_comparisons_are_paired_t_tests(result):
    none = result.table.fillna({"temperature": 0.0})
    errors = none.set_index(["objective", "temperature", "seed"]).sort_index()["test_nll"]
    hard = result.table.query("objective == 'hard'").sort_values("seed")["test_nll"].to_numpy()
    compared = result.compare(measure="test_nll", confidence=0.9)
    assert len(compared) == 4 and (compared["n"] == 3).all()
    for row in compared.fillna({"temperature": 0.0}).itertuples():
        expected = scipy.stats.ttest_rel(errors[row.objective, row.temperature].to_numpy(), hard)
        assert row.p == pytest.approx(expected.pvalue)
        assert (row.low, row.high) == pytest.approx(tuple(expected.confidence_interval(0.9)))
        assert row.difference == pytest.approx(row.mean - row.against_mean)
    ordered = compared.sort_values("p")
    by_hand = np.minimum(np.maximum.accumulate(ordered["p"] * np.arange(4, 0, -1)), 1)
    np.testing.assert_allclose(ordered["p_holm"], by_hand)
    between = result.compare("kd", "mse", "test_nll")
    assert set(between["against"]) == {"mse"} and list(between["temperature"]) == list(TEMPERATURES)
    expected = scipy.stats.ttest_rel(errors["kd", math.inf].to_numpy(), errors["mse", 0.0].to_numpy())
    assert between["p"].iloc[-1] == pytest.approx(expected.pvalue)
    other = result.compare("mse", "kd", "test_nll")  # at each temperature of the other
    np.testing.assert_allclose(other["difference"], -between["difference"])
    assert list(other["temperature"]) == list(TEMPERATURES)


def test_it_can_be_read_and_drawn(result):
    lines = repr(result).splitlines()
    assert lines[0].startswith("40 test examples, 3 seeds: fewer test errors than hard labels at ")
    assert "of 4 settings" in lines[0] and len(lines) == 7 and "∞" in lines[-2]
    assert re.search(r"mse +– .*\[", lines[-1])  # with its difference from hard labels
    assert "<table" in result._repr_html_() and lines[0] in result._repr_html_()
    own = Figure().subplots()
    assert result.plot("test_nll", own) is own
    assert own.get_xlabel() == "temperature T" and own.get_ylabel() == "test nll"
    assert [tick.get_text() for tick in own.get_xticklabels()] == ["1", "4", "∞"]
    assert [text.get_text() for text in own.get_legend().get_texts()] == ["hard labels", "mse", "kd"]  # levels first
    curve = own.containers[0].lines[0].get_ydata(orig=False)
    means = result.table.query("objective == 'kd'").groupby("temperature")["test_nll"].mean()
    np.testing.assert_allclose(curve, means)


def test_the_verdict_counts_settings_with_fewer_and_with_more_errors(result):
    table = result.table.copy()
    planted = {"hard": [30, 31, 29], 1.0: [19, 22, 19], 4.0: [41, 40, 39], math.inf: [29, 32, 30], "mse": [42, 40, 41]}
    for name, errors in planted.items():
        of_setting = table["temperature"].eq(name) if isinstance(name, float) else table["objective"].eq(name)
        table.loc[of_setting, "test_errors"] = errors
    assert repr(dataclasses.replace(result, table=table)).splitlines()[0] == (
        "40 test examples, 3 seeds: fewer test errors than hard labels at 1 of 4 settings, more at 2, no difference "
        "seen at 1 (paired t tests, corrected for all by Holm; 95 % intervals over seeds)."
    )


def test_differences_on_one_side_of_zero_need_no_correction(result):
    table = result.table.copy()
    for name, errors in {"hard": [30, 31, 29], 1.0: [19, 24, 20], 4.0: [22, 20, 24], math.inf: [18, 22, 19]}.items():
        of_setting = table["temperature"].eq(name) if isinstance(name, float) else table["objective"].eq(name)
        table.loc[of_setting, "test_errors"] = errors
    table.loc[table["objective"].eq("mse"), "test_errors"] = [20, 21, 16]
    planted = dataclasses.replace(result, table=table)
    assert planted.compare()["high"].lt(0).all()
    assert "at 4 of 4 settings" in repr(planted).splitlines()[0]
    assert "(paired t tests, all intervals on one side of zero; 95 %" in repr(planted).splitlines()[0]


def test_what_cannot_be_compared_or_found_is_refused(result):
    for refused, words in (
        (lambda: result.compare("dkd"), "no student has the objective dkd: there are hard, kd, mse"),
        (lambda: result.compare("kd", "kd"), "kd minus kd is no comparison"),
        (lambda: result.compare("hard", "kd"), "hard minus kd is no comparison: there are mse to compare"),
        (lambda: result.compare(measure="errors"), "no measure errors: there are learning_rate, epochs, test_errors"),
        (lambda: result.plot("objective"), "no measure objective"),
        (lambda: result.logits(IMAGES, colour=3), "no column colour: there are seed, objective"),
        (lambda: result.logits(IMAGES, temperature=5), "no student has temperature 5"),
        (lambda: result.logits(IMAGES, temperature=4), "3 students have temperature 4: give seed too"),
        (lambda: result.logits(IMAGES[:, :5], objective="hard", seed=0), "shape (5, 6, 1) do not fit a network for"),
        (lambda: result.students[0].logits(IMAGES / 255), "float32 are not allowed: it was trained on uint8"),
    ):
        with pytest.raises(BadInput, match=re.escape(words)):
            refused()


def test_bytes_are_divided_by_255_and_floats_are_not(result):
    kd = {"objective": "kd", "temperature": 4, "seed": 0}
    scaled = distil(IMAGES / 255, test=(TEST[0] / 255, TEST[1]), seeds=1)
    np.testing.assert_allclose(scaled.logits(TEST[0] / 255, **kd), result.logits(TEST[0], **kd), atol=1e-4)
    # Features of size 1 are learned in a few epochs; over 255 they all but vanish.
    labels = np.arange(400) % 4
    features = np.eye(4)[labels] @ RANDOM.normal(0, 2, (4, 5)) + RANDOM.normal(0, 0.3, (400, 5))
    taught = kdjax.distil(features, labels, 5 * np.eye(4)[labels], **{**OPTIONS, "epochs": 6}, learning_rate=0.01)
    assert taught.test_examples == 80 and taught.students[0].network.input_shape == (5,)
    assert taught.table["test_errors"].max() <= 8


def test_a_fifth_of_each_class_is_held_out_and_that_is_said(capsys):
    labels = np.repeat(np.arange(10), 7)
    logits = LOGITS + 5 * (np.arange(10) < 2).astype(np.float32)  # such a teacher may be meant
    held = distil(labels=labels, logits=logits, test=None, seeds=1, temperatures=4, hard_labels=False)
    said = capsys.readouterr().err
    assert "no test set is given: 10 of 70 examples are held out to test on" in said
    right = np.mean(logits.argmax(axis=1) == labels)
    assert f"the teacher is right on {100 * right:.1f} % of 70 examples\n" in said
    assert right < 0.25 and "no better than chance" in said
    fifth = IMAGES[4::7]  # of seven in a row, the fifth
    wrong = held.logits(fifth).argmax(axis=1) != np.arange(10)
    assert list(held.table["test_errors"]) == [wrong.sum()]
    assert "test_teacher_kl" in held.table and repr(held).startswith("10 test examples, 1 seed;")


def test_arrays_may_be_files_or_tensors(result, tmp_path):
    kd = {"objective": "kd", "temperature": 4, "seed": 0}
    np.save(tmp_path / "logits.npy", LOGITS)
    np.savez(tmp_path / "mine.npz", images=IMAGES, labels=LABELS, of_test=TEST[1])
    files = [f"{tmp_path}/mine.npz:images", f"{tmp_path}/mine.npz:labels", tmp_path / "logits.npy"]
    test = (jnp.asarray(TEST[0]), f"{tmp_path}/mine.npz:of_test")
    found = distil(*files, test=test, seeds=1).logits(TEST[0], **kd)
    np.testing.assert_array_equal(found, result.logits(TEST[0], **kd))
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(inputs.read("labels", torch.tensor(LABELS)), LABELS)
    with pytest.raises(BadInput, match="Tensor is no array"):
        inputs.read("inputs", torch.ones(2, requires_grad=True))


def test_students_that_failed_are_left_out_of_comparisons(result):
    table = result.table
    lost = (table["objective"] == "hard") & (table["seed"] > 0) | (table["temperature"] == TEMPERATURES[0])
    failed = dataclasses.replace(
        result, table=table.assign(failed_at=lost * 5 - 1, test_errors=table["test_errors"].where(~lost, 40))
    )
    compared = failed.compare()
    assert list(compared["n"]) == [1] * 3 and TEMPERATURES[0] not in set(compared["temperature"])
    assert compared["against_mean"].eq(table.query("objective == 'hard' and seed == 0")["test_errors"].iloc[0]).all()
    none = dataclasses.replace(result, table=table.assign(failed_at=table["objective"].eq("hard") * 5 - 1))
    assert not len(none.compare()) and "3 of 15 students failed" in repr(none) and "fewer" not in repr(none)


def test_the_verdict_is_of_what_distils_and_not_of_baselines_or_controls(result):
    table = result.table.assign(test_errors=30 + result.table["seed"])
    others = {"label_smoothing": -20, "shuffled": 40}
    rows = [
        table[table["objective"] == "kd"].assign(objective=name, test_errors=30 + by) for name, by in others.items()
    ]
    both = dataclasses.replace(result, table=pd.concat([table, *rows], ignore_index=True))
    assert "fewer test errors than hard labels at 0 of 4 settings, more at 0" in repr(both)
    hard = table["objective"] == "hard"
    alone = dataclasses.replace(result, table=pd.concat([table[hard], *rows], ignore_index=True))
    assert "fewer" not in repr(alone) and "95 % intervals over seeds" in repr(alone)


def test_students_that_failed_are_counted(capsys):
    failed = distil(logits=5 * np.eye(10)[LABELS], seeds=1, learning_rate=1e30)
    with pytest.raises(
        BadInput, match=r"objective hard, .*failed at step \d+ \(loss not finite\): lower learning_rate"
    ):
        failed.logits(IMAGES, objective="hard", seed=0)
    assert ", 4 of 4 students failed (loss not finite: lower learning_rate)" in repr(failed)
    assert "the teacher is right on 100.0 % of 70 examples\n" in capsys.readouterr().err


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


PROBABILITIES = np.asarray(jax.nn.softmax(LOGITS))
FEATURES = {"given": IMAGES.reshape(70, -1), "test": (TEST[0].reshape(40, -1), TEST[1])}
REFUSED = [
    ({"labels": LABELS[:-1]}, "unequal numbers of examples: 70 inputs, 69 labels, 70 teacher_logits"),
    ({"labels": LABELS + 1}, "labels are counted from 1 (1 to 10, and 10 in row"),
    ({"labels": changed(LABELS, 3, 12)}, "labels from 0 to 12 do not fit 10 logits (row 3): give class numbers 0 to 9"),
    ({"labels": changed(LABELS, 3, -1)}, "labels from -1 to 9 do not fit"),
    ({"labels": LABELS * 1.0}, "labels of float64 are not allowed: give whole numbers, 0 to 9"),
    ({"labels": np.eye(10)[LABELS]}, "labels of shape (70, 10) are not allowed: give labels.argmax(axis=1)"),
    ({"labels": LABELS[:, None]}, "labels of shape (70, 1) are not allowed: give labels[:, 0]"),
    ({"labels": ["one", "two"]}, "labels: list is no array of numbers"),
    ({"labels": [[1], [1, 2]]}, "labels: list is no array"),
    ({"labels": "none.npy"}, "labels: none.npy does not exist"),
    ({"labels": __file__}, "test_distil.py is of no kind that is read here: give .npz"),
    ({"logits": changed(LOGITS, (5, 2), np.nan)}, "teacher_logits are not finite in row 5: leave these"),
    (
        {"logits": PROBABILITIES},
        "each row of teacher_logits sums to 1 and is never negative (rows 0, 1, 2 and 67 more): these are",
    ),
    ({"logits": LOGITS[:, 0]}, "teacher_logits of shape (70,) are not allowed: give [n, classes]"),
    ({"logits": None}, "teacher_logits: NoneType is no array of numbers"),
    ({"given": IMAGES.astype(int)}, "inputs of int64 are not allowed: give uint8"),
    ({"given": IMAGES.astype(np.float32)}, "inputs are floats from 0 to 255, all whole: give uint8, or divide by 255"),
    (
        {"given": changed(IMAGES / 255, (9, 1, 1, 0), np.inf)},
        "inputs are not finite in row 9: leave these",
    ),
    ({"given": np.zeros((70, 3, 6, 6), np.uint8)}, "inputs of shape (70, 3, 6, 6) have their channels first"),
    ({"given": IMAGES[:, 0, 0, 0]}, "inputs of shape (70,) are not allowed: give images"),
    ({"given": IMAGES[:0], "labels": LABELS[:0], "logits": LOGITS[:0]}, "inputs are empty"),
    ({"test": TEST[:1]}, "test has 1 parts: give (inputs, labels) or (inputs, labels, teacher_logits)"),
    ({"test": (TEST[0] / 255, TEST[1])}, "test inputs are float32 [6, 6, 1] and inputs are uint8 [6, 6, 1]"),
    ({"test": (TEST[0], TEST[1] + 1)}, "test labels are counted from 1"),
    ({"test": (*TEST, LOGITS[:40, :9])}, "test teacher_logits of shape (40, 9) are not allowed: give [n, 10]"),
    (
        {
            "test": tuple(
                np.repeat(array, 3, axis=0) for array in (*TEST, 9 * np.eye(10, dtype=np.float32)[(TEST[1] + 1) % 10])
            )
        },
        "the teacher is right on 0.0 % of 120 test rows, and on",
    ),
    ({"given": IMAGES // 128}, "inputs are bytes of 0 and 1 alone, and bytes are divided by 255: give floats"),
    ({"test": None, "labels": LABELS[:4], "given": IMAGES[:4], "logits": LOGITS[:4]}, "no class has 5 examples"),
    ({"temperatures": (1.0, 0.0)}, "temperatures 0 is not allowed: a temperature is a number above 0"),
    ({"temperatures": (4, 4)}, "temperatures repeats 4"),
    (
        {"soft_weights": 0},
        "soft_weights 0 is not allowed: it lies in (0, 1] (a float32 holds 1.2e-38 or more); 0 is hard_labels",
    ),
    ({"learning_rate": -1.0}, "learning_rate -1 is not allowed"),
    ({"objectives": "mes"}, "objectives mes is unknown"),
    ({"objectives": ("dkd(bta=2)",)}, "dkd has no parameter bta: it has alpha, beta"),
    ({"objectives": ("nkd",)}, "T = inf with the objective nkd is not allowed"),
    ({"objectives": (), "hard_labels": False}, "nothing is left to train"),
    ({"seeds": 0}, "seeds 0 is not allowed"),
    ({"hidden": (0,)}, "hidden 0 is not allowed: a layer has 1 unit or more"),
    ({"epochs": 0}, "epochs 0 is not allowed"),
    ({"epochs": 2.5}, "epochs 2.5 is not allowed: give a whole number"),
    ({"seeds": True}, "seeds True is not allowed: give a whole number"),
    ({"batch_size": "64"}, "batch_size '64' is not allowed: give a whole number"),
    ({"hidden": 300}, "hidden 300 is not allowed: give the units of each hidden layer"),
    ({"hidden": (30.0,)}, "hidden (30.0,) is not allowed: give the units of each hidden layer"),
    ({"hard_labels": "no"}, "hard_labels 'no' is not allowed: give True or False"),
    ({"temperatures": "2"}, "temperatures '2' is not allowed: give numbers"),
    ({"temperatures": True}, "temperatures True is not allowed: give numbers"),
    ({"temperatures": (1.0, "4")}, "temperatures (1.0, '4') is not allowed: give numbers"),
    ({"temperatures": [[1.0], [1.0, 2.0]]}, "temperatures [[1.0], [1.0, 2.0]] is not allowed: give numbers"),
    ({"batch_size": 71}, "batch_size 71 is more than the 70 training examples"),
    (
        {"network": "mpl"},
        "network mpl is unknown: there are mlp, small, big, fast, small_after_norm, big_after_norm; did you mean mlp?",
    ),
    ({"network": "small", "hidden": (16,)}, "images of 6×6 pixels are too small"),
    ({"network": "small", "hidden": (16,), **FEATURES}, "the small network is for images, and these are [36] features"),
    ({"test": 5}, "test is of type int: give (inputs, labels)"),
    ({"network": None}, "network None is not allowed: give a name"),
    ({"precision": np.float32}, "precision <class 'numpy.float32'> is not allowed: give a name"),
    ({"input_dropout": "0.1"}, "input_dropout '0.1' is not allowed: give a number"),
    ({"average": None}, "average None is not allowed: give a number"),
    ({"dropout": 0.5}, "distil takes no dropout: further arguments are network, optimizer"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_what_cannot_be_used_is_refused_before_anything_is_trained(options, words, monkeypatch):
    monkeypatch.setattr("kdjax.distillation._trained", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(BadInput, match=re.escape(words)) as error:
        distil(**options)
    assert "\n" not in str(error.value) and "--" not in str(error.value)


def test_a_program_refuses_what_it_was_not_made_for():
    program, data = small.program(2), small.transfer_set()
    setting = small.settings((1.0, 4.0))

    def fit(transfer_set=data, setting=setting):
        return loop.fit(program, transfer_set, setting, 0, loop.start(program, 0))

    images, labels, logits = data[:3]
    for refused, words in (
        (lambda: fit(setting=small.settings((1.0, 4.0, 8.0))), "temperature of shape (3,) does not fit a program of 2"),
        (lambda: fit(data._replace(images=images[:, :5])), "images of shape (70, 5, 6, 1) do not fit the program"),
        (
            lambda: fit(data._replace(labels=labels[1:])),
            "labels of shape (69,) do not fit the program: it is for (70,)",
        ),
        (lambda: fit(data._replace(labels=labels + 1)), "are not allowed: give 0 to 9"),
        (lambda: fit(data._replace(teacher_logits=logits.at[0, 0].set(jnp.nan))), "teacher_logits are not all finite"),
        (lambda: program.logits(program.init(0), images[:, :, :5]), "images of shape (6, 5, 1) do not fit a network"),
        (lambda: loop.start(program, 0, 3), "--epochs 3 is not allowed: it is a number of epochs of the program's"),
        (lambda: blocks.program_for(small.config(batch_size=71), small.SHAPE, 10, 70, 1), "there are 70 images"),
    ):
        with pytest.raises(BadInput, match=re.escape(words)):
            refused()


def test_an_objective_of_ones_own_is_swept_over_its_parameter(monkeypatch):
    monkeypatch.setattr(objectives.registry, "OBJECTIVES", dict(objectives.OBJECTIVES))
    monkeypatch.setattr(objectives, "OBJECTIVES", objectives.registry.OBJECTIVES)

    def power(z, v, labels, temperature, exponent):
        return (jnp.abs(z - v) ** exponent).mean(axis=-1)

    exponent = objectives.Parameter("exponent", 2.0, least=1.0)
    objectives.register(objectives.Objective("power", "power", power, (exponent,), limit="it has no temperature"))
    swept = distil(objectives=("power", "power(exponent=1.5)"), temperatures=4, seeds=2, soft_weights=(0.5, 1))
    found = swept.compare("power(exponent=1.5)", "power")
    assert list(found["soft_weight"]) == [0.5, 1] and (found["difference"] != 0).any()
    assert [text.get_text() for text in swept.plot().get_legend().get_texts()][-1] == (
        "power(exponent=1.5), soft weight 1"
    )


def test_text_does_for_a_path_and_an_unknown_word_does_not():
    # In a process of its own: here annotations would refuse them first.
    code = """
from kdjax.config import DataConfig, RunConfig, SweepConfig, TrainConfig
from kdjax.errors import BadInput
data, run, sweep = DataConfig(raw_dir="raw"), RunConfig(out="out"), SweepConfig(teacher_from=["a"])
print(*map(repr, (data.raw_dir, run.out, sweep.teacher_from)))
for field in ("optimizer", "schedule", "augment", "precision", "temperature_schedule"):
    try:
        TrainConfig((8,), 1, 8, **{field: "adamw"})
    except BadInput as error:
        print(error)
try:
    SweepConfig(targets="shift-averaged")
except BadInput as error:
    print(error)
import jax.numpy as jnp
from kdjax import transforms
try:
    transforms.to_float(jnp.ones((2, 3), int))
except BadInput as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    paths, *refusals = done.stdout.splitlines()
    assert paths == "PosixPath('raw') PosixPath('out') (PosixPath('a'),)"
    assert refusals[0] == "--optimizer adamw is unknown: there are adam, sgd, nesterov; did you mean adam?"
    assert refusals.pop() == (
        "images of int32 are not allowed: give bytes (uint8, divided by 255) or floats (used as they are)"
    )
    options = ["--optimizer", "--schedule", "--augment", "--precision", "--temperature-schedule", "--targets"]
    assert [line.split()[0] for line in refusals] == options
    assert refusals[-1].endswith("did you mean shift_averaged?")


def test_the_package_says_what_it_has():
    text = pydoc.render_doc(kdjax, renderer=pydoc.plaintext)
    assert all(re.search(rf"^\s+{name} .*\w", text, re.MULTILINE) for name in kdjax.__all__)
    assert len(kdjax.__all__) == 10
    assert all(getattr(kdjax, name) is not None for name in kdjax.__all__) and set(kdjax.__all__) <= set(dir(kdjax))
    with pytest.raises(AttributeError, match="has no attribute 'distill'"):
        _ = kdjax.distill
    code = (
        "import kdjax, sys; heavy = {'jax', 'numpy', 'pandas'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "kdjax.__version__"}
    assert f"version: {kdjax.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert (ROOT / "kdjax" / "py.typed").exists()


def test_evaluation_takes_no_images_of_another_shape():
    model = small.program(1).model
    with pytest.raises(BadInput, match=re.escape("give an array [images, 6, 6, 1]")):
        evaluation.evaluator(model)({}, {}, np.zeros((3, 36), np.uint8))
