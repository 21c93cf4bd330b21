"""The official files of small datasets, written from the published formats and by no code of the library."""

import gzip
import struct
from pathlib import Path

import numpy as np

from kdjax import datasets
from kdjax.datasets import DataConfig, Split

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_TEST, CIFAR_ARCHIVE = "test_batch.bin", "cifar-10-binary.tar.gz"


def idx_bytes(array):
    """The content of an IDX file of bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx_files(folder: Path, splits: dict[str, Split], zipped: bool = True) -> None:
    """The four files of MNIST, with these images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in zip(("train", "test"), (IDX_FILES[:2], IDX_FILES[2:]), strict=True):
        split = splits[name]
        for file, array in ((images, split.images[..., 0]), (labels, split.labels.astype(np.uint8))):
            content = idx_bytes(array)
            (folder / f"{file}{'.gz' if zipped else ''}").write_bytes(gzip.compress(content) if zipped else content)


def write_random_idx(folder: Path, seed=0, train=70, test=30, zipped=True) -> dict[str, Split]:
    """A small MNIST of random images; returns the splits that must come back."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, count in (("train", train), ("test", test)):
        images = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
        splits[name] = Split(images, rng.integers(0, 10, count, dtype=np.uint8).astype(np.int32))
    write_idx_files(folder, splits, zipped)
    return splits


def write_digits(folder: Path) -> Path:
    """A small MNIST of bundled digits: 1,000 to train on, 300 to test."""
    digits = datasets.load(DataConfig(dataset="mnist5k", raw_dir=None))
    counts = {"train": 1000, "test": 300}
    splits = {name: Split(*(array[:count] for array in getattr(digits, name))) for name, count in counts.items()}
    write_idx_files(folder, splits, zipped=False)
    return folder


def write_random_cifar(folder: Path) -> dict[str, Split]:
    """The six binary files of CIFAR-10, with 20 random images in each training batch and 10 to test; returns the splits
    that must come back.

    A record is a label, then the image's 1,024 red bytes, row by row, then the green ones, then the blue ones.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for name, count in [*((name, 20) for name in CIFAR_TRAIN), (CIFAR_TEST, 10)]:
        records = rng.integers(0, 256, (count, 1 + 3072)).astype(np.uint8)
        records[:, 0] = np.arange(count) % 10
        (folder / name).write_bytes(records.tobytes())
        parts["test" if name == CIFAR_TEST else "train"].append(records)
    splits = {}
    for name, batches in parts.items():
        records = np.concatenate(batches)
        planes = [records[:, start : start + 1024].reshape(-1, 32, 32) for start in (1, 1025, 2049)]
        splits[name] = Split(np.stack(planes, axis=-1), records[:, 0].astype(np.int32))
    return splits


def assert_same(found: dict[str, Split], expected: dict[str, Split]) -> None:
    """Equal splits, of equal types."""
    assert found.keys() == expected.keys()
    for name in expected:
        for ours, theirs in zip(found[name], expected[name], strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
