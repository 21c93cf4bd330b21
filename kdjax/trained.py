"""Trained students, found in run directories: their rows in one table; their stored logits and networks."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import checkpoints, evaluation, models, run_directory, run_folders
from kdjax.array_files import read_arrays
from kdjax.arrays import HostLogits
from kdjax.config import SweepConfig, TrainConfig
from kdjax.datasets import Standardisation
from kdjax.errors import BadInput, require, suggest
from kdjax.files import check_manifest, read_json
from kdjax.inputs import BEYOND, read, read_inputs, require_finite


@dataclasses.dataclass(frozen=True)
class Student:
    """One trained student."""

    row: dict[str, Any]
    """As in `results.csv`: width, teacher, seed, objective, temperature (None on hard labels), … and its measures."""
    block: Path
    """The folder that holds it."""
    index: int
    """Its row in the block's arrays."""
    config: TrainConfig
    """The network; not how it was trained."""
    input_shape: tuple[int, ...]
    """(height, width, channels) of an image, or (d,) of features."""
    num_classes: int
    standardisation: Standardisation | None = None
    """Where it sees features: what was done to those of the file."""

    def stored_logits(self, split: str) -> HostLogits:
        """Its logits of a split, `test` or `holdout`, as evaluated after training. Raises BadInput: the run has none of
        this split, or its file is missing or damaged."""
        logits: HostLogits = run_directory.read_logits(self.block, split)[self.index]
        return logits

    @property
    def network(self) -> models.Model:
        """The architecture, as pure functions of its parameters."""
        return models.network(self.config, self.input_shape, self.num_classes)

    @functools.cached_property
    def variables(self) -> tuple[models.Params, models.ModelState]:
        """Its parameters and batch statistics (empty where it has none), each leaf with a leading axis of 1."""
        shapes = models.variable_shapes(self.network, len(run_directory.read_rows(self.block)))
        stacked = models.unpack_variables(self.network, checkpoints.load(self.block / "parameters", shapes))
        params, model_state = jax.tree.map(lambda leaf: np.asarray(leaf[self.index : self.index + 1]), stacked)
        return params, model_state

    def logits(self, images: Any) -> HostLogits:
        """Logits of any images, in evaluation mode: bytes, or floats 0 to 1; or of features as they stand in the file:
        they are standardised here, as they were for training. An array, or where it is (`kdjax.inputs`). Raises
        BadInput: images of another kind or shape, or features that are not finite."""
        if self.standardisation is None:
            read_images = read_inputs("images", images)
            low, high = float(read_images.min(initial=0)), float(read_images.max(initial=0))
            outside = f"images from {low:g} to {high:g} lie outside 0 to 1"
            remedy = "give bytes, or floats 0 to 1; standardised images are to be scaled back"
            require(read_images.dtype == np.uint8 or -BEYOND <= low <= high <= 1 + BEYOND, f"{outside}: {remedy}")
            return evaluation.logits_of(self.network, *self.variables, read_images)
        features = self.standardisation.apply(read("features", images))
        require_finite("features", features)
        return evaluation.logits_of(self.network, *self.variables, features)


def find(folder: str | Path, **where: Any) -> list[Student]:
    """The students of a sweep's run directory whose rows have these values, such as `width=300, temperature=4.0`.
    Numbers agree to eight digits; nan or None stands for an empty cell. Raises BadInput: no run directory; that of a
    table, whose sweeps hold its students; no such student or column; a damaged block that holds one."""
    folder = Path(folder)
    sweeps = run_folders.sweeps_of(folder)
    first = sweeps[0] if sweeps else folder
    require(not sweeps, f"{folder} is a table of {len(sweeps)} sweeps, which hold its students: name one, as {first}")
    config = read_json(folder / "config.json")
    try:
        settings, data = config["identity"]["config"], config["identity"]["data"]
        network = {name: settings[name] for name in ("network", "precision", "mirrored_views") if name in settings}
        recipe, shape, classes = SweepConfig(**network), tuple(data["input_shape"]), int(data["num_classes"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{folder / 'config.json'} is not that of a run with students, or damaged ({error!r})") from None
    standardisation = _standardisation(folder / run_directory.FEATURES, data.get("standardisation"))
    students: list[Student] = []
    there: dict[str, dict[Any, None]] = {name: {} for name in where}
    for block in run_directory.block_folders(folder):
        for index, row in enumerate(run_directory.read_rows(block)):
            for name in there.keys() & row.keys():
                there[name][row[name]] = None
            if matches(row, where):
                student = Student(row, block, index, recipe.student(row["width"], 1), shape, classes, standardisation)
                students.append(student)
    for block in dict.fromkeys(student.block for student in students):
        check_manifest(block)  # which reads it whole: only where it is needed
    names = ", ".join(f"{name} {listed([value])}" for name, value in where.items())
    known = "; ".join(f"{name} {listed(values)}" for name, values in there.items() if values)
    remedy = f"there are {known} (results.csv says which together)" if known else "no block of it is finished"
    require(students, f"{folder} holds no student of {names or 'any kind'}: {remedy}")
    return students


def listed(values: Iterable[Any]) -> str:
    """The values of a column, for a message: the lowest eight of them."""
    ordered = sorted(values, key=lambda value: (value is not None, value))
    shown = [
        "none" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value) for value in ordered
    ]
    return "|".join(shown[:8] + ["…"] * (len(shown) > 8))


def _standardisation(path: Path, fingerprint: str | None) -> Standardisation | None:
    """That of a run on features; None where there is none. Raises BadInput: it is missing, or another run's."""
    if fingerprint is None:
        return None
    remedy = "without it features are not what the network was trained on: copy the run directory as a whole"
    require(path.exists(), f"{path} is missing; {remedy}")
    arrays = read_arrays(path)
    whole = {"mean", "deviation"} <= arrays.keys() and arrays["mean"].shape == arrays["deviation"].shape
    require(whole and arrays["mean"].ndim == 1, f"{path} is damaged; {remedy}")
    found = Standardisation(arrays["mean"], arrays["deviation"])
    require(found.fingerprint == fingerprint, f"{path} is not that of this run; {remedy}")
    return found


def results(*folders: Path | str) -> Any:
    """The rows of `results.csv` of all runs in these folders, as one pandas table.

    Each row has further columns in front: `run` (the name of its folder), `experiment` and `dataset`. A column that
    only some of the runs have is empty in the others.

    Args:
        folders: each a run directory with students, the run directory of a table (whose sweeps are read), or an `--out`
            folder with all that is in it. A run that is named twice is read once.

    Raises:
        BadInput: a folder holds no results, or damaged ones.
    """
    import pandas as pd  # late: a third of a second

    found = {run.resolve(): run for folder in map(Path, folders) for run in _with_results(folder)}
    tables = []
    for run in found.values():
        config = read_json(run / "config.json")
        try:
            identity = config["identity"]
            names = {
                "run": run.resolve().name,
                "experiment": identity["experiment"],
                "dataset": identity["data"]["name"],
            }
        except (KeyError, TypeError) as error:
            raise BadInput(f"{run / 'config.json'} is not that of a run, or damaged ({error!r})") from None
        rows = run_directory.read_results(run)
        tables.append(pd.concat([pd.DataFrame(names, index=rows.index), rows], axis=1))
    require(tables, "no folder was named: give a run directory, or the folder of --out")
    return pd.concat(tables, ignore_index=True)


def _with_results(folder: Path) -> list[Path]:
    """The run directories with students that a folder is or holds."""
    require(folder.is_dir(), f"{folder} is no folder: name a run directory, or the folder of --out")
    if (folder / "config.json").exists():
        runs = [run for run in (folder, *run_folders.sweeps_of(folder)) if (run / "results.csv").exists()]
    else:  # OUT/EXPERIMENT/NAME, or OUT/EXPERIMENT/sweeps/NAME
        runs = [path.parent for depth in (1, 2, 3) for path in sorted(folder.glob("[!.]*/" * depth + "results.csv"))]
    require(runs, f"{folder} holds no results.csv: it is no run directory, or no block of it is finished yet")
    return runs


def matches(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether a row has these values. Numbers agree to eight digits; nan or None stands for an empty cell. Raises
    BadInput: a name that is none of the row's columns."""
    for name in where:
        require(name in row, f"there is no column {name}: there are {', '.join(row)}{suggest(name, row)}")
    return all(_same(row[name], value) for name, value in where.items())


def _same(cell: Any, wanted: Any) -> bool:
    empty = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (cell, wanted)]
    if any(empty) or isinstance(cell, str) or isinstance(wanted, str):
        return all(empty) or cell == wanted
    try:
        return math.isclose(cell, wanted, rel_tol=1e-8)
    except TypeError:
        raise BadInput(f"{wanted!r} is not allowed as the value of a column: give a number, text, or None") from None
