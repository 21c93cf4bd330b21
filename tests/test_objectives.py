"""The registry of objectives: one number per example, each name once, a reference where one is needed."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import datasets, metrics, objectives
from kdjax.config import NetworkSpec, register_network
from kdjax.datasets import layouts
from kdjax.errors import BadInput
from kdjax.objectives import Objective


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(objectives, "OBJECTIVES", objectives.OBJECTIVES.copy())


@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
def test_every_objective_gives_one_number_per_example(objective):
    random = np.random.default_rng(0)
    z, v = jnp.asarray(random.normal(0, 3, (2, 5, 4)), jnp.float32)
    labels = jnp.arange(5) % 4
    setting = objectives.Setting(*(jnp.float32(value) for value in (3.0, 0.7, 1e-3)))
    loss = objectives.loss_of(objective, reference=2.0)(z, v, labels, setting)
    assert loss.shape == (5,) and np.isfinite(loss).all() and (loss > 0).all()


def test_a_soft_term_is_mixed_with_hard_labels():
    z, v = jnp.array([[2.0, 0.0, 0.0]]), jnp.array([[0.0, 3.0, 0.0]])
    setting = objectives.Setting(*(jnp.float32(value) for value in (5.0, 0.75, 1e-3)))
    soft, hard = (4 + 9) / 6, np.log(np.exp(2) + 2) - 2  # ‖z − v‖²/(2N), and −log softmax(z)[0]
    loss = objectives.loss_of("mse")(z, v, jnp.array([0]), setting)
    np.testing.assert_allclose(loss, [0.75 * soft + 0.25 * hard], rtol=1e-6)


@pytest.mark.parametrize("loss", (lambda z, v, y, _: (z - v).sum(), lambda z, v, y, _: z - v), ids=("scalar", "logits"))
def test_another_shape_is_refused(loss):
    objectives.register(Objective("wrong", "wrong", loss))
    with pytest.raises(BadInput, match=r"the objective wrong gives .* one number per example"):
        objectives.loss_of("wrong")


def test_a_reference_is_asked_for():
    with pytest.raises(BadInput, match="needs --match-gradient-norm"):
        objectives.loss_of("matched")


def test_a_name_is_given_once():
    soft = objectives.OBJECTIVES["soft"]
    entries = (
        (objectives.register, Objective("soft", "mine", soft.loss)),
        (metrics.register, metrics.Metric("nll", lambda logits, labels, teacher: 0.0, "mine")),
        (register_network, NetworkSpec("mlp", 2, "mine:mine", "mine")),
        (layouts.register, layouts.Layout("idx", ("a", "b"), lambda spec, files: {})),
    )
    for register, entry in entries:
        with pytest.raises(BadInput, match=r"is registered already: give yours another name"):
            register(entry)
    assert objectives.OBJECTIVES["soft"] is soft and datasets.CATALOG["mnist"].layout == "idx"
