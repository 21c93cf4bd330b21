"""The columns of a user's file by our names."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.array_files import read_arrays
from kdjax.errors import BadInput, require, require_known
from kdjax.progress import say


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Messages name the file, but for those that name it or are about an option."""
    try:
        yield
    except BadInput as error:
        named = str(error).startswith("--") or str(path) in str(error)
        raise BadInput(str(error) if named else f"{path}: {error}") from None


class Columns(Mapping[str, Any]):
    """The columns of a file by our names, each read once, when it is asked for."""

    def __init__(self, path: Path, renamed: Collection[str], known: Collection[str]):
        """`renamed`: the file's own names, each `OURS=THEIRS`; `known`: our names of what a file may hold; others are
        said not to be used. Raises BadInput: as `read_arrays`; a name that is not known, given twice, or not in the
        file."""
        self._read: Mapping[str, np.ndarray] = read_arrays(path)
        names = dict[str, str]()
        for column in renamed:
            ours, _, theirs = column.partition("=")
            require(ours and theirs, f"--columns {column!r} is not understood: write OURS=THEIRS, such as labels=y")
            require_known("columns", ours, known)
            require(ours not in names, f"--columns names {ours} twice: give it once")
            held = f"--columns {ours}={theirs}: {path} holds no {theirs}, but {', '.join(self._read)}"
            require(theirs in self._read, held)
            names[ours] = theirs
        used = set(names.values())
        self._names = {**{name: name for name in known if name in self._read and name not in used}, **names}
        self._arrays = dict[str, np.ndarray]()
        self.hint = f"it has {', '.join(self._read)}; name columns {', '.join(known)}, or give --columns OURS=THEIRS"
        if unused := [name for name in self._read if name not in self._names.values()]:
            say(f"{path}: columns that are not used: {', '.join(unused)}")

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = self._read[self._names[name]]
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def one_of(self, names: Collection[str], what: str) -> str:
        """The one of these columns that the file has; empty if it has none. Raises BadInput: it has several."""
        found = [name for name in names if name in self]
        require(len(found) < 2, f"there are {' and '.join(found)}: give one of them as {what}")
        return "".join(found)

    def require_equal_lengths(self) -> None:
        """Raises BadInput unless all columns have as many rows, one at least."""
        lengths = {name: len(self[name]) if self[name].ndim else 0 for name in self._names}
        listed = ", ".join(f"{length:,} {name}" for name, length in lengths.items())
        require(len(set(lengths.values())) == 1, f"unequal numbers of rows: {listed}; give as many of each")
        require(all(lengths.values()), "there is no row: give one example or more")
