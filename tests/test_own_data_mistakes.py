"""What is wrong with a user's file is said before anything is trained, with the rows; and nothing is written."""

import re
import zipfile

import ml_dtypes
import numpy as np
import pytest

import kdjax
from kdjax import array_files, datasets, mistakes
from kdjax.config import DataConfig
from kdjax.datasets import own, own_split
from kdjax.errors import BadInput, name_rows
from tests import commands
from tests.own_files import CLASSES, ROWS, columns, largest, write

GIVEN = columns()
FEATURES, LABELS, LOGPROBS = GIVEN["features"], GIVEN["labels"], GIVEN["teacher_logprobs"]
PROBABILITIES = np.exp(LOGPROBS)
SPLIT = np.array(["train", "holdout", "test"])[np.arange(ROWS) % 3]
OF_TRAINING = np.flatnonzero(SPLIT == "train")
FLOATS = np.random.default_rng(0).random((ROWS, 3, 3))


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def logits(array):
    return {"teacher_logprobs": None, "teacher_logits": array}


def images(array):
    return {"features": None, "images": array}


TOP = largest(2)
VALUES, INDICES = TOP["teacher_topk_logprobs"], TOP["teacher_topk_indices"]
REFUSED = {
    "true or false": (images(FLOATS > 0.5), "images are true or false: give numbers"),
    "far beyond float32": (images(changed(FLOATS, (4, 0, 0), 1e300)), r"images .* in row 4"),
    "a sentinel": (
        {"teacher_logprobs": None, **TOP, "teacher_topk_indices": changed(INDICES.astype(np.int64), (3, 1), 2**62)},
        "teacher_topk_indices of up to .* are no class numbers",
    ),
    "probabilities": (
        logits(PROBABILITIES),
        r"each row of teacher_logits sums to 1 .*\(rows 0, 1, 2 and 297 more\).*numpy.log",
    ),
    "probabilities for logprobs": (
        {"teacher_logprobs": PROBABILITIES},
        "these are probabilities; give the logits, or numpy.log of them",
    ),
    "logits for logprobs": (
        {"teacher_logprobs": changed(LOGPROBS, 7, LOGPROBS[7] + 1)},
        "the probabilities of teacher_logprobs do not sum to 1 in row 7: logits are to be called",
    ),
    "rows shuffled": (
        {"teacher_logprobs": LOGPROBS[np.random.default_rng(3).permutation(ROWS)]},
        r"no better than chance, and predicts each class as often as it is a label \(it differs .* in rows \d",
    ),
    "classes in another order": (
        {"teacher_logprobs": LOGPROBS[:, [2, 0, 3, 1]]},
        r"its classes are in another order \(its class 0 is label 2, 1 is label 0.*in rows 0, 1",
    ),
    "training rows shuffled": (
        {"teacher_logprobs": changed(LOGPROBS, OF_TRAINING, LOGPROBS[OF_TRAINING[::-1]]), "split": SPLIT},
        r"right on \d\d\.\d % of 100 training rows, no better than chance, .* in rows \d*[0369]",
    ),
    "probabilities, rounded, one row off": (
        logits(changed(np.round(PROBABILITIES, 2), 5, 0.1)),
        r"299 of 300 rows of teacher_logits sums to 1 and is never negative",
    ),
    "probabilities in per cent": (logits(100 * PROBABILITIES), "sums to 100 .* numpy.log of them over 100"),
    "one class to train on": (
        {"split": np.where(LABELS == 2, "train", "test")},
        "all training rows are of class 2: their labels tell no two classes apart",
    ),
    "images that are not finite": (images(changed(FLOATS, 4, np.nan)), "images are not finite in row 4: leave"),
    "labels from 1": ({"labels": LABELS + 1}, r"labels are counted from 1 \(1 to 4, and 4 in rows \d"),
    "labels from 1, without a teacher": (
        {"labels": LABELS + 1, "teacher_logprobs": None},
        r"labels begin at 1 \(rows \d.* and no row has class 0: they are counted from 1; subtract 1",
    ),
    "labels from 1, the last class absent": (
        {"labels": np.where(LABELS == CLASSES - 1, 1, LABELS + 1)},
        r"its class is one less than the label \(it differs .*rows 0, 1.*subtract 1 from the labels",
    ),
    "a label too large": ({"labels": changed(LABELS, (3,), 9)}, r"labels from 0 to 9 do not fit 4 logits \(row 3\)"),
    "a negative label": ({"labels": changed(LABELS, 5, -1)}, r"labels from -1 to 3 do not fit 4 logits \(row 5\)"),
    "labels of text": (
        {"labels": LABELS.astype(str)},
        r"labels are text: give numpy.unique\(labels, return_inverse=True\)",
    ),
    "labels of floats": ({"labels": LABELS / 1}, "labels of float64 are not allowed: give whole numbers, 0 to 3"),
    "one-hot labels": ({"labels": np.eye(4)[LABELS]}, r"give labels.argmax\(axis=1\)"),
    "one class": ({"labels": 0 * LABELS, "teacher_logprobs": None}, r"labels are all 0 \(rows 0, 1, 2 and 297 more\)"),
    "nan in features": ({"features": changed(FEATURES, (8, 2), np.nan)}, "features are not finite in row 8"),
    "too large for float32": (
        {"features": changed(FEATURES.astype(float), 9, 1e300)},
        "features are not finite in row 9",
    ),
    "inf in logits": (
        logits(changed(LOGPROBS, (4, 0), np.inf)),
        "teacher_logits are not finite in row 4: leave",
    ),
    "log of 0": (
        {"teacher_logprobs": changed(LOGPROBS, (6, 0), -np.inf)},
        r"in row 6: leave these examples out, or where -inf is the logarithm of probability 0, clip",
    ),
    "rows in both": (
        {"features": changed(FEATURES, slice(2, 32, 3), FEATURES[0:30:3]), "split": SPLIT},
        r"10 of 100 test rows are training rows too: rows 2, 5, 8, 11, 14 and 5 more; .*take each once, or keep",
    ),
    "images below 0": (
        images(changed(FLOATS, 3, -0.5)),
        r"images from -0.5 to .* lie outside 0 to 1 in row 3: give bytes",
    ),
    "images of 0 to 255 with fractions": (images(FLOATS * 255), "lie outside 0 to 1 in rows 0, 1, 2, 3, 4 and"),
    "images above 255": (images((FLOATS * 300).astype(int)), "lie outside 0 to 1"),
    "images with channels first": (
        images(np.zeros((ROWS, 3, 5, 5), np.uint8)),
        "have their channels first",
    ),
    "images of no pixels": (images(np.zeros((ROWS, 8, 0))), r"shape \(300, 8, 0\) are not allowed: .* one pixel"),
    "images as rows": (images(FLOATS.reshape(ROWS, -1)), r"images of shape \(300, 9\) are not allowed"),
    "features as images": ({"features": FLOATS}, r"features of shape \(300, 3, 3\) are not allowed"),
    "groups across parts": (
        {"split": SPLIT, "groups": np.where(np.arange(ROWS) < 2, 1000, np.arange(ROWS))},
        r"split divides 1 of 299 groups, such as that of rows 0 and 1: give the rows of a group to one part",
    ),
    "an unknown part": (
        {"split": changed(SPLIT.astype("U9"), 2, "val")},
        "split is val in row 2: write train, holdout, test",
    ),
    "no test part": ({"split": np.where(SPLIT == "test", "train", SPLIT)}, "split gives no row to test"),
    "no training part": ({"split": np.arange(ROWS) % 2 + 1}, "split gives no row to train"),
    "few groups": ({"groups": np.arange(ROWS) % 2}, "2 groups of rows are too few to train, choose and test on"),
    "unequal lengths": (
        {"labels": LABELS[:-1]},
        "unequal numbers of rows: 300 features, 299 labels, 300 teacher_logprobs",
    ),
    "no labels": (
        {"labels": None},
        "there is no column labels: it has features, teacher_logprobs; name columns images",
    ),
    "no inputs": ({"features": None}, "there is no column images or features"),
    "both inputs": ({"images": FLOATS}, "there are images and features: give one of them"),
    "two teachers": ({"teacher_logits": LOGPROBS}, "there are teacher_logits and teacher_logprobs: give one of them"),
    "one logit": (logits(LOGPROBS[:, :1]), r"teacher_logits of shape \(300, 1\) are not allowed"),
    "no row": ({name: array[:0] for name, array in GIVEN.items()}, "there is no row"),
    "no classes of the largest": (
        {**TOP, "teacher_topk_indices": None},
        "teacher_topk_logprobs needs teacher_topk_indices",
    ),
    "classes of nothing": (
        {"teacher_topk_indices": INDICES},
        "there is teacher_topk_indices and no teacher_topk_logits",
    ),
    "a class twice": (
        {**TOP, "teacher_topk_indices": changed(INDICES, 7, 1)},
        "repeat a class in row 7: give each class once",
    ),
    "a class below 0": (
        {**TOP, "teacher_topk_indices": changed(INDICES, (7, 0), -1)},
        "lie outside 0 to 3 in row 7: count classes from 0",
    ),
    "largest of another shape": ({**TOP, "teacher_topk_indices": INDICES[:, :1]}, "do not fit: give both"),
    "largest probabilities": (
        {**TOP, "teacher_topk_logprobs": np.exp(VALUES)},
        "sums to 1 at most and is never negative",
    ),
    "largest above 1": ({**TOP, "teacher_topk_logprobs": changed(VALUES, 6, 0.5)}, "sum to more than 1 in row 6"),
    "largest logits alone": (
        {**TOP, "teacher_topk_logprobs": None, "teacher_topk_logits": VALUES},
        r"does not say how much mass its 2 of 4 classes leave: add a column teacher_logsumexp .*--topk-rest",
    ),
    "a sum beside log-probabilities": (
        {**TOP, "teacher_logsumexp": np.zeros(ROWS)},
        "teacher_logsumexp is not for teacher_topk_logprobs, whose sum is 1: leave it out",
    ),
    "fractions of classes": ({**TOP, "teacher_topk_indices": INDICES + np.nan}, "float64, do not fit: give both"),
    "too small a sum": (
        {**TOP, "teacher_topk_logprobs": None, "teacher_topk_logits": VALUES, "teacher_logsumexp": np.full(ROWS, -1.0)},
        r"sum to more than 1 in rows 0, .*teacher_logsumexp is log\(sum\(exp\(all logits\)\)\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_refused_with_its_rows(tmp_path, name):
    changes, words = REFUSED[name]
    path = write(tmp_path, columns(**changes))
    with pytest.raises(BadInput, match=words) as error:
        datasets.load(DataConfig(dataset=str(path)))
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            logits(LOGPROBS / 8),
            r"sure of \d\d\.\d % at T = 1 \(rows 0 to 299\): were its logits divided .* T = 0\.1\d? would",
        ),
        (
            {"features": changed(FEATURES, 2, FEATURES[0]), "split": SPLIT},
            "1 of 100 test rows are training rows too: row 2: take",
        ),
        (
            logits(3 * np.eye(4)[np.arange(ROWS) % 2]),
            "no better than chance; are its rows in the order",
        ),
        (
            {"split": np.where(LABELS == 2, "test", SPLIT)},
            r"no training row is of class 2, as held-out or test rows are: rows \d",
        ),
        (largest(1, np.log(PROBABILITIES / 3 + 0.25 / 3 * 2)), "gives each more than the least of the 1 kept in rows"),
    ],
)
def test_what_may_be_meant_is_warned_of(tmp_path, caplog, changes, words):
    if "teacher_topk_logprobs" in changes:  # of another temperature: what is left is more than the largest
        changes = {**changes, "teacher_topk_logprobs": changes["teacher_topk_logprobs"] - 2}
    datasets.load(DataConfig(dataset=str(write(tmp_path, columns(**changes)))))
    assert re.search(words, caplog.text), caplog.text


def test_chance_is_that_of_all_orders_of_the_rows():
    random = np.random.default_rng(0)
    rare = np.r_[np.zeros(980, int), np.ones(20, int)]
    said = np.where(random.random(1000) < 0.5, rare, 0)  # finds half of the rare ones: better than any other order
    assert mistakes.of_teacher(np.float32(9 * np.eye(2)[said]), rare) == []
    (mistake,) = mistakes.of_teacher(np.float32(9 * np.eye(2)[random.permutation(rare)]), rare)
    assert "no better than chance" in mistake.text
    assert mistakes.of_teacher(np.float32(9 * np.eye(3)), np.arange(3)) == []  # all right: too few to doubt
    for labels in (random.integers(0, 3, 12), np.r_[np.zeros(10, int), 1, 2]):  # its variance, by counting orders
        orders = [np.sum(random.permutation(labels) == labels) for _ in range(20_000)]
        threshold = np.mean(orders) + 3 * np.std(orders)
        for agreed in range(len(labels)):
            predicted = np.r_[labels[:agreed], random.permutation(labels[agreed:])]
            own = np.sum(predicted == labels)
            if abs(own - threshold) > 0.3 and own < len(labels):
                assert mistakes._is_at_chance(predicted, labels, 3, 3) == (own <= threshold), (predicted, labels)


@pytest.mark.parametrize("classes", [12, 100, 200, 1000])
def test_many_classes_in_another_order_or_rows_of_one_part(classes):
    labels = np.arange(20 * classes) % classes
    said = 30 * np.eye(classes, dtype=np.float32)[labels]
    parts = {"training": np.arange(15 * classes), "test": np.arange(15 * classes, 20 * classes)}
    assert mistakes.of_teacher_in_parts(said, labels, parts) == []
    as_text = np.argsort([str(number) for number in range(classes)])  # as folders are listed: 0, 1, 10, 11, 2
    (mistake,) = mistakes.of_teacher_in_parts(said[:, as_text], labels, parts)
    assert mistake.certain and "its classes are in another order" in mistake.text, mistake.text
    training = np.random.default_rng(0).permutation(parts["training"])
    shuffled = np.concatenate([said[training], said[parts["test"]]])
    (mistake,) = mistakes.of_teacher_in_parts(shuffled, labels, parts)
    assert mistake.certain and f"of {15 * classes:,} training rows, no better than chance" in mistake.text, mistake.text


def test_a_weak_teacher_is_not_told_that_its_classes_are_in_another_order():
    random = np.random.default_rng(1)
    for classes, share in ((12, 0.2), (100, 0.1), (300, 0.3)):
        labels = np.arange(5 * classes) % classes
        said = np.where(random.random(len(labels)) < share, labels, random.integers(0, classes, len(labels)))
        assert not any(one.certain for one in mistakes.of_teacher(np.float32(np.eye(classes)[said]), labels))


def test_a_class_that_is_predicted_too_often_is_not_another_order():
    random = np.random.default_rng(2)
    rare = (random.random(2000) < 0.1).astype(int)
    said = np.where(rare | (random.random(2000) < 0.75), 1, 0)  # finds every rare one, and is right on a third of all
    assert not any(one.certain for one in mistakes.of_teacher(np.float32(9 * np.eye(2)[said]), rare))


def test_calibration_is_judged_of_all_rows():
    labels, random = np.arange(1000) % 10, np.random.default_rng(3)
    right = np.where(random.random(1000) < 0.86, labels, (labels + 1) % 10)
    logits = np.float32(np.log(0.86 / 0.14 * 9) * np.eye(10)[right])  # sure of 86 %
    logits[:500] = np.log(0.86 / 0.14 * 9) * np.eye(10)[labels[:500]]  # training rows: learnt by heart
    parts = {"training": np.arange(500), "test": np.arange(500, 1000)}
    assert mistakes.of_teacher_in_parts(logits, labels, parts) == []


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    np.save(tmp_path / "mine.npy", LABELS)
    monkeypatch.setattr(array_files, "_npy", refuse)
    with pytest.raises(BadInput, match=r"mine.npy may not be read \(Permission denied\): give yourself the right"):
        array_files.read_npy(tmp_path / "mine.npy")


def test_labels_may_begin_at_1_where_the_teacher_names_class_0(tmp_path):
    given = largest(2)
    shifted = {**given, "teacher_topk_indices": given["teacher_topk_indices"] + 1, "labels": LABELS + 1}
    shifted["teacher_topk_indices"][5, 1] = 0
    assert datasets.load(DataConfig(dataset=str(write(tmp_path, columns(**shifted))))).num_classes == CLASSES + 1
    for wrong, words in (
        (LABELS - 1.0, "labels of float64 are not allowed: give whole numbers"),
        (np.eye(CLASSES)[LABELS], "give labels.argmax"),
        (LABELS - 1, "labels from -1 to 2 do not fit"),
    ):
        with pytest.raises(BadInput, match=words):
            datasets.load(DataConfig(dataset=str(write(tmp_path, columns(**{**given, "labels": wrong})))))
    counted = columns(**{**given, "labels": LABELS + 1})
    with pytest.raises(BadInput, match="its class is one less than the label"):
        datasets.load(DataConfig(dataset=str(write(tmp_path, counted))))


def test_a_teacher_that_is_as_sure_as_it_is_right_is_not_doubted():
    random, doubts = np.random.default_rng(0), []
    for spread in (1.0, 2.0, 5.0):
        given = random.normal(0, spread, (2000, 10)).astype(np.float32)
        drawn = (given + random.gumbel(size=given.shape)).argmax(axis=1)
        assert mistakes.of_teacher(given, drawn) == [] and mistakes.of_teacher(3 * given, drawn) == []
        doubts += mistakes.of_teacher(given / 6, drawn)
    assert doubts and not any(doubt.certain for doubt in doubts)
    for doubt in doubts:
        assert abs(float(re.search(r"T = ([\d.]+) would", doubt.text)[1]) * 6 - 1) < 0.2
    unbalanced = (random.random(2000) < 0.05).astype(int)
    majority = np.stack([np.full(2000, 2.0), random.normal(0, 0.5, 2000)], axis=1).astype(np.float32)
    assert not any(one.certain for one in mistakes.of_teacher(majority, unbalanced))


def spoilt(path, kind):
    """A file that is no good any more, in one way."""
    whole = path.read_bytes()
    if kind == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "flipped":
        at = len(whole) // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    elif kind == "something else":
        path.write_bytes(b"not at all what its name says")
    elif kind == "empty":
        path.write_bytes(b"")


FORMS = ("npz", "compressed.npz", "safetensors", "parquet")
DAMAGE = [(form, kind) for form in FORMS for kind in ("cut off", "something else", "empty")]
DAMAGE += [(form, "flipped") for form in FORMS[:2]]  # the others have no checksum that has to be there


@pytest.mark.parametrize(("form", "kind"), DAMAGE)
def test_a_damaged_file_is_refused(tmp_path, form, kind):
    path = write(tmp_path, columns(), form)
    spoilt(path, kind)
    with pytest.raises(BadInput, match=r"cannot be read, it is damaged|checksum|promises") as error:
        datasets.load(DataConfig(dataset=str(path)))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def header(shape):
    """An array file of so many 8-byte numbers that holds three."""
    words = repr({"descr": "<f8", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(words).to_bytes(2, "little") + words.encode() + bytes(24)


def test_a_header_that_promises_ten_gigabytes_is_not_believed(tmp_path):
    promised = header((1_250_000_000,))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "labels.npy").write_bytes(promised)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / f"{compression}.npz", "w", compression) as archive:
            archive.writestr("labels.npy", promised)
    for path in tmp_path.iterdir():
        with pytest.raises(BadInput, match=r"labels promises 10,000,000,\d+ bytes and \d+ are there"):
            _ = array_files.read_arrays(path)["labels"]
    huge = tmp_path / "huge.safetensors"
    huge.write_bytes((10 * 2**30).to_bytes(8, "little") + b"{}")
    with pytest.raises(BadInput, match="header too large"):
        array_files.read_arrays(huge)


class Alarm:
    """Whoever unpickles it is found out."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize("form", ["npz", "compressed.npz", "folder"])
def test_objects_are_never_unpickled(tmp_path, form):
    path = write(tmp_path, columns(labels=np.array([Alarm()] * ROWS, dtype=object)), form)
    with pytest.raises(BadInput, match="labels holds pickled objects, and no file is unpickled"):
        datasets.load(DataConfig(dataset=str(path)))


def test_cells_of_a_table_are_full_and_lists_of_one_length(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lists = [[1.0, 2.0]] * 4
    for column, words in (
        ([1, None, 2, None], "labels has empty cells, in rows 1 and 3: fill them"),
        ([lists[0], None, *lists[2:]], "labels has empty cells, in row 1"),
        ([*lists[:3], [1.0, None]], "labels has empty cells, in row 3"),
        ([*lists[:3], [1.0]], "labels has lists of unequal lengths: 2 in row 0, and not so in row 3"),
        ([[[1], [2]], [[1], [2]], [[1], [2]], [[1], [2, 3]]], "unequal lengths: 1 in row 0, and not so in row 3"),
        ([b"a"] * 4, "labels is a column of binary: give numbers, text, or lists"),
    ):
        parquet.write_table(arrow.table({"labels": column}), tmp_path / "mine.parquet")
        with pytest.raises(BadInput, match=words):
            _ = array_files.read_arrays(tmp_path / "mine.parquet")["labels"]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    for form, package in (("safetensors", "safetensors"), ("parquet", "pyarrow")):
        path = write(tmp_path, columns(), form)
        with monkeypatch.context() as without:
            without.setitem(__import__("sys").modules, package, None)
            without.setitem(__import__("sys").modules, f"{package}.parquet", None)
            with pytest.raises(
                BadInput, match=rf"needs the package {package}: pip install {package}, or kdjax\[files\]"
            ):
                array_files.read_arrays(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset": "none.npz"}, "none.npz does not exist: give a file, .npz, .safetensors, .parquet or a folder"),
        ({"dataset": "./empty"}, "empty holds no array"),
        ({"dataset": "./notes.txt"}, "notes.txt is of no kind that is read here: give .npz"),
        (
            {"dataset": "./logits.pt"},
            "logits.pt is of no kind that is read here: write the arrays in it with numpy.savez",
        ),
        ({"columns": ("labels=y",)}, "--columns labels=y: mine.npz holds no y, but features, labels, teacher_logprobs"),
        ({"columns": ("lables=labels",)}, r"--columns lables is unknown: .*did you mean labels"),
        ({"columns": ("labels=labels", "labels=features")}, "--columns names labels twice: give it once"),
        ({"columns": ("labels",)}, "--columns 'labels' is not understood: write OURS=THEIRS"),
        ({"holdout": 5}, "--holdout 5 is not for mine.npz: the hold-out of a file is its own"),
        ({"train_images": 1000}, "--train-images 1000 is not allowed: there are 21\\d training rows"),
        ({"topk_rest": "renormalised"}, "--topk-rest renormalised is for a teacher of the largest k"),
        ({"dataset": "mnist5k", "columns": ("labels=y",)}, "--columns is for a file of your own"),
        ({"dataset": "mnist5k", "topk_rest": "renormalised"}, "--topk-rest is for a file of your own"),
    ],
)
def test_options_that_do_not_fit_a_file_are_refused(tmp_path, monkeypatch, options, words):
    write(tmp_path, columns())
    (tmp_path / "empty").mkdir()
    for name in ("notes.txt", "logits.pt"):
        (tmp_path / name).write_text("?")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=words):
        datasets.load(DataConfig(**{"dataset": "mine.npz", **options}))


@pytest.mark.parametrize("module", ["experiments.temperature_sweep", "experiments.omit_digit", "kdjax.datasets"])
def test_a_command_says_it_in_one_line_and_writes_nothing(tmp_path, module):
    path = write(tmp_path, columns(**logits(PROBABILITIES)))
    out = [] if module == "kdjax.datasets" else ["--out", str(tmp_path / "runs")]
    code, said = commands.finish(commands.start(["--dataset", str(path), *out], module))
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and "Traceback" not in said
    assert ("for named datasets" if "omit" in module else "these are probabilities") in errors[0]
    assert list(tmp_path.iterdir()) == [path]


def test_of_the_first_training_rows_alone_one_class_is_refused(tmp_path):
    order = np.argsort(LABELS, kind="stable")
    given = {name: array[order] for name, array in columns().items()}
    path = write(tmp_path, {**given, "split": SPLIT})
    assert len(datasets.load(DataConfig(dataset=str(path))).train.images) == 100
    with pytest.raises(BadInput, match="all training rows are of class 0"):
        datasets.load(DataConfig(dataset=str(path), train_images=10))


def test_a_few_rows_that_a_teacher_gets_wrong_refuse_nothing(tmp_path, caplog):
    wrong = np.flatnonzero(LOGPROBS.argmax(axis=1) == LABELS - 1)
    split = changed(np.where(SPLIT == "holdout", "train", SPLIT), wrong[0], "holdout")
    datasets.load(DataConfig(dataset=str(write(tmp_path, columns(split=split)))))
    assert "add 1" not in caplog.text


def test_bfloat16_images_of_zeros_and_ones_are_floats(tmp_path):
    ones = (FLOATS > 0.5).astype(ml_dtypes.bfloat16)
    images_, _ = own._images("images", ones, own_split.stratified(LABELS.astype(np.int64), None))
    assert images_[0].dtype == np.float32 and images_[0].max() == 1


def test_distil_has_the_same_eyes(capsys):
    options = {"seeds": 1, "hidden": (4,), "epochs": 1, "batch_size": 50, "temperatures": 4}
    row, other = (np.flatnonzero(LABELS == 0)[index] for index in (4, 0))  # the first that is held out, and another
    kdjax.distil(changed(FEATURES, row, FEATURES[other]), LABELS, LOGPROBS, **options)
    assert f"1 of 59 test rows are training rows too: row {row};" in capsys.readouterr().err
    kdjax.distil(FEATURES, LABELS, LOGPROBS / 8, **options)
    assert "were its logits divided by a temperature already? T =" in capsys.readouterr().err
    kdjax.distil(FEATURES, LABELS, 1.5 * np.eye(4)[LABELS], **options)  # right on all rows: no T is the best
    assert "already, or its labels smoothed? Give logits that were not divided\n" in capsys.readouterr().err
    kdjax.distil(FEATURES, LABELS, LOGPROBS, test=(FEATURES[:100], LABELS[:100]), **options)
    assert "100 of 100 test rows are training rows too: rows 0, 1, 2, 3, 4 and 95 more" in capsys.readouterr().err
    rows = np.flatnonzero(LABELS == 0)
    kdjax.distil(FEATURES[rows], LABELS[rows], LOGPROBS[rows], test=(FEATURES, LABELS), **options)
    assert "all training rows are of class 0: their labels tell no two classes apart" in capsys.readouterr().err
    for labels, given, words in (
        (LABELS, LOGPROBS[np.random.default_rng(3).permutation(ROWS)], "its rows are in another order than the labels"),
        (LABELS, LOGPROBS[:, [2, 0, 3, 1]], "its classes are in another order"),
        (LABELS, PROBABILITIES, "these are probabilities"),
        (LABELS + 1, LOGPROBS, "labels are counted from 1"),
    ):
        with pytest.raises(BadInput, match=words):
            kdjax.distil(FEATURES, labels, given, **options)


def test_rows_are_named():
    assert name_rows(np.array([3])) == "row 3" and name_rows(np.array([3, 4])) == "rows 3 and 4"
    assert name_rows(np.arange(1200, 1300)) == "rows 1,200, 1,201, 1,202, 1,203, 1,204 and 95 more"


def weak(rows, classes, right, seed):
    """Labels, and logits of a teacher that is right on such a share of them, in their order."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=rows)
    wrong = (labels + random.integers(1, classes, size=rows)) % classes
    said = np.where(random.random(rows) < right, labels, wrong)
    return labels, np.float32(5 * np.eye(classes)[said])


@pytest.mark.parametrize(("rows", "classes", "right"), [(200, 2, 0.8), (1000, 2, 0.65), (200, 3, 0.73)])
def test_a_weak_teacher_of_few_classes_is_not_refused(rows, classes, right):
    for seed in range(30):
        labels, said = weak(rows, classes, right, seed)
        order = np.random.default_rng(seed).permutation(rows)
        parts = dict(
            zip(("training", "held-out", "test"), np.split(order, [rows * 7 // 10, rows * 8 // 10]), strict=True)
        )
        assert not any(one.certain for one in mistakes.of_teacher_in_parts(said, labels, parts)), (seed, parts)
        shuffled = said[np.random.default_rng(seed + 100).permutation(rows)]
        assert mistakes.of_teacher(shuffled, labels), seed


def test_two_classes_in_the_other_order_are_no_shift():
    labels = np.r_[np.zeros(65, int), np.ones(35, int)]
    (mistake,) = mistakes.of_teacher(np.float32(5 * np.eye(2)[1 - labels]), labels)
    assert mistake.certain and "its classes are in another order (its class 0 is label 1" in mistake.text


def test_training_rows_of_which_half_are_shuffled_are_warned_of():
    labels, said = weak(1000, 10, 0.92, 0)
    parts = {"training": np.arange(700), "held-out": np.arange(700, 800), "test": np.arange(800, 1000)}
    assert mistakes.of_teacher_in_parts(said, labels, parts) == []
    said[:350] = said[np.random.default_rng(1).permutation(350)]
    (mistake,) = mistakes.of_teacher_in_parts(said, labels, parts)
    assert re.search(r"right on 5\d\.\d % of the training rows and on 9\d\.\d % of the others", mistake.text)
    assert not mistake.certain


@pytest.mark.parametrize(("part", "end"), [("train", "students learnt"), ("test", "students are tested on")])
def test_hold_out_rows_that_stand_in_another_part_are_refused(tmp_path, part, end):
    held, others = np.flatnonzero(SPLIT == "holdout"), np.flatnonzero(part == SPLIT)
    path = write(tmp_path, columns(features=changed(FEATURES, held, FEATURES[others]), split=SPLIT))
    with pytest.raises(BadInput, match=f"100 of 100 held-out rows are .* rows too: rows .* made on what {end}: take"):
        datasets.load(DataConfig(dataset=str(path)))


def test_like_rows_of_few_values_are_no_copies(tmp_path, caplog):
    few = np.float32(np.random.default_rng(0).integers(2, size=(ROWS, 4)))
    datasets.load(DataConfig(dataset=str(write(tmp_path, columns(features=few, split=SPLIT)))))
    assert "100 of 100 test rows are training rows too" in caplog.text


def test_copies_of_images_or_of_measured_features_are_no_few_values():
    random = np.random.default_rng(0)
    for rows in (np.float32(random.normal(size=(100, 4))), random.integers(256, size=(100, 3, 3, 1), dtype=np.uint8)):
        seen = np.repeat(rows, 6, axis=0)
        (mistake,) = mistakes.of_parts(seen, rows, np.arange(100))
        assert mistake.certain and "100 of 100 test rows are training rows too" in mistake.text
