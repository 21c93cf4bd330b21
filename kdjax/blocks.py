"""The compiled program of a block, one seed × K settings of one architecture: draws each batch, trains, evaluates."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from kdjax import models
from kdjax.arrays import HostImages, Images, Logits, StoredImages
from kdjax.compilation import HURRIED, WIDE, jit
from kdjax.config import TrainConfig
from kdjax.errors import require_option
from kdjax.evaluation import StackLogits, evaluator, for_each
from kdjax.layers import divisor
from kdjax.models import Model
from kdjax.objectives import Loss, Setting, distillation
from kdjax.optimizers import make_optimizer
from kdjax.train import Batch, Metrics, Purpose, Query, State, Step, make_update, make_view, run_key

CACHE = 30 * 2**20
"""Bytes of parameters and moments that are trained side by side on a CPU: of eight networks, two of 800 units or four
of 300. Fastest on an AMD EPYC with 32 MiB of cache."""
UNROLLED = 4
"""Convolutional networks of a block that are unrolled in one step: more need more memory."""
AXIS = "batch"
"""The mapped axis over which each batch of one big network is divided."""
Scalar = Int[Array, ""]
Order = Int[Array, "images"]
"""Row numbers of the transfer set."""


class TransferSet(NamedTuple):
    """What students learn from, on the device: images, their labels, and the teacher's logits for them."""

    images: StoredImages
    labels: Int[Array, "images"]
    teacher_logits: Float[Array, "images classes"]
    teachers: Any = ()
    """(parameters, model_state) of each teacher, for a program that queries them at each step."""


class Program(NamedTuple):
    """A block's compiled functions. K settings share the seed, hence initial weights, batches, masks, jitter and
    augmentation."""

    init: Callable[[int], State]
    """seed → the state of K runs with the same initial weights."""
    advance: Callable[..., tuple[State, Metrics]]
    """(state, sums, transfer_set, setting, seed, order, steps) → (state, sums plus the metrics of the steps).

    `order` is the epoch's order of the images (`epoch_order`), and `steps` stay within the epoch. State and sums are
    donated (on one device), so they must not be used again.
    """
    logits: Callable[[State, StoredImages | HostImages], StackLogits]
    """(state, images) → logits in evaluation, of the averaged parameters where there are any. No image is left out."""
    steps_per_epoch: int
    settings: int
    together: int
    """Settings trained side by side; groups of that number run one after another inside `advance`."""
    model: Model
    images: int
    """Of the transfer set."""
    epochs: int
    """Of the recipe: its schedule ends there."""


@functools.partial(jax.jit, static_argnums=2)
def epoch_order(seed: int | Scalar, epoch: int | Scalar, images: int) -> Order:
    """The order in which an epoch visits the images: a permutation fixed by (seed, epoch)."""
    return jax.random.permutation(jax.random.fold_in(run_key(seed, Purpose.ORDER), epoch), images)


def make_program(
    model: Model, config: TrainConfig, images: int, settings: int, loss: Loss = distillation, query: Query | None = None
) -> Program:
    """A block of `settings` runs as one single-device program, traced once.

    With `config.devices` above 1 it is one big network instead, and each batch is divided over these devices. `images`
    is the size of the transfer set, `settings` is K, and `query` queries the transfer set's teachers at each step;
    None: their stored logits are used. Raises BadInput: a batch that is larger than the transfer set.
    """
    require_option(config.batch_size <= images, "batch-size", config.batch_size, f"there are {images:,} images")
    steps_per_epoch = images // config.batch_size
    shared = bool(config.jitter) or config.augment != "none" or query is not None or config.devices > 1
    # A batch view that is expensive to compute is computed once, for all settings.
    together = settings if shared or not model.side_by_side else _together(model, settings)
    step = _block_step(model, config, steps_per_epoch, loss, query)

    def advance(
        state: State, sums: Metrics, transfer: TransferSet, setting: Setting, seed: Scalar, order: Order, steps: Scalar
    ) -> tuple[State, Metrics]:
        noise = run_key(seed, Purpose.NOISE)
        mirrored = None
        if config.augment == "alternate":  # one half of the images in even epochs, the other in odd ones
            mirrored = jax.random.bernoulli(run_key(seed, Purpose.MIRROR), 0.5, (images,))
        first, last = state.step, state.step + steps
        flat = transfer.images.reshape(len(transfer.images), -1)

        def images_of(step: Scalar) -> Array:
            return flat.at[batch_rows(config, order, step)].get(mode="promise_in_bounds")

        def body(setting: Setting, carry: tuple[State, Metrics, Array]) -> tuple[State, Metrics, Array]:
            state, sums, pixels = carry
            batch = draw_batch(config, transfer, pixels, order, noise, state.step, mirrored)
            # A step ahead, XLA copies whole rows of bytes; else it merges the gather into the step, which is slower.
            pixels = images_of(state.step + 1)
            state, metrics = step(state, batch, setting)
            return state, jax.tree.map(jnp.add, sums, metrics), pixels

        def group(stack: tuple[State, Metrics, Setting]) -> tuple[State, Metrics]:
            own, sums, setting = stack
            start = own._replace(step=first), sums, images_of(first)
            # A while loop, not a scan: any number of steps is the same program, so chunking cannot change a result.
            more = functools.partial(body, setting)
            own, sums, _ = jax.lax.while_loop(lambda carry: carry[0].step < last, more, start)
            return _without_step(own), sums

        own, sums = _by_groups(group, (_without_step(state), sums, setting), settings, together)
        return own._replace(step=last), sums

    def logits(state: State, images: StoredImages | HostImages) -> StackLogits:
        return evaluator(model)(state.evaluated, state.model_state, images)

    compiled: Callable[..., tuple[State, Metrics]] = jit(
        advance, WIDE if model.side_by_side else None, donate_argnums=(0, 1)
    )
    if config.devices > 1:
        # Every device holds all of the state and the images, and takes its share of each batch.
        devices, in_axes = jax.local_devices()[: config.devices], (0, *[None] * 7)
        # pmap wants an argument that differs between devices.
        each = jax.pmap(lambda _, *rest: advance(*rest), AXIS, in_axes=in_axes, out_axes=None, devices=devices)
        compiled = functools.partial(each, jnp.arange(config.devices))

    @functools.partial(jit, more=HURRIED)
    def init(seed: Scalar) -> State:
        params, model_state = model.init(run_key(seed, Purpose.INIT))
        opt_state = make_optimizer(config, steps_per_epoch).init(params)
        averaged = params if config.average else None
        one = State(params, model_state, opt_state, jnp.zeros((), jnp.int32), averaged, jnp.full((), -1, jnp.int32))
        stacked = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], settings, axis=0), one)
        return stacked._replace(step=one.step)

    return Program(init, compiled, logits, steps_per_epoch, settings, together, model, images, config.epochs)


def _block_step(model: Model, config: TrainConfig, steps_per_epoch: int, loss: Loss, query: Query | None) -> Step:
    """One step of all K settings: they share the batch, the masks and the pass of the teachers."""
    axis_name = AXIS if config.devices > 1 else None
    view = make_view(config, axis_name, query)
    update = make_update(model, config, steps_per_epoch, loss, axis_name)

    def step(state: State, batch: Batch, setting: Setting) -> tuple[State, Metrics]:
        batch = view(batch)

        def one(own: State, setting: Setting) -> tuple[State, Metrics]:
            own, metrics = update(own._replace(step=state.step), batch, setting)
            return _without_step(own), metrics

        # Keys and images are not mapped: the masks are drawn once, and the first layer of all K is one product.
        own, metrics = for_each(model, one, UNROLLED)(_without_step(state), setting)
        return own._replace(step=state.step + 1), metrics

    return step


def batch_rows(config: TrainConfig, order: Order, step: Scalar) -> Int[Array, "batch"]:
    """The images of a step's batch, or of this device's share of it: the next ones in the epoch's order."""
    share = config.batch_size // config.devices
    offset = jax.lax.axis_index(AXIS) * share if config.devices > 1 else 0
    first = step % (len(order) // config.batch_size) * config.batch_size
    return jax.lax.dynamic_slice_in_dim(order, first + offset, share)


def draw_batch(
    config: TrainConfig,
    transfer_set: TransferSet,
    images: StoredImages,
    order: Order,
    noise: PRNGKeyArray,
    step: Scalar,
    mirrored: Bool[Array, "images"] | None,
) -> Batch:
    """The batch of a step, or this device's share of it, with the step's key. `images` are its images (`batch_rows`),
    gathered before; `mirrored` are those of the transfer set that are mirrored in even epochs, the others in odd ones.
    """
    rows, steps_per_epoch = batch_rows(config, order, step), len(order) // config.batch_size
    labels, logits = (array.at[rows].get(mode="promise_in_bounds") for array in transfer_set[1:3])
    epoch = step // steps_per_epoch
    key = jax.random.fold_in(jax.random.fold_in(noise, epoch), step % steps_per_epoch)
    now = None if mirrored is None else mirrored[rows] ^ (epoch % 2 == 1)
    images = images.reshape(-1, *transfer_set.images.shape[1:])
    return Batch(images, labels, logits, key, transfer_set.teachers, now)


def _by_groups(
    group: Callable[[Any], tuple[State, Metrics]], stack: Any, settings: int, together: int
) -> tuple[State, Metrics]:
    """`group` of all K settings at once, or of `together` of them at a time, one group after another."""
    if together == settings:
        return group(stack)
    groups = jax.tree.map(lambda leaf: leaf.reshape(-1, together, *leaf.shape[1:]), stack)

    def in_turn(index: Array, before: tuple[State, Metrics]) -> tuple[State, Metrics]:
        after = group(jax.tree.map(lambda leaf: leaf[index], (*before, groups[2])))
        return jax.tree.map(lambda leaf, new: leaf.at[index].set(new), before, after)

    # Not `lax.map`, which would hold all parameters and moments twice.
    after: tuple[State, Metrics] = jax.lax.fori_loop(0, settings // together, in_turn, groups[:2])
    return jax.tree.map(lambda leaf: leaf.reshape(settings, *leaf.shape[2:]), after)


def _without_step(state: State) -> State:
    """The part of a state that each setting has of its own: all but the step, which they share."""
    return state._replace(step=None)  # type: ignore[arg-type]


def _together(model: Model, settings: int) -> int:
    """The number of settings to train side by side: on a CPU, as many as its caches hold. A step reads and writes all
    parameters and both of Adam's moments. Beyond the caches, that waits for the memory."""
    if jax.default_backend() != "cpu":
        return settings
    return divisor(settings, max(1, CACHE // (12 * models.parameter_count(model))))


@functools.cache
def program_for(
    config: TrainConfig,
    input_shape: tuple[int, ...],
    num_classes: int,
    images: int,
    settings: int,
    loss: Loss = distillation,
    queried: tuple[TrainConfig, ...] = (),
) -> Program:
    """`make_program` for the network that the recipe names: equal arguments share one program, and so one trace. Where
    there are `queried` teachers, they are queried at each step, and students learn from the mean of their logits."""
    query = teacher_query(input_shape, num_classes, queried) if queried else None
    return make_program(models.network(config, input_shape, num_classes), config, images, settings, loss, query)


def teacher_query(input_shape: tuple[int, ...], num_classes: int, teachers: tuple[TrainConfig, ...]) -> Query:
    """(variables of each teacher, images) → the mean of their logits in evaluation mode."""
    networks = [models.network(teacher, input_shape, num_classes) for teacher in teachers]

    def query(variables: Any, images: Images) -> Logits:
        pairs = zip(networks, variables, strict=True)
        return jnp.mean(jnp.stack([network.apply(*own, images, False)[0] for network, own in pairs]), axis=0)

    return query
