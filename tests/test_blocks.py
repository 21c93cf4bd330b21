"""A block: traced once, equal to its runs trained one at a time, the same to the bit on any device, in any chunks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import blocks, checkpoints, compilation, evaluation, layers, loop, models, objectives
from kdjax.progress import Progress
from tests import small

pytestmark = pytest.mark.optimized


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def row(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_one_trace_whatever_the_temperatures_and_seeds(monkeypatch):
    traces = []

    def counted(student_logits, *arguments):
        traces.append(student_logits.shape)
        return objectives.distillation(student_logits, *arguments)

    config = small.config()
    model = models.network(config, small.SHAPE, small.CLASSES)
    program = blocks.make_program(model, config, small.IMAGES, 4, counted)
    for seed, temperatures in enumerate(((1.0, 2.0, 3.0, np.inf), (0.5, 7.0, 20.0, 100.0), (np.inf, 1.0, 2.0, 1e6))):
        small.train(program, small.settings(temperatures), seed, chunk_seconds=0.0 if seed else 5.0)
    assert len(traces) == 1


def test_equal_configs_share_a_program():
    assert small.program() is small.program()
    assert small.program() is not small.program(epochs=3)


@pytest.mark.parametrize("options", [{}, {"hidden_dropout": 0.5, "input_dropout": 0.2, "jitter": 1, "max_norm": 2.0}])
def test_a_block_equals_its_settings_trained_one_at_a_time(options):
    setting = small.settings(soft_weights=(1.0, 0.5, 1.0, 1.0))
    data = small.transfer_set()
    order = blocks.epoch_order(0, 0, small.IMAGES)
    together, alone = small.program(4, **options), small.program(1, **options)
    # `init` makes a fresh state, `advance` uses it up: keep the start's parameters apart.
    start = together.init(0)
    first = jax.tree.map(jnp.copy, start.params)
    state, _ = together.advance(start, loop.start(together, 0, 1).sums, data, setting, 0, order, 1)
    for index in range(4):
        one = jax.tree.map(lambda column, index=index: column[index : index + 1], setting)
        single, _ = alone.advance(alone.init(0), loop.start(alone, 0, 1).sums, data, one, 0, order, 1)
        difference = jax.tree.map(lambda a, b: a[0] - b, single.params, row(state.params, index))
        moved = jax.tree.map(jnp.subtract, row(state.params, index), row(first, index))
        assert optax.tree.norm(difference) <= 1e-6 * optax.tree.norm(row(state.params, index))
        assert optax.tree.norm(moved) > 1e-3


def test_groups_that_take_turns_equal_one_block(monkeypatch):
    model = models.network(small.config(), small.SHAPE, small.CLASSES)
    whole = small.program(hidden=(16, 12), epochs=2)
    monkeypatch.setattr(blocks, "CACHE", 2 * 12 * models.parameter_count(model))
    parted = blocks.make_program(model, small.config(), small.IMAGES, len(small.TEMPERATURES))
    assert (whole.together, parted.together) == (4, 2)
    fits = [small.train(program, small.settings(), chunk_seconds=1e-9) for program in (whole, parted)]
    for a, b in zip(*map(jax.tree.leaves, (fits[0].state, fits[1].state)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fits[0].history.loss, fits[1].history.loss, rtol=1e-5)
    jittered = blocks.make_program(model, small.config(jitter=1), small.IMAGES, len(small.TEMPERATURES))
    assert jittered.together == 4  # they share the shifted images


def test_all_settings_start_from_the_same_weights_and_seeds_do_not():
    params = small.program().init(0).params
    same(row(params, 0), row(params, 3))
    other = small.program().init(1).params
    assert not np.array_equal(params["dense_0"]["kernel"], other["dense_0"]["kernel"])


def test_chunks_change_nothing():
    program = small.program(hidden_dropout=0.5, jitter=1)
    whole = small.train(program, small.settings(), 3, chunk_seconds=100.0)
    single_steps = small.train(program, small.settings(), 3, chunk_seconds=0.0)
    same(whole, single_steps)


def test_another_device_changes_nothing():
    here = small.train(small.program(hidden_dropout=0.5), small.settings(), 1)
    with jax.default_device(jax.devices()[2]):
        there = small.train(small.program(hidden_dropout=0.5), small.settings(), 1)
        assert there.state.params["dense_0"]["kernel"].devices() == {jax.devices()[2]}
    same(here.state, there.state)


def test_masks_batches_and_start_are_paired_across_temperatures():
    # Two settings that differ in nothing end in nothing different, with dropout and jitter on; so do two that differ in
    # a temperature which hard labels alone do not see.
    program = small.program(2, hidden_dropout=0.5, jitter=1)
    for temperatures, weight in (((4.0, 4.0), 1.0), ((1.0, 20.0), 0.0)):
        twins = small.train(program, small.settings(temperatures, (weight, weight)), 0)
        same(row(twins.state.params, 0), row(twins.state.params, 1))


def test_a_failed_run_leaves_its_neighbours_alone():
    rates = (1e-3, 1e12, 1e-3, 1e-3)
    harmless = small.train(small.program(epochs=4), small.settings(learning_rates=(1e-3,) * 4), 0, 4)
    broken = small.train(small.program(epochs=4), small.settings(learning_rates=rates), 0, 4)
    failed_at = np.asarray(broken.state.failed_at)
    assert failed_at[1] > 0 and (np.delete(failed_at, 1) == -1).all()
    for index in (0, 2, 3):
        same(row(broken.state.params, index), row(harmless.state.params, index))
    assert np.isfinite(jax.tree.leaves(row(broken.state.params, 0))[0]).all()


def test_order_is_a_permutation_fixed_by_seed_and_epoch():
    first = blocks.epoch_order(0, 0, 100)
    assert sorted(np.asarray(first)) == list(range(100))
    same(first, blocks.epoch_order(0, 0, 100))
    assert not np.array_equal(first, blocks.epoch_order(0, 1, 100))
    assert not np.array_equal(first, blocks.epoch_order(1, 0, 100))


def test_every_image_is_scored_whatever_the_batch(monkeypatch):
    program = small.program()
    state = program.init(0)
    images = small.transfer_set().images
    whole = program.logits(state, images)
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 16)  # 70 is no multiple of 16
    pieces = program.logits(state, images)
    assert whole.shape == pieces.shape == (4, small.IMAGES, small.CLASSES)
    np.testing.assert_allclose(whole, pieces, rtol=1e-5, atol=1e-5)


def test_trap_5_training_stays_noisy():
    # Training must be noisy in every epoch, the second too.
    setting, options = (
        small.settings((1.0,), (0.0,), (1e-2,)),
        {"hidden": (64, 64), "schedule": "constant", "epochs": 20},
    )
    program = small.program(1, hidden_dropout=0.5, **options)
    noisy = small.train(program, setting, 0, 20)
    quiet = small.train(small.program(1, **options), setting, 0, 20)
    assert (noisy.history.loss[5:] > 1.2 * quiet.history.loss[5:]).all()


def test_trap_6_teacher_logits_stay_with_their_images():
    # A table that says, for each image, which image it is: the student must learn it, and cannot from a shuffled one.
    data = small.transfer_set()
    setting = small.settings((1.0,), learning_rates=(1e-2,))
    program = small.program(1, hidden=(64, 64), epochs=60)

    def agreement(table):
        trained = small.train(program, setting, 0, 60, data._replace(teacher_logits=table))
        logits = np.asarray(program.logits(trained.state, data.images))[0]
        return (logits.argmax(1) == np.asarray(data.teacher_logits).argmax(1)).mean()

    assert agreement(data.teacher_logits) > 0.9
    assert agreement(jnp.roll(data.teacher_logits, 1, axis=0)) < 0.5


def test_history_holds_epoch_means_and_monitored_errors():
    data = small.transfer_set()
    monitor = loop.Monitor(data.images, np.asarray(data.labels), 2)
    program = small.program(epochs=5)
    trained = small.train(program, small.settings(), 0, 5, monitor=monitor)
    history = trained.history
    assert np.isfinite(history.loss).all() and ((history.error_rate > 0) & (history.error_rate <= 1)).all()
    assert np.isfinite(history.monitor_errors).all(axis=1).tolist() == [False, True, False, True, True]
    final = np.asarray(program.logits(trained.state, data.images)).argmax(-1)
    np.testing.assert_array_equal(history.monitor_errors[-1], (final != np.asarray(data.labels)[None]).sum(1))


def test_after_each_epoch_the_means_of_its_steps_and_the_changed_answers_are_told():
    data, program = small.transfer_set(), small.program(epochs=3)
    state, answers, means = program.init(0), [], []
    order = [blocks.epoch_order(0, epoch, small.IMAGES) for epoch in range(3)]
    for epoch in range(3):
        sums = loop.start(program, 0, 3).sums
        state, sums = program.advance(state, sums, data, small.settings(), 0, order[epoch], program.steps_per_epoch)
        answers.append(np.asarray(program.logits(state, data.images)).argmax(-1))
        means.append(np.asarray(sums) / program.steps_per_epoch)
    monitor = loop.Monitor(data.images, np.asarray(data.labels), 1)
    history = small.train(program, small.settings(), 0, 3, monitor=monitor).history
    np.testing.assert_allclose([history.loss, history.error_rate], np.swapaxes(means, 0, 1), rtol=1e-6)
    changed = [(now != before).sum(axis=1) for before, now in itertools.pairwise(answers)]
    assert np.isnan(history.monitor_changed[0]).all() and np.sum(changed) > 0
    np.testing.assert_array_equal(history.monitor_changed[1:], changed)


def test_resuming_from_a_checkpoint_is_bit_identical(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    program = small.program(hidden_dropout=0.5, jitter=1, average=0.9)
    kept = checkpoints.Checkpoints(tmp_path / "block", seconds=0.0)
    arguments = (program, small.transfer_set(), small.settings(), 5, 2, kept, Progress("block", 8).update)
    whole = loop.fit_with_checkpoints(*arguments)
    assert len(list((tmp_path / "block").iterdir())) == 2  # the last two are kept
    for folder in sorted((tmp_path / "block").iterdir())[1:]:
        (folder / "MANIFEST.json").write_text("{}")  # damage the last one: the one before it serves
    before = int(sorted((tmp_path / "block").iterdir())[0].name)
    steps: list[int] = []
    same(loop.fit_with_checkpoints(*arguments[:-1], lambda step, note: steps.append(step)), whole)
    assert steps[0] > before > 0  # resumed, not trained again


def test_one_big_network_over_several_devices():
    options = {"hidden_dropout": 0.5, "jitter": 1, "max_norm": 2.0, "average": 0.9, "epochs": 3}
    alone, divided = (small.program(1, **options, devices=devices) for devices in (1, 4))
    one = small.settings((4.0,), soft_weights=(0.5,))
    single, several = (small.train(program, one, 3, 3) for program in (alone, divided))
    assert int(several.state.step) == int(single.state.step) == 12
    flat, other = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(fit.state.params)]) for fit in (single, several)
    )
    assert np.linalg.norm(flat - other) <= 1e-5 * np.linalg.norm(flat)
    assert np.abs(flat - np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(alone.init(3).params)])).max() > 1e-3
    np.testing.assert_allclose(several.history.loss, single.history.loss, rtol=1e-5)


CNN = {"network": "small", "hidden": (16,), "augment": "full", "epochs": 3}
IMAGES = (8, 8, 3)
AVERAGED = {"average": 0.9}
"""With Adam: most tests of convolutional networks share these two programs, of one setting and of two, which take
seconds to compile."""


def cnn(settings, **options):
    return blocks.program_for(small.config(**CNN, **options), IMAGES, small.CLASSES, small.IMAGES, settings)


def pictures(seed=0):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (small.IMAGES, *IMAGES)).astype(np.uint8)
    return small.transfer_set()._replace(images=jnp.asarray(images))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.fixture(scope="module")
def trained():
    """Two settings of a convolutional network, trained as one block."""
    setting = small.settings((1.0, 20.0), soft_weights=(0.5, 1.0), learning_rates=(0.01, 0.01))
    return setting, small.train(cnn(2, **AVERAGED), setting, 0, 3, pictures())


def test_one_convolutional_network_over_several_devices():
    alone, divided = (cnn(1, optimizer="sgd", devices=devices) for devices in (1, 4))
    one = small.settings((4.0,), soft_weights=(0.5,), learning_rates=(0.02,))
    single, several = (small.train(program, one, 3, 3, pictures()) for program in (alone, divided))
    assert int(several.state.step) == int(single.state.step) == 12
    for part in ("params", "model_state"):
        mine, other = (flat(getattr(fit.state, part)) for fit in (single, several))
        begun = flat(getattr(alone.init(3), part))
        assert np.linalg.norm(mine - other) <= 1e-5 * np.linalg.norm(mine)
        assert np.linalg.norm(mine - begun) > 1e-2 * np.linalg.norm(mine)


def test_a_block_of_convolutional_networks_equals_its_settings_trained_one_at_a_time(trained):
    setting, together = trained
    for index in range(2):
        one = jax.tree.map(lambda column, index=index: column[index : index + 1], setting)
        single = small.train(cnn(1, **AVERAGED), one, 0, 3, pictures())
        for part in ("params", "model_state", "averaged"):
            mine, other = flat(row(getattr(together.state, part), index)), flat(getattr(single.state, part))
            assert np.linalg.norm(mine - other) <= 1e-6 * np.linalg.norm(other)
    assert np.linalg.norm(flat(row(together.state.params, 0)) - flat(row(together.state.params, 1))) > 1e-2


def test_convolutional_networks_resume_from_a_checkpoint_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    program, kept = cnn(2, **AVERAGED), checkpoints.Checkpoints(tmp_path / "block", seconds=0.0)
    arguments = (program, pictures(), small.settings((1.0, 4.0)), 5, 3, kept, lambda step, note: None)
    whole = loop.fit_with_checkpoints(*arguments)
    (folder, last) = sorted((tmp_path / "block").iterdir())
    (last / "MANIFEST.json").write_text("{}")
    steps: list[int] = []
    same(loop.fit_with_checkpoints(*arguments[:-1], lambda step, note: steps.append(step)), whole)
    assert steps[0] > int(folder.name) > 0


def test_evaluation_uses_the_averaged_parameters_and_the_batch_statistics_that_were_collected(trained):
    program, (_, (state, *_)), images = cnn(2, **AVERAGED), trained, pictures().images
    logits = program.logits(state, images)
    model = models.network(small.config(**CNN), IMAGES, small.CLASSES)
    evaluate = jax.jit(lambda *variables: model.apply(*variables, images / 255, False)[0])
    for index in range(2):
        expected = evaluate(row(state.averaged, index), row(state.model_state, index))
        np.testing.assert_allclose(logits[index], expected, rtol=1e-4, atol=1e-5)
    fresh = state._replace(model_state=program.init(0).model_state)
    assert np.abs(program.logits(fresh, images) - logits).max() > 1e-2
    same(program.logits(state._replace(params=state.averaged), images), logits)
    assert np.abs(program.logits(state._replace(averaged=state.params), images) - logits).max() > 1e-3


def test_convolutions_of_a_network_stay_with_xla_on_a_cpu():
    assert compilation.compiler_options() == compilation.CPU_OPTIONS
    kernel, images = jnp.ones((3, 3, 64, 64)), jnp.ones((8, 32, 32, 64))
    jitted = compilation.jit(layers.convolve).__wrapped__, jax.jit(layers.convolve)
    programs = [function.lower(images, kernel).compile().as_text() for function in jitted]
    assert "convolution(" in programs[0] and "ynn" not in programs[0]
    assert "ynn" in programs[1]  # when this fails, XLA's default has changed, and the options may be needless


def test_options_are_left_out_where_they_are_unknown_or_the_users(monkeypatch):
    both = {**compilation.CPU_OPTIONS, **compilation.WIDE}
    assert compilation.compiler_options() == compilation.CPU_OPTIONS
    assert compilation.compiler_options(compilation.WIDE) == both
    for name in both:
        monkeypatch.setenv("XLA_FLAGS", f"--{name}=")
        left = {other: value for other, value in both.items() if other != name}
        assert compilation.compiler_options(compilation.WIDE) == left
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setattr(compilation, "CPU_OPTIONS", {compilation.YNN: "NO_SUCH_KIND"})
    assert compilation.compiler_options() is None
    assert compilation.compiler_options(compilation.WIDE) == compilation.WIDE
    assert compilation.compiler_options({"xla_no_such_option": 1}) is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compilation.compiler_options(compilation.WIDE) is None
