"""Folders of prepared data, written and read by a TFDS builder that needs no TensorFlow.

Import this module late: it imports TFDS. A record holds 1,000 images as raw bytes, which are read faster than singly.
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
from kdjax.datasets.layouts import RawFile, layout_of
from kdjax.datasets.raw import digest
from kdjax.datasets.splits import Split
from kdjax.errors import BadInput, require
from kdjax.files import MANIFEST, Damaged, check_manifest, whole_folder

RECORD = 1_000
SOURCE = "source.json"


class _ImageRecords(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
    """Writes and reads one dataset. `files` are its raw files; without them it can only read."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, spec: Spec, data_dir: Path, files: Mapping[str, RawFile] | None = None) -> None:
        self.spec, self.files = spec, files or {}
        self.name = f"{spec.layout}_images"  # of a subfolder and of its files
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        raw = tfds.features.Encoding.BYTES  # the default, a list of 64-bit integers, is eight times as large and slow
        images = tfds.features.Tensor(shape=(None, *self.spec.shape), dtype=np.uint8, encoding=raw)
        labels = tfds.features.Tensor(shape=(None,), dtype=np.int32, encoding=raw)
        features = tfds.features.FeaturesDict({"images": images, "labels": labels})
        description = f"{self.spec.title}: {RECORD:,} images a record, in the official order."
        return tfds.core.DatasetInfo(builder=self, description=description, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        splits = layout_of(self.spec).splits(self.spec, self.files)
        return {name: self._generate_examples(split) for name, split in splits.items()}

    def _generate_examples(self, split: Split) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for start in range(0, len(split.labels), RECORD):
            part = slice(start, start + RECORD)
            yield start, {"images": split.images[part], "labels": split.labels[part]}


def require_ours(spec: Spec, folder: Path) -> None:
    """Raises BadInput: in `folder`, which `prepare` replaces, there is what it does not write. Hidden files, which file
    managers leave, do not count."""
    own = {MANIFEST, SOURCE, f"{spec.layout}_images"}
    files = [path.relative_to(folder) for path in [folder, *folder.rglob("*")] if path.is_file() or path.is_symlink()]
    shown = [path.parts or (folder.name,) for path in files]
    others = sorted({name for name, *_ in shown if name not in own and not name.startswith(".")})
    listed = ", ".join(others[:3] + ["…"] * (len(others) > 3))
    what = f"{folder} is where {spec.title} is prepared, and it holds what kdjax did not write ({listed})"
    require(not others, f"{what}: choose another --data-dir, or move it away")


def prepare(spec: Spec, folder: Path, files: Mapping[str, RawFile], origin: str) -> None:
    """Writes `folder` (replacing it) from the raw `files`, by official name, completely or not at all. `origin`, the
    folder or address that the files come from, is recorded for messages. Raises BadInput: a raw file is damaged or
    wrong, or the folder can't be written."""
    try:
        with whole_folder(folder) as temporary:
            # TFDS would print its own progress, about a temporary folder.
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                _ImageRecords(spec, temporary, files).download_and_prepare()
            (temporary / SOURCE).write_text(json.dumps({"digest": digest(files), "origin": origin}))
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as a RuntimeError
        reason = (error.strerror if isinstance(error, OSError) else str(error).partition("; writing")[0]) or error
        where = f"{spec.title} cannot be prepared in {folder.parent} ({reason})"
        raise BadInput(f"{where}: make room there, or choose another --data-dir") from None


def prepared_source(folder: Path) -> dict[str, str]:
    """What a prepared folder was made from: `digest` (see `raw.digest`) and `origin`. Raises Damaged: its files are not
    as they were written."""
    check_manifest(folder)
    try:
        return {str(key): str(value) for key, value in json.loads((folder / SOURCE).read_bytes()).items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        raise Damaged(f"{folder / SOURCE} is missing or unreadable: remove {folder}") from None


def read_prepared(spec: Spec, folder: Path) -> dict[str, Split]:
    """The splits `train` and `test` of a folder that `prepared_source` has checked."""
    builder = _ImageRecords(spec, folder)
    splits = {}
    for name in ("train", "test"):
        source = builder.as_data_source(name)
        # Each record goes straight into place: joining a list of records takes twice the memory and the time.
        capacity = len(source) * RECORD
        images, labels = np.empty((capacity, *spec.shape), np.uint8), np.empty(capacity, np.int32)
        end = 0
        for record in map(source.__getitem__, range(len(source))):
            start, end = end, end + len(record["labels"])
            images[start:end], labels[start:end] = record["images"], record["labels"]
        splits[name] = Split(images[:end], labels[:end])
    return splits
