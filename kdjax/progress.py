"""Progress of long work: a live line on a terminal, plain lines now and then in a log."""

import sys
import time
from types import TracebackType

PLAIN_SECONDS = 10.0
"""Seconds between lines where there is no terminal."""


class Progress:
    """Use as a context: `update` shows how far the work is."""

    def __init__(self, title: str, total: int):
        self._title, self._total, self._started = title, total, time.monotonic()
        self._shown, self._first, self._live = -PLAIN_SECONDS, 0, None
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

    def start_at(self, done: int) -> None:
        """Work that was found done: it does not count towards the speed."""
        self._first = done
        if self._live:
            self._live.update(self._task, completed=done)

    def update(self, done: int, note: str) -> None:
        """Shows that `done` of the total is done, with a note (current errors, say)."""
        if self._live:
            self._live.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self._started - self._shown < PLAIN_SECONDS:
            return
        self._shown = now - self._started
        left = ""
        if done - self._first > self._total / 50:  # earlier, compilation is most of the time
            left = f", {clock(self._shown * (self._total - done) / (done - self._first))} left"
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
