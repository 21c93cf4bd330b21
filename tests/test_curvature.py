"""Curvature in logits and parameters against closed forms and dense matrices, and `analysis.logit_matching --curvature`
from a run directory to its page and figure."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from jax.flatten_util import ravel_pytree

from analysis import logit_matching
from analysis.matching import best_rates, curvature, rates
from analysis.matching.rows import Numbers, Row
from kdjax import cli, losses, models, sweeps
from kdjax.config import DataConfig, RunConfig, SweepConfig, TeacherConfig, TrainConfig

INF = math.inf


def test_eigenvalues_in_the_logits_by_hand():
    # Two classes, q = (3/4, 1/4) at T = 2: the matrix is 3/16 · [[1, −1], [−1, 1]].
    logits = np.array([[2 * math.log(3), 0.0], [0.0, 2 * math.log(3)]])
    assert curvature.in_logits(logits, 2.0) == pytest.approx({"largest": 3 / 8, "mean": 3 / 8}, rel=1e-12)
    certain = curvature.in_logits(np.array([[1e3, 0.0, 0.0]]), 1.0)
    assert certain == pytest.approx({"largest": 0.0, "mean": 0.0}, abs=1e-12)


def test_eigenvalues_in_the_logits_at_infinity_are_one_over_n():
    logits = 5 * np.random.default_rng(0).standard_normal((2100, 10))  # more than are held at a time
    assert curvature.in_logits(logits, INF) == pytest.approx({"largest": 0.1, "mean": 0.1}, rel=1e-12)
    at_one = curvature.in_logits(logits, 1.0)
    halves = [curvature.in_logits(part, 1.0) for part in np.split(logits, 2)]
    assert at_one["largest"] == pytest.approx(np.mean([half["largest"] for half in halves]), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 4.0, INF])
def test_the_hessian_in_the_logits_is_the_loss_s(temperature):
    z, v = np.random.default_rng(1).standard_normal((2, 1, 5)).astype(np.float32) * 4
    hessian = np.asarray(jax.hessian(lambda z: losses.soft_target_loss(z, jnp.asarray(v[0]), temperature))(z[0]))
    if temperature == INF:
        np.testing.assert_allclose(hessian, (np.eye(5) - 1 / 5) / 5, atol=1e-7)
    values = np.linalg.eigvalsh(hessian.astype(np.float64))
    found = curvature.in_logits(z, temperature)
    assert found == pytest.approx({"largest": values[-1], "mean": values[1:].mean()}, rel=1e-5)


@pytest.fixture(scope="module")
def tiny():
    """A tiny network, its parameters, images and teacher logits."""
    model = models.network(TrainConfig(hidden=(6, 5), epochs=1, batch_size=1), (3, 3, 1), 4)
    params = model.init(jax.random.key(1))[0]
    images = jax.random.uniform(jax.random.key(2), (30, 3, 3, 1))
    return model, params, images, 3 * jax.random.normal(jax.random.key(3), (30, 4))


def test_the_forward_pass_is_the_models(tiny):
    model, params, images, _ = tiny
    np.testing.assert_allclose(
        curvature.mlp_logits(params, images), model.apply(params, {}, images, False)[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("temperature", [0.5, 4.0, INF])
def test_curvature_is_that_of_the_dense_matrices(tiny, temperature):
    model, params, images, table = tiny
    flat, unravel = ravel_pytree(params)
    divisors = jnp.linspace(0.5, 2.0, len(flat))

    def loss(logits):
        return lambda vector: jnp.mean(losses.soft_target_loss(logits(unravel(vector)), table, temperature))

    def of_model(params):  # can be differentiated once
        return model.apply(params, {}, images, False)[0]

    hessian = np.asarray(jax.hessian(loss(lambda params: curvature.mlp_logits(params, images)))(flat), np.float64)
    jacobian = np.asarray(jax.jacrev(lambda vector: of_model(unravel(vector)))(flat), np.float64)
    q = np.asarray(jax.nn.softmax(of_model(params) / temperature), np.float64)
    bend = q[:, :, None] * (np.eye(4) - q[:, None, :])
    gauss_newton = np.einsum("icp,icd,idr->pr", jacobian, bend, jacobian) / len(images)
    root = np.sqrt(np.asarray(divisors, np.float64))
    stacked = [jax.tree.map(lambda leaf: leaf[None], each) for each in (params, unravel(divisors))]
    found = curvature.measure(*stacked, images, table, jnp.array([temperature]))
    for value, matrix in (
        (found.hessian, hessian),
        (found.gauss_newton, gauss_newton),
        (found.preconditioned, hessian / root / root[:, None]),
    ):
        assert float(value[0]) == pytest.approx(np.linalg.eigvalsh(matrix)[-1], rel=1e-4)
    assert float(found.mean_eigenvalue[0]) == pytest.approx(np.trace(gauss_newton) / len(flat), rel=0.3)  # an estimate
    assert float(found.gradient[0]) == pytest.approx(float(jnp.linalg.norm(jax.grad(loss(of_model))(flat))), rel=1e-4)
    assert float(found.residual[0]) < 1e-2


def test_the_largest_eigenvalue_is_not_that_of_largest_size():
    values = jnp.array([-10.0, -1.0, 0.5, 2.0])
    found, residual = curvature.largest_eigenvalue(lambda vector: values * vector, jnp.ones(4))
    assert float(found) == pytest.approx(2.0, rel=1e-5) and float(residual) < 1e-4


def test_the_residual_bounds_the_error_before_convergence():
    random = np.random.default_rng(0).standard_normal((200, 200)).astype(np.float32)
    matrix = jnp.asarray(random + random.T)
    truth = np.linalg.eigvalsh(np.asarray(matrix, np.float64))
    start = jax.random.normal(jax.random.key(0), (200,))
    errors = []
    for steps in (8, 16, 32):
        value, residual = curvature.largest_eigenvalue(lambda vector: matrix @ vector, start, steps)
        assert np.abs(truth - float(value)).min() <= float(residual) * 1.01 + 1e-3
        errors.append(truth[-1] - float(value))
    assert errors[0] > errors[1] > errors[2] > -1e-3  # from below


def test_a_trace_of_a_diagonal_matrix_is_exact_and_of_any_other_right_on_average():
    values = jnp.arange(1.0, 51.0)
    assert float(curvature.trace(lambda vector: values * vector, jax.random.key(0), 50, 1)) == pytest.approx(1275)
    ones = curvature.trace(lambda vector: jnp.full(50, vector.sum()), jax.random.key(1), 50, 4000)
    assert float(ones) == pytest.approx(50, rel=0.1)


def test_adams_divisors_are_what_its_steps_are_divided_by():
    optimizer = optax.scale_by_adam()
    params = jnp.zeros(3)
    state = optimizer.init(params)
    for gradient in ([1.0, -2.0, 0.1], [0.5, 3.0, 0.2], [-1.0, 1.0, 0.3]):
        direction, state = optimizer.update(jnp.array(gradient), state)
    mean = state.mu / (1 - 0.9**3)
    np.testing.assert_allclose(direction, mean / curvature.adam_divisors(state.nu, 3), rtol=1e-5)


def made_up(best, sharpness):
    """Errors that are fewest at the given rates, and eigenvalues the same everywhere."""
    rows, ends = [], ("common rate, epoch 1", "common rate, the last epoch", "own rate, the last epoch")
    places = ["start", "trained student", *(f"{each}, {end}" for each in rates.RATES for end in ends)]
    for temperature, value in zip(rates.TEMPERATURES, sharpness, strict=True):
        rows.append(Row("logits", "teacher", "largest", temperature, math.nan, value))
        for data in places:
            for curve, number in {"hessian": value, "preconditioned": value, "residual": 0.02}.items():
                rows.append(Row("curvature", data, curve, temperature, math.nan, number))
    for seed in range(3):
        for temperature, fewest in zip(rates.TEMPERATURES, best, strict=True):
            for optimizer, grid in rates.RATES.items():
                for rate in grid:
                    # The further from the best, the more, and the more so the higher the seed.
                    errors = 100 + abs(math.log2(rate / fewest)) * (50 + seed)
                    for kind in ("errors", "loss"):
                        rows.append(Row("rate", optimizer, f"{kind} at {rate:g}", temperature, seed, errors))
    return Numbers(rows)


def verdicts(numbers):
    return {claim.claim: claim.holds for claim in best_rates.claims(numbers)}


def test_inverse_eigenvalues_are_judged():
    grid = np.array(rates.RATES["sgd"])[2:10]
    right, wrong = verdicts(made_up(grid, 1 / grid)), verdicts(made_up(grid, grid))
    what = "SGD, best hold-out errors: sharpness of one trained student"
    assert right[what] and not wrong[what]
    assert not right["SGD, best hold-out errors: none: one rate for all T"]
    assert not right["eigenvalues are converged"]  # 2 %
    # Where the rates were chosen by hold-out errors, curvature at them says nothing of those of the training loss.
    own = "sharpness at the end of training at T's best rate"
    assert f"SGD, best hold-out errors: {own}" in right and f"SGD, best training loss: {own}" not in right
    assert right["SGD, best hold-out errors: no best rate at the grid's edge"]
    edge = np.full(len(rates.TEMPERATURES), rates.RATES["sgd"][-1])
    assert not verdicts(made_up(edge, edge))["SGD, best hold-out errors: no best rate at the grid's edge"]


def test_best_rates_and_those_not_told_apart():
    grid = np.array(rates.RATES["sgd"])[2:10]
    for values in best_rates.best_rates(made_up(grid, grid), "sgd"):
        np.testing.assert_allclose(values, grid)  # every other rate is worse for all seeds by much the same
    even = made_up(grid, grid).table
    even.loc[even["part"] == "rate", "value"] = 100 + even["seed"]
    _, low, high = best_rates.best_rates(Numbers(map(Row._make, even.itertuples(index=False))), "sgd")
    assert set(low) == {rates.RATES["sgd"][0]} and set(high) == {rates.RATES["sgd"][-1]}
    fastest = f"{rates.RATES['sgd'][-1]:g}"
    failed = even["curve"].isin([f"errors at {fastest}", f"loss at {fastest}"]) & (even["seed"] == 0)
    even.loc[failed & (even["part"] == "rate"), "value"] = np.inf
    best, _, high = best_rates.best_rates(Numbers(map(Row._make, even.itertuples(index=False))), "sgd")
    assert set(best) == {rates.RATES["sgd"][0]} and set(high) == {rates.RATES["sgd"][-2]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A small sweep on a few of the bundled digits with a hold-out; returns its run directory."""
    root = tmp_path_factory.mktemp("curvature")
    return small_run(root, holdout=100)


def small_run(root, holdout):
    return sweeps.run(
        sweeps.prepare(
            SweepConfig(
                temperatures=(20.0,),
                widths=(8,),
                seeds=1,
                epochs=3,
                batch_size=50,
                run=RunConfig(out=root / "runs", name="small", devices=1),
                data=DataConfig("mnist5k", raw_dir=None, data_dir=root / "data", train_images=200, holdout=holdout),
                teacher=TeacherConfig(widths=(16, 12), epochs=3, batch_size=50),
            )
        )
    )


@pytest.fixture(scope="module")
def written(swept):
    out = swept.parent.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "RATES", {"sgd": (0.01, 0.1), "adam": (0.001, 0.01)})
        patch.setattr(rates, "EPOCHS", (1,))
        logit_matching.main(logit_matching.MatchingConfig(swept, out=out, curvature=True, images=50, epochs=2))
    return out / "logit_matching" / "small"


def test_everything_is_written(written):
    table = pd.read_csv(written / "curvature.csv")
    assert set(table["part"]) == {"logits", "target", "curvature", "rate"} and table["value"].notna().all()
    assert {path.name for path in (written / "figures").iterdir()} == {
        f"curvature.{kind}" for kind in ("png", "pdf", "svg")
    }
    assert "predictions hold; th" in (written / "report.html").read_text()
    page = (written / "curvature.md").read_text()
    assert (
        f"**{page.count('| yes |')} of {page.count('| yes |') + page.count('| **no** |')} predictions hold; th" in page
    )
    assert "seeds 0 to 2, 2 epochs" in page and "100 held-out images" in page
    assert page.count("| ∞ |") == 1 and "sharpness in the teacher's logits" in page
    curves = table[table["part"] == "curvature"]
    assert len(curves["data"].unique()) == 2 + 2 * 2 * 2  # optimizers, rates, epochs
    # Before its first step every student is the same: what differs over T is the loss.
    assert curves[(curves["data"] == "start") & (curves["curve"] == "hessian")]["value"].nunique() == 8


def test_sgd_divides_by_nothing(written):
    curves = pd.read_csv(written / "curvature.csv").query("part == 'curvature'")
    plain, divided = (curves[curves["curve"] == name] for name in ("hessian", "preconditioned"))
    same = np.isclose(plain["value"].to_numpy(), divided["value"].to_numpy(), rtol=1e-3)
    adam = plain["data"].str.startswith("adam").to_numpy()
    assert same[~adam].all() and not same[adam].any()


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        cli.run(
            logit_matching.main,
            logit_matching.MatchingConfig,
            logit_matching.PROG,
            [str(argument) for argument in arguments],
        )
    assert exit.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_run_without_a_holdout_is_refused(tmp_path, capsys):
    folder = small_run(tmp_path, holdout=0)
    for more in ((), ("--dry-run",)):
        message = refused(capsys, folder, "--out", folder.parent.parent, "--curvature", *more)
        assert message.startswith("error: the run has no hold-out") and "--holdout" in message
    assert not (folder.parent.parent / "logit_matching").exists()


def test_a_dry_run_says_what_it_would_cost(swept, capsys):
    out = swept.parent.parent
    before = sorted(out.rglob("*"))
    logit_matching.main(logit_matching.MatchingConfig(swept, out=out, images=64, curvature=True, dry_run=True))
    grids = sum(len(grid) for grid in rates.RATES.values())
    assert f"would train {8 * (3 * grids + 4)} students: about " in capsys.readouterr().out
    logit_matching.main(logit_matching.MatchingConfig(swept, out=out, images=64, dry_run=True))
    assert "would measure gradients and train 78 students: about " in capsys.readouterr().out  # 2 × 3 × (11 + 2)
    assert sorted(out.rglob("*")) == before
