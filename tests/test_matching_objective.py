"""Gradients matched in norm to a reference temperature, and the placebo; what plain SGD conserves and Adam does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import blocks, losses, models, objectives, optimizers, train
from tests import small

REFERENCE = 4.0
COLD = 0.5


def batch(**changes):
    return train.Batch(*(array[:16] for array in small.transfer_set()[:3]), jax.random.key(0))._replace(**changes)


def matched(reference, placebo=False):
    """The objective, or its placebo, at a reference temperature."""
    loss = objectives.loss_of("placebo" if placebo else "matched")

    def at_reference(z, v, labels, setting):
        own = {"reference": jnp.full_like(setting.temperature, reference)}
        return loss(z, v, labels, setting._replace(hyperparameters=own))

    return at_reference


def soft_gradient(objective, temperature, weight=1.0, given=None):
    """The gradient in the logits of the batch's summed loss."""
    given = given or batch()
    setting = objectives.Setting(*(jnp.float32(value) for value in (temperature, weight, 0.1)))
    logits = jax.random.normal(jax.random.key(3), given.teacher_logits.shape) * 2
    return jax.grad(lambda z: objective(z, given.teacher_logits, given.labels, setting).sum())(logits), logits


@pytest.mark.parametrize("temperature", [COLD, 20.0, np.inf])
@pytest.mark.parametrize("reference", [REFERENCE, np.inf])
def test_matched_has_the_direction_of_its_temperature_and_the_norm_of_the_reference(temperature, reference):
    plain, _ = soft_gradient(objectives.distillation, temperature)
    wanted, _ = soft_gradient(objectives.distillation, reference)
    own, _ = soft_gradient(matched(reference), temperature)
    placebo, _ = soft_gradient(matched(reference, placebo=True), temperature)
    np.testing.assert_allclose(own, plain * jnp.linalg.norm(wanted) / jnp.linalg.norm(plain), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(placebo, wanted * jnp.linalg.norm(plain) / jnp.linalg.norm(wanted), rtol=1e-4, atol=1e-6)


def test_at_the_reference_both_are_plain():
    plain, _ = soft_gradient(objectives.distillation, REFERENCE, weight=0.7)
    for placebo in (False, True):
        found, _ = soft_gradient(matched(REFERENCE, placebo), REFERENCE, weight=0.7)
        np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-7)


def test_only_the_soft_term_is_scaled():
    hard, logits = soft_gradient(matched(REFERENCE), COLD, weight=0.0)
    np.testing.assert_allclose(hard, jax.nn.softmax(logits) - jax.nn.one_hot(batch().labels, 10), atol=1e-6)
    mixed, _ = soft_gradient(matched(REFERENCE), COLD, weight=0.3)
    soft, _ = soft_gradient(matched(REFERENCE), COLD)
    np.testing.assert_allclose(mixed, 0.3 * soft + 0.7 * hard, rtol=1e-4, atol=1e-6)


def test_a_student_that_is_its_teacher_has_no_gradient():
    _, logits = soft_gradient(objectives.distillation, COLD)
    for placebo in (False, True):
        found, _ = soft_gradient(matched(REFERENCE, placebo), COLD, given=batch(teacher_logits=logits))
        assert (found == 0).all()


def moved(objective, optimizer, steps=1, scale=1.0, temperature=COLD):
    """How far a network gets in a few steps of constant rate on one batch of soft targets."""
    config = small.config(optimizer=optimizer, schedule="constant")
    model = models.network(config, small.SHAPE, small.CLASSES)
    params, model_state = model.init(jax.random.key(0))
    state = train.State(
        params, model_state, optimizers.make_optimizer(config, 4).init(params), jnp.int32(0), None, jnp.int32(-1)
    )
    scaled = lambda *given: scale * objective(*given)  # noqa: E731
    step = jax.jit(small.step_of(model, config, scaled))
    for _ in range(steps):
        state, _ = step(state, batch(), objectives.Setting(*map(jnp.float32, (temperature, 1.0, 1e-3))))
    return jnp.concatenate(
        [jnp.ravel(leaf) for leaf in jax.tree.leaves(jax.tree.map(jnp.subtract, state.params, params))]
    )


def far(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.parametrize("placebo", [False, True])
def test_adam_takes_the_same_step_and_sgd_does_not(placebo):
    temperature, reference = (REFERENCE, COLD) if placebo else (COLD, REFERENCE)
    found = {
        optimizer: far(
            moved(matched(reference, placebo), optimizer, temperature=temperature),
            moved(objectives.distillation, optimizer, temperature=COLD),
        )
        for optimizer in ("adam", "sgd")
    }
    assert found["adam"] < 2e-3  # eps beside a few tiny gradients
    assert found["sgd"] > 0.1


def test_adam_ignores_a_constant_factor_for_any_number_of_steps():
    assert (
        far(moved(objectives.distillation, "adam", 20, scale=10.0), moved(objectives.distillation, "adam", 20)) < 1e-2
    )
    assert far(moved(objectives.distillation, "sgd", 20, scale=10.0), moved(objectives.distillation, "sgd", 20)) > 1


def test_a_block_of_matched_settings_is_each_setting_alone():
    config = small.config(optimizer="sgd")
    model = models.network(config, small.SHAPE, small.CLASSES)
    setting = small.settings(learning_rates=(0.05,) * 4)
    program = blocks.make_program(model, config, small.IMAGES, 4, matched(REFERENCE))
    together = small.train(program, setting, epochs=1).state.params
    alone = blocks.make_program(model, config, small.IMAGES, 1, matched(REFERENCE))
    first = small.train(alone, jax.tree.map(lambda values: values[:1], setting), epochs=1).state.params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b[0], rtol=1e-3, atol=1e-5), together, first)
    at_reference = small.train(small.program(optimizer="sgd"), setting, epochs=1).state.params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b[1], rtol=1e-3, atol=1e-5), together, at_reference)


def output_means(optimizer, objective=objectives.distillation):
    """How far the output layer's class means moved in training, and how far its weights did."""
    config = small.config(optimizer=optimizer, epochs=4)
    model = models.network(config, small.SHAPE, small.CLASSES)
    program = blocks.make_program(model, config, small.IMAGES, 4, objective)
    setting = small.settings(learning_rates=(1e-2,) * 4)
    begin = jax.tree.map(np.asarray, program.init(0).params["dense_2"])
    end = jax.tree.map(np.asarray, small.train(program, setting, epochs=4).state.params["dense_2"])
    change = {name: end[name] - begin[name] for name in ("kernel", "bias")}
    drift = {name: np.abs(values.mean(axis=-1)).max() for name, values in change.items()}
    return drift, {name: np.abs(values).max() for name, values in change.items()}


def test_sgd_conserves_the_class_mean_of_the_output_layer_and_adam_does_not():
    drift, change = output_means("sgd")
    for name in ("kernel", "bias"):
        assert change[name] > 1e-2
        assert drift[name] < 1e-6 * max(1, change[name])
    drift, change = output_means("adam")
    for name in ("kernel", "bias"):
        assert drift[name] > 1e-2 * change[name]


def test_a_plain_mse_moves_the_class_mean_under_sgd():
    drift, change = output_means("sgd", lambda z, v, *_: losses.logit_matching_loss(z, v))
    assert drift["bias"] > 1e-2 * change["bias"]
