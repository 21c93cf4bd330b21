"""Files of named arrays: `.npz`, `.safetensors`, `.parquet`, or a folder of `.npy` files. Nothing is ever unpickled."""

import contextlib
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.errors import BadInput, name_rows, require
from kdjax.files import require_ordinary

SUFFIXES = (".npz", ".safetensors", ".parquet")
"""Of files that hold several arrays."""
KINDS = f"{', '.join(SUFFIXES)} or a folder of .npy files"
TO_NPZ = "write the arrays in it with numpy.savez (docs/own_data.md)"
BLOCK = 2**24
"""Bytes that are looked at together."""
MOST_DEFLATED = 1_100
"""Bytes that one byte of a deflated stream can become, and a little more: zlib's limit is 1,032."""


class Arrays(Mapping[str, Any]):  # not of arrays: whoever checks types would read one
    """The arrays of a file by name, each read when it is asked for. Raises BadInput where one cannot be."""

    def __init__(self, path: Path, readers: Mapping[str, Callable[[], np.ndarray]]):
        self._path, self._readers = path, dict(readers)

    def __getitem__(self, name: str) -> np.ndarray:
        reader = self._readers[name]
        with _reading(self._path, name):
            return reader()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def read_arrays(path: Path) -> Arrays:
    """The arrays of `NAME.npz`, `NAME.safetensors`, `NAME.parquet` or a folder of `.npy` files, by name, each read when
    it is asked for.

    Uncompressed arrays of `.npz` and `.npy` files are mapped into memory and read-only; their checksums are compared
    where there are any. A column of a table is `[n]`, one of lists of one length `[n, d]`, one of lists of such lists
    `[n, h, w]`, and so on: an image is nested lists, as a flat list does not say its shape.

    Raises:
        BadInput: no such file, or none of these; one that is damaged, here or when the array is asked for: cut off,
            with pickled objects, with a header that promises more than the file holds, with empty cells or lists of
            unequal lengths; a package is missing that reads it.
    """
    require(os.path.exists(path), f"{path} does not exist: give a file, {KINDS}")
    readers = {".npz": _of_npz, ".safetensors": _of_safetensors, ".parquet": _of_parquet}
    read = _of_folder if path.is_dir() else readers.get(path.suffix.lower())
    if read is None:
        arrays = path.suffix.lower() in (".pt", ".pth", ".pkl", ".npy", ".csv")
        remedy = TO_NPZ if arrays else f"give {KINDS}"
        raise BadInput(f"{path} is of no kind that is read here: {remedy}")
    if not path.is_dir():
        require_ordinary(path)
    with _reading(path):
        found = read(path)
    require(found, f"{path} holds no array: give one with named arrays")
    return Arrays(path, found)


@contextlib.contextmanager
def _reading(path: Path, name: str = "") -> Iterator[None]:
    """Whatever goes wrong in a file becomes one line that names it."""
    where = f"{path}: {name}" if name else f"{path}"
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{where} {error}") from None
    except MemoryError:
        raise
    except PermissionError as error:
        raise BadInput(f"{where} may not be read ({error.strerror}): give yourself the right to read it") from None
    except Exception as error:  # whatever a library makes of a file that is none of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"{where} cannot be read, it is damaged or cut off ({reason}): write it again") from None


def _of_npz(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        pickled = not members and any(name.endswith("/data.pkl") for name in archive.namelist())
    require(not pickled, f"is a file of torch.save: {TO_NPZ}")
    return {name.removesuffix(".npy"): lambda name=name: _member(path, name) for name in members}  # type: ignore[misc]


def _member(path: Path, name: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
        info = archive.getinfo(name)
        shape, fortran, dtype, start = _header(stream)
        size = math.prod(shape) * dtype.itemsize
        _require_whole(start + size, info.file_size)
        if info.compress_type == zipfile.ZIP_STORED:
            crc = 0
            with open(path, "rb") as file:
                file.seek(info.header_offset)
                begin = info.header_offset + 30 + sum(struct.unpack("<26x2H", file.read(30)))
                mapped = np.memmap(path, np.uint8, "r", begin, (info.file_size,))
                file.seek(begin)
                for first in range(0, info.file_size, BLOCK):  # read: pages of the map would count as memory in use
                    crc = zlib.crc32(file.read(min(BLOCK, info.file_size - first)), crc)
            require(crc == info.CRC, "is damaged (its checksum differs): write it again")
            return _as_array(mapped[start:], shape, fortran, dtype)
        _require_whole(size, MOST_DEFLATED * (info.compress_size + 1))
        content, end = np.empty(size, np.uint8), 0
        while part := stream.read(BLOCK):  # to the end, where the checksum is compared
            content[end : end + len(part)] = np.frombuffer(part, np.uint8)
            end += len(part)
        _require_whole(size, end)
        return _as_array(content, shape, fortran, dtype)


def _of_folder(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    return {file.stem: lambda file=file: _npy(file) for file in sorted(path.glob("*.npy"))}  # type: ignore[misc]


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file, mapped into memory. Raises BadInput as `read_arrays`."""
    with _reading(path):
        return _npy(path)


def _npy(path: Path) -> np.ndarray:
    require_ordinary(path)
    with open(path, "rb") as file:
        shape, fortran, dtype, start = _header(file)
    size = math.prod(shape) * dtype.itemsize
    _require_whole(start + size, path.stat().st_size)
    content = np.memmap(path, np.uint8, "r", shape=(start + size,))
    return _as_array(content[start:], shape, fortran, dtype)


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order and type of an array, and where in its file it starts."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    require(
        version in readers, f"has an array format of version {version}, which is not read: write it with numpy.save"
    )
    shape, fortran, dtype = readers[version](stream)
    require(not dtype.hasobject, "holds pickled objects, and no file is unpickled: give arrays of numbers or text")
    return shape, fortran, dtype, stream.tell()


def _require_whole(promised: int, there: int) -> None:
    cut = f"promises {promised:,} bytes and {there:,} are there: it is damaged or cut off; write it again"
    require(promised <= there, cut)


def _as_array(content: np.ndarray, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> np.ndarray:
    """Bytes, and what follows them, as an array: a view."""
    count = math.prod(shape)
    flat: np.ndarray = content[: count * dtype.itemsize].view(dtype) if dtype.itemsize else np.zeros(count, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _package(name: str) -> Any:
    """A package of the extra `files`, imported late."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise BadInput(f"needs the package {package}: pip install {package}, or kdjax[files]") from None


def _of_safetensors(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    package = _package("safetensors")
    import ml_dtypes  # noqa: F401 - it teaches NumPy bfloat16

    def tensor(name: str) -> np.ndarray:
        with package.safe_open(path, "np") as file:
            array: np.ndarray = file.get_tensor(name)
        return array

    with package.safe_open(path, "np") as file:
        return {name: lambda name=name: tensor(name) for name in file.keys()}  # type: ignore[misc]  # noqa: SIM118


def _of_parquet(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    parquet = _package("pyarrow.parquet")

    def column(name: str) -> np.ndarray:
        array = parquet.read_table(path, columns=[name]).column(name).combine_chunks()
        return _of_column(array)

    names = parquet.read_schema(path).names
    return {name: lambda name=name: column(name) for name in names}  # type: ignore[misc]


def _of_column(array: Any, rows: int = 1) -> np.ndarray:
    """A column of a table, or the content of its lists, of which so many are one row."""
    import pyarrow as arrow

    if array.null_count:
        empty = np.unique(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) // rows)
        raise BadInput(f"has empty cells, in {name_rows(empty)}: fill them, or leave these rows out")
    kind = array.type
    if arrow.types.is_dictionary(kind):
        return _of_column(array.dictionary_decode(), rows)
    lists = (arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list)
    if any(is_list(kind) for is_list in lists):
        lengths = np.asarray(array.value_lengths()) if len(array) else np.zeros(1, int)
        unequal = np.flatnonzero(lengths != lengths[0]) // rows
        have = f"has lists of unequal lengths: {lengths[0]} in row 0, and not so in"
        require(not len(unequal), f"{have} {name_rows(np.unique(unequal))}: give lists of one length")
        inner = _of_column(array.flatten(), rows * max(int(lengths[0]), 1))
        return inner.reshape(len(array), int(lengths[0]), *inner.shape[1:])
    if arrow.types.is_string(kind) or arrow.types.is_large_string(kind):
        return np.array(array.to_pylist(), dtype=np.str_)
    numbers = (arrow.types.is_integer, arrow.types.is_floating, arrow.types.is_boolean)
    fits = any(is_number(kind) for is_number in numbers)
    require(fits, f"is a column of {kind}: give numbers, text, or lists of one length of numbers")
    found: np.ndarray = array.to_numpy(zero_copy_only=False)
    return found
