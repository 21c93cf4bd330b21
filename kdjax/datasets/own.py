"""A user's file as a dataset: its columns, checked, divided into parts, with its teacher if it has one.

Import this module late: it imports JAX.
"""

import contextlib
import hashlib
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from kdjax import mistakes
from kdjax.array_files import read_arrays
from kdjax.arrays import HostImages
from kdjax.config import DataConfig
from kdjax.datasets import own_split, own_teacher
from kdjax.datasets.own_split import PARTS, Parts
from kdjax.datasets.own_teacher import INDICES, LOGSUMEXP, Table
from kdjax.datasets.splits import Dataset, GivenTeacher, Split, Standardisation, fingerprint
from kdjax.errors import BadInput, name_rows, require, require_known
from kdjax.inputs import read, read_inputs, read_labels

logger = logging.getLogger("kdjax.datasets")

COLUMNS = ("images", "features", "labels", *own_teacher.KINDS, INDICES, LOGSUMEXP, "split", "groups")
"""Our names of what a file may hold."""
BLOCK = 4_096
"""Rows that are converted together."""
Inputs = list[HostImages]
"""Of the parts."""
MOST_REPEATED = 0.01
"""Share of the test rows that may also be training rows: some are in most data, and are warned of."""


def load(config: DataConfig, taken: Collection[str]) -> Dataset:
    """The dataset of a file, with its teacher; everything that can be checked without training is checked. Its name is
    the file's, without suffix, and not one of those `taken`.

    Features are standardised by the training part: `Dataset.standardisation`. Warnings are logged as `kdjax.datasets`.

    Raises:
        BadInput: the file cannot be read, or what it holds cannot be used; the message names columns and rows.
    """
    path = Path(config.dataset)
    own_parts = (
        "the hold-out of a file is its own: give a column split, or leave the option out for a tenth of the rows"
    )
    require(not config.holdout, f"--holdout {config.holdout} is not for {path}: {own_parts}")
    with _naming(path):
        return _load(path, config, taken)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Messages name the file, but for those that name it or are about an option."""
    try:
        yield
    except BadInput as error:
        named = str(error).startswith("--") or str(path) in str(error)
        raise BadInput(str(error) if named else f"{path}: {error}") from None


def _load(path: Path, config: DataConfig, taken: Collection[str]) -> Dataset:
    columns = Columns(path, config.columns)
    inputs = columns.one_of(("images", "features"), "what students see")
    lacking = "labels" if inputs else "images or features"
    require(inputs and "labels" in columns, f"there is no column {lacking}: {columns.hint}")
    kind = columns.one_of(tuple(own_teacher.KINDS), "the teacher")
    columns.require_equal_lengths()
    table, classes, labels = _targets(columns, kind, config)
    if table is not None:
        _warn_of_teacher(table, labels)
    rows, ours = _parts(columns, labels)
    rows = _first(rows, config.train_images)
    images, standardisation = (_images if inputs == "images" else _features)(inputs, columns[inputs], rows)
    train, holdout, test = (Split(part, labels[of]) for part, of in zip(images, rows, strict=True))
    _require_apart(train, test, rows)
    title = re.sub(r"[^A-Za-z0-9_.-]+", "_", path.resolve().stem if path.is_file() else path.resolve().name).strip(
        "._-"
    )
    title = f"{title or 'file'}-file" if not title or title in taken else title
    noun = "images" if inputs == "images" else "rows"
    held = f", {len(rows.holdout):,} held out" if len(rows.holdout) else ""
    how = ", divided here 70:10:20" if ours else ""
    description = f"{title} ({len(rows.train):,} training {noun}{held}, {len(rows.test):,} test {noun}{how})"
    teacher = None if table is None else _given(table, rows)
    names, own = tuple(map(str, range(classes))), fingerprint(train)
    return Dataset(
        title, classes, names, train, holdout, test, own, description, teacher=teacher, standardisation=standardisation
    )


class Columns(Mapping[str, Any]):
    """The columns of a file by our names, each read once, when it is asked for."""

    def __init__(self, path: Path, renamed: Collection[str]):
        arrays = read_arrays(path)
        pairs = [given.partition("=") for given in renamed]
        for ours, _, theirs in pairs:
            require_known("columns", ours, COLUMNS)
            there = f"--columns {ours}={theirs}: {path} holds no {theirs}, but {', '.join(arrays)}"
            require(theirs in arrays, there)
        names = {ours: theirs for ours, _, theirs in pairs}
        require(len(names) == len(pairs), "--columns names one of ours twice: give each once")
        used = set(names.values())
        self._names = {**{name: name for name in COLUMNS if name in arrays and name not in used}, **names}
        self._path, self._arrays = path, dict[str, np.ndarray]()
        self._read: Mapping[str, np.ndarray] = arrays
        self.hint = f"it has {', '.join(arrays)}; name columns {', '.join(COLUMNS)}, or give --columns OURS=THEIRS"
        unused = [name for name in arrays if name not in self._names.values()]
        if unused:
            logger.info("%s: columns that are not used: %s", path, ", ".join(unused))

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


def _targets(columns: Columns, kind: str, config: DataConfig) -> tuple[Table | None, int, Int32[np.ndarray, "rows"]]:
    """The teacher's logits, the number of classes, and the labels."""
    name, given = "labels", columns["labels"]
    require(given.dtype.kind not in "US", f"{name} are text: give numpy.unique({name}, return_inverse=True)[1]")
    whole = given.ndim == 1 and given.dtype.kind in "iu"
    largest, topk = int(given.max()) if whole else 0, "topk" in kind
    asked = "--topk-rest renormalised is for a teacher of the largest k logits or log-probabilities: leave it out"
    require(topk or config.topk_rest == "spread", asked)
    for companion in (INDICES, LOGSUMEXP):
        alone = f"there is {companion} and no teacher_topk_logits or teacher_topk_logprobs"
        require(topk or companion not in columns, f"{alone}: {columns.hint}")
    if not kind or topk:
        require(largest < 2**24, f"{name} of up to {largest:,} are no class numbers: count classes from 0")
        classes = largest + 1
        if topk:
            require(INDICES in columns, f"{kind} needs {INDICES}, the classes: {columns.hint}")
            classes = max(classes, int(columns[INDICES].max(initial=0)) + 1)
        counted = f"{name} begin at 1 ({name_rows(np.flatnonzero(given == 1))}) and no row has class 0"
        require(not whole or given.min() != 1, f"{counted}: they are counted from 1; subtract 1")
        labels = read_labels(name, given, max(classes, 2))
    table = None
    if topk:
        table = own_teacher.read_topk(kind, columns, classes, config.topk_rest)
    elif kind:
        table = own_teacher.read_full(kind, columns[kind])
        classes = table.logits.shape[1]
        labels = read_labels(name, given, classes)
    one = f"{name} are all {labels[0]} ({name_rows(np.arange(len(labels)), 3)}): there are no two classes to tell apart"
    require(labels.min() != labels.max(), f"{one}; give rows of two classes or more")
    return table, classes, labels


def _parts(columns: Columns, labels: Int32[np.ndarray, "rows"]) -> tuple[Parts, bool]:
    """The rows of each part, and whether it is we who divide them."""
    groups = own_split.read_groups("groups", columns["groups"]) if "groups" in columns else None
    if "split" in columns:
        return own_split.read_split("split", columns["split"], groups), False
    parts = own_split.stratified(labels.astype(np.int64), groups)
    sizes = ", ".join(f"{len(rows):,} {part}" for part, rows in zip(PARTS, parts, strict=True))
    whole = "" if groups is None else ", groups kept whole"
    logger.info("no column split: the rows are divided here, always alike, stratified by class%s (%s)", whole, sizes)
    return parts, True


def _first(rows: Parts, train_images: int | None) -> Parts:
    count = len(rows.train)
    few = f"--train-images {train_images} is not allowed: there are {count:,} training rows"
    require(train_images is None or train_images <= count, f"{few}; give at most {count}")
    return rows._replace(train=rows.train[:train_images])


def _warn_of_teacher(table: Table, labels: Int32[np.ndarray, "rows"]) -> None:
    for mistake in mistakes.of_teacher(table.logits, labels):
        require(not mistake.certain, mistake.text)
        logger.warning("warning: %s", mistake.text)
    if table.doubt:
        logger.warning("warning: %s", table.doubt)


def _given(table: Table, rows: Parts) -> GivenTeacher:
    train, holdout, test = (table.logits[of] for of in rows)
    digest = hashlib.sha256()
    for part in (train, holdout, test):
        digest.update(repr(part.shape).encode())
        digest.update(part.astype("<f4", copy=False).data)
    rest = None if table.rest is None else table.rest[rows.test]
    dropped = None if table.dropped is None else float(table.dropped.mean())
    return GivenTeacher(train, holdout, test, digest.hexdigest(), table.kind, table.given, rest, dropped)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(first, first + BLOCK) for first in range(0, count, BLOCK))


def _taken(given: np.ndarray, rows: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> HostImages:
    """Some rows, converted a block at a time: what is mapped into memory is not read as a whole."""
    sample = convert(given[:0])
    taken = np.empty((len(rows), *sample.shape[1:]), sample.dtype)
    for block in _blocks(len(rows)):
        taken[block] = convert(given[rows[block]])
    return taken


def _images(name: str, given: np.ndarray, rows: Parts) -> tuple[Inputs, None]:
    """Bytes, or floats from 0 to 1. Whole numbers from 0 to 255 of another type become bytes."""
    read(name, given[:0])
    shape = (
        f"{name} of shape {given.shape} are not allowed: images are [n, height, width, channels] or [n, height, width]"
    )
    require(given.ndim in (3, 4), f"{shape}; call [n, d] features")
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray
    if given.dtype != np.uint8:
        whole, outside = True, list[np.ndarray]()
        low, high = np.inf, -np.inf
        for block in _blocks(len(given)):
            part = np.asarray(given[block], np.float32).reshape(len(given[block]), -1)
            whole = whole and bool((part == np.round(part)).all())
            low, high = min(low, part.min()), max(high, part.max())
            outside.append(block.start + np.flatnonzero(~((part >= 0) & (part <= 1)).all(axis=1)))
        rows_outside = np.concatenate(outside)
        to_bytes = whole and low >= 0 and high <= 255 and (high > 1 or given.dtype.kind != "f")
        wrong = f"{name} from {low:g} to {high:g} lie outside 0 to 1 in {name_rows(rows_outside)}"
        remedy = (
            "give bytes (uint8), whole numbers 0 to 255, or floats 0 to 1; standardised images are to be scaled back"
        )
        require(to_bytes or not len(rows_outside), f"{wrong}: {remedy}")
        convert = lambda part: part.astype(np.uint8 if to_bytes else np.float32)  # noqa: E731
    read_inputs(name, convert(given[:2]))
    deep = (lambda part: convert(part)[..., None]) if given.ndim == 3 else convert
    return [_taken(given, of, deep) for of in rows], None


def _features(name: str, given: np.ndarray, rows: Parts) -> tuple[Inputs, Standardisation]:
    """float32, less the mean of the training rows, over their deviation; 1 where that is 0."""
    read(name, given)
    shape = f"{name} of shape {given.shape} are not allowed: features are [n, d]"
    require(given.ndim == 2 and given.shape[1], f"{shape}; call [n, height, width, channels] images")
    for block in _blocks(len(given)):
        with np.errstate(over="ignore"):
            part = np.asarray(given[block]).astype(np.float32)
        wrong = block.start + np.flatnonzero(~np.isfinite(part).all(axis=1))
        require(not len(wrong), f"{name} are not finite in {name_rows(wrong)}: leave these rows out, or fill them")
    wide = lambda of: np.asarray(given[of], np.float64)  # noqa: E731
    train = np.sort(rows.train)
    chunks, width = [train[block] for block in _blocks(len(train))], given.shape[1]
    total, low, high = np.zeros(width), np.full(width, np.inf), np.full(width, -np.inf)
    for chunk in chunks:
        exact = wide(chunk)
        total += exact.sum(axis=0)
        low, high = np.minimum(low, exact.min(axis=0)), np.maximum(high, exact.max(axis=0))
    mean, squares = np.where(low == high, low, total / len(train)), np.zeros(width)
    for chunk in chunks:
        squares += np.square(wide(chunk) - mean).sum(axis=0)
    deviation = np.sqrt(squares / len(train))
    standardisation = Standardisation(mean, np.where((low == high) | (deviation == 0), 1.0, deviation))
    return [_taken(given, of, standardisation.apply) for of in rows], standardisation


def _require_apart(train: Split, test: Split, rows: Parts) -> None:
    """Refuses test rows that are training rows too, or warns where they are few."""
    repeated, count = mistakes.repeated_rows(train.images, test.images), len(test.images)
    which = name_rows(np.sort(rows.test[repeated]))
    found = f"{len(repeated):,} of {count:,} test rows are training rows too: {which}"
    remedy = "take each once, or give a column groups in which like rows have one number"
    refused = f"{found}; students would be tested on what they learnt: {remedy}"
    require(len(repeated) <= MOST_REPEATED * count, refused)
    if len(repeated):
        logger.warning("warning: %s; %s", found, remedy)
