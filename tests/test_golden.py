"""What production trains, to the digit: blocks of an MLP and of convolutional networks, in float32, by each optimizer,
through the whole key chain.

If a value changes, the same config means other numbers: raise that family's number in `config.NUMERICS`, add a line to
CHANGELOG.md, and say why in the commit. Pinned: initial weights, the order of each epoch, masks, jitter, augmentation,
the gathered teacher logits, the schedule, the update, the batch statistics.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import blocks, loop
from kdjax.config import NUMERICS
from tests import small

pytestmark = pytest.mark.optimized

NOISY = {"hidden_dropout": 0.5, "input_dropout": 0.2, "jitter": 1, "max_norm": 2.0, "average": 0.9}
CNN = {"network": "small", "hidden": (16,), "augment": "full"}
FAST = {"network": "fast", "hidden": (4,), "augment": "alternate", "optimizer": "nesterov", "schedule": "triangle"}


MLP = {
    "norms": [0.37555739, 1.0466077, 0.28248864, 0.65572858, 0.11949185, 0.34191853],
    "losses": [[11.58702, 14.601265], [15.379249, 20.001509], [26.582174, 35.163048], [30.047199, 39.894302]],
    "logits": [
        [[-0.07693221, -0.1758603, -0.0249175], [-0.1687169, -0.1146102, 0.04226141]],
        [[-0.5233429, -0.07316344, 0.03156883], [-0.4439448, -0.1591917, 0.0646257]],
    ],
}
SMALL = {
    "norms": [
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.23656934,
        0.19170214,
        0.27059913,
        0.37657067,
        0.4042793,
        0.11516124,
        0.27384123,
        0.00915161,
        0.01161258,
        0.04351557,
        0.05578427,
        0.04533004,
        0.04356276,
        0.05470698,
        0.07943996,
        0.10558476,
        0.11715952,
    ],
    "losses": [[10.875278, 13.9645605], [14.771355, 18.831059], [25.46747, 32.98421], [28.898859, 37.494347]],
    "logits": [
        [[-0.05073944, -0.06544983, -0.00816232], [-0.04139493, -0.0538665, -0.0062939]],
        [[-0.00784239, 0.00496202, -0.00843033], [0.01386742, 0.02535859, 0.00240851]],
    ],
    "statistics": [
        0.02788869,
        1.8560133,
        0.12207581,
        2.7160769,
        0.13309318,
        3.8393102,
        0.08335453,
        3.761547,
        0.37316972,
        5.4964547,
    ],
}

FAST_NETWORK = {
    "norms": [
        0.009718609,
        0.04844626,
        0.016633844,
        0.03928601,
        0.0095170336,
        0.0076555768,
        0.0038072509,
        0.098454021,
        0.087346859,
        0.007489623,
        0.0065943566,
        0.027562136,
        0.075353317,
        0.0,
        0.0,
    ],
    "losses": [[10.090054, 13.038276], [13.691737, 17.794449], [23.825657, 31.140335], [27.114449, 35.575588]],
    "logits": [
        [[0.005703466, 0.010239655, 0.015409361], [0.0016808609, 0.007468909, 0.0044054938]],
        [[0.0056286976, 0.011657861, 0.014860655], [0.0014818725, 0.0073840008, 0.0043191914]],
    ],
    "statistics": [
        2.4494312,
        1.3206499,
        0.78596836,
        1.2559474,
        3.3084154,
        4.0109611,
        1.1187139,
        1.9139526,
        4.1862054,
        5.5141249,
        1.1271464,
        2.0093524,
    ],
}

BY_ADAM = {
    "mlp": [[11.590545, 14.639635], [15.445149, 20.088761], [27.236183, 36.380455], [31.037380, 41.750645]],
    "big": [[11.024962, 14.228743], [14.992686, 19.282209], [26.015907, 33.522530], [29.567005, 38.204719]],
    "small_after_norm": [
        [10.936531, 14.061057],
        [14.871123, 19.008192],
        [25.920376, 33.613987],
        [29.502251, 38.266560],
    ],
}
"""Losses alone: where a bias stands before a batch norm its gradient is rounding, and Adam makes a step of it."""


def pictures(size=8):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (small.IMAGES, size, size, 3)).astype(np.uint8)
    return small.transfer_set()._replace(images=jnp.asarray(images))


def trained(data, rates, **options):
    """Two settings of one block over two epochs of four steps, by `advance`, in chunks of three steps and one."""
    config = small.config(**{"optimizer": "sgd", **options})
    program = blocks.program_for(config, data.images.shape[1:], small.CLASSES, small.IMAGES, 2)
    setting = small.settings((4.0, np.inf), (0.7, 1.0), rates)
    state, sums, _ = loop.start(program, 3, 2)
    state = loop.prepared(program, state, data)
    first = jax.tree.map(jnp.copy, state.params)
    losses = []
    for epoch in range(2):
        order = blocks.epoch_order(3, epoch, small.IMAGES)
        for steps in (3, 1):
            state, sums = program.advance(state, sums, data, setting, 3, order, steps)
            losses.append(np.asarray(sums.loss))
    moved = jax.tree.map(jnp.subtract, state.params, first)
    norms = [float(jnp.linalg.norm(jnp.ravel(leaf))) for leaf in jax.tree.leaves(moved)]
    logits = np.asarray(program.logits(state, data.images))
    statistics = [float(jnp.linalg.norm(jnp.ravel(leaf))) for leaf in jax.tree.leaves(state.model_state)]
    return norms, np.stack(losses), logits[:, :2, :3], statistics


def test_a_block_of_multi_layer_perceptrons():
    norms, losses, logits, _ = trained(small.transfer_set(), (0.05, 0.02), **NOISY)
    np.testing.assert_allclose(norms, MLP["norms"], rtol=2e-5)
    np.testing.assert_allclose(losses, MLP["losses"], rtol=2e-5)
    np.testing.assert_allclose(logits, MLP["logits"], rtol=2e-4, atol=2e-5)


def test_a_block_of_convolutional_networks():
    norms, losses, logits, statistics = trained(pictures(), (0.05, 0.005), **CNN)
    np.testing.assert_allclose(norms, SMALL["norms"], rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(losses, SMALL["losses"], rtol=2e-5)
    np.testing.assert_allclose(logits, SMALL["logits"], rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(statistics, SMALL["statistics"], rtol=1e-4)


def test_a_block_of_fast_networks():
    norms, losses, logits, statistics = trained(pictures(12), (0.05, 0.01), **FAST)
    np.testing.assert_allclose(norms, FAST_NETWORK["norms"], rtol=5e-4, atol=1e-6)
    np.testing.assert_allclose(losses, FAST_NETWORK["losses"], rtol=5e-5)
    np.testing.assert_allclose(logits, FAST_NETWORK["logits"], rtol=5e-3, atol=5e-4)
    np.testing.assert_allclose(statistics, FAST_NETWORK["statistics"], rtol=5e-4)


@pytest.mark.parametrize("network", BY_ADAM)
def test_blocks_trained_by_adam(network):
    options = NOISY if network == "mlp" else CNN | {"network": network}
    data, rates = (small.transfer_set(), (0.01, 0.003)) if network == "mlp" else (pictures(), (0.003, 0.001))
    losses = trained(data, rates, **options, optimizer="adam")[1]
    np.testing.assert_allclose(losses, BY_ADAM[network], rtol=2e-5)


def test_the_numerics_that_these_values_belong_to():
    assert NUMERICS == {"mlp": 5, "cnn": 5, "fast": 1}
