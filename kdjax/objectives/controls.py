"""Controls: a known bug, two objectives that tell temperature from step size, and a teacher of other examples."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from kdjax import losses
from kdjax.errors import require
from kdjax.losses import Logits, Losses, PerExample
from kdjax.objectives.objective import Number, Objective, Parameter, logit_matching_limit
from kdjax.objectives.registry import register


def double_softmax(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`T² KL` from `softmax(softmax(v)/T)`, a known bug: the teacher's probabilities taken for logits. The target is
    nearly uniform."""
    return losses.soft_target_loss(student_logits, _probabilities(teacher_logits), temperature)


def _probabilities(logits: Logits) -> Logits:
    return jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))


def matched(
    student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample, reference: Number
) -> Losses:
    """Soft targets whose gradient has, at each step, the norm that it would have at another temperature.

    With `g(T) = T (q − p)`, the gradient of `T²·KL` in the logits, and `n(T)` its norm over the batch (root of the sum
    of squares over examples and classes; of this device's rows, where the batch is divided) at the student's current
    logits:

        matched, at T:           direction g(T), norm n(reference):   [n(reference)/n(T)]·T²·KL_T
        its placebo, for T:      direction g(reference), norm n(T):   the same with T and reference exchanged

    With the plain sweep (direction and norm of T) and its run at T = reference these fill the square of direction ×
    norm, both of the gradient in the logits. Under SGD two runs of equal norm differ by the direction (matched at T and
    the reference; the plain run at T and its placebo), two of equal direction by the size of their steps. In the
    parameters, two logit gradients of equal norm may still be steps of two lengths. In the placebo, scaling the
    gradient is scaling the rate at that step: the rate of the reference, multiplied by `n(T)/n(reference)`, which is
    the factor that matching divides out. No gradient passes through the factor; where a norm is 0 (student and teacher
    equal) it is 1. At T = reference both are `kd`.

    Under Adam with w = 1 a factor that does not change from step to step has no effect, up to eps: this is for SGD.
    """
    return _scaled(student_logits, teacher_logits, temperature, reference)


def _scaled(student_logits: Logits, teacher_logits: Logits, own: PerExample, other: PerExample) -> Losses:
    def norm(temperature: PerExample) -> Array:  # over the batch, the last of the leading axes
        gradient = losses.soft_target_gradient(student_logits, teacher_logits, temperature)
        return jnp.sqrt(jnp.sum(jnp.square(gradient), axis=(-2, -1)[-gradient.ndim :], keepdims=True)[..., 0])

    size = norm(own)
    factor = jax.lax.stop_gradient(jnp.where(size > 0, norm(other) / jnp.where(size > 0, size, 1), 1))
    return factor * losses.soft_target_loss(student_logits, teacher_logits, own)


def placebo(
    student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample, reference: Number
) -> Losses:
    """`matched` with T and reference exchanged."""
    return _scaled(student_logits, teacher_logits, reference, temperature)


def shuffled(student_logits: Logits, teacher_logits: Logits, labels: Any, temperature: PerExample) -> Losses:
    """`T² KL` from the soft targets of another example: teacher logits are rolled by one along the batch, the last of
    the leading axes (of one device, where it is divided).

    It has all of a teacher's softening and none of its knowledge of the example. Batches are drawn anew each epoch, so
    an example never has the same wrong targets twice, but by chance, and they cannot be learnt by heart. (`--targets
    shuffled` is another control: one fixed permutation of the whole transfer set, for whatever objective.) Raises
    BadInput: a batch of fewer than two examples.
    """
    few = f"the objective shuffled takes another example's logits: of shape {student_logits.shape} are too few for it"
    require(student_logits.ndim > 1 and student_logits.shape[-2] > 1, f"{few}: give a batch of 2 or more")
    return losses.soft_target_loss(student_logits, jnp.roll(teacher_logits, 1, axis=-2), temperature)


def _double_limit(student_logits: Logits, teacher_logits: Logits, labels: Any) -> Losses:
    """Matching of centred logits with the teacher's probabilities."""
    return logit_matching_limit(student_logits, _probabilities(teacher_logits), labels)


def _matched_limit(student_logits: Logits, teacher_logits: Logits, labels: Any, reference: Number) -> Losses:
    """That of soft targets, scaled."""
    return matched(student_logits, teacher_logits, labels, jnp.inf, reference)


def _placebo_limit(student_logits: Logits, teacher_logits: Logits, labels: Any, reference: Number) -> Losses:
    """Soft targets at the reference, scaled."""
    return placebo(student_logits, teacher_logits, labels, jnp.inf, reference)


def _shuffled_limit(student_logits: Logits, teacher_logits: Logits, labels: Any) -> Losses:
    """Matching of centred logits with another example's."""
    return logit_matching_limit(student_logits, jnp.roll(teacher_logits, 1, axis=-2), labels)


REFERENCE = (Parameter("reference", None, temperature=True),)
register(
    Objective(
        "double_softmax",
        "double softmax",
        double_softmax,
        limit=_double_limit,
        target=lambda v, temperature: (_probabilities(v), temperature),
        paper="none: a bug",
        control=True,
    )
)
register(
    Objective(
        "matched",
        "norm matched",
        matched,
        REFERENCE,
        limit=_matched_limit,
        paper="none",
        control=True,
        for_sgd=True,
    )
)
register(
    Objective(
        "placebo",
        "placebo",
        placebo,
        REFERENCE,
        limit=_placebo_limit,
        target=lambda v, temperature, reference: (v, reference),
        paper="none",
        control=True,
        for_sgd=True,
    )
)
register(
    Objective(
        "shuffled",
        "shuffled teacher",
        shuffled,
        limit=_shuffled_limit,
        paper="none",
        control=True,
        baseline=True,
    )
)
