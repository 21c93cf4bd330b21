"""Atomic writes, folders with a SHA-256 manifest, and locks that are released when their process ends."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.errors import BadInput, require

MANIFEST = "MANIFEST.json"


class Damaged(BadInput):
    """A folder does not match its manifest, or has none: it was cut off while being written, or changed since."""


class Busy(BadInput):
    """Another process holds the lock."""

    def __init__(self, folder: Path, holder: str):
        super().__init__(f"{folder} is in use by process {holder}: wait for it, or choose another --name")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file to a temporary name beside it, then renames: readers see old or new, never a part."""
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_ordinary(path: Path) -> None:
    """Raises `BadInput` where a file should be and something else is: a pipe would be waited for, a device has no end.
    A missing file passes."""
    require(path.is_file() or not path.exists(), f"{path} is no ordinary file: put the file in its place, or remove it")


def read_bytes(path: Path) -> bytes:
    """The content of a file; raises as `require_ordinary`."""
    require_ordinary(path)
    return path.read_bytes()


def read_json(path: Path) -> Any:
    """Reads a JSON file, or says in one line what is wrong with it."""
    try:
        return json.loads(read_bytes(path))
    except FileNotFoundError:
        raise BadInput(f"{path} is missing: {path.parent} is no run directory, or not a whole one") from None
    except (ValueError, RecursionError):
        remedy = "put it back from a copy, or remove it and give the command again"
        raise BadInput(f"{path} is damaged (not JSON): {remedy}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an `.npz` file whole."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


def write_csv(path: Path, table: Any, digits: int = 9) -> None:
    """Writes a pandas table as CSV, whole, with so many significant digits."""
    write_whole(path, table.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n"))


def make_folder(folder: Path) -> None:
    """Makes a folder, or says in one line why it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK | os.X_OK) else "no permission, or a read-only disk"
    except OSError as error:
        reason = error.strerror
    require(reason is None, f"{folder} cannot be written ({reason}): choose another folder with --out")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty temporary folder that becomes `folder`, with a manifest, if the block ends without an exception.
    An existing `folder` is replaced. If the block fails, nothing is left behind."""
    temporary = _temporary(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        seal(temporary, [name for name in sorted(_files(temporary)) if not _is_hidden(name)])
        remove(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_manifest(folder: Path) -> None:
    """Raises `Damaged`, naming the file, unless every file of `folder` is there, unchanged, and there is no other.
    Hidden ones are not counted: file managers and network drives leave them."""
    expected = _read_manifest(folder, f"remove {folder}")
    if expected is None:
        raise Damaged(f"{folder} has no {MANIFEST}: it was not written to the end; remove it")
    files = _files(folder)
    shown = {name for name in files if not _is_hidden(name)}
    for name in sorted(expected.keys() | shown - {MANIFEST}):
        if name not in files or _digest(files[name]) != expected.get(name):
            raise Damaged(f"{folder / name} differs from what was written (SHA-256): remove {folder}")


def seal(folder: Path, names: Iterable[str]) -> None:
    """Writes a manifest of some files of a folder in which other things come and go; `check_seal` compares."""
    digests = {name: _digest(folder / name) for name in names}
    write_whole(folder / MANIFEST, json.dumps(digests, indent=1, sort_keys=True))


def check_seal(folder: Path) -> None:
    """Raises `Damaged`, naming the file, if a sealed file is missing or changed. A folder without a seal passes."""
    remedy = "give the experiment's command again"
    for name, digest in (_read_manifest(folder, remedy) or {}).items():
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise Damaged(f"{folder / name} is missing or differs from what was written (SHA-256): {remedy}")


def _read_manifest(folder: Path, remedy: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(read_bytes(folder / MANIFEST)).items())
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError, RecursionError):
        raise Damaged(f"{folder / MANIFEST} is damaged: {remedy}") from None


@contextlib.contextmanager
def lock(path: Path, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds an exclusive lock on the file `path`; the kernel frees it when the process ends, however it ends. Where
    another process holds it, `waiting` is called with that process, such as "4711 on node3", and the lock is waited
    for. Raises Busy, which names it: another process holds it, and there is no `waiting`. Raises BadInput: the file
    system has no locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            if waiting is None:
                raise Busy(path.parent, holder) from None
            waiting(holder)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            told = f"{path.parent} cannot be locked ({error.strerror}): its file system may have no locks"
            raise BadInput(f"{told}; choose a folder on another one") from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def clear_leftovers(folder: Path, name: str = "*") -> None:
    """Removes what killed processes left half-written in `folder`, or of its file or folder `name` alone. Call it only
    while holding the lock of what is removed."""
    for path in folder.glob(f".{name}.*tmp-*"):
        if path.name.rpartition("-")[2].isdigit():  # a process's
            remove(path)


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder, without those that another process removes meanwhile."""
    total = 0
    with contextlib.suppress(OSError):
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                found = path.lstat()
                total += 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return total


def remove(path: Path) -> None:
    """Removes a file, a link, or a folder with all that is in it; nothing where there is none. A folder goes whole: it
    is renamed first, to what `clear_leftovers` removes."""
    if path.is_dir() and not path.is_symlink():
        gone = _temporary(path.with_name(f"{path.name}.removed"))
        shutil.rmtree(gone, ignore_errors=True)
        try:
            path.replace(gone)
        except OSError:  # such as a mounted folder
            gone = path
        shutil.rmtree(gone)
    else:
        path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
