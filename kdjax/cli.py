"""The command line of every experiment: parsing, bad input → one message and exit code 2, signals, exit codes."""

import contextlib
import dataclasses
import io
import itertools
import math
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from kdjax import environment
from kdjax.compilation_cache import persistent_cache
from kdjax.config import RunConfig
from kdjax.errors import BadInput, require
from kdjax.progress import warn

Config = TypeVar("Config")

ENDINGS = {signal.SIGINT: "stopped", signal.SIGTERM: "terminated"}
"""The first word of the message at a signal."""


def run(
    main: Callable[[Config], Any],
    config_class: type[Config],
    prog: str,
    argv: Sequence[str] | None = None,
    presets: Mapping[str, Config] | None = None,
) -> NoReturn:
    """Parses the command line into `config_class`, calls `main` with it, and exits.

    Exit codes: 0; 2 for bad input, a full disk, a lost permission or too little memory, with one message and no
    traceback; 130 after Ctrl-C and 143 after SIGTERM, saying how to resume; 141, in silence, where the reader of the
    output has gone (`| head`).

    Args:
        config_class: a frozen dataclass whose fields' docstrings are the help text.
        prog: the command as a user types it.
        presets: configs that `--preset NAME` starts from, the default first; other options change them.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # With --fresh, the same command would remove what it is to resume.
    words = [prog, *(shlex.quote(argument) for argument in arguments if argument != "--fresh")]
    how_to_resume = f"to resume, give the same command again: {' '.join(words)}"
    _replace_closed_streams()
    with _signals(how_to_resume), persistent_cache():
        try:
            _open_streams()
            try:
                config = parse(config_class, prog, arguments, presets)
                run = getattr(config, "run", None)
                environment.prepare(isinstance(run, RunConfig) and run.local_workers() > 0)
                main(config)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # here, where an error can still be reported
        except BadInput as error:
            _stop(f"error: {error}", 2)
        except BrokenPipeError:
            _stop("", 128 + signal.SIGPIPE)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _stop(f"error: {where}{error.strerror or error}. What was written before is whole; {how_to_resume}", 2)
        except (MemoryError, RuntimeError) as error:  # JAX's own is a RuntimeError
            if isinstance(error, RuntimeError) and not re.search("RESOURCE_EXHAUSTED|[Oo]ut of memory", str(error)):
                raise
            reason = str(error).splitlines()[0] if str(error) else "MemoryError"
            _stop(f"error: not enough memory ({reason}). What was written before is whole; ask for less at a time", 2)
    sys.exit(0)


def parse(
    config_class: type[Config], prog: str, arguments: Sequence[str], presets: Mapping[str, Config] | None = None
) -> Config:
    """The config that the arguments describe, from the preset that they name, if any. Raises BadInput: a value is not
    allowed. (Arguments that do not parse end the process with exit code 2.)"""
    from kdjax import options

    for argument in arguments:
        _refuse_undecodable(argument)
        _refuse_overflow(argument)
    if arguments[:1] == ["--tyro-print-completion"]:
        prog = prog.rpartition(".")[2]  # a shell completes what follows one word
    if _asks(config_class):
        import tyro

        parsed: Config = tyro.cli(config_class, prog=prog, args=list(arguments))
    else:
        preset = _preset(arguments, presets) if presets else config_class()
        for option in options.options_of(preset):
            if isinstance(option.default, tuple) and option.times_given(arguments) > 1:
                again = f"{option.flag} is given more than once, and the last holds"
                warn(f"{again}: give it once, with all values after it")
        try:
            parsed = options.parse(preset, prog, arguments)
        except BadInput as error:
            raise BadInput(f"{error}{_set_by_preset(str(error), preset, config_class(), arguments)}") from None
    for path in (Path.cwd(), *_paths(parsed)):  # some come from the environment
        _refuse_undecodable(path)
    return parsed


def _asks(config_class: type) -> bool:
    """Whether something has to be given, as a subcommand: there is no default config, whose options to group."""
    fields = dataclasses.fields(config_class)
    return any(field.default is field.default_factory is dataclasses.MISSING for field in fields)


def _preset(arguments: Sequence[str], presets: Mapping[str, Config]) -> Config:
    """The preset that the arguments name; where they name none, the first."""
    names = [argument.partition("=")[2] for argument in arguments if argument.startswith("--preset=")]
    names += [after for before, after in itertools.pairwise(arguments) if before == "--preset"]
    name = names[-1] if names else next(iter(presets))
    require(name in presets, f"--preset {name} is unknown: there are {', '.join(presets)}")
    return presets[name]


def _set_by_preset(message: str, preset: Any, usual: Any, arguments: Sequence[str]) -> str:
    """The end of a message that names options which the preset has set, and not the user."""
    from kdjax import options

    defaults = {option.path: option for option in options.options_of(usual)}
    said = [
        f"{option.typed}; the default is {defaults[option.path].typed}"
        for option in options.options_of(preset)
        if re.search(rf"{re.escape(option.flag)}(?![\w-])", message)
        and option.default != defaults[option.path].default
        and not option.times_given(arguments)
    ]
    return f" (--preset {preset.preset} sets {', '.join(said)})" if said else ""


def _paths(config: Any) -> Iterator[Path]:
    """The paths in a config and its groups."""
    for value in (getattr(config, field.name) for field in dataclasses.fields(config)):
        if dataclasses.is_dataclass(value):
            yield from _paths(value)
        else:
            yield from (item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Path))


def _refuse_undecodable(argument: str | Path) -> None:
    shown = ascii(str(argument))
    remedy = "rename it, or name it by a link; names of files and folders are written into the results"
    require(str(argument).isascii() or "\\udc" not in shown, f"{shown} is not valid UTF-8: {remedy}")


def _refuse_overflow(argument: str) -> None:
    # float("1e400") is inf, which is a temperature: but not the one that was written.
    if re.fullmatch(r"[0-9a-f]{12}|[0-9a-f]{16}|[0-9a-f]{64}", argument):  # the name of a teacher
        return
    number, largest = argument.rpartition("=")[2], "the largest is 1.8e308; for infinity write inf"
    with contextlib.suppress(ValueError):
        if math.isinf(float(number)) and "inf" not in number.lower():
            raise BadInput(f"{argument} is too large for a floating-point number: {largest}")


@contextlib.contextmanager
def _signals(how_to_resume: str) -> Iterator[None]:
    """Ends the process at SIGINT or SIGTERM, saying how to resume.

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
            _say(f"{cursor}{ENDINGS[signal.Signals(number[0])]}. Finished work is stored; {how_to_resume}")
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


def _replace_closed_streams() -> None:
    # Else the next file to be opened would be number 2, and JAX's warnings would be written into it.
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def _open_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a − that the locale lacks must not end hours of work


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
        except OSError:  # its reader is gone, or the disk is full: Python would flush again at exit, and fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
