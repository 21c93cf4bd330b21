"""What lies in a run directory, and reading its results and blocks."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import files, run_folders
from kdjax.array_files import read_arrays
from kdjax.errors import BadInput, require
from kdjax.files import read_json

ORDER = ["width", "teacher", "seed", "objective", "temperature", "soft_weight", "learning_rate"]
"""The canonical order of the rows, and the columns that name a run. `objective` is a name in `objectives.OBJECTIVES`;
the temperature of a hard row is empty."""

Rows = list[dict[str, Any]]
Arrays = dict[str, np.ndarray]
FEATURES = "features.npz"
LOGITS = "logits.npz"
"""Of a block: its students' logits by split."""
FOLDERS = ("blocks", "checkpoints", "figures")
TABLES = (
    *("results.csv", "table.csv", "widths.csv", "stability.csv", "class_similarity.csv", "batch_statistics.csv"),
    *("shifted.csv", "from_kd.csv"),
)
PAGES = ("summary.md", "stability.md", "cost.md", "report.html")
CONTENT = (*FOLDERS, *TABLES, *PAGES, "history.jsonl", "timing.json", "test.npz", FEATURES, "teacher.npz")
"""What a run writes beside `config.json`: `--fresh` removes this and nothing else."""
REWRITTEN = ("summary.md", "table.csv", "test.npz", "teacher.npz")
"""Files that a run writes again before it looks at its blocks."""
SEALED = ("config.json", "results.csv", "history.jsonl", "test.npz", FEATURES)
"""Files under a seal: where one has changed, its readers refuse it."""
TEXT = dict.fromkeys(("teacher", "omitted", "without"), str)
"""Columns of `results.csv` that are text, though some look like numbers."""


def read_results(folder: Path) -> Any:
    """`results.csv` as a pandas table (T: inf the limit, nan a hard row); `BadInput` if it is missing or damaged."""
    import pandas as pd

    files.check_seal(folder)
    try:
        return pd.read_csv(io.BytesIO(files.read_bytes(folder / "results.csv")), dtype=TEXT)
    except FileNotFoundError:
        reason = "it is no run directory, or its run has not finished a block"
        raise BadInput(f"{folder} holds no results.csv: {reason}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise BadInput(f"{folder / 'results.csv'} is damaged ({error}): give the experiment's command again") from None


def block_folders(folder: Path) -> list[Path]:
    """The folders of a run's finished blocks. A copy of one, with the same rows under another name, is not of the
    run."""
    found = dict[bytes, Path]()
    for block in sorted(block for block in (folder / "blocks").glob("[!.]*") if block.is_dir()):
        rows = block / "rows.json"
        found.setdefault(files.read_bytes(rows) if rows.exists() else bytes(block), block)
    return list(found.values())


def read_rows(block: Path) -> Rows:
    """The rows of a finished block's folder; `BadInput` if an earlier version of kdjax wrote it."""
    return list(read_block(block)["rows"])


def read_block(block: Path) -> dict[str, Any]:
    written = read_json(block / "rows.json")
    known = isinstance(written, dict) and {"schema", "rows"} <= written.keys()
    remedy = f"give another --out, or remove the folder {block.parents[1]}"
    require(known, f"{block} was written by an earlier version of kdjax: {remedy}")
    return dict(written)


def read_logits(block: Path, split: str) -> np.ndarray:
    """The logits of a finished block's students on a split, `test` or `holdout`, as evaluated after training:
    `[students, images, classes]`. Raises BadInput: the run has none of this split; the file is missing or damaged."""
    path = block / LOGITS
    require(path.exists(), f"{path} is missing: give the experiment's command again")
    arrays = read_arrays(path)
    require(split in arrays, f"the run has no logits of {split}: there are {', '.join(arrays)}")
    logits: np.ndarray = arrays[split]
    return logits


def start_again(folder: Path) -> str:
    """How to: `--fresh` of a table leaves the sweeps behind it, which other tables share."""
    shared = folder.parent.name == run_folders.SWEEPS
    return f"remove the folder {folder}, or give {'another --out' if shared else '--fresh to start the run again'}"
