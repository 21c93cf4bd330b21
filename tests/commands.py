"""The temperature sweep as a command, on few digits, in this process or in one of its own; and what it left behind."""

import ast
import contextlib
import importlib
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import checkpoints, cli, models, sweeps
from kdjax.config import SweepConfig, TrainConfig

ROOT = Path(__file__).parents[1]


def find_commands():
    """Every module that ends with `cli.run(main, CONFIG, …)`, and the name of its config class."""
    found = {}
    for path in sorted(ROOT.glob("[!.]*/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())) if path.parts[-2] != "tests" else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "cli.run":
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found[name if name == "kdjax.__main__" else name.removesuffix(".__main__")] = ast.unparse(node.args[1])
    return found


COMMANDS = find_commands()


def config_class(module: str) -> type:
    """The config class of a command."""
    name = COMMANDS[module].split(".")[-1]
    imported = importlib.import_module(module)
    if not hasattr(imported, name):  # a package that is a command itself
        imported = importlib.import_module(f"{module}.__main__")
    found: type = getattr(imported, name)
    return found


PROG = "python -m experiments.temperature_sweep"
WIDTH, EPOCHS, SETTINGS = 16, 8, 4


def tiny(root: Path, *more: str) -> list[str]:
    """Arguments of a sweep of seconds: a teacher and two blocks of four students, with a checkpoint an epoch."""
    return [
        *("--out", str(root / "runs"), "--data-dir", str(root / "data"), "--name", "run", "--train-images", "500"),
        *("--widths", str(WIDTH), "--epochs", str(EPOCHS), "--batch-size", "50", "--temperatures", "1", "4", "inf"),
        *("--teacher.widths", "32", "--teacher.epochs", "8", "--teacher.batch-size", "50", "--seeds", "2"),
        *(() if {"--devices", "--cluster"} & set(more) else ("--devices", "1")),  # each device compiles
        *("--checkpoint-seconds", "0", "--dataset", "mnist5k", *more),
    ]


def run_directory(root: Path) -> Path:
    return root / "runs" / "temperature_sweep" / "run"


def sweep(config: SweepConfig) -> None:
    """The experiment without its figures."""
    sweeps.run(sweeps.prepare(config))


def call(main: Callable[[Any], Any], config_class: type, argv: Sequence[str], prog: str = PROG) -> tuple[int, str]:
    """Exit code and standard error of a command run in this process."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.run(main, config_class, prog, argv)
        except SystemExit as ending:
            assert isinstance(ending.code, int)
            return ending.code, said.getvalue()


def call_sweep(root: Path, *more: str) -> tuple[int, str]:
    return call(sweep, SweepConfig, tiny(root, *more))


def start(
    arguments: Sequence[str], module: str | None = "experiments.temperature_sweep", **options: Any
) -> subprocess.Popen:
    """The command as a process of its own, its standard error to be read; no module: Python with these arguments."""
    # Compiled programs are kept as a user's are, apart from those of this process: a kill may damage them.
    apart = ("KDJAX_", "JAX_COMPILATION_CACHE_DIR")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(apart)}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(ROOT / ".pytest_cache" / "user"),
        **options.pop("env", {}),
    }
    defaults = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "env": environment}
    command = [sys.executable, *(["-m", module] if module else []), *arguments]
    return subprocess.Popen(command, **{**defaults, **options})


def finish(process: subprocess.Popen) -> tuple[int, str]:
    said = process.communicate(timeout=300)[1]
    return process.returncode, said


def outcome(root: Path) -> dict[str, Any]:
    """All that a sweep found: the bytes of its tables, and its students' parameters and logits."""
    folder = run_directory(root)
    found: dict[str, Any] = {name: (folder / name).read_bytes() for name in ("results.csv", "history.jsonl")}
    model = models.network(TrainConfig((WIDTH, WIDTH), EPOCHS, 50), (28, 28, 1), 10)
    one = jax.eval_shape(model.init, jax.random.key(0))[0]
    like = jax.tree.map(lambda leaf: np.zeros((SETTINGS, *leaf.shape), leaf.dtype), one)
    for block in sorted((folder / "blocks").iterdir()):
        leaves = jax.tree.leaves(checkpoints.load(block / "parameters", like))
        with np.load(block / "logits.npz") as logits:
            found[block.name] = [array.tobytes() for array in (*leaves, logits["test"])]
    with np.load(folder / "test.npz") as test:
        found["test"] = {name: test[name].tobytes() for name in test}
    return found


def leftovers(root: Path) -> list[str]:
    """What should not be there once a sweep is through."""
    wrong = [*root.rglob(".*.tmp-*"), *root.rglob("*orbax-checkpoint-tmp*"), *root.glob("runs/teachers/*.checkpoints")]
    return [str(path) for path in (*wrong, *run_directory(root).glob("checkpoints/*"))]


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def flip(path: Path, rng: random.Random) -> str:
    """Flips one bit of a file, or cuts it off, at random; says what it did."""
    data = bytearray(path.read_bytes())
    position = rng.randrange(len(data))
    if rng.random() < 0.3:
        path.write_bytes(data[:position])
        return f"{path} cut off at {position}"
    data[position] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return f"{path} flipped at {position}"
