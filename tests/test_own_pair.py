"""`python -m analysis.logit_matching --logits FILE`: curves against other formulas, what is written, and memory."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import mpmath
import numpy as np
import pandas as pd
import pytest

from analysis import analysis_folder, logit_matching
from analysis.matching import own_pair, own_pair_report, theory
from analysis.page import facts
from analysis.pair_file import read_pair
from kdjax import logit_columns, losses, metrics
from tests import commands

RANDOM = np.random.default_rng(1)


def pair_of(folder, rest=None, name="pair", **arrays):
    np.savez(folder / f"{name}.npz", **arrays)
    return read_pair(folder / f"{name}.npz", rest=rest)


def measured(folder, rest=None, **arrays):
    """The table, by temperature."""
    return own_pair.measure(pair_of(folder, rest, **arrays)).table.set_index("temperature")


def top_k(v, k):
    order = np.argsort(-v, axis=1)[:, :k]
    logprobs = v - np.log(np.exp(v).sum(axis=1, keepdims=True))
    return {"teacher_topk_logprobs": np.take_along_axis(logprobs, order, 1), "teacher_topk_indices": order}


def soft(row, temperature):
    weights = [mpmath.exp(mpmath.mpf(float(x)) / temperature) for x in row]
    return [weight / mpmath.fsum(weights) for weight in weights]


def by_hand(z, v, labels, temperature, digits=40):
    """Error, cosine, share of the teacher's top class, entropy and NLL of the teacher, in so many digits."""
    with mpmath.workdps(digits):
        at, n = mpmath.mpf(temperature), z.shape[1]
        gradients, formulas, top, entropy, nll = [], [], 0, 0, 0
        for i, (a, b) in enumerate(zip(z, v, strict=True)):
            q, p = soft(a, at), soft(b, at)
            u = [mpmath.mpf(float(x)) - mpmath.mpf(float(y)) for x, y in zip(a, b, strict=True)]
            g = [at * (x - y) for x, y in zip(q, p, strict=True)]
            gradients += g
            formulas += [(x - mpmath.fsum(u) / n) / n for x in u]
            top += g[int(np.argmax(b))] ** 2
            entropy -= mpmath.fsum(x * mpmath.log(x) for x in p) / len(z)
            nll -= mpmath.log(p[labels[i]]) / len(z)
        gg, ff = (mpmath.fsum(x**2 for x in xs) for xs in (gradients, formulas))
        gf = mpmath.fsum(x * y for x, y in zip(gradients, formulas, strict=True))
        apart = mpmath.fsum((x - y) ** 2 for x, y in zip(gradients, formulas, strict=True))
        return [float(x) for x in (mpmath.sqrt(apart / ff), gf / mpmath.sqrt(gg * ff), top / gg, entropy, nll)]


@pytest.mark.parametrize("distance", [None, 1e-5], ids=["independent", "close"])
def test_against_forty_digits(distance, tmp_path):
    z, v = theory.random_logits(5, 4.0, 6, distance=distance)
    labels = np.arange(6) % 5
    table = measured(tmp_path, student_logits=z, teacher_logits=v + 100, labels=labels)
    names = ["error", "cosine", "share_1", "teacher_entropy", "teacher_nll"]
    for temperature in (0.1, 1.0, 4.0, 1000.0, 1e5):
        exact = by_hand(z, v, labels, temperature)
        np.testing.assert_allclose(table.loc[temperature, names], exact, rtol=1e-8, err_msg=str(temperature))
    assert table.loc[math.inf, ["error", "cosine", "teacher_entropy"]].tolist() == pytest.approx([0, 1, math.log(5)])


def test_two_confident_networks_that_agree(tmp_path):
    labels = np.arange(60) % 5
    z, v = (14 * np.eye(5)[labels] + np.random.default_rng(seed).normal(0, 1, (60, 5)) for seed in (2, 3))
    table = measured(tmp_path, student_logits=z, teacher_logits=v)
    for temperature in (0.1, 1.0, 2.0):
        exact = by_hand(z, v, labels, temperature, digits=200)[:3]
        np.testing.assert_allclose(table.loc[temperature, ["error", "cosine", "share_1"]], exact, rtol=1e-8)
    far = measured(tmp_path, student_logits=6 * z, teacher_logits=6 * v)  # at T = 0.1 no square is above 0
    assert far.loc[0.1, ["cosine", "share_1"]].isna().all() and far.loc[1.0, "share_1"] == pytest.approx(0.5, abs=0.1)


def test_against_the_theory_and_the_metrics_in_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(logit_columns, "ENTRIES", 700)  # 5 rows, and at the end 2
    z, v = theory.random_logits(130, 3.0, 127)
    labels = np.where(RANDOM.random(127) < 0.7, v.argmax(axis=1), RANDOM.integers(0, 130, 127))
    table = measured(tmp_path, student_logits=z.astype(np.float32), teacher_logits=v.astype(np.float32), labels=labels)
    z, v = z.astype(np.float32).astype(float), v.astype(np.float32).astype(float)
    finite = table.iloc[:-1]
    errors, cosines = theory.errors_and_cosines(z, v, finite.index.to_numpy())
    np.testing.assert_allclose(finite["error"], errors["centred, first order"], rtol=1e-7)
    np.testing.assert_allclose(finite["error_not_centred"], errors["not centred, first order"], rtol=1e-9)
    np.testing.assert_allclose(finite["cosine"], cosines["centred, first order"], rtol=1e-12)
    shares = pd.DataFrame(theory.attention(z, v, finite.index.to_numpy()))
    for name in own_pair.groups(130):
        first, _, last = name.removesuffix(" on").partition("–")
        ranks = range(int(first), (int(last) if last else 130 if "on" in name else int(first)) + 1)
        wanted = shares[[f"share rank {rank}" for rank in ranks]].sum(axis=1)
        np.testing.assert_allclose(finite[f"share_{name}"], wanted, rtol=1e-9)
    for temperature in (0.1, 4.0, 20.0):
        row = table.loc[temperature]
        for name, logits in (("student", z), ("teacher", v)):
            assert row[f"{name}_nll"] == pytest.approx(metrics.nll(logits / temperature, labels))
            assert row[f"{name}_ece"] == pytest.approx(metrics.calibration_error(logits / temperature, labels))
            assert row[f"{name}_entropy"] == pytest.approx(metrics.entropy(logits, temperature))
    assert own_pair.groups(130) == ["1", "2–5", "6–10", "11–100", "101 on"] and own_pair.groups(3) == ["1", "2–3"]


def test_ties_go_to_the_first_class():
    v = np.round(RANDOM.normal(size=(20, 300)), 1)
    np.testing.assert_array_equal(own_pair._largest(v, 100), np.argsort(-v, axis=1, kind="stable")[:, :100])


def test_all_of_the_k_largest_are_the_full_logits(tmp_path):
    z, v = theory.random_logits(10, 5.0, 40)
    full = measured(tmp_path, student_logits=z, teacher_logits=v).drop(columns="error_not_centred")
    found = measured(tmp_path, student_logits=z, **top_k(v, 10))
    for rest in (None, "renormalised"):
        found = measured(tmp_path, rest, student_logits=z, **top_k(v, 10))
        assert (found.pop("not_given") == 0).all()
        pd.testing.assert_frame_equal(found, full, rtol=1e-9)
    beside = measured(tmp_path, student_logits=z, teacher_logits=v, **top_k(v, 10))
    assert (beside["topk_error"] < 1e-9).all() and beside["topk_cosine"].to_numpy() == pytest.approx(1)


def test_three_of_ten_logits_are_biased_and_more_so_as_t_grows(tmp_path):
    z, v = theory.random_logits(10, 5.0, 40)
    few = top_k(v, 3)
    beside = measured(tmp_path, student_logits=z, teacher_logits=v, **few)
    alone = pair_of(tmp_path, student_logits=z, **few)
    filled = alone.teacher.block(slice(0, 40))
    for temperature in (1.0, 4.0, math.inf):
        g, g_k = (
            np.asarray(losses.soft_target_gradient(jnp.float32(z), jnp.float32(x), temperature)) for x in (v, filled)
        )
        row = beside.loc[temperature]
        assert row["topk_error"] == pytest.approx(np.linalg.norm(g_k - g) / np.linalg.norm(g), rel=1e-4)
        assert row["topk_cosine"] == pytest.approx(np.sum(g * g_k) / np.linalg.norm(g) / np.linalg.norm(g_k), rel=1e-4)
        p = np.exp((v - v.max(axis=1, keepdims=True)) / temperature)
        rest = np.sort(p, axis=1)[:, :7].sum(axis=1) / p.sum(axis=1)
        assert row["not_given"] == pytest.approx(rest.mean())
    assert (np.diff(beside["topk_error"]) > 0).all() and beside["topk_error"].iloc[-1] > 0.3
    own = own_pair.measure(alone)
    at_infinity = own.table.iloc[-1]
    assert at_infinity["not_given"] == pytest.approx(0.7)  # 7 of 10 classes
    assert own.facts.not_given == pytest.approx(beside.loc[1.0, "not_given"])


def test_classes_without_mass_have_no_logit_matching(tmp_path):
    z, v = theory.random_logits(10, 5.0, 40)
    labels = np.argsort(-v, axis=1)[:, 1]
    pair = pair_of(tmp_path, "renormalised", student_logits=z, **top_k(v, 3), labels=labels)
    found = own_pair.measure(pair)
    assert math.inf not in found.table["temperature"].tolist() and found.table["error"].isna().all()
    p = np.exp(top_k(v, 3)["teacher_topk_logprobs"] / 4)
    wanted = -np.log(p[:, 1] / p.sum(axis=1)).mean()
    row = found.table.set_index("temperature").loc[4.0]
    assert row["teacher_nll"] == pytest.approx(wanted) and row["not_given"] == 0
    said = own_pair_report.summary(pair, found)
    assert "**Logit matching at no T" in said and "no class has it here" in said and "nan" not in said
    never = pair_of(tmp_path, "renormalised", student_logits=z, **top_k(v, 3), labels=v.argmin(axis=1))
    assert "its NLL is infinite" in own_pair_report.verdict(never, own_pair.measure(never))


def test_the_verdict_and_the_least_nll(tmp_path):
    z, v = theory.random_logits(10, 5.0, 400)
    q = np.exp(v / 7)  # labels as likely as at T = 7
    labels = np.array([RANDOM.choice(10, p=row / row.sum()) for row in np.repeat(q, 10, axis=0)])
    z, v = (np.repeat(x, 10, axis=0) for x in (z, v))
    pair = pair_of(tmp_path, student_logits=z, teacher_logits=v, labels=labels)
    found = own_pair.measure(pair)
    fine = np.geomspace(5, 10, 400)
    best = fine[np.argmin([metrics.nll(v / temperature, labels) for temperature in fine])]
    assert own_pair_report.least_nll(found.table)[0] == pytest.approx(best, rel=0.02)
    grid = np.geomspace(10, 1000, 500)
    errors = theory.errors_and_cosines(z[::10], v[::10], grid)[0]["centred, first order"]
    for level, at in found.facts.below.items():
        assert at == pytest.approx(grid[errors < level][0], rel=0.02)
    said = own_pair_report.verdict(pair, found)
    assert said.startswith(f"Logit matching within 10 % from T = {found.facts.below[0.1]:.3g}, within 1 % from T = ")
    assert "; at T = 4 the gradient's error is " in said and "The teacher's NLL is least at T = " in said


def call(*arguments):
    return commands.call(logit_matching.main, logit_matching.MatchingConfig, list(map(str, arguments)))


def test_the_command_from_a_file_to_its_summary(tmp_path, capsys):
    z, v = theory.random_logits(12, 3.0, 50)
    logprobs = v - np.log(np.exp(v).sum(axis=1, keepdims=True))
    np.savez(tmp_path / "mine.npz", z=z, teacher_logprobs=logprobs, labels=v.argmax(axis=1))
    code, said = call("--logits", tmp_path / "mine.npz", "--columns", "student_logits=z", "--out", tmp_path)
    assert code == 0 and "logits: mine.npz; 50 examples, 12 classes; teacher_logprobs" in said, said
    folder = tmp_path / "logit_matching" / "mine-logits"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    drawn = {f"figures/logits.{kind}" for kind in ("png", "pdf", "svg")}
    assert names == {"summary.md", "logits.csv", "command.json", "report.html", *drawn}
    told = facts.of_run(folder, "logit_matching")
    assert told.lines["Measured on"].startswith("mine.npz; 50 examples, 12 classes") and "Data" not in told.lines
    assert json.loads((folder / "command.json").read_text())["summary.md"]["command"]["arguments"] == sys.argv[1:]
    assert told.lines["Measured on"] in (folder / "report.html").read_text()
    page = (folder / "summary.md").read_text()
    assert page.splitlines()[2].startswith("**Logit matching within 10 % from T = ") and "nan" not in page
    table = pd.read_csv(folder / "logits.csv")
    assert len(table) == len(own_pair.TEMPERATURES) and "error_not_centred" not in table
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == [f"| {t}" for t in (1, 2, 4, 10, 20, 100, 1000, "∞")]


def test_results_of_another_file_of_the_same_name_are_not_replaced(tmp_path, capsys):
    first, second = tmp_path / "a" / "pair.npz", tmp_path / "b" / "pair.npz"
    for seed, path in enumerate((first, second)):
        path.parent.mkdir()
        z, v = theory.random_logits(4, 3.0, 30, seed)
        np.savez(path, student_logits=z, teacher_logits=v)
    assert call("--logits", first, "--out", tmp_path)[0] == 0
    summary = tmp_path / "logit_matching" / "pair-logits" / "summary.md"
    before = summary.read_bytes()
    code, said = call("--logits", second, "--out", tmp_path)
    assert code == 2 and f"holds what was measured on {first}: give another --out" in said, said
    assert summary.read_bytes() == before
    analysis_folder.make(summary.parent, first)
    first.rename(tmp_path / "moved.npz")  # what they are of is gone, or has another name
    analysis_folder.make(summary.parent, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--logits", "a.npz", "--images", "9", "--seeds", "4"], "--images and --seeds is not allowed with --logits"),
        (["--logits", "a.npz", "--no-training"], "--no-training is not allowed with --logits"),
        (["--logits", "a.npz", "--curvature"], "--curvature is not allowed with --logits"),
        (["runs", "--logits", "a.npz"], "a run directory with --logits is not allowed"),
        (["--columns", "labels=y"], "--columns is about a file of logits: give it with --logits FILE"),
        (["--topk-rest", "spread"], "--topk-rest is about a file of logits"),
        (["--logits", "a.npz"], "a.npz does not exist"),
    ],
)
def test_what_makes_no_sense_together_is_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = call(*options)
    assert code == 2 and message in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


GROWTH = """
import re, sys
from pathlib import Path
import numpy as np
from analysis.matching import own_pair
from analysis.page import facts
from analysis.pair_file import read_pair
own_pair.TEMPERATURES = np.array([1.0, np.inf])

def peak():  # in MB; `ru_maxrss` begins with that of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

own_pair.measure(read_pair(Path(sys.argv[1])))
before = peak()
own_pair.measure(read_pair(Path(sys.argv[2])))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much memory was in use at most")
def test_memory_does_not_grow_with_the_rows(tmp_path):
    for name, rows in (("few.npz", 1100), ("many.npz", 3600)):  # 35 and 115 MB
        logits = RANDOM.normal(size=(64, 4000)).astype(np.float32)
        logits = np.resize(logits, (rows, 4000))
        np.savez(tmp_path / name, student_logits=logits, teacher_logits=logits[:, ::-1])
    command = [sys.executable, "-c", GROWTH, str(tmp_path / "few.npz"), str(tmp_path / "many.npz")]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=commands.ROOT, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert float(finished.stdout) < 30  # MB
