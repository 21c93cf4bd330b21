"""Interim results: what a run has found so far, written between its blocks."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from kdjax.progress import warn
from kdjax.run_directory import RunDirectory

SHARE = 0.05
"""The most of a run's time that writing each of its interim results may take."""


class Interim:
    """Called after each block: `write_tables(blocks)` writes the tables of those that are there, `summarise(folder)` a
    summary of them."""

    def __init__(
        self,
        record: RunDirectory,
        write_tables: Callable[[frozenset[str]], object],
        summarise: Callable[[Path], object] | None,
    ):
        import pandas  # noqa: F401 - here, so that the first table is not taken for a slow one

        def gather() -> None:
            write_tables(record.whole)
            record.config_file.note_progress(len(record.whole))

        self._tables, self._summary = Seldom(gather), seldom_summary(record.folder, summarise)

    def __call__(self) -> None:
        if self._tables():
            self._summary()


class Seldom:
    """Work that is passed over where it would take more than `SHARE` of the time."""

    def __init__(self, work: Callable[[], None]):
        self._work, self._next = work, -math.inf

    def __call__(self) -> bool:
        """Does the work, or passes it over; says whether it was done."""
        begin = time.monotonic()
        if begin < self._next:
            return False
        self._work()
        end = time.monotonic()
        self._next = end + (end - begin) / SHARE
        return True


def seldom_summary(folder: Path, summarise: Callable[[Path], object] | None) -> Seldom:
    """What to call when more is there: it writes a summary by `summarise(folder)`; by None, nothing."""

    def write() -> None:
        try:
            if summarise:
                summarise(folder)
        except Exception as error:  # a page that is written again at the end must not end hours of work
            warn(f"summary.md waits for more of the run ({error!r})")

    return Seldom(write)
