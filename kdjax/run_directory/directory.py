"""A run directory that is being written: opened, filled block by block, sealed."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kdjax import files
from kdjax.errors import BadInput
from kdjax.files import Damaged, make_folder, read_json, write_arrays, write_json
from kdjax.identity import canonical_json
from kdjax.progress import say, warn
from kdjax.run_directory.config_file import ConfigFile
from kdjax.run_directory.contents import (
    CONTENT,
    FOLDERS,
    LOGITS,
    ORDER,
    REWRITTEN,
    SEALED,
    Arrays,
    Rows,
    read_block,
    read_rows,
    start_again,
)


class OtherBlocks(BadInput):
    """Blocks of a run directory were made with something else than what is at hand: another teacher, other columns."""


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
    With `wait`, a process that has it is waited for. After `OtherBlocks`, the files beside the blocks are as they were,
    seal and all, or with `fresh` as `open` left them. Raises BadInput: the folder cannot be written; Busy: another
    process has it."""
    make_folder(folder)
    waiting = (lambda holder: say(f"waiting for process {holder}, which has {folder}")) if wait else None
    with files.lock(folder / ".lock", waiting):
        places = [] if fresh else [folder / name for name in ("config.json", *REWRITTEN, files.MANIFEST)]
        before = {place: files.read_bytes(place) for place in places if place.exists()}
        record = RunDirectory(folder, schema)
        record.open(identity, fresh)
        say(f"run directory: {folder}")
        try:
            yield record
        except OtherBlocks:
            for place, content in before.items():
                files.write_whole(place, content)
            raise


class RunDirectory:
    """One run directory, held by one process (the caller has its lock)."""

    def __init__(self, folder: Path, schema: dict[str, Any] | None = None):
        self.folder, self.schema, self.config_file = folder, schema, ConfigFile(folder)
        self.after_block: Callable[[], object] = lambda: None
        """Called whenever a block has been stored: interim results are written there."""
        self.made_with: dict[str, Any] | None = None
        """What fixes the bits of the blocks that this process trains, beside their settings; stored with them."""
        self._made_with = dict[str, dict[str, Any] | None]()
        self._trained, self._warned, self._whole = False, False, set[str]()

    def open(self, identity: dict[str, Any], fresh: bool = False) -> None:
        """Starts the directory, or resumes it. Until `write_tables`, its files have no seal.

        `identity` is what fixes the results (config, data, teachers, numerics); it must not change. With `fresh`, what
        a run left there is removed first. Raises BadInput: the directory belongs to another config (the message names
        what differs), or contains files that kdjax did not write.
        """
        make_folder(self.folder)
        self.config_file.check(identity, fresh)
        if fresh and self.config_file.path.exists():
            say(f"{self.folder} is started again")
            for name in (*CONTENT, "config.json"):  # this one last: it marks the folder as a run directory
                files.remove(self.folder / name)
        files.clear_leftovers(self.folder)
        files.remove(self.folder / files.MANIFEST)
        self.config_file.start(identity, fresh)
        for name in FOLDERS:
            (self.folder / name).mkdir(exist_ok=True)
            files.clear_leftovers(self.folder / name)

    def checkpoints(self, block: str) -> Path:
        """The folder for the checkpoints of a block under way."""
        return self.folder / "checkpoints" / block

    def finished(self, block: str) -> Rows | None:
        """The rows of a finished block, or None if it is not there whole. Its checkpoints are removed. Raises
        OtherBlocks: its rows have another schema than those that this process writes."""
        folder = self.folder / "blocks" / block
        if not folder.exists() or not _is_whole(folder):
            return None
        files.remove(self.checkpoints(block))  # a kill may have come before this
        written = read_block(folder)
        self._warn_of_others(written.get("made_with"))
        differing = ", ".join(sorted(_schema_items(written["schema"]) ^ _schema_items(self.schema)))
        remedy = f"finish it with what started it, give another --name, {start_again(self.folder)}"
        if differing:
            told = f"{folder} has other columns (differing: {differing}), and a run has one set"
            raise OtherBlocks(f"{told}: {remedy}")
        self._whole.add(block)
        return list(written["rows"])

    def _warn_of_others(self, made_with: dict[str, Any] | None) -> None:
        """Warns, once, of a block that was trained with something else than those of this process are."""
        here = json.loads(canonical_json(self.made_with))
        if self._warned or not made_with or not here:
            return
        differing = [name for name in here if made_with.get(name) != here[name]]
        if names := [name for name in differing if name != "teacher"] or differing:  # whose logits follow from the rest
            warn(f"blocks of this run were trained with other {', '.join(names)}: last digits may differ")
            self._warned = True

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
            write_arrays(folder / LOGITS, **logits)
            save_params(folder / "parameters")
        files.remove(self.checkpoints(block))
        self.add_timing(block, seconds)
        self._trained = True
        self._whole.add(block)
        self.after_block()

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
        self.config_file.note_finished(again=self._trained)
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


def _schema_items(schema: Any) -> set[str]:
    """A schema as a set of words, to name what differs."""
    schema = schema or {}
    return {f"schema {schema.get('number')}", *(f"metric {name}" for name in schema.get("metrics", []))}
