"""Interim results: what a run has found so far, written between its blocks."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from kdjax.progress import say
from kdjax.run_directory import RunDirectory

SHARE = 0.05
"""The most of a run's time that writing each of its interim results may take."""


class Interim:
    """Called after each block: writes the tables of the blocks that are there, and a summary of them."""

    def __init__(
        self, record: RunDirectory, write_tables: Callable[[], object], summarise: Callable[[Path], object] | None
    ):
        import pandas  # noqa: F401 - here, so that the first table is not taken for a slow one

        self._record, self._write_tables = record, write_tables
        self._tables, self._summary = Seldom(self._gather), Summary(record.folder, summarise)

    def __call__(self) -> None:
        if self._tables():
            self._summary()

    def _gather(self) -> None:
        self._write_tables()
        self._record.note_progress(len(self._record.whole))


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


class Summary:
    """Called when more is there: `summarise(folder)` writes a summary of it. None: nothing is written."""

    def __init__(self, folder: Path, summarise: Callable[[Path], object] | None):
        self._folder, self._summarise, self._seldom = folder, summarise, Seldom(self._write)

    def __call__(self) -> None:
        self._seldom()

    def _write(self) -> None:
        try:
            if self._summarise:
                self._summarise(self._folder)
        except Exception as error:  # a page that is written again at the end must not end hours of work
            say(f"note: summary.md waits for more of the run ({error!r})")
