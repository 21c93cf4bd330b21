"""Teachers: found by fingerprint, refused where they do not fit, averaged as an ensemble."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.special import log_softmax

from kdjax import datasets, teachers
from kdjax.config import BadInput, DataConfig, TeacherConfig

RECIPE = TeacherConfig(widths=(16, 12), epochs=2, batch_size=50)
RATE = 1e-3


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return datasets.load(
        DataConfig(dataset="mnist5k", raw_dir=None, data_dir=tmp_path_factory.mktemp("data"), train_images=300)
    )


@pytest.fixture(scope="module")
def pair(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return [teachers.find_or_train(RECIPE.train_config(30), RATE, seed, digits, out) for seed in (0, 1)]


def test_a_teacher_is_trained_once_and_found_again(digits, pair, capfd):
    first = pair[0]
    again = teachers.find_or_train(RECIPE.train_config(30), RATE, 0, digits, first.folder.parents[1])
    assert "found" in capfd.readouterr().err
    np.testing.assert_array_equal(again.logits(digits.test.images), first.logits(digits.test.images))
    assert first.info["test"]["errors"] == int((first.logits(digits.test.images).argmax(1) != digits.test.labels).sum())


def test_a_teacher_trained_anew_is_the_same_to_the_bit(digits, pair, tmp_path):
    anew = teachers.find_or_train(RECIPE.train_config(30), RATE, 0, digits, tmp_path)
    np.testing.assert_array_equal(anew.logits(digits.test.images), pair[0].logits(digits.test.images))


@pytest.mark.parametrize("change", ["epochs", "seed", "rate", "data", "numerics"])
def test_what_affects_training_is_in_the_fingerprint(digits, change, monkeypatch):
    config, rate, seed, data = RECIPE.train_config(30), RATE, 0, digits
    before = teachers.fingerprint(config, rate, seed, data)
    assert before == teachers.fingerprint(RECIPE.train_config(99), rate, seed, data)  # epochs are given: no default
    if change == "epochs":
        config = dataclasses.replace(config, epochs=3)
    elif change == "seed":
        seed = 1
    elif change == "rate":
        rate = 2e-3
    elif change == "data":
        data = dataclasses.replace(digits, fingerprint="other")
    else:
        monkeypatch.setattr(teachers, "NUMERICS", 2)
    assert before != teachers.fingerprint(config, rate, seed, data)


def test_an_ensemble_is_the_geometric_mean(digits, pair):
    images = digits.test.images[:50]
    logits = [teacher.logits(images).astype(np.float64) for teacher in pair]
    for temperature in (1.0, 20.0):
        geometric = np.mean([log_softmax(each / temperature, axis=1) for each in logits], axis=0)
        expected = log_softmax(geometric, axis=1)
        found = log_softmax(teachers.ensemble_logits(pair, images) / temperature, axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_teachers_that_do_not_fit_are_refused(digits, pair, tmp_path):
    with pytest.raises(BadInput, match="no teacher"):
        teachers.load(tmp_path)
    shape = dataclasses.replace(
        digits, train=datasets.Split(np.zeros((9, 32, 32, 3), np.uint8), digits.train.labels[:9])
    )
    with pytest.raises(BadInput, match=r"\(28, 28, 1\).*\(32, 32, 3\)"):
        teachers.load(pair[0].folder, shape)
    with pytest.raises(BadInput, match="10 classes"):
        teachers.load(pair[0].folder, dataclasses.replace(digits, num_classes=7))


def test_a_full_mnist_teacher_is_refused_for_the_bundled_digits(digits, pair, tmp_path):
    teachers.save(tmp_path / "full", {"params": np.zeros(1)}, {**pair[0].info, "dataset": "mnist"})
    with pytest.raises(BadInput, match="contains the test digits"):
        teachers.load(tmp_path / "full", digits)


def test_a_damaged_teacher_is_refused_by_name_and_trained_again_when_found(digits, tmp_path, capfd):
    teacher = teachers.find_or_train(RECIPE.train_config(30), RATE, 5, digits, tmp_path)
    logits = teacher.logits(digits.test.images)
    info = teacher.folder / "teacher.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "seed": 6}))
    with pytest.raises(BadInput, match=r"teacher\.json"):
        teachers.load(teacher.folder)
    again = teachers.find_or_train(RECIPE.train_config(30), RATE, 5, digits, tmp_path)
    assert "trained again" in capfd.readouterr().err
    np.testing.assert_array_equal(again.logits(digits.test.images), logits)


def test_a_teacher_that_diverges_is_a_clear_error(digits, tmp_path):
    with pytest.raises(BadInput, match=r"not finite at step \d+"):
        teachers.find_or_train(RECIPE.train_config(30), 1e30, 0, digits, tmp_path)
