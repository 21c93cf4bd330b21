"""The run directory `<out>/<experiment>/<name>/`: what was asked, what came out, and enough to draw and check it.

config.json     the full config, argv, git commit, versions, device, data and teachers
results.csv     one row a run, in canonical order; no times in it
history.jsonl   one line a run and epoch
timing.json     seconds, by block
test.npz        labels and teacher logits of the test images, and a few images to look at
blocks/NAME/    rows, history, final parameters (orbax) and logits of a finished block, under a manifest
checkpoints/    the last two of the block being trained
figures/        PNG and PDF
summary.md      the table
MANIFEST.json   SHA-256 of the first three and test.npz, once all is there
"""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.errors import BadInput, require
from kdjax.files import (
    MANIFEST,
    Damaged,
    check_manifest,
    check_seal,
    clear_leftovers,
    lock,
    seal,
    whole_folder,
    write_whole,
)
from kdjax.identity import canonical_json, digest
from kdjax.progress import say

ORDER = ["width", "teacher", "seed", "objective", "temperature", "soft_weight", "learning_rate"]
"""The canonical order of the rows, and the columns that name a run. `objective` is a name in `objectives.OBJECTIVES`;
the temperature of a hard row is empty."""

CONTENT = (
    "blocks",
    "checkpoints",
    "figures",
    "results.csv",
    "history.jsonl",
    "timing.json",
    "test.npz",
    "summary.md",
    "stability.csv",
    "stability.md",
    "table.csv",
    "teacher.npz",
    "class_similarity.csv",
    "batch_statistics.csv",
    "shifted.csv",
    "forecast.md",
)
"""What a run writes beside `config.json`: `--fresh` removes this and nothing else."""


@contextlib.contextmanager
def opened(
    folder: Path, identity: dict[str, Any], fresh: bool = False, schema: dict[str, Any] | None = None
) -> Iterator["RunDirectory"]:
    """Opens a run directory, locked, for a new or resumed run; arguments and errors as those of `open`.

    Args:
        folder: the run directory.
        identity: what fixes the results.
        fresh: start again.
        schema: what the columns of a row mean (`students.row_schema`); finished blocks with another one are refused.

    Raises:
        BadInput: the folder cannot be written.
        Busy: another process has it.
    """
    make_folder(folder)
    with lock(folder / ".lock"):
        record = RunDirectory(folder, schema)
        record.open(identity, fresh)
        say(f"run directory: {folder}")
        yield record


class RunDirectory:
    """One run directory, held by one process (the caller has its lock)."""

    def __init__(self, folder: Path, schema: dict[str, Any] | None = None):
        self.folder, self.schema = folder, schema

    def open(self, identity: dict[str, Any], fresh: bool = False) -> None:
        """Starts the directory, or resumes it. Until `write_tables`, its files have no seal.

        Args:
            identity: what fixes the results (config, data, teachers, numerics); it must not change.
            fresh: remove what a run left there and start again.

        Raises:
            BadInput: the directory belongs to another config (the message names what differs), or contains files that
                kdjax did not write.
        """
        make_folder(self.folder)
        path = self.folder / "config.json"
        identity = json.loads(canonical_json(identity))
        if path.exists():
            self._check(path, identity, fresh)
        else:
            found = [name for name in CONTENT if (self.folder / name).exists()]
            require(
                not found,
                f"{self.folder} holds {', '.join(found)} but no config.json to say what of: choose another --name, or "
                "remove it yourself",
            )
        clear_leftovers(self.folder)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        if not path.exists():
            write_json(path, {"identity": identity, "details": {}})
        for name in ("blocks", "checkpoints", "figures"):
            (self.folder / name).mkdir(exist_ok=True)
            clear_leftovers(self.folder / name)

    def _check(self, path: Path, identity: dict[str, Any], fresh: bool) -> None:
        try:
            before = json.loads(path.read_bytes())
        except ValueError:
            # Cut off or changed by the disk: nothing else writes a part of a file here.
            require(fresh, f"{path} is damaged (not JSON): put it back, or give --fresh to start again")
            before = {"identity": None}
        require(
            isinstance(before, dict) and "identity" in before,
            f"{path} is no file of this program: {self.folder} is left as it is; choose another --name",
        )
        if fresh:
            say(f"{self.folder} is started again")
            for name in (*CONTENT, path.name):  # config.json last: until then it is ours
                _remove(self.folder / name)
            return
        differing = sorted(_differences(before["identity"], identity))
        require(
            not differing,
            f"{self.folder} holds a run of another config (differing: {', '.join(differing[:6])}): "
            "choose another --name, or --fresh to start it again",
        )

    def describe(self, details: dict[str, Any]) -> None:
        """Notes what else is worth knowing beside the identity (argv, versions, device, the teachers' errors).

        Versions or a device that changed are warned of: the same config may then give other last digits.
        """
        config = read_json(self.folder / "config.json")
        details = json.loads(canonical_json(details))
        for name in ("versions", "device"):
            before = config["details"].get(name) if isinstance(config.get("details"), dict) else None
            if before not in (None, details.get(name)):
                say(f"note: this run was started with other {name} ({before}; now {details.get(name)})")
        write_json(self.folder / "config.json", {**config, "details": details})

    def note(self, name: str, value: Any) -> None:
        """Adds one detail to `config.json`."""
        config = read_json(self.folder / "config.json")
        details = {**config["details"], name: json.loads(canonical_json(value))}
        write_json(self.folder / "config.json", {**config, "details": details})

    def checkpoints(self, block: str) -> Path:
        """The folder for the checkpoints of a block under way."""
        return self.folder / "checkpoints" / block

    def finished(self, block: str) -> list[dict[str, Any]] | None:
        """The rows of a finished block, or None if it is not there whole. What is left of its training is removed.

        Raises:
            BadInput: its rows have another schema than those that this process writes.
        """
        folder = self.folder / "blocks" / block
        if not folder.exists() or not self._whole(folder):
            return None
        _remove(self.checkpoints(block))  # a kill may have come before this
        written = read_json(folder / "rows.json")
        require(
            written["schema"] == self.schema,
            f"{folder} was written with other columns (schema {written['schema']}; now {self.schema}), and one run "
            "does not mix two: finish it with the version that started it, or give --fresh to train all of it again",
        )
        rows: list[dict[str, Any]] = written["rows"]
        return rows

    def _whole(self, folder: Path) -> bool:
        try:
            check_manifest(folder)
        except Damaged as damage:
            say(f"block {folder.name} is trained again: {damage}")
            return False
        return True

    def finish(
        self,
        block: str,
        rows: list[dict[str, Any]],
        history: list[dict[str, Any]],
        logits: dict[str, np.ndarray],
        save_params: Callable[[Path], None],
        seconds: float,
    ) -> None:
        """Writes a finished block whole: rows, history, logits, and what `save_params(folder)` writes.

        Its checkpoints are then removed, and the seconds it took are noted.
        """
        with whole_folder(self.folder / "blocks" / block) as folder:
            write_json(folder / "rows.json", {"schema": self.schema, "rows": rows})
            write_json(folder / "history.json", history)
            write_arrays(folder / "logits.npz", **logits)
            save_params(folder / "parameters")
        _remove(self.checkpoints(block))
        self.add_timing(block, seconds)

    def write_tables(self) -> Any:
        """Gathers the finished blocks into `results.csv` and `history.jsonl`, each written whole; returns the rows.

        Then seals them, with `config.json` and `test.npz`: whoever draws them later notices a changed byte.
        """
        import pandas as pd  # late: a third of a second

        rows, history = [], []
        for folder in sorted((self.folder / "blocks").iterdir()):
            if not folder.name.startswith(".") and self._whole(folder):
                rows += read_rows(folder)
                history += read_json(folder / "history.json")
        order = [column for column in ORDER if rows and column in rows[0]]
        table = pd.DataFrame(rows).sort_values(order, kind="stable", ignore_index=True, na_position="first")
        write_whole(self.folder / "results.csv", table.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
        lines = sorted(history, key=lambda line: [_sortable(line.get(key)) for key in (*ORDER, "epoch")])
        write_whole(self.folder / "history.jsonl", "".join(canonical_json(line) + "\n" for line in lines))
        sealed = ("config.json", "results.csv", "history.jsonl", "test.npz")
        seal(self.folder, [name for name in sealed if (self.folder / name).exists()])
        return table

    def add_timing(self, name: str, seconds: float) -> None:
        """Notes how long a piece of work took."""
        path = self.folder / "timing.json"
        try:
            before = read_json(path) if path.exists() else {}
        except BadInput as damage:  # no reason to end hours of work
            say(f"timing starts again: {damage}")
            before = {}
        write_json(path, {**before, name: round(seconds, 3)})


def _sortable(value: Any) -> tuple[int, Any]:
    # None first, then numbers, then words: the three do not compare.
    return (0, 0) if value is None else (1, value) if isinstance(value, (int, float)) else (2, value)


def run_folder(out: Path, experiment: str, name: str | None, identity: Any) -> Path:
    """Where a run is kept: under its name, or by default under a hash of what fixes its results."""
    return out / experiment / (name or digest(identity)[:10])


def latest_run(out: Path, experiment: str, noun: str = "run", written: str = "results.csv") -> Path:
    """The run directory of `experiment` with the newest results, or with the newest file `written` last.

    Raises:
        BadInput: there is none.
    """
    runs = sorted((out / experiment).glob(f"*/{written}"), key=lambda path: path.stat().st_mtime)
    require(
        runs,
        f"{out / experiment} holds no finished {noun}: run `python -m experiments.{experiment}` first, or name a "
        "folder",
    )
    return runs[-1].parent


def read_results(folder: Path) -> Any:
    """`results.csv` as a pandas table (T: inf the limit, nan a hard row); `BadInput` if it is missing or damaged."""
    import pandas as pd

    check_seal(folder)
    try:
        return pd.read_csv(folder / "results.csv", dtype={"teacher": str})
    except FileNotFoundError:
        raise BadInput(
            f"{folder} holds no results.csv: it is no run directory, or its run has not finished a block"
        ) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise BadInput(f"{folder / 'results.csv'} is damaged ({error}): give the experiment's command again") from None


def read_rows(block: Path) -> list[dict[str, Any]]:
    """The rows of a finished block's folder."""
    rows: list[dict[str, Any]] = read_json(block / "rows.json")["rows"]
    return rows


def make_folder(folder: Path) -> None:
    """Makes a folder, or says in one line why it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK | os.X_OK) else "no permission, or a read-only disk"
    except OSError as error:
        reason = error.strerror
    require(reason is None, f"{folder} cannot be written ({reason}): choose another folder with --out")


def read_json(path: Path) -> Any:
    """Reads a JSON file, or says in one line what is wrong with it."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{path} is missing: {path.parent} is no run directory, or not a whole one") from None
    except ValueError:
        raise BadInput(f"{path} is damaged (not JSON): remove it and give the command again") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole."""
    write_whole(path, json.dumps(value, indent=1) + "\n")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes an `.npz` file whole."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_whole(path, buffer.getvalue())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            found
            for key in keys
            for found in _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == now else [name or "config"]
