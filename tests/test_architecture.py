"""The arrows between the modules: experiments → analysis → kdjax, never backwards, and no circle anywhere."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("kdjax", "analysis", "experiments")
BELOW = {"arrays", "errors", "identity", "config", "files", "progress"}
"""What every module may use: they know nothing of networks or images."""
LEAVES = {
    *("exact", "models", "datasets", "transforms", "metrics", "checkpoints", "run_directory", "run_folders"),
    "provenance",
}
"""They know no other module but those below."""
ALLOWED = {
    "arrays": set(),
    "errors": set(),
    "identity": set(),
    "config": {"errors", "identity"},
    "files": {"errors"},
    "progress": set(),
    "intervals": {"errors"},
    "compilation": set(),
    "compilation_cache": BELOW,
    "environment": BELOW,
    "options": {"errors"},
    "cli": BELOW | {"compilation_cache", "environment", "options"},
    "layers": BELOW,
    **{leaf: BELOW for leaf in LEAVES},
    "losses": BELOW | {"exact"},
    "run_directory": BELOW | {"array_files", "run_folders"},
    "mistakes": BELOW | {"metrics"},
    "datasets": BELOW | {"array_files", "columns", "faults", "inputs", "logit_columns", "mistakes"},
    "models": BELOW | {"compilation", "layers"},
    "objectives": BELOW | {"exact", "losses"},
    "targets": BELOW,
    "optimizers": BELOW | {"models"},
    "train": BELOW | {"compilation", "objectives", "models", "optimizers", "transforms"},
    "evaluation": BELOW | {"compilation", "layers", "models", "transforms"},
    "blocks": BELOW | {"compilation", "evaluation", "layers", "objectives", "models", "optimizers", "train"},
    "batch_statistics": BELOW | {"compilation", "datasets", "evaluation", "models", "train"},
    "loop": BELOW | {"blocks", "compilation", "checkpoints", "objectives", "train"},
    "teachers": BELOW
    | {"blocks", "checkpoints", "compilation", "datasets", "evaluation", "loop", "metrics", "models", "objectives"}
    | {"provenance", "run_folders", "train", "transforms"},
    "transfer": BELOW | {"blocks", "compilation", "datasets", "targets", "teachers", "transforms"},
    "students": BELOW
    | {"blocks", "checkpoints", "compilation", "loop", "metrics", "models", "objectives", "targets", "transfer"},
    "examples": BELOW,
    "interim": BELOW | {"run_directory"},
    "earlier_blocks": BELOW | {"compilation_cache", "provenance", "run_directory", "transfer"},
    "scheduling": BELOW | {"blocks", "checkpoints", "run_directory", "students", "transfer"},
    "cluster": BELOW
    | {"compilation_cache", "earlier_blocks", "environment", "run_directory", "scheduling", "students", "transfer"},
    "memory": BELOW | {"blocks", "datasets", "models", "students"},
    "grids": BELOW | {"datasets", "objectives", "run_folders", "students", "transfer"},
    "sweep_checks": BELOW | {"compilation", "datasets", "models", "objectives", "students", "teachers", "transforms"},
    "sweep_teachers": BELOW
    | {"array_files", "datasets", "grids", "metrics", "models", "run_directory", "scheduling", "sweep_checks"}
    | {"teachers", "transfer"},
    "sweeps": BELOW
    | {"cluster", "datasets", "earlier_blocks", "examples", "grids", "interim", "memory", "objectives", "provenance"}
    | {"run_directory", "run_folders", "scheduling", "students", "sweep_checks", "sweep_teachers", "teachers"}
    | {"transfer"},
    "forecast": BELOW
    | {"checkpoints", "compilation", "datasets", "memory", "models", "run_directory", "students", "sweeps", "targets"}
    | {"teachers"},
    "trained": BELOW
    | {"array_files", "checkpoints", "datasets", "evaluation", "inputs", "models", "run_directory", "run_folders"},
    "exported": BELOW | {"trained"},
    "export": BELOW | {"cli", "exported", "listing", "run_folders", "trained"},
    "array_files": BELOW,
    "columns": BELOW | {"array_files"},
    "faults": BELOW,
    "inputs": BELOW | {"array_files", "faults"},
    "logit_columns": BELOW | {"columns", "faults", "inputs"},
    "distilled": BELOW | {"evaluation", "inputs", "intervals", "models", "objectives", "trained"},
    "distillation": BELOW
    | {"datasets", "distilled", "grids", "inputs", "mistakes", "models", "scheduling", "students", "transfer"},
    "omission": BELOW | {"datasets", "students", "transfer"},
    "bias": set(),
    "corrections": BELOW | {"bias", "omission", "run_directory", "students", "transfer"},
    "listing": BELOW | {"run_folders"},
    "__main__": BELOW | {"cli", "datasets", "listing", "run_folders"},
}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for package in PACKAGES for path in files(package)}


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, at whatever depth, for types alone too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules_of(names: set[str]) -> set[str]:
    """Our own modules among imported names: `kdjax.models.Model` is of `kdjax.models`."""
    found = {name if name in MODULES else name.rpartition(".")[0] for name in names}
    return {name for name in found if name in MODULES and name not in PACKAGES}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_there_is_no_circle_of_imports():
    assert circle({name: modules_of(imported(path)) - {name} for name, path in MODULES.items()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})  # it would be found


def room(path: Path) -> str:
    return path.stem if path.name == "__main__.py" else path.relative_to(ROOT / "kdjax").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", files("kdjax"), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_of_the_library(path):
    names = imported(path)
    assert not {name for name in names if name.split(".")[0] in ("experiments", "analysis", "tests")}
    if room(path) != "__init__":
        used = {name.split(".")[1] for name in names if name.startswith("kdjax.")} - {room(path)}
        assert used <= ALLOWED[room(path)], f"{room(path)} must not use {used - ALLOWED[room(path)]}"


def test_the_map_holds_every_room_and_no_arrow_that_is_not_used():
    rooms = {room(path) for path in files("kdjax")} - {"__init__"}
    assert set(ALLOWED) == rooms
    used = {name: set[str]() for name in rooms}
    for path in files("kdjax"):
        if room(path) in rooms:
            used[room(path)] |= {name.split(".")[1] for name in imported(path) if name.startswith("kdjax.")}
    assert not {name: unused for name in rooms if (unused := ALLOWED[name] - BELOW - used[name])}


@pytest.mark.parametrize("path", files("analysis"), ids=lambda path: str(path.relative_to(ROOT)))
def test_analysis_does_not_import_experiments(path):
    assert not {name for name in imported(path) if name.split(".")[0] in ("experiments", "tests")}


@pytest.mark.parametrize("path", files("analysis"), ids=lambda path: str(path.relative_to(ROOT)))
def test_analysis_trains_no_network(path):
    rooms = ("loop", "students", "blocks", "sweeps", "evaluation", "train", "teachers")
    trains = {f"kdjax.{name}" for name in (*rooms, "distillation", "scheduling", "cluster")}
    if path.parent.name != "matching":
        assert not modules_of(imported(path)) & trains


@pytest.mark.parametrize("name", ["errors", "identity", "config", "options", "cli", "files", "compilation_cache"])
def test_quick_modules_do_not_import_jax(name):
    # `--help` is quick only as long as these know nothing of JAX.
    paths = [path for path in files("kdjax") if room(path) == name]
    assert paths
    for path in paths:
        assert not {found for found in imported(path) if found.split(".")[0] in ("jax", "flax", "optax")}


def test_only_models_knows_flax():
    knows = {room(path) for path in files("kdjax") if any(name.startswith("flax") for name in imported(path))}
    assert knows == {"models"}


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/extending.md", "docs/own_data.md"])
def test_modules_that_a_page_names_exist(name):
    named = set(re.findall(r"`((?:kdjax|analysis|experiments)/[\w/]+\.py)`", (ROOT / name).read_text()))
    assert named and all((ROOT / path).exists() for path in named if "NAME" not in path)
