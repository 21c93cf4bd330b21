"""The command line of every experiment: parsing, bad input → one message and exit code 2, signals, exit codes."""

import logging
import math
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeVar

from kdjax.config import BadInput

Config = TypeVar("Config")


class Terminated(BaseException):
    """SIGTERM came."""


def run(
    main: Callable[[Config], Any], config_class: type[Config], prog: str, argv: Sequence[str] | None = None
) -> NoReturn:
    """Parses the command line into `config_class`, calls `main` with it, and exits.

    Exit codes: 0; 2 for bad input, a full disk or a lost permission, with one message and no traceback; 130 after
    Ctrl-C and 143 after SIGTERM, saying how to go on.

    Args:
        main: the experiment.
        config_class: a frozen dataclass whose fields' docstrings are the help text.
        prog: the command as a user types it.
        argv: arguments, default those of the process.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("kdjax").setLevel(logging.INFO)
    arguments = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _terminate)
    # Python starts with SIGINT ignored where a shell put it in the background; a job must be stoppable there too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(parse(config_class, prog, arguments))
    except BadInput as error:
        _stop(f"error: {error}", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _stop(
            f"error: {where}{error.strerror or error}. What was written before is whole; {_again(prog, arguments)}", 2
        )
    except KeyboardInterrupt:
        _stop(f"stopped. What was finished is kept; {_again(prog, arguments)}", 130)
    except Terminated:
        _stop(f"terminated. What was finished is kept; {_again(prog, arguments)}", 143)
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


def _again(prog: str, arguments: Sequence[str]) -> str:
    return f"to go on, give the same command again: {prog} {shlex.join(arguments)}".rstrip()


def _stop(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
