"""Raw files: the official files of a dataset, found in a user's folder and read as they are."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from kdjax.datasets.catalog import CATALOG, CIFAR_ARCHIVE, CIFAR_META, CIFAR_TEST, CIFAR_TRAIN, IDX_FILES, Spec
from kdjax.datasets.splits import Split
from kdjax.errors import BadInput, require

KIN = ("kmnist", "emnist", "qmnist")
"""Datasets that this package doesn't know, in files of MNIST's names: a folder so named isn't MNIST."""


class RawFile(NamedTuple):
    """A file's content as it is stored, perhaps gzipped, and where it is from, for messages."""

    where: str
    data: bytes


def read_raw_folder(spec: Spec, folder: Path) -> dict[str, RawFile]:
    """The dataset's files somewhere in `folder`, by their official names without `.gz`.

    Where a file is found more than once, a folder named after the dataset comes first, then the one nearest to
    `folder`, then the file that isn't gzipped. Links to folders aren't followed.

    Raises:
        BadInput: the folder is missing, empty or unreadable, or lacks one of the files.
    """
    check_raw_folder(folder)
    found: dict[str, Path] = {}
    unreadable: list[OSError] = []
    for path in _candidates(spec, folder, unreadable):
        found.setdefault(_official(path.name), path)
    if spec.layout == "cifar":
        wanted: tuple[str, ...] = (*CIFAR_TRAIN, CIFAR_TEST)
        if CIFAR_ARCHIVE in found and not all(name in found for name in wanted):
            wanted = (CIFAR_ARCHIVE,)
        optional: tuple[str, ...] = (CIFAR_META,) if wanted != (CIFAR_ARCHIVE,) else ()
    else:
        wanted, optional = IDX_FILES, ()
    missing = [name for name in wanted if name not in found]
    if missing:
        unread = f" ({unreadable[0].filename} cannot be read)" if unreadable else ""
        where = "in it or below" if _takes_unnamed(spec) else f"in a folder named {spec.name}"
        raise BadInput(
            f"{folder} does not hold {spec.title}: no {', '.join(missing)} (or .gz) {where}{unread}; put the official "
            "files there, or leave out --raw-dir and KDJAX_RAW_DIR"
        )
    return {name: RawFile(str(found[name]), _read(found[name])) for name in (*wanted, *optional) if name in found}


def check_raw_folder(folder: Path) -> None:
    """Raises `BadInput` unless `folder` is a readable folder with something in it."""
    what_to_do = "name a folder with the official data files, or leave out --raw-dir and KDJAX_RAW_DIR"
    require(folder.exists(), f"--raw-dir {folder} does not exist: {what_to_do}")
    require(folder.is_dir(), f"--raw-dir {folder} is not a folder: {what_to_do}")
    try:
        with os.scandir(folder) as entries:
            empty = next(entries, None) is None
    except PermissionError:
        raise BadInput(f"--raw-dir {folder} cannot be read (permission denied): {what_to_do}") from None
    require(not empty, f"--raw-dir {folder} is empty: {what_to_do}")


def digest(files: Mapping[str, RawFile]) -> str:
    """SHA-256 (hex) over the names and the stored bytes: tells whether data were prepared from these very files."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name} {hashlib.sha256(files[name].data).hexdigest()}\n".encode())
    return total.hexdigest()


def unzipped(file: RawFile) -> bytes:
    """The content, decompressed if it is gzipped.

    Raises:
        BadInput: the compressed data are damaged or cut off.
    """
    if not file.data.startswith(b"\x1f\x8b"):
        return file.data
    try:
        return gzip.decompress(file.data)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{file.where} is damaged or truncated ({error}): get it again") from None


def checked_split(
    spec: Spec,
    images: UInt8[np.ndarray, "n height width channels"],
    labels: UInt8[np.ndarray, " m"],
    images_where: str,
    labels_where: str,
) -> Split:
    """The split of these images and labels.

    Raises:
        BadInput: there are none, their numbers differ, the images have another shape than the dataset's, or a label
            is no class.
    """
    require(len(images) > 0, f"{images_where} holds no images: get it again")
    require(
        len(images) == len(labels),
        f"{images_where} holds {len(images):,} images, {labels_where} {len(labels):,} labels: get a pair that belongs "
        "together",
    )
    expected, found = ("×".join(map(str, shape)) for shape in (spec.shape, images.shape[1:]))
    require(
        expected == found, f"{images_where} holds images of {found}, those of {spec.title} are {expected}: get it again"
    )
    classes = len(spec.class_names)
    require(
        labels.max() < classes,
        f"{labels_where} holds the label {labels.max()} at image {labels.argmax():,}: labels of {spec.title} are 0 to "
        f"{classes - 1}; get it again",
    )
    return Split(np.ascontiguousarray(images), labels.astype(np.int32))


def _candidates(spec: Spec, folder: Path, unreadable: list[OSError]) -> Iterator[Path]:
    """Files in `folder` that may be the dataset's, the best first; errors met on the way go to `unreadable`."""

    def rank(path: Path) -> tuple[bool, int, str]:
        # In alphabetical order a file comes before its .gz.
        return _named_after(folder, path) != spec.name, len(path.parts), str(path)

    names = IDX_FILES if spec.layout == "idx" else (*CIFAR_TRAIN, CIFAR_TEST, CIFAR_META, CIFAR_ARCHIVE)
    paths = (Path(parent) / file for parent, _, files in os.walk(folder, onerror=unreadable.append) for file in files)
    for path in sorted((path for path in paths if _official(path.name) in names), key=rank):
        named = _named_after(folder, path)
        if named == spec.name or (named is None and _takes_unnamed(spec)):
            yield path


def _official(name: str) -> str:
    """The official name of a file: `train-images.idx3-ubyte.gz`, a common spelling, is `train-images-idx3-ubyte`."""
    if name == CIFAR_ARCHIVE:
        return name
    return name.removesuffix(".gz").replace(".idx", "-idx")


def _named_after(folder: Path, path: Path) -> str | None:
    """The dataset that the innermost telling folder above `path` is named after, were it above `folder`."""
    names = {name.replace("_", ""): name for name in (*CATALOG, *KIN)}
    parts = (*folder.resolve().parts, *path.relative_to(folder).parent.parts)
    plain = ("".join(filter(str.isalnum, part.lower())) for part in reversed(parts))
    return next((names[part] for part in plain if part in names), None)


def _takes_unnamed(spec: Spec) -> bool:
    return next(other.name for other in CATALOG.values() if other.layout == spec.layout) == spec.name


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except PermissionError:
        raise BadInput(f"{path} cannot be read (permission denied): give yourself the right to read it") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): get it again") from None
