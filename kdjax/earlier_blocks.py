"""Finished blocks of the runs beside a run: with more seeds, widths or learning rates, only new blocks are trained."""

import collections
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdjax import files
from kdjax.errors import BadInput
from kdjax.files import read_json
from kdjax.identity import canonical_json
from kdjax.progress import count_of, say
from kdjax.provenance import toolchain
from kdjax.run_directory import RunDirectory

AXES = ("seeds", "first_seed", "widths", "learning_rates")
"""Config fields of which each value has blocks of its own, which it names."""


def find(folder: Path, identity: dict[str, Any], names: Iterable[str], schema: Any) -> dict[str, Path]:
    """The folders, in run directories beside `folder`, of those of the blocks `names` that an earlier run has finished:
    a run whose identity differs from this one in `AXES` alone, with the same versions and device, so that training them
    here would give the same bits.

    A run of the same identity is none: who trains it under another name wants to see whether it repeats.
    """
    own, found = json.loads(canonical_json(identity)), dict[str, Path]()
    wanted, here = sorted(names), json.loads(canonical_json(toolchain()))
    for path in sorted(folder.parent.glob("*/config.json")) if wanted else []:
        try:
            earlier = read_json(path)
            identical = earlier["identity"] == own
            same = not identical and _of_a_block(earlier["identity"]) == _of_a_block(own)
            if not same or any(earlier["details"].get(name) != value for name, value in here.items()):
                continue
            blocks = {name: path.parent / "blocks" / name for name in wanted if name not in found}
            there = {name: block for name, block in blocks.items() if (block / "rows.json").exists()}
            found |= {
                name: block for name, block in there.items() if read_json(block / "rows.json")["schema"] == schema
            }
        except (BadInput, KeyError, TypeError, AttributeError):
            continue  # damaged, or no file of this program: the blocks are trained
    return found


def take_over(record: RunDirectory, names: Iterable[str]) -> None:
    """Copies into a run directory those of the blocks `names` that are not there and that an earlier run has finished.
    One that is damaged is left where it is, and said to be."""
    identity = read_json(record.folder / "config.json")["identity"]
    blocks, runs = record.folder / "blocks", collections.Counter[str]()
    absent = [name for name in names if not (blocks / name).exists()]
    for name, earlier in find(record.folder, identity, absent, record.schema).items():
        try:
            files.check_manifest(earlier)
        except files.Damaged as damage:
            say(f"block {name} is not taken over: {damage}")
            continue
        with files.whole_folder(blocks / name) as folder:
            shutil.copytree(earlier, folder, dirs_exist_ok=True)
            files.remove(folder / files.MANIFEST)  # it is written anew
        runs[earlier.parents[1].name] += 1
    for run, count in runs.items():
        say(f"{count_of(count, 'block')} of {run} taken over: same settings; --fresh trains all again")


def _of_a_block(identity: dict[str, Any]) -> dict[str, Any]:
    """What of an identity fixes a block, beside the block's name."""
    config = identity["config"]
    axes = AXES[:-1] if config.get("own_rates") else AXES  # then a name does not tell its rates
    return {**identity, "config": {name: value for name, value in config.items() if name not in axes}}
