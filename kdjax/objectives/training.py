"""Objectives with an option of their own: what `temperature_sweep` trains without `--objectives`, and its controls."""

import functools

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from kdjax import losses
from kdjax.arrays import Labels, Logits
from kdjax.losses import PerExample
from kdjax.objectives.registry import Loss, Objective, PerImage, Setting, register


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


register(Objective("hard", "hard labels", None, training=distillation))
register(Objective("soft", "soft targets", None, training=distillation))
register(Objective("double_softmax", "double softmax", None, training=distillation))
register(Objective("matched", "norm matched", None, training=matched, needs_reference=True))
placebo = functools.partial(matched, placebo=True)
register(Objective("placebo", "placebo", None, training=placebo, needs_reference=True))
