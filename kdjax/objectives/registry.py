"""The registry of objectives: how one is added, and named in a text."""

import itertools
import math
import re

from kdjax.errors import BadInput, require, require_known, require_new, require_temperature
from kdjax.objectives.objective import Objective, Parameter

OBJECTIVES: dict[str, Objective] = {}
"""By name; `register` adds to it."""


def register(objective: Objective) -> None:
    """Adds an objective. Raises BadInput: there is one of that name."""
    require_new("objective", objective.name, OBJECTIVES)
    OBJECTIVES[objective.name] = objective


def parse(text: str) -> Objective:
    """The objective that a text names: `NAME` or `NAME(PARAMETER=NUMBER,…)`; parameters left out have their defaults.

    Raises BadInput: there is no such objective or parameter; a value is missing, not a number, or out of its bounds.
    """
    found = parse_each(text)
    require(len(found) == 1, f"the objective {text} has several values: one is allowed here")
    return found[0]


def parse_each(text: str) -> tuple[Objective, ...]:
    """The objectives that a text names in which a parameter may have several values: `NAME(PARAMETER=1|2|4)`. Raises
    BadInput as `parse`."""
    found = re.fullmatch(r"\s*([^()\s]+)\s*(?:\((.*)\))?\s*", text)
    if found is None:
        raise BadInput(f"--objectives {text!r} is not understood: write NAME or NAME(PARAMETER=NUMBER,…)")
    name, inside = found[1], found[2] or ""
    require_known("objectives", name, OBJECTIVES)
    objective = OBJECTIVES[name]
    given: dict[str, str] = {}
    for part in filter(None, map(str.strip, inside.split(","))):
        key, equals, value = map(str.strip, part.partition("="))
        require(equals and value, f"--objectives {text}: {part} is not understood: write PARAMETER=NUMBER")
        known = [one.name for one in objective.parameters]
        has = f"it has {', '.join(known) or 'none'}"
        require(key in known, f"--objectives {text}: {name} has no parameter {key}: {has}")
        require(key not in given, f"--objectives {text}: {key} is given twice")
        given[key] = value
    choices = [
        [_value(text, one, each.strip()) for each in given[one.name].split("|")] if one.name in given else [one.default]
        for one in objective.parameters
    ]
    count = math.prod(map(len, choices))
    require(count <= 1000, f"the objective {name} has {count:,} values in all: it has up to 1,000 at a time")
    each = tuple(objective._replace(values=values) for values in itertools.product(*choices))
    _ = each[0].hyperparameters  # one without a default is asked for
    twice = f"--objectives {text} gives a value twice: give each once"
    require(len({str(one) for one in each}) == len(each), twice)
    return each


def _value(text: str, parameter: Parameter, given: str) -> float:
    try:
        value = {"true": 1.0, "false": 0.0}.get(given.lower()) if parameter.whole else None
        value = float(given) if value is None else value
    except ValueError:
        value = math.nan
    if parameter.temperature and not math.isnan(value):
        require_temperature(f"objectives {text}: {parameter.name}", value)
        return value
    fits = math.isfinite(value) and parameter.least <= value <= parameter.most
    kind = "a whole number" if parameter.whole else "a finite number"
    bounds = [f"{parameter.least:g} or more"] if parameter.least > -math.inf else []
    bounds += [f"{parameter.most:g} or less"] if parameter.most < math.inf else []
    allowed = ", ".join([f"it is {kind}", *bounds])
    whole = not parameter.whole or value == round(value)
    require(fits and whole, f"--objectives {text}: {parameter.name}={given} is not allowed: {allowed}")
    return value


def words_of(text: str) -> str:
    """An objective in words, with its hyper-parameters; by its name where the file that registers it is not loaded."""
    if registered(text) is None:
        return text
    objective = parse(text)
    return objective.words + str(objective).removeprefix(objective.name).replace("(", " (")


def is_compared(text: str) -> bool:
    """Whether an objective is compared with hard labels: it is neither these, nor a baseline, nor a control."""
    entry = registered(text)
    return text != "hard" and not (entry and (entry.baseline or entry.control))


def is_baseline(text: str) -> bool:
    """Whether a verdict compares distillation with this objective, as it does with hard labels, which are none."""
    entry = registered(text)
    return entry is not None and entry.baseline


def registered(text: str) -> Objective | None:
    """What is registered under the name in a text; None: the file that does so is not loaded."""
    return OBJECTIVES.get(text.partition("(")[0])
