"""From `my_module:my_loss` to something that can be asked."""

import ast
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from analysis.checking import frameworks
from analysis.checking.cases import ORDINARY, Case
from analysis.checking.frameworks import Answer, Framework
from kdjax.errors import BadInput, require, suggest

ROLES = ("student", "teacher", "temperature", "labels")
NAMES = {
    "teacher": r".*teacher.*|v|[zyv]_t|logits_t|t_logits|tea\w*",  # before the student's, which has pred\w*
    "student": r".*student.*|z|s|[zys]_s|logits_s|s_logits|stu\w*|y_pred|inputs?|pred\w*|outputs?",
    "temperature": r"temp\w*|tau|\w+_temp(erature)?|kd_t",
    "labels": r"labels?|y|ground_truth|hard_(labels?|targets?|y|gt|classes)",
}
"""Names of parameters, in lower case, by what they take."""
EITHER = r"targets?|y_true|t"
"""The teacher where there is no other, else labels (`t`: T)."""


class Loss(NamedTuple):
    """A loss that can be asked."""

    framework: Framework
    call: Callable[..., Any]
    """(student, teacher, temperature, labels) → what it gives."""
    words: str
    """The call, as text."""
    roles: frozenset[str]
    """What it takes, of `ROLES`."""
    precise: bool = True
    """Whether it can be asked in float64."""
    own_temperature: float = 1.0
    """The T assumed for a loss that takes none."""
    taken: str = ""
    """Which parameter is taken for which network; empty where `--call` says so."""

    def asked(self, case: Case) -> Case:
        """The case as the loss is asked about it: at its own T, where it takes none."""
        return case if "temperature" in self.roles else case._replace(temperature=self.own_temperature)

    def ask(self, case: Case, precise: bool = True) -> Answer:
        """Its value and gradient. Raises BadInput: it raises, or gives something else than a number for the batch or
        for each example."""
        case, shape = self.asked(case), case.student.shape
        try:
            answer = self.framework.ask(self.call, case, precise and self.precise)
        except frameworks.WrongResult as wrong:
            raise BadInput(f"{self.words}, asked with logits of shape {list(shape)}, gives {wrong}") from wrong
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split()) or "no message"
            what = f"{self.words} raises {type(error).__name__} for {self.framework.name} logits of shape {list(shape)}"
            raise BadInput(f"{what}: {reason[:300]}. If it is called otherwise, say how with --call") from error
        return answer


def load(text: str, call: str = "") -> Loss:
    """The loss that `MODULE:NAME` or `FILE.py:NAME` names. Raises BadInput: there is none, it cannot be imported, it
    is not clear how it is called, or asking it fails."""
    if importlib.util.find_spec("tensorflow") is None:
        os.environ.setdefault("KERAS_BACKEND", "jax")  # Keras' own default cannot be had
    where, _, name = text.rpartition(":")
    module = _module(where)
    target = vars(module).get(name, getattr(module, name, None))
    if not callable(target):
        there = [key for key, value in vars(module).items() if callable(value)]
        raise BadInput(f"{where} has no function or class {name}{suggest(name, there)}")
    asked, words, by_name, roles = _caller(name, target, call)
    taken = ", ".join(f"{one} for the {role}" for one, role in by_name.items() if role in ("student", "teacher"))
    failures = []
    for framework in frameworks.named_in(_sources(module, target)):
        for precise in (True, False):
            loss = Loss(framework, asked, words, roles, precise, taken=taken)
            try:
                loss.ask(ORDINARY[0])
            except BadInput as error:
                failures.append(error)
            else:
                return loss
    raise failures[0]


def _module(where: str) -> ModuleType:
    path = Path(where)
    from_file = where.endswith(".py")
    require(not from_file or path.is_file(), f"{where} is no file: write FILE.py:NAME, or MODULE:NAME")
    folder = str(path.resolve().parent if from_file else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as Python does for a script: its neighbours can be imported
    try:
        if not from_file:
            return importlib.import_module(where)
        spec = importlib.util.spec_from_file_location(f"checked_{path.stem}", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module  # where its dataclasses look for it
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or "no message"
        raise BadInput(f"{where} cannot be imported: {type(error).__name__}: {reason[:300]}") from error


def _sources(module: ModuleType, target: Any) -> set[str]:
    """The packages that the module, and the one where the loss is defined, import or belong to; where none of these is
    a framework, those of the modules that these import, and so on, but for installed ones."""
    level = [module, sys.modules.get(getattr(target, "__module__", None) or "", module)]
    found = {one.__name__ for one in level}
    while level:
        imported = {name for one in level for name in _imports(one)} - found
        found |= imported
        packages = {name.partition(".")[0] for name in found}
        if frameworks.named_in(packages) != [frameworks.NUMPY]:
            break
        level = [sys.modules[name] for name in imported if name in sys.modules and not _is_installed(sys.modules[name])]
    return packages


def _is_installed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None) or ""
    return module.__name__.partition(".")[0] in sys.stdlib_module_names or "site-packages" in Path(file).parts


def _imports(module: ModuleType) -> set[str]:
    """The names of the modules that a file of Python imports; none of what is compiled."""
    file, found = getattr(module, "__file__", None), set[str]()
    if file and file.endswith(".py"):
        for node in ast.walk(ast.parse(Path(file).read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                name = "." * node.level + (node.module or "")
                name = importlib.util.resolve_name(name, module.__package__) if node.level else name
                found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
    return found


def _caller(name: str, target: Any, template: str) -> tuple[Callable[..., Any], str, Mapping[str, str], frozenset[str]]:
    """How it is called: a function of the roles, the call as text, what each parameter takes (nothing where the
    template says it), and the roles that are used."""
    made = inspect.isclass(target)
    of_init = _parameters(target.__init__) if made else []
    given = _roles(name, of_init)
    at = next((parameter for parameter, role in given.items() if role == "temperature" or parameter == "t"), None)
    make = (lambda temperature: target(**({at: temperature} if at else {}))) if made else (lambda temperature: target)
    words = f"{name}({f'{at}=T' if at else ''})" if made else name
    further = [one.name for one in of_init if one.default is inspect.Parameter.empty and one.name != at]
    remedy = "write a function of (student, teacher, T) that makes and calls it, and name that"
    require(not further, f"{name} is made from {', '.join(further)} too: {remedy}")
    by_name: Mapping[str, str] = {}
    if template:
        code = re.sub(r"\{(student|teacher|temperature|labels)\}", r"\1", template)
        roles = {role for role in ROLES if f"{{{role}}}" in template}
        arguments = template
        try:
            compiled = compile(f"loss({code})", "--call", "eval")
        except SyntaxError as error:
            raise BadInput(f"--call {template!r} is not understood: write arguments, as in a call") from error

        def call(**values: Any) -> Any:
            return eval(compiled, {"loss": make(values["temperature"]), **values})

    else:
        method = next((getattr(target, one) for one in ("forward", "call") if hasattr(target, one)), target)
        method = target.__call__ if made and method is target else method
        by_name = _named(name, _parameters(method), at is not None)
        roles, arguments = set(by_name.values()), ", ".join(by_name)

        def call(**values: Any) -> Any:
            return make(values["temperature"])(**{parameter: values[role] for parameter, role in by_name.items()})

    require(
        {"student", "teacher"} <= roles, f"--call {template!r} is not allowed: it names {{student}} and {{teacher}}"
    )
    return call, f"{words}({arguments})", by_name, frozenset(roles | ({"temperature"} if at else set()))


def _parameters(function: Any) -> list[inspect.Parameter]:
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one for one in found if one.kind in named and one.name != "self"]


def _roles(name: str, parameters: list[inspect.Parameter]) -> dict[str, str]:
    """What each parameter takes, as far as its name tells."""
    found: dict[str, str] = {}
    names = {one.name.lower() for one in parameters}
    for one in sorted(parameters, key=lambda one: one.name == "y"):  # `labels` says more
        name = one.name.lower()
        role = next((role for role, known in NAMES.items() if re.fullmatch(known, name)), None)
        if name[-2:] in ("_s", "_t") and {f"{name[:-2]}_s", f"{name[:-2]}_t"} <= names:
            role = "student" if name.endswith("_s") else "teacher"
        role = "temperature" if one.name == "T" else role
        if role and role not in found.values():
            found[one.name] = role
    for one in parameters:
        if one.name not in found and re.fullmatch(EITHER, one.name):
            role = "teacher" if "teacher" not in found.values() else "temperature" if one.name == "t" else "labels"
            if role not in found.values():
                found[one.name] = role
    return found


def _named(name: str, parameters: list[inspect.Parameter], has_temperature: bool) -> Mapping[str, str]:
    """The parameters that are given, in their order, and what they take."""
    found = _roles(name, parameters)
    required = [one.name for one in parameters if one.default is inspect.Parameter.empty]
    if not {"student", "teacher"} <= set(found.values()):
        known = {parameter: role for parameter, role in found.items() if len(parameter) > 1 or parameter == "T"}
        missing = {"student", "teacher"} - set(known.values())
        if len(known) + len(missing) > len(parameters):  # what is called labels has to be one of them
            known = {parameter: role for parameter, role in known.items() if role != "labels"}
        elif found.get("y") == "labels" and len(known) + len(missing) < len(parameters):
            known["y"] = "labels"
        others = [one.name for one in parameters if one.name not in known]
        count = max(len(missing), min(len(required), 2 if has_temperature else 3) - len(known))
        left = [role for role in ROLES if role not in known.values()]
        found = known | dict(zip(others[:count], left, strict=False))
    unknown = [one for one in required if one not in found]
    said = f"{name} takes {', '.join(one.name for one in parameters) or 'no argument that has a name'}"
    require(len(found) >= 2 and not unknown, f'{said}: say with --call which is what, as "{{student}}, {{teacher}}"')
    return {one.name: found[one.name] for one in parameters if one.name in found}
