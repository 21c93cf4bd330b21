"""What stands for the teacher's logits: tables, controls, and the teacher asked at each step."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from analysis.sweep import figures, table
from kdjax import objectives, run_directory, students, sweeps, teachers, transfer, transforms
from kdjax.errors import BadInput
from tests.small_sweep import TEACHER, config

KINDS = ["teacher", "shift_averaged", "shuffled", "random", "uniform"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    asked = config(tmp_path_factory.mktemp("targets"))
    sweep = sweeps.prepare(asked)
    teacher = teachers.find_or_train(sweep.teacher_config, 1e-3, 0, sweep.dataset, asked.run.out)
    return transfer.query_teachers(sweep.dataset, [teacher])


def test_shifts_move_images_and_let_zeros_in():
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3, 1)
    assert transforms.shift(image, 1, 0)[0, ..., 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert transforms.shift(image, 0, -2)[0, ..., 0].tolist() == [[3, 0, 0], [6, 0, 0], [9, 0, 0]]
    assert (transforms.shift(image, 0, 0) == image).all()


def test_the_jitter_of_the_step_makes_the_shifts_that_are_averaged_over():
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[0, 10:14, 12:15] = 255
    shifts = {
        transforms.shift(image, down, right).tobytes() for down in (-2, -1, 0, 1, 2) for right in (-2, -1, 0, 1, 2)
    }
    many = transforms.jitter(jax.random.key(0), transforms.to_float(jnp.repeat(jnp.asarray(image), 600, axis=0)), 2)
    assert {(np.asarray(one[None]) * 255).astype(np.uint8).tobytes() for one in many} == shifts


def test_shift_averaged_targets_are_the_mean_over_25_shifts(taught):
    shown = transfer.TransferSpec("shift_averaged").select(taught)
    images = taught.dataset.train.images[:7]
    (teacher,) = taught.teachers
    by_hand = np.mean(
        [teacher.logits(transforms.shift(images, down, right)) for down in range(-2, 3) for right in range(-2, 3)],
        axis=0,
    )
    np.testing.assert_allclose(shown.train_logits[:7], by_hand, rtol=1e-4, atol=1e-5)
    assert (shown.test_logits == taught.test_logits).all()


@pytest.mark.parametrize("images", (None, 40))
def test_logits_stay_with_their_images_on_the_device(taught, images):
    shown = transfer.on_device(transfer.TransferSpec(images=images).select(taught))
    (teacher,) = taught.teachers
    assert (np.asarray(shown.images) == taught.dataset.train.images[:images]).all()
    assert (np.asarray(shown.labels) == taught.dataset.train.labels[:images]).all()
    np.testing.assert_allclose(shown.teacher_logits, teacher.logits(np.asarray(shown.images)), rtol=1e-4, atol=1e-5)


def test_double_softmax_targets_are_all_but_uniform():
    # A confident teacher at T = 10: 0.1094 on the top class, 0.0990 elsewhere, 99.98 % of ln 10 (the blog post's bug).
    logits = jnp.zeros((1, 10)).at[0, 3].set(20.0)
    wrong = objectives.parse("double_softmax")
    gradient = jax.grad(lambda z: wrong.loss(z, logits, jnp.array([3]), 10.0).sum())(jnp.zeros((1, 10)))
    target = 0.1 - np.asarray(gradient) / 10  # the gradient is T (q − p)
    assert target[0, 3] == pytest.approx(0.1094, abs=5e-5) and target[0, 0] == pytest.approx(0.0990, abs=5e-5)
    assert scipy.stats.entropy(target[0]) / math.log(10) == pytest.approx(0.9998, abs=5e-5)


def test_controls_lose_what_they_say_they_lose(taught):
    shuffled, uniform, random = (
        transfer.TransferSpec(kind).select(taught) for kind in ("shuffled", "uniform", "random")
    )
    rows = {row.tobytes() for row in taught.train_logits}
    assert {row.tobytes() for row in shuffled.train_logits} == rows
    assert (shuffled.train_logits != taught.train_logits).any(axis=1).mean() > 0.9
    assert not uniform.train_logits.any()
    assert not np.allclose(random.train_logits, taught.train_logits, atol=0.1)
    assert (transfer.TransferSpec("random").select(taught).train_logits == random.train_logits).all()


def test_uniform_targets_are_label_smoothing():
    from kdjax import losses

    logits = jax.random.normal(jax.random.key(0), (5, 10)) * 3
    labels, weight = jnp.arange(5), 0.2
    smooth = (1 - weight) * jax.nn.one_hot(labels, 10) + weight / 10
    wanted = -(smooth * jax.nn.log_softmax(logits)).sum(axis=1) - weight * math.log(10)
    given = losses.distillation_loss(logits, jnp.zeros((5, 10)), labels, 1.0, weight)
    np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-6)


def test_every_kind_trains_and_is_its_own_run_with_jitter_and_without(tmp_path):
    def prepared(kind, jitter):
        options = {"targets": kind, "jitter": jitter, "seeds": 1, "epochs": 1, "temperatures": (4.0,)}
        return sweeps.prepare(config(tmp_path, **options))

    assert len({prepared(kind, jitter).folder for kind in KINDS for jitter in (0, 1)}) == 2 * len(KINDS)
    for kind, jitter in (("shift_averaged", 1), ("shuffled", 1), ("uniform", 0), ("teacher", 1), ("random", 1)):
        table = run_directory.read_results(sweeps.run(prepared(kind, jitter)))
        assert (table["failed_at"] == -1).all() and len(table) == 2


def test_a_teacher_queried_at_each_step_answers_for_the_shifted_image(taught):
    # With one image that the shift cannot change, asking and looking up are the same; with others they are not.
    blank = taught.dataset.train._replace(images=np.zeros_like(taught.dataset.train.images))
    (teacher,) = taught.teachers
    lesson = taught._replace(
        dataset=dataclasses.replace(taught.dataset, train=blank), train_logits=teacher.logits(blank.images)
    )
    recipe = dataclasses.replace(teacher.config, jitter=2, hidden=(64, 64), epochs=3)
    run = students.Run("kd", 4.0, 1.0, 1e-2)

    def trained(block, lesson):
        outcome = students.train_block(block, lesson, transfer.on_device(lesson), None, lambda step, note: None)
        return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(outcome.params)])

    def apart(lesson):
        one, other = trained(asking, lesson), trained(looking, lesson)
        return np.linalg.norm(one - other) / np.linalg.norm(one)

    block = students.Block("one", 64, recipe, 0, (run,), 1, len(taught.dataset.train.images))
    asking, looking = block, block._replace(transfer=transfer.TransferSpec("shuffled"))
    assert asking.queries_teacher and not looking.queries_teacher
    assert apart(lesson) < 1e-5
    assert apart(taught) > 1e-2


def test_the_baseline_alone(tmp_path):
    asked = config(tmp_path, objectives=(), seeds=1)
    assert run_directory.read_results(sweeps.run(sweeps.prepare(asked)))["objective"].tolist() == ["hard"]
    with pytest.raises(BadInput, match="nothing is left"):
        config(tmp_path, objectives=(), hard_labels=False)


def test_double_softmax_is_its_own_objective(tmp_path):
    taught = {"teacher": dataclasses.replace(TEACHER, epochs=10, hidden_dropout=0.0), "learning_rates": (0.01,)}
    asked = config(tmp_path, seeds=1, temperatures=(4.0,), jitter=1, epochs=6, **taught)
    asked = dataclasses.replace(asked, objectives=("kd", "double_softmax"))
    true, bug = (dataclasses.replace(asked, objectives=(name,)) for name in asked.objectives)
    both, true, bug = (
        run_directory.read_results(sweeps.run(sweeps.prepare(each))).set_index("objective")
        for each in (asked, true, bug)
    )
    assert both.index.tolist() == ["double_softmax", "hard", "kd"]
    for measure in ("test_nll", "test_brier", "soft_target_entropy"):
        assert both[measure]["kd"] == pytest.approx(true[measure]["kd"], rel=1e-4)
        assert both[measure]["double_softmax"] == pytest.approx(bug[measure]["double_softmax"], rel=1e-4)
        assert both[measure]["double_softmax"] != pytest.approx(both[measure]["kd"], rel=3e-4)
    folder = sweeps.prepare(asked).folder
    assert figures.draw(folder)
    assert "4 (double softmax)" in table.write_summary(folder)
