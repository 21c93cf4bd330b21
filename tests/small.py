"""A small block on random digits-like images, for the tests of training."""

import jax.numpy as jnp
import numpy as np

from kdjax import blocks, loop, objectives
from kdjax import train as train_
from kdjax.config import TrainConfig
from kdjax.objectives import Setting

SHAPE, CLASSES, IMAGES = (6, 6, 1), 10, 70
TEMPERATURES = (1.0, 4.0, 20.0, np.inf)


def config(**options) -> TrainConfig:
    return TrainConfig(**{"hidden": (16, 12), "epochs": 2, "batch_size": 16, **options})


def transfer_set(seed: int = 0) -> blocks.TransferSet:
    random = np.random.default_rng(seed)
    return blocks.TransferSet(
        jnp.asarray(random.integers(0, 256, (IMAGES, *SHAPE)).astype(np.uint8)),
        jnp.asarray(random.integers(0, CLASSES, IMAGES).astype(np.int32)),
        jnp.asarray(random.normal(0, 3, (IMAGES, CLASSES)).astype(np.float32)),
    )


def settings(temperatures=TEMPERATURES, soft_weights=None, learning_rates=None) -> Setting:
    count = len(temperatures)
    columns = (temperatures, soft_weights or (1.0,) * count, learning_rates or (1e-3,) * count)
    return Setting(*(jnp.asarray(column, jnp.float32) for column in columns))


def program(count: int = len(TEMPERATURES), **options) -> blocks.Program:
    return blocks.program_for(config(**options), SHAPE, CLASSES, IMAGES, count)


def train(program: blocks.Program, setting: Setting, seed: int = 0, epochs: int = 2, data=None, **options) -> loop.Fit:
    return loop.fit(
        program,
        transfer_set() if data is None else data,
        setting,
        seed,
        loop.start(program, seed, epochs),
        **options,
    )


def step_of(model, config, objective=objectives.distillation, axis_name=None):
    """The step as blocks compose it: the view of the batch, then the update."""
    view, update = train_.make_view(config, axis_name), train_.make_update(model, config, 4, objective, axis_name)
    return lambda state, batch, setting: update(state, view(batch), setting)
