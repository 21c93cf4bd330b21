"""Trees of arrays on disk: written by orbax, under a SHA-256 manifest that detects damage which orbax misses."""

import contextlib
import itertools
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.config import CHECKPOINT_SECONDS
from kdjax.files import Damaged, check_manifest, clear_leftovers, remove, whole_folder, write_whole
from kdjax.progress import warn

_ONE_AT_A_TIME = threading.Lock()
"""Blocks on several devices save from threads of their own; what `_system_errors` changes is the process's."""


def save(folder: Path, tree: Any) -> None:
    """Writes `tree` (a pytree of arrays; JAX's random keys are none) to `folder`: whole, or not at all. Raises OSError:
    the disk is full or read-only, or a permission is missing."""
    ocp = _orbax()
    with whole_folder(folder) as temporary, _ONE_AT_A_TIME, _system_errors(folder):
        write_whole(temporary / "structure.json", json.dumps(_structure(tree), indent=1))
        ocp.save(temporary.absolute() / "tree", tree)


def load(folder: Path, like: Any) -> Any:
    """Reads what `save` wrote.

    `like` is a pytree of arrays or `jax.ShapeDtypeStruct` with the structure, shapes and dtypes of what was saved;
    where it has a numpy array, a numpy array is returned. Raises Damaged: a file is missing, changed or not whole, or
    holds another structure.
    """
    check_manifest(folder)
    # Compared here and not by orbax, which pads or cuts some arrays and reports the rest in a page of text.
    if not (folder / "structure.json").exists():
        raise Damaged(f"{folder} was written by another version of this program: remove it")
    written = json.loads((folder / "structure.json").read_bytes())
    for leaf, expected in itertools.zip_longest(written, _structure(like)):
        if leaf != expected:
            raise Damaged(f"{folder} holds other parameters than expected: {leaf} where {expected} was expected")
    # Read on the host (JAX would make a float64 a float32), then put where the thread puts its arrays: bound to no
    # device, like those of a new program, so that a resumed one compiles nothing again.
    on_host = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    tree = _orbax().load(folder.absolute() / "tree", on_host)
    return jax.tree.map(lambda leaf, wanted: leaf if isinstance(wanted, np.ndarray) else jnp.array(leaf), tree, like)


class Checkpoints:
    """The last two checkpoints of one piece of work, in one folder, named by step; a new one is due by time."""

    def __init__(self, folder: Path, seconds: float = CHECKPOINT_SECONDS):
        self.folder, self.seconds = folder, seconds

    @property
    def step(self) -> int:
        """That of the newest checkpoint; 0: there is none."""
        return int(steps[-1].name) if (steps := self._steps()) else 0

    def save(self, step: int, tree: Any) -> None:
        """Writes a checkpoint, then removes all but the last two."""
        save(self.folder / f"{step:09d}", tree)
        for old in self._steps()[:-2]:
            remove(old)

    def latest(self, like: Any) -> Any | None:
        """The newest undamaged checkpoint, or None; a damaged one is named, and the one before it tried. Call it, like
        `save`, only while holding the lock of this piece of work: it removes half-written ones."""
        clear_leftovers(self.folder)
        steps = self._steps()
        for folder in reversed(steps):
            try:
                return load(folder, like)
            except Damaged as damage:
                warn(f"checkpoint set aside: {damage}")
                remove(folder)
        if steps:
            warn(f"no whole checkpoint is left in {self.folder}: this piece of work starts again")
        return None

    def clear(self) -> None:
        """Removes all: the work is done and its result stored elsewhere."""
        remove(self.folder)

    def _steps(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*") if path.is_dir() and path.name.isdecimal())


@contextlib.contextmanager
def _system_errors(folder: Path) -> Iterator[None]:
    # tensorstore reports what the system refused as a ValueError with the error's number in its text, and orbax first
    # logs the traceback of the thread in which that happened.
    logger, before = logging.getLogger("absl"), sys.unraisablehook
    level = logger.level
    logger.setLevel(logging.CRITICAL)

    def hook(unraisable: Any) -> None:
        # Of several writes one is refused; the others may report to orbax's event loop when it is closed already.
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook  # stays where the save fails: the reports come later
    try:
        yield
        sys.unraisablehook = before
    except ValueError as error:
        number = re.search(r"os_error_code='(\d+)'", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from None
    finally:
        logger.setLevel(level)


def _structure(tree: Any) -> list[str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [f"{jax.tree_util.keystr(path)}: {leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves]


def _orbax() -> Any:
    from orbax.checkpoint import v1 as ocp  # late: half a second, and only those who save need it

    return ocp
