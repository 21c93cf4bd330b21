"""Hashes of what four small experiments compute: `python -m tests.hash_runs [FOLDER]`

A safety net for changes that should move code and no result. Run it before and after: the hashes are the same on one
machine. Each is SHA-256 over every `results.csv`, `history.jsonl` and array of logits that the command wrote, whatever
the folders are called.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.raw_files import write_random_cifar

ROOT = Path(__file__).parents[1]
BUNDLED = "--dataset mnist5k --devices 1 --train-images 400 --batch-size 50"
TEACHER = "--teacher.widths 16 --teacher.epochs 2 --teacher.batch-size 50"
COMMANDS = {
    "temperature_sweep": f"{BUNDLED} {TEACHER} --holdout 100 --widths 12 30 --seeds 2 --epochs 3 "
    "--temperatures 1 4 inf --soft-weights 0.9 1 --jitter 1 --objectives kd double_softmax --precision bfloat16",
    "omit_digit": f"{BUNDLED} {TEACHER} --digit 3 --holdout 500 --width 12 --seeds 2 --epochs 2",
    "mnist_table": f"--preset full {BUNDLED} {TEACHER} --teachers 2 --seeds 2 --width 12 --epochs 2 --widths 12 "
    "--width-seeds 2 --width-epochs 2 --width-teachers 2 --width-temperatures 1 4 inf --tuning-rates 0.002 0.004 "
    "--tuning-seeds 2 --elastic-epochs 2 --fractions 0.25 1 --soft-weights 0.9 1",
    "cifar10_table": "--devices 1 --width-multiplier 0.125 --epochs 2 --seeds 2 --batch-size 16 --holdout 20 "
    "--temperatures 1 inf --controls double_softmax shuffled random uniform --raw-dir RAW",
}


def parts(folder: Path) -> Iterator[bytes]:
    """The digest of each file of results, curves or logits below a folder."""
    for path in folder.rglob("*"):
        if path.name in ("results.csv", "history.jsonl"):
            yield hashlib.sha256(path.read_bytes()).digest()
        elif path.name == "logits.npz":
            with np.load(path) as arrays:
                yield hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).digest()


def main(root: Path) -> None:
    """Runs each command in a folder of its own below `root`, and prints its hash."""
    raw = root / "cifar10"
    write_random_cifar(raw)
    for name, options in COMMANDS.items():
        out = root / name
        places = ["--out", str(out), "--data-dir", str(root / "data"), "--name", "run"]
        arguments = [str(raw) if word == "RAW" else word for word in options.split()]
        subprocess.run(
            [sys.executable, "-m", f"experiments.{name}", *arguments, *places],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        digests = sorted(parts(out))
        print(f"{name}: {hashlib.sha256(b''.join(digests)).hexdigest()[:16]} ({len(digests)} files)", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
