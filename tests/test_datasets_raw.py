"""Raw files: what is found, what is read, and that bad files are refused by name."""

import gzip
import io
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdjax.datasets import CATALOG, DataConfig, Spec, load
from kdjax.datasets.layouts import LAYOUTS, Layout, RawFile, checked_split, layout, layout_of, register
from kdjax.datasets.layouts.idx import read_idx
from kdjax.datasets.raw import LOOKALIKES, read_raw_folder
from kdjax.errors import BadInput
from tests.raw_files import (
    CIFAR_ARCHIVE,
    CIFAR_TEST,
    CIFAR_TRAIN,
    IDX_FILES,
    assert_same,
    idx_bytes,
    write_random_cifar,
    write_random_idx,
)

MNIST, FASHION, CIFAR = CATALOG["mnist"], CATALOG["fashion_mnist"], CATALOG["cifar10"]


def read(spec, folder):
    return layout_of(spec).splits(spec, read_raw_folder(spec, folder))


def refused(folder, spec=MNIST):
    with pytest.raises(BadInput) as caught:
        read(spec, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("below", ["", "a/b"])
def test_idx_files_are_found_and_read(tmp_path, zipped, below):
    expected = write_random_idx(tmp_path / below, zipped=zipped)
    assert_same(read(MNIST, tmp_path), expected)


def test_of_several_copies_the_named_then_the_nearest_then_the_plain_one_is_read(tmp_path):
    better_and_better = (("a/b", True), ("z", True), ("z", False), ("x/y/mnist", True))
    for seed, (below, zipped) in enumerate(better_and_better):
        expected = write_random_idx(tmp_path / below, seed=seed, zipped=zipped)
        assert_same(read(MNIST, tmp_path), expected)


def test_files_are_taken_from_one_folder_that_has_them_all(tmp_path):
    expected = write_random_idx(tmp_path / "b_clean")
    write_random_idx(tmp_path / "a_noisy", seed=1)
    for path in (tmp_path / "a_noisy").glob("*images*"):
        path.unlink()
    assert_same(read(MNIST, tmp_path), expected)


def test_a_folder_above_that_is_named_after_a_dataset_with_other_files_does_not_count(tmp_path):
    digits = write_random_idx(tmp_path / "cifar10" / "data")
    assert_same(read(MNIST, tmp_path / "cifar10" / "data"), digits)
    images = write_random_cifar(tmp_path / "mnist" / "data")
    assert_same(read(CIFAR, tmp_path / "mnist" / "data"), images)


def test_the_spelling_with_a_dot_is_found(tmp_path):
    expected = write_random_idx(tmp_path, zipped=False)
    for name in IDX_FILES:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    assert_same(read(MNIST, tmp_path), expected)


@pytest.mark.parametrize(
    "names", [("mnist", "fashion_mnist"), ("MNIST/raw", "FashionMNIST/raw"), ("z", "fashion-mnist")]
)
def test_datasets_with_the_same_file_names_are_told_apart_by_folder(tmp_path, names):
    digits, clothes = (write_random_idx(tmp_path / name, seed=seed) for seed, name in enumerate(names))
    assert_same(read(MNIST, tmp_path), digits)
    assert_same(read(FASHION, tmp_path), clothes)


@pytest.mark.parametrize("name", ["FashionMNIST", *LOOKALIKES])
def test_other_datasets_are_not_taken_for_mnist(tmp_path, name):
    write_random_idx(tmp_path / name / "raw")
    for folder in (tmp_path, tmp_path / name / "raw"):
        assert "does not hold MNIST" in refused(folder)


def test_fashion_mnist_wants_a_folder_of_its_name(tmp_path):
    write_random_idx(tmp_path)
    assert "in a folder named fashion_mnist" in refused(tmp_path, FASHION)


@pytest.mark.parametrize("zipped", [True, False])
def test_cifar_batches_are_read_channel_last(tmp_path, zipped):
    expected = write_random_cifar(tmp_path / "cifar-10-batches-bin")
    if zipped:
        for path in (tmp_path / "cifar-10-batches-bin").iterdir():
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    assert_same(read(CIFAR, tmp_path), expected)


def cifar_archive(folder, prefix="cifar-10-batches-bin/"):
    with tarfile.open(folder / CIFAR_ARCHIVE, "w:gz") as tar:
        for path in sorted((folder / "files").iterdir()):
            tar.add(path, prefix + path.name)
        link = tarfile.TarInfo("link/data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    for path in (folder / "files").iterdir():
        path.unlink()


@pytest.mark.parametrize("prefix", ["cifar-10-batches-bin/", "../../", "/"])
def test_an_archive_is_read_and_its_paths_are_not_followed(tmp_path, prefix):
    raw = tmp_path / "deep" / "raw"
    expected = write_random_cifar(raw / "files")
    cifar_archive(raw, prefix)
    before = sorted(tmp_path.rglob("*"))
    assert_same(read(CIFAR, raw), expected)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_truncated_or_wrong_archive_is_refused_by_name(tmp_path):
    write_random_cifar(tmp_path / "files")
    (tmp_path / "files" / CIFAR_TEST).unlink()
    cifar_archive(tmp_path)
    assert CIFAR_TEST in refused(tmp_path, CIFAR)
    archive = tmp_path / CIFAR_ARCHIVE
    archive.write_bytes(archive.read_bytes()[:-5000])
    assert str(archive) in refused(tmp_path, CIFAR)
    archive.write_bytes(b"<html>404</html>")
    assert str(archive) in refused(tmp_path, CIFAR)


def test_cifar_batches_must_be_whole_and_have_ten_classes(tmp_path):
    write_random_cifar(tmp_path)
    batch = tmp_path / "data_batch_3.bin"
    whole = batch.read_bytes()
    batch.write_bytes(whole[:-1])
    assert str(batch) in refused(tmp_path, CIFAR)
    batch.write_bytes(b"")
    assert str(batch) in refused(tmp_path, CIFAR)
    batch.write_bytes(whole[:3073] + b"\x0a" + whole[3074:])
    message = refused(tmp_path, CIFAR)
    assert str(batch) in message and "label 10 at image 1" in message
    batch.unlink()
    assert "data_batch_3.bin" in refused(tmp_path, CIFAR)


def test_cifar_class_names_must_be_the_known_ones(tmp_path):
    write_random_cifar(tmp_path)
    meta = tmp_path / "batches.meta.txt"
    meta.write_text("\n".join(CIFAR.class_names) + "\n\n")
    read(CIFAR, tmp_path)
    meta.write_text("\n".join(reversed(CIFAR.class_names)))
    assert str(meta) in refused(tmp_path, CIFAR)


def test_bad_idx_files_are_refused_by_name(tmp_path):
    images, labels = (tmp_path / name for name in IDX_FILES[:2])

    def refusal_of(path, content):
        write_random_idx(tmp_path, zipped=False)
        path.write_bytes(content)
        message = refused(tmp_path)
        assert str(path) in message
        return message

    good = np.zeros((70, 28, 28), np.uint8)
    assert "truncated" in refusal_of(images, idx_bytes(good)[:-1])
    assert "too long" in refusal_of(images, idx_bytes(good) + b"\0")
    assert "starts with" in refusal_of(images, b"\0\0\x0d\x03" + idx_bytes(good)[4:])
    assert "starts with" in refusal_of(images, idx_bytes(good[:, 0, 0]))
    assert "starts with nothing" in refusal_of(images, b"")
    assert "69 images" in refusal_of(images, idx_bytes(good[1:]))
    assert "27×28" in refusal_of(images, idx_bytes(good[:, 1:]))
    assert "no images" in refusal_of(images, idx_bytes(good[:0]))
    assert "label 10 at image 69" in refusal_of(labels, idx_bytes(np.array([9] * 69 + [10], np.uint8)))
    assert "71 labels" in refusal_of(labels, idx_bytes(np.zeros(71, np.uint8)))
    assert "damaged or truncated" in refusal_of(images, gzip.compress(idx_bytes(good))[:-9])
    assert "damaged or truncated" in refusal_of(images, b"\x1f\x8b" + b"?" * 50)


def test_a_folder_that_lacks_a_file_is_told_which(tmp_path):
    write_random_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    message = refused(tmp_path)
    assert str(tmp_path) in message and "no t10k-labels-idx1-ubyte (or .gz)" in message


def test_missing_empty_and_unreadable_folders_are_refused(tmp_path, monkeypatch):
    assert "does not exist" in refused(tmp_path / "none")
    assert "is empty" in refused(tmp_path)
    write_random_idx(tmp_path, zipped=False)
    assert "not a folder" in refused(tmp_path / IDX_FILES[0])

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    # The superuser may read everything, so the refusal of the operating system is played.
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", denied)
        assert re.search(f"{IDX_FILES[0]} cannot be read \\(permission denied\\)", refused(tmp_path))
    monkeypatch.setattr(os, "scandir", denied)
    assert f"{tmp_path} cannot be read (permission denied)" in refused(tmp_path)


def test_what_has_no_end_or_says_so_is_refused_by_name(tmp_path, monkeypatch):
    write_random_idx(tmp_path, zipped=False)
    images = tmp_path / IDX_FILES[0]
    images.unlink()
    os.mkfifo(images)  # which would be waited for
    assert refused(tmp_path).startswith(f"{images} is no ordinary file")
    images.unlink()
    images.symlink_to("/dev/zero")
    assert refused(tmp_path).startswith(f"{images} is no ordinary file")
    images.unlink()
    images.write_bytes(bytes([0, 0, 8, 3]) + bytes(4) + b"\xff" * 8)
    assert f"{images} holds no images: its header says 0×4294967295×4294967295" in refused(tmp_path)
    with open(images, "wb") as sparse:
        sparse.truncate(2**40)
    assert f"{images} has 1,099,511,627,776 bytes" in refused(tmp_path)
    monkeypatch.setattr(layout, "LARGEST", 50_000)  # bytes
    images.write_bytes(gzip.compress(bytes(2**20)))
    assert f"{images} holds more than 50,000 bytes, decompressed" in refused(tmp_path)


IMAGES = idx_bytes(np.arange(2 * 28 * 28, dtype=np.uint64).astype(np.uint8).reshape(2, 28, 28))


@given(st.integers(0, len(IMAGES) - 1))
def test_no_truncated_idx_file_is_read(length):
    with pytest.raises(BadInput, match="some/file"):
        read_idx(RawFile("some/file", IMAGES[:length]), dimensions=3)


@given(st.integers(0, 15), st.integers(1, 255))
def test_no_idx_file_with_a_flipped_header_byte_is_read(position, flip):
    damaged = bytearray(IMAGES)
    damaged[position] ^= flip
    with pytest.raises(BadInput, match="some/file"):
        read_idx(RawFile("some/file", bytes(damaged)), dimensions=3)


def archive():
    """An archive of one random image a file."""
    buffer, random = io.BytesIO(), np.random.default_rng(0)
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in (*CIFAR_TRAIN, CIFAR_TEST):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 3073
            tar.addfile(member, io.BytesIO(bytes([3, *random.integers(0, 256, 3072)])))
    return buffer.getvalue()


ARCHIVE = archive()


def of_archive(content):
    return LAYOUTS["cifar"].splits(CIFAR, {CIFAR_ARCHIVE: RawFile("some/archive", bytes(content))})


@given(st.data())
def test_a_damaged_archive_is_refused_or_read_as_it_was(data):
    damaged = bytearray(ARCHIVE)
    position = data.draw(st.integers(10, len(damaged) - 1))  # the gzip header before holds a time stamp
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        found = of_archive(damaged)
    except BadInput as error:
        assert "some/archive" in str(error)
    else:
        for split, expected in of_archive(ARCHIVE).items():
            np.testing.assert_array_equal(found[split].images, expected.images)
            np.testing.assert_array_equal(found[split].labels, expected.labels)


def test_an_archive_whose_checksum_differs_is_refused():
    damaged = bytearray(ARCHIVE)
    damaged[-8] ^= 1  # the first byte of the checksum, behind all that tar reads
    with pytest.raises(BadInput, match="some/archive is damaged"):
        of_archive(damaged)


def test_a_layout_and_a_dataset_can_be_added_from_outside(tmp_path, monkeypatch):
    def parse(spec, files):
        tables = {name: np.frombuffer(files[f"{name}.raw"].data, np.uint8).reshape(-1, 5) for name in ("train", "test")}
        return {
            name: checked_split(spec, table[:, 1:].reshape(-1, 2, 2, 1), table[:, 0], name, name)
            for name, table in tables.items()
        }

    monkeypatch.setattr("kdjax.datasets.layouts.LAYOUTS", dict(LAYOUTS))
    monkeypatch.setitem(CATALOG, "tiny", Spec("tiny", "Tiny", "rows", (2, 2, 1), ("a", "b"), 3, 1))
    config = DataConfig("tiny", tmp_path / "raw", tmp_path / "data")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "train.raw").write_bytes(bytes([0, 1, 2, 3, 4, 1, 5, 6, 7, 8, 0, 9, 9, 9, 9]))
    (tmp_path / "raw" / "test.raw").write_bytes(bytes([1, 4, 3, 2, 1]))
    with pytest.raises(BadInput, match=r"the layout 'rows' of Tiny is unknown: there are idx, cifar"):
        load(config)
    register(Layout("rows", ("train.raw", "test.raw"), parse))
    for raw in (config.raw_dir, None):  # prepared, then read again
        dataset = load(DataConfig("tiny", raw, tmp_path / "data"))
        assert dataset.description == "Tiny (3 training images, 1 test images)"
        assert dataset.train.labels.tolist() == [0, 1, 0] and dataset.train.images[1].ravel().tolist() == [5, 6, 7, 8]
        assert dataset.test.labels.tolist() == [1] and dataset.test.images.ravel().tolist() == [4, 3, 2, 1]
