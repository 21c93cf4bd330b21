"""The loss that trains an objective: its mix with hard labels, checked before anything is trained."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.interpreters import partial_eval

from kdjax.arrays import Labels, Logits
from kdjax.errors import BadInput, require_known
from kdjax.objectives import registry
from kdjax.objectives.objective import Loss, Objective, PerImage, Setting, require_one_each


def loss_of(name: str, batch: int = 2) -> Loss:
    """The loss that trains an objective, mixed with hard labels; its hyper-parameters are those of the setting.

    The same name gives the same function, which names a compiled program. Raises BadInput: there is no objective of
    that name; it doesn't give one number per example of a batch of that size, with three classes.
    """
    require_known("objectives", name, registry.OBJECTIVES)
    objective = registry.OBJECTIVES[name]
    training: Loss = objective.training or _mix(objective)
    try:
        shape = _shape_of(training, objective, batch)
    except (TypeError, ValueError) as error:  # JAX's own, of shapes that do not fit
        checked = f"the objective {name} fails on a batch of {batch} with 3 classes, on which it is checked"
        raise BadInput(f"{checked}: {str(error).splitlines()[0]}; write it for any number of classes") from None
    require_one_each(name, shape, (batch,))
    return training


def uses_teacher(name: str) -> bool:
    """Whether the loss that trains an objective is computed from the teacher's logits; that of label smoothing is not.
    Raises BadInput as `loss_of`."""
    return _uses_teacher(loss_of(name), registry.OBJECTIVES[name])


@functools.cache  # every block asks
def _shape_of(loss: Loss, objective: Objective, examples: int) -> tuple[int, ...]:
    return tuple(jax.eval_shape(loss, *_arguments(objective, examples)).shape)


@functools.cache  # every block asks
def _uses_teacher(loss: Loss, objective: Objective) -> bool:
    traced = jax.make_jaxpr(loss)(*_arguments(objective, 2)).jaxpr
    _, used = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
    return bool(used[1])


def _arguments(objective: Objective, examples: int) -> tuple[Any, ...]:
    """Shapes of the arguments of the loss that trains an objective, with three classes."""
    of: Any = jax.ShapeDtypeStruct
    logits, labels, number = of((examples, 3), jnp.float32), of((examples,), jnp.int32), of((), jnp.float32)
    names = [one.name for one in objective.parameters]
    return logits, logits, labels, Setting(number, number, number, dict.fromkeys(names, number))


@functools.cache  # the same function for the same objective: it names a compiled program
def _mix(objective: Objective) -> Loss:
    """A soft term mixed with hard labels, as in the paper: `w·term + (1 − w)·CE(y, softmax(z))` (Section 2)."""

    def loss(student_logits: Logits, teacher_logits: Logits, labels: Labels, setting: Setting) -> PerImage:
        values = objective.hyperparameters if setting.hyperparameters is None else setting.hyperparameters
        soft = objective.loss_at(student_logits, teacher_logits, labels, setting.temperature, values)
        hard = optax.softmax_cross_entropy_with_integer_labels(student_logits, labels)
        return setting.soft_weight * soft + (1 - setting.soft_weight) * hard

    return loss
