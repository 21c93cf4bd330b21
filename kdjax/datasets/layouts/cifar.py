"""The binary layout of CIFAR-10: records of one label byte, then 32×32 red, as many green, as many blue bytes.

The format is described at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from collections.abc import Mapping

import numpy as np

from kdjax.datasets.catalog import Spec
from kdjax.datasets.layouts.layout import Layout, RawFile, checked_split, unzipped
from kdjax.datasets.splits import Split
from kdjax.errors import require

TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
CLASS_NAMES = "batches.meta.txt"
ARCHIVE = "cifar-10-binary.tar.gz"


def parse_cifar(spec: Spec, files: Mapping[str, RawFile]) -> dict[str, Split]:
    """The splits `train` and `test` in the five training batches and the test batch. Raises BadInput: a file is
    truncated or empty, has labels out of range, or lists other class names. The message names the file."""
    if CLASS_NAMES in files:
        names = unzipped(files[CLASS_NAMES]).decode(errors="replace").split()
        others = f"lists classes other than {', '.join(spec.class_names)}: get the one of {spec.title}"
        require(names == list(spec.class_names), f"{files[CLASS_NAMES].where} {others}")
    batches = [_batch(spec, files[name]) for name in TRAIN]
    train = Split(*(np.concatenate(part) for part in zip(*batches, strict=True)))
    return {"train": train, "test": _batch(spec, files[TEST])}


def _batch(spec: Spec, file: RawFile) -> Split:
    (height, width, channels), data = spec.shape, unzipped(file)
    record = 1 + height * width * channels
    fault = f"it has {len(data):,} bytes, no multiple of {record:,}; get it again"
    require(len(data) % record == 0, f"{file.where} is truncated or not {spec.title}'s: {fault}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    planes = rows[:, 1:].reshape(-1, channels, height, width)
    return checked_split(spec, planes.transpose(0, 2, 3, 1), rows[:, 0], file.where, file.where)


CIFAR = Layout("cifar", (*TRAIN, TEST), parse_cifar, optional=(CLASS_NAMES,), archive=ARCHIVE)
