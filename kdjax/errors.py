"""Input validation: one error for what a user gave, and the checks that raise it."""

import difflib
import math
import struct
from collections.abc import Collection, Iterable


class BadInput(Exception):
    """Something the user gave cannot be used. One line: what was wrong, what is allowed, what to do.

    The command line prints it without a traceback and ends with exit code 2.
    """


def require(condition: object, message: str) -> None:
    """Raises `BadInput(message)` unless `condition` holds."""
    if not condition:
        raise BadInput(message)


def require_distinct(name: str, values: Iterable[float]) -> None:
    """Refuses a grid that is empty or repeats a value: each point of a grid is trained once."""
    values = list(values)
    require(values, f"--{name} is empty: give at least one value")
    kept = [as_float32(value) for value in values]
    repeated = sorted({value for value, single in zip(values, kept, strict=True) if kept.count(single) > 1})
    listed = ", ".join(f"{value:.12g}" for value in repeated)
    require(not repeated, f"--{name} repeats {listed}: give each value once (they are float32: about 7 digits)")


def as_float32(value: float) -> float:
    """The value as a float32 holds it; inf where it is too large."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def require_temperature(name: str, value: float) -> None:
    """Refuses what is no temperature that a float32 can hold: a number from 1.2e-38 to 3.4e38, or inf."""
    held = value == math.inf or (1.2e-38 <= value <= 3.4e38)
    require(
        held,
        f"--{name} {value:g} is not allowed: a temperature is a number above 0, or inf (T²·KL vanishes at 0; a "
        "float32 holds 1.2e-38 to 3.4e38)",
    )


def require_positive(name: str, value: float, unit: str = "") -> None:
    """Refuses a value that is not a positive finite number."""
    require(
        value > 0 and math.isfinite(value),
        f"--{name} {value:g} is not allowed: it is a positive finite number{f' of {unit}' if unit else ''}",
    )


def require_name(name: str | None) -> None:
    """Refuses what cannot name one folder; None is the default name."""
    require(
        name is None or (name and "/" not in name and not name.startswith(".")),
        f"--name {name!r} is not allowed: it is the name of one folder",
    )


def require_known(option: str, name: str, known: Collection[str]) -> None:
    """Refuses a name that is not registered, and suggests the nearest."""
    nearest = difflib.get_close_matches(name.lower(), known, n=1)
    meant = f"; did you mean {nearest[0]}?" if nearest else ""
    require(name in known, f"--{option} {name} is unknown: there are {', '.join(known)}{meant}")
