"""Teachers: found by fingerprint, refused where they do not fit, averaged as an ensemble."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from kdjax import blocks, datasets, students, sweep_teachers, teachers, train, transfer, transforms
from kdjax.config import NUMERICS, DataConfig, RunConfig, TeacherConfig, TrainConfig
from kdjax.errors import BadInput

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


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 1.5e-3), ("sgd", 0.02), ("nesterov", 0.3)])
def test_the_default_rate_is_that_of_the_optimizer(optimizer, rate, digits, tmp_path):
    assert TeacherConfig(optimizer=optimizer, learning_rate=0.7).rate == 0.7
    config = TeacherConfig((4,), 1, 128, hidden_dropout=0, max_norm=0, jitter=0, optimizer=optimizer)
    run = RunConfig(out=tmp_path)
    _, _, (name,) = sweep_teachers.find(config, (), digits, run)
    assert name == teachers.fingerprint(config.train_config(1), rate, config.seed, digits)


def test_a_teacher_is_trained_once_and_found_again(digits, pair, capfd):
    first = pair[0]
    again = teachers.find_or_train(RECIPE.train_config(30), RATE, 0, digits, first.folder.parents[1])
    assert "found" in capfd.readouterr().err
    np.testing.assert_array_equal(again.logits(digits.test.images), first.logits(digits.test.images))
    assert first.info["test"]["errors"] == int((first.logits(digits.test.images).argmax(1) != digits.test.labels).sum())


def test_a_teacher_trained_again_is_the_same_to_the_bit(digits, pair, tmp_path):
    again = teachers.find_or_train(RECIPE.train_config(30), RATE, 0, digits, tmp_path)
    np.testing.assert_array_equal(again.logits(digits.test.images), pair[0].logits(digits.test.images))


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
        monkeypatch.setitem(NUMERICS, "mlp", 1)
    assert before != teachers.fingerprint(config, rate, seed, data)


def test_an_ensemble_is_the_geometric_mean(digits, pair):
    images = digits.test.images[:50]
    logits = [teacher.logits(images).astype(np.float64) for teacher in pair]
    for temperature in (1.0, 20.0):
        geometric = np.mean([log_softmax(each / temperature, axis=1) for each in logits], axis=0)
        expected = log_softmax(geometric, axis=1)
        found = log_softmax(teachers.ensemble_logits(pair, images) / temperature, axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_several_teachers_are_queried_for_the_mean_of_their_logits(digits, pair):
    images, shape = digits.test.images[:50], digits.test.images.shape[1:]
    query = blocks.teacher_query(shape, digits.num_classes, tuple(teacher.config for teacher in pair))
    variables = [jax.tree.map(lambda leaf: leaf[0], (teacher.params, teacher.model_state)) for teacher in pair]
    found = query(tuple(variables), transforms.to_float(jnp.asarray(images)))
    np.testing.assert_allclose(found, teachers.ensemble_logits(pair, images), rtol=1e-4, atol=1e-4)
    for teacher in pair:
        assert np.abs(found - teacher.logits(images)).max() > 1e-2


def test_a_folder_without_a_teacher_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no teacher"):
        teachers.load(tmp_path)


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


def test_a_teacher_of_an_earlier_version_is_refused_in_one_line(pair, tmp_path):
    info = {name: value for name, value in pair[0].info.items() if name != "provenance"}
    teachers.save(tmp_path / "older", pair[0].params, info)
    with pytest.raises(BadInput, match="is a teacher of another version of kdjax"):
        teachers.load(tmp_path / "older")


def test_a_teacher_that_breaks_at_its_last_update_is_a_clear_error(digits, tmp_path):
    one_step = dataclasses.replace(RECIPE, epochs=1, batch_size=300)
    with pytest.raises(BadInput, match="logits are not finite: lower its learning rate"):
        teachers.find_or_train(one_step.train_config(30), 1e38, 1, digits, tmp_path)
    assert not list((tmp_path / "teachers").glob("*/teacher.json"))


def test_a_teacher_that_diverges_is_a_clear_error(digits, tmp_path):
    with pytest.raises(BadInput, match=r"not finite at step \d+"):
        teachers.find_or_train(RECIPE.train_config(30), 1e30, 0, digits, tmp_path)


@pytest.fixture(scope="module")
def convolutional(digits, tmp_path_factory):
    recipe = TrainConfig(hidden=(16,), epochs=2, batch_size=50, network="small", augment="flip_shift")
    return teachers.find_or_train(recipe, 1e-2, 0, digits, tmp_path_factory.mktemp("runs"))


def test_a_convolutional_teacher_keeps_its_batch_statistics(digits, convolutional):
    again = teachers.load(convolutional.folder, digits)
    logits = convolutional.logits(digits.test.images)
    np.testing.assert_array_equal(again.logits(digits.test.images), logits)
    assert int((logits.argmax(1) != digits.test.labels).sum()) == convolutional.info["test"]["errors"]
    fresh = teachers.untrained(convolutional, 0, digits.train.images)
    other = dataclasses.replace(convolutional, model_state=fresh.model_state)
    assert np.abs(other.logits(digits.test.images) - logits).max() > 1e-2
    of_stranger = fresh.logits(digits.test.images)
    assert np.abs(of_stranger - logits).max() > 1e-2
    # It has learnt nothing, but it tells images apart: its targets are neither alike nor near to uniform.
    assert of_stranger.std(axis=0).mean() > 0.1 and len(set(of_stranger.argmax(axis=1))) > 3


def test_a_convolutional_teacher_is_queried_in_evaluation_mode_about_the_images_as_they_are_seen(digits, convolutional):
    data = transfer.query_teachers(digits, [convolutional])
    shown = transfer.on_device(data)
    runs, spec = (students.Run("kd", 4.0, 1.0, 1e-3),), transfer.TransferSpec()
    block = students.Block("one", 16, convolutional.config, 0, runs, 1, len(digits.train.images), spec)
    assert block.queries_teacher
    query = blocks.teacher_query(digits.train.images.shape[1:], digits.num_classes, (convolutional.config,))
    seen = transforms.to_float(shown.images[:20])
    np.testing.assert_allclose(query(shown.teachers, seen), data.train_logits[:20], rtol=1e-4, atol=1e-4)
    view = train.make_view(block.config, None, query)
    batch = train.Batch(*(array[:20] for array in shown[:3]), jax.random.key(1), shown.teachers)
    viewed = view(batch)
    np.testing.assert_allclose(viewed.teacher_logits, query(shown.teachers, viewed.images), rtol=1e-5, atol=1e-5)
    assert np.abs(viewed.teacher_logits - data.train_logits[:20]).max() > 1e-2
    assert not block._replace(config=dataclasses.replace(block.config, augment="none")).queries_teacher
    assert not block._replace(transfer=transfer.TransferSpec("shuffled")).queries_teacher


def test_fingerprints_of_teachers_trained_before_there_were_other_networks_stay(digits, monkeypatch):
    monkeypatch.setitem(NUMERICS, "mlp", 1)  # as it was; whatever else came later must not enter by its default
    config, known = RECIPE.train_config(30), dataclasses.replace(digits, fingerprint="known")
    assert teachers.fingerprint(config, RATE, 0, known)[:16] == "47e5d129fc86dcf6"
    for field, value in (("augment", "full"), ("average", 0.5)):
        other = dataclasses.replace(config, **{field: value})
        assert teachers.fingerprint(other, RATE, 0, known)[:16] != "47e5d129fc86dcf6"
