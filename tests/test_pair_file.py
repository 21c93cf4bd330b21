"""Files of a student's and its teacher's logits: what is read, and what is refused, with rows."""

import math
import os
import zipfile

import ml_dtypes
import numpy as np
import pytest
import scipy.special

from analysis import pair_file
from analysis.pair_file import read_pair
from kdjax import logit_columns
from kdjax.errors import BadInput
from kdjax.faults import Faults
from kdjax.logit_columns import TopK

RANDOM = np.random.default_rng(0)
Z, V = RANDOM.normal(0, 3, (2, 30, 6))
LOGPROBS = V - np.log(np.exp(V).sum(axis=1, keepdims=True))
ORDER = np.argsort(-V, axis=1)
LSE = np.log(np.exp(V).sum(axis=1))


def largest(k, logits=LOGPROBS):
    return {"indices": ORDER[:, :k], "values": np.take_along_axis(logits, ORDER[:, :k], axis=1)}


def top_k(k, logits=LOGPROBS, name="teacher_topk_logprobs"):
    found = largest(k, logits)
    return {"student_logits": Z, name: found["values"], "teacher_topk_indices": found["indices"]}


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def changed(array, value, *rows):
    array = np.array(array)
    array[list(rows), 0] = value
    return array


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(logit_columns, "ENTRIES", 24)  # 4 rows


def test_every_form_of_a_file_gives_the_same_logits(tmp_path):
    labels = V.argmax(axis=1)
    arrays = {"student_logits": Z.astype(np.float32), "teacher_logits": V.astype(np.float16), "labels": labels}
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / name, array)
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    np.savez(tmp_path / "named.npz", z=Z.astype(np.float32), teacher_logits=V.astype(np.float16), y=labels)
    named = read_pair(tmp_path / "named.npz", ["student_logits=z", "labels=y"])
    rows = np.array([7, 3, 29])
    for pair in (
        named,
        read_pair(folder),
        read_pair(tmp_path / "small.npz"),
        read_pair(write(tmp_path / "a.npz", **arrays)),
    ):
        np.testing.assert_array_equal(pair.student.block(slice(2, 9)), Z[2:9].astype(np.float32))
        np.testing.assert_array_equal(pair.teacher.block(rows), V[rows].astype(np.float16))
        np.testing.assert_array_equal(pair.labels, labels)
        assert (pair.rows, pair.classes, len(pair.blocks())) == (30, 6, 8)


def test_the_rest_of_the_mass(tmp_path):
    left = 1 - np.exp(largest(2)["values"]).sum(axis=1)
    forms = {
        "logprobs": (top_k(2), None, 0.0),
        "logits": ({**top_k(2, V, "teacher_topk_logits"), "teacher_logsumexp": LSE}, None, LSE),
        "renormalised": (top_k(2, V, "teacher_topk_logits"), "renormalised", None),
    }
    for name, (arrays, rest, shift) in forms.items():
        teacher = read_pair(write(tmp_path / f"{name}.npz", **arrays), rest=rest).teacher
        assert isinstance(teacher, TopK) and teacher.limited == (rest is None)
        block = teacher.block(slice(0, 30))
        if shift is None:
            assert np.isneginf(np.take_along_axis(block, ORDER[:, 2:], axis=1)).all()
            continue
        p = np.exp(block - np.reshape(shift, (-1, 1)))
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_allclose(np.take_along_axis(p, ORDER[:, 2:], axis=1), np.repeat(left[:, None] / 4, 4, axis=1))
        np.testing.assert_allclose(np.take_along_axis(p, ORDER[:, :2], axis=1), np.exp(largest(2)["values"]))


def test_mass_that_rounding_hides_is_not_negative(tmp_path):
    sure = np.full((30, 1), -1e-9, np.float32)  # all the mass on one class
    arrays = {"student_logits": Z, "teacher_topk_logprobs": sure, "teacher_topk_indices": ORDER[:, :1]}
    block = read_pair(write(tmp_path / "sure.npz", **arrays)).teacher.block(slice(0, 2))
    assert np.exp(block).min() == pytest.approx(2.0**-23 / 5)
    coarse = TopK("teacher_topk_logprobs", np.full((30, 1), -1e-9, ml_dtypes.bfloat16), ORDER[:, :1], None, 6, "spread")
    np.testing.assert_allclose(coarse.left(slice(0, 2)), 2.0**-23)  # a logarithm near 0 hides next to nothing
    logits, whole = np.full((30, 1), 30.0, ml_dtypes.bfloat16), np.full(30, 30.0, ml_dtypes.bfloat16)
    coarse = TopK("teacher_topk_logits", logits, ORDER[:, :1], whole, 6, "spread")
    np.testing.assert_allclose(coarse.left(slice(0, 2)), 2.0**-7)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ["teacher_topk_logprobs", "teacher_topk_logits"])
def test_of_a_sure_teacher_in_half_precision_the_rest_stays_below_what_is_kept(kind, name):
    """Its soft targets at T = 4 are those of the same file in float32, but for the rounding of what is kept."""
    random = np.random.default_rng(8)
    logits = random.normal(0, 1.5, (400, 10)) + 9 * np.eye(10)[np.arange(400) % 10]
    whole = np.log(np.exp(logits).sum(axis=1))
    order = np.argsort(-logits, axis=1)[:, :3]
    kept = np.take_along_axis(logits, order, axis=1) - (whole[:, None] if name.endswith("logprobs") else 0)
    soft = []
    for of in (np.float32, kind):
        lse = None if name.endswith("logprobs") else whole.astype(of)
        teacher = TopK(name, kept.astype(of), order, lse, 10, "spread")
        faults = Faults()
        teacher.check(slice(0, 400), faults)
        faults.report()
        assert (teacher.rest_logits(slice(0, 400)) <= teacher.kept(slice(0, 400)).min(axis=1)).all()
        assert not teacher.doubtful(slice(0, 400)).any()
        soft.append(scipy.special.softmax(teacher.block(slice(0, 400)) / 4, axis=1))
    apart = 0.5 * np.abs(soft[0] - soft[1]).sum(axis=1).mean()
    assert apart < (0.005 if name.endswith("logprobs") else 0.08), apart


def test_mass_that_rounding_does_not_explain_is_divided_and_doubted():
    """Such as of rows that are padded to k: what they leave is the other classes', whatever the least of the k."""
    rows = slice(0, 30)
    for kind, given in ((np.float32, (0.5, 0.2, 0.1)), (ml_dtypes.bfloat16, (0.995,)), (np.float16, (0.9995,))):
        padded = np.tile([*map(math.log, given), -9999, -9999], (30, 1)).astype(kind)
        k, left = padded.shape[1], 1 - np.exp(padded[0].astype(float)).sum()
        teacher = TopK("teacher_topk_logprobs", padded, np.tile(np.arange(k), (30, 1)), None, 20, "spread")
        np.testing.assert_allclose(teacher.rest_logits(rows), math.log(left / (20 - k)), rtol=1e-5)
        assert teacher.doubtful(rows).all()
    faults = Faults()
    wrong = np.tile([3.0, 2.5, -1e9], (30, 1)).astype(np.float32)  # logits by the name of log-probabilities
    TopK("teacher_topk_logprobs", wrong, np.tile(np.arange(3), (30, 1)), None, 20, "spread").check(rows, faults)
    with pytest.raises(BadInput, match="sum to more than 1"):
        faults.report()


def test_bfloat16_logits_with_a_bfloat16_logsumexp_are_not_refused():
    random = np.random.default_rng(9)
    logits = random.normal(130, 4, (2000, 100)).astype(np.float32)
    order = np.argsort(-logits, axis=1)[:, :5]
    kept = np.take_along_axis(logits, order, axis=1).astype(ml_dtypes.bfloat16)
    whole = scipy.special.logsumexp(logits, axis=1).astype(ml_dtypes.bfloat16)
    faults = Faults()
    TopK("teacher_topk_logits", kept, order, whole, 100, "spread").check(slice(0, 2000), faults)
    faults.report()
    with pytest.raises(BadInput, match="sum to more than 1"):
        TopK("teacher_topk_logits", kept, order, (whole - 1).astype(whole.dtype), 100, "spread").check(
            slice(0, 2000), faults
        )
        faults.report()


def test_a_rest_that_is_larger_than_what_is_given_is_doubted(tmp_path, capsys):
    arrays = top_k(2)
    read_pair(write(tmp_path / "largest.npz", **arrays))
    assert "warning" not in capsys.readouterr().err
    arrays["teacher_topk_logprobs"] = arrays["teacher_topk_logprobs"] - 3
    read_pair(write(tmp_path / "less.npz", **arrays))
    assert "gives each more than the least of the 2 kept in rows 0, 1, 2" in capsys.readouterr().err


FULL = {"student_logits": Z, "teacher_logits": V}
BAD = {
    "shapes": (
        {**FULL, "teacher_logits": V[:29]},
        "unequal numbers of rows: 30 student_logits, 29 teacher_logits",
    ),
    "a vector": ({**FULL, "student_logits": Z[0]}, "student_logits of shape (6,) are not allowed: give [n, classes]"),
    "one class": (
        {"student_logits": Z[:, :1], "teacher_logits": V[:, :1]},
        "student_logits of shape (30, 1) are not allowed: give [n, classes]",
    ),
    "no example": ({"student_logits": Z[:0], "teacher_logits": V[:0]}, "there is no row: give one example or more"),
    "probabilities": (
        {**FULL, "teacher_logits": np.exp(LOGPROBS)},
        "each row of teacher_logits sums to 1 and is never negative (rows 0, 1, 2 and 27 more)",
    ),
    "top-k probabilities": (
        {**top_k(2), "teacher_topk_logprobs": np.exp(largest(2)["values"])},
        "each row of teacher_topk_logprobs sums to 1 at most and is never negative",
    ),
    "nan": ({**FULL, "teacher_logits": changed(V, np.nan, 3, 29)}, "teacher_logits are not finite in rows 3 and 29"),
    "infinite": (
        {**FULL, "student_logits": changed(Z, -np.inf, *range(2, 11))},
        "in rows 2, 3, 4, 5, 6 and 4 more: leave these examples out, or where -inf is the logarithm",
    ),
    "text": (
        {**FULL, "teacher_logits": np.full((30, 6), "warm")},
        "teacher_logits: an array of <U4 is no array of numbers",
    ),
    "labels outside": (
        {**FULL, "labels": np.where(np.arange(30) == 8, 6, 0)},
        "labels from 0 to 6 do not fit 6 logits (row 8)",
    ),
    "labels from 1": (
        {**FULL, "labels": np.arange(30) % 6 + 1},
        "labels are counted from 1 (1 to 6, and 6 in rows 5, 11, 17, 23 and 29): subtract 1",
    ),
    "labels of fractions": ({**FULL, "labels": np.full(30, 1.5)}, "labels of float64 are not allowed"),
    "the same": ({**FULL, "teacher_logits": Z + 3}, "student and teacher have the same logits"),
    "two teachers": (
        {**FULL, "teacher_logprobs": LOGPROBS},
        "there are teacher_logits and teacher_logprobs: give one of them",
    ),
    "no student": (
        {"teacher_logits": V, "z": Z},
        "there is no column student_logits or student_logprobs: it has teacher_logits, z",
    ),
    "no teacher": ({"student_logits": Z}, "there is no column teacher_logits, teacher_logprobs or"),
    "no logprobs": (
        {"student_logits": Z, "teacher_logprobs": LOGPROBS + np.where(np.arange(30) > 21, 0.1, 0)[:, None]},
        "the probabilities of teacher_logprobs do not sum to 1 in rows 22, 23, 24, 25, 26 and 3 more",
    ),
    "no indices": (
        {"student_logits": Z, "teacher_topk_logprobs": V},
        "teacher_topk_logprobs needs teacher_topk_indices",
    ),
    "indices alone": (
        {**FULL, "teacher_topk_indices": ORDER},
        "there is teacher_topk_indices and no teacher_topk_logits",
    ),
    "index too large": ({**top_k(2), "teacher_topk_indices": changed(ORDER[:, :2], 6, 5)}, "outside 0 to 5 in row 5"),
    "index repeated": ({**top_k(2), "teacher_topk_indices": ORDER[:, [0, 0]]}, "repeat a class in rows 0, 1, 2"),
    "too many": ({**top_k(6), "student_logits": Z[:, :5]}, "give [n, k], k up to the 5 classes"),
    "rest unknown": (
        top_k(2, V, "teacher_topk_logits"),
        "add a column teacher_logsumexp (log of the sum of exp of all logits), or give --topk-rest renormalised",
    ),
    "too much mass": (
        {**top_k(2), "teacher_topk_logprobs": np.full((30, 2), -0.1)},
        "sum to more than 1 in rows 0, 1, 2",
    ),
    "logsumexp beside log-probabilities": (
        {**top_k(2), "teacher_logsumexp": 0 * LSE},
        "teacher_logsumexp is not for teacher_topk_logprobs, whose sum is 1: leave it out",
    ),
    "small logsumexp": (
        {**top_k(2, V, "teacher_topk_logits"), "teacher_logsumexp": np.where(np.arange(30) == 9, -9, LSE)},
        "sum to more than 1 in row 9: teacher_logsumexp is log(sum(exp(all logits)))",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_refused_with_its_rows(case, tmp_path):
    arrays, message = BAD[case]
    file = write(tmp_path / "bad.npz", **arrays)
    with pytest.raises(BadInput) as error:
        read_pair(file)
    said = str(error.value)
    assert message in said and str(file) in said and "\n" not in said


@pytest.mark.parametrize(
    ("columns", "rest", "message"),
    [
        (["z"], None, "--columns 'z' is not understood: write OURS=THEIRS"),
        (["student=z"], None, "--columns student is unknown"),
        (["labels=student_logits", "labels=b"], None, "names labels twice"),
        (["labels=y"], None, "holds no y, but student_logits, teacher_logits"),
        ([], "renormalised", "--topk-rest renormalised is about a teacher's k largest logits"),
    ],
)
def test_options_that_do_not_fit_the_file(columns, rest, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        read_pair(write(tmp_path / "full.npz", **FULL), columns, rest)


class Trap:
    """An object that makes a folder where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_damaged_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = write(tmp_path / "cut.npz", **FULL).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    write(tmp_path / "trap.npz", **{**FULL, "labels": np.array([Trap()] * 30)})
    (tmp_path / "text.npz").write_text("no arrays")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    for name in ("cut.npz", "trap.npz", "text.npz", "empty.npz", "nothing.npz", "x" * 300, "\n"):
        with pytest.raises(BadInput):
            read_pair(tmp_path / name)
    assert not (tmp_path / "unpickled").exists()


def test_rows_or_classes_in_another_order_are_warned_of(tmp_path, capsys):
    random = np.random.default_rng(1)
    labels = random.integers(6, size=300)
    v = 6 * np.eye(6)[labels] + random.normal(0, 1, (300, 6))
    z = v + random.normal(0, 1, (300, 6))
    fine = {"student_logits": z, "teacher_logits": v, "labels": labels}
    mixed = random.permutation(300)
    question = "are the rows and the classes of both in one order?"
    for name, changes, words in [
        ("fine", {}, ""),
        ("rows", {"student_logits": z[mixed]}, question),
        ("classes", {"student_logits": z[:, [1, 2, 3, 4, 5, 0]]}, question),
        ("labels", {"labels": labels[mixed]}, "its rows are in another order than the labels"),
    ]:
        read_pair(write(tmp_path / f"{name}.npz", **{**fine, **changes}))
        told = capsys.readouterr().err
        assert words in told and ("warning" in told) == bool(words), (name, told)


@pytest.mark.parametrize("offset", [0, 30])
@pytest.mark.parametrize(("kind", "share"), [(np.float16, 0.005), (ml_dtypes.bfloat16, 0.04)])
def test_two_networks_that_nearly_agree_are_not_the_same_in_half_precision(kind, share, offset):
    random = np.random.default_rng(10)
    v = offset + random.normal(0, 3, (200, 6))
    z = (v + share * random.normal(0, 3, v.shape)).astype(kind)
    precision = logit_columns.precision(z)
    assert not pair_file._are_same(z.astype(float), v.astype(kind).astype(float), precision, precision)
    assert pair_file._are_same(z.astype(float) + 2, (z.astype(float) + 1).astype(kind).astype(float), 0.0, precision)


@pytest.mark.parametrize("same", [V + 3, np.float32(V) + np.float32(3), np.float32(LOGPROBS), V.astype(np.float16)])
def test_the_same_logits_are_the_same_after_rounding(tmp_path, same):
    path = write(tmp_path / "same.npz", student_logits=same, teacher_logits=V)
    with pytest.raises(BadInput, match="student and teacher have the same logits"):
        read_pair(path)
