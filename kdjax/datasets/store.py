"""TFDS builders that need no TensorFlow, and the folders of prepared data that they write and read.

Importing this module imports TFDS (0.3 s): import it late.

A record holds 1,000 images as raw bytes, so that a dataset is read in a fraction of a second; one record an image, as
PNG, takes 5 to 9 s for MNIST.
"""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from kdjax.datasets.catalog import Spec
from kdjax.datasets.layouts.cifar import parse_cifar
from kdjax.datasets.layouts.idx import parse_idx
from kdjax.datasets.raw import RawFile, digest
from kdjax.datasets.splits import Split
from kdjax.errors import BadInput
from kdjax.files import Damaged, check_manifest, whole_folder

RECORD = 1_000
SOURCE = "source.json"


class _ImageRecords(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
    """Writes and reads one dataset of a family. `files` are the raw files; without them it can only read."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, spec: Spec, data_dir: Path, files: Mapping[str, RawFile] | None = None) -> None:
        self.spec, self.files = spec, files or {}
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        raw = tfds.features.Encoding.BYTES  # the default, a list of 64-bit integers, is eight times as large and slow
        features = tfds.features.FeaturesDict(
            {
                "images": tfds.features.Tensor(shape=(None, *self.spec.shape), dtype=np.uint8, encoding=raw),
                "labels": tfds.features.Tensor(shape=(None,), dtype=np.int32, encoding=raw),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.spec.title}: {RECORD:,} images a record, in their official order.",
            features=features,
            disable_shuffling=True,
        )

    def _parse(self) -> dict[str, Split]:
        raise NotImplementedError

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {name: self._generate_examples(split) for name, split in self._parse().items()}

    def _generate_examples(self, split: Split) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for start in range(0, len(split.labels), RECORD):
            part = slice(start, start + RECORD)
            yield start, {"images": split.images[part], "labels": split.labels[part]}


# TFDS registers builders by class name: one called `Mnist` would shadow TFDS's own.
class IdxImages(_ImageRecords, skip_registration=True):  # type: ignore[call-arg]
    """The IDX family: MNIST, Fashion-MNIST and their kin."""

    def _parse(self) -> dict[str, Split]:
        return parse_idx(self.spec, self.files)


class CifarImages(_ImageRecords, skip_registration=True):  # type: ignore[call-arg]
    """The binary family of CIFAR-10."""

    def _parse(self) -> dict[str, Split]:
        return parse_cifar(self.spec, self.files)


FAMILIES: dict[str, type[_ImageRecords]] = {"idx": IdxImages, "cifar": CifarImages}


def prepare(spec: Spec, folder: Path, files: Mapping[str, RawFile], origin: str) -> None:
    """Writes `folder` (replacing it) from the raw `files`, as a whole or not at all.

    Args:
        origin: the folder or address that the files are from; it is kept, to be told.

    Raises:
        BadInput: a raw file is no good, or the folder can't be written.
    """
    try:
        with whole_folder(folder) as temporary:
            # TFDS prints its own progress, for a second, about a temporary folder: not for people.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                FAMILIES[spec.layout](spec, temporary, files).download_and_prepare()
            (temporary / SOURCE).write_text(json.dumps({"digest": digest(files), "origin": origin}))
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as a RuntimeError
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("; writing")[0]
        raise BadInput(
            f"{spec.title} cannot be prepared in {folder.parent} ({reason or error}): make room there, or choose "
            "another --data-dir"
        ) from None


def prepared_source(folder: Path) -> dict[str, str]:
    """What an intact prepared folder was made from: `digest` (see `raw.digest`) and `origin`.

    Raises:
        Damaged: its files aren't those that were written.
    """
    check_manifest(folder)
    try:
        return {str(key): str(value) for key, value in json.loads((folder / SOURCE).read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        raise Damaged(f"{folder / SOURCE} is missing or unreadable: remove {folder}") from None


def read_prepared(spec: Spec, folder: Path) -> dict[str, Split]:
    """The splits `train` and `test` of a folder that `prepared_source` found intact."""
    builder = FAMILIES[spec.layout](spec, folder)
    splits = {}
    for name in ("train", "test"):
        source = builder.as_data_source(name)
        # Record by record into place: half the memory, and half the time, of a list of records that is joined later.
        room = len(source) * RECORD
        images, labels = np.empty((room, *spec.shape), np.uint8), np.empty(room, np.int32)
        end = 0
        for number in range(len(source)):
            record = source[number]
            start, end = end, end + len(record["labels"])
            images[start:end], labels[start:end] = record["images"], record["labels"]
        splits[name] = Split(images[:end], labels[:end])
    return splits
