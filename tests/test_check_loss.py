"""`analysis.check_loss`: planted faults are named and right losses pass, in every framework that is installed."""

import importlib.util
import re
import subprocess
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from analysis import check_loss
from analysis.checking import cases, diagnosis, forms, loading, scale
from kdjax import losses
from tests import commands

PRELUDES = {
    "numpy": """
        import numpy as np
        from scipy.special import softmax as _softmax, log_softmax as _log_softmax
        softmax, log_softmax = lambda x: _softmax(x, -1), lambda x: _log_softmax(x, -1)
        log, clip, total, average = np.log, np.clip, lambda x: np.sum(x, -1), np.mean
    """,
    "jax": """
        import jax, optax
        import jax.numpy as jnp
        softmax, log_softmax, log, clip = jax.nn.softmax, jax.nn.log_softmax, jnp.log, jnp.clip
        total, average = lambda x: jnp.sum(x, -1), jnp.mean
    """,
    "torch": """
        import torch
        import torch.nn.functional as F
        softmax, log_softmax = lambda x: torch.softmax(x, -1), lambda x: torch.log_softmax(x, -1)
        log, clip, total, average = torch.log, torch.clip, lambda x: x.sum(-1), torch.mean
    """,
}
KL = """
def kl(log_q, t):
    return total(softmax(t) * (log_softmax(t) - log_q))
"""
FAULTS = {
    "T * average(kl(log_softmax(z / T), v / T))": ["one of the two factors T is lost: multiply the loss by T"],
    "average(kl(log_softmax(z / T), v / T))": ["T² is lost: multiply the loss by T²"],
    "T**2 * average(kl(log_softmax(z / T), v / T)) / z.shape[-1]": ["divided by N, the number of classes"],
    "average(kl(log_softmax(z / T), v / T)) / z.shape[-1]": ["T² is lost", "divided by N"],
    "T**2 * kl(log_softmax(z / T), v / T).sum()": ["summed over the batch, not averaged: multiply"],
    "T**2 * average(kl(z / T, v / T))": ["softmax missing: the student's logits stand"],
    "T**2 * average(kl(softmax(z / T), v / T))": ["take log_softmax, not softmax"],
    "-average(total(v / T * log_softmax(z / T)))": ["softmax missing: the teacher's", "T² is lost", "not shift"],
    "T**2 * average(kl(log_softmax(v / T), z / T))": ["arguments swapped: this is KL(q‖p)"],
    "-T**2 * average(total(softmax(z / T) * log_softmax(v / T)))": ["arguments swapped: the cross-entropy of q"],
    "T**2 * average(kl(log_softmax(z / T), softmax(v) / T))": ["teacher's probabilities are taken for logits"],
    "T**2 * average(kl(log_softmax(softmax(z / T)), v / T))": ["double softmax: softmax(z/T)"],
    "T**2 * average(kl(log_softmax(softmax(z / T)), softmax(v / T)))": [
        *("double softmax: softmax(z/T)", "double softmax: softmax(v/T)"),
    ],
    "T**2 * average(kl(log_softmax(z / T), v))": ["teacher's logits are not divided by T"],
    "average(kl(log_softmax(z), v))": [
        *("student's logits are not divided", "teacher's logits are not divided", "T² is lost"),
    ],
    "-T**2 * average(kl(log_softmax(z / T), v / T))": ["the sign is wrong"],
    "T**2 * average(total(clip(v / T, 1e-7, 1) * log(clip(v / T, 1e-7, 1) / clip(z / T, 1e-7, 1))))": [
        *("both logits stand where probabilities belong, and are clipped", "not shift", "not shift"),
    ],
}
FLOAT32 = {
    "T**2 * average(kl(log(softmax(z / T) + 1e-8), v / T))": ["clipping (or an eps)"],
    "T**2 * average(kl(log(softmax(z / T)), v / T))": ["not finite for logits of scale 100"],
}
"""Faults that are told in float32 alone, in which NumPy isn't asked."""
TORCH_FAULTS = {
    "T**2 * F.kl_div(log_softmax(z / T), softmax(v / T), reduction='mean')": ["divided by N", "batchmean"],
    "F.kl_div(log_softmax(z / T), softmax(v / T), reduction='mean')": ["T² is lost", "divided by N"],
    "T**2 * F.kl_div(log_softmax(z / T), softmax(v / T), reduction='sum')": ["summed over the batch"],
    "T**2 * F.kl_div(log_softmax(z / T), v / T, reduction='batchmean')": [
        "softmax missing: the teacher's",
        "not a number",
    ],
    "T**2 * F.kl_div(log_softmax(z / T), log_softmax(v / T), reduction='batchmean')": [
        *("the teacher's log-probabilities stand where probabilities belong", "not a number"),
    ],
    "T**2 * F.kl_div(log_softmax(z / T), softmax(v / T), reduction='batchmean', log_target=True)": ["log_target=False"],
    "T**2 * F.kl_div(softmax(z / T), softmax(v / T), reduction='batchmean')": ["take log_softmax, not softmax"],
    "T**2 * F.kl_div(log_softmax(v / T), softmax(z / T).detach(), reduction='batchmean')": ["no gradient reaches"],
    "F.mse_loss(z / T, v / T)": ["T² is lost"],
}
NONE = {"T**2 * average(abs(z - v) ** 3)": ["none of these", "not shift invariant", "T = 20: value"]}
RIGHT = {
    "T**2 * kl(log_softmax(z / T), v / T)": "kd as in the paper",
    "T**2 * average(kl(log_softmax(z / T), v / T))": "kd as in the paper",
    "-T**2 * average(total(softmax(v / T) * log_softmax(z / T)))": "note: cross-entropy, not KL",
    "0.9 * T**2 * kl(log_softmax(z / T), v / T)": "note: times 0.9",
}
TORCH_RIGHT = {
    "T**2 * F.kl_div(log_softmax(z / T), softmax(v / T), reduction='batchmean')": "kd as in the paper",
    "T**2 * F.kl_div(log_softmax(z / T), log_softmax(v / T), reduction='batchmean', log_target=True)": "kd as in",
    "T**2 * F.cross_entropy(z / T, softmax(v / T))": "note: cross-entropy, not KL",
    "F.mse_loss(z, v) / 2": "this is mse: squared error of logits",
}
JAX_RIGHT = {
    "T**2 * optax.losses.kl_divergence(log_softmax(z / T), softmax(v / T)).mean()": "kd as in the paper",
    "T**2 * optax.losses.kl_divergence_with_log_targets(log_softmax(z / T), log_softmax(v / T))": "kd as in the paper",
    "T**2 * optax.softmax_cross_entropy(z / T, softmax(v / T))": "note: cross-entropy, not KL",
}


def each(framework, *tables):
    """(framework, expression, what is said), where it is installed."""
    there = importlib.util.find_spec(framework) is not None
    skip = pytest.mark.skipif(not there, reason=f"{framework} is not installed")
    return [pytest.param(framework, *row, marks=skip) for table in tables for row in table.items()]


def written(folder, framework, body):
    """A file with a loss."""
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(PRELUDES[framework]) + KL + textwrap.dedent(body))
    return path


def said(path, name="loss", call=""):
    return diagnosis.diagnose(loading.load(f"{path}:{name}", call))


@pytest.mark.parametrize(
    ("framework", "expression", "expected"),
    [
        *each("torch", FAULTS, FLOAT32, TORCH_FAULTS, NONE),
        *each("jax", FAULTS, FLOAT32),
        *each("numpy", dict(list(FAULTS.items())[:4])),
    ],
)
def test_a_planted_fault_is_named(tmp_path, framework, expression, expected):
    found = said(written(tmp_path, framework, f"def loss(z, v, T):\n    return {expression}\n"))
    text = "\n".join(found.lines)
    assert not found.right and all(part in text for part in expected), text
    faults = [line for line in found.lines if line.startswith("  fault")]
    if "none of these" not in text and "softmax missing" not in text and "log_target=False" not in text:
        assert len(faults) == len([part for part in expected if part != "batchmean"]), text


@pytest.mark.parametrize(
    ("of_student", "of_teacher", "factor"),
    [("log_softmax(z / T)", "v", "T**2"), ("log_softmax(z / T)", "v", "1"), ("z", "softmax(v / T)", "T**2")],
)
def test_who_takes_the_softmax_that_is_missing_has_no_other_fault_to_mend(tmp_path, of_student, of_teacher, factor):
    """Whether raw logits are divided by T says nothing: their softmax is taken of v/T anyway."""
    bodies = [
        f"def loss(z, v, T):\n    return {factor} * -average(total({target} * ({log_q})))\n"
        for log_q, target in ((of_student, of_teacher), ("log_softmax(z / T)", "softmax(v / T)"))
    ]
    told = ["\n".join(said(written(tmp_path, "jax", body)).lines) for body in bodies]
    assert "softmax missing" in told[0]
    for word in ("T² is lost", "a factor", "one of the two factors", "not divided"):
        assert (word in told[0]) == (word in told[1]), told


def test_a_loss_that_works_in_place_is_no_fault(tmp_path):
    body = """
def loss(z, v, T):
    v /= T
    p, q = (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True) for x in (v - v.max(), z / T - (z / T).max()))
    return T**2 * (p * np.log(p / q)).sum(axis=-1).mean()
"""
    found = said(written(tmp_path, "numpy", body))
    assert found.right, "\n".join(found.lines)


@pytest.mark.parametrize(
    ("framework", "expression", "expected"),
    [*each("torch", RIGHT, TORCH_RIGHT), *each("jax", RIGHT, JAX_RIGHT), *each("numpy", RIGHT)],
)
def test_a_right_loss_passes(tmp_path, framework, expression, expected):
    found = said(written(tmp_path, framework, f"def loss(z, v, T):\n    return {expression}\n"))
    text = "\n".join(found.lines)
    assert found.right and expected in text and "fault" not in text, text


@pytest.mark.parametrize(
    ("name", "said_of_it"), [("dkd", "dkd(alpha=1,beta=8): decoupled"), ("ttm", "ttm: tempered teacher")]
)
def test_an_objective_is_recognised_from_its_authors_formula(tmp_path, name, said_of_it):
    pytest.importorskip("torch")
    body = f"""
        from tests.test_objectives_parity import {name}

        def loss(z, v, labels, T):
            return {name}(z, v, labels, T)
    """
    text = "\n".join(said(written(tmp_path, "torch", body)).lines)
    assert f"this is {said_of_it}" in text
    # Their code takes logarithms of merged probabilities, which underflow (kdjax.objectives.decoupled).
    assert text.count("fault: ") == (name == "dkd") == text.count("fault: not finite for logits of scale 100"), text


def test_hard_labels_in_the_mix(tmp_path):
    body = """
        import numpy as np
        def hard(z, y):
            return -log_softmax(z)[np.arange(len(y)), y]

        class Mixed:
            def __init__(self, temperature, weight=0.25):
                self.temperature, self.weight = temperature, weight
            def __call__(self, student_logits, labels, teacher_logits):
                soft = kl(log_softmax(student_logits / self.temperature), teacher_logits / self.temperature)
                return self.weight * hard(student_logits, labels) + (1 - self.weight) * self.temperature**2 * soft

        def lost(z, v, y, T):
            return (0.5 * hard(z, y) + 0.5 * kl(log_softmax(z / T), v / T)).mean()

        def tempered(z, v, y, T):
            return (0.5 * hard(z / T, y) + 0.5 * T**2 * kl(log_softmax(z / T), v / T)).mean()
    """
    path = written(tmp_path, "numpy", body)
    found = said(path, "Mixed")
    text = "\n".join(found.lines)
    assert found.right and "times 0.75 of the soft term" in text and "plus 0.25 of their cross-entropy" in text
    assert "T² is lost: multiply the soft term by T²" in "\n".join(said(path, "lost").lines)
    assert "hard labels' term divides the logits by T" in "\n".join(said(path, "tempered").lines)


def test_a_student_without_gradient_is_not_told_that_its_teacher_changes_nothing(tmp_path):
    body = "def loss(z, v, T): return T**2 * average(kl(log_softmax(v / T), jax.lax.stop_gradient(z) / T))"
    text = "\n".join(said(written(tmp_path, "jax", body)).lines)
    assert "no gradient reaches the student's logits" in text and "change nothing" not in text, text


CALLS = {
    "def loss(teacher, student, temp): return temp**2 * kl(log_softmax(student / temp), teacher / temp)": "",
    "def loss(y_true, y_pred, tau=1.0): return tau**2 * kl(log_softmax(y_pred / tau), y_true / tau)": "",
    "def loss(a, b, c): return c**2 * kl(log_softmax(a / c), b / c)": "",
    "def loss(a, b, c): return b**2 * kl(log_softmax(c / b), a / b) ": "{teacher}, {temperature}, c={student}",
    "def loss(pair, s): return s**2 * kl(log_softmax(pair['z'] / s), pair['v'] / s)": (
        "{'z': {student}, 'v': {teacher}}, {temperature}"
    ),
    "def loss(z, v): return kl(log_softmax(z), v)": "",
    "def loss(teacher_logits, logits, T): return T**2 * kl(log_softmax(logits / T), teacher_logits / T)": "",
    "def loss(a, b, t): return t**2 * kl(log_softmax(a / t), b / t)": "",
    "def loss(teacher_logits, T, logits): return T**2 * kl(log_softmax(logits / T), teacher_logits / T)": "",
    "def loss(logits, target_logits, t): return t**2 * kl(log_softmax(logits / t), target_logits / t)": "",
    "def loss(t_logits, s_logits, T): return T**2 * kl(log_softmax(s_logits / T), t_logits / T)": "",
    "def loss(pred_teacher, pred_student, T): return T**2 * kl(log_softmax(pred_student / T), pred_teacher / T)": "",
    "def loss(pred_t, pred_s, T): return T**2 * kl(log_softmax(pred_s / T), pred_t / T)": "",
    "def loss(z, v, T=4, hard_weight=0.0): return (1 - hard_weight) * T**2 * kl(log_softmax(z / T), v / T)": "",
    "def loss(logits, labels, teacher_logits, T): return T**2 * kl(log_softmax(logits / T), teacher_logits / T)": "",
    "def loss(z, v, T, detach_teacher=True): return T**2 * kl(log_softmax(z / T), v / T)": "",
    "def loss(student, teacher, T=4.0, temp_squared=True): return T**2 * kl(log_softmax(student / T), teacher / T)": "",
    "def loss(p_t, p_s, T): return T**2 * kl(log_softmax(p_s / T), p_t / T)": "",
    "def loss(student_t, teacher_t, T): return T**2 * kl(log_softmax(student_t / T), teacher_t / T)": "",
    "def loss(logits, y, teacher_logits, T): return T**2 * kl(log_softmax(logits / T), teacher_logits / T)": "",
    "def loss(z, v, T): return [T**2 * kl(log_softmax(z[i] / T), v[i] / T) for i in range(len(z))]": "",
    "def loss(y, labels, teacher_scores, T, alpha=1.0): return T**2 * kl(log_softmax(y / T), teacher_scores / T)": "",
}


@pytest.mark.parametrize("body", CALLS)
def test_how_it_is_called(tmp_path, body):
    found = said(written(tmp_path, "numpy", body), call=CALLS[body])
    assert found.right and "kd as in the paper" in found.lines[0], found.lines
    assert ("taken as T = 1" in "\n".join(found.lines)) == ("(z, v)" in body)


@pytest.fixture
def few_temperatures(monkeypatch):
    """Of all that are tried: each takes a second where types are checked, as in tests."""
    monkeypatch.setattr(diagnosis, "HARD_CODED", [one for one in diagnosis.HARD_CODED if one in (0.5, 2, 4, 40)])


@pytest.mark.usefixtures("few_temperatures")
def test_a_loss_without_a_temperature_is_spoken_of_at_t_1(tmp_path):
    right = "\n".join(said(written(tmp_path, "jax", "def loss(z, v): return average(kl(log_softmax(z), v))")).lines)
    assert "kd as in the paper" in right and "tokens" not in right
    unknown = "\n".join(said(written(tmp_path, "jax", "def loss(z, v): return average((z * v).sum(-1)) ** 2")).lines)
    assert unknown.count("T = 1: value") == 1 and "T = 3" not in unknown and "taken as T = 1" in unknown
    extra = "\n".join(said(written(tmp_path, "jax", "def loss(z, v): return average(kl(log_softmax(z), v)) + 1")).lines)
    assert "in place of" in extra and "at T = 1" in extra and "T = 3" not in extra


HARD_CODED = {
    "16 * average(kl(log_softmax(z / 4), v / 4))": "this is kd as in the paper",
    "4 * average(kl(log_softmax(z / 2), v / 2))": "T = 2 is written in it",
    "0.5 * 4 * average(kl(log_softmax(z / 2), v / 2))": "note: times 0.5",
    "average(kl(log_softmax(z / 4), v / 4))": "fault: T² is lost, unless a weight of 0.0625 is meant",
    "0.8 * average(kl(log_softmax(z / 4), v / 4))": "fault: T² is lost, unless a weight of 0.05 is meant",
    "4 * average(kl(log_softmax(z / 2), v / 2)) / z.shape[-1]": "fault: divided by N",
    "0.25 * average(kl(log_softmax(z / 0.5), v / 0.5))": "T = 0.5 is written in it",
    "0.5 * CE + 0.5 * 0.25 * average(kl(log_softmax(z / 0.5), v / 0.5))": "T = 0.5 is written in it",
    "4 * average(kl(log_softmax(z * 2), v * 2))": "fault: the teacher's logits are multiplied by T",
    "16 * average(kl(log_softmax(z), v / 4))": "fault: the student's logits are not divided by T",
    "average(kl(log_softmax(z), v / 4))": "this is ttm",
    "CE + 16 * average(kl(log_softmax(z / 4), v / 4))": "this is kd as in the paper",
    "CE + 1600 * average(kl(log_softmax(z / 40), v / 40))": "this is kd as in the paper",
    "0.5 * CE + 0.5 * 4 * average(kl(log_softmax(z / 2), v / 2))": "this is kd as in the paper",
    "0.8 * CE + 0.2 * 4 * average(kl(log_softmax(z / 2), v / 2))": "this is kd as in the paper",
    "0.1 * CE + 0.9 * average(kl(log_softmax(z / 4), v / 4))": "fault: T² is lost: multiply the soft term by T²",
    "CE + average(kl(log_softmax(z / 40), v / 40))": "fault: T² is lost, unless a weight of 0.000625 is meant",
    "16 * (0.5 * CE + 0.5 * average(kl(log_softmax(z / 4), v / 4)))": "fault: a factor T² too much",
    "CE + 16 * average(kl(log_softmax(z), v / 4))": "fault: the student's logits are not divided by T",
}
"""One of the words that are said; CE is the labels' cross-entropy."""


@pytest.mark.usefixtures("few_temperatures")
@pytest.mark.parametrize("loss", HARD_CODED)
def test_a_temperature_that_is_written_in_the_loss(tmp_path, loss):
    body = loss.replace("CE", "average(-log_softmax(z)[np.arange(len(labels)), labels])")
    found = said(written(tmp_path, "numpy", f"def loss(z, v{', labels' * ('CE' in loss)}): return {body}"))
    text, expected = "\n".join(found.lines), HARD_CODED[loss]
    assert expected in text and found.right == ("fault" not in expected), text
    assert text.count("fault:") == (2 if "z * 2" in loss else not found.right), text


@pytest.mark.usefixtures("few_temperatures")
def test_a_teacher_whose_logits_are_multiplied_is_no_tempered_one_below_1(tmp_path):
    found = said(written(tmp_path, "numpy", "def loss(z, v): return average(kl(log_softmax(z), v * 2))"))
    assert "with 3 faults" in found.lines[0] and "teacher's logits are multiplied by T" in "\n".join(found.lines)


def test_the_temperature_of_a_class_that_calls_it_t(tmp_path):
    body = "class Loss:\n    def __init__(self, t=4): self.t = t\n    def __call__(self, z, v): " + (
        "return self.t**2 * kl(log_softmax(z / self.t), v / self.t)"
    )
    found = said(written(tmp_path, "numpy", body), name="Loss")
    assert found.right and found.lines[0].startswith("Loss(t=T)(z, v), NumPy: this is kd as in the paper"), found.lines


@pytest.mark.usefixtures("few_temperatures")
def test_an_eps_beside_a_temperature_that_is_written_in_the_loss(tmp_path):
    body = "def loss(z, v): return 4 * average(kl(log(softmax(z / 2)), v / 2))"
    assert "not finite for logits of scale 100 at T = 2" in "\n".join(said(written(tmp_path, "jax", body)).lines)


def test_swapped_arguments_are_one_fault_and_a_note_says_who_was_taken_for_whom(tmp_path):
    pytest.importorskip("torch")
    body = "T**2 * F.kl_div(log_softmax(v / T), softmax(z / T), reduction='batchmean')"
    found = said(written(tmp_path, "torch", f"def loss(z, v, T): return {body}"))
    assert "this is kd, with 1 fault" in found.lines[0], found.lines
    assert "taken: z for the student, v for the teacher; if that is wrong, say with --call" in "\n".join(found.lines)


def test_an_eps_in_swapped_arguments_is_found(tmp_path):
    body = "T**2 * average(total(softmax(z / T) * (log(softmax(z / T) + 1e-8) - log(softmax(v / T) + 1e-8))))"
    text = "\n".join(said(written(tmp_path, "jax", f"def loss(z, v, T): return {body}")).lines)
    assert "arguments swapped" in text and "clipping (or an eps)" in text, text


def test_a_loss_in_half_precision_is_not_said_to_lack_a_softmax(tmp_path):
    body = "def loss(z, v, T): z, v = z.astype(jnp.bfloat16), v.astype(jnp.bfloat16); "
    found = said(written(tmp_path, "jax", f"{body}return T**2 * average(kl(log_softmax(z / T), v / T))"))
    text = "\n".join(found.lines)
    assert (
        "a small term without a softmax, or half precision?" in text
        and ": no softmax" not in text
        and "fault:" not in text
    ), text


def test_a_loss_whose_framework_is_imported_by_modules_of_its_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_losses").mkdir()
    for name, text in {
        "__init__": "",
        "ops": "import jax\n\n\ndef log_q(z): return jax.nn.log_softmax(z)\n",
        "kl": "from . import ops\n\n\ndef kl(z, v): return (ops.jax.nn.softmax(v) * (ops.log_q(v) - z)).sum(-1)\n",
    }.items():
        (tmp_path / "own_losses" / f"{name}.py").write_text(text)
    body = "def loss(z, v, T): return T**2 * kl(log_q(z / T), v / T)\n"
    (tmp_path / "mine.py").write_text(f"from own_losses.kl import kl, ops\n\nlog_q = ops.log_q\n\n\n{body}")
    found = said(tmp_path / "mine.py")
    assert found.right and "JAX: this is kd as in the paper" in found.lines[0], found.lines


def test_a_loss_in_numpy_beside_an_import_of_jax(tmp_path):
    found = said(
        written(
            tmp_path,
            "numpy",
            "import jax\n\ndef loss(z, v, T):\n    z = np.array(z)\n    return T**2 * kl(log_softmax(z / T), v / T)\n",
        )
    )
    assert found.right, found.lines


BAD = {
    "loss": ("", "'loss' is no loss: write MODULE:NAME or FILE.py:NAME"),
    "missing.py:loss": ("", "missing.py is no file"),
    "no.such.module:loss": ("", "no.such.module cannot be imported: ModuleNotFoundError"),
    "mine.py:lost": ("def loss(z, v, T): return 0.0", "has no function or class lost; did you mean loss?"),
    "mine.py:wrong": ("wrong = 1", "has no function or class wrong"),
    "mine.py:loss": ("raise SystemExit(3)", "mine.py cannot be imported: SystemExit: 3"),
    "mine.py:loss ": ("def loss(z, v, T): return z", "gives an array of shape [4, 10]: a loss gives one number, or"),
    "mine.py:loss  ": ("def loss(z, v, T): return z['logits']", "raises IndexError for NumPy logits of shape [4, 10]"),
    "mine.py:loss   ": (
        "def loss(z, v, T): return np.float32(0)",
        "gives float32: a loss in NumPy computes in float64",
    ),
    "mine.py:loss     ": (
        "def loss(z, v, T): return np.sum(z - v), 0.0",
        "gives a tuple of 2: a loss gives one number, or one for each example; return it alone",
    ),
    "mine.py:loss    ": ("def loss(z, v, T, mask): return 0.0", "say with --call which is what"),
    "mine.py:Made": (
        "class Made:\n    def __init__(self, alpha, T): pass\n    def __call__(self, z, v): return 0.0",
        "Made is made from alpha too: write a function of (student, teacher, T)",
    ),
    "mine.py:loss --call {student},": ("def loss(z, v): return 0.0", "it names {student} and {teacher}"),
    "mine.py:loss --call ({student},{teacher}": ("def loss(z, v): return 0.0", "is not understood: write arguments"),
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    body, expected = BAD[line]
    written(tmp_path, "numpy", body)
    code, text = commands.call(check_loss.main, check_loss.CheckConfig, line.split(), check_loss.PROG)
    assert code == 2 and expected in text and text.count("\n") == 1, text


def test_exit_codes_of_the_command(tmp_path):
    body = """
        def right(z, v, T): return T**2 * kl(log_softmax(z / T), v / T)
        def wrong(z, v, T): return kl(log_softmax(z / T), v / T)
    """
    path = written(tmp_path, "numpy", body)
    for name, code, expected in (("right", 0, "this is kd as in the paper"), ("wrong", 1, "fault: T² is lost")):
        asked = commands.start([f"{path}:{name}"], "analysis.check_loss", stdout=subprocess.PIPE)
        shown = asked.communicate(timeout=300)[0]
        assert asked.returncode == code and expected in shown


def test_the_right_form_is_the_library_s():
    for case in cases.ORDINARY:
        value, gradient = next(forms.candidates()).term(case)
        with jax.enable_x64(True):
            logits = jnp.asarray(case.student), jnp.asarray(case.teacher)
            np.testing.assert_allclose(value, losses.soft_target_loss(*logits, case.temperature), rtol=1e-9)
            np.testing.assert_allclose(gradient, losses.soft_target_gradient(*logits, case.temperature), atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_gradients_of_the_forms_are_those_of_their_values():
    case, step, place = cases.ORDINARY[0], 1e-6, (2, 3)
    moved = [case._replace(student=case.student.copy()) for _ in range(2)]
    moved[0].student[place] += step
    moved[1].student[place] -= step
    checked = 0
    for form in forms.candidates():
        high, low = (form.term(one)[0][2] for one in moved)
        gradient = form.term(case)[1][place]
        if np.isfinite(high):
            np.testing.assert_allclose((high - low) / (2 * step), gradient, rtol=1e-4, atol=1e-5)
            checked += 1
    assert checked > 300


def test_a_factor_is_found():
    expected = scale.Scale(-0.9, -2, 1, -1)
    assert scale.fit([expected.at(case) for case in cases.ORDINARY], cases.ORDINARY) == expected
    assert scale.fit([1 + 0.01 * case.classes for case in cases.ORDINARY], cases.ORDINARY) is None
    assert expected.mended() == "T² · N⁻¹ · B"


def test_the_page_shows_what_is_said(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    page = (commands.ROOT / "docs" / "check_loss.md").read_text()
    body, shown = re.search(r"```python\n(.*?)```.*?```\n(.*?)\n```", page, re.DOTALL).groups()
    (tmp_path / "mine.py").write_text(body)
    assert list(said("mine.py", "kd_loss").lines) == shown.splitlines()
