"""The run directory `<out>/<experiment>/<name>/`: a run's config, its results, and enough to draw and check them.

config.json     the full config, command, git commit, versions, device, data and teachers; when, and how far
results.csv     one row per run of a finished block, in canonical order; no times in it
history.jsonl   one line per run and epoch
timing.json     seconds, by block
test.npz        labels and teacher logits of the test images, and a few images to look at
features.npz    where students see features: mean and deviation by which they were standardised
blocks/NAME/    rows, history, final parameters (orbax) and logits of a finished block, under a manifest
checkpoints/    the last two of each block being trained
figures/        PNG, PDF and SVG
summary.md      the verdict and the table
report.html     all of it as a page to show
MANIFEST.json   SHA-256 of the first three, test.npz and features.npz, once all is there
"""

import contextlib
import datetime
import io
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import files, run_folders
from kdjax.errors import BadInput, require
from kdjax.files import Damaged, make_folder, read_json, write_arrays, write_json
from kdjax.identity import canonical_json
from kdjax.progress import say, warn

ORDER = ["width", "teacher", "seed", "objective", "temperature", "soft_weight", "learning_rate"]
"""The canonical order of the rows, and the columns that name a run. `objective` is a name in `objectives.OBJECTIVES`;
the temperature of a hard row is empty."""

Rows = list[dict[str, Any]]
Arrays = dict[str, np.ndarray]
FEATURES = "features.npz"
FOLDERS = ("blocks", "checkpoints", "figures")
TABLES = (
    *("results.csv", "table.csv", "widths.csv", "stability.csv", "class_similarity.csv", "batch_statistics.csv"),
    *("shifted.csv", "from_kd.csv"),
)
PAGES = ("summary.md", "stability.md", "cost.md", "report.html")
CONTENT = (*FOLDERS, *TABLES, *PAGES, "history.jsonl", "timing.json", "test.npz", FEATURES, "teacher.npz")
"""What a run writes beside `config.json`: `--fresh` removes this and nothing else."""
SEALED = ("config.json", "results.csv", "history.jsonl", "test.npz", FEATURES)
"""Files under a seal: where one has changed, its readers refuse it."""
TEXT = dict.fromkeys(("teacher", "omitted", "without"), str)
"""Columns of `results.csv` that are text, though some look like numbers."""


class AnotherTeacher(BadInput):
    """Students of a run learned from another teacher than the one at hand."""


@contextlib.contextmanager
def opened(
    folder: Path,
    identity: dict[str, Any],
    fresh: bool = False,
    schema: dict[str, Any] | None = None,
    wait: bool = False,
) -> Iterator["RunDirectory"]:
    """Opens a run directory, locked, for a new or resumed run; arguments and errors as those of `RunDirectory.open`.
    `schema` is what the columns of a row mean (`students.row_schema`); finished blocks with another one are refused.
    With `wait`, a process that has it is waited for. After `AnotherTeacher`, which is known only when the teacher is
    there, the directory is as it was, or with `fresh` as `open` left it. Raises BadInput: the folder cannot be written;
    Busy: another process has it."""
    make_folder(folder)
    waiting = (lambda holder: say(f"waiting for process {holder}, which has {folder}")) if wait else None
    with files.lock(folder / ".lock", waiting):
        places = [folder / name for name in ("config.json", "teacher.npz", files.MANIFEST)]
        before = {place: files.read_bytes(place) for place in places if place.exists() and not fresh}
        record = RunDirectory(folder, schema)
        record.open(identity, fresh)
        say(f"run directory: {folder}")
        try:
            yield record
        except AnotherTeacher:
            for place, content in before.items():
                files.write_whole(place, content)
            raise


class RunDirectory:
    """One run directory, held by one process (the caller has its lock)."""

    def __init__(self, folder: Path, schema: dict[str, Any] | None = None):
        self.folder, self.schema = folder, schema
        self.after_block: Callable[[], object] = lambda: None
        """Called whenever a block has been stored: interim results are written there."""
        self.made_with: dict[str, Any] | None = None
        """What fixes the bits of the blocks that this process trains, beside their settings; stored with them."""
        self._made_with = dict[str, dict[str, Any] | None]()
        self._trained, self._whole = False, set[str]()

    def open(self, identity: dict[str, Any], fresh: bool = False) -> None:
        """Starts the directory, or resumes it. Until `write_tables`, its files have no seal.

        `identity` is what fixes the results (config, data, teachers, numerics); it must not change. With `fresh`, what
        a run left there is removed first. Raises BadInput: the directory belongs to another config (the message names
        what differs), or contains files that kdjax did not write.
        """
        make_folder(self.folder)
        path = self.folder / "config.json"
        self.check(identity, fresh)
        if fresh and path.exists():
            say(f"{self.folder} is started again")
            for name in (*CONTENT, path.name):  # config.json last: it marks the folder as a run directory
                files.remove(self.folder / name)
        files.clear_leftovers(self.folder)
        files.remove(self.folder / files.MANIFEST)
        if not path.exists():
            started = {
                "identity": json.loads(canonical_json(identity)),
                "details": {},
                "started": _now(),
                "fresh": fresh,
            }
            write_json(path, started)
        self._record(command=command_given())
        self.note_progress()
        for name in FOLDERS:
            (self.folder / name).mkdir(exist_ok=True)
            files.clear_leftovers(self.folder / name)

    def check(self, identity: dict[str, Any], fresh: bool = False) -> None:
        """Raises BadInput as `open`, and changes nothing."""
        path = self.folder / "config.json"
        if not path.exists():
            unknown = ", ".join(name for name in CONTENT if (self.folder / name).exists())
            remedy = "put that back, remove the folder, or choose another --name"
            require(not unknown, f"{self.folder} holds {unknown} but no config.json to say what of: {remedy}")
            return
        try:
            before = json.loads(files.read_bytes(path))
        except (ValueError, RecursionError):
            # Cut off or changed by the disk: nothing else writes a part of a file here.
            remedy = f"put it back, {start_again(self.folder)}"
            require(fresh, f"{path} is damaged (not JSON): {remedy}")
            return
        known = isinstance(before, dict) and "identity" in before
        remedy = f"{self.folder} is left as it is; choose another --name"
        require(known, f"{path} is no file of this program: {remedy}")
        differing = ", ".join(sorted(_differences(before["identity"], json.loads(canonical_json(identity))))[:6])
        remedy = f"choose another --name, {start_again(self.folder)}"
        told = f"{self.folder} holds a run of another config (differing: {differing})"
        require(fresh or not differing, f"{told}: {remedy}")

    def describe(self, details: dict[str, Any]) -> None:
        """Writes the details beside the identity (argv, versions, device, the teachers' errors) into `config.json`.
        Versions or a device that changed are warned of: the same config may then give other last digits."""
        config = read_json(self.folder / "config.json")
        details = json.loads(canonical_json(details))
        earlier = config["details"] if isinstance(config.get("details"), dict) else {}
        for name in ("versions", "device"):
            before = earlier.get(name)
            if before not in (None, details.get(name)):
                warn(f"this run was started with other {name} ({before}; now {details.get(name)})")
        kept = {name: earlier[name] for name in ("workers",) if name in earlier}  # of a cluster that comes later
        self._record(details={**kept, **details})

    def details(self) -> dict[str, Any]:
        """Those that stand in `config.json`."""
        found: dict[str, Any] = read_json(self.folder / "config.json")["details"]
        return found

    def note(self, name: str, value: Any) -> None:
        """Adds one detail to `config.json`."""
        self._record(details={**self.details(), name: json.loads(canonical_json(value))})

    def note_progress(self, done: int | None = None, total: int | None = None) -> None:
        """Writes how many of all blocks the results hold; None: as many as before. They do not become fewer: a resumed
        sweep whose rates were widened begins with those of its first round."""
        before = read_json(self.folder / "config.json").get("progress", {"done": 0, "total": 0})
        total = max(before["total"], total or 0)
        self._record(progress={"done": min(before["done"] if done is None else done, total), "total": total})

    def note_sweeps(self, names: Sequence[str], total: int) -> None:
        """Writes which sweeps of a table are finished, and of how many."""
        self._record(sweeps=list(names), progress={"done": len(names), "total": total})

    def note_taken_over(self, block: str, run: str, seconds: float) -> None:
        """Writes that a block is a copy, of which run, and how long it was trained there."""
        self._record(taken_over={**read_json(self.folder / "config.json").get("taken_over", {}), block: run})
        self.add_timing(block, seconds)

    def _record(self, **facts: Any) -> None:
        """Writes facts about the run, beside its identity, into `config.json`."""
        config = read_json(self.folder / "config.json")
        write_json(self.folder / "config.json", {**config, **facts})

    def checkpoints(self, block: str) -> Path:
        """The folder for the checkpoints of a block under way."""
        return self.folder / "checkpoints" / block

    def finished(self, block: str) -> Rows | None:
        """The rows of a finished block, or None if it is not there whole. Its checkpoints are removed. Raises BadInput:
        its rows have another schema than those that this process writes."""
        folder = self.folder / "blocks" / block
        if not folder.exists() or not _is_whole(folder):
            return None
        files.remove(self.checkpoints(block))  # a kill may have come before this
        written = _read_block(folder)
        differing = ", ".join(sorted(_schema_items(written["schema"]) ^ _schema_items(self.schema)))
        remedy = f"finish it with what started it, give another --name, {start_again(self.folder)}"
        require(not differing, f"{folder} has other columns (differing: {differing}), and a run has one set: {remedy}")
        self._whole.add(block)
        return list(written["rows"])

    def begin(self, block: str) -> None:
        """Notes what a block is made with, before it is trained. Where its checkpoints were made with anything else, or
        it is not known with what, no other run takes the block over."""
        folder = self.checkpoints(block)
        note, made_with = folder / "made_with.json", json.loads(canonical_json(self.made_with))
        if any(folder.glob("[0-9]*")):
            before = None
            with contextlib.suppress(BadInput):  # it is not there, or damaged
                before = read_json(note)
            made_with = made_with if before == made_with else None
        make_folder(folder)
        write_json(note, made_with)
        self._made_with[block] = made_with

    def finish(
        self, block: str, rows: Rows, history: Rows, logits: Arrays, save_params: Callable[[Path], None], seconds: float
    ) -> None:
        """Writes a finished block whole: rows, history, logits, and what `save_params(folder)` writes. Its checkpoints
        are then removed, and its seconds added to `timing.json`."""
        with files.whole_folder(self.folder / "blocks" / block) as folder:
            made_with = self._made_with.get(block, self.made_with)
            write_json(folder / "rows.json", {"schema": self.schema, "made_with": made_with, "rows": rows})
            write_json(folder / "history.json", history)
            write_arrays(folder / "logits.npz", **logits)
            save_params(folder / "parameters")
        files.remove(self.checkpoints(block))
        self.add_timing(block, seconds)
        self._trained = True
        self._whole.add(block)
        self.after_block()

    def test_logits(self, block: str) -> np.ndarray:
        """Logits of the students of a finished block on the test images, `[students, images, classes]`."""
        with np.load(self.folder / "blocks" / block / "logits.npz") as arrays:
            logits: np.ndarray = arrays["test"]
        return logits

    @property
    def whole(self) -> frozenset[str]:
        """Names of the blocks that this process has finished, or found finished."""
        return frozenset(self._whole)

    def write_tables(self) -> None:
        """Gathers the blocks that this process has finished, or found finished, into `results.csv` and `history.jsonl`,
        each written whole, and seals them, with `config.json` and `test.npz`: the run is finished."""
        self.gather(self._whole)
        self.seal(SEALED)

    def gather(self, blocks: Iterable[str]) -> None:
        """Writes `results.csv` and `history.jsonl` of these finished blocks, unsealed."""
        names, history = sorted(blocks), []
        for name in names:
            history += read_json(self.folder / "blocks" / name / "history.json")
        files.write_csv(self.folder / "results.csv", self.rows_of(names))

        def order_of(line: dict[str, Any]) -> list[tuple[bool, bool, Any]]:
            # None first, then numbers, then words: the three do not compare.
            values = [line.get(key) for key in (*ORDER, "epoch")]
            return [(value is not None, isinstance(value, str), value or 0) for value in values]

        lines = sorted(history, key=order_of)
        files.write_whole(self.folder / "history.jsonl", "".join(canonical_json(line) + "\n" for line in lines))

    def rows_of(self, blocks: Iterable[str]) -> Any:
        """The rows of blocks that are whole, as a pandas table."""
        import pandas as pd  # late: a third of a second

        rows = [row for name in sorted(blocks) for row in read_rows(self.folder / "blocks" / name)]
        order = [column for column in ORDER if rows and column in rows[0]]
        return pd.DataFrame(rows).sort_values(order, kind="stable", ignore_index=True, na_position="first")

    def seal(self, names: Iterable[str]) -> None:
        """Marks the run as finished: all of its blocks are there, and those of these files that are there are as they
        stay."""
        config = read_json(self.folder / "config.json")
        finished, total = config.get("finished") if not self._trained else None, config["progress"]["total"]
        self._record(finished=finished or _now(), progress={"done": total, "total": total})
        files.seal(self.folder, [name for name in names if (self.folder / name).exists()])

    def add_timing(self, name: str, seconds: float) -> None:
        """Adds the seconds of a block to `timing.json`."""
        path, times = self.folder / "timing.json", dict[str, float]()
        try:
            times = read_json(path) if path.exists() else times
        except BadInput as damage:  # which must not end hours of work
            warn(f"timing starts again: {damage}")
        write_json(path, {**times, name: round(seconds, 3)})


def _is_whole(block: Path) -> bool:
    try:
        files.check_manifest(block)
    except Damaged as damage:
        warn(f"block {block.name} is trained again: {damage}")
        return False
    return True


def progress(folder: Path) -> str:
    """How much of a run its results hold, for titles: "3 of 18 blocks", of a table "3 of 18 sweeps"; empty where they
    hold all of it."""
    config = read_json(folder / "config.json")
    of, noun = config.get("progress") or {"done": 0, "total": 0}, "sweeps" if "sweeps" in config else "blocks"
    return f"{of['done']} of {of['total']} {noun}" if of["done"] < of["total"] else ""


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def command_given() -> dict[str, Any]:
    """What `python -m kdjax resume` gives again: module, arguments, the folder to which their paths are relative."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return {"module": spec.name if spec else None, "arguments": sys.argv[1:], "folder": os.getcwd()}


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
    return list(_read_block(block)["rows"])


def start_again(folder: Path) -> str:
    """How to: `--fresh` of a table leaves the sweeps behind it, which other tables share."""
    shared = folder.parent.name == run_folders.SWEEPS
    return f"remove the folder {folder}, or give {'another --out' if shared else '--fresh to start the run again'}"


def _read_block(block: Path) -> dict[str, Any]:
    written = read_json(block / "rows.json")
    known = isinstance(written, dict) and {"schema", "rows"} <= written.keys()
    remedy = f"give another --out, or remove the folder {block.parents[1]}"
    require(known, f"{block} was written by an earlier version of kdjax: {remedy}")
    return dict(written)


def _schema_items(schema: Any) -> set[str]:
    """A schema as a set of words, to name what differs."""
    schema = schema or {}
    return {f"schema {schema.get('number')}", *(f"metric {name}" for name in schema.get("metrics", []))}


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [name or "config"]
    parts = ((before.get(key), now.get(key), f"{name}.{key}" if name else key) for key in before.keys() | now.keys())
    return list(itertools.chain.from_iterable(itertools.starmap(_differences, parts)))
