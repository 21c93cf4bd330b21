"""How a loss of each framework is asked for its value and its gradients; each is imported only where it is used."""

import warnings
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from analysis.checking.cases import Case

Gradient = Float[np.ndarray, "*batch classes"] | None


class WrongResult(Exception):
    """A loss gave what cannot be used: what, and what is allowed."""


class Answer(NamedTuple):
    """What a loss says to a case. Where it gives one number an example, they are averaged."""

    value: float
    gradient: Gradient
    """In the student's logits, `[B, N]`; None where none reaches them."""
    teacher_gradient: Gradient
    """In the teacher's; None where none reaches them, or it is not known."""


class Framework(NamedTuple):
    """Of arrays."""

    name: str
    packages: frozenset[str]
    """Whose import says that a file is about it."""
    ask: Callable[[Callable[..., Any], Case, bool], Answer]
    """(loss, case, whether in float64) → answer."""


def _check(result: Any, batch: tuple[int, ...]) -> None:
    allowed = "a loss gives one number, or one for each example"
    try:
        shape = tuple(np.shape(result))
    except Exception:  # of a list of tensors, whatever their library raises
        shape = (0,)
    if isinstance(result, (tuple, list, dict)) and shape not in ((1,), batch):
        raise WrongResult(f"a {type(result).__name__} of {len(result)}: {allowed}; return it alone")
    if shape not in ((), (1,), batch):
        raise WrongResult(f"an array of shape {list(shape)}: {allowed}")


def _ask_numpy(call: Callable[..., Any], case: Case, precise: bool) -> Answer:
    """By central differences in float64, whatever is asked for: float32 has too few digits for them."""

    def value(student: Any) -> float:
        # Copies: a loss may work in place.
        teacher, labels = case.teacher.copy(), case.labels.copy()
        result = call(student=student, teacher=teacher, temperature=case.temperature, labels=labels)
        _check(result, case.student.shape[:-1])
        if np.asarray(result).dtype != np.float64:
            raise WrongResult(
                f"{np.asarray(result).dtype}: a loss in NumPy computes in float64, for finite differences"
            )
        return float(np.mean(result))

    gradient, step = np.zeros_like(case.student), 1e-5
    with np.errstate(all="ignore"):
        for place in np.ndindex(case.student.shape):
            moved = [case.student.copy(), case.student.copy()]
            moved[0][place] += step
            moved[1][place] -= step
            gradient[place] = (value(moved[0]) - value(moved[1])) / (2 * step)
        return Answer(value(case.student.copy()), gradient, None)


def _ask_jax(call: Callable[..., Any], case: Case, precise: bool) -> Answer:
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(precise):

        def value(student: Any, teacher: Any) -> Any:
            result = call(student=student, teacher=teacher, temperature=case.temperature, labels=labels)
            _check(result, case.student.shape[:-1])
            return jnp.mean(jnp.asarray(result))

        labels = jnp.asarray(case.labels, jnp.int32)
        logits = [jnp.asarray(one, float) for one in (case.student, case.teacher)]
        found, gradients = jax.value_and_grad(value, (0, 1))(*logits)
        return Answer(float(found), *(np.asarray(one, float) for one in gradients))


def _ask_torch(call: Callable[..., Any], case: Case, precise: bool) -> Answer:
    import torch

    kind = torch.float64 if precise else torch.float32
    student, teacher = (torch.tensor(one, dtype=kind, requires_grad=True) for one in (case.student, case.teacher))
    result = call(student=student, teacher=teacher, temperature=case.temperature, labels=torch.tensor(case.labels))
    _check(result, case.student.shape[:-1])
    mean = torch.as_tensor(result, dtype=kind).mean()
    if mean.requires_grad:
        mean.backward()
    gradients = (None if one.grad is None else one.grad.numpy().astype(float) for one in (student, teacher))
    return Answer(float(mean.detach()), *gradients)


def _ask_keras(call: Callable[..., Any], case: Case, precise: bool) -> Answer:
    import keras

    backends = {"jax": _ask_jax, "torch": _ask_torch}
    backend = keras.backend.backend()
    if backend not in backends:
        raise NotImplementedError(f"there is no gradient from Keras with {backend}: set KERAS_BACKEND to jax or torch")
    return backends[backend](call, case, precise)


def _quietly(ask: Callable[..., Answer]) -> Callable[..., Answer]:
    def asked(*arguments: Any) -> Answer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ask(*arguments)

    return asked


FRAMEWORKS = (
    Framework("Keras", frozenset({"keras", "tensorflow", "tf_keras"}), _quietly(_ask_keras)),
    Framework("PyTorch", frozenset({"torch"}), _quietly(_ask_torch)),
    Framework("JAX", frozenset({"jax", "optax", "flax", "kdjax"}), _quietly(_ask_jax)),
)
NUMPY = Framework("NumPy", frozenset({"numpy", "scipy"}), _quietly(_ask_numpy))


def named_in(packages: Collection[str]) -> list[Framework]:
    """Those whose packages are among these, to be tried in turn, NumPy last; where there are none, NumPy."""
    return [one for one in (*FRAMEWORKS, NUMPY) if one.packages & set(packages)] or [NUMPY]
