"""The pure step: against hand-written optimizers, its schedule, and the traps of other people's loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import losses, models, objectives, optimizers, train
from tests import small

pytestmark = pytest.mark.optimized


@functools.cache
def compiled_step(objective, **options):
    """One network, and the step that trains it."""
    config = small.config(**options)
    model = models.network(config, small.SHAPE, small.CLASSES)
    return config, model, jax.jit(small.step_of(model, config, objective))


@functools.cache
def initial():
    """Parameters and state of the network: those of every recipe here."""
    return jax.jit(models.network(small.config(), small.SHAPE, small.CLASSES).init)(jax.random.key(0))


def one_step(setting, noise=0, objective=objectives.distillation, steps=0, **options):
    """The first step of one network (as if after so many), its start, and its batch."""
    config, model, step = compiled_step(objective, **options)
    params, model_state = initial()
    optimizer = optimizers.make_optimizer(config, 4)
    averaged = params if config.average else None
    state = train.State(params, model_state, optimizer.init(params), jnp.int32(steps), averaged, jnp.int32(-1))
    batch = train.Batch(*(array[:16] for array in small.transfer_set()[:3]), jax.random.key(noise))
    return step(state, batch, objectives.Setting(*map(jnp.float32, setting))), state, batch, model


def mean_loss(model, batch, temperature, weight):
    def loss(params):
        logits, _ = model.apply(params, {}, batch.images / 255, True, None)
        return jnp.mean(losses.distillation_loss(logits, batch.teacher_logits, batch.labels, temperature, weight))

    return loss


def test_sgd_step_is_the_gradient_of_the_mean_loss():
    (state, _), before, batch, model = one_step((4.0, 0.7, 0.1), optimizer="sgd", schedule="constant")
    gradients = jax.jit(jax.grad(mean_loss(model, batch, 4.0, 0.7)))(before.params)
    expected = jax.tree.map(lambda value, gradient: value - 0.1 * gradient, before.params, gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.params, expected)


def test_adam_steps_are_those_of_optax():
    """Three, each on a batch of its own: the first alone does not depend on how moments are averaged."""
    rate, optimizer = 1e-2, optax.adam(1e-2, b1=0.9, b2=0.999, eps=1e-8)
    _, before, _, model = one_step((4.0, 1.0, rate), schedule="constant")
    step = compiled_step(objectives.distillation, schedule="constant")[2]
    setting = objectives.Setting(*map(jnp.float32, (4.0, 1.0, rate)))
    state, params, moments = before, before.params, optimizer.init(before.params)
    gradient = jax.jit(lambda params, batch: jax.grad(mean_loss(model, batch, 4.0, 1.0))(params))
    for index in range(3):
        batch = train.Batch(*(array[16 * index : 16 * index + 16] for array in small.transfer_set()[:3]), None)
        state, _ = step(state, batch._replace(key=jax.random.key(index)), setting)
        updates, moments = optimizer.update(gradient(params, batch), moments)
        params = optax.apply_updates(params, updates)
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, params, before.params))
    assert float(optax.tree.norm(jax.tree.map(jnp.subtract, state.params, params))) < 1e-4 * float(moved)


def test_hard_labels_alone_ignore_teacher_and_temperature():
    (hard, _), before, batch, model = one_step((1.0, 0.0, 0.1), optimizer="sgd", schedule="constant")
    (other, _), *_ = one_step((33.0, 0.0, 0.1), optimizer="sgd", schedule="constant")

    def cross_entropy(params):
        logits, _ = model.apply(params, {}, batch.images / 255, True, None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

    gradients = jax.jit(jax.grad(cross_entropy))(before.params)
    expected = jax.tree.map(lambda value, gradient: value - 0.1 * gradient, before.params, gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), hard.params, expected)
    jax.tree.map(np.testing.assert_array_equal, hard.params, other.params)


def test_max_norm_holds_after_the_step():
    (state, _), *_ = one_step((4.0, 1.0, 0.5), max_norm=1.0)
    assert np.linalg.norm(state.params["dense_0"]["kernel"], axis=1).max() < 1 + 1e-5
    assert np.linalg.norm(state.params["dense_1"]["kernel"], axis=0).max() < 1 + 1e-5


@pytest.mark.parametrize(("decay", "steps", "kept"), [(0.9, 0, 0.1), (0.9, 20, 0.7), (0.9, 200, 0.9), (0.05, 0, 0.05)])
def test_average_is_a_moving_average_that_forgets_the_initial_weights(decay, steps, kept):
    (state, _), before, *_ = one_step((4.0, 1.0, 0.1), steps=steps, average=decay, schedule="constant")
    expected = jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, before.params, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.averaged, expected)


def test_a_loss_that_is_not_finite_stops_the_run_where_it_is():
    def broken(student_logits, teacher_logits, labels, setting):
        return objectives.distillation(student_logits, teacher_logits, labels, setting) * jnp.inf

    (state, _), before, *_ = one_step((4.0, 1.0, 0.1), objective=broken)
    assert int(state.failed_at) == 0 and int(state.step) == 1
    jax.tree.map(np.testing.assert_array_equal, state.params, before.params)


def test_the_first_failure_is_the_one_that_is_told_and_nothing_moves_after_it():
    def broken(student_logits, teacher_logits, labels, setting):
        return objectives.distillation(student_logits, teacher_logits, labels, setting) / setting.soft_weight

    model = models.network(small.config(network="small", hidden=(8,)), (8, 8, 3), small.CLASSES)
    config = small.config(network="small", hidden=(8,), average=0.9, schedule="constant")
    step = jax.jit(small.step_of(model, config, broken))
    params, model_state = model.init(jax.random.key(0))
    moments = optimizers.make_optimizer(config, 4).init(params)
    state = train.State(params, model_state, moments, jnp.int32(0), params, jnp.int32(-1))
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.uint8))
    batch = train.Batch(images, *(array[:16] for array in small.transfer_set()[1:3]), jax.random.key(0))
    settings = [objectives.Setting(*map(jnp.float32, (4.0, weight, 0.1))) for weight in (0.5, 0.0, 0.0, 0.5)]
    states = []
    for setting in settings:
        state, _ = step(state, batch, setting)
        states.append(state)
    assert [int(state.failed_at) for state in states] == [-1, 1, 1, 1]
    for kept in ("params", "model_state", "averaged"):
        for later in states[1:]:
            jax.tree.map(np.testing.assert_array_equal, getattr(later, kept), getattr(states[0], kept))


def test_the_error_rate_is_that_of_the_batch():
    (_, metrics), before, batch, model = one_step((4.0, 1.0, 0.1))
    logits, _ = model.apply(before.params, {}, batch.images / 255, True, None)
    wrong = float((logits.argmax(-1) != batch.labels).mean())
    assert float(metrics.error_rate) == pytest.approx(wrong) and 0.5 < wrong < 1


def test_schedule_warms_up_and_ends_near_zero():
    schedule = optimizers.make_schedule(small.config(epochs=10), 100)
    rates = np.array([schedule(step) for step in range(1000)])
    assert rates[0] < 0.02 and rates[:101].argmax() == 100 and rates[100] == pytest.approx(1)
    assert (np.diff(rates[100:]) <= 0).all() and rates[-1] < 1e-5
    assert [float(optimizers.make_schedule(small.config(schedule="constant"), 4)(step)) for step in (0, 7)] == [1, 1]


@pytest.mark.parametrize(("schedule", "halfway"), [("linear", 2.5), ("cosine", 2.5), ("constant", 4.0)])
def test_a_temperature_schedule_ends_at_the_last_temperature(schedule, halfway):
    changed = {} if schedule == "constant" else {"last_temperature": 1.0, "temperature_schedule": schedule}
    at = train.make_temperature_schedule(small.config(epochs=10, **changed), 101)
    values = [float(at(jnp.float32(4.0), jnp.float32(step))) for step in (0, 504.5, 1009, 2000)]
    last = 4.0 if schedule == "constant" else 1.0
    assert values == pytest.approx([4.0, halfway, last, last], rel=1e-6)
    quarter = {"linear": 3.25, "cosine": 4 - 3 * (1 - 0.5**0.5) / 2, "constant": 4.0}[schedule]
    assert float(at(jnp.float32(4.0), jnp.float32(1009 / 4))) == pytest.approx(quarter, rel=1e-5)


def test_a_step_has_the_temperature_of_its_schedule():
    config, *_ = compiled_step(objectives.distillation, temperature_schedule="linear", last_temperature=2.0)
    last = config.epochs * (len(small.transfer_set().images) // config.batch_size) - 1
    changing = {"temperature_schedule": "linear", "last_temperature": 2.0, "schedule": "constant"}
    for setting, steps in ((8.0, 0), (2.0, last), (8.0 + (2.0 - 8.0) / last, 1)):
        (found, _), *_ = one_step((8.0, 1.0, 0.1), steps=steps, optimizer="sgd", **changing)
        (wanted, _), *_ = one_step((setting, 1.0, 0.1), optimizer="sgd", schedule="constant")
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found.params, wanted.params)


def test_purposes_and_seeds_have_different_keys():
    keys = {
        tuple(np.asarray(jax.random.key_data(train.run_key(seed, purpose))))
        for seed in range(5)
        for purpose in train.Purpose
    }
    assert len(keys) == 5 * len(train.Purpose)


def test_step_over_a_divided_batch_equals_one_device():
    # SGD, since Adam amplifies the rounding of gradients that are truly zero.
    config = small.config(optimizer="sgd", hidden_dropout=0.5, input_dropout=0.2, jitter=1)
    model = models.network(config, small.SHAPE, small.CLASSES)
    params, model_state = initial()
    state = train.State(
        params, model_state, optimizers.make_optimizer(config, 4).init(params), jnp.int32(0), None, jnp.int32(-1)
    )
    setting = objectives.Setting(*map(jnp.float32, (4.0, 0.9, 0.05)))
    data = small.transfer_set()
    single = jax.jit(small.step_of(model, config))
    over = jax.pmap(
        small.step_of(model, config, axis_name="batch"),
        axis_name="batch",
        in_axes=(None, train.Batch(0, 0, 0, None), None),
        out_axes=None,
    )
    alone = divided = state
    for index in range(10):
        rows = (jnp.arange(16) + 5 * index) % small.IMAGES
        taken = [array[rows] for array in data[:3]]
        key = jax.random.fold_in(jax.random.key(9), index)
        alone, loss_alone = single(alone, train.Batch(*taken, key), setting)
        parts = [array.reshape(4, 4, *array.shape[1:]) for array in taken]
        divided, loss_divided = over(divided, train.Batch(*parts, key), setting)
        np.testing.assert_allclose(loss_alone.loss, loss_divided.loss, rtol=1e-5)
    difference = optax.tree.norm(jax.tree.map(jnp.subtract, alone.params, divided.params))
    assert difference <= 1e-5 * optax.tree.norm(alone.params)
