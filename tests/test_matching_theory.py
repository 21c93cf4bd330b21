"""The high-temperature limit on random logits: slopes, constants and plateau of the references, and the other end."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from analysis.matching import laws, theory

pytestmark = pytest.mark.optimized


def logits(classes, distance=None, scale=5.0):
    return theory.random_logits(classes, scale, 400_000 // classes, distance=distance)


@pytest.mark.parametrize("distance", [None, 0.01], ids=["independent", "close"])
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_slopes_and_constants(classes, distance):
    z, v = logits(classes, distance)
    first, second = laws.laws(z, v)
    constant = laws.random_constant(classes, distance is not None)
    if classes == 2:
        assert first.slope == pytest.approx(-2, abs=0.1)
        assert second.slope == pytest.approx(-2, abs=0.1)
    else:
        assert first.slope == pytest.approx(-1, abs=0.03)
        assert second.slope == pytest.approx(-2, abs=0.1)
        assert laws.cosine_slope(z, v) == pytest.approx(-2, abs=0.1)
    assert first.constant == pytest.approx(constant, rel=0.05)
    for law in (first, second):  # for these logits, and not for their distribution: much closer
        assert law.constant == pytest.approx(law.predicted_constant, rel=2e-3)


def test_peaked_teacher_by_hand():
    # One logit 15 above the rest, in the student 5: T (q − p) lies along the formula, and the top class alone tells.
    v, z, temperatures = 15 * np.eye(1, 10), 5 * np.eye(1, 10), np.array([10.0, 20.0, 50.0, 100.0])
    errors, cosines = theory.errors_and_cosines(z, v, temperatures)
    p, q = (1 / (1 + 9 * np.exp(-top / temperatures)) for top in (15, 5))
    np.testing.assert_allclose(errors["centred, first order"], temperatures * (p - q) / 0.9 - 1, rtol=1e-9)
    np.testing.assert_allclose(errors["centred, first order"], [0.97, 0.46, 0.17, 0.08], atol=0.005)
    np.testing.assert_allclose(cosines["centred, first order"], 1, rtol=1e-9)


@pytest.mark.parametrize("classes", [2, 10])
def test_without_centring_the_error_levels_off(classes):
    z, v = logits(classes)
    errors, cosines = theory.errors_and_cosines(z, v, np.array([1e4 * 5]))
    for order in ("first", "second"):
        assert errors[f"not centred, {order} order"][0] == pytest.approx(1 / math.sqrt(classes), rel=0.05)
        assert cosines[f"not centred, {order} order"][0] == pytest.approx(math.sqrt(1 - 1 / classes), rel=0.05)
        assert cosines[f"centred, {order} order"][0] == pytest.approx(1, abs=1e-7)
    assert errors["not centred, first order"][0] == pytest.approx(laws.plateau(z, v), rel=1e-3)


def test_curves_fall_on_one_against_temperature_over_spread():
    curves = []
    for scale in (0.5, 5.0):
        z, v = logits(10, scale=scale)
        curves.append(theory.errors_and_cosines(z, v, scale * np.array([2.0, 20.0]))[0]["centred, first order"])
        assert theory.spread(z, v) == pytest.approx(scale, rel=0.02)
    np.testing.assert_allclose(*curves, rtol=1e-9)


def test_plain_gradient_is_the_closed_form():
    z, v = logits(3)
    z, v = z[:5], v[:5]
    found = theory.plain_gradient(jnp.asarray(z, jnp.float32), jnp.asarray(v, jnp.float32), 4.0)
    soft = [np.exp(x / 4) / np.exp(x / 4).sum(axis=1, keepdims=True) for x in (z, v)]
    np.testing.assert_allclose(found, (soft[0] - soft[1]) / 4, rtol=1e-5, atol=1e-7)


def test_norm_falls_as_temperature_squared_and_is_restored_by_it():
    z, v = logits(10)
    found = theory.norms(z, v, 5 * laws.FIT)
    assert laws.slope(laws.FIT, found["C"]) == pytest.approx(-2, abs=0.03)
    assert laws.slope(laws.FIT, found["T² C"]) == pytest.approx(0, abs=0.03)
    centred = (z - v) - (z - v).mean(axis=1, keepdims=True)
    expected = math.sqrt(np.mean(np.sum(centred**2, axis=1))) / 10
    assert found["T² C"][-1] == pytest.approx(expected, rel=1e-3)


def test_label_matching_is_approached_as_the_root_of_temperature():
    z, v = logits(10)
    found = theory.label_errors(z, v, 5 * laws.LOW_FIT)
    for name in ("gradient", "value"):
        assert laws.slope(laws.LOW_FIT, found[name]) == pytest.approx(0.5, abs=0.1)


def test_weights_are_the_next_order_of_the_value():
    z, v = logits(10)
    found = theory.value_errors(z, v, 5 * laws.FIT)
    assert laws.slope(laws.FIT, found["equal weights"]) == pytest.approx(-1, abs=0.03)
    assert laws.slope(laws.FIT, found["weighted"]) == pytest.approx(-2, abs=0.1)


def test_attention():
    z, v = logits(10)
    found = theory.attention(z[:2000], v[:2000], np.array([0.5, 1e5]))
    shares = np.array([found[f"share rank {rank}"] for rank in range(1, 11)])
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    assert shares[0, 0] > 3 * shares[9, 0]  # cold: the top classes; hot: whoever differs, here all alike but for rank
    weights = np.array([found[f"weight rank {rank}"] for rank in range(1, 11)])
    assert (np.diff(weights[:, 0]) < 0).all()
    np.testing.assert_allclose(weights[:, 1], 1, atol=1e-3)
    same = theory.attention(np.zeros((4, 3)), np.tile(np.array([[3.0, 0.0, 0.0]]), (4, 1)), np.array([2.0]))
    assert same["effective number"][0] == pytest.approx(1)  # four equal cases count as four


def test_float32_plain_form_loses_its_digits_and_the_exact_form_keeps_them():
    z, v = logits(10)
    found = theory.rounding(z[:1000], v[:1000], np.array([1.0, 1e4]))
    assert found["value, plain form"][1] > 0.1
    assert found["gradient, plain form"][1] > 1e-4
    for name in ("value, exact form", "gradient, exact form"):
        assert (found[name] < 2e-6).all()


def test_falls_below():
    temperatures, errors = np.array([1.0, 10.0, 100.0]), np.array([0.5, 1.0, 0.01])
    assert laws.falls_below(0.1, temperatures, errors) == pytest.approx(10 * math.sqrt(10))
    assert math.isnan(laws.falls_below(0.001, temperatures, errors))
    assert laws.falls_below(2.0, temperatures, errors) == 1.0
