"""The options of a command: the fields of its config class, in groups, as tyro shows and reads them.

tyro's groups are nested dataclasses. Here the fields of a config class stand side by side; `GROUPS` in the class says
which belong together, and what tyro sees is made of both. A field's docstring is its help, its default stands behind
it, or in it as "(default: …)".
"""

import dataclasses
import functools
import re
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import docstring_parser
import tyro

from kdjax.errors import require

DEFAULT = re.compile(r" \(default: (?:[^()]|\([^()]*\))*\)")
"""A default in an option's words."""


class Option(NamedTuple):
    """A field of a config class, or of one that is nested in it."""

    path: tuple[str, ...]
    """The names of the fields that lead to it."""
    name: str
    """As it is typed, but for the dashes, with underscores for hyphens."""
    group: str
    """Empty where it belongs to none."""
    hint: Any
    """Its type, as it is annotated."""
    words: str
    default: Any

    @property
    def is_open(self) -> bool:
        """`bool | None`: a flag that may be left open, which tyro does not know."""
        return set(typing.get_args(self.hint)) == {bool, types.NoneType}

    @property
    def flag(self) -> str:
        """As it is typed."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def negation(self) -> str:
        """What turns it off, where it is a yes or no."""
        return f"--no-{self.flag[2:]}"

    def times_given(self, arguments: Sequence[str]) -> int:
        """How often the flag is among the arguments."""
        typed = [argument.partition("=")[0].replace("_", "-") for argument in arguments]
        return typed.count(self.flag) + typed.count(self.negation)

    @property
    def typed(self) -> str:
        """The flag with its default, as a user would give it."""
        if isinstance(self.default, bool):
            return self.flag if self.default else self.negation
        return self.flag if self.default == () else f"{self.flag} {_shown(self.default)}"


def parse(config: Any, prog: str, arguments: Sequence[str]) -> Any:
    """The config that the arguments make of `config`, which holds where they say nothing.

    Raises what its class raises for values that it does not allow, and BadInput: an option of several values, none by
    default, is given without a value. Arguments that do not parse end the process, and so does `--help`.
    """
    options = sorted_options(config)
    words, width = " ".join(typing.cast(str, type(config).__doc__).split()), shutil.get_terminal_size().columns - 2
    # tyro joins lines, but for those that begin with something else than a letter.
    description = "\n".join(f" {line}" for line in textwrap.wrap(words, width, break_on_hyphens=False))
    found: Any = tyro.cli(_form(config), prog=prog, args=list(arguments), description=description)
    values: dict[tuple[str, ...], Any] = {}
    for option in options:
        group = getattr(found, option.group) if option.group else found
        values[option.path] = getattr(group, "_".join(option.path))
        if option.is_open and not option.times_given(arguments):
            values[option.path] = option.default
        changes_nothing = values[option.path] == option.default == () and option.times_given(arguments)
        remedy = "give one or more after it, or leave it out"
        require(not changes_nothing, f"{option.flag} is given without a value: {remedy}")
    return _filled(config, values)


def options_of(config: Any, path: tuple[str, ...] = (), prefix: str = "", group: str = "") -> Iterator[Option]:
    """Every option of a config. A nested config is a group; its options have its name before theirs, but where it is
    annotated with `tyro.conf.OmitArgPrefixes`."""
    hints, words = typing.get_type_hints(type(config), include_extras=True), docstrings(type(config))
    groups = {name: title for title, names in getattr(config, "GROUPS", {}).items() for name in names}
    for field in dataclasses.fields(config):
        name, value = field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat = tyro.conf.OmitArgPrefixes in typing.get_args(hints[name])
            yield from options_of(value, (*path, name), prefix if flat else f"{prefix}{name}.", name)
        else:
            title, said = groups.get(name, group), words.get(name, "")
            own = field.default_factory() if callable(field.default_factory) else field.default
            said = said if value == own else DEFAULT.sub("", said)  # a preset has changed it
            yield Option((*path, name), prefix + name, title, hints[name], said, value)


@functools.cache
def sorted_options(config: Any) -> list[Option]:
    """Every option, as `--help` lists them: first what is in no group, then the groups as `GROUPS` names them."""
    groups = getattr(config, "GROUPS", {})
    titles = ["", *groups]

    def place(option: Option) -> tuple[int, int]:
        names, last = groups.get(option.group, ()), option.path[-1]
        return (
            titles.index(option.group) if option.group in titles else len(titles),
            names.index(last) if len(option.path) == 1 and last in names else len(names),
        )

    return sorted(options_of(config), key=place)


def docstrings(config_class: type) -> dict[str, str]:
    """The docstring of each field of a class, on one line; a subclass may give a field another."""
    found: dict[str, str] = {}
    for each in reversed(config_class.__mro__[:-1]):
        params = docstring_parser.parse_from_object(each).params
        found |= {param.arg_name: " ".join(param.description.split()) for param in params if param.description}
    return found


@functools.cache
def _form(config: Any) -> type:
    """A dataclass of a config's options, those of a group in a dataclass of its own."""
    words = docstrings(type(config))
    groups: dict[str, list[Any]] = {}
    for option in sorted_options(config):
        field = dataclasses.field(default=bool(option.default) if option.is_open else option.default)
        groups.setdefault(option.group, []).append(("_".join(option.path), _annotated(option), field))
    fields = groups.pop("", [])
    for title, of_group in groups.items():
        nested = dataclasses.make_dataclass(title, of_group, frozen=True)
        named = tyro.conf.arg(name=title.replace("_", " "), help=words.get(title, ""))
        hint = Annotated[nested, tyro.conf.OmitArgPrefixes, named]  # type: ignore[valid-type]
        fields.append((title, hint, dataclasses.field(default_factory=nested)))
    return dataclasses.make_dataclass("Options", fields, frozen=True)


def _annotated(option: Option) -> Any:
    """The type of an option with its name, its metavariable, and its words with one default."""
    said = DEFAULT.search(option.words)
    named = tyro.conf.arg(
        name=option.name,
        metavar=_metavar(option),
        help=option.words,
        help_behavior_hint="" if said else f"(default: {_shown(option.default)})",
    )
    return Annotated[bool if option.is_open else option.hint, named]


def _metavar(option: Option) -> str | None:
    """What stands for its value: None where tyro's own does."""
    hint, *marks = typing.get_args(option.hint) if typing.get_origin(option.hint) is Annotated else [option.hint]
    kinds = [kind for kind in typing.get_args(hint) if kind not in (types.NoneType, ...)]
    if tyro.conf.Positional in marks:
        value = option.name.upper()
    elif option.is_open:
        return None
    elif typing.get_origin(hint) in (types.UnionType, typing.Union, tuple):
        choices = ",".join(map(str, typing.get_args(kinds[0])))
        value = f"{{{choices}}}" if choices else kinds[0].__name__.upper()
    else:
        return None
    value += " ..." if typing.get_origin(hint) is tuple else ""
    return f"[{value}]" if value.endswith("...") or tyro.conf.Positional in marks else value


def _shown(value: Any) -> str:
    """A default, as it would be typed; in a word where it cannot be."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return " ".join(map(_shown, value)) or "none"
    return "none" if value is None else str(value)


def _filled(config: Any, values: dict[tuple[str, ...], Any], path: tuple[str, ...] = ()) -> Any:
    """The config with these values, each class made once: its checks see them together."""
    changes = {}
    for field in dataclasses.fields(config):
        here, value = (*path, field.name), getattr(config, field.name)
        changes[field.name] = _filled(value, values, here) if dataclasses.is_dataclass(value) else values[here]
    return dataclasses.replace(config, **changes)
