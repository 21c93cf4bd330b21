"""Finished blocks of the runs beside a run: with more seeds, widths or learning rates, only new blocks are trained."""

import collections
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdjax import files
from kdjax.compilation_cache import processor
from kdjax.errors import BadInput
from kdjax.files import Damaged, read_json
from kdjax.identity import canonical_json
from kdjax.progress import count_of, say, warn
from kdjax.provenance import cpus, toolchain
from kdjax.run_directory import RunDirectory
from kdjax.transfer import DistillationData


def circumstances(data: DistillationData | None = None) -> dict[str, Any]:
    """What fixes the bits of a block that is trained in this process, beside its settings: versions, device, processor
    and its cores, compiler flags, and the teacher's logits, where `data` are there. It is stored with each block."""
    flags = os.environ.get("XLA_FLAGS", "")
    made: dict[str, Any] = {**toolchain(), "processor": processor(), "cpus": cpus(), "xla_flags": flags}
    if data is not None:
        logits = (data.train_logits, data.holdout_logits, data.test_logits)
        made["teacher"] = hashlib.sha256(b"".join(part.tobytes() for part in logits if part is not None)).hexdigest()
    return made


def find(
    folder: Path, identity: dict[str, Any], names: Iterable[str], schema: Any, made_with: dict[str, Any] | None
) -> dict[str, list[Path]]:
    """Where, in the run directories beside `folder`, those of the blocks `names` are that this run need not train.

    Their runs differ from this one in seeds, widths or learning rates alone, and the blocks were made with the same
    `circumstances`: to train them here would give the same bits. Nothing is found for a run that was started with
    `--fresh`; where another has this very identity, as somebody wants to see whether it repeats; or without
    `made_with`, as on a cluster, whose workers are other processes.
    """
    own, wanted = json.loads(canonical_json(identity)), sorted(names)
    found = dict[str, list[Path]]()
    if not wanted or made_with is None or _read(folder / "config.json").get("fresh"):
        return found
    same = _of_a_block(own)
    for run in sorted(path.parent for path in folder.parent.glob("[!.]*/config.json") if path.parent != folder):
        earlier = _read(run / "config.json").get("identity")
        if earlier == own:
            return {}
        if not isinstance(earlier, dict) or _of_a_block(earlier) != same:
            continue
        for name in wanted:
            block = run / "blocks" / name
            written = _read(block / "rows.json")
            before = written.get("made_with") or {}
            if written.get("schema") == schema and all(before.get(key) == value for key, value in made_with.items()):
                found.setdefault(name, []).append(block)
    return found


def take_over(record: RunDirectory, names: Iterable[str]) -> None:
    """Copies into a run directory those of the blocks `names` that are not there and that `find` finds. One that is
    damaged, or cannot be read, is left where it is."""
    identity = read_json(record.folder / "config.json")["identity"]
    absent = [name for name in names if not (record.folder / "blocks" / name).exists()]
    taken = collections.Counter[str]()
    for name, candidates in find(record.folder, identity, absent, record.schema, record.made_with).items():
        for earlier in candidates:
            run = earlier.parents[1]
            try:
                with files.whole_folder(record.folder / "blocks" / name) as copy:
                    shutil.copytree(earlier, copy, dirs_exist_ok=True)
                    files.check_manifest(copy)
                    files.remove(copy / files.MANIFEST)  # it is written anew
            except (Damaged, OSError) as error:
                warn(f"block {name} of {run.name} is not taken over: it is damaged, or cannot be copied ({error})")
                continue
            record.config_file.note_taken_over(name, run.name)
            record.add_timing(name, _read(run / "timing.json").get(name, 0.0))
            taken[run.name] += 1
            break
    for run_name, count in taken.items():
        say(f"{count_of(count, 'block')} of {run_name} taken over: same settings")


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of another run; empty where it is missing, damaged, or no file of this program."""
    try:
        found = read_json(path)
    except (BadInput, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_a_block(identity: dict[str, Any]) -> dict[str, Any]:
    """What of an identity fixes a block, beside the block's name, which tells its seed, width and learning rate."""
    config = identity.get("config") or {}
    named = {"seeds", "first_seed", "widths"} | ({"learning_rates"} if not config.get("own_rates") else set())
    return {**identity, "config": {name: value for name, value in config.items() if name not in named}}
