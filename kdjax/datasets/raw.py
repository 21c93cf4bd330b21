"""Raw folders: the official files of a dataset, found in a user's folder and read as they are."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from kdjax.datasets.catalog import CATALOG, Spec
from kdjax.datasets.layouts import LARGEST, RawFile, layout_of
from kdjax.errors import BadInput, require

LOOKALIKES = ("kmnist", "emnist", "qmnist")
"""Datasets that are not in the catalog and whose files have MNIST's names: a folder with such a name is not MNIST."""


def read_raw_folder(spec: Spec, folder: Path) -> dict[str, RawFile]:
    """The dataset's files somewhere in `folder`, by their official names without `.gz`.

    Where a file is there more than once, a folder that has all of them comes first, then one named after the dataset,
    then the one nearest to `folder`, then the file that is not gzipped. Links to folders are not followed. Raises
    BadInput: the folder is missing, empty or unreadable, or lacks one of the files; or the layout is unknown.
    """
    layout, unreadable = layout_of(spec), list[OSError]()
    check_raw_folder(folder)
    candidates, paths = _candidates(spec, folder, unreadable), dict[str, Path]()
    of_folder: dict[Path, dict[str, Path]] = {}
    for name, path in reversed(candidates):  # of two with one name the better one stays
        paths[name] = of_folder.setdefault(path.parent, {})[name] = path
    for _, path in candidates:
        if set(layout.files) <= of_folder[path.parent].keys():
            paths = of_folder[path.parent]
            break
    missing = [name for name in layout.files if name not in paths]
    if missing and layout.archive in paths:
        return {layout.archive: _read(paths[layout.archive])}
    unread = f" ({unreadable[0].filename} cannot be read)" if unreadable else ""
    archive = f", nor {layout.archive}," if layout.archive else ""
    where = "in it or below" if _takes_unnamed(spec) else f"in a folder named {spec.name}"
    lacking = f"{folder} does not hold {spec.title}: no {', '.join(missing)} (or .gz){archive} {where}{unread}"
    require(not missing, f"{lacking}; put the official files there, or leave out --raw-dir and KDJAX_RAW_DIR")
    return {name: _read(paths[name]) for name in (*layout.files, *layout.optional) if name in paths}


def check_raw_folder(folder: Path) -> None:
    """Raises `BadInput` unless `folder` is a readable folder with something in it."""
    what_to_do = "name a folder with the official data files, or leave out --raw-dir and KDJAX_RAW_DIR"
    require(folder.exists(), f"--raw-dir {folder} does not exist: {what_to_do}")
    require(folder.is_dir(), f"--raw-dir {folder} is not a folder: {what_to_do}")
    try:
        with os.scandir(folder) as entries:
            empty = next(entries, None) is None
    except PermissionError:
        raise BadInput(f"--raw-dir {folder} cannot be read (permission denied): {what_to_do}") from None
    require(not empty, f"--raw-dir {folder} is empty: {what_to_do}")


def digest(files: Mapping[str, RawFile]) -> str:
    """SHA-256 (hex) over the names and the stored bytes: tells whether data were prepared from exactly these files."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name} {hashlib.sha256(files[name].data).hexdigest()}\n".encode())
    return total.hexdigest()


def _candidates(spec: Spec, folder: Path, unreadable: list[OSError]) -> list[tuple[str, Path]]:
    """(official name, path) of files that may be the dataset's, the best first; errors are added to `unreadable`."""
    layout, ranked, fitting = layout_of(spec), [], (spec.name, None) if _takes_unnamed(spec) else (spec.name,)
    for parent, _, files in os.walk(folder, onerror=unreadable.append):
        for path in (Path(parent) / file for file in files):
            name, dataset = layout.official(path.name), _named_after(spec, folder, path)
            if name is not None and dataset in fitting:  # in alphabetical order a file comes before its .gz
                ranked.append((dataset != spec.name, len(path.parts), str(path), name, path))
    return [(name, path) for *_, name, path in sorted(ranked)]


def _named_after(spec: Spec, folder: Path, path: Path) -> str | None:
    """The dataset that the innermost folder above `path` with the name of one of the layout of `spec`, perhaps above
    `folder`, stands for: files of other layouts cannot be taken for its."""
    same = [other.name for other in CATALOG.values() if other.layout == spec.layout]
    names = {name.replace("_", ""): name for name in (*same, *(LOOKALIKES if spec.layout == "idx" else ()))}
    parts = (*folder.resolve().parts, *path.relative_to(folder).parent.parts)
    plain = ("".join(filter(str.isalnum, part.lower())) for part in reversed(parts))
    return next((names[part] for part in plain if part in names), None)


def _takes_unnamed(spec: Spec) -> bool:
    return next(other.name for other in CATALOG.values() if other.layout == spec.layout) == spec.name


def _read(path: Path) -> RawFile:
    try:
        # A pipe would be waited for, and a device may never end.
        require(path.is_file(), f"{path} is no ordinary file: put the official file in its place")
        size = path.stat().st_size
        require(size <= LARGEST, f"{path} has {size:,} bytes, and no official file more than {LARGEST:,}: get it again")
        return RawFile(str(path), path.read_bytes())
    except PermissionError:
        raise BadInput(f"{path} cannot be read (permission denied): give yourself the right to read it") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): get it again") from None
