"""Compiled programs are kept between processes (JAX's persistent cache), so that a second start compiles nothing."""

import builtins
import contextlib
import hashlib
import os
import platform
import re
import shutil
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


def folder() -> Path:
    """Where this machine's programs are kept: a home folder may be shared by machines with other instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    processor = hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]
    return cache_folder() / "compiled" / processor


@contextlib.contextmanager
def programs_kept() -> Iterator[None]:
    """While it lasts, JAX keeps what it compiles in `folder()`; enter before JAX is imported, or in a process so begun.

    JAX does not write its entries whole: one that a kill cut off is said, and compiled anew. A cache that cannot be
    read or written is said once and done without. Another folder that the user has named is JAX's affair.
    """
    ours, before = folder(), os.environ.get(VARIABLE)
    if before not in (None, str(ours)):
        yield
        return
    if _size(ours) > LARGEST:
        shutil.rmtree(ours, ignore_errors=True)
    os.environ[VARIABLE] = str(ours)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    show, unusable = warnings.showwarning, False

    def shown(message: Any, *arguments: Any, **options: Any) -> None:
        nonlocal unusable
        entry_of = r"Error (reading|writing) persistent compilation cache entry for '([^']*)': (\w+)"
        said = re.match(entry_of, str(message))
        if said is None:
            show(message, *arguments, **options)
        elif said[1] == "reading" and not issubclass(getattr(builtins, said[3], Exception), OSError):
            say(f"a compiled program kept in {ours} is damaged: {said[2]} is compiled anew")
            for entry in ours.glob(f"{said[2]}-*"):
                entry.unlink(missing_ok=True)
        elif not unusable:
            say(f"{ours} cannot be used ({said[3]}): compiled programs are not kept, and the next start is slower")
            unusable = True

    with warnings.catch_warnings():
        warnings.showwarning = shown
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]


def _size(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):  # another process may be clearing it
        for path in folder.rglob("*"):
            total += path.lstat().st_size
    return total
