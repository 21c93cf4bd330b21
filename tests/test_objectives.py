"""The registry of objectives: names, hyper-parameters, limits, identities, extremes, and the mix with hard labels."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import datasets, losses, metrics, objectives
from kdjax.config import NetworkSpec, register_network
from kdjax.datasets import layouts
from kdjax.errors import BadInput
from kdjax.objectives import Objective, Parameter

PLAIN = [f"{name}(reference=4)" if name in ("matched", "placebo") else name for name in objectives.OBJECTIVES]
LIMITED = [text for text in PLAIN if callable(objectives.parse(text).limit)]


def logits(seed=0, shape=(6, 10), scale=3.0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, (2, *shape)), jnp.float32)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(objectives.registry, "OBJECTIVES", objectives.OBJECTIVES.copy())


@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
def test_every_objective_gives_one_number_per_example(objective):
    random = np.random.default_rng(0)
    z, v = jnp.asarray(random.normal(0, 3, (2, 5, 4)), jnp.float32)
    labels = jnp.arange(5) % 4
    setting = objectives.Setting(*(jnp.float32(value) for value in (3.0, 0.7, 1e-3)))
    if objective in ("matched", "placebo"):
        setting = setting._replace(hyperparameters={"reference": jnp.float32(2.0)})
    loss = objectives.loss_of(objective)(z, v, labels, setting)
    assert loss.shape == (5,) and np.isfinite(loss).all() and (loss > 0).all()


@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
def test_which_losses_depend_on_the_teacher_is_known(objective):
    (z, v), (_, other), labels = logits(1), logits(2), jnp.arange(6) % 4
    own = {"reference": jnp.float32(2.0)} if objective in ("matched", "placebo") else None
    setting = objectives.Setting(*map(jnp.float32, (3.0, 0.7, 1e-3)), own)
    one, two = (objectives.loss_of(objective)(z, teacher, labels, setting) for teacher in (v, other))
    assert bool((one != two).any()) == objectives.uses_teacher(objective)
    assert objectives.uses_teacher(objective) == (objective != "label_smoothing")


def test_a_soft_term_is_mixed_with_hard_labels():
    z, v = jnp.array([[2.0, 0.0, 0.0]]), jnp.array([[0.0, 3.0, 0.0]])
    setting = objectives.Setting(*(jnp.float32(value) for value in (5.0, 0.75, 1e-3)))
    soft, hard = (4 + 9) / 6, np.log(np.exp(2) + 2) - 2  # ‖z − v‖²/(2N), and −log softmax(z)[0]
    loss = objectives.loss_of("mse")(z, v, jnp.array([0]), setting)
    np.testing.assert_allclose(loss, [0.75 * soft + 0.25 * hard], rtol=1e-6)


@pytest.mark.parametrize("term", (lambda z, v, y, t: (z - v).sum(), lambda z, v, y, t: z - v), ids=("scalar", "logits"))
def test_another_shape_is_refused(term):
    objectives.register(Objective("wrong", "wrong", term))
    with pytest.raises(BadInput, match=r"the objective wrong gives .* one number per example"):
        objectives.loss_of("wrong")


def test_one_for_a_fixed_number_of_classes_is_refused_in_one_line():
    weights = jnp.arange(10.0)
    term = Objective("weighted", "weighted", lambda z, v, y, t: jnp.sum(weights * (z - v) ** 2, axis=-1))
    objectives.register(term)
    with pytest.raises(BadInput, match="the objective weighted fails on a batch of 2 with 3 classes") as error:
        objectives.loss_of("weighted")
    assert "\n" not in str(error.value)


def test_a_hyperparameter_without_a_default_is_asked_for():
    with pytest.raises(BadInput, match=r"the objective matched needs a value: write matched\(reference=NUMBER\)"):
        objectives.parse("matched")
    assert objectives.parse("matched(reference=inf)").hyperparameters == {"reference": math.inf}


def test_several_values_are_several_objectives_of_one_program():
    each = objectives.parse_each("jsd(beta=0.1|0.5, scaled=0|1)")
    assert list(map(str, each)) == ["jsd(beta=0.1)", "jsd(beta=0.1,scaled=1)", "jsd", "jsd(scaled=1)"]
    with pytest.raises(BadInput, match="has several values: one is allowed here"):
        objectives.parse("dkd(beta=1|2)")


@pytest.mark.parametrize(
    "text",
    (
        *("dkd(alpha=2,beta=3)", "jsd(beta=0.2,scaled=1)", "skew_kl(lam=0.3)", "nkd(gamma=2)", "spherical_kd(m=3)"),
        *("dist(beta=2,gamma=0)", "label_smoothing(eps=0.3)", "matched(reference=8)"),
    ),
)
def test_traced_hyperparameters_are_those_of_the_text(text):
    (z, v), y, objective = logits(), jnp.arange(6), objectives.parse(text)
    setting = objectives.Setting(jnp.float32(3.0), jnp.float32(0.7), jnp.float32(1e-3), objective.hyperparameters)
    traced = jax.jit(objectives.loss_of(objective.name))(z, v, y, setting)
    hard = -jax.nn.log_softmax(z)[y, y]
    np.testing.assert_allclose(traced, 0.7 * objective.loss(z, v, y, 3.0) + 0.3 * hard, rtol=1e-5)


def test_a_name_is_given_once():
    soft = objectives.OBJECTIVES["kd"]
    entries = (
        (objectives.register, Objective("kd", "mine", None)),
        (metrics.register, metrics.Metric("nll", lambda logits, labels, teacher: 0.0, "mine")),
        (register_network, NetworkSpec("mlp", 2, "mine:mine", "mine")),
        (layouts.register, layouts.Layout("idx", ("a", "b"), lambda spec, files: {})),
    )
    for register, entry in entries:
        with pytest.raises(BadInput, match=r"is registered already: give yours another name"):
            register(entry)
    assert objectives.registry.OBJECTIVES["kd"] is soft and datasets.CATALOG["mnist"].layout == "idx"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dkdd", "dkdd is unknown: there are .*; did you mean dkd"),
        ("dkd(gamma=1)", "dkd has no parameter gamma: it has alpha, beta"),
        ("kd(beta=1)", "kd has no parameter beta: it has none"),
        ("dkd(beta=-1)", "beta=-1 is not allowed: it is a finite number, 0 or more"),
        ("jsd(beta=1.5)", "beta=1.5 is not allowed: it is a finite number, 0 or more, 1 or less"),
        ("jsd(scaled=0.5)", "scaled=0.5 is not allowed: it is a whole number"),
        ("nkd(gamma=inf)", "gamma=inf is not allowed"),
        ("nkd(gamma=x)", "gamma=x is not allowed"),
        ("dkd(beta=1,beta=2)", "beta is given twice"),
        ("dkd(beta)", "beta is not understood: write PARAMETER=NUMBER"),
        ("dkd(beta=2", "is not understood: write NAME or NAME"),
        ("dkd(beta=2|2.0)", "gives a value twice"),
        ("dkd(beta=2|x)", "beta=x is not allowed"),
        ("matched(reference=abc)", "reference=abc is not allowed: it is a finite number"),
        ("matched(reference=0)", "reference 0 is not allowed: a temperature is"),
    ],
)
def test_what_cannot_be_parsed(text, message):
    with pytest.raises(BadInput, match=message) as error:
        objectives.parse(text)
    assert "\n" not in str(error.value)


def test_hyperparameters_have_defaults_and_one_way_to_be_written():
    assert objectives.parse("dkd").hyperparameters == {"alpha": 1, "beta": 8}
    for text in ("dkd( beta = 2.0 )", "dkd(beta=2)", "dkd(beta=2,alpha=1)"):
        assert str(objectives.parse(text)) == "dkd(beta=2)"
    assert str(objectives.parse("dkd(beta=8)")) == "dkd"
    assert objectives.parse("jsd(scaled=true)").hyperparameters == {"beta": 0.5, "scaled": 1}
    assert objectives.words_of("dkd(beta=2)") == "decoupled (beta=2)"
    assert objectives.words_of("not_loaded(a=1)") == "not_loaded(a=1)"


@pytest.mark.parametrize("name", PLAIN)
def test_every_entry_says_where_it_comes_from(name):
    entry = objectives.parse(name)
    assert entry.words and entry.paper and (callable(entry.limit) or entry.limit)
    assert all(one.default is None or one.least <= one.default <= one.most for one in entry.parameters)


@pytest.mark.parametrize("name", [*LIMITED, "dkd(alpha=2,beta=3)"])
def test_at_infinity_it_is_its_limit_and_nearly_so_before(name):
    objective, (z, v), labels = objectives.parse(name), logits(), jnp.arange(6)
    limit = np.asarray(objective.limit(z, v, labels, **objective.hyperparameters))
    np.testing.assert_allclose(objective.loss(z, v, labels, jnp.inf), limit, rtol=2e-5)
    np.testing.assert_allclose(objective.loss(z, v, labels, 1e6), limit, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in PLAIN if name not in LIMITED])
def test_without_a_limit_infinity_is_refused(name):
    (z, v), labels = logits(), jnp.arange(6)
    with pytest.raises(BadInput, match=f"T = inf with the objective {name} is not allowed: there is no limit, because"):
        objectives.parse(name).loss(z, v, labels, jnp.inf)


@pytest.mark.parametrize("text", ["kd", "reverse_kl", "jsd(beta=0.3)", "jsd(beta=0.3,scaled=1)", "skew_kl(lam=0.3)"])
def test_f_divergences_approach_logit_matching_with_their_curvature(text):
    objective, (z, v) = objectives.parse(text), logits()
    wanted = objective.curvature(**objective.hyperparameters) * losses.centred_logit_matching_loss(z, v)
    np.testing.assert_allclose(objective.loss(z, v, jnp.arange(6), 1e5), wanted, rtol=1e-3)


def test_dkd_is_kd_at_infinity_alone():  # that it is there: an identity of the atlas
    (z, v), y = logits(), jnp.arange(6)
    dkd, kd = objectives.parse("dkd(alpha=1,beta=0.9)"), objectives.parse("kd")
    assert abs(dkd.loss(z, v, y, 2.0) / kd.loss(z, v, y, 2.0) - 1).max() > 0.01


def test_dkd_is_kd_where_the_others_weigh_as_much_as_the_teacher_has_there():
    (z, v), y = logits(), jnp.arange(6)
    target, others = (objectives.parse(f"dkd(alpha={a},beta={b})").loss(z, v, y, 4.0) for a, b in ((1, 0), (0, 1)))
    beside = 1 - jax.nn.softmax(v / 4)[jnp.arange(6), y]
    np.testing.assert_allclose(target + beside * others, objectives.parse("kd").loss(z, v, y, 4.0), rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    (
        *("kd", "reverse_kl", "jsd(beta=0.3)", "jsd(beta=0.3,scaled=1)", "skew_kl(lam=0.3)", "total_variation"),
        *("ttm", "wttm"),
    ),
)
def test_a_class_that_is_minus_infinity_in_both_is_left_out(text):
    keep, gone, labels = jnp.array([0, 2, 3, 5]), jnp.array([1, 4]), jnp.zeros(6, int)
    whole = logits(shape=(6, 6))
    masked, sliced = ([array.at[:, gone].set(-jnp.inf) for array in whole], [array[:, keep] for array in whole])
    loss = objectives.parse(text).loss
    for temperature in (1.0, 4.0, jnp.inf):
        (value, slope), (wanted, wanted_slope) = (
            jax.value_and_grad(lambda z, v=v, t=temperature: loss(z, v, labels, t).sum())(z)
            for z, v in (masked, sliced)
        )
        np.testing.assert_allclose(value, wanted, rtol=1e-5)
        np.testing.assert_allclose(slope[:, keep], wanted_slope, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(slope[:, gone], 0)
    if text in ("kd", "ttm", "wttm"):
        found, wanted = (jax.grad(lambda t, z=z, v=v: loss(z, v, labels, t).sum())(4.0) for z, v in (masked, sliced))
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_scaled_jsd_runs_from_one_divergence_to_the_other():
    (z, v), y = logits(), jnp.arange(6)

    def both(text):
        loss = objectives.parse(text).loss
        return jax.value_and_grad(lambda z: loss(z, v, y, 2.0).sum())(z)

    for name, ends in (("kd", (0, 1e-7)), ("reverse_kl", (1, 1 - 1e-7))):
        for beta in ends:
            for found, wanted in zip(both(f"jsd(beta={beta:.9g},scaled=1)"), both(name), strict=True):
                np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)
    unscaled = objectives.parse("jsd(beta=0.2)").loss(z, v, y, 2.0)
    np.testing.assert_allclose(
        objectives.parse("jsd(beta=0.2,scaled=1)").loss(z, v, y, 2.0), unscaled / 0.16, rtol=1e-5
    )


@pytest.mark.parametrize("name", PLAIN)
def test_finite_where_logits_are_extreme_tied_or_all_equal(name):
    loss, y = objectives.parse(name).loss, jnp.arange(6)
    both = jax.jit(jax.value_and_grad(lambda z, v, t: loss(z, v, y, t).sum()))
    z, v = logits(scale=100.0)
    tied = jnp.round(z / 100)
    pairs = [(z, v), (z, z), (tied, v), (z, tied), (0 * z, v), (z, 0 * v), (0 * z, 0 * v), (1e3 + 0 * z, v)]
    for student, teacher in pairs:
        for temperature in (0.05, 1.0, 1e8):
            value, gradient = both(student, teacher, jnp.float32(temperature))
            assert np.isfinite(value) and np.isfinite(gradient).all(), (student, teacher, temperature)
            assert value >= 0


@pytest.mark.parametrize("name", PLAIN)
def test_one_number_per_example_whatever_the_axes_and_the_dtype(name):
    loss, y = objectives.parse(name).loss, jnp.arange(6)
    (z, v), temperature = logits(), jnp.float32(3)
    whole = loss(z, v, y, temperature)
    assert whole.shape == (6,) and whole.dtype == jnp.float32
    twice = loss(jnp.stack([z, z]), jnp.stack([v, v]), jnp.stack([y, y]), 3.0)
    mapped = jax.vmap(loss, in_axes=(0, None, None, 0))(jnp.stack([z, z]), v, y, jnp.full(2, 3.0))
    for found in (*twice, *mapped, jax.jit(loss)(z, v, y, temperature)):
        np.testing.assert_allclose(found, whole, rtol=2e-5)
    low = loss(z.astype(jnp.bfloat16), v.astype(jnp.bfloat16), y, temperature)
    assert low.dtype == jnp.float32 and np.isfinite(low).all()


@pytest.mark.parametrize("name", PLAIN)
def test_whether_a_shift_of_the_logits_changes_it(name):
    objective, (z, v), y = objectives.parse(name), logits(), jnp.arange(6)
    shifted = objective.loss(z + 8, v - 4, y, 3.0)
    same = np.allclose(shifted, objective.loss(z, v, y, 3.0), rtol=1e-4)
    assert same == objective.shift_invariant


@pytest.mark.parametrize("name", PLAIN)
def test_the_teacher_is_a_constant(name):
    (z, v), y = logits(), jnp.arange(6)
    loss = objectives.parse(name).loss
    assert (jax.grad(lambda v: loss(z, v, y, 2.0).sum())(v) == 0).all()


@pytest.mark.parametrize("name", PLAIN)
def test_whether_it_uses_the_temperature(name):
    objective, (z, v), y = objectives.parse(name), logits(), jnp.arange(6)
    cold, hot = (np.asarray(objective.loss(z, v, y, temperature)) for temperature in (1.5, 9.0))
    assert (cold != hot).all() if objective.uses_temperature else (cold == hot).all()


def test_shuffled_is_kd_from_the_example_before():
    (z, v), y = logits(), jnp.arange(6)
    kd, order = objectives.parse("kd"), [5, 0, 1, 2, 3, 4]
    for temperature in (2.0, jnp.inf):
        found = objectives.parse("shuffled").loss(z, v, y, temperature)
        np.testing.assert_allclose(found, kd.loss(z, v[jnp.array(order)], y, temperature), rtol=1e-6)


@pytest.mark.parametrize("name", ["dist", "shuffled"])
def test_some_want_a_batch(name):
    (z, v), y = logits(), jnp.arange(6)
    objective = objectives.parse(name)
    for refused in (lambda: objective.loss(z[:1], v[:1], y[:1], 1.0), lambda: objective.loss(z[0], v[0], y[0], 1.0)):
        with pytest.raises(BadInput, match="give a batch of 2 or more"):
            refused()
    with pytest.raises(BadInput, match="give a batch of 2 or more"):
        objectives.loss_of(name, batch=1)


def test_dist_without_its_second_term_wants_none():
    (z, v), y = logits(), jnp.arange(6)
    alone = objectives.parse("dist(gamma=0)")
    np.testing.assert_allclose(alone.loss(z[0], v[0], y[0], 1.0), alone.loss(z, v, y, 1.0)[0], rtol=1e-6)


@pytest.mark.parametrize("text", ["double_softmax", "logit_standardization", "norm_kd", "spherical_kd(m=3)"])
def test_the_target_is_what_the_loss_is_a_divergence_from(text):
    """Soft targets are softmax(softened/T): the loss is T² KL from them, times σ_v² for `norm_kd`."""
    objective, random = objectives.parse(text), np.random.default_rng(0)
    v, temperature = jnp.asarray(random.normal(0, 3, (4, 10))), 2.0
    softened, at = objective.target(v, temperature, **objective.hyperparameters)
    assert at == temperature
    z = v if text != "double_softmax" else softened  # where student and teacher are alike they are standardised alike
    loss = objective.loss(z, v, jnp.zeros(4, int), temperature)
    np.testing.assert_allclose(loss, 0, atol=1e-5)
    p = jax.nn.softmax(softened / temperature)
    moved = z + 0.5 * jnp.asarray(random.normal(0, 1, (4, 10)))
    student = (
        objective.target(moved, temperature, **objective.hyperparameters)[0] if text != "double_softmax" else moved
    )
    q = jax.nn.softmax(student / temperature)
    scale = jnp.var(v, axis=-1, ddof=1) if text == "norm_kd" else 1
    wanted = scale * temperature**2 * jnp.sum(p * jnp.log(p / q), axis=-1)
    np.testing.assert_allclose(objective.loss(moved, v, jnp.zeros(4, int), temperature), wanted, rtol=1e-3)


def test_the_placebos_target_is_that_of_the_reference():
    placebo = objectives.parse("placebo(reference=4)")
    assert placebo.target("logits", 1.0, **placebo.hyperparameters) == ("logits", 4.0)


@pytest.mark.parametrize("labels", [[1, 10], [-1, 3]])
def test_labels_that_are_no_classes_are_refused(labels):
    logits = jnp.zeros((2, 10))
    with pytest.raises(BadInput, match="are not allowed with 10 classes: give 0 to 9"):
        objectives.parse("dkd").loss(logits, logits, jnp.array(labels), 4.0)


def test_an_objective_without_a_word_on_its_limit_refuses_infinity():
    objectives.register(Objective("mine", "mine", lambda z, v, y, t, power: z[..., 0], (Parameter("power", 2),)))
    with pytest.raises(BadInput, match=r"mine\(power=3\) is not allowed: .* because its registry entry"):
        objectives.parse("mine(power=3)").require_limit()
    objectives.register(Objective("no_t", "no T", lambda z, v, y, t: z[..., 0], uses_temperature=False))
    objectives.parse("no_t").require_limit()  # nothing to take a limit in
