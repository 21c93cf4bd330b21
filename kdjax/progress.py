"""What is said while work goes on, by the logger `kdjax`; progress is a live line on a terminal, else a plain line now
and then.

`logging.getLogger("kdjax").setLevel(logging.WARNING)` leaves the warnings alone.
"""

import logging
import math
import sys
import time
from typing import Any

PLAIN_SECONDS = 10.0
"""Seconds between lines where there is no terminal."""
TITLE_WIDTH, BAR_WIDTH = 36, 20
"""Characters of a terminal's line, at most: of the title with its part, and of the bar."""


class _StandardError(logging.Handler):
    """Writes to what is standard error at that time: a notebook, a live line or a test may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " * (record.levelno >= logging.WARNING)
        sys.stderr.write(f"{prefix}{record.getMessage()}\n")  # in one call: blocks on other devices write lines, too
        sys.stderr.flush()


logger = logging.getLogger("kdjax")
logger.setLevel(logger.level or logging.INFO)
logger.addHandler(_StandardError())
logger.propagate = False  # else what a program's own handler writes would be there twice


class Progress:
    """Use as a context: `update` shows how far the work is."""

    def __init__(self, title: str, total: int):
        self._title, self._total, self._live = title, total, None
        self._start, self._resumed, self._shown = math.nan, 0, -math.inf
        if sys.stderr.isatty() and logger.isEnabledFor(logging.INFO):
            from rich import progress
            from rich.console import Console
            from rich.table import Column

            def words(text: str, **column: Any) -> progress.TextColumn:
                fitted = Column(no_wrap=True, overflow="ellipsis", **column)
                return progress.TextColumn(text, markup=False, table_column=fitted)

            # What is left of the line is the note's: it loses its end before the bar and the time lose anything.
            first, last = words("{task.description}", max_width=TITLE_WIDTH), words("{task.fields[note]}", ratio=1)
            columns: Any = (first, progress.BarColumn(BAR_WIDTH), progress.TimeRemainingColumn(), words("left"), last)
            self._live = progress.Progress(*columns, console=Console(stderr=True), transient=True, expand=True)
            self._task = self._live.add_task(title, total=total, note="")

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def resumed(self, steps: int) -> None:
        """Adds steps that were completed before a resume: the speed is measured from here on."""
        self._resumed += steps
        if math.isnan(self._start):
            self._start = time.monotonic()
        if self._live:  # which takes its speed from the last half minute
            self._live.reset(self._task, completed=self._resumed)

    def update(self, done: int, note: str, part: str = "") -> None:
        """Shows that `done` of the total is done, with a note (current errors, say); on a terminal also which part is
        under way, such as `block 3 of 18`. Without `resumed`, the first call sets the baseline: part of it may have
        been done before, and the rest was slowed down by compiling."""
        if math.isnan(self._start):
            self.resumed(done)
        now = time.monotonic()
        if self._live:
            title = ", ".join(filter(None, [self._title, part]))
            self._live.update(self._task, completed=done, note=note, description=title)
        elif now - self._shown >= PLAIN_SECONDS:
            self._shown, here, left = now, done - self._resumed, ""
            if here > self._total / 100:
                left = f", {clock((now - self._start) * (self._total - done) / here)} left"
            say(f"{self._title}: {100 * done / self._total:.0f} %{left}; {note}")


def say(line: str) -> None:
    """Says how work goes on: a line of the log."""
    logger.info(line)


def warn(line: str) -> None:
    """Warns of what may be a mistake, or is not as it was asked for."""
    logger.warning(line)


def clock(seconds: float) -> str:
    """Seconds as people write them: 45 s, 3 min 20 s, 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count_of(number_of: int, noun: str) -> str:
    """A count with its noun: `1 seed`, `3,000 seeds`."""
    return f"{number_of:,} {noun}{'' if number_of == 1 else 's'}"
