"""What a loss is, in words: its explanation, and what is asked of it directly."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from analysis.checking import explanation, forms
from analysis.checking.cases import EXTREME, ORDINARY, TOKENS, Case
from analysis.checking.explanation import Explanation
from analysis.checking.forms import Candidate, Finding, Term
from analysis.checking.frameworks import Answer
from analysis.checking.loading import Loss
from analysis.checking.scale import TOLERANCE
from kdjax.errors import BadInput

HARD_CODED = (1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 20, 25, 30, 40, 50, 100, 0.5, 0.25, 0.2, 0.1)
"""T that a loss without a parameter for it may have in its code, tried where T = 1 explains nothing; the likeliest of
those that explain it alike first."""
SLIGHT = 0.1
"""A relative change of the gradient that rounding in bfloat16 can make."""
RIGHT = "kd as in the paper: T² KL(p‖q), averaged over the examples"


class Diagnosis(NamedTuple):
    """What is said of a loss."""

    lines: tuple[str, ...]
    right: bool
    """It is `kd` or another objective, without a fault."""


def diagnose(loss: Loss) -> Diagnosis:
    """Asks the loss, and says what it is. Raises BadInput: it cannot be asked."""
    asked = [loss.asked(case) for case in ORDINARY]
    answers = [loss.ask(case) for case in asked]
    found = None
    if all(answer.gradient is not None and np.isfinite(answer.gradient).all() for answer in answers):
        labelled = "labels" in loss.roles
        found = explanation.explain(forms.candidates(), asked, answers, labelled)
        if found is None and "temperature" not in loss.roles:
            loss, found = _hard_coded(loss, answers)
            asked = [loss.asked(case) for case in ORDINARY]
        if found is None:
            # Not the last case: where N = 2, a direction is a sign, and some gradients are 0.
            found = explanation.explain(_objectives(), asked[:-1], answers[:-1], labelled)
    findings = [*(found.findings if found else ()), *_direct(loss, found, answers[0])]
    findings.sort(key=lambda finding: not finding.fault)
    faults = sum(finding.fault for finding in findings)
    lines = [f"{loss.words}, {loss.framework.name}: {_title(found, faults)}"]
    lines += [f"  {'fault' if finding.fault else 'note'}: {finding.text}" for finding in findings]
    if found and found.scale.mended():
        lines.append(f"  all factors together: multiply the loss by {found.scale.mended()}")
    if found is None:
        lines += [f"  {line}" for line in _numbers(asked, answers)]
    return Diagnosis(tuple(lines), found is not None and not faults)


def _hard_coded(loss: Loss, answers: list[Answer]) -> tuple[Loss, Explanation | None]:
    """The loss with the T at which it has the fewest faults, and its explanation there; as it is, where none fits."""
    tried = []
    for temperature in HARD_CODED:
        one = loss._replace(own_temperature=float(temperature))
        asked = [one.asked(case) for case in ORDINARY]
        if found := explanation.explain(forms.candidates(), asked, answers, "labels" in loss.roles):
            tried.append((one, found))
    return min(tried, key=lambda pair: (pair[1].faults, len(pair[1].findings)), default=(loss, None))


def _title(found: Explanation | None, faults: int) -> str:
    if found is None:
        return "none of these: neither kd, nor kd with known faults, nor an objective at its defaults"
    name = RIGHT if found.candidate.name == "kd" and not faults else found.candidate.name
    return f"this is {name}" + (f", with {faults} fault{'s' * (faults > 1)}" if faults else "")


def _objectives() -> Iterator[Candidate]:
    """The registered objectives at their defaults, but those that are among the forms."""
    import jax
    import jax.numpy as jnp

    from kdjax.objectives import OBJECTIVES, Objective

    def term_of(objective: Objective) -> Callable[[Case], Term]:
        def term(case: Case) -> Term:
            def total(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
                loss = objective.loss(logits, jnp.asarray(case.teacher), case.labels, case.temperature)
                return jnp.sum(loss), loss

            with jax.enable_x64(True):
                (_, values), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(case.student))
                return np.asarray(values), np.asarray(gradient)

        return term

    for name, objective in OBJECTIVES.items():
        if not objective.control and name not in ("kd", "reverse_kl", "ttm"):
            given = ",".join(f"{key}={value:g}" for key, value in objective.hyperparameters.items())
            words = f"{name}({given})" if given else name
            about = f"{words}: {objective.words}, {_paper(objective.paper)}"
            yield Candidate(about, term_of(objective))


def _paper(paper: str) -> str:
    return f"arXiv {paper}" if paper[:4].isdigit() else "no paper"


def _direct(loss: Loss, found: Explanation | None, first: Answer) -> Iterator[Finding]:
    case = loss.asked(ORDINARY[0])
    if first.gradient is None or not first.gradient.any():
        yield Finding("no gradient reaches the student's logits: they are detached, or the arguments are exchanged")
    elif found is None and not (np.isfinite(first.value) and np.isfinite(first.gradient).all()):
        yield Finding(f"not finite, for logits of scale 3 at T = {case.temperature:g}")
    for who in ("student", "teacher"):
        apart = _apart(loss.ask(case._replace(**{who: getattr(case, who) + 7.0})), first)
        if apart > TOLERANCE:
            text = f"not shift invariant: a constant added to the {who}'s logits changes it"
            if apart < SLIGHT:
                yield Finding(f"{text} a little: a small term without a softmax, or half precision?", False)
            else:
                yield Finding(f"{text}: no softmax is taken of them", found is None)
    if loss.taken and found and found.swapped:
        yield Finding(f"taken: {loss.taken}; if that is wrong, say with --call which is which", False)
    if _apart(loss.ask(case._replace(teacher=ORDINARY[1].teacher)), first) == 0:
        yield Finding("the teacher's logits change nothing", found is None or found.candidate.name == "kd")
    if "temperature" not in loss.roles:
        own = loss.own_temperature
        text = "taken as T = 1" if own == 1 else f"T = {own:g} is written in it, or is a default"
        text += f" (none of {len(HARD_CODED)} from {min(HARD_CODED):g} to {max(HARD_CODED):g} fits)" * (found is None)
        yield Finding(f"no temperature is given to it: {text}. With a parameter T it is asked at several T", False)
    if first.teacher_gradient is not None and first.teacher_gradient.any():
        yield Finding("a gradient goes to the teacher's logits too: detach them where the teacher is not frozen", False)
    if found is not None:
        yield from _at_extremes(loss, found)
        yield from _on_tokens(loss, found)


def _apart(one: Answer, other: Answer) -> float:
    """The relative difference of two gradients; where there are none, the difference of two values. It may be nan."""
    if one.gradient is None or other.gradient is None or not (one.gradient.any() or other.gradient.any()):
        return abs(one.value - other.value)
    size = max(float(np.linalg.norm(other.gradient)), 1e-30)
    return float(np.linalg.norm(one.gradient - other.gradient) / size)


def _at_extremes(loss: Loss, found: Explanation) -> Iterator[Finding]:
    """Probabilities that underflow, in float32."""
    case = loss.asked(EXTREME)
    answer, (value, gradient) = loss.ask(case, precise=False), found.term(case)
    if answer.gradient is None or not np.isfinite(gradient).all() or not gradient.any():
        return
    at = f"for logits of scale 100 at T = {case.temperature:g}"
    mends = "take log_softmax of the logits, not log of softmax"
    if found.swapped and loss.framework.name == "PyTorch" and not np.isfinite(answer.gradient).all():
        return  # that of what is a target there is not finite, whatever is taken of the logits
    if not np.isfinite(answer.gradient).all() or (np.isfinite(value) and not np.isfinite(answer.value)):
        yield Finding(f"not finite {at}: {mends}")
        return
    off = np.linalg.norm(answer.gradient - gradient) / np.linalg.norm(gradient)
    if off > 0.01:
        text = f"clipping (or an eps): {at} the gradient is off by {off:.0%}"
        yield Finding(f"{text}: {mends}, and no clip or eps")


def _on_tokens(loss: Loss, found: Explanation) -> Iterator[Finding]:
    """Logits with two leading axes, where the loss takes them."""
    tokens = loss.asked(TOKENS)
    flat = tokens._replace(
        student=tokens.student.reshape(-1, tokens.classes),
        teacher=tokens.teacher.reshape(-1, tokens.classes),
        labels=tokens.labels.ravel(),
    )
    try:
        gradient = loss.ask(tokens).gradient
    except BadInput:
        return
    expected = found.term(flat)[1]
    apart = np.inf if gradient is None else np.linalg.norm(gradient.reshape(expected.shape) - expected)
    if apart > TOLERANCE * np.linalg.norm(expected):
        text = "logits [batch, tokens, classes] give another loss than the same as [batch · tokens, classes]"
        yield Finding(f"{text}: reshape them first", False)


def _numbers(asked: list[Case], answers: list[Answer]) -> Iterator[str]:
    """The loss beside `kd`, at each T: of logits `[4, 10]`."""
    kd = next(forms.candidates())
    shown = {
        case.temperature: (case, answer)
        for case, answer in zip(asked, answers, strict=True)
        if case.student.shape == (4, 10)
    }
    for _, (case, answer) in sorted(shown.items()):
        values, gradient = kd.term(case)
        text = f"T = {case.temperature:g}: value {answer.value / np.mean(values):.4g} times that of kd"
        if answer.gradient is None or not answer.gradient.any():
            yield f"{text}, no gradient"
            continue
        norm, expected = np.linalg.norm(answer.gradient), np.linalg.norm(gradient) / case.examples
        cosine = np.sum(answer.gradient * gradient) / case.examples / (norm * expected)
        yield f"{text}, gradient {norm / expected:.4g} times as long, cosine {cosine:.4f}"
