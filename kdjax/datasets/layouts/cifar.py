"""The binary version of CIFAR-10: records of one label byte, then 32×32 red, as many green, as many blue bytes.

The layout is described at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import io
import tarfile
import zlib
from collections.abc import Mapping

import numpy as np

from kdjax.datasets.catalog import CIFAR_ARCHIVE, CIFAR_META, CIFAR_TEST, CIFAR_TRAIN, Spec
from kdjax.datasets.raw import RawFile, checked_split, unzipped
from kdjax.datasets.splits import Split
from kdjax.errors import BadInput, require


def parse_cifar(spec: Spec, files: Mapping[str, RawFile]) -> dict[str, Split]:
    """The splits `train` and `test` in the five training batches and the test batch, or in the archive of them.

    Raises:
        BadInput: a file is missing from the archive, is truncated or empty, has labels out of range, or lists other
            class names. The message names the file.
    """
    if CIFAR_ARCHIVE in files:
        files = unpack(files[CIFAR_ARCHIVE])
    if CIFAR_META in files:
        names = unzipped(files[CIFAR_META]).decode(errors="replace").split()
        require(
            names == list(spec.class_names),
            f"{files[CIFAR_META].where} lists other classes than {', '.join(spec.class_names)}: get {spec.title}'s own",
        )
    batches = [_batch(spec, files[name]) for name in CIFAR_TRAIN]
    train = Split(*(np.concatenate(part) for part in zip(*batches, strict=True)))
    return {"train": train, "test": _batch(spec, files[CIFAR_TEST])}


def unpack(archive: RawFile) -> dict[str, RawFile]:
    """The wanted members of the archive, read into memory by name: nothing is written, so no path can lead anywhere.

    Raises:
        BadInput: it is no tar archive, is truncated, or lacks a batch.
    """
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.data), mode="r:gz") as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None and name in (*CIFAR_TRAIN, CIFAR_TEST, CIFAR_META):
                    found[name] = RawFile(f"{archive.where} ({name})", content.read())
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise BadInput(f"{archive.where} is damaged or no tar.gz archive ({error}): get it again") from None
    for name in (*CIFAR_TRAIN, CIFAR_TEST):
        require(
            name in found, f"{archive.where} holds no {name}: it is not the binary version of CIFAR-10; get that one"
        )
    return found


def _batch(spec: Spec, file: RawFile) -> Split:
    height, width, channels = spec.shape
    record = 1 + height * width * channels
    data = unzipped(file)
    require(
        len(data) % record == 0,
        f"{file.where} is truncated or not {spec.title}'s: it has {len(data):,} bytes, no multiple of {record:,}; "
        "get it again",
    )
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    planes = rows[:, 1:].reshape(-1, channels, height, width)
    return checked_split(spec, planes.transpose(0, 2, 3, 1), rows[:, 0], file.where, file.where)
