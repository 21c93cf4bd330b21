"""The losses: values by hand, limits, temperatures in every shape, types, masks, bad input, properties."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdjax.errors import BadInput
from kdjax.losses import (
    centred_logit_matching_loss,
    distillation_loss,
    label_matching_loss,
    logit_matching_loss,
    soft_target_gradient,
    soft_target_loss,
)

INF = float("inf")
TEMPERATURES = [0.3, 1.0, 4.0, 20.0, 1e4, INF]
loss, gradient = jax.jit(soft_target_loss), jax.jit(soft_target_gradient)


def logits(*shape: int, seed: int = 0, scale: float = 5.0) -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(seed))
    return tuple(scale * jax.random.normal(key, shape) for key in keys)


def derivative(function: Callable[..., jax.Array], **options: Any) -> Callable[..., Any]:
    """Value and gradient of the sum over examples."""
    return jax.jit(jax.value_and_grad(lambda *arguments: function(*arguments).sum(), **options))


def centred(array: jax.Array) -> jax.Array:
    return array - array.mean(-1, keepdims=True)


def test_the_mix() -> None:
    z, v = logits(4, 5, 10)
    labels = jnp.arange(20).reshape(4, 5) % 10
    weight = jnp.array([0.0, 0.3, 0.9, 1.0])
    hard = -np.log(np.take_along_axis(np.asarray(jax.nn.softmax(z)), np.asarray(labels)[..., None], -1)[..., 0])
    expected = weight[:, None] * loss(z, v, 4.0) + (1 - weight[:, None]) * hard
    mix = jax.jit(distillation_loss)
    np.testing.assert_allclose(mix(z, v, labels, 4.0, weight), expected, rtol=1e-5)
    for i, one in enumerate([0.0, 0.3, 0.9, 1.0]):
        np.testing.assert_allclose(mix(z, v, labels, 4.0, one)[i], expected[i], rtol=1e-5)


def test_logit_matching() -> None:
    z, v = jnp.array([[1.0, 2.0, 6.0]]), jnp.array([[0.0, 2.0, 1.0]])
    np.testing.assert_allclose(logit_matching_loss(z, v), [26 / 6], rtol=1e-6)
    np.testing.assert_allclose(centred_logit_matching_loss(z, v), [14 / 6], rtol=1e-6)  # u = (1, 0, 5) has mean 2
    z, v = logits(50, 10)
    pinned = (z.mean(-1) - v.mean(-1)) ** 2 / 2
    np.testing.assert_allclose(logit_matching_loss(z, v), centred_logit_matching_loss(z, v) + pinned, rtol=1e-5)


def test_label_matching() -> None:
    z, v = jnp.array([1.0, 2.0, 6.0]), jnp.array([0.0, 3.0, 1.0])
    assert label_matching_loss(z, v) == 4
    np.testing.assert_array_equal(jax.grad(label_matching_loss)(z, v), [0, -1, 1])
    assert label_matching_loss(z, jnp.array([3.0, 3.0, 1.0])) == 4.5  # the teacher's tie is shared


def test_averaged_logits_are_the_geometric_mean() -> None:
    z, _ = logits(6, 10)
    teachers = np.stack([logits(6, 10, seed=seed)[1] for seed in (1, 2, 3)]).astype(np.float64)
    for temperature in (1.0, 4.0, 20.0):
        p = np.exp(
            np.mean([t / temperature - np.log(np.exp(t / temperature).sum(-1, keepdims=True)) for t in teachers], 0)
        )
        p /= p.sum(-1, keepdims=True)
        log_q = np.asarray(jax.nn.log_softmax(z / temperature), np.float64)
        expected = temperature**2 * (p * (np.log(p) - log_q)).sum(-1)
        np.testing.assert_allclose(
            loss(z, jnp.asarray(teachers.mean(0), jnp.float32), temperature), expected, rtol=2e-5
        )


def test_infinite_temperature() -> None:
    z, v = logits(40, 10)
    np.testing.assert_allclose(loss(z, v, INF), centred_logit_matching_loss(z, v), rtol=1e-6)
    np.testing.assert_allclose(gradient(z, v, INF), (centred(z) - centred(v)) / 10, atol=1e-6)
    np.testing.assert_allclose(loss(z, v, 1e9), loss(z, v, INF), rtol=1e-6)


@pytest.mark.parametrize(("classes", "slope"), [(2, -2), (3, -1), (10, -1), (100, -1)])
def test_the_limit_is_approached_at_the_rate_of_theory(classes: int, slope: int) -> None:
    """The gradient's relative error against Eq. 4 falls as 1/T, for two classes as 1/T². In float32."""
    z, v = logits(4000, classes, scale=1.0)
    limit = gradient(z, v, INF)
    temperatures = np.geomspace(20, 200, 5)
    errors = [float(jnp.sqrt(jnp.sum((gradient(z, v, t) - limit) ** 2) / jnp.sum(limit**2))) for t in temperatures]
    assert np.polyfit(np.log(temperatures), np.log(errors), 1)[0] == pytest.approx(slope, abs=0.03 * abs(slope))
    if slope == -1:
        constant = np.sqrt((classes - 2) / (2 * classes))
        assert errors[-1] * temperatures[-1] == pytest.approx(constant, rel=0.05)


def test_zero_temperature_is_label_matching() -> None:
    z, v = logits(200, 10)
    t = 1e-3
    np.testing.assert_allclose(loss(z, v, t) / t, label_matching_loss(z, v), rtol=1e-3, atol=1e-2)
    clear = jnp.all(jnp.stack([jnp.diff(jnp.sort(array))[:, -1] > 0.05 for array in (z, v)]), axis=0)
    wanted = derivative(label_matching_loss)(z, v)[1]
    np.testing.assert_allclose((gradient(z, v, t) / t)[clear], wanted[clear], atol=1e-5)


def test_traced_temperatures() -> None:
    z, v = logits(6, 5, 10)
    temperatures = jnp.array(TEMPERATURES)
    one = derivative(soft_target_loss)
    wanted = [one(z[i], v[i], t) for i, t in enumerate(TEMPERATURES)]
    values, slopes = np.stack([value for value, _ in wanted]), np.stack([slope for _, slope in wanted])
    scanned = jax.lax.scan(lambda carry, row: (carry, one(*row)), 0, (z, v, temperatures))[1]
    mapped = jax.jit(jax.vmap(one))(z, v, temperatures)
    vector = loss(z, v, temperatures).sum(-1), one(z, v, temperatures)[1]
    matrix = jnp.broadcast_to(temperatures[:, None], (6, 5))
    full = loss(z, v, matrix).sum(-1), gradient(z, v, matrix)
    rows = loss(z, v, np.asarray(TEMPERATURES)).sum(-1), gradient(z, v, temperatures)
    for found in (scanned, mapped, vector, full, rows):
        np.testing.assert_allclose(found[0], values, rtol=1e-6)
        np.testing.assert_allclose(found[1], slopes, rtol=1e-5, atol=1e-6)
    through_a_scan = jax.grad(lambda z: jax.lax.scan(lambda c, r: (c + one(*r)[0], 0), 0.0, (z, v, temperatures))[0])(z)
    np.testing.assert_allclose(through_a_scan, slopes, rtol=1e-5, atol=1e-6)


def test_a_traced_value_that_is_no_temperature_shows() -> None:
    z, v = logits(3, 10)
    for bad in (0.0, -1.0, float("nan")):
        assert np.isnan(loss(z, v, jnp.array([1.0, bad, 2.0]))).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_short_floats_are_computed_in_float32(dtype: Any) -> None:
    z, v = (array.astype(dtype) for array in logits(4, 10))
    found = loss(z, v, 20.0)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, loss(z.astype(jnp.float32), v.astype(jnp.float32), 20.0))
    assert derivative(soft_target_loss)(z, v, 20.0)[1].dtype == dtype


def test_float64_stays() -> None:
    with jax.enable_x64(True):
        z, v = logits(4, 10)
        assert z.dtype == loss(z, v.astype(jnp.float32), jnp.float32(3)).dtype == jnp.float64
        assert label_matching_loss(z, v).dtype == logit_matching_loss(z, v).dtype == jnp.float64
        assert distillation_loss(z, v, jnp.zeros(4, int), 3, 0.5).dtype == jnp.float64


def test_masked_equals_sliced() -> None:
    z, v = logits(6, 6)
    keep, gone = jnp.array([0, 2, 3, 5]), jnp.array([1, 4])
    temperatures = jnp.array(TEMPERATURES)
    masked = tuple(array.at[:, gone].set(-jnp.inf) for array in (z, v))
    derivatives = derivative(soft_target_loss, argnums=(0, 1))
    (_, slopes), (_, wanted) = (derivatives(*pair, temperatures) for pair in (masked, (z[:, keep], v[:, keep])))
    np.testing.assert_allclose(loss(*masked, temperatures), loss(z[:, keep], v[:, keep], temperatures), rtol=1e-6)
    for slope, wanted_slope in zip(slopes, wanted, strict=True):
        np.testing.assert_allclose(slope[:, keep], wanted_slope, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(slope[:, gone], 0)
    assert np.isfinite(jax.jit(jax.vmap(jax.hessian(soft_target_loss)))(*masked, temperatures)).all()
    assert np.isnan(loss(masked[0], v, temperatures)).all()  # in one only


def test_a_student_that_diverged_shows() -> None:
    z, v = logits(3, 10)
    for bad in (jnp.nan, jnp.inf):
        assert np.isnan(loss(z.at[1, 2].set(bad), v, 4.0)).tolist() == [False, True, False]
    assert np.isnan(loss(z.at[1, 2].set(jnp.nan), v.at[1, 2].set(jnp.nan), 4.0)[1])


def test_bad_input() -> None:
    z, v = logits(4, 10)
    labels = jnp.zeros(4, int)
    two = (soft_target_loss, soft_target_gradient, lambda z, v, t: distillation_loss(z, v, labels, t, 0.5))
    for function in (*two, *(lambda z, v, _, f=f: f(z, v) for f in (logit_matching_loss, label_matching_loss))):
        for student, teacher, message in [
            (z[:, :1], v[:, :1], r"shape \(4, 1\).*at least 2"),
            (z, v[:, :9], r"\(4, 10\).*\(4, 9\)"),
            (z, v[0], r"\(4, 10\).*\(10,\)"),
        ]:
            with pytest.raises(BadInput, match=message):
                function(student, teacher, 1.0)
    for function in two:
        arrays = (np.float32(0), np.array([1.0, 2, 0, 3]), jnp.float32(-1))
        for bad in (0, 0.0, -1, -2.5, float("nan"), -INF, 1e-60, *arrays):
            with pytest.raises(BadInput, match=r"a temperature of .* is not allowed: it is a number above 0"):
                function(z, v, bad)
        with pytest.raises(BadInput, match=r"temperature of shape \(3,\) does not fit examples of shape \(4,\)"):
            function(z, v, jnp.ones(3))
    with pytest.raises(BadInput, match=r"labels of shape \(3,\)"):
        distillation_loss(z, v, labels[:3], 1.0, 0.5)
    for wrong in (-1, 10):
        with pytest.raises(BadInput, match=r"labels from -?\d+ to \d+ are not allowed with 10 classes: give 0 to 9"):
            distillation_loss(z, v, labels.at[2].set(wrong), 1.0, 0.5)
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadInput, match=r"a soft weight of .* from 0 to 1"):
            distillation_loss(z, v, labels, 1.0, weight)


rows = st.sampled_from([2, 3, 10]).flatmap(
    lambda n: st.tuples(*(st.lists(st.floats(-30, 30, width=32), min_size=n, max_size=n) for _ in range(2)))
)
temperatures = st.one_of(st.floats(0.125, 1e6, width=32), st.just(INF))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(rows, temperatures, st.integers(-64, 64))
def test_properties(pair: tuple[list[float], list[float]], temperature: float, shift: int) -> None:
    z, v = (jnp.asarray(row, jnp.float32) for row in pair)
    t = jnp.float32(temperature)
    value, slope = loss(z, v, t), gradient(z, v, t)
    size = float(jnp.abs(slope).max())
    assert value >= 0
    assert np.isfinite(value) and np.isfinite(slope).all()
    assert abs(slope.sum()) <= 1e-5 * size * len(z)  # the mean logit gets no gradient
    assert loss(z, z, t) == 0 and not gradient(z, z, t).any()
    if np.ptp(np.asarray(z, np.float64) - np.asarray(v, np.float64)) > 1e-3 and temperature > 4:
        assert value > 0  # zero only where they agree; at low T both may be sure beyond float32
    z, v = jnp.round(z * 64) / 64, jnp.round(v * 64) / 64  # so that a shift is exact
    np.testing.assert_allclose(loss(z + shift, v, t), loss(z, v, t), rtol=1e-6)
    np.testing.assert_allclose(gradient(z, v + shift, t), gradient(z, v, t), rtol=1e-5, atol=1e-6 * size)
