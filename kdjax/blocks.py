"""A block: one seed × K settings of one architecture, as one program: its compiled functions."""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from kdjax import models, targets, transforms
from kdjax.config import Targets, TrainConfig
from kdjax.errors import require
from kdjax.models import Model, ModelState, Params
from kdjax.train import (
    Ask,
    Batch,
    Metrics,
    Objective,
    Purpose,
    Setting,
    State,
    hinton,
    make_optimizer,
    make_update,
    make_view,
    run_key,
)

EVALUATION_BATCH = 1000
"""Images scored at a time: bounds the memory of an evaluation."""
CACHE = 32 * 2**20
"""Bytes of parameters and moments that are trained side by side on a CPU."""
ABREAST = 4
"""Convolutional networks of a block that are in one step of its program: more would need more memory."""
YNN = "xla_cpu_experimental_ynn_fusion_type"
CPU_OPTIONS = {YNN: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
"""What XLA gives to its library of kernels on a CPU: products and sums, and not, as jaxlib 0.10.2 does, convolutions.
On an AMD EPYC (AVX2), in float32, the library takes 2.2 times as long as XLA's own code at 64 channels of 32×32 pixels,
1.2 times at 256 of 8×8."""


class TransferSet(NamedTuple):
    """What students learn from, on the device: images, their labels, and the teacher's logits for them."""

    images: UInt8[Array, "images height width channels"]
    labels: Int[Array, "images"]
    teacher_logits: Float[Array, "images classes"]
    teachers: Any = ()
    """(parameters, model_state) of each teacher, for a program that asks them at each step."""


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
    logits: Callable[[State, UInt8[Array, "images height width channels"]], Float[Array, "settings images classes"]]
    """(state, images) → logits in evaluation, of the averaged parameters where there are any. No image is left out."""
    steps_per_epoch: int
    settings: int
    together: int
    """How many settings are trained side by side; groups of that number take turns, a call of `advance` each."""


def jit(function: Callable[..., Any], hurried: bool = False, **arguments: Any) -> Callable[..., Any]:
    """`jax.jit` of a whole program that trains or evaluates networks, with `compiler_options`.

    Like any function with compiler options it stands alone: inside another `jit` or under `grad`, JAX refuses it.

    Args:
        function: what to compile.
        hurried: compiled without optimization on a CPU: initial weights, made once, took seconds to compile.
        arguments: of `jax.jit`.
    """
    options: dict[str, Any] | None = compiler_options()
    if hurried and options:
        options = {**options, "xla_backend_optimization_level": 0}
    found: Callable[..., Any] = jax.jit(function, compiler_options=options, **arguments)
    return found


@functools.cache
def compiler_options() -> dict[str, str] | None:
    """`CPU_OPTIONS` where JAX's default backend is the CPU and its compiler knows them; else, or where the user's
    `XLA_FLAGS` set the same, None."""
    if jax.default_backend() != "cpu" or YNN in os.environ.get("XLA_FLAGS", ""):
        return None
    try:
        jax.jit(lambda: 0, compiler_options=CPU_OPTIONS)()
    except jax.errors.JaxRuntimeError as error:
        if YNN not in str(error):
            raise
        return None  # another version of XLA
    return CPU_OPTIONS


@functools.partial(jax.jit, static_argnums=2)
def epoch_order(seed: int | Int[Array, ""], epoch: int | Int[Array, ""], images: int) -> Int[Array, "images"]:
    """The order in which an epoch visits the images: a permutation fixed by (seed, epoch)."""
    return jax.random.permutation(jax.random.fold_in(run_key(seed, Purpose.ORDER), epoch), images)


def make_program(
    model: Model,
    config: TrainConfig,
    images: int,
    settings: int,
    objective: Objective = hinton,
    ask: Ask | None = None,
) -> Program:
    """A block of `settings` runs as one single-device program, traced once.

    With `config.devices` above 1 it is one big program instead, which divides each batch over these devices.

    Args:
        model: the network.
        config: the recipe, closed over.
        images: size of the transfer set.
        settings: K.
        objective: one loss per example.
        ask: asks the transfer set's teachers at each step; None: their logits are looked up.
    """
    steps_per_epoch = images // config.batch_size
    axis_name = "batch" if config.devices > 1 else None
    shared = bool(config.jitter) or config.augment != "none" or ask is not None or axis_name is not None
    # A view that is dear to make is made once for all.
    together = settings if shared or not model.side_by_side else _together(model, settings)
    view = make_view(config, axis_name, ask)
    update = make_update(model, config, steps_per_epoch, objective, axis_name)

    def block_step(state: State, batch: Batch, setting: Setting) -> tuple[State, Metrics]:
        seen = view(batch)  # once for all K: shifts, and the pass of the teachers

        def one(own: State, setting: Setting) -> tuple[State, Metrics]:
            own, metrics = update(own._replace(step=state.step), seen, setting)
            return own._replace(step=None), metrics  # type: ignore[arg-type]

        # Keys and images are not mapped: the masks are drawn once, and the first layer of all K is one product.
        own, metrics = for_each(model, one, ABREAST)(state._replace(step=None), setting)  # type: ignore[arg-type]
        return own._replace(step=state.step + 1), metrics

    @functools.partial(jit, hurried=True)
    def init(seed: Int[Array, ""]) -> State:
        params, model_state = model.init(run_key(seed, Purpose.INIT))
        opt_state = make_optimizer(config).init(params)
        averaged = params if config.average else None
        one = State(params, model_state, opt_state, jnp.zeros((), jnp.int32), averaged, jnp.full((), -1, jnp.int32))
        stacked = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], settings, axis=0), one)
        return stacked._replace(step=one.step)

    def advance(
        state: State,
        sums: Metrics,
        transfer_set: TransferSet,
        setting: Setting,
        seed: Int[Array, ""],
        order: Int[Array, "images"],
        steps: Int[Array, ""],
    ) -> tuple[State, Metrics]:
        noise = run_key(seed, Purpose.NOISE)
        first, last = state.step, state.step + steps

        def body(setting: Setting, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
            state, sums = carry
            epoch, step = state.step // steps_per_epoch, state.step % steps_per_epoch
            share = config.batch_size // config.devices
            mine = 0 if axis_name is None else jax.lax.axis_index(axis_name) * share
            rows = jax.lax.dynamic_slice_in_dim(order, step * config.batch_size + mine, share)
            key = jax.random.fold_in(jax.random.fold_in(noise, epoch), step)
            images, labels, table = (array.at[rows].get(mode="promise_in_bounds") for array in transfer_set[:3])
            state, metrics = block_step(state, Batch(images, labels, table, key, transfer_set.teachers), setting)
            return state, jax.tree.map(jnp.add, sums, metrics)

        def group(stack: tuple[State, Metrics, Setting]) -> tuple[State, Metrics]:
            own, sums, setting = stack
            begun = own._replace(step=first), sums
            # A while loop, not a scan: any number of steps is the same program, so chunking cannot change a result.
            own, sums = jax.lax.while_loop(lambda carry: carry[0].step < last, functools.partial(body, setting), begun)
            return own._replace(step=None), sums  # type: ignore[arg-type]

        stack = (state._replace(step=None), sums, setting)  # type: ignore[arg-type]
        if together == settings:
            own, sums = group(stack)
        else:
            groups = jax.tree.map(lambda leaf: leaf.reshape(-1, together, *leaf.shape[1:]), stack)

            def in_turn(index: Array, kept: tuple[State, Metrics]) -> tuple[State, Metrics]:
                done = group(jax.tree.map(lambda leaf: leaf[index], (*kept, groups[2])))
                return jax.tree.map(lambda leaf, new: leaf.at[index].set(new), kept, done)

            # Not `lax.map`, which would hold all parameters and moments twice.
            done = jax.lax.fori_loop(0, settings // together, in_turn, groups[:2])
            own, sums = jax.tree.map(lambda leaf: leaf.reshape(settings, *leaf.shape[2:]), done)
        return own._replace(step=last), sums

    def logits(
        state: State, images: UInt8[Array, "images height width channels"]
    ) -> Float[Array, "settings images classes"]:
        params = state.params if state.averaged is None else state.averaged
        return evaluator(model)(params, state.model_state, images)

    compiled: Callable[..., tuple[State, Metrics]]
    if axis_name is None:
        compiled = jit(advance, donate_argnums=(0, 1))
    else:
        # Every device holds all of the state and the images, and takes its share of each batch.
        mapped = jax.pmap(
            lambda place, *arguments: advance(*arguments),  # pmap wants an argument that differs between devices
            axis_name,
            in_axes=(0, *[None] * 7),
            out_axes=None,
            devices=jax.local_devices()[: config.devices],
        )
        compiled = functools.partial(mapped, jnp.arange(config.devices))
    return Program(init, compiled, logits, steps_per_epoch, settings, together)


def _together(model: Model, settings: int) -> int:
    """How many of so many settings to train side by side: on a CPU, as many as its caches hold.

    A step reads and writes all parameters and both of Adam's moments. Beyond the caches, that waits for the memory.
    """
    if jax.default_backend() != "cpu":
        return settings
    return _divisor(settings, max(1, CACHE // (12 * models.parameter_count(model))))


def for_each(model: Model, function: Callable[..., Any], abreast: int = 1) -> Callable[..., Any]:
    """`function` of one network, for a stack of K along the leading axes.

    Side by side, as one network of K times the products; or, of models that do not gain by it, one after another, up to
    `abreast` at a time: independent of each other in one program, they keep all cores busy.
    """
    if model.side_by_side:
        return jax.vmap(function)

    def each(*stack: Any) -> Any:
        settings = len(jax.tree.leaves(stack)[0])
        few = _divisor(settings, abreast)
        groups = jax.tree.map(lambda leaf: leaf.reshape(-1, few, *leaf.shape[1:]), stack)

        def one(group: Any, index: int) -> Any:
            return function(*jax.tree.map(lambda leaf: leaf[index], group))

        def some(group: Any) -> Any:
            done = [one(group, index) for index in range(few)]
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *done)

        return jax.tree.map(lambda leaf: leaf.reshape(settings, *leaf.shape[2:]), jax.lax.map(some, groups))

    return each


def _divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is no larger than `most`."""
    return max(divisor for divisor in range(1, number + 1) if number % divisor == 0 and divisor <= most)


@functools.lru_cache(maxsize=64)  # models of one's own are let go in time
def evaluator(model: Model) -> Callable[[Params, ModelState, Any], Float[Array, "settings images classes"]]:
    """(params, model_state, images) → logits in evaluation mode of a stack of K networks; no image is left out.

    `EVALUATION_BATCH` images at a time, by one compiled program whatever their number (fewer: one for each number). The
    same model has the same evaluator.
    """

    @jit
    def some(
        params: Params, model_state: ModelState, batch: UInt8[Array, "batch height width channels"]
    ) -> Float[Array, "settings batch classes"]:
        def one(params: Params, model_state: ModelState) -> Float[Array, "batch classes"]:
            return model.apply(params, model_state, transforms.to_float(batch), False)[0]

        return for_each(model, one)(params, model_state)

    def logits(params: Params, model_state: ModelState, images: Any) -> Float[Array, "settings images classes"]:
        count = len(images)
        require(count > 0, "there are no images to evaluate: give one or more")
        size, scored = min(EVALUATION_BATCH, count), []
        params, model_state, images = jax.tree.map(jnp.asarray, (params, model_state, images))  # once for all batches
        for first in range(0, count, size):
            begin = min(first, count - size)  # the last batch is as large as the others
            batch = jax.lax.dynamic_slice_in_dim(images, begin, size)
            scored.append(some(params, model_state, batch)[:, first - begin :])
        return jnp.concatenate(scored, axis=1)

    return logits


@functools.cache
def program_for(
    config: TrainConfig,
    input_shape: tuple[int, ...],
    num_classes: int,
    images: int,
    settings: int,
    objective: Objective = hinton,
    asked: tuple[TrainConfig, ...] = (),
    kind: Targets = "teacher",
) -> Program:
    """The block program of the network that the recipe names: equal arguments share one program, and so one trace.

    With `asked`, these teachers are asked at each step, and the mean of their logits is altered as `kind` says.
    """
    ask = asker(input_shape, num_classes, asked, kind) if asked else None
    model = models.network(config, input_shape, num_classes)
    return make_program(model, config, images, settings, objective, ask)


def asker(input_shape: tuple[int, ...], num_classes: int, asked: tuple[TrainConfig, ...], kind: Targets) -> Ask:
    """Asks these teachers, in evaluation mode; the mean of their logits, altered as `kind` says."""
    teachers = [models.network(teacher, input_shape, num_classes) for teacher in asked]

    def ask(kept: Any, seen: Float[Array, "batch height width channels"]) -> Float[Array, "batch classes"]:
        pairs = zip(teachers, kept, strict=True)
        logits = [teacher.apply(*variables, seen, False)[0] for teacher, variables in pairs]
        return targets.alter(kind, jnp.mean(jnp.stack(logits), axis=0))

    return ask
