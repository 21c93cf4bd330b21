"""The command line of every experiment: parsing, bad input → one message and exit code 2, signals, exit codes."""

import contextlib
import io
import itertools
import logging
import math
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from kdjax.compilation_cache import programs_kept
from kdjax.errors import BadInput

Config = TypeVar("Config")

ENDINGS = {signal.SIGINT: "stopped", signal.SIGTERM: "terminated"}
"""What is said at which signal."""


def run(
    main: Callable[[Config], Any],
    config_class: type[Config],
    prog: str,
    argv: Sequence[str] | None = None,
    presets: Mapping[str, Config] | None = None,
) -> NoReturn:
    """Parses the command line into `config_class`, calls `main` with it, and exits.

    Exit codes: 0; 2 for bad input, a full disk, a lost permission or too little memory, with one message and no
    traceback; 130 after Ctrl-C and 143 after SIGTERM, saying how to go on; 141, in silence, where the
    reader of the output has gone (`| head`).

    Args:
        main: the experiment.
        config_class: a frozen dataclass whose fields' docstrings are the help text.
        prog: the command as a user types it.
        argv: arguments, default those of the process.
        presets: whole settings that `--preset NAME` starts from, the default first; other options change them.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # With --fresh, the same command would throw away what it is to go on with.
    again = [prog, *(shlex.quote(argument) for argument in arguments if argument != "--fresh")]
    how_to_go_on = f"to go on, give the same command again: {' '.join(again)}"
    with _signals(how_to_go_on), programs_kept():
        try:
            _open_streams()
            try:
                main(parse(config_class, prog, arguments, presets))
            finally:
                _flush()
        except BadInput as error:
            _stop(f"error: {error}", 2)
        except BrokenPipeError:
            _stop("", 128 + signal.SIGPIPE)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _stop(f"error: {where}{error.strerror or error}. What was written before is whole; {how_to_go_on}", 2)
        except (MemoryError, RuntimeError) as error:  # JAX's own is a RuntimeError
            if isinstance(error, RuntimeError) and not re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", str(error)):
                raise
            reason = str(error).splitlines()[0] if str(error) else "MemoryError"
            _stop(f"error: not enough memory ({reason}). What was written before is whole; ask for less at a time", 2)
    sys.exit(0)


def parse(
    config_class: type[Config], prog: str, arguments: Sequence[str], presets: Mapping[str, Config] | None = None
) -> Config:
    """The config that the arguments describe, from the preset that they name, if any.

    Raises:
        BadInput: a value is not allowed. (What does not parse at all ends with exit code 2 here.)
    """
    import tyro

    for argument in arguments:
        _refuse_overflow(argument)
    preset: dict[str, Any] = {"default": _preset(arguments, presets)} if presets else {}
    return tyro.cli(config_class, prog=prog, args=list(arguments), **preset)


def _preset(arguments: Sequence[str], presets: Mapping[str, Config]) -> Config:
    """The preset that the arguments name; where they name none, the first."""
    named = [argument.partition("=")[2] for argument in arguments if argument.startswith("--preset=")]
    named += [after for before, after in itertools.pairwise(arguments) if before == "--preset"]
    if not named:
        return next(iter(presets.values()))
    if named[-1] not in presets:
        raise BadInput(f"--preset {named[-1]} is unknown: there are {', '.join(presets)}")
    return presets[named[-1]]


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
    """Ends the process at SIGINT or SIGTERM, saying how to go on.

    A thread does it, at once and without unwinding: files are whole at any moment, as they are for SIGKILL. A handler
    that raises an exception would wait for XLA to compile, be lost in some callbacks, and crash extension modules that
    are being imported.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while (number := os.read(reader, 1)) and number[0] not in ENDINGS:
            pass
        if number:
            cursor = "\r\x1b[K\x1b[?25h" if sys.stderr is not None and sys.stderr.isatty() else ""
            _say(f"{cursor}{ENDINGS[signal.Signals(number[0])]}. What was finished is kept; {how_to_go_on}")
            os._exit(128 + number[0])
        os.close(reader)

    # Python starts with SIGINT ignored where a shell put it in the background; a job must be stoppable there too.
    before = {number: signal.signal(number, lambda number, frame: None) for number in ENDINGS}
    woken_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # Python writes the signal's number there
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(woken_before)
        os.close(writer)
        for number, handler in before.items():
            signal.signal(number, handler)


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
