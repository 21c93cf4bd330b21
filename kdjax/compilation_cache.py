"""JAX's persistent compilation cache: compiled programs are stored, so that a second start compiles nothing."""

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
from kdjax.files import size_of
from kdjax.progress import warn

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
"""JAX's own: a folder of the user's choice, or empty for no cache."""
LARGEST = 2 * 2**30
"""Bytes; above it the cache is emptied."""


def folder() -> Path:
    """The cache of this kind of processor: a home folder may be shared by machines with other instructions."""
    return cache_folder() / "compiled" / processor()


def processor() -> str:
    """A hash (hex) of the instructions that this processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        flags = platform.processor()
    return hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]


@contextlib.contextmanager
def persistent_cache() -> Iterator[None]:
    """While it lasts, JAX stores what it compiles in `folder()`; enter before JAX is imported, or in a child process.
    JAX does not write its entries whole: one that a kill cut off is reported, and compiled again. A cache that cannot
    be read or written is reported once, and not used. Another folder that the user has named is left to JAX."""
    cache, before = folder(), os.environ.get(VARIABLE)
    if before not in (None, str(cache)):
        yield
        return
    if size_of(cache) > LARGEST:
        shutil.rmtree(cache, ignore_errors=True)
    os.environ[VARIABLE] = str(cache)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    show, unusable = warnings.showwarning, False

    def shown(message: Any, *arguments: Any, **options: Any) -> None:
        nonlocal unusable
        warning = r"Error (reading|writing) persistent compilation cache entry for '([^']*)': (\w+)"
        match = re.match(warning, str(message))
        if match is None:
            show(message, *arguments, **options)
            return
        action, program, error = match.groups()
        if action == "reading" and not issubclass(getattr(builtins, error, Exception), OSError):
            warn(f"a compiled program stored in {cache} is damaged: {program} is compiled again")
            for entry in cache.glob(f"{program}-*"):
                entry.unlink(missing_ok=True)
        elif not unusable:
            warn(f"{cache} cannot be used ({error}): compiled programs are not stored, and the next start is slower")
            unusable = True

    with warnings.catch_warnings():
        warnings.showwarning = shown
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
