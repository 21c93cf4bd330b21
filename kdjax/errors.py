"""Input validation: one error for what a user gave, and the checks that raise it."""

import collections
import ctypes
import difflib
import math
from collections.abc import Collection, Iterable
from typing import Any


class BadInput(Exception):
    """Something the user gave cannot be used. One line: what was wrong, what is allowed, what to do. The command line
    prints it without a traceback and ends with exit code 2."""


def require(condition: object, message: str) -> None:
    """Raises `BadInput(message)` unless `condition` holds."""
    if not condition:
        raise BadInput(message)


def require_option(condition: object, option: str, value: Any, allowed: str) -> None:
    """Raises `BadInput("--OPTION VALUE is not allowed: ALLOWED")` unless `condition` holds."""
    shown = f"{value:.12g}" if isinstance(value, float) else value
    require(condition, f"--{option} {shown} is not allowed: {allowed}")


def require_count(option: str, value: float | None, unit: str, least: int = 1, most: int | None = None) -> None:
    """Refuses a number of `unit` below `least` or above `most`; None is the option's default."""
    limits = f"{least} or more" if most is None else f"{least} to {most:,}"
    allowed = value is None or least <= value <= (math.inf if most is None else most)
    require_option(allowed, option, value, f"it is a number of {unit}, {limits}")


def require_distinct(option: str, values: Iterable[float]) -> None:
    """Refuses a grid that is empty or repeats a value: each point of a grid is trained once."""
    values = list(values)
    require(values, f"--{option} is empty: give at least one value")
    singles = [ctypes.c_float(max(-4e38, min(value, 4e38))).value for value in values]  # beyond 3.4e38: ±inf
    counts = collections.Counter(singles)
    repeated = sorted({value for value, single in zip(values, singles, strict=True) if counts[single] > 1})
    listed = ", ".join(f"{value:.12g}" for value in repeated)
    require(not repeated, f"--{option} repeats {listed}: give each value once (they are float32: about 7 digits)")


def require_temperature(option: str, value: float) -> None:
    """Refuses what is no temperature that a float32 can hold: a number from 1.2e-38 to 3.4e38, or inf."""
    allowed = "a temperature is a number above 0, or inf (T²·KL vanishes at 0; a float32 holds 1.2e-38 to 3.4e38)"
    require_option(value == math.inf or 1.2e-38 <= value <= 3.4e38, option, float(value), allowed)


def require_positive(option: str, value: float) -> None:
    """Refuses a value that is not a positive finite number, or that a float32 cannot hold."""
    allowed = "it is a positive finite number (a float32 holds 1.2e-38 to 3.4e38)"
    require_option(1.2e-38 <= value <= 3.4e38, option, float(value), allowed)


def require_soft_weight(option: str, value: float, otherwise: str) -> None:
    """Refuses what is no weight of the soft term in (0, 1], or is 0 as a float32; `otherwise` says what 0 is called."""
    allowed = f"it lies in (0, 1] (a float32 holds 1.2e-38 or more); {otherwise}"
    require_option(1.2e-38 <= value <= 1, option, float(value), allowed)


def require_name(name: str | None) -> None:
    """Refuses what cannot name one folder, or cannot be printed on one line; None is the default name."""
    plain = name is None or (name.strip() and "/" not in name and not name.startswith(".") and name.isprintable())
    fits = plain and name != "sweeps" and len((name or "").encode(errors="replace")) <= 200
    allowed = "it is the name of one folder, of signs that can be printed, up to 200 bytes; sweeps are those of tables"
    require_option(fits, "name", ascii(name), allowed)


def require_new(kind: str, name: str, known: Collection[str]) -> None:
    """Refuses to register a second entry under a name: runs are found again by it."""
    require(name not in known, f"the {kind} {name} is registered already: give yours another name")


def require_known(option: str, name: str, known: Collection[str], otherwise: str = "") -> None:
    """Refuses a name that is not registered, and suggests the nearest; `otherwise` ends the message."""
    there = f"there are {', '.join(known)}{suggest(name.lower(), known)}{otherwise}"
    require(name in known, f"--{option} {name} is unknown: {there}")


def suggest(name: str, known: Collection[str]) -> str:
    """The end of a message on a name that is not known: the nearest that is; empty where none is near."""
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def name_rows(rows: Any, most: int = 5) -> str:
    """Row numbers, counted from 0, for a sentence: `row 3`; `rows 3 and 7`; `rows 0, 1, 2, 3, 4 and 9 more`."""
    shown, more = [f"{row:,}" for row in rows[:most]], len(rows) - most
    shown += [f"{more:,} more"] if more > 0 else []
    words = f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)
    return f"row{'s' * (len(rows) > 1)} {words}"
