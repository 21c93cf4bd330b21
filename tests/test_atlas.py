"""The atlas of objectives: against plain NumPy and the theory of matching, as a command, and what it refuses."""

import math
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from analysis import objectives as command
from analysis.atlas import identities as identities_
from analysis.atlas import measurements, pairs, report, table
from analysis.matching import theory
from kdjax import objectives, sweeps
from kdjax.datasets.splits import NO_MASS
from tests import commands, hurry, small_sweep

SOME = ("kd", "dkd", "logit_standardization", "dist", "mse", "ttm", "total_variation", "nkd")
KINDS = {
    "kd": "logit matching",
    "reverse_kl": "logit matching",
    "jsd(beta=0.2)": "logit matching",
    "skew_kl": "logit matching",
    "centred_mse": "logit matching",
    "dkd(beta=0.9)": "logit matching",
    "mse": "logit matching, mean included",
    "dkd": "another distance of logits",
    "total_variation": "another distance of logits",
    "logit_standardization": "direction alone",
    "norm_kd": "direction alone",
    "spherical_kd": "direction alone",
    "dist(gamma=0)": "direction alone",
    "dist": "direction, over the batch",
    "ttm": "no teacher",
    "wttm": "no teacher",
    "label_smoothing": "no teacher",
    "nkd": "no limit",
}


@pytest.fixture(scope="module")
def atlas():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "EXAMPLES", 600)
        patch.setattr(pairs, "SEEDS", 2)
        return report.measure([objectives.parse(name) for name in SOME], pairs.random_pairs())


def curve(atlas, objective, seed=0):
    """By temperature."""
    rows = atlas.curves[(atlas.curves["objective"] == objective) & (atlas.curves["seed"] == seed)]
    return rows.set_index("temperature")


def at_infinity(atlas, objective):
    return curve(atlas, objective).loc[math.inf]


def test_soft_targets_are_those_of_the_theory(atlas):
    # There the gradient is that of the plain cross-entropy by automatic differentiation.
    pair, found = atlas.pairs.pairs[0], curve(atlas, "kd").loc[0.1:1e4]
    errors, cosines = theory.errors_and_cosines(pair.student, pair.teacher, found.index.to_numpy())
    np.testing.assert_allclose(found["error"], errors["centred, first order"], rtol=1e-5)
    np.testing.assert_allclose(found["cosine"], cosines["centred, first order"], rtol=1e-9)
    np.testing.assert_allclose(found["logit matching"], found["cosine"], rtol=1e-9)
    shares = theory.attention(pair.student, pair.teacher, found.index.to_numpy())
    for rank in (1, 4, 10):
        np.testing.assert_allclose(found[f"rank {rank}"], shares[f"share rank {rank}"], rtol=1e-6)
    fine = np.geomspace(10, 100, 400)
    below = fine[theory.errors_and_cosines(pair.student, pair.teacher, fine)[0]["centred, first order"] < 0.1][0]
    threshold = atlas.summary.query("objective == 'kd' and seed == 0")["threshold"].item()
    assert threshold == pytest.approx(below, rel=0.02)


def test_parts_of_the_squared_error_by_hand(atlas):
    z, v = atlas.pairs.pairs[0].student, atlas.pairs.pairs[0].teacher
    g, direction = (z - v) / z.shape[1], z - z.mean(axis=1, keepdims=True)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    scale = np.sum(np.sum(g * direction, axis=1) ** 2) / np.sum(g**2)
    mean = z.shape[1] * np.sum(g.mean(axis=1) ** 2) / np.sum(g**2)
    found = at_infinity(atlas, "mse")
    assert found[["scale", "mean logit", "direction"]].tolist() == pytest.approx([scale, mean, 1 - scale - mean])
    assert mean > 0.05 and (curve(atlas, "mse")["error"] < 1e-12).all()


def test_scale_is_dropped_by_standardisation_at_every_temperature(atlas):
    found = curve(atlas, "logit_standardization")
    assert (found["scale"] < 1e-12).all() and (found["direction"] > 1 - 1e-9).all()
    assert at_infinity(atlas, "kd")["scale"] == pytest.approx(0.55, abs=0.05)
    assert 0 < at_infinity(atlas, "dist")["scale"] < 0.1  # over the batch it is dropped, in an example it is not


def test_the_limit_is_reached_at_infinity_and_shares_add_up(atlas):
    ranks = [f"rank {rank + 1}" for rank in range(10)]
    for name in SOME[:-1]:
        assert at_infinity(atlas, name)["error"] < 1e-6 and at_infinity(atlas, name)["cosine"] == pytest.approx(1)
        assert at_infinity(atlas, name)["loss over limit"] == pytest.approx(1)
    np.testing.assert_allclose(atlas.curves[ranks].sum(axis=1), 1)
    parts = atlas.curves[["scale", "direction", "mean logit"]].sum(axis=1)
    np.testing.assert_allclose(parts, 1)
    assert math.inf not in curve(atlas, "nkd").index and curve(atlas, "nkd")["error"].isna().all()


@pytest.mark.parametrize(
    ("name", "slope", "margin"),
    [("kd", -1, 0.02), ("dkd", -1, 0.02), ("logit_standardization", -1, 0.02), ("dist", -1, 0.03), ("ttm", -1, 0.02)],
)
def test_errors_fall_as_one_over_t(atlas, name, slope, margin):
    slopes = atlas.summary.loc[atlas.summary["objective"] == name, "slope"]
    np.testing.assert_allclose(slopes, slope, atol=margin)


def test_signs_are_settled_more_slowly(atlas):
    # A share ∝ 1/T of the signs of log(p/q) is not yet that of u: the root of it is the error.
    slopes = atlas.summary.query("objective == 'total_variation'")["slope"]
    np.testing.assert_allclose(slopes, -0.5, atol=0.25)


def test_what_each_becomes(atlas):
    found = {name: measurements.what_it_becomes(objectives.parse(name), atlas.pairs.pairs[0]) for name in KINDS}
    assert found == KINDS


def test_identities_hold_and_a_false_one_does_not(atlas):
    pair = atlas.pairs.pairs[0]
    every = list(identities_.identities(pair))
    assert len(every) == 7 and all(one.holds for one in every)
    assert max(max(one.value, one.gradient) for one in every[1:]) < 1e-12  # the first has an epsilon
    false = identities_._identity(pair, "", "", (math.inf,), identities_.loss("dkd"), identities_.loss("kd"))
    assert not false.holds


def test_two_classes_have_no_direction():
    z, v = theory.random_logits(2, 5.0, 40)
    pair = pairs._pair("given", 0, z, v, v.argmax(axis=1))
    found = measurements.measure([objectives.parse("norm_kd")], [pair])  # of which rounding is left
    assert found[["error", "scale", "rank 1"]].isna().all(axis=None)


def test_a_gradient_that_vanishes_at_low_temperature_is_far_from_its_limit():
    z, v = 100 * np.eye(20, 4), 200 * np.eye(20, 4)
    z[4:] = v[4:] = np.array([200.0, 0, 0, 0])  # both are sure, and of the same class
    pair = pairs._pair("given", 0, z, v, v.argmax(axis=1))
    curves = measurements.measure([objectives.parse("kd")], [pair])
    low = curves.iloc[0]
    assert low["error"] == 1 and math.isnan(low["scale"])
    assert measurements.summary(curves, [pair])["threshold"].notna().all()


def test_the_table_and_its_verdict(atlas):
    lines = table.frame(atlas).set_index("objective")
    assert list(lines.index[:2]) == ["kd", "mse"] and lines.index[-1] == "nkd"
    both = atlas.summary.query("objective == 'kd'")["threshold"]
    assert lines.loc["kd", "threshold"] == pytest.approx(both.mean()) and lines.loc["kd", "n"] == 2
    assert lines.loc["kd", "threshold_low"] < both.min() and lines.loc["kd", "threshold_high"] > both.max()
    said = report.page.verdict(atlas)
    below = atlas.summary.groupby("objective", sort=False)["threshold"].max()
    names = ", ".join(name for name in below[below < 20].index if name != "mse")
    assert "logit_standardization" in names and "kd," not in names
    count = names.count(",") + 2
    assert said.startswith(
        f"At T = 20, {count} of 8 objectives are within 10 % of their limit, in the gradient: {names};"
    )
    assert "at every T alike: mse. nkd has no limit: T² times the entropy" in said


def run(*arguments, **options):
    """The command as a process of its own: exit code and what it said."""
    process = commands.start([str(argument) for argument in arguments], "analysis.objectives", **options)
    return commands.finish(process)


def write_logits(path, **changes):
    random = np.random.default_rng(0)
    arrays = {"student_logits": random.normal(0, 3, (30, 4)), "teacher_logits": random.normal(0, 3, (30, 4))}
    np.savez(path, **{**arrays, "labels": random.integers(0, 4, 30), **changes})
    return path


def test_a_file_of_logits_from_start_to_end(tmp_path):
    file = write_logits(tmp_path / "mine.npz")
    code, said = run(
        *("--logits", file, "--objectives", "mse", "dist(gamma=0)", "--out", tmp_path),
        env={**os.environ, "PYTHONPATH": str(commands.ROOT), **hurry.environment()},
    )
    assert code == 0, said
    assert "logits: mine.npz; 30 examples, 4 classes" in said
    folder = tmp_path / "objectives" / "mine-logits"
    page = (folder / "objectives.md").read_text()
    assert page.splitlines()[2].startswith("At T = 20, ") and "of 2 objectives are within 10 % of their limit" in page
    assert page.count("\n## ") == 4 and "nan" not in page and "**no**" not in page
    assert len(pd.read_csv(folder / "table.csv")) == 2
    curves = pd.read_csv(folder / "objectives.csv")
    assert set(curves["objective"]) == {"mse", "dist(gamma=0)"} and "rank 4" in curves
    assert {path.name for path in (folder / "figures").iterdir()} == {
        f"objectives.{kind}" for kind in ("png", "pdf", "svg")
    }
    shown = (folder / "report.html").read_text()
    assert "At T = 20, " in shown and "Figure 1." in shown and "Identities" in shown
    assert f"<code>python -m analysis.objectives --logits {file} " in shown and "mine.npz; 30 examples" in shown


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    root = tmp_path_factory.mktemp("atlas")
    return sweeps.run(sweeps.prepare(small_sweep.config(root, temperatures=(8.0, math.inf), name="small", epochs=1)))


def test_the_students_of_a_run(swept, tmp_path):
    found = pairs.run_pairs(swept)
    assert [(pair.name, pair.seed) for pair in found.pairs] == [
        (f"T = {at}", seed) for at in ("8", "∞") for seed in (0, 1)
    ]
    assert found.followed == "T = 8" and found.name == "small" and "students of 12 units" in found.where
    block = swept / "blocks" / "width12-seed1-rate0.001-0"
    with np.load(swept / "test.npz") as test, np.load(block / "logits.npz") as logits:  # 1,000 images: all of them
        np.testing.assert_array_equal(found.pairs[1].student, logits["test"][1])  # hard, 8, ∞
        np.testing.assert_array_equal(found.pairs[1].teacher, test["teacher_logits"])
        np.testing.assert_array_equal(found.pairs[1].labels, test["labels"])
    options = ["--objectives", "kd", "--out", str(tmp_path)]
    assert commands.call(command.main, command.AtlasConfig, [str(swept), *options])[0] == 0
    page = (tmp_path / "objectives" / "small" / "objectives.md").read_text()
    assert "student of T = 8 | student of T = ∞" in page and "Means over 2 seeds" in page


def test_a_run_without_what_is_needed_is_refused(swept, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(swept, folder)
    with np.load(folder / "test.npz") as stored:
        arrays = dict(stored)
    arrays["teacher_logits"][0, 3] -= NO_MASS
    np.savez(folder / "test.npz", **arrays)
    assert "a top-k teacher with --topk-rest renormalised" in refused(tmp_path, folder)
    (folder / "test.npz").unlink()
    assert "test.npz is missing" in refused(tmp_path, folder)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"temperature_sweep"', '"omit_digit"'))
    assert "is a run of omit_digit: name one of temperature_sweep" in refused(tmp_path, folder)
    (folder / "config.json").write_text(config)
    shutil.rmtree(folder / "blocks")
    assert "holds no student of objective kd" in refused(tmp_path, folder)


def test_an_objective_without_a_limit_alone(tmp_path):
    options = ["--objectives", "nkd", "--out", str(tmp_path)]
    code, said = commands.call(command.main, command.AtlasConfig, options)
    assert code == 0, said
    assert "nkd has no limit" in (tmp_path / "objectives" / "random" / "objectives.md").read_text()


def refused(root, *arguments):
    """The message for what is refused; nothing is written."""
    before = sorted(root.rglob("*"))
    arguments = [*map(str, arguments), "--out", str(root / "out")]
    code, said = commands.call(command.main, command.AtlasConfig, arguments, command.PROG)
    assert code == 2 and sorted(root.rglob("*")) == before, said
    assert said.count("error: ") == 1 and "Traceback" not in said and len(said.strip().splitlines()) == 1, said
    return said


def test_a_file_of_something_else_is_refused(tmp_path, monkeypatch):
    """What else is refused stands in test_pair_file.py: the reader is the same."""
    monkeypatch.chdir(tmp_path)
    file = write_logits(tmp_path / "bad.npz", student_logits=np.zeros((30, 5)))
    assert "student_logits of shape (30, 5) and teacher_logits of" in refused(tmp_path, "--logits", file)


def test_what_a_file_lacks_is_said(tmp_path):
    np.savez(tmp_path / "less.npz", student_logits=2 * np.eye(3), teacher_logits=2 * np.eye(3)[::-1])
    assert "less.npz holds no labels: some objectives need them" in refused(tmp_path, "--logits", tmp_path / "less.npz")
    assert "nothing.npz does not exist" in refused(tmp_path, "--logits", tmp_path / "nothing.npz")
    file = write_logits(tmp_path / "log.npz")
    with np.load(file) as arrays:
        v = arrays["teacher_logits"]
        logprobs = v - np.log(np.exp(v).sum(axis=1, keepdims=True))
        np.savez(file, student_logits=arrays["student_logits"], v=logprobs, labels=arrays["labels"])
    given = ("--logits", file, "--columns", "teacher_logprobs=v")
    assert "--objectives mse changes with a shift of the logits" in refused(tmp_path, *given, "--objectives", "mse")
    (pair,) = pairs.file_pair(file, ["teacher_logprobs=v"]).pairs
    np.testing.assert_array_equal(pair.teacher, logprobs)
    assert report._shift_invariant([objectives.parse("mse"), objectives.parse("kd")], False) == [objectives.parse("kd")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objectives", "dkdd"], "--objectives dkdd is unknown"),
        (["--objectives", "hard"], "--objectives hard is unknown"),
        (["--objectives", "kd", "kd"], "names one twice"),
        (["--objectives", "dkd", "dkd(beta=8)"], "names one twice"),
        (["nowhere"], "nowhere is no folder: name a run directory"),
        (["nowhere", "--logits", "nothing"], "give one of them, or neither"),
        (["--columns", "labels=y"], "--columns is about a file: give it with --logits FILE"),
    ],
)
def test_bad_options(arguments, message, tmp_path):
    assert message in refused(tmp_path, *arguments)
