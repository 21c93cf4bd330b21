"""The network `fast` and its recipe: against a twin in PyTorch and one in numpy, and each part by what it is for."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import blocks, loop, models, optimizers, transforms
from kdjax.config import TrainConfig
from kdjax.errors import BadInput
from kdjax.evaluation import evaluator
from kdjax.models.fast import whitening
from kdjax.objectives import Setting

SHAPE, CLASSES, IMAGES = (14, 14, 3), 5, 60
KERNELS = [f"kernel_{group}_{layer}" for group in range(3) for layer in range(2)]


def recipe(**options) -> TrainConfig:
    own = {"optimizer": "nesterov", "schedule": "triangle", "augment": "alternate", "network": "fast"}
    return TrainConfig(**{"hidden": (8,), "epochs": 3, "batch_size": 12, **own, **options})


def smooth_images(count: int = IMAGES, seed: int = 0) -> np.ndarray:
    """Bytes whose neighbours are alike, as in photographs."""
    random = np.random.default_rng(seed)
    pixels = random.normal(size=(count, SHAPE[0] + 2, SHAPE[1] + 2, 3)).cumsum(1).cumsum(2)[:, 2:, 2:]
    return np.clip(128 + 12 * pixels, 0, 255).astype(np.uint8)


def transfer_set(seed: int = 0) -> blocks.TransferSet:
    random = np.random.default_rng(seed)
    labels, logits = random.integers(0, CLASSES, IMAGES), random.normal(0, 3, (IMAGES, CLASSES))
    return blocks.TransferSet(
        jnp.asarray(smooth_images()), jnp.asarray(labels.astype(np.int32)), jnp.asarray(logits.astype(np.float32))
    )


@functools.cache
def trained(settings: int = 2, **options) -> loop.Fit:
    program = blocks.program_for(recipe(**options), SHAPE, CLASSES, IMAGES, settings)
    setting = Setting(jnp.full(settings, 4.0), jnp.linspace(0, 1, settings), jnp.full(settings, 0.5))
    return loop.fit(program, transfer_set(), setting, 0, loop.start(program, 0))


def of_first(fit: loop.Fit):
    return jax.tree.map(lambda leaf: np.asarray(leaf[0]), (fit.state.params, fit.state.model_state))


def gelu(units):
    return units * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (units + 0.044715 * units**3)))


def by_hand(params, state, images):
    """The network in evaluation, in numpy, float64, from its description."""
    params, state = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, state))
    height, width = images.shape[1:3]
    corners = [images[:, y : y + height - 1, x : x + width - 1] for y in range(2) for x in range(2)]
    units = gelu(np.concatenate(corners, -1) @ params["whitening"]["kernel"] + params["whitening"]["bias"])
    for group in range(3):
        for layer in range(2):
            padded = np.pad(units, ((0, 0), (1, 1), (1, 1), (0, 0)))
            height, width = units.shape[1:3]
            kernel = params[f"kernel_{group}_{layer}"]
            units = sum(padded[:, y : y + height, x : x + width] @ kernel[y, x] for y in range(3) for x in range(3))
            if layer == 0:
                units = units[:, : height // 2 * 2, : width // 2 * 2]
                units = units.reshape(len(units), height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))
            kept = state["batch_stats"][f"norm_{group}_{layer}"]
            bias = params[f"norm_{group}_{layer}"]["bias"]
            units = gelu((units - kept["mean"]) / np.sqrt(kept["var"] + 1e-5) + bias)
    return units.max(axis=(1, 2)) @ params["head"] / 9


def test_logits_are_those_of_a_network_by_hand_and_mirrored_views_their_mean():
    fit, images = trained(), smooth_images(20, 1)
    params, state = of_first(fit)
    floats = images / 255
    for mirrored in (False, True):
        model = models.network(recipe(mirrored_views=mirrored), SHAPE, CLASSES)
        logits = np.asarray(evaluator(model)(fit.state.params, fit.state.model_state, images))[0]
        expected = by_hand(params, state, floats)
        if mirrored:
            expected = (expected + by_hand(params, state, floats[:, :, ::-1])) / 2
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(by_hand(params, state, floats) - by_hand(params, state, floats[:, :, ::-1])).max() > 1e-3


@pytest.mark.parametrize("train", [False, True])
def test_logits_are_those_of_a_twin_in_pytorch(train):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from experiments import torch_baseline

    params, state = of_first(trained())
    image = smooth_images(16, 2).astype(np.float32) / 255

    def tensor(array):
        return torch.from_numpy(np.array(array))

    channels_first = tensor(image.transpose(0, 3, 1, 2))
    twin = torch_baseline._network(recipe(), channels_first).train(train)
    kernels = iter([params["whitening"]["kernel"].reshape(2, 2, 3, 24), *(params[name] for name in KERNELS)])
    norms = iter(name for name in params if name.startswith("norm"))
    for layer in twin:
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data = tensor(next(kernels).transpose(3, 2, 0, 1))
        elif isinstance(layer, torch.nn.BatchNorm2d):
            name = next(norms)
            kept = state["batch_stats"][name]
            layer.bias.data, layer.running_mean, layer.running_var = map(
                tensor, (params[name]["bias"], kept["mean"], kept["var"])
            )
    twin[0].bias.data, twin[-2].weight.data = tensor(params["whitening"]["bias"]), tensor(params["head"].T)
    with torch.no_grad():
        expected = twin(channels_first)
    model = models.network(recipe(), SHAPE, CLASSES)
    logits, _ = model.apply(*jax.tree.map(jnp.asarray, (params, state)), jnp.asarray(image), train)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=2e-5)


def test_whitened_patches_have_the_identity_as_their_covariance():
    images = smooth_images(200)
    whitened = whitening(images)
    floats = images / 255
    corners = [floats[:, y : y + SHAPE[0] - 1, x : x + SHAPE[1] - 1] for y in range(2) for x in range(2)]
    outputs = (np.concatenate(corners, -1) @ whitened["kernel"] + whitened["bias"]).reshape(-1, 24)
    covariance = outputs.T @ outputs / len(outputs)
    np.testing.assert_allclose(outputs[:, :12], -outputs[:, 12:], rtol=1e-4, atol=1e-4)
    off = covariance[:12, :12] - np.diag(np.diag(covariance)[:12])
    assert np.abs(off).max() < 0.02
    assert np.diag(covariance)[:12].max() < 1.001
    assert np.diag(covariance)[0] > 0.99  # of the largest variances EPSILON takes next to nothing


def test_the_whitening_layer_is_that_of_the_first_images(monkeypatch):
    images = smooth_images(200)
    monkeypatch.setattr("kdjax.models.fast.WHITENED", 50)
    found, first, last = whitening(images), whitening(images[:50]), whitening(images[50:])
    jax.tree.map(np.testing.assert_array_equal, found, first)
    assert np.abs(found["kernel"] - last["kernel"]).max() > 1e-3


def test_the_whitening_layer_is_that_of_the_training_images_and_frozen():
    params, _ = of_first(trained())
    expected = whitening(np.asarray(transfer_set().images))
    jax.tree.map(np.testing.assert_array_equal, params["whitening"], expected)
    model = models.network(recipe(), SHAPE, CLASSES)
    program = blocks.program_for(recipe(), SHAPE, CLASSES, IMAGES, 1)
    params, state = jax.tree.map(lambda leaf: leaf[0], program.init(0)[:2])
    params = {**params, **jax.tree.map(jnp.asarray, model.prepare(np.asarray(transfer_set().images)))}
    images = transforms.to_float(transfer_set().images)
    gradient = jax.grad(lambda params: model.apply(params, state, images, True)[0].sum())(params)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient["whitening"]))
    assert all(np.asarray(gradient[name]).any() for name in params if name.startswith("kernel"))


def test_convolutions_pass_their_inputs_on_at_the_start():
    params, _ = models.network(recipe(), SHAPE, CLASSES).init(jax.random.key(0))
    for name, kernel in params.items():
        if name.startswith("kernel"):
            own = min(kernel.shape[2:])
            expected = np.zeros((*kernel.shape[:3], own))
            expected[1, 1, :own] = np.eye(own)
            np.testing.assert_array_equal(kernel[..., :own], expected)
            assert np.abs(kernel[..., own:]).max(initial=0) <= (9 * kernel.shape[2]) ** -0.5


def test_every_image_is_mirrored_in_every_second_epoch():
    seen = []
    config, data = recipe(), transfer_set()
    for epoch in range(4):
        order = blocks.epoch_order(7, epoch, IMAGES)
        mirrored = jax.random.bernoulli(jax.random.key(3), 0.5, (IMAGES,))
        now = np.zeros(IMAGES, bool)
        for step in range(IMAGES // 12):
            batch = blocks.draw_batch(
                config, data, data.images[:12], order, jax.random.key(0), jnp.int32(epoch * 5 + step), mirrored
            )
            now[np.asarray(blocks.batch_rows(config, order, jnp.int32(epoch * 5 + step)))] = batch.mirrored
        seen.append(now)
    assert (seen[0] != seen[1]).all() and (seen[0] == seen[2]).all() and (seen[1] == seen[3]).all()
    assert 10 < seen[0].sum() < 50


def test_mirrored_and_shifted_images_are_reflected_at_their_edges():
    images = jnp.asarray(np.random.default_rng(0).random((400, 5, 6, 1), np.float32))
    mirrored = jnp.arange(400) % 2 == 0
    found = np.asarray(transforms.augment(jax.random.key(0), images, "alternate", None, mirrored))
    shifts = set()
    for image, one, flip in zip(np.asarray(images), found, np.asarray(mirrored), strict=True):
        source = np.pad(image[:, ::-1] if flip else image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
        places = [(y, x) for y in range(5) for x in range(5) if (source[y : y + 5, x : x + 6] == one).all()]
        assert len(places) == 1
        shifts |= set(places)
    assert len(shifts) == 25


def test_the_optimizer_is_nesterovs_with_decay_and_lookahead_by_hand():
    config, rate, total = recipe(epochs=3, batch_size=12), 0.5, 15
    optimizer = optimizers.make_optimizer(config, 5)
    random = np.random.default_rng(0)
    params = {"kernel_0": random.normal(size=3), "norm_0": {"bias": random.normal(size=2)}, "whitening": np.ones(2)}
    gradients = [jax.tree.map(lambda leaf: random.normal(size=leaf.shape), params) for _ in range(total)]
    found, state = jax.tree.map(jnp.float32, params), optimizer.init(jax.tree.map(jnp.float32, params))
    for step in range(total):
        slope = jax.tree.map(jnp.float32, gradients[step])
        found, state = optimizer.step(found, slope, state, jnp.float32(rate), jnp.int32(step))
    decay = 12 * 0.0153 / 1024 / (1 + 1 / 0.15)
    share = np.interp(np.arange(total), [0, 0.23 * total, total], [0.2, 1, 0.07])
    for name, factor in (("kernel_0", 1), ("norm_0", 64)):
        weight, *slopes = (jax.tree.leaves(tree[name])[0] for tree in (params, *gradients))
        momentum, slow = 0.0, weight
        for step in range(total):
            slope = slopes[step] + decay / (rate * factor) * weight
            momentum = 0.85 * momentum + slope
            weight = weight - rate * factor * share[step] * (slope + 0.85 * momentum)
            if step % 5 == 4:
                alpha = 0.95**5 * ((step + 1) / total) ** 3
                slow = weight = alpha * slow + (1 - alpha) * weight
        np.testing.assert_allclose(jax.tree.leaves(found[name])[0], weight, rtol=1e-4)
    np.testing.assert_array_equal(found["whitening"], 1)


def test_after_the_last_step_the_weights_are_the_slow_ones():
    config = recipe(epochs=1)
    optimizer = optimizers.make_optimizer(config, 7)
    params = {"kernel_0": jnp.ones(2)}
    state, seen = optimizer.init(params), []
    for step in range(7):
        params, state = optimizer.step(params, {"kernel_0": jnp.ones(2)}, state, jnp.float32(0.1), jnp.int32(step))
        seen.append(np.asarray(params["kernel_0"]))
    np.testing.assert_array_equal(seen[6], seen[4])
    assert (seen[5] != seen[4]).all()


@pytest.mark.parametrize("total", [1, 4])
def test_a_training_shorter_than_lookahead_keeps_what_it_learned(total):
    optimizer, params = optimizers.make_optimizer(recipe(epochs=1), total), {"kernel_0": jnp.ones(2)}
    state = optimizer.init(params)
    for step in range(total):
        params, state = optimizer.step(params, {"kernel_0": jnp.ones(2)}, state, jnp.float32(0.1), jnp.int32(step))
    assert (params["kernel_0"] < 1 - 0.01 * total).all()


def test_settings_of_a_block_do_not_change_each_other():
    together = trained()
    program = blocks.program_for(recipe(), SHAPE, CLASSES, IMAGES, 1)
    alone = loop.fit(
        program,
        transfer_set(),
        Setting(jnp.full(1, 4.0), jnp.zeros(1), jnp.full(1, 0.5)),
        0,
        loop.start(program, 0),
    )
    for mine, other in zip(*(jax.tree.leaves(one.state.params) for one in (alone, together)), strict=True):
        np.testing.assert_allclose(mine[0], other[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"hidden": (8, 8)}, r"2 widths \(8, 8\) are not allowed for the network fast: give one"),
        ({"hidden_dropout": 0.5}, "the network fast has no dropout and no max-norm"),
        ({"max_norm": 1.0}, "the network fast has no dropout and no max-norm"),
        ({"batch_size": 1}, "batches of one image are not allowed for the fast network"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(options, said):
    with pytest.raises(BadInput, match=said):
        models.network(recipe(**options), SHAPE, CLASSES)


def test_images_that_do_not_fit_are_refused():
    for shape, said in (((8, 8, 3), "images of 8×8 pixels are too small"), ((40,), "is for images")):
        with pytest.raises(BadInput, match=said):
            models.network(recipe(), shape, CLASSES)
    mlp = dataclasses.replace(recipe(), network="mlp", mirrored_views=True)
    with pytest.raises(BadInput, match="--mirrored-views is for images"):
        models.network(mlp, (40,), CLASSES)


def test_weights_that_are_averaged_begin_with_the_whitening_too():
    fit = trained(average=0.9)
    averaged = jax.tree.map(lambda leaf: np.asarray(leaf[0]), fit.state.averaged["whitening"])
    jax.tree.map(np.testing.assert_allclose, averaged, whitening(np.asarray(transfer_set().images)))


@pytest.mark.parametrize("others", [0, 16])
def test_a_channel_that_is_the_same_nearly_everywhere_is_not_blown_up(others):
    constant = np.full((IMAGES, *SHAPE[:2], 1), 254, np.uint8)
    constant.reshape(-1)[:others] = 255
    images = np.concatenate([smooth_images(), constant], axis=-1)
    assert np.abs(whitening(images)["kernel"]).max() < 1e3
