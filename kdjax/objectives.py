"""What students minimise: the registry of objectives, each one loss per example.

To add one, call `register` from any file (docs/extending.md). Its name is then known to `--objectives`, and stands in
`results.csv`, in tables and on figures.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from kdjax import losses
from kdjax.arrays import Labels, Logits
from kdjax.errors import require, require_known, require_new
from kdjax.losses import PerExample


class Setting(NamedTuple):
    """What may vary inside a program: traced, so a new value never compiles anything."""

    temperature: Float[Array, "*settings"]
    """T in (0, ∞] of the soft targets."""
    soft_weight: Float[Array, "*settings"]
    """Weight w of the soft term; the hard-label term has 1 − w. 0 is hard labels alone."""
    learning_rate: Float[Array, "*settings"]
    """Peak learning rate of the schedule."""
    double_softmax: Float[Array, "*settings"] | None = None
    """1 where softmax(v) stands for the teacher's logits v, a known bug (`targets.alter`), and 0 elsewhere; None: 0."""


PerImage = Float[Array, "batch"]
Loss = Callable[[Logits, Logits, Labels, Setting], PerImage]
"""(student logits, teacher logits, labels, setting) → one loss per example; the step takes their mean, once."""
SoftTerm = Callable[[Logits, Logits, Any], PerImage]
"""(student logits, teacher logits, temperature) → the soft term of each example."""


class Objective(NamedTuple):
    """An entry of the registry."""

    name: str
    """On the command line and in `results.csv`."""
    words: str
    """In tables and on figures."""
    loss: Any
    """A `Loss`; where `needs_reference`, a function of the reference temperature that gives one."""
    needs_reference: bool = False


OBJECTIVES: dict[str, Objective] = {}
"""By name; `register` adds to it."""


def register(objective: Objective) -> None:
    """Adds an objective. Raises BadInput: there is one of that name."""
    require_new("objective", objective.name, OBJECTIVES)
    OBJECTIVES[objective.name] = objective


def loss_of(name: str, reference: float | None = None) -> Loss:
    """The loss of a registered objective. Equal arguments give the same function, which names a compiled program.
    Raises BadInput: there is no such objective, it needs a reference, or it doesn't give one number per example."""
    require_known("objectives", name, OBJECTIVES)
    loss = OBJECTIVES[name].loss
    if OBJECTIVES[name].needs_reference:
        require(reference is not None, f"the objective {name} needs --match-gradient-norm: its reference temperature")
        loss = loss(reference)
    shape = _shape_of_two(loss)
    require(shape == (2,), f"the objective {name} gives {shape} for two examples: it is to give one number per example")
    checked: Loss = loss
    return checked


@functools.cache  # every block asks
def _shape_of_two(loss: Loss) -> tuple[int, ...]:
    """The shape of a loss of two examples."""
    of: Any = jax.ShapeDtypeStruct
    logits, labels, number = of((2, 3), float), of((2,), int), of((), float)
    return tuple(jax.eval_shape(loss, logits, logits, labels, Setting(number, number, number)).shape)


def mixed(soft_term: SoftTerm) -> Loss:
    """The loss of a soft term mixed with hard labels, as in the paper: `w·soft + (1 − w)·CE(y, softmax(z))`."""

    def loss(student_logits: Logits, teacher_logits: Logits, labels: Labels, setting: Setting) -> PerImage:
        soft = soft_term(student_logits, teacher_logits, setting.temperature)
        hard = optax.softmax_cross_entropy_with_integer_labels(student_logits, labels)
        return setting.soft_weight * soft + (1 - setting.soft_weight) * hard

    return loss


def distillation(student_logits: Logits, teacher_logits: Logits, labels: Labels, setting: Setting) -> PerImage:
    """The paper's objective, per example: `w·T²·KL(p‖q) + (1 − w)·CE(y, softmax(z))` (arXiv 1503.02531, Section 2)."""
    if setting.double_softmax is not None:
        teacher_logits = jnp.where(setting.double_softmax > 0, jax.nn.softmax(teacher_logits), teacher_logits)
    return losses.distillation_loss(student_logits, teacher_logits, labels, setting.temperature, setting.soft_weight)


@functools.cache  # the same function for the same reference: it names a compiled program
def matched(reference: float | int, placebo: bool = False) -> Loss:
    """An objective whose soft gradient has, at each step, the norm that it would have at another temperature.

    With `g(T) = T (q − p)`, the gradient of `T²·KL` in the logits, and `n(T)` its norm over the batch (root of the sum
    of squares over examples and classes; of this device's rows, where the batch is divided) at the student's current
    logits:

        matched, at setting T:   direction g(T), norm n(reference):   w·[n(reference)/n(T)]·T²·KL_T + (1 − w)·CE
        its placebo, for T:      direction g(reference), norm n(T):   the same with T and reference exchanged

    With the plain sweep (direction and norm of T) and its run at T = reference these fill the square of direction ×
    norm. Under SGD two runs of equal norm differ by temperature alone (matched at T and the reference; the plain run
    at T and its placebo), two of equal direction by the size of their steps alone. In the placebo, scaling the gradient
    is scaling the rate at that step: the rate of the reference, multiplied by `n(T)/n(reference)`, which is the factor
    that matching divides out. No gradient passes through the factor; where a norm is 0 (student and teacher equal) it
    is 1. Only the soft term is scaled; at T = reference both are `distillation`.

    Under Adam with w = 1 a factor that does not change from step to step has no effect, up to eps: this is for SGD.

    `reference` is the temperature that gives the norm (in the placebo: the direction), in (0, ∞]; another number is
    `BadInput` when the objective is first traced.
    """

    def loss(student_logits: Logits, teacher_logits: Logits, labels: Labels, setting: Setting) -> PerImage:
        def norm(temperature: PerExample) -> Array:
            return jnp.linalg.norm(losses.soft_target_gradient(student_logits, teacher_logits, temperature))

        own, other = (reference, setting.temperature) if placebo else (setting.temperature, reference)
        size = norm(own)
        factor = jax.lax.stop_gradient(jnp.where(size > 0, norm(other) / jnp.where(size > 0, size, 1), 1))
        soft = losses.soft_target_loss(student_logits, teacher_logits, own)
        hard = optax.softmax_cross_entropy_with_integer_labels(student_logits, labels)
        return setting.soft_weight * factor * soft + (1 - setting.soft_weight) * hard

    return loss


register(Objective("hard", "hard labels", distillation))
register(Objective("soft", "soft targets", distillation))
register(Objective("double_softmax", "double softmax", distillation))
register(Objective("mse", "squared error of logits", mixed(lambda z, v, _: losses.logit_matching_loss(z, v))))
register(Objective("matched", "norm matched", matched, needs_reference=True))
register(Objective("placebo", "placebo", functools.partial(matched, placebo=True), needs_reference=True))
