"""The pure train step: state and batch in, state and metrics out, for one network under one setting."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from kdjax import compilation, transforms
from kdjax.arrays import Images, Labels, Logits, StoredImages
from kdjax.config import TrainConfig
from kdjax.models import Model, ModelState, Params
from kdjax.objectives import Loss, Setting
from kdjax.optimizers import make_optimizer


class State(NamedTuple):
    """All that a step changes; in a block every leaf but `step` has a leading axis of K settings."""

    params: Params
    model_state: ModelState
    """What the network changes without a gradient (batch statistics)."""
    opt_state: Any
    step: Int[Array, ""]
    """Steps taken. With the seed, it fixes the randomness of the next one."""
    averaged: Params | None
    """Moving average of the parameters, or None where the config has no `average`."""
    failed_at: Int[Array, "*settings"]
    """Step at which the loss stopped being finite, or -1. A failed run keeps its last parameters."""

    @property
    def evaluated(self) -> Params:
        """What is evaluated: the moving average of the parameters, where there is one."""
        return self.params if self.averaged is None else self.averaged


class Batch(NamedTuple):
    """What all settings of a block share at one step."""

    images: StoredImages
    """As they are stored; floats after `make_view`."""
    labels: Labels
    teacher_logits: Logits
    key: PRNGKeyArray
    """The step's own key, for masks, jitter and augmentation."""
    teachers: Any = ()
    """(parameters, model_state) of each teacher, where they are queried about the images of the step."""
    mirrored: Bool[Array, "batch"] | None = None
    """With `augment="alternate"`: which images are mirrored in this epoch; else None."""


class Metrics(NamedTuple):
    """One step's means over the batch."""

    loss: Float[Array, "*settings"]
    error_rate: Float[Array, "*settings"]


class Purpose(enum.IntEnum):
    """What a random number is for: folded into the seed's key, so that no two uses share numbers."""

    INIT = 0
    ORDER = 1
    NOISE = 2
    MIRROR = 3


Step = Callable[[State, Batch, Setting], tuple[State, Metrics]]
Query = Callable[[Any, Images], Logits]
"""(the teachers' parameters and model states, images) → the teacher logits that a student learns from."""


def make_temperature_schedule(config: TrainConfig, steps_per_epoch: int) -> Callable[[Array, Array], Array]:
    """(T of the setting, step) → T of the step: at the last step, `last_temperature`."""
    if config.temperature_schedule == "constant":
        return lambda temperature, step: temperature
    last = max(config.epochs * steps_per_epoch - 1, 1)

    def temperature_at(temperature: Array, step: Array) -> Array:
        share = jnp.minimum(step / last, 1)
        if config.temperature_schedule == "cosine":
            share = (1 - jnp.cos(jnp.pi * share)) / 2
        return (1 - share) * temperature + share * config.last_temperature

    return temperature_at


View = Callable[[Batch], Batch]


def make_view(config: TrainConfig, axis_name: str | None = None, query: Query | None = None) -> View:
    """A batch → the batch as networks see it at this step: floats, jittered, augmented, with matching teacher logits.

    All settings of a block share it, and so one pass of the teachers.

    `axis_name` is the mapped axis over which the batch is divided, if it is: jitter and augmentation are then drawn per
    global example. `query` queries the teachers about the images of the step; None: the batch's own `teacher_logits`.
    """

    def view(batch: Batch) -> Batch:
        jitter_key, mask_key = jax.random.split(batch.key)
        images = transforms.to_float(transforms.jitter(jitter_key, batch.images, config.jitter, axis_name))
        augment_key = jax.random.fold_in(jitter_key, 1)
        images = transforms.augment(augment_key, images, config.augment, axis_name, batch.mirrored)
        batch = batch._replace(images=images, key=mask_key)
        if query is not None:
            batch = batch._replace(teacher_logits=jax.lax.stop_gradient(query(batch.teachers, images)))
        return batch

    return view


def make_update(model: Model, config: TrainConfig, steps_per_epoch: int, loss: Loss, axis_name: str | None) -> Step:
    """The pure train step `(state, batch, setting) → (state, metrics)` of one network under one setting.

    The batch is one that `make_view` has prepared; `loss` gives one number per example, and the step takes their mean,
    once. `axis_name` is the mapped axis over which the batch is divided, if it is: gradients and batch statistics are
    averaged over it, masks are drawn per global example.
    """
    optimizer = make_optimizer(config, steps_per_epoch)
    temperature_at = make_temperature_schedule(config, steps_per_epoch)

    def mean(value: Any) -> Any:
        return value if axis_name is None else jax.lax.pmean(value, axis_name)

    def step(state: State, batch: Batch, setting: Setting) -> tuple[State, Metrics]:
        setting = setting._replace(temperature=temperature_at(setting.temperature, state.step))

        def mean_loss(params: Params) -> tuple[Array, tuple[Array, ModelState]]:
            logits, model_state = model.apply(params, state.model_state, batch.images, True, batch.key, axis_name)
            return jnp.mean(loss(logits, batch.teacher_logits, batch.labels, setting)), (logits, model_state)

        (value, (logits, model_state)), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        value, gradients = mean(value), mean(gradients)
        params, opt_state = optimizer.step(state.params, gradients, state.opt_state, setting.learning_rate, state.step)
        if config.max_norm:
            assert model.bound_norms is not None  # else the recipe was refused
            params = model.bound_norms(params, config.max_norm)
        averaged = state.averaged
        if averaged is not None:
            decay = jnp.minimum(config.average, (1 + state.step) / (10 + state.step))
            averaged = optax.incremental_update(params, averaged, 1 - decay)
        failed_at = jnp.where((state.failed_at < 0) & ~jnp.isfinite(value), state.step, state.failed_at)
        # A failed run keeps its parameters, whatever its gradients: the other runs of the block are unaffected. Its
        # optimizer's moments may become nan: they are not read again, and guarding them would cost time.
        params, model_state, averaged = jax.tree.map(
            lambda new, old: jnp.where(failed_at < 0, new, old),
            (params, model_state, averaged),
            (state.params, state.model_state, state.averaged),
        )
        after = State(params, model_state, opt_state, state.step + 1, averaged, failed_at)
        error_rate = mean(jnp.mean(jnp.argmax(logits, -1) != batch.labels, dtype=jnp.float32))
        return after, Metrics(value, error_rate)

    return step


def run_key(seed: int | Int[Array, ""], purpose: Purpose) -> PRNGKeyArray:
    """The key of one use of randomness in one run."""
    return jax.random.fold_in(compilation.key(seed), purpose)
