"""Files that are whole or not there: atomic writes, folders under a SHA-256 manifest, locks that die with their holder.

Imported by every room that writes; imports none but `checks`.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from kdjax.errors import BadInput

MANIFEST = "MANIFEST.json"


class Damaged(BadInput):
    """A folder does not match its manifest, or has none: it was cut off while being written, or changed since."""


class Busy(BadInput):
    """Another process holds the lock."""

    def __init__(self, folder: Path, holder: str):
        super().__init__(f"{folder} is in use by process {holder}: wait for it, or choose another --name")
        self.holder = holder


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file to a temporary name beside it, then renames: readers see old or new, never a part."""
    data = content.encode() if isinstance(content, str) else content
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty temporary folder that becomes `folder`, with a manifest, if the block ends without an exception.

    An existing `folder` is replaced. If the block fails, nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        write_whole(temporary / MANIFEST, json.dumps(_digests(temporary), indent=1, sort_keys=True))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_manifest(folder: Path) -> None:
    """Raises `Damaged`, naming the file, unless every file of `folder` is there, unchanged, and there is no other."""
    try:
        expected = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise Damaged(f"{folder} has no {MANIFEST}: it was not written to the end; remove it") from None
    except ValueError:
        raise Damaged(f"{folder / MANIFEST} is damaged: remove {folder}") from None
    found = _digests(folder)
    if expected != found:
        keys = expected.keys() | found.keys() if isinstance(expected, dict) else {MANIFEST}
        wrong = min(key for key in keys if not isinstance(expected, dict) or expected.get(key) != found.get(key))
        raise Damaged(f"{folder / wrong} differs from what was written (SHA-256): remove {folder}")


def seal(folder: Path, names: Iterable[str]) -> None:
    """Writes a manifest of some files of a folder in which other things come and go; `check_seal` compares."""
    digests = {name: _digest(folder / name) for name in names}
    write_whole(folder / MANIFEST, json.dumps(digests, indent=1, sort_keys=True))


def check_seal(folder: Path) -> None:
    """Raises `Damaged`, naming the file, if a sealed file is missing or changed. A folder without a seal passes."""
    try:
        expected = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        raise Damaged(f"{folder / MANIFEST} is damaged: give the experiment's command again") from None
    for name, digest in expected.items() if isinstance(expected, dict) else [(MANIFEST, None)]:
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise Damaged(
                f"{folder / name} is missing or differs from what was written (SHA-256): "
                "give the experiment's command again"
            )


@contextlib.contextmanager
def lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Holds an exclusive lock on the file `path`; the kernel frees it when the process ends, however it ends.

    Raises:
        Busy: another process holds it and `wait` is false; the message names its process id.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Busy(path.parent, holder) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def clear_leftovers(folder: Path, name: str = "*") -> None:
    """Removes what killed processes left half-written in `folder`, or of its file or folder `name` alone.

    Call it only while holding the lock of what is removed.
    """
    for path in folder.glob(f".{name}.tmp-*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def _digests(folder: Path) -> dict[str, str]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): _digest(path) for path in paths}


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
