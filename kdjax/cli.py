"""The command line of every experiment: parsing, bad input → one message and exit code 2, signals, exit codes."""

import contextlib
import io
import logging
import math
import os
import select
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeVar

from kdjax.config import BadInput

Config = TypeVar("Config")

GRACE_SECONDS = 4.0
"""From a signal to the end of the process, whatever it is doing."""
ENDINGS = {signal.SIGINT: "stopped", signal.SIGTERM: "terminated"}


class Stopped(BaseException):
    """SIGINT or SIGTERM, its argument, came."""


def run(
    main: Callable[[Config], Any], config_class: type[Config], prog: str, argv: Sequence[str] | None = None
) -> NoReturn:
    """Parses the command line into `config_class`, calls `main` with it, and exits.

    Exit codes: 0; 2 for bad input, a full disk, a lost permission or too little memory, with one message and no
    traceback; 130 after Ctrl-C and 143 after SIGTERM, within 5 s, saying how to go on; 141, in silence, where the
    reader of the output has gone (`| head`).

    Args:
        main: the experiment.
        config_class: a frozen dataclass whose fields' docstrings are the help text.
        prog: the command as a user types it.
        argv: arguments, default those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # With --fresh, the same command would throw away what it is to go on with.
    again = [prog, *(shlex.quote(argument) for argument in arguments if argument != "--fresh")]
    how_to_go_on = f"to go on, give the same command again: {' '.join(again)}"
    with _signals(how_to_go_on):
        try:
            _open_streams()
            try:
                main(parse(config_class, prog, arguments))
            finally:
                _flush()
        except BadInput as error:
            _stop(f"error: {error}", 2)
        except BrokenPipeError:
            _stop("", 128 + signal.SIGPIPE)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _stop(f"error: {where}{error.strerror or error}. What was written before is whole; {how_to_go_on}", 2)
        except MemoryError as error:
            _stop(f"error: not enough memory ({error}). What was written before is whole; ask for less at a time", 2)
    sys.exit(0)


def parse(config_class: type[Config], prog: str, arguments: Sequence[str]) -> Config:
    """The config that the arguments describe.

    Raises:
        BadInput: a value is not allowed. (What does not parse at all ends with exit code 2 here.)
    """
    import tyro

    for argument in arguments:
        _refuse_overflow(argument)
    return tyro.cli(config_class, prog=prog, args=list(arguments))


def _refuse_overflow(argument: str) -> None:
    # float("1e400") is inf, which is a temperature: but not the one that was asked for.
    try:
        value = float(argument.rpartition("=")[2])
    except ValueError:
        return
    if math.isinf(value) and "inf" not in argument.lower():
        raise BadInput(
            f"{argument} is too large for a floating-point number: the largest is 1.8e308; for infinity write inf"
        )


@contextlib.contextmanager
def _signals(how_to_go_on: str) -> Iterator[None]:
    """Ends the process after SIGINT or SIGTERM, with what is to be said then. A second one ends it at once.

    The handler raises `Stopped`, so that what is under way is left in order. But Python calls it between two of its own
    instructions: XLA, compiling, can hold that up for long, and what is raised inside some callbacks is lost. The signal's
    number, however, is written to a pipe at once, and a thread that reads there ends the process when time is up. Files are whole at any moment.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    told = threading.Lock()

    def tell(number: int) -> None:
        if told.acquire(blocking=False):
            _say(f"{ENDINGS[signal.Signals(number)]}. What was finished is kept; {how_to_go_on}")

    def watch() -> None:
        while (number := os.read(reader, 1)) and number[0] not in ENDINGS:
            pass
        if number:
            select.select([reader], [], [], GRACE_SECONDS)
            tell(number[0])
            os._exit(128 + number[0])
        os.close(reader)

    def stop(number: int, frame: FrameType | None) -> None:
        for each in ENDINGS:
            signal.signal(each, lambda number, frame: None)
        raise Stopped(number)

    # Python starts with SIGINT ignored where a shell put it in the background; a job must be stoppable there too.
    before = {each: signal.signal(each, stop) for each in ENDINGS}
    watched_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    stopped = False
    try:
        yield
    except Stopped as ending:
        stopped = True
        tell(ending.args[0])
        _stop("", 128 + ending.args[0])
    finally:
        if not stopped:  # else the thread watches on, lest something hold up the exit
            signal.set_wakeup_fd(watched_before)
            os.close(writer)
            for each, handler in before.items():
                signal.signal(each, handler)


def _open_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # hours of work mustn't end at a − that a locale lacks
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("kdjax").setLevel(logging.INFO)


def _flush() -> None:
    # Here, where an error can still be told, and not while the interpreter closes down.
    if sys.stdout is not None:
        sys.stdout.flush()


def _say(message: str) -> None:
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


def _stop(message: str, code: int) -> NoReturn:
    if message:
        _say(message)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:  # nobody reads it, or there is no room: Python would try again at exit, and say so
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
