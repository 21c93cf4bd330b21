"""Trained students, found again in a run directory: their rows, the logits that were kept, and the networks."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from kdjax import checkpoints, evaluation, models, run_directory
from kdjax.config import SweepConfig, TrainConfig
from kdjax.errors import BadInput, require
from kdjax.files import check_manifest


@dataclasses.dataclass(frozen=True)
class Student:
    """One trained student."""

    row: dict[str, Any]
    """As in `results.csv`: width, teacher, seed, objective, temperature (None on hard labels), … and its measures."""
    block: Path
    """The folder that holds it."""
    index: int
    """Its place in the block."""
    config: TrainConfig
    """The network; not how it was trained."""
    input_shape: tuple[int, ...]
    """(height, width, channels) of an image."""
    num_classes: int

    def stored_logits(self, split: str) -> Float[np.ndarray, "images classes"]:
        """Its logits of a split, `test` or (where there is one) `holdout`, as they were judged."""
        with np.load(self.block / "logits.npz") as arrays:
            logits: np.ndarray = arrays[split][self.index]
        return logits

    @property
    def network(self) -> models.Model:
        """What its parameters belong to."""
        return models.network(self.config, self.input_shape, self.num_classes)

    @functools.cached_property
    def variables(self) -> tuple[models.Params, models.ModelState]:
        """Its parameters and batch statistics (empty where it has none), each leaf with a leading axis of 1."""
        count = len(run_directory.read_rows(self.block))
        like = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype),
            models.pack_variables(*jax.eval_shape(self.network.init, jax.random.key(0))),
        )
        stacked = models.unpack_variables(self.network, checkpoints.load(self.block / "parameters", like))
        params, model_state = jax.tree.map(lambda leaf: np.asarray(leaf[self.index : self.index + 1]), stacked)
        return params, model_state

    def logits(self, images: UInt8[np.ndarray, "images height width channels"]) -> Float[np.ndarray, "images classes"]:
        """Logits of any images, in evaluation mode."""
        return np.asarray(evaluation.evaluator(self.network)(*self.variables, images))[0]


def find(folder: Path, **where: Any) -> list[Student]:
    """The students of a run whose rows have the given values, such as `width=300, objective="soft", temperature=4.0`.

    Args:
        folder: a run directory of a sweep.
        where: column → value; numbers agree to eight digits, nan or None stands for an empty cell.

    Raises:
        BadInput: no run directory, no such student, or a damaged block among theirs.
    """
    config = run_directory.read_json(folder / "config.json")
    try:
        settings, data = config["identity"]["config"], config["identity"]["data"]
        network = {name: settings[name] for name in ("network", "precision") if name in settings}
        recipe, shape, classes = SweepConfig(**network), tuple(data["input_shape"]), int(data["num_classes"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{folder / 'config.json'} is not that of a run with students, or damaged ({error!r})") from None
    students = []
    for block in sorted((folder / "blocks").glob("[!.]*")):
        of_block = []
        for index, row in enumerate(run_directory.read_rows(block)):
            row = {name: math.inf if value == "inf" else value for name, value in row.items()}
            if all(_same(row.get(name), value) for name, value in where.items()):
                of_block.append(Student(row, block, index, recipe.student(row["width"], 1), shape, classes))
        if of_block:  # a block is read whole to be checked: only where it is needed
            check_manifest(block)
        students += of_block
    wanted = ", ".join(f"{name} {value}" for name, value in where.items())
    require(students, f"{folder} holds no student of {wanted or 'any kind'}: its results.csv names those that it holds")
    return students


def _same(kept: Any, wanted: Any) -> bool:
    empty = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (kept, wanted)]
    if any(empty) or isinstance(kept, str) or isinstance(wanted, str):
        return all(empty) or kept == wanted
    return math.isclose(kept, wanted, rel_tol=1e-8)
