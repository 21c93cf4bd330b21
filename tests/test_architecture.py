"""The arrows between the rooms: experiments → analysis → kdjax, never backwards."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEAVES = {"losses", "models", "datasets", "transforms", "metrics", "checkpoints", "records", "provenance", "targets"}
BELOW = {"checks", "config", "files", "progress"}
"""What every room may use: they know nothing of networks or images."""
ALLOWED = {
    "checks": set(),
    "config": {"checks"},
    "layers": BELOW,
    "files": {"checks"},
    "progress": set(),
    "compiled": BELOW,
    "cli": BELOW | {"compiled"},
    "command": BELOW | {"cli", "datasets"},
    "train": BELOW | {"losses", "models", "transforms", "metrics"},
    "blocks": BELOW | {"train", "losses", "models", "transforms", "targets"},
    "fitting": BELOW | {"train", "blocks", "checkpoints"},
    "teachers": BELOW | LEAVES | {"train", "blocks", "fitting"},
    "students": BELOW | LEAVES | {"train", "blocks", "fitting", "teachers"},
    "workers": BELOW | {"blocks", "checkpoints", "compiled", "records", "students", "provenance"},
    "sweeps": BELOW | LEAVES | {"train", "blocks", "teachers", "students", "workers"},
    "cost": BELOW | {"datasets", "models", "teachers", "students", "sweeps"},
    "trained": BELOW | LEAVES | {"blocks"},
    "omission": BELOW | {"datasets", "records", "students", "workers"},
    **{leaf: BELOW for leaf in LEAVES},
    "models": BELOW | {"layers"},
}


def imported(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, at whatever depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    if path.name == "__main__.py":
        return "command"
    return path.relative_to(ROOT / "kdjax").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted((ROOT / "kdjax").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_of_the_library(path):
    names = imported(path)
    assert not {name for name in names if name.split(".")[0] in ("experiments", "analysis", "tests")}
    used = {name.split(".")[1] for name in names if name.startswith("kdjax.")} - {room(path)}
    if room(path) != "__init__":
        assert used <= ALLOWED[room(path)], f"{room(path)} must not use {used - ALLOWED[room(path)]}"


@pytest.mark.parametrize("path", sorted((ROOT / "analysis").rglob("*.py")), ids=lambda path: path.name)
def test_analysis_does_not_import_experiments(path):
    assert not {name for name in imported(path) if name.split(".")[0] == "experiments"}


@pytest.mark.parametrize("name", ["checks", "config", "cli", "files", "compiled"])
def test_quick_rooms_do_not_import_jax(name):
    # `--help` is quick only as long as these know nothing of JAX.
    assert not {
        found for found in imported(ROOT / "kdjax" / f"{name}.py") if found.split(".")[0] in ("jax", "flax", "optax")
    }


def test_only_models_knows_flax():
    knows = {path.name for path in (ROOT / "kdjax").rglob("*.py") if any(n.startswith("flax") for n in imported(path))}
    assert knows == {"models.py"}
