"""What a layout of raw files is, and the checks that all layouts share."""

import dataclasses
import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from kdjax.datasets.catalog import Spec
from kdjax.datasets.splits import Split
from kdjax.errors import BadInput, require

LARGEST = 2**30
"""Bytes of a raw file, decompressed: five times the largest official one. A small file may say that it is endless."""


class RawFile(NamedTuple):
    """A file's content as it is stored, perhaps gzipped, and where it comes from, for messages."""

    where: str
    data: bytes


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the raw files of some datasets are named and read."""

    name: str
    """As `Spec.layout` gives it."""
    files: tuple[str, ...]
    """Official names, without `.gz`, of the files that a dataset needs."""
    parse: Callable[[Spec, Mapping[str, RawFile]], dict[str, Split]]
    """(spec, files by official name) → the splits `train` and `test`; raises `BadInput` that names a bad file."""
    optional: tuple[str, ...] = ()
    """Files that are read where they are found."""
    archive: str | None = None
    """A `.tar.gz` of all these files, used where the files themselves are missing."""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Other common spellings → official names."""

    def official(self, file_name: str) -> str | None:
        """The official name of a file, gzipped or not; None where it is not of this layout."""
        plain = file_name if file_name == self.archive else file_name.removesuffix(".gz")
        name = self.aliases.get(plain, plain)
        return name if name in (*self.files, *self.optional, self.archive) else None

    def splits(self, spec: Spec, files: Mapping[str, RawFile]) -> dict[str, Split]:
        """The splits `train` and `test` of the files, or of the archive. Raises BadInput: a file is damaged, incomplete
        or of another dataset. The message names it."""
        if self.archive is not None and self.archive in files:
            files = self._members(spec, files[self.archive])
        return self.parse(spec, files)

    def _members(self, spec: Spec, archive: RawFile) -> dict[str, RawFile]:
        """The archive's files, read into memory by name: nothing is written, so its paths can lead nowhere."""
        members, content = {}, unzipped(archive)  # read to its end, where its checksum is
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
                for member in tar:
                    name = member.name.rpartition("/")[2]
                    fits = member.isfile() and member.size <= LARGEST
                    file = tar.extractfile(member) if fits else None
                    if file is not None and name in (*self.files, *self.optional):
                        members[name] = RawFile(f"{archive.where} ({name})", file.read())
        except (tarfile.TarError, EOFError, OSError) as error:
            raise BadInput(f"{archive.where} is damaged or no tar.gz archive ({error}): get it again") from None
        for name in self.files:
            remedy = f"get the official {self.archive} of {spec.title}"
            require(name in members, f"{archive.where} holds no {name}: {remedy}")
        return members


def unzipped(file: RawFile) -> bytes:
    """The content, decompressed if it is gzipped; `BadInput` if the compressed data are damaged, cut off or of more
    than `LARGEST` bytes."""
    if not file.data.startswith(b"\x1f\x8b"):
        return file.data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(file.data)) as compressed:
            content = compressed.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{file.where} is damaged or truncated ({error}): get it again") from None
    require(len(content) <= LARGEST, f"{file.where} holds more than {LARGEST:,} bytes, decompressed: get it again")
    return content


def checked_split(
    spec: Spec,
    images: UInt8[np.ndarray, "n height width channels"],
    labels: UInt8[np.ndarray, " m"],
    images_where: str,
    labels_where: str,
) -> Split:
    """The split of these images and labels. Raises BadInput: there are none, their numbers differ, the images do not
    have the dataset's shape, or a label is no class."""
    require(len(images) > 0, f"{images_where} holds no images: get it again")
    counts = f"{images_where} holds {len(images):,} images, {labels_where} {len(labels):,} labels"
    require(len(images) == len(labels), f"{counts}: get a pair that belongs together")
    expected, actual = ("×".join(map(str, shape)) for shape in (spec.shape, images.shape[1:]))
    shapes = f"{images_where} holds images of {actual}, those of {spec.title} are {expected}"
    require(expected == actual, f"{shapes}: get it again")
    fault = f"{labels_where} holds the label {labels.max()} at image {labels.argmax():,}"
    largest = len(spec.class_names) - 1
    require(labels.max() <= largest, f"{fault}: labels of {spec.title} are 0 to {largest}; get it again")
    return Split(np.ascontiguousarray(images), labels.astype(np.int32))
