"""Optimizers, and the learning rate's schedule over a training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from kdjax.config import TrainConfig
from kdjax.models import Params

MOMENTUM = 0.85
"""Of nesterov."""
DECAY = 0.0153 / 1024 / (1 + 1 / (1 - MOMENTUM))
"""Weight decay of nesterov per image: at the top of the schedule a step of B images subtracts B·DECAY of each weight,
more by momentum, whatever the peak learning rate is."""
BIAS_RATE = 64.0
"""Learning rate of the biases of batch norms under nesterov, as a multiple of that of the other parameters."""
LOOKAHEAD = 5
"""Steps between two averages of the weights under nesterov."""


class Optimizer(NamedTuple):
    """How gradients change parameters."""

    init: Callable[[Params], Any]
    """params → the optimizer's state (moments)."""
    step: Callable[[Params, Params, Any, Any, Int[Array, ""]], tuple[Params, Any]]
    """(params, gradients, state, peak learning rate, steps taken before) → (params, state)."""


def make_optimizer(config: TrainConfig, steps_per_epoch: int) -> Optimizer:
    """The optimizer that the recipe names; the peak learning rate is a setting.

    adam      b1 0.9, b2 0.999, eps 1e-8
    sgd       momentum 0.9
    nesterov  SGD with Nesterov's momentum, weight decay and lookahead (`kdjax.models.fast`)
    """
    schedule = make_schedule(config, steps_per_epoch)
    if config.optimizer == "nesterov":
        return _nesterov(schedule, config.epochs * steps_per_epoch, config.batch_size)
    rule = optax.scale_by_adam() if config.optimizer == "adam" else optax.trace(decay=0.9)

    def step(params: Params, gradients: Params, state: Any, peak: Any, steps: Array) -> tuple[Params, Any]:
        directions, state = rule.update(gradients, state)
        # The barrier keeps the schedule out of the loop over parameters, where XLA would put it.
        rate = jax.lax.optimization_barrier(peak * schedule(steps))
        return jax.tree.map(lambda weight, direction: weight - rate * direction, params, directions), state

    return Optimizer(rule.init, step)


def make_schedule(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate at each step, as a share of the setting's peak rate."""
    total = config.epochs * steps_per_epoch
    if config.schedule == "constant":
        return optax.constant_schedule(1.0)
    if config.schedule == "triangle":
        corners = jnp.array([0.0, 0.23 * total, total]), jnp.array([0.2, 1.0, 0.07])
        return lambda steps: jnp.interp(steps, *corners)
    warmup = min(steps_per_epoch, total // 2)
    return optax.warmup_cosine_decay_schedule(1 / (warmup + 1), 1.0, warmup, total)


def _nesterov(schedule: optax.Schedule, total: int, batch_size: int) -> Optimizer:
    """With g the gradient, λ = batch·DECAY the decay, η the peak rate (`BIAS_RATE` times it for the biases of batch
    norms) and s the schedule's share at this step,

        g ← g + (λ/η)·θ,   m ← 0.85·m + g,   θ ← θ − s·η·(g + 0.85·m).

    The decay goes through the momentum, as L2 regularisation does (AdamW's does not); divided by η, it is the same at
    every peak rate. Every fifth step, t of n, lookahead averages: φ ← β·φ + (1 − β)·θ with β = 0.95⁵·(t/n)³, the share
    of the slow weights φ, and θ ← φ (Zhang et al. 2019, arXiv 1907.08610, whose α is 1 − β). After the last step of
    five or more θ ← φ, whether or not an average is due. Running statistics of batch norms are not averaged (airbench
    averages them too). Parameters under the name `whitening` are left as they are."""

    def init(params: Params) -> Any:
        return jax.tree.map(jnp.zeros_like, params), params

    def step(params: Params, gradients: Params, state: Any, peak: Any, steps: Array) -> tuple[Params, Any]:
        after, share = steps + 1, schedule(steps)
        due, slow_share = after % LOOKAHEAD == 0, 0.95**LOOKAHEAD * (after / total) ** 3
        last = (after == total) & (total >= LOOKAHEAD)  # before the first average φ is where the training began

        def update(path: Any, weight: Array, gradient: Array, momentum: Array, slow: Array) -> tuple[Array, ...]:
            names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
            if names[0] == "whitening":  # frozen
                return weight, momentum, slow
            of_norm = names[0].startswith("norm") and names[-1] == "bias"
            rate = peak * (BIAS_RATE if of_norm else 1.0)
            gradient = gradient + batch_size * DECAY / rate * weight
            momentum = MOMENTUM * momentum + gradient
            weight = weight - rate * share * (gradient + MOMENTUM * momentum)
            slow = jnp.where(due, slow_share * slow + (1 - slow_share) * weight, slow)
            return jnp.where(due | last, slow, weight), momentum, slow

        updated = jax.tree_util.tree_map_with_path(update, params, gradients, *state)
        new = jax.tree.transpose(jax.tree.structure(params), jax.tree.structure((0, 0, 0)), updated)
        return new[0], (new[1], new[2])

    return Optimizer(init, step)
