"""The pure train step: state and batch in, state and metrics out, for one network under one setting."""

import enum
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from kdjax import losses, transforms
from kdjax.config import TrainConfig
from kdjax.losses import PerExample
from kdjax.models import Model, ModelState, Params


class Setting(NamedTuple):
    """What may vary inside a program: traced, so a new value never compiles anything."""

    temperature: Float[Array, "*settings"]
    """T in (0, ∞] of the soft targets."""
    soft_weight: Float[Array, "*settings"]
    """Weight of the soft term; the hard-label term has 1 − soft_weight. 0 is hard labels alone."""
    learning_rate: Float[Array, "*settings"]
    """Peak learning rate of the schedule."""
    double_softmax: Float[Array, "*settings"] | None = None
    """1 where softmax(v) stands for the teacher's logits v, a known bug (`targets.alter`), and 0 elsewhere; None: 0."""


class State(NamedTuple):
    """Everything that a step changes; in a block every leaf but `step` has a leading axis of K settings."""

    params: Params
    model_state: ModelState
    """What the network changes without a gradient (batch statistics)."""
    opt_state: Any
    step: Int[Array, ""]
    """Steps taken: with the seed, all that the randomness of the next one needs."""
    averaged: Params | None
    """Moving average of the parameters, or None where the config asks for none."""
    failed_at: Int[Array, "*settings"]
    """Step at which the loss stopped being finite, or -1. A failed run keeps its last parameters and is left alone."""


class Batch(NamedTuple):
    """What all settings of a block share at one step."""

    images: UInt8[Array, "batch height width channels"] | Float[Array, "batch height width channels"]
    """Bytes as they are kept; floats once they are `make_view`'s."""
    labels: Int[Array, "batch"]
    teacher_logits: Float[Array, "batch classes"]
    key: PRNGKeyArray
    """The step's own key, for masks, jitter and augmentation."""
    teachers: Any = ()
    """(parameters, model_state) of each teacher, where they are asked about the images as they are in the step."""


class Metrics(NamedTuple):
    """One step's means over the batch."""

    loss: Float[Array, "*settings"]
    error_rate: Float[Array, "*settings"]


class Purpose(enum.IntEnum):
    """What a random number is for: folded into the seed's key, so that no two uses share numbers."""

    INIT = 0
    ORDER = 1
    NOISE = 2


Objective = Callable[[Float[Array, "batch classes"], Batch, Setting], Float[Array, "batch"]]
Step = Callable[[State, Batch, Setting], tuple[State, Metrics]]
Ask = Callable[[Any, Float[Array, "batch height width channels"]], Float[Array, "batch classes"]]
"""(the teachers' parameters and model states, images) → the logits that a student is taught for them."""


def hinton(logits: Float[Array, "batch classes"], batch: Batch, setting: Setting) -> Float[Array, "batch"]:
    """The paper's objective, per example: `w·T²·KL(p‖q) + (1 − w)·CE(y, softmax(z))`."""
    taught = batch.teacher_logits
    if setting.double_softmax is not None:
        taught = jnp.where(setting.double_softmax > 0, jax.nn.softmax(taught), taught)
    return losses.distillation_loss(logits, taught, batch.labels, setting.temperature, setting.soft_weight)


@functools.cache  # the same function for the same reference: it names a compiled program
def matched(reference: float | int, placebo: bool = False) -> Objective:
    """An objective whose soft gradient has, at each step, the size that it would have at another temperature.

    With `g(T) = T (q − p)`, the gradient of `T²·KL` in the logits, and `n(T)` its norm over the batch (root of the sum
    of squares over examples and classes; of this device's rows, where the batch is divided) at the student's present
    logits:

        matched, at setting T:   direction g(T), norm n(reference):   w·[n(reference)/n(T)]·T²·KL_T + (1 − w)·CE
        its placebo, for T:      direction g(reference), norm n(T):   the same with T and reference exchanged

    Beside the plain sweep (direction and norm of T) and its run at T = reference these fill the square of direction ×
    norm. Under SGD two runs of equal norm differ by temperature alone (matched at T and the reference; the plain run
    at T and its placebo), two of equal direction by the size of their steps alone. In the placebo, scaling the gradient
    is scaling the rate at that step: the rate of the reference, multiplied by `n(T)/n(reference)`, which is the factor
    that matching divides out. No gradient passes through the factor; where a norm is 0 (student and teacher alike) it
    is 1. Only the soft term is scaled; at T = reference both are `hinton`.

    Under Adam with w = 1 a factor that does not change from step to step has no effect, up to eps: this is for SGD.

    Args:
        reference: the temperature that gives the norm (in the placebo: the direction), in (0, ∞].
        placebo: exchange the two.

    Raises:
        BadInput: a reference that is not a temperature, when the objective is first traced.
    """

    def objective(logits: Float[Array, "batch classes"], batch: Batch, setting: Setting) -> Float[Array, "batch"]:
        def norm(temperature: PerExample) -> Array:
            return jnp.linalg.norm(losses.soft_target_gradient(logits, batch.teacher_logits, temperature))

        own, other = (reference, setting.temperature) if placebo else (setting.temperature, reference)
        size = norm(own)
        factor = jax.lax.stop_gradient(jnp.where(size > 0, norm(other) / jnp.where(size > 0, size, 1), 1))
        soft = losses.soft_target_loss(logits, batch.teacher_logits, own)
        hard = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        return setting.soft_weight * factor * soft + (1 - setting.soft_weight) * hard

    return objective


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Directions only; the learning rate is a setting, applied in the step."""
    return optax.scale_by_adam() if config.optimizer == "adam" else optax.trace(decay=0.9)


def make_schedule(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate at each step, as a share of the setting's peak rate."""
    if config.schedule == "constant":
        return optax.constant_schedule(1.0)
    total = config.epochs * steps_per_epoch
    warmup = min(steps_per_epoch, total // 2)
    return optax.warmup_cosine_decay_schedule(1 / (warmup + 1), 1.0, warmup, total)


def make_view(config: TrainConfig, axis_name: str | None = None, ask: Ask | None = None) -> Callable[[Batch], Batch]:
    """A batch → the batch as networks see it at this step: floats, jittered, augmented, taught as they then are.

    Settings of a block share it, and so one pass of the teachers. Arguments as those of `make_step`.
    """

    def view(batch: Batch) -> Batch:
        jitter_key, mask_key = jax.random.split(batch.key)
        images = transforms.jitter(jitter_key, transforms.to_float(batch.images), config.jitter, axis_name)
        images = transforms.augment(jax.random.fold_in(jitter_key, 1), images, config.augment, axis_name)
        batch = batch._replace(images=images, key=mask_key)
        if ask is not None:
            batch = batch._replace(teacher_logits=jax.lax.stop_gradient(ask(batch.teachers, images)))
        return batch

    return view


def make_step(
    model: Model,
    config: TrainConfig,
    steps_per_epoch: int,
    objective: Objective = hinton,
    axis_name: str | None = None,
    ask: Ask | None = None,
) -> Step:
    """The pure train step `(state, batch, setting) → (state, metrics)` of one network under one setting.

    Args:
        model: the network.
        config: optimizer, schedule, max-norm, jitter, augmentation, averaging.
        steps_per_epoch: steps in one pass, for the schedule.
        objective: one loss per example; the step takes their mean, once.
        axis_name: the mapped axis over which the batch is divided, if it is. Gradients and batch statistics are
            averaged over it, masks, jitter and augmentation are drawn per global example.
        ask: asks the teachers about the images as they are in the step; None: the batch's own `teacher_logits`.
    """
    view, update = make_view(config, axis_name, ask), make_update(model, config, steps_per_epoch, objective, axis_name)
    return lambda state, batch, setting: update(state, view(batch), setting)


def make_update(
    model: Model,
    config: TrainConfig,
    steps_per_epoch: int,
    objective: Objective = hinton,
    axis_name: str | None = None,
) -> Step:
    """`make_step` for a batch that is `make_view`'s already; arguments as there."""
    optimizer = make_optimizer(config)
    schedule = make_schedule(config, steps_per_epoch)

    def mean(value: Any) -> Any:
        return value if axis_name is None else jax.lax.pmean(value, axis_name)

    def step(state: State, batch: Batch, setting: Setting) -> tuple[State, Metrics]:
        def loss_of(params: Params) -> tuple[Array, tuple[Array, ModelState]]:
            logits, model_state = model.apply(params, state.model_state, batch.images, True, batch.key, axis_name)
            return jnp.mean(objective(logits, batch, setting)), (logits, model_state)

        (loss, (logits, model_state)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        loss, gradients = mean(loss), mean(gradients)
        directions, opt_state = optimizer.update(gradients, state.opt_state)
        rate = setting.learning_rate * schedule(state.step)
        params = jax.tree.map(lambda value, direction: value - rate * direction, state.params, directions)
        if config.max_norm:
            params = model.bound_norms(params, config.max_norm)
        averaged = state.averaged
        if averaged is not None:
            decay = jnp.minimum(config.average, (1 + state.step) / (10 + state.step))
            averaged = optax.incremental_update(params, averaged, 1 - decay)
        failed_at = jnp.where((state.failed_at < 0) & ~jnp.isfinite(loss), state.step, state.failed_at)
        # A failed run keeps its networks, whatever its gradients: its neighbours in the block must not notice. Its
        # optimizer's moments may turn to nan: nobody reads them again, and guarding them costs a tenth of the step.
        params, model_state, averaged = jax.tree.map(
            lambda new, old: jnp.where(failed_at < 0, new, old),
            (params, model_state, averaged),
            (state.params, state.model_state, state.averaged),
        )
        kept = State(params, model_state, opt_state, state.step + 1, averaged, failed_at)
        error_rate = mean(jnp.mean(jnp.argmax(logits, -1) != batch.labels, dtype=jnp.float32))
        return kept, Metrics(loss, error_rate)

    return step


def run_key(seed: int | Int[Array, ""], purpose: Purpose) -> PRNGKeyArray:
    """The key of one use of randomness in one run."""
    return jax.random.fold_in(jax.random.key(seed), purpose)
