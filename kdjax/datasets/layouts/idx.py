"""IDX, the layout of MNIST: a big-endian header (magic number, one size per dimension), then unsigned bytes.

The format is described at the end of http://yann.lecun.com/exdb/mnist/.
"""

import math
import struct
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8

from kdjax.datasets.catalog import Spec
from kdjax.datasets.layouts.layout import Layout, RawFile, checked_split, unzipped
from kdjax.datasets.splits import Split
from kdjax.errors import require

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
UNSIGNED_BYTE = 0x08


def parse_idx(spec: Spec, files: Mapping[str, RawFile]) -> dict[str, Split]:
    """The splits `train` and `test` in four IDX files, keyed by their official names. Raises BadInput: a file is
    truncated, too long, no IDX file, has the wrong dimensions or labels out of range, or the numbers of images and
    labels differ. The message names the file."""

    def split(images: RawFile, labels: RawFile) -> Split:
        pixels = read_idx(images, dimensions=3)
        return checked_split(spec, pixels[..., None], read_idx(labels, dimensions=1), images.where, labels.where)

    train_images, train_labels, test_images, test_labels = (files[name] for name in FILES)
    return {"train": split(train_images, train_labels), "test": split(test_images, test_labels)}


def read_idx(file: RawFile, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """The array in one IDX file of unsigned bytes, gzipped or not. Raises BadInput: it is no such file, or not as long
    as its header says."""
    data, start, magic = unzipped(file), 4 + 4 * dimensions, bytes([0, 0, UNSIGNED_BYTE, dimensions])
    expected = f"an IDX file of {dimensions}-dimensional bytes with {magic.hex()}; get it again"
    begin = data[:4].hex() or "nothing"
    require(data[:4] == magic, f"{file.where} is not the file it should be: it starts with {begin}, {expected}")
    require(len(data) >= start, f"{file.where} is truncated: its header has {len(data)} of {start} bytes; get it again")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    what, says = "images" if dimensions == 3 else "labels", "×".join(map(str, shape))
    require(all(shape), f"{file.where} holds no {what}: its header says {says}; get it again")
    size = start + math.prod(shape)  # Python integers: a corrupt header can't overflow
    fault = f"{'truncated' if len(data) < size else 'too long'}: it has {len(data):,} bytes, its header says {size:,}"
    require(len(data) == size, f"{file.where} is {fault}; get it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


IDX = Layout("idx", FILES, parse_idx, aliases={name.replace("-idx", ".idx"): name for name in FILES})
