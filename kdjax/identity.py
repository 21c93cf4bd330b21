"""What determines a run's results: one function for all experiments, and the metadata of config fields that it reads.

An identity names the run directory and must not change under one name. A field that is added to a config later is left
out of it while it holds the value that means the old behaviour, so that finished runs keep their names and are found.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NO_RESULT = {"no result": True}
"""Metadata of a config field that fixes no result, or that is identified otherwise: never part of an identity."""


def added(old: Any) -> dict[str, Any]:
    """Metadata of a config field that came later: it is left out of identities while it holds this old value."""
    return {"old": old}


def result_fields(config: Any) -> dict[str, Any]:
    """The fields of a config that fix results. Left out: fields marked `NO_RESULT`; fields marked `added` that hold
    their old value; and groups, as `RunConfig` (no result), `DataConfig` (identified by the images themselves) and
    `TeacherConfig` (by the teacher's fingerprint)."""
    return {
        field.name: value
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
        if not field.metadata.keys() & NO_RESULT.keys()
        and not ("old" in field.metadata and value == field.metadata["old"])
        and not dataclasses.is_dataclass(value)
    }


def identity(
    experiment: str, config: Any, data: Mapping[str, Any], numerics: int, teachers: Sequence[str] = (), **resolved: Any
) -> dict[str, Any]:
    """What fixes a run's results, as it stands in `config.json`: the experiment's name, the `result_fields` of its
    config, with the `resolved` values of fields whose defaults depend on the data; the images, after the hold-out is
    cut and before classes are omitted (`Dataset.identity`); the teachers' fingerprints; the students' `numerics`.
    """
    facts = {"experiment": experiment, "config": {**result_fields(config), **resolved}, "data": dict(data)}
    return {**facts, **({"teachers": list(teachers)} if teachers else {}), "numerics": numerics}


def digest(facts: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of some facts."""
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal configs give equal text. Infinity is written as "inf"."""

    def plain(item: Any) -> Any:
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return {field.name: plain(getattr(item, field.name)) for field in dataclasses.fields(item)}
        if isinstance(item, dict):
            return {str(key): plain(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return [plain(entry) for entry in item]
        unwritable = isinstance(item, Path) or (isinstance(item, float) and not math.isfinite(item))
        return str(item) if unwritable else item

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
