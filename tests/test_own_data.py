"""A user's file as a dataset: every format and column, its parts, its teacher; and sweeps that learn from it."""

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats

from analysis.sweep import table
from kdjax import datasets, forecast, grids, sweeps, trained
from kdjax.config import DataConfig, RunConfig, SweepConfig, TeacherConfig
from kdjax.datasets import own_split
from kdjax.errors import BadInput
from tests import own_files
from tests.own_files import CLASSES, FORMATS, ROWS, columns, largest, write

ROOT = Path(__file__).parents[1]
GROUPS = np.array([f"patient {row // 7}" for row in range(ROWS)])
SPLIT = np.array(["train", "train", "train", "holdout", "test"])[np.arange(ROWS) // 7 % 5]
BYTES = np.random.default_rng(0).integers(0, 256, (ROWS, 4, 2)).astype(np.uint8)


def load(path, **options):
    return datasets.load(DataConfig(dataset=str(path), **options))


def parts(dataset):
    return {name: getattr(dataset, name) for name in ("train", "holdout", "test")}


# Files


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_dataset(tmp_path, kind):
    if kind in ("safetensors", "parquet"):
        pytest.importorskip({"safetensors": "safetensors", "parquet": "pyarrow"}[kind])
    given = columns(split=SPLIT, groups=GROUPS)
    found = load(write(tmp_path, given, kind))
    for name, part in parts(found).items():
        rows = name == SPLIT
        np.testing.assert_array_equal(part.labels, given["labels"][rows])
        np.testing.assert_array_equal(getattr(found.teacher, name), given["teacher_logprobs"][rows])
        train = given["features"][SPLIT == "train"].astype(np.float64)
        expected = (given["features"][rows] - train.mean(axis=0)) / train.std(axis=0)
        np.testing.assert_allclose(part.images, expected, rtol=1e-5, atol=1e-5)
        assert part.images.dtype == np.float32
    assert (found.name, found.num_classes, found.input_shape) == ("mine", CLASSES, (own_files.WIDTH,))
    assert found.description == f"mine ({len(found.train.labels)} training rows, 56 held out, 56 test rows)"
    assert found.teacher.kind == "logprobs" and found.teacher.not_given(4.0) == 0
    assert found.identity() == load(write(tmp_path / "again", given)).identity()
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 3, 2, 3)).astype(np.uint8)
    seen = load(write(tmp_path / "images", columns(features=None, images=images, split=SPLIT), kind))
    np.testing.assert_array_equal(seen.test.images, images[SPLIT == "test"])
    assert seen.train.images.dtype == np.uint8 and "training images" in seen.description


def test_columns_may_have_other_names_and_types(tmp_path, caplog):
    given = columns()
    theirs = {"x": given["features"].astype(np.float64), "y": given["labels"].astype(np.uint8)}
    theirs |= {"teacher": given["teacher_logprobs"].astype(np.float16), "notes": np.array(["?"] * ROWS)}
    path = write(tmp_path, theirs)
    found = load(path, columns=("features=x", "labels=y", "teacher_logprobs=teacher"))
    plain = load(write(tmp_path / "plain", given))
    assert "columns that are not used: notes" in caplog.text
    np.testing.assert_array_equal(found.train.labels, plain.train.labels)
    np.testing.assert_allclose(found.train.images, plain.train.images, rtol=1e-6)
    assert found.fingerprint == plain.fingerprint and found.teacher.fingerprint != plain.teacher.fingerprint


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.linspace(0, 1, ROWS * 8, dtype=np.float64).reshape(ROWS, 4, 2), np.float32),
        (BYTES.astype(np.float32), np.uint8),
        (BYTES[..., None].astype(np.int64), np.uint8),
        (np.asfortranarray(BYTES), np.uint8),
    ],
)
def test_images_are_bytes_or_from_0_to_1(tmp_path, given, expected):
    found = load(write(tmp_path, columns(features=None, images=given, split=SPLIT)))
    wanted = given[SPLIT == "train"].reshape(-1, 4, 2, 1)
    assert found.train.images.dtype == expected and found.standardisation is None
    np.testing.assert_allclose(found.train.images, wanted, rtol=1e-6)


def test_bytes_of_0_and_1_alone_are_floats(tmp_path):
    given = np.random.default_rng(1).integers(0, 2, (ROWS, 8, 8)).astype(np.uint8)
    found = load(write(tmp_path, columns(features=None, images=given, split=SPLIT)))
    assert found.train.images.dtype == np.float32 and set(np.unique(found.test.images)) == {0, 1}


def test_a_constant_column_is_divided_by_1(tmp_path):
    given = columns(split=SPLIT)
    given["features"][:, 2] = np.where(SPLIT == "test", 5.0, 0.1)
    given["features"][:, 3] *= 1e6
    found = load(write(tmp_path, given))
    assert found.standardisation.deviation[2] == 1
    assert (found.train.images[:, 2] == 0).all() and found.test.images[:, 2] == pytest.approx(4.9)
    assert found.train.images[:, 3].std() == pytest.approx(1, rel=1e-4)


# Parts


def test_rows_are_divided_always_alike_and_by_class(tmp_path):
    path = write(tmp_path, columns())
    first, again = load(path), load(path)
    assert first.identity() == again.identity() and "divided here 70:10:20" in first.description
    counts = {name: np.bincount(part.labels, minlength=CLASSES) for name, part in parts(first).items()}
    total = np.bincount(columns()["labels"])
    for name, share in zip(counts, own_split.SHARES, strict=True):
        assert (np.abs(counts[name] - share * total) <= 1.5).all(), name
    seen = np.concatenate([part.images for part in parts(first).values()])
    assert len(np.unique(seen, axis=0)) == ROWS
    few = load(path, train_images=50)
    assert len(few.train.labels) == len(few.teacher.train) == 50 and len(np.unique(few.train.labels)) == CLASSES
    np.testing.assert_allclose(few.train.images.mean(axis=0), 0, atol=1e-6)


def test_every_class_is_trained_on_and_groups_stay_whole():
    random = np.random.default_rng(1)
    labels = np.concatenate([np.arange(40), random.integers(0, 3, 960)])
    divided = own_split.stratified(labels, None)
    assert set(labels[divided.train]) == set(range(40))
    assert sorted(np.concatenate(divided)) == list(range(1000))
    groups = random.integers(0, 60, 1000) ** 2  # of all sizes
    numbered = own_split.read_groups(groups)
    kept = own_split.stratified(labels, numbered)
    sets = [set(groups[rows]) for rows in kept]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert [len(rows) / 1000 for rows in kept] == pytest.approx(own_split.SHARES, abs=0.03)


# The teacher


def filled(values, indices, left, classes):
    """By hand, row by row: the mass that is left, divided evenly."""
    logits = np.empty((len(values), classes))
    for row in range(len(values)):
        others = [one for one in range(classes) if one not in indices[row]]
        logits[row, others] = math.log(left[row] / len(others))
        for value, index in zip(values[row], indices[row], strict=True):
            logits[row, index] = value
    return logits


@pytest.mark.parametrize("shift", [None, 3.0])
def test_the_largest_k_are_filled_in_by_hand(tmp_path, shift):
    wide = columns(split=SPLIT)["teacher_logprobs"].astype(np.float64)
    given = columns(split=SPLIT, **largest(2, wide))
    values, indices = given["teacher_topk_logprobs"], given["teacher_topk_indices"]
    expected = filled(values, indices, 1 - np.exp(values).sum(axis=1), CLASSES)
    if shift is not None:  # logits with the logarithm of their sum
        del given["teacher_topk_logprobs"]
        given |= {"teacher_topk_logits": values + shift, "teacher_logsumexp": np.full(ROWS, shift)}
        expected += shift
    teacher = load(write(tmp_path, given)).teacher
    test = expected[SPLIT == "test"]
    np.testing.assert_allclose(teacher.test, test, rtol=1e-5, atol=1e-5)
    for temperature in (0.5, 1.0, 4.0, math.inf):
        shares = scipy.special.softmax(test / temperature, axis=1)
        np.put_along_axis(shares, indices[SPLIT == "test"], 0, axis=1)
        assert teacher.not_given(temperature) == pytest.approx(shares.sum(axis=1).mean(), rel=1e-5)


def test_all_k_are_the_full_teacher_and_renormalised_gives_the_others_nothing(tmp_path):
    full = load(write(tmp_path, columns())).teacher
    every = largest(CLASSES)
    by_logits = {"teacher_topk_logits": every["teacher_topk_logprobs"], "teacher_topk_logprobs": None}
    for given in (every, {**every, **by_logits}):
        whole = load(write(tmp_path / "whole", columns(**given))).teacher
        assert whole.fingerprint == full.fingerprint and whole.not_given(4.0) == 0
    two = largest(2)
    some = load(write(tmp_path / "some", columns(**two)), topk_rest="renormalised").teacher
    assert some.renormalised and not full.renormalised and 0 < some.dropped < 0.2
    for temperature in (1.0, 8.0, 1e6):
        shares = scipy.special.softmax(some.test.astype(np.float64) / temperature, axis=1)
        assert ((shares > 0).sum(axis=1) == 2).all() and some.not_given(temperature) == 0


# Sweeps


def config(path, out, **options):
    run, data = RunConfig(out=out, devices=1), DataConfig(dataset=str(path), topk_rest=options.pop("rest", "spread"))
    usual = {"temperatures": (1.0, 4.0, math.inf), "widths": (8,), "seeds": 2, "epochs": 2, "batch_size": 50}
    return SweepConfig(**{**usual, "run": run, "data": data, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run directory of a sweep of log-probabilities."""
    folder = tmp_path_factory.mktemp("own")
    path = write(folder, columns(split=SPLIT))
    return sweeps.run(
        sweeps.prepare(config(path, folder / "runs", objectives=("kd", "dkd", "dist"), temperatures=(1.0, 4.0)))
    )


def test_a_sweep_trains_no_teacher_and_says_what_it_knows_of_the_given_one(finished):
    written, given = json.loads((finished / "config.json").read_text()), columns(split=SPLIT)
    logprobs, labels = (given[name][SPLIT == "test"] for name in ("teacher_logprobs", "labels"))
    (teacher,) = written["details"]["teachers"]
    (fingerprint,) = written["identity"]["teachers"]
    assert teacher["name"] == fingerprint[:12] == load(write(finished / "again", given)).teacher.fingerprint[:12]
    assert not (finished.parents[1] / "teachers").exists()
    assert teacher["test"]["errors"] == (logprobs.argmax(axis=1) != labels).sum()
    assert teacher["test"]["nll"] == pytest.approx(-logprobs[np.arange(len(labels)), labels].mean(), rel=1e-5)
    for at in teacher["soft_targets"]:
        entropy = scipy.stats.entropy(np.exp(logprobs / at["temperature"]), axis=1).mean()
        assert at["entropy"] == pytest.approx(entropy, rel=1e-5) and at["not_given"] == 0
    page = table.write_summary(finished)
    head, verdict = page.index("The teacher (its log-probabilities came with the data)"), page.index("**")
    assert verdict < head and f"({teacher['test']['errors']} errors)" in page and "classes not given" not in page
    assert f"| 4 | {teacher['soft_targets'][1]['entropy']:.3f} |" in page


def test_resized_images_may_lie_beyond_1_by_rounding(tmp_path):
    images = np.random.default_rng(0).random((ROWS, 4, 4, 1)).astype(np.float32)
    images[3, 0, 0], images[5, 1, 1] = 1.0000004, -1e-7
    found = load(write(tmp_path, columns(features=None, images=images, split=SPLIT)))
    assert max(part.images.max() for part in (found.train, found.holdout, found.test)) == np.float32(1.0000004)


def test_students_take_features_as_they_stand_in_the_file(finished):
    raw = columns()["features"][SPLIT == "test"]
    assert "features.npz" in json.loads((finished / "MANIFEST.json").read_text())
    for student in trained.find(finished, seed=1, objective="kd"):
        np.testing.assert_allclose(student.logits(raw), student.stored_logits("test"), atol=1e-5)
    with pytest.raises(BadInput, match=r"features: nowhere\.npz does not exist"):
        trained.find(finished)[0].logits("nowhere.npz:x")
    with pytest.raises(BadInput, match="features"):
        trained.find(finished)[0].logits(np.full((2, 6), np.nan))
    with pytest.raises(BadInput, match=r"features of shape \(5, 4\) do not fit a network for 6: give \[n, 6\]"):
        trained.find(finished, seed=1)[0].logits(np.zeros((5, 4)))


def test_without_the_standardisation_of_its_own_features_no_student_is_found(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    with np.load(copy / "features.npz") as arrays:
        moved = {**arrays, "mean": arrays["mean"] + 1}
    np.savez(copy / "features.npz", **moved)
    with pytest.raises(BadInput, match=r"features.npz is not that of this run; .* copy the run directory as a whole"):
        trained.find(copy)
    (copy / "features.npz").unlink()
    with pytest.raises(BadInput, match=r"features.npz is missing; without it features are not what"):
        trained.find(copy)


def test_a_shift_of_the_logits_changes_no_result(finished, tmp_path):
    given = columns(split=SPLIT)
    given["teacher_logits"] = given.pop("teacher_logprobs") + np.linspace(-5, 5, ROWS)[:, None].astype(np.float32)
    asked = config(write(tmp_path, given), tmp_path / "runs", objectives=("kd", "dkd", "dist"), temperatures=(1.0, 4.0))
    shifted = sweeps.run(sweeps.prepare(asked))
    assert shifted.name != finished.name
    students = trained.find(finished)
    for student, other in zip(students, trained.find(shifted), strict=True):
        setting = ("width", "seed", "objective", "temperature", "soft_weight", "learning_rate")
        np.testing.assert_equal([student.row[name] for name in setting], [other.row[name] for name in setting])
        assert other.row["test_nll"] == pytest.approx(student.row["test_nll"], abs=5e-3)
        np.testing.assert_allclose(student.stored_logits("test"), other.stored_logits("test"), atol=2e-3)


def test_a_topk_teacher_says_its_share_at_each_temperature(tmp_path):
    path = write(tmp_path, columns(**largest(2)))
    folder = sweeps.run(sweeps.prepare(config(path, tmp_path / "runs", seeds=1)))
    (teacher,) = json.loads((folder / "config.json").read_text())["details"]["teachers"]
    shares = [at["not_given"] for at in teacher["soft_targets"]]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(0.5)
    page = table.write_summary(folder)
    assert "It gives 2 of 4 classes; the others share what is left at T = 1 evenly." in page
    assert "mass on classes not given" in page and "| 50 % |" in page
    fewer = config(
        path, tmp_path / "runs", rest="renormalised", temperatures=(1.0, 4.0), objectives=("kd", "dkd"), seeds=1
    )
    again = sweeps.run(sweeps.prepare(fewer))
    assert again != folder and "have no mass at any T" in table.write_summary(again)
    assert np.isfinite([student.row["test_nll"] for student in trained.find(again)]).all()


def test_a_transfer_set_of_rows_that_are_sorted_by_class(tmp_path, capsys):
    given = columns()
    order = np.argsort(given["labels"], kind="stable")
    path = write(tmp_path, {**{name: array[order] for name, array in given.items()}, "split": SPLIT})
    ours = len(given["labels"][order][SPLIT == "train"])
    per_class = int((given["labels"][order][SPLIT == "train"] == 0).sum())
    with pytest.raises(BadInput, match=r"--transfer-images is not allowed: .* are of 1 of the 4 classes; if they"):
        sweeps.prepare(config(path, tmp_path / "runs", transfer_images=per_class, batch_size=10))
    assert "warning" not in capsys.readouterr().err
    sweeps.prepare(config(path, tmp_path / "runs", transfer_images=per_class + 1, batch_size=10))
    assert f"warning: the first {per_class + 1} training rows are of 2 of the 4 classes" in capsys.readouterr().err
    sweeps.prepare(config(path, tmp_path / "runs", transfer_images=ours, batch_size=10))
    assert "warning" not in capsys.readouterr().err


def test_a_teacher_of_features_standardised_by_other_rows_is_refused(tmp_path):
    runs, parts = tmp_path / "runs", {"teacher_logprobs": None, "split": np.where(SPLIT == "holdout", "train", SPLIT)}
    recipe = TeacherConfig(widths=(8,), epochs=1, batch_size=50)
    one = config(write(tmp_path, columns(**parts), name="one"), runs, teacher=recipe, seeds=1)
    sweeps.run(sweeps.prepare(one))
    (folder,) = (path for path in (runs / "teachers").iterdir() if path.is_dir())
    features = columns()["features"] + 100
    other = write(tmp_path, columns(**parts, features=features), name="other")
    with pytest.raises(
        BadInput, match="was trained on other rows or labels than those of other, which standardise its features"
    ):
        sweeps.prepare(config(other, runs, teacher_from=(folder,)))
    again = dataclasses.replace(one, teacher=TeacherConfig(), teacher_from=(folder,))
    sweeps.prepare(again)


def test_a_file_without_a_teacher_has_one_trained(tmp_path):
    path = write(tmp_path, columns(teacher_logprobs=None))
    recipe = TeacherConfig(widths=(8,), epochs=2, batch_size=50)
    fast = TeacherConfig(network="fast", widths=(64,), hidden_dropout=0.0, batch_size=50)
    with pytest.raises(BadInput, match=r"are \[6\] features: give --teacher\.network mlp"):
        sweeps.prepare(config(path, tmp_path / "runs", teacher=fast, seeds=1))
    sweep = sweeps.prepare(config(path, tmp_path / "runs", teacher=recipe, seeds=1))
    assert sweep.dataset.teacher is None and sweep.teacher_config.jitter == 0
    assert "would train a teacher" in forecast.of_sweep(sweep).text
    folder = sweeps.run(sweep)
    assert len(list((tmp_path / "runs" / "teachers").glob("*/teacher.json"))) == 1
    page = table.write_summary(folder)
    assert "The teacher (" not in page and "* Teacher " in page


def test_what_is_trained_by_default_depends_on_the_number_of_rows(tmp_path):
    sweep = sweeps.prepare(config(write(tmp_path, columns()), tmp_path / "runs", epochs=None))
    assert sweep.blocks[0].config.epochs == 200
    text = forecast.of_sweep(sweep).text
    assert "would train no teacher (it came with the data) and 16 students" in text and not (tmp_path / "runs").exists()
    wide = dataclasses.replace(
        sweep.dataset, train=datasets.Split(*(np.repeat(one, 90, axis=0) for one in sweep.dataset.train))
    )
    assert grids.student_epochs(wide, 50) == 20
    parts = [np.resize(one, (1500, *one.shape[1:])) for one in sweep.dataset.train]
    of_thirty_steps = dataclasses.replace(sweep.dataset, train=datasets.Split(*parts))
    assert grids.student_epochs(of_thirty_steps, 50) == 34  # the fewest that make 1,000 steps
    assert grids.teacher_epochs(dataclasses.replace(sweep.dataset, train=wide.train)) == 30
    for name, epochs in (("mnist", (20, 30)), ("mnist5k", (40, 80))):
        catalogued = dataclasses.replace(sweep.dataset, name=name)
        assert (grids.student_epochs(catalogued, 50), grids.teacher_epochs(catalogued)) == epochs
    named = write(tmp_path, columns(), name="mnist5k")
    assert load(named).name == "mnist5k-file"


def test_images_too_small_to_reflect_are_refused_before_training(tmp_path):
    path = write(tmp_path, columns(features=None, images=BYTES, teacher_logprobs=None))
    with pytest.raises(BadInput, match=r"--augment alternate is not allowed: it reflects 2 pixels .* have 2 a side"):
        sweeps.prepare(config(path, tmp_path / "runs", augment="alternate"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"objectives": ("kd", "mse")},
            "--objectives mse is not allowed: a constant added to all logits changes it, and",
        ),
        ({"targets": "random"}, "--targets random is not allowed: the teacher of mine came with the data, as logits"),
        ({"targets": "shift_averaged"}, "--targets shift_averaged is not allowed"),
        ({"jitter": 1}, "--jitter is not allowed: "),
        ({"augment": "full"}, "--augment is not allowed: "),
        ({"teacher_from": (Path("there"),)}, "--teacher-from is not allowed: the teacher of mine came with the data"),
        ({"teacher": TeacherConfig(epochs=3)}, "--teacher options are not allowed: the teacher of mine came with"),
        (
            {"rest": "renormalised"},
            "--temperatures inf is not allowed: with --topk-rest renormalised it is 1e+07 at most",
        ),
        (
            {
                "rest": "renormalised",
                "temperatures": (4.0,),
                "temperature_schedule": "linear",
                "last_temperature": 1e10,
            },
            "--last-temperature 10000000000 is not allowed: with --topk-rest renormalised it is 1e+07 at most",
        ),
        (
            {"rest": "renormalised", "objectives": ("reverse_kl",), "temperatures": (2.0,)},
            "--objectives reverse_kl is not allowed: it depends on the logits of classes that have no mass",
        ),
    ],
)
@pytest.mark.parametrize("what", ["features", "images"])
def test_what_logits_alone_cannot_do_is_refused(tmp_path, what, options, words):
    given = largest(2) if "rest" in options else {}
    if what == "images":
        images = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 8)).astype(np.uint8)
        given |= {"features": None, "images": images}
    with pytest.raises(BadInput) as error:
        sweeps.prepare(config(write(tmp_path, columns(**given)), tmp_path / "runs", **options))
    assert words in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "runs").exists()


TRAINED = ("hard", "kd", "label_smoothing", "shuffled")
"""By default where the teacher came with the data."""


def test_the_digits_of_scikit_learn_from_start_to_verdict(tmp_path):
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    features, labels = load_digits(return_X_y=True)
    split = np.array(["test", "holdout", "train", "train", "train"])[np.arange(len(labels)) % 5]
    teacher = LogisticRegression(max_iter=1000).fit(features[split == "train"] / 16, labels[split == "train"])
    given = {"features": features, "labels": labels, "split": split}
    path = write(tmp_path, {**given, "teacher_logprobs": teacher.predict_log_proba(features / 16)}, name="digits")
    command = ["-m", "experiments.temperature_sweep", "--dataset", str(path), "--out", str(tmp_path / "runs")]
    options = ["--widths", "32", "--temperatures", "1", "4", "inf", "--seeds", "2", "--name", "digits"]
    done = subprocess.run([sys.executable, *command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "temperature_sweep" / "digits"
    assert "The teacher (its log-probabilities came with the data)" in done.stdout and "hard labels" in done.stdout
    assert {path.stem for path in (run / "figures").iterdir()} > {"errors", "softening", "learning_curves"}
    errors = {name: [one.row["test_errors"] for one in trained.find(run, objective=name)] for name in TRAINED}
    assert list(map(len, errors.values())) == [2, 6, 2, 6], errors
    shuffled = errors.pop("shuffled")  # which teaches nothing
    assert max(map(max, errors.values())) < 0.1 * 360 < 0.5 * 360 < min(shuffled), (errors, shuffled)
