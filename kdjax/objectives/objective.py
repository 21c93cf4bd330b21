"""An objective: one loss per example, with its hyper-parameters and its limit."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdjax import exact, losses
from kdjax.arrays import Labels, Logits
from kdjax.errors import require
from kdjax.losses import Losses, PerExample


class Setting(NamedTuple):
    """What may vary inside a program: traced, so a new value never compiles anything."""

    temperature: Float[Array, "*settings"]
    """T in (0, ∞] of the soft targets."""
    soft_weight: Float[Array, "*settings"]
    """Weight w of the soft term; the hard-label term has 1 − w. 0 is hard labels alone."""
    learning_rate: Float[Array, "*settings"]
    """Peak learning rate of the schedule."""
    hyperparameters: Mapping[str, Float[Array, "*settings"]] | None = None
    """The objective's own, by name; None: it has none, or they have their defaults."""


Number: TypeAlias = float | int | Float[Array, ""]
"""A hyper-parameter: in training it is traced."""
PerImage = Float[Array, "batch"]
Loss = Callable[[Logits, Logits, Labels, Setting], PerImage]
"""(student logits, teacher logits, labels, setting) → one loss per example; the step takes their mean, once."""


class Parameter(NamedTuple):
    """A hyper-parameter of an objective: a finite number from `least` to `most`."""

    name: str
    default: float | None
    """The authors'; None: it has to be given."""
    least: float = -math.inf
    most: float = math.inf
    whole: bool = False
    """A whole number; 0 and 1 may be written false and true."""
    temperature: bool = False
    """A temperature: above 0, inf for the limit."""


class Objective(NamedTuple):
    """An entry of the registry; with `values`, at these hyper-parameters."""

    name: str
    """On the command line and in `results.csv`, there with those hyper-parameters that are not the defaults."""
    words: str
    """In tables and on figures."""
    term: Any
    """(student logits, teacher logits `[..., N]`, labels `[...]`, temperature, hyper-parameters by name) → the soft
    term, `[...]`. In training the hyper-parameters are traced, so no branch may depend on them."""
    parameters: tuple[Parameter, ...] = ()
    limit: Any = "its registry entry gives none"
    """What the term becomes as T → ∞: a function of (student logits, teacher logits, labels, hyper-parameters by name);
    or a text: there is no limit, because …"""
    curvature: Any = None
    """f″(1) of an f-divergence, a function of the hyper-parameters by name: `T² D_f → f″(1)·‖u‖²/(2N)`, u being the
    difference of the centred logits. None: it is none."""
    target: Any = None
    """(teacher logits, temperature, hyper-parameters by name) → the logits and the temperature of the soft target.
    None: the teacher's logits, at T."""
    shift_invariant: bool = True
    """Whether adding a constant to all logits of an example changes nothing."""
    uses_temperature: bool = True
    """Whether the term depends on T. If not, it is trained once for all temperatures, and its rows have none."""
    paper: str = ""
    """arXiv id, or where there is none, what stands for it."""
    training: Any = None
    """A `Loss` that stands for the mix of `term` with hard labels, where one function is more accurate (`kd`)."""
    control: bool = False
    """Whether it is no method of its own but there for comparison: a verdict is then not about it."""
    baseline: bool = False
    """Whether a verdict also compares distillation with it: it shows what is had without the teacher's knowledge."""
    for_sgd: bool = False
    """What it changes is the size of steps, which Adam divides out again."""
    values: tuple[float | None, ...] = ()
    """Of the hyper-parameters, in their order; empty: the defaults."""

    @property
    def hyperparameters(self) -> dict[str, float]:
        """By name. Raises BadInput: one without a default is not given."""
        values = self.values or tuple(one.default for one in self.parameters)
        names = [one.name for one in self.parameters]
        missing = [name for name, value in zip(names, values, strict=True) if value is None]
        asked = f"the objective {self.name} needs a value: write {self.name}({'=NUMBER,'.join(missing)}=NUMBER)"
        require(not missing, asked)
        return {name: float(value) for name, value in zip(names, values, strict=True) if value is not None}

    def __str__(self) -> str:
        """The name with the hyper-parameters that are not the defaults: what `parse` reads, and `results.csv` holds."""
        changed = [
            f"{one.name}={value:.9g}"
            for one, value in zip(self.parameters, self.hyperparameters.values(), strict=True)
            if value != one.default
        ]
        return self.name + (f"({','.join(changed)})" if changed else "")

    def loss(self, student_logits: Any, teacher_logits: Any, labels: Any, temperature: PerExample) -> Array:
        """The soft term of each example: `[..., N]`, `[..., N]`, `[...]` and T in (0, inf] to `[...]`.

        float32, or float64 where one of the logits is. T is a number or an array over the leading axes. The teacher is
        a constant: no derivative goes to its logits. In T there is none of `dkd`, `dist` and the divergences other than
        `kd`: they raise TypeError, unless T stands in `stop_gradient`. A class that is -inf in both logits is left out
        by `kd`, `ttm`, `wttm` and the divergences; with others the loss is nan or infinite. Raises BadInput: T = inf
        where there is no limit (of a JAX array it is not asked); shapes that do not fit; labels, unless traced, outside
        0 to N − 1.
        """
        return self.loss_at(student_logits, teacher_logits, labels, temperature, self.hyperparameters)

    def loss_at(
        self,
        student_logits: Any,
        teacher_logits: Any,
        labels: Any,
        temperature: PerExample,
        hyperparameters: Mapping[str, Any],
    ) -> Array:
        """`loss` at other hyper-parameters, by name, which may be traced."""
        student_logits, teacher_logits, labels = map(jnp.asarray, (student_logits, teacher_logits, labels))
        exact.require_labels(labels, student_logits)
        if not isinstance(temperature, jax.Array) and np.isinf(temperature).any():
            self.require_limit()
        teacher_logits = jax.lax.stop_gradient(teacher_logits)
        loss: Array = self.term(student_logits, teacher_logits, labels, temperature, **hyperparameters)
        require_one_each(self.name, loss.shape, labels.shape)
        return loss

    def require_limit(self) -> None:
        """Raises BadInput unless the objective has a limit as T → ∞, or does not depend on T."""
        lacks = f"T = inf with the objective {self} is not allowed: there is no limit, because {self.limit}"
        require(callable(self.limit) or not self.uses_temperature, f"{lacks}: give finite temperatures")


def logit_matching_limit(student_logits: losses.Logits, teacher_logits: losses.Logits, labels: Any) -> Losses:
    """`‖u‖²/(2N)`: the limit of plain distillation."""
    return losses.centred_logit_matching_loss(student_logits, teacher_logits)


def require_one_each(name: str, shape: tuple[int, ...], batch: tuple[int, ...]) -> None:
    wrong = f"the objective {name} gives {shape} for a batch of {batch}: it is to give one number per example"
    require(shape == batch, wrong)
