"""The registry of objectives: what an entry says, how one is named, and its mix with hard labels."""

import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.interpreters import partial_eval
from jaxtyping import Array, Float

from kdjax import exact, losses
from kdjax.arrays import Labels, Logits
from kdjax.errors import BadInput, require, require_known, require_new, require_temperature
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
        _require_one_each(self.name, loss.shape, labels.shape)
        return loss

    def require_limit(self) -> None:
        """Raises BadInput unless the objective has a limit as T → ∞, or does not depend on T."""
        lacks = f"T = inf with the objective {self} is not allowed: there is no limit, because {self.limit}"
        require(callable(self.limit) or not self.uses_temperature, f"{lacks}: give finite temperatures")


OBJECTIVES: dict[str, Objective] = {}
"""By name; `register` adds to it."""


def register(objective: Objective) -> None:
    """Adds an objective. Raises BadInput: there is one of that name."""
    require_new("objective", objective.name, OBJECTIVES)
    OBJECTIVES[objective.name] = objective


def parse(text: str) -> Objective:
    """The objective that a text names: `NAME` or `NAME(PARAMETER=NUMBER,…)`; parameters left out have their defaults.

    Raises BadInput: there is no such objective or parameter; a value is missing, not a number, or out of its bounds.
    """
    found = parse_each(text)
    require(len(found) == 1, f"the objective {text} has several values: one is allowed here")
    return found[0]


def parse_each(text: str) -> tuple[Objective, ...]:
    """The objectives that a text names in which a parameter may have several values: `NAME(PARAMETER=1|2|4)`. Raises
    BadInput as `parse`."""
    found = re.fullmatch(r"\s*([^()\s]+)\s*(?:\((.*)\))?\s*", text)
    if found is None:
        raise BadInput(f"--objectives {text!r} is not understood: write NAME or NAME(PARAMETER=NUMBER,…)")
    name, inside = found[1], found[2] or ""
    require_known("objectives", name, OBJECTIVES)
    objective = OBJECTIVES[name]
    given: dict[str, str] = {}
    for part in filter(None, map(str.strip, inside.split(","))):
        key, equals, value = map(str.strip, part.partition("="))
        require(equals and value, f"--objectives {text}: {part} is not understood: write PARAMETER=NUMBER")
        known = [one.name for one in objective.parameters]
        has = f"it has {', '.join(known) or 'none'}"
        require(key in known, f"--objectives {text}: {name} has no parameter {key}: {has}")
        require(key not in given, f"--objectives {text}: {key} is given twice")
        given[key] = value
    choices = [
        [_value(text, one, each.strip()) for each in given[one.name].split("|")] if one.name in given else [one.default]
        for one in objective.parameters
    ]
    count = math.prod(map(len, choices))
    require(count <= 1000, f"the objective {name} has {count:,} values in all: it has up to 1,000 at a time")
    each = tuple(objective._replace(values=values) for values in itertools.product(*choices))
    _ = each[0].hyperparameters  # one without a default is asked for
    twice = f"--objectives {text} gives a value twice: give each once"
    require(len({str(one) for one in each}) == len(each), twice)
    return each


def _value(text: str, parameter: Parameter, given: str) -> float:
    try:
        value = {"true": 1.0, "false": 0.0}.get(given.lower()) if parameter.whole else None
        value = float(given) if value is None else value
    except ValueError:
        value = math.nan
    if parameter.temperature and not math.isnan(value):
        require_temperature(f"objectives {text}: {parameter.name}", value)
        return value
    fits = math.isfinite(value) and parameter.least <= value <= parameter.most
    kind = "a whole number" if parameter.whole else "a finite number"
    bounds = [f"{parameter.least:g} or more"] if parameter.least > -math.inf else []
    bounds += [f"{parameter.most:g} or less"] if parameter.most < math.inf else []
    allowed = ", ".join([f"it is {kind}", *bounds])
    whole = not parameter.whole or value == round(value)
    require(fits and whole, f"--objectives {text}: {parameter.name}={given} is not allowed: {allowed}")
    return value


def words_of(text: str) -> str:
    """An objective in words, with its hyper-parameters; by its name where the file that registers it is not loaded."""
    if text.partition("(")[0] not in OBJECTIVES:
        return text
    objective = parse(text)
    return objective.words + str(objective).removeprefix(objective.name).replace("(", " (")


def is_compared(text: str) -> bool:
    """Whether an objective is compared with hard labels: it is neither these, nor a baseline, nor a control."""
    entry = OBJECTIVES.get(text.partition("(")[0])
    return text != "hard" and not (entry and (entry.baseline or entry.control))


def is_baseline(text: str) -> bool:
    """Whether a verdict compares distillation with this objective, as it does with hard labels, which are none."""
    name = text.partition("(")[0]
    return name in OBJECTIVES and OBJECTIVES[name].baseline


def loss_of(name: str, batch: int = 2) -> Loss:
    """The loss that trains an objective, mixed with hard labels; its hyper-parameters are those of the setting.

    The same name gives the same function, which names a compiled program. Raises BadInput: there is no objective of
    that name; it doesn't give one number per example of a batch of that size, with three classes.
    """
    require_known("objectives", name, OBJECTIVES)
    objective = OBJECTIVES[name]
    training: Loss = objective.training or _mix(objective)
    try:
        shape = _shape_of(training, objective, batch)
    except (TypeError, ValueError) as error:  # JAX's own, of shapes that do not fit
        checked = f"the objective {name} fails on a batch of {batch} with 3 classes, on which it is checked"
        raise BadInput(f"{checked}: {str(error).splitlines()[0]}; write it for any number of classes") from None
    _require_one_each(name, shape, (batch,))
    return training


def uses_teacher(name: str) -> bool:
    """Whether the loss that trains an objective is computed from the teacher's logits; that of label smoothing is not.
    Raises BadInput as `loss_of`."""
    return _uses_teacher(loss_of(name), OBJECTIVES[name])


def _require_one_each(name: str, shape: tuple[int, ...], batch: tuple[int, ...]) -> None:
    wrong = f"the objective {name} gives {shape} for a batch of {batch}: it is to give one number per example"
    require(shape == batch, wrong)


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


def logit_matching_limit(student_logits: losses.Logits, teacher_logits: losses.Logits, labels: Any) -> Losses:
    """`‖u‖²/(2N)`: the limit of plain distillation."""
    return losses.centred_logit_matching_loss(student_logits, teacher_logits)
