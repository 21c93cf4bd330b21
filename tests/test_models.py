"""The MLP: sizes, dropout, norms; and against the same network written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.config import TrainConfig

SHAPE = (4, 4, 1)


def build(**options):
    return models.mlp(TrainConfig(hidden=(12, 8), epochs=1, batch_size=4, **options), SHAPE, 5)


def test_parameter_counts_of_the_papers_networks():
    for hidden, count in (((1200, 1200), 2_395_210), ((800, 800), 1_276_810), ((30, 30), 24_790)):
        model = models.mlp(TrainConfig(hidden=hidden, epochs=1, batch_size=1), (28, 28, 1), 10)
        assert models.parameter_count(model) == count


def test_logits_equal_the_network_written_by_hand():
    model = build()
    params, model_state = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
    logits, after = model.apply(params, model_state, images, False)
    assert after == model_state == {}
    units = np.asarray(images).reshape(6, 16)
    units = np.maximum(units @ np.asarray(params["dense_0"]["kernel"]).T + np.asarray(params["dense_0"]["bias"]), 0)
    units = np.maximum(units @ np.asarray(params["dense_1"]["kernel"]) + np.asarray(params["dense_1"]["bias"]), 0)
    expected = units @ np.asarray(params["dense_2"]["kernel"]) + np.asarray(params["dense_2"]["bias"])
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    assert (np.asarray(logits) < 0).any()  # no ReLU on the logits


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_keeps_the_mean_and_drops_at_the_rate(rate):
    units = jnp.ones((400, 101))
    kept = np.asarray(models.dropout(jax.random.key(0), units, rate))
    rounded = round(rate * 256) / 256
    assert abs((kept == 0).mean() - rounded) < 0.01
    np.testing.assert_allclose(kept[kept > 0], 1 / (1 - rounded), rtol=1e-6)
    assert abs(kept.mean() - 1) < 0.02


def test_dropout_masks_are_independent_between_units_and_examples():
    kept = np.asarray(models.dropout(jax.random.key(0), jnp.ones((2000, 64)), 0.5)) > 0
    correlations = np.corrcoef(kept.T)[np.triu_indices(64, 1)]
    assert np.abs(correlations).max() < 0.12  # 4.6 standard errors of 1/√2000, over 2,016 pairs


def test_dropout_is_drawn_per_global_example():
    units = jnp.ones((32, 10))
    whole = models.dropout(jax.random.key(2), units, 0.5)
    divided = jax.pmap(lambda part: models.dropout(jax.random.key(2), part, 0.5, "batch"), axis_name="batch")(
        units.reshape(4, 8, 10)
    )
    np.testing.assert_array_equal(np.asarray(divided).reshape(32, 10), whole)


def test_evaluation_ignores_the_key_and_training_does_not():
    model = build(hidden_dropout=0.5, input_dropout=0.2)
    params, model_state = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
    quiet = [model.apply(params, model_state, images, False, jax.random.key(seed))[0] for seed in (1, 2)]
    noisy = [model.apply(params, model_state, images, True, jax.random.key(seed))[0] for seed in (1, 2)]
    np.testing.assert_array_equal(*quiet)
    assert not np.allclose(*noisy)


def test_norms_of_incoming_weights_are_bounded_in_hidden_layers_only():
    model = build()
    params, _ = model.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: 5 * leaf, params)
    bounded = model.bound_norms(params, 1.5)
    for layer, axis in ((0, 1), (1, 0)):
        before = np.linalg.norm(params[f"dense_{layer}"]["kernel"], axis=axis)
        after = np.linalg.norm(bounded[f"dense_{layer}"]["kernel"], axis=axis)
        assert (before > 1.5).any()
        np.testing.assert_allclose(after, np.minimum(before, 1.5), rtol=1e-5)
    np.testing.assert_array_equal(bounded["dense_2"]["kernel"], params["dense_2"]["kernel"])


def test_operations_of_a_step_match_the_compilers_count():
    # Without a bias, ReLU and loss the compiler counts little but the products; they are 98 % of the rest.
    config = TrainConfig(hidden=(256, 256), epochs=1, batch_size=128)
    model = models.mlp(config, (28, 28, 1), 10)
    params, model_state = model.init(jax.random.key(0))

    def loss(params, images):
        return jnp.sum(model.apply(params, model_state, images, True, None)[0] ** 2)

    images = jnp.zeros((128, 28, 28, 1))
    counted = jax.jit(jax.grad(loss)).lower(params, images).compile().cost_analysis()["flops"]
    assert models.step_flops(model, config.hidden, 128) == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("axis", [0, 1])
def test_bfloat16_products_sum_rounded_operands_in_float32(axis):
    keys = jax.random.split(jax.random.key(0), 3)
    units, kernel, upstream = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys, ((6, 400), (400, 5) if axis == 0 else (5, 400), (6, 5)), strict=True)
    )
    product, pullback = jax.vjp(
        lambda *both: models.bfloat16_product(*both, (((1,), (axis,)), ((), ()))), units, kernel
    )
    exact_units, exact_kernel, exact_upstream = (
        np.asarray(array.astype(jnp.bfloat16), np.float64) for array in (units, kernel, upstream)
    )
    matrix = exact_kernel if axis == 0 else exact_kernel.T
    np.testing.assert_allclose(product, exact_units @ matrix, rtol=1e-5, atol=1e-4)
    of_units, of_kernel = pullback(upstream)
    np.testing.assert_allclose(of_units, exact_upstream @ matrix.T, rtol=1e-5, atol=1e-4)
    expected = exact_units.T @ exact_upstream
    np.testing.assert_allclose(of_kernel, expected if axis == 0 else expected.T, rtol=1e-5, atol=1e-4)
    assert all(array.dtype == jnp.float32 for array in (product, of_units, of_kernel))
    assert (
        np.abs(product - np.asarray(units) @ (np.asarray(kernel) if axis == 0 else np.asarray(kernel).T)).max() > 1e-3
    )


def test_a_network_of_bfloat16_products_keeps_float32_weights():
    exact, rounded = build(), build(precision="bfloat16")
    params, _ = rounded.init(jax.random.key(0))
    same = jax.tree.map(np.array_equal, params, exact.init(jax.random.key(0))[0])
    assert jax.tree.all(same) and all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    images = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
    logits = [model.apply(params, {}, images, False)[0] for model in (exact, rounded)]
    assert logits[1].dtype == jnp.float32
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.1
