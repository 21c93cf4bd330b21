"""A user's file as a dataset: its columns, checked, divided into parts, with its teacher if it has one.

Import this module late: it imports JAX.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from kdjax import mistakes
from kdjax.arrays import HostImages
from kdjax.columns import Columns, naming
from kdjax.config import DataConfig
from kdjax.datasets import own_split, own_teacher
from kdjax.datasets.own_split import PARTS, Parts
from kdjax.datasets.own_teacher import Table
from kdjax.datasets.splits import Dataset, GivenTeacher, Split, Standardisation, fingerprint
from kdjax.errors import name_rows, require
from kdjax.faults import Faults
from kdjax.inputs import BEYOND, MOST_CLASSES, read, read_labels, read_raw, require_channels_last
from kdjax.logit_columns import INDICES, LOGSUMEXP
from kdjax.mistakes import Mistake
from kdjax.progress import say, warn

COLUMNS = ("images", "features", "labels", *own_teacher.KINDS, INDICES, LOGSUMEXP, "split", "groups")
"""Our names of what a file may hold."""
BLOCK = 4_096
"""Rows that are converted together."""
Inputs = list[HostImages]
"""Of the parts."""


def load(config: DataConfig, taken: Collection[str]) -> Dataset:
    """The dataset of a file, with its teacher; everything that can be checked without training is checked. Its name is
    the file's, without suffix, and not one of those `taken`.

    Features are standardised by the training part: `Dataset.standardisation`. Warnings are logged as `kdjax`.

    Raises:
        BadInput: the file cannot be read, or what it holds cannot be used; the message names columns and rows.
    """
    path = Path(config.dataset)
    own_parts = (
        "the hold-out of a file is its own: give a column split, or leave the option out for a tenth of the rows"
    )
    require(not config.holdout, f"--holdout {config.holdout} is not for {path}: {own_parts}")
    with naming(path):
        return _load(path, config, taken)


def _load(path: Path, config: DataConfig, taken: Collection[str]) -> Dataset:
    columns = Columns(path, config.columns, COLUMNS)
    inputs = columns.one_of(("images", "features"), "what students see")
    lacking = "labels" if inputs else "images or features"
    require(inputs and "labels" in columns, f"there is no column {lacking}: {columns.hint}")
    kind = columns.one_of(tuple(own_teacher.KINDS), "the teacher")
    columns.require_equal_lengths()
    table, classes, labels = _targets(columns, kind, config)
    rows, ours = _parts(columns, labels)
    if table is not None:
        doubts = [Mistake(table.doubt, False)] if table.doubt else []
        named = dict(zip(("training", "held-out", "test"), rows, strict=True))
        _refuse_or_warn([*mistakes.of_teacher_in_parts(table.logits, labels, named), *doubts])
    rows = _first(rows, config.train_images)
    others = np.sort(np.concatenate([rows.holdout, rows.test]))
    _refuse_or_warn(mistakes.of_classes(labels[rows.train], labels[others], others))
    images, standardisation = (_images if inputs == "images" else _features)(inputs, columns[inputs], rows)
    train, holdout, test = (Split(part, labels[of]) for part, of in zip(images, rows, strict=True))
    _refuse_or_warn(mistakes.of_parts(train.images, test.images, rows.test))
    for seen, which in ((train, "training"), (test, "test")):
        _refuse_or_warn(mistakes.of_parts(seen.images, holdout.images, rows.holdout, (which, "held-out")))
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


def _targets(columns: Columns, kind: str, config: DataConfig) -> tuple[Table | None, int, Int32[np.ndarray, "rows"]]:
    """The teacher's logits, the number of classes, and the labels."""
    name, given = "labels", columns["labels"]
    require(given.dtype.kind not in "US", f"{name} are text: give numpy.unique({name}, return_inverse=True)[1]")
    topk = "topk" in kind
    asked = "--topk-rest renormalised is for a teacher of the largest k logits or log-probabilities: leave it out"
    require(topk or config.topk_rest == "spread", asked)
    if kind and not topk:
        full = own_teacher.read_full(kind, columns[kind])
        classes = full.logits.shape[1]
        labels = read_labels(name, given, classes)
    else:
        indices = columns[INDICES] if topk and INDICES in columns else np.zeros(0, int)
        largest = int(indices.max(initial=0)) if indices.dtype.kind in "iu" else 0
        counted = f"{INDICES} of up to {largest:,} are no class numbers: count classes from 0"
        require(largest < MOST_CLASSES, counted)
        named = indices.dtype.kind in "iu" and 0 in indices  # then labels may begin at 1: `mistakes` compares the two
        labels = read_labels(name, given, from_one=named)
        classes = max(int(labels.max()), largest) + 1
        full = None
    table = own_teacher.read_topk(columns, classes, config.topk_rest) or full
    one = f"{name} are all {labels[0]} ({name_rows(np.arange(len(labels)), 3)}): there are no two classes to tell apart"
    require(labels.min() != labels.max(), f"{one}; give rows of two classes or more")
    return table, classes, labels


def _parts(columns: Columns, labels: Int32[np.ndarray, "rows"]) -> tuple[Parts, bool]:
    """The rows of each part, and whether it is we who divide them."""
    groups = own_split.read_groups(columns["groups"]) if "groups" in columns else None
    if "split" in columns:
        return own_split.read_split(columns["split"], groups), False
    parts = own_split.stratified(labels.astype(np.int64), groups)
    sizes = ", ".join(f"{len(rows):,} {part}" for part, rows in zip(PARTS, parts, strict=True))
    whole = "" if groups is None else ", groups kept whole"
    say(f"no column split: the rows are divided here, always alike, stratified by class{whole} ({sizes})")
    return parts, True


def _first(rows: Parts, train_images: int | None) -> Parts:
    count = len(rows.train)
    few = f"--train-images {train_images} is not allowed: there are {count:,} training rows"
    require(train_images is None or train_images <= count, f"{few}; give at most {count}")
    return rows._replace(train=rows.train[:train_images])


def _refuse_or_warn(found: Iterable[Mistake]) -> None:
    for mistake in found:
        require(not mistake.certain, mistake.text)
        warn(mistake.text)


def _given(table: Table, rows: Parts) -> GivenTeacher:
    train, holdout, test = (table.logits[of] for of in rows)
    digest = hashlib.sha256()
    for part in (train, holdout, test):
        digest.update(repr(part.shape).encode())
        digest.update(part.astype("<f4", copy=False).data)
    rest = None if table.rest is None else table.rest[rows.test]
    dropped = None if table.dropped is None else float(table.dropped.mean())
    return GivenTeacher(train, holdout, test, digest.hexdigest(), table.kind, table.kept, rest, dropped)


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
    """Bytes, or floats from 0 to 1. Whole numbers from 0 to 255 of another type become bytes; bytes of 0 and 1 alone
    become floats."""
    read_raw(name, given[:0])
    shape = (
        f"{name} of shape {given.shape} are not allowed: images are [n, height, width, channels] or [n, height, width]"
    )
    require(given.ndim in (3, 4), f"{shape}; call [n, d] features")
    require(min(given.shape[1:]) > 0, f"{shape}, of one pixel or more")
    require_channels_last(name, given.shape)
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray
    if given.dtype == np.uint8:
        if max(given[block].max(initial=0) for block in _blocks(len(given))) == 1:
            convert = lambda part: part.astype(np.float32)  # noqa: E731  black and white
    else:
        whole, outside = True, list[np.ndarray]()
        low, high, faults = np.inf, -np.inf, Faults()
        for block in _blocks(len(given)):
            with np.errstate(over="ignore"):  # what becomes inf is refused
                part = np.asarray(given[block], np.float32).reshape(len(given[block]), -1)
            faults.finite(name, part, block.start)
            whole = whole and bool((part == np.round(part)).all())
            low, high = min(low, part.min()), max(high, part.max())
            within = (part >= -BEYOND) & (part <= 1 + BEYOND)
            outside.append(block.start + np.flatnonzero(~within.all(axis=1)))
        rows_outside = np.concatenate(outside)
        faults.report()
        to_bytes = whole and low >= 0 and 1 < high <= 255  # 0 and 1 are floats, whatever their type
        wrong = f"{name} from {low:g} to {high:g} lie outside 0 to 1 in {name_rows(rows_outside)}"
        remedy = (
            "give bytes (uint8), whole numbers 0 to 255, or floats 0 to 1; standardised images are to be scaled back"
        )
        require(to_bytes or not len(rows_outside), f"{wrong}: {remedy}")
        convert = lambda part: part.astype(np.uint8 if to_bytes else np.float32)  # noqa: E731
    deep = (lambda part: convert(part)[..., None]) if given.ndim == 3 else convert
    return [_taken(given, of, deep) for of in rows], None


def _features(name: str, given: np.ndarray, rows: Parts) -> tuple[Inputs, Standardisation]:
    """float32, less the mean of the training rows, over their deviation; 1 where that is 0."""
    read(name, given)
    shape = f"{name} of shape {given.shape} are not allowed: features are [n, d]"
    require(given.ndim == 2 and given.shape[1], f"{shape}; call [n, height, width, channels] images")
    faults = Faults()
    for block in _blocks(len(given)):
        with np.errstate(over="ignore"):  # what becomes inf is refused
            faults.finite(name, np.asarray(given[block]).astype(np.float32), block.start)
    faults.report()
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
