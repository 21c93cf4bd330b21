"""Compiled programs are kept between processes (JAX's persistent cache), so that a second start compiles nothing."""

import contextlib
import hashlib
import os
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdjax.config import cache_folder
from kdjax.progress import say

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
"""JAX's own: a folder of the user's choice, or empty for no cache."""
LARGEST = 2 * 2**30
"""Bytes; above it the cache is emptied and begun anew."""


@contextlib.contextmanager
def programs_kept() -> Iterator[None]:
    """While it lasts, JAX keeps what it compiles in the user's cache folder; enter before JAX is imported.

    JAX does not write its entries whole: one that a kill cut off is said, and the cache emptied. A cache that cannot be
    written is said once and done without. A folder that the user has named is JAX's affair.
    """
    if VARIABLE in os.environ:
        yield
        return
    folder = cache_folder() / "compiled" / _processor()
    if sum(entry.stat().st_size for entry in _entries(folder)) > LARGEST:
        _empty(folder)
    os.environ[VARIABLE] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    show, unwritable = warnings.showwarning, False

    def shown(message: Any, *arguments: Any, **options: Any) -> None:
        nonlocal unwritable
        if "reading persistent compilation cache" in str(message):
            say(f"a compiled program kept in {folder} is damaged: all are compiled anew")
            _empty(folder)
        elif "writing persistent compilation cache" in str(message):
            if not unwritable:
                say(f"{folder} cannot be written: compiled programs are not kept, and the next start is slower")
            unwritable = True
        else:
            show(message, *arguments, **options)

    with warnings.catch_warnings():
        warnings.showwarning = shown
        try:
            yield
        finally:
            del os.environ[VARIABLE]


def _processor() -> str:
    # A home folder may be shared by machines whose processors know other instructions.
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _empty(folder: Path) -> None:
    for entry in _entries(folder):
        with contextlib.suppress(OSError):
            entry.unlink()
