"""Trees of arrays on disk: orbax writes them, a SHA-256 manifest says whether they are what was written.

(orbax alone restores most flipped bytes without a word.)
"""

import shutil
from pathlib import Path
from typing import Any

import jax

from kdjax.files import Damaged, check_manifest, clear_leftovers, whole_folder


def save(folder: Path, tree: Any) -> None:
    """Writes `tree` (a pytree of arrays) to `folder`: whole, or not at all. Keys of random numbers are not arrays."""
    ocp = _orbax()
    with whole_folder(folder) as temporary:
        ocp.save(temporary.absolute() / "tree", tree)


def load(folder: Path, like: Any) -> Any:
    """Reads what `save` wrote.

    Args:
        folder: the folder given to `save`.
        like: a pytree of arrays or `jax.ShapeDtypeStruct` with the structure, shapes and dtypes of what was saved.

    Raises:
        Damaged: a file is missing, changed or not whole, or holds another structure than `like`.
    """
    check_manifest(folder)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like)
    try:
        return _orbax().load(folder.absolute() / "tree", abstract)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{folder} holds other parameters than expected: {str(error).splitlines()[0]}") from error


class Checkpoints:
    """The last two checkpoints of one piece of work, in one folder, named by step."""

    def __init__(self, folder: Path):
        self.folder = folder
        if folder.exists():
            clear_leftovers(folder)

    def save(self, step: int, tree: Any) -> None:
        """Writes a checkpoint, then removes all but the last two."""
        save(self.folder / f"{step:09d}", tree)
        for old in self._steps()[:-2]:
            shutil.rmtree(old)

    def latest(self, like: Any, warn: Any = print) -> Any | None:
        """The newest undamaged checkpoint, or None; one that is damaged is named, and the one before it tried."""
        for folder in reversed(self._steps()):
            try:
                return load(folder, like)
            except Damaged as damage:
                warn(f"checkpoint set aside: {damage}")
                shutil.rmtree(folder)
        return None

    def clear(self) -> None:
        """Removes all: the work is done and kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*") if path.is_dir()) if self.folder.exists() else []


def _orbax() -> Any:
    from orbax.checkpoint import v1 as ocp  # late: half a second, and only those who save need it

    return ocp
