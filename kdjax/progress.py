"""Progress of long work: a live line on a terminal, plain lines now and then in a log."""

import math
import sys
import time
from types import TracebackType

PLAIN_SECONDS = 10.0
"""Seconds between lines where there is no terminal."""


class Progress:
    """Use as a context: `update` shows how far the work is."""

    def __init__(self, title: str, total: int):
        self._title, self._total, self._live = title, total, None
        self._start, self._resumed = math.nan, 0
        self._shown = -math.inf
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Live

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._live = Live(*columns, console=Console(stderr=True), transient=True)
            self._task = self._live.add_task(title, total=total, note="")

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def resumed(self, more: int) -> None:
        """Marks work that was completed before a resume: the speed is measured from here on."""
        self._resumed += more
        if math.isnan(self._start):
            self._start = time.monotonic()
        if self._live:  # which takes its speed from the last half minute
            self._live.reset(self._task, completed=self._resumed)

    def update(self, done: int, note: str) -> None:
        """Shows that `done` of the total is done, with a note (current errors, say).

        Without `resumed`, the first call sets the baseline: part of it may have been done before, and the rest was
        slowed down by compiling.
        """
        if math.isnan(self._start):
            self.resumed(done)
        now = time.monotonic()
        if self._live:
            self._live.update(self._task, completed=done, note=note)
            return
        if now - self._shown < PLAIN_SECONDS:
            return
        self._shown = now
        left = ""
        if done - self._resumed > self._total / 100:
            left = f", {clock((now - self._start) * (self._total - done) / (done - self._resumed))} left"
        say(f"{self._title}: {100 * done / self._total:.0f} %{left}; {note}")


def say(line: str) -> None:
    """Prints a line of the log."""
    sys.stderr.write(f"{line}\n")  # at once: blocks on other devices speak, too
    sys.stderr.flush()


def clock(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
