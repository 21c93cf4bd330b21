"""Networks: sizes, dropout, norms, operations; and against the same networks written by hand."""

import functools

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import layers, models
from kdjax.config import NETWORKS, NetworkSpec, TrainConfig, register_network
from kdjax.errors import BadInput
from kdjax.models import flops

SHAPE = (4, 4, 1)


def build(**options):
    return models.network(TrainConfig(hidden=(12, 8), epochs=1, batch_size=4, **options), SHAPE, 5)


def test_parameter_counts_of_the_papers_networks():
    for hidden, count in (((1200, 1200), 2_395_210), ((800, 800), 1_276_810), ((30, 30), 24_790)):
        model = models.network(TrainConfig(hidden=hidden, epochs=1, batch_size=1), (28, 28, 1), 10)
        assert models.parameter_count(model) == count


def test_a_network_that_cannot_bound_norms_refuses_a_recipe_with_max_norm(monkeypatch):
    monkeypatch.setattr("kdjax.config.network.NETWORKS", NETWORKS.copy())
    register_network(NetworkSpec("unbounded", 2, lambda *_: build()._replace(bound_norms=None), "mine"))
    assert build(network="unbounded").bound_norms is None
    with pytest.raises(BadInput, match="the unbounded network has no max-norm: give --max-norm 0"):
        build(network="unbounded", max_norm=2.0)


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
    kept = np.asarray(layers.dropout(jax.random.key(0), units, rate))
    rounded = round(rate * 256) / 256
    assert abs((kept == 0).mean() - rounded) < 0.01
    np.testing.assert_allclose(kept[kept > 0], 1 / (1 - rounded), rtol=1e-6)
    assert abs(kept.mean() - 1) < 0.02


def test_dropout_masks_are_independent_between_units_and_examples():
    kept = np.asarray(layers.dropout(jax.random.key(0), jnp.ones((2000, 64)), 0.5)) > 0
    correlations = np.corrcoef(kept.T)[np.triu_indices(64, 1)]
    assert np.abs(correlations).max() < 0.12  # 4.6 standard errors of 1/√2000, over 2,016 pairs


def test_dropout_is_drawn_per_global_example():
    units = jnp.ones((32, 10))
    whole = layers.dropout(jax.random.key(2), units, 0.5)
    divided = jax.pmap(lambda part: layers.dropout(jax.random.key(2), part, 0.5, "batch"), axis_name="batch")(
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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_operations_of_a_multi_layer_perceptron_by_hand(precision):
    model = build(precision=precision)
    products = 16 * 12 + 12 * 8 + 8 * 5
    assert models.forward_flops(model) == 2 * products
    assert models.step_flops(model, 3) == 3 * 2 * (3 * products - 16 * 12)  # nobody needs the gradient of the images


def test_operations_of_a_step_match_the_compilers_count():
    # Without a bias, ReLU and loss the compiler counts little but the products; they are 98 % of the rest.
    config = TrainConfig(hidden=(256, 256), epochs=1, batch_size=128)
    model = models.network(config, (28, 28, 1), 10)
    params, model_state = model.init(jax.random.key(0))

    def loss(params, images):
        return jnp.sum(model.apply(params, model_state, images, True, None)[0] ** 2)

    images = jnp.zeros((128, 28, 28, 1))
    compiled = jax.jit(jax.grad(loss)).lower(params, images).compile().cost_analysis()["flops"]
    assert models.step_flops(model, 128) == pytest.approx(compiled, rel=0.02)


def convolved(images, kernel, stride=1, apart=1, groups=1):
    return jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        "SAME",
        rhs_dilation=(apart, apart),
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def conv_and_dense(config, input_shape, num_classes):
    """One 3×3 convolution (3 → 2 channels), one dense layer: a network as a user would register it."""

    def init(key):
        kernel, dense = jax.random.split(key)
        inputs = 2 * input_shape[0] * input_shape[1]
        return {
            "kernel": jax.random.normal(kernel, (3, 3, input_shape[2], 2)),
            "dense": jax.random.normal(dense, (inputs, num_classes)),
        }, {}

    def apply(params, model_state, images, train, key=None, axis_name=None):
        units = jax.nn.relu(convolved(images, params["kernel"]))
        return units.reshape(len(units), -1) @ params["dense"], model_state

    return models.Model(init, apply, lambda params, bound: params, input_shape, num_classes, side_by_side=False)


def test_a_network_can_be_registered_from_outside(monkeypatch):
    monkeypatch.setattr("kdjax.config.network.NETWORKS", NETWORKS.copy())
    with pytest.raises(BadInput, match="--network convdense is unknown: there are mlp, small, big"):
        TrainConfig(hidden=(), epochs=1, batch_size=4, network="convdense")
    register_network(NetworkSpec("convdense", 0, conv_and_dense, "mine"))
    model = models.network(TrainConfig(hidden=(), epochs=1, batch_size=4, network="convdense"), (4, 5, 3), 7)
    assert models.parameter_count(model) == 3 * 3 * 3 * 2 + 40 * 7
    # Along 4 pixels a 3×3 kernel has 3·4 − 2 = 10 taps inside the image, along 5 it has 13. The kernel's gradient has
    # as many products, and there is none of the images.
    convolution, dense = 10 * 13 * 3 * 2, 40 * 7
    assert models.forward_flops(model) == 2 * (convolution + dense)
    assert models.step_flops(model, 4) == 4 * 2 * (2 * convolution + 3 * dense)


@pytest.mark.parametrize("stride, apart, groups", [(1, 1, 1), (2, 1, 1), (1, 2, 1), (3, 2, 1), (1, 1, 2), (2, 1, 4)])
@pytest.mark.parametrize("gradient", [False, True])
def test_multiplications_of_a_convolution_are_those_with_pixels(stride, apart, groups, gradient):
    images, kernel = jnp.ones((2, 7, 6, 4)), jnp.ones((3, 3, 4 // groups, 8))

    def sums(images, kernel):
        return jnp.sum(convolved(images, kernel, stride, apart, groups))

    # With ones for pixels and weights, each multiplication adds 1 to the sum; so it does in the gradient of each input.
    expected = float(sums(images, kernel)) * (3 if gradient else 1)
    traced = jax.make_jaxpr(jax.value_and_grad(sums, (0, 1)) if gradient else sums)(images, kernel)
    assert flops.count(traced.jaxpr) == expected


def test_multiplications_inside_loops_and_branches():
    matrix = jnp.ones((3, 3))

    def looped(matrix, flag):
        once = jax.jit(lambda total: total @ matrix)
        total, _ = jax.lax.scan(lambda total, _: (once(total), None), matrix, length=5)
        return jax.lax.cond(flag, lambda: total @ matrix @ matrix, lambda: total)

    assert flops.count(jax.make_jaxpr(looped)(matrix, True).jaxpr) == (5 + 2) * 27


@pytest.mark.parametrize("axis", [0, 1])
def test_bfloat16_products_sum_rounded_operands_in_float32(axis):
    keys = jax.random.split(jax.random.key(0), 3)
    units, kernel, upstream = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys, ((6, 400), (400, 5) if axis == 0 else (5, 400), (6, 5)), strict=True)
    )
    product, pullback = jax.vjp(
        lambda *both: layers.product(*both, (((1,), (axis,)), ((), ())), rounded=True), units, kernel
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


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_products_of_a_block_are_those_of_each_of_its_networks(axis, shared, rounded):
    shapes = ((6, 40) if shared else (3, 6, 40), (3, 40, 5) if axis == 0 else (3, 5, 40), (3, 6, 5))
    keys = jax.random.split(jax.random.key(0), 3)
    units, kernels, upstream = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))

    def both(units, kernel, upstream, product):
        outputs, pullback = jax.vjp(lambda *operands: product(*operands, (((1,), (axis,)), ((), ()))), units, kernel)
        return outputs, *pullback(upstream)

    own = functools.partial(layers.product, rounded=rounded)
    in_block = jax.vmap(functools.partial(both, product=own), (None if shared else 0, 0, 0))(units, kernels, upstream)
    for index in range(3):
        alone = both(units if shared else units[index], kernels[index], upstream[index], own)
        for found, expected in zip(in_block, alone, strict=True):
            np.testing.assert_allclose(found[index], expected, rtol=1e-5, atol=1e-5)
    exact = both(units if shared else units[0], kernels[0], upstream[0], jax.lax.dot_general)
    for found, expected in zip(in_block, exact, strict=True):
        np.testing.assert_allclose(found[0], expected, atol=0.3 if rounded else 1e-4)


def test_a_network_of_bfloat16_products_keeps_float32_weights():
    exact, rounded = build(), build(precision="bfloat16")
    params, _ = rounded.init(jax.random.key(0))
    same = jax.tree.map(np.array_equal, params, exact.init(jax.random.key(0))[0])
    assert jax.tree.all(same) and all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    images = jax.random.uniform(jax.random.key(1), (6, *SHAPE))
    logits = [model.apply(params, {}, images, False)[0] for model in (exact, rounded)]
    assert logits[1].dtype == jnp.float32
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.1


def cnn(network="small", width=16, shape=(8, 8, 3), **options):
    recipe = TrainConfig(hidden=(width,), epochs=1, batch_size=4, network=network, **options)
    return models.network(recipe, shape, 10)


@functools.cache
def compiled(network="small", width=16, **options):
    """The network for 8×8 pixels with its functions compiled: operation by operation they would take ten times as
    long."""
    model = cnn(network, width, **options)
    return model._replace(init=jax.jit(model.init), apply=jax.jit(model.apply, static_argnums=3))


def fifty_images():
    return jax.random.uniform(jax.random.key(1), (50, 8, 8, 3))


@pytest.mark.parametrize(
    "name, units, count, trainable", [("small", 256, 770_378, 769_162), ("big", 512, 3_844_938, 3_841_610)]
)
def test_parameter_counts_of_the_blog_posts_networks(name, units, count, trainable):
    model = cnn(name, units, (32, 32, 3))
    params, model_state = jax.eval_shape(model.init, jax.random.key(0))
    assert models.parameter_count(model) == count
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == trainable
    assert sum(leaf.size for leaf in jax.tree.leaves(model_state)) == count - trainable


def test_convolution_pooling_and_their_gradients_are_those_of_the_libraries():
    keys = jax.random.split(jax.random.key(0), 2)
    for channels in (3, 5):
        images = jax.random.normal(keys[0], (4, 7, 6, channels))
        kernel = jax.random.normal(keys[1], (3, 3, channels, 8))

        def ours(images, kernel):
            return layers.max_pool(layers.convolve(images, kernel))

        def theirs(images, kernel):
            layer = nn.Conv(8, (3, 3), use_bias=False, precision="highest")
            return nn.max_pool(layer.apply({"params": {"kernel": kernel}}, images), (2, 2), (2, 2))

        found, expected = (jax.vjp(function, images, kernel) for function in (ours, theirs))
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
        upstream = jax.random.normal(jax.random.key(3), found[0].shape)
        for mine, wanted in zip(found[1](upstream), expected[1](upstream), strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-4)


def test_ties_in_pooling_share_the_gradient():
    square = jnp.array([[3.0, 3.0], [1.0, 3.0]])[None, :, :, None]
    gradient = jax.grad(lambda units: 6.0 * jnp.sum(layers.max_pool(units)))(square)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[2.0, 2.0], [0.0, 2.0]])


def by_hand(params, state, images):
    """The small network in evaluation, in numpy and the library's own convolution."""
    params, state = jax.tree.map(np.asarray, (params, state))

    def normalised(units, name):
        norm, kept = params[f"norm_{name}"], state["batch_stats"][f"norm_{name}"]
        units = (units - kept["mean"]) / np.sqrt(kept["var"] + 1e-3) * norm["scale"] + norm["bias"]
        return np.where(units > 0, units, 0.1 * units)

    units = np.asarray(images)
    for layer, pooled in enumerate((True, True, False, True)):
        dimensions = ("NHWC", "HWIO", "NHWC")
        kernel = params[f"kernel_{layer}"]
        units = jax.lax.conv_general_dilated(units, kernel, (1, 1), "SAME", dimension_numbers=dimensions)
        units = normalised(np.asarray(units) + params[f"bias_{layer}"], layer)
        if pooled:
            batch, height, width, channels = units.shape
            units = units.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    dense, logits = params["hidden"], params["logits"]
    units = normalised(units.reshape(len(units), -1) @ dense["kernel"] + dense["bias"], "hidden")
    return units @ logits["kernel"] + logits["bias"]


def moved(tree, seed):
    """Every leaf away from where it starts; what is positive stays so."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf * random.uniform(0.5, 1.5, leaf.shape) + random.uniform(0, 0.2, leaf.shape), tree
    )


def test_logits_of_the_small_network_equal_those_by_hand():
    model, images = compiled(), fifty_images()
    params, state = model.init(jax.random.key(0))
    params, state = moved(params, 0), moved(state, 1)
    logits, after = model.apply(params, state, images, False)
    np.testing.assert_allclose(logits, by_hand(params, state, images), rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_batch_statistics_move_by_a_hundredth_in_training_and_not_in_evaluation():
    model, images = compiled(), fifty_images()
    params, state = model.init(jax.random.key(0))
    _, after = model.apply(params, state, images, True, jax.random.key(2))
    first = layers.convolve(images, params["kernel_0"]) + params["bias_0"][None, None, None]
    kept = after["batch_stats"]["norm_0"]
    np.testing.assert_allclose(kept["mean"], 0.01 * first.mean((0, 1, 2)), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(kept["var"], 0.99 + 0.01 * first.var((0, 1, 2)), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, model.apply(params, after, images, False)[1], after)
    # In training the batch's own statistics are used: those kept do not matter.
    same = [model.apply(params, kept, images, True, None)[0] for kept in (state, after)]
    np.testing.assert_array_equal(*same)


def test_with_the_statistics_of_a_batch_evaluation_and_training_agree_on_it():
    model, images = compiled(), fifty_images()
    params, state = model.init(jax.random.key(0))
    found = models.batch_statistics(model, params, jax.tree.map(jnp.zeros_like, state), images)
    asked = [model.apply(params, found, images, train)[0] for train in (False, True)]
    np.testing.assert_allclose(*asked, rtol=1e-4, atol=1e-5)
    other = models.batch_statistics(model, params, moved(state, 1), images)  # what was kept does not matter
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, other)


def test_under_dropout_the_variances_behind_it_are_larger():
    model, images = compiled(), fifty_images()
    params, state = model.init(jax.random.key(0))
    dropped, clean = (
        models.batch_statistics(model, params, state, images, key)["batch_stats"] for key in (jax.random.key(2), None)
    )
    np.testing.assert_allclose(dropped["norm_0"]["var"], clean["norm_0"]["var"])  # before the first dropout
    for name in ("norm_1", "norm_2", "norm_hidden"):
        assert dropped[name]["var"].mean() > 1.2 * clean[name]["var"].mean()


def test_dropout_after_the_last_batch_norm_changes_no_batch_statistics():
    model, images = compiled("small_after_norm"), fifty_images()
    params, state = model.init(jax.random.key(0))
    (_, dropped), (_, clean) = (model.apply(params, state, images, True, key) for key in (jax.random.key(2), None))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), dropped, clean)
    # In evaluation, and in training without dropout, it is the network `small`.
    small = compiled()
    jax.tree.map(np.testing.assert_array_equal, (params, state), small.init(jax.random.key(0)))
    params, state = moved(params, 0), moved(state, 1)
    for train in (False, True):
        asked = [one.apply(params, state, images, train)[0] for one in (model, small)]
        np.testing.assert_allclose(*asked, rtol=1e-5, atol=1e-6)
    # The mask is of hidden units: with the logits' kernel the identity, each is 0 or 256/179 of what it was.
    identity = {**params, "logits": {"kernel": jnp.eye(16, 10), "bias": jnp.zeros(10)}}
    noisy, quiet = (np.array(model.apply(identity, state, images, True, key)[0]) for key in (jax.random.key(2), None))
    kept = noisy != 0
    assert abs(kept.mean() - 179 / 256) < 0.06
    np.testing.assert_allclose(noisy[kept], 256 / 179 * quiet[kept], rtol=1e-5)


@pytest.mark.parametrize("name", ["small", "small_after_norm"])
def test_dropout_of_the_convolutional_network_is_for_training_only(name):
    model, images = compiled(name), fifty_images()
    params, state = model.init(jax.random.key(0))
    noisy = [model.apply(params, state, images, True, jax.random.key(seed))[0] for seed in (1, 2)]
    quiet = [model.apply(params, state, images, False, jax.random.key(seed))[0] for seed in (1, 2)]
    assert not np.allclose(*noisy)
    np.testing.assert_array_equal(*quiet)


def by_hand_flops(stages, units, size=32, inputs=3):
    """(forward, step) of one image on a CPU, layer by layer.

    A convolution has `3n − 2` taps inside an image of n pixels along each axis. The first, of few channels, is a
    product over all nine neighbours, and so is every kernel's gradient.
    """
    forward = step = 0
    for layer, stage in enumerate(stages):
        for number, outputs in enumerate(stage):
            inside, nine = (3 * size - 2) ** 2 * inputs * outputs, 9 * size**2 * inputs * outputs
            first = layer == number == 0
            forward += nine if first else inside
            step += 2 * nine if first else 2 * inside + nine
            inputs = outputs
        size //= 2
    dense = size**2 * inputs * units + units * 10
    return 2 * (forward + dense), 2 * (step + 3 * dense)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "name, units, stages",
    [
        ("small", 256, ((32,), (64,), (128, 128))),
        ("big", 128, ((16, 16), (32, 32), (64, 64, 64))),
    ],
)
def test_operations_of_the_convolutional_networks_by_hand(name, units, stages, precision):
    model = cnn(name, units, (32, 32, 3), precision=precision)
    forward, step = by_hand_flops(stages, units)
    assert models.forward_flops(model) == forward
    assert models.step_flops(model, 16) == 16 * step


@pytest.mark.parametrize("name, units", [("small", 256), ("big", 128)])
def test_operations_of_a_convolutional_step_match_the_compilers_count(name, units, monkeypatch):
    # As a convolution: the compiler counts a loop over a few images at a time once.
    whole = ("CHWN", "IHWO", "HWNC")
    monkeypatch.setattr(layers, "_kernel_gradient", lambda *both: layers._float32_convolution(*both, whole))
    flops._multiplications.cache_clear()
    # The compiler counts batch norm, LeakyReLU, pooling and the loss too.
    model = cnn(name, units, (32, 32, 3))
    params, state = model.init(jax.random.key(0))

    def loss(params, images):
        return jnp.sum(model.apply(params, state, images, True, None)[0] ** 2)

    lowered = jax.jit(jax.grad(loss)).lower(params, jnp.zeros((16, 32, 32, 3)))
    assert models.step_flops(model, 16) == pytest.approx(lowered.cost_analysis()["flops"], rel=0.06)
    flops._multiplications.cache_clear()


@pytest.mark.parametrize("name", ["small", "big"])
def test_convolutional_networks_in_bfloat16(name):
    exact, rounded = compiled(name, 64), compiled(name, 64, precision="bfloat16")
    params, state = rounded.init(jax.random.key(0))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((params, state)))
    images = jax.random.uniform(jax.random.key(1), (16, 8, 8, 3))

    def outcome(model):
        def loss(params, images):
            logits, after = model.apply(params, state, images, True, jax.random.key(2))
            return jnp.mean(logits**2), (logits, after)

        gradients, (logits, after) = jax.jit(jax.grad(loss, has_aux=True))(params, images)
        return gradients, logits, after

    (gradients, logits, after), (rough, rough_logits, rough_after) = outcome(exact), outcome(rounded)
    assert rough_logits.dtype == jnp.float32 and 0 < np.abs(logits - rough_logits).max() < 0.1
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((rough, rough_after)))
    flat, rough_flat = (jax.flatten_util.ravel_pytree(tree)[0] for tree in (gradients, rough))
    cosine = jnp.vdot(flat, rough_flat) / jnp.linalg.norm(flat) / jnp.linalg.norm(rough_flat)
    assert 0.98 < float(cosine) < 1 - 1e-7
    for statistics, rough in zip(*map(jax.tree.leaves, (after, rough_after)), strict=True):
        np.testing.assert_allclose(statistics, rough, rtol=0.05, atol=0.02)


def test_a_kernels_gradient_does_not_depend_on_how_many_images_are_handled_at_a_time(monkeypatch):
    images, kernel = (
        jax.random.normal(jax.random.key(0), (12, 5, 6, 8)),
        jax.random.normal(jax.random.key(1), (3, 3, 8, 4)),
    )

    def library(kernel):
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=axes, precision="highest")

    expected = jax.grad(lambda kernel: jnp.sum(jnp.sin(library(kernel))))(kernel)
    image = 5 * 6 * 3 * 8 * 4
    for size in (1, image, 5 * image, 100 * image):  # 1, 1, 4 and 12 at a time
        monkeypatch.setattr(layers, "PATCHES", size)
        found = jax.grad(lambda kernel: jnp.sum(jnp.sin(layers.convolve(images, kernel))))(kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_rounded_convolution_sums_rounded_operands_in_float32():
    keys = jax.random.split(jax.random.key(0), 3)
    images, kernel, upstream = (
        jax.random.normal(key, shape)
        for key, shape in zip(keys, ((4, 6, 5, 8), (3, 3, 8, 7), (4, 6, 5, 7)), strict=True)
    )
    rounded = [array.astype(jnp.bfloat16).astype(jnp.float32) for array in (images, kernel, upstream)]
    found, pull_back = jax.vjp(lambda *both: layers.convolve(*both, rounded=True), images, kernel)
    expected, exact_pull_back = jax.vjp(layers.convolve, *rounded[:2])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    for mine, wanted in zip(pull_back(upstream), exact_pull_back(rounded[2]), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-4)
    assert np.abs(found - layers.convolve(images, kernel)).max() > 1e-3


def test_networks_that_cannot_be_built_are_refused():
    with pytest.raises(BadInput, match=r"3 hidden units are too few for the small network.*give 5 units or more"):
        cnn("small", 3)
    assert jax.tree.leaves(jax.eval_shape(cnn("small", 5).init, jax.random.key(0)))
    with pytest.raises(BadInput, match="4×4 pixels are too small"):
        cnn("big", 64, (4, 4, 3))
    with pytest.raises(BadInput, match="one hidden dense layer"):
        models.network(TrainConfig(hidden=(64, 64), epochs=1, batch_size=4, network="small"), (8, 8, 3), 10)
    with pytest.raises(BadInput, match="its own dropout"):
        cnn("small", 64, max_norm=3.0)
