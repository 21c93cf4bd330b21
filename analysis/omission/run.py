"""The results of an omission run, read from its run directory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.runs import load_arrays, read_config
from analysis.tables import count_of
from kdjax import run_directory
from kdjax.errors import require
from kdjax.targets import WORDS


class OmissionResults(NamedTuple):
    """What a run directory holds, as far as figures need it."""

    folder: Path
    rows: pd.DataFrame
    """`results.csv`: a row a student and correction."""
    labels: np.ndarray
    example_images: np.ndarray
    example_rows: np.ndarray
    data: dict[str, Any]
    """Of the identity: description, class names, number of classes."""
    temperature: float
    """The first that was given."""

    def logits(self, row: pd.Series) -> np.ndarray:
        """Test logits of the student of a row, `[images, classes]`."""
        of_block = run_directory.read_logits(self.folder / "blocks" / str(row["block"]), "test")
        logits: np.ndarray = of_block[int(row["place"])]
        return logits

    def of(self, omitted: str, student: str, correction: str) -> pd.DataFrame:
        """The rows of one student under one correction, at the first temperature; a hard run is the same at every T."""
        rows = self.rows[self.rows["omitted"] == omitted]
        rows = rows[(rows["student"] == student) & (rows["correction"] == correction) & (rows["failed_at"] < 0)]
        return at_temperature(rows, self.temperature)

    @property
    def tasks(self) -> list[str]:
        """Sets of omitted classes."""
        return list(dict.fromkeys(self.rows["omitted"]))

    @property
    def several(self) -> bool:
        """Whether there is more than one seed."""
        return bool(self.rows["seed"].nunique() > 1)

    @property
    def means(self) -> str:
        """The end of a title of means, of which there are no intervals."""
        return ": means over seeds" if self.several else " (single runs)"

    @property
    def where(self) -> str:
        """Data, width, seeds: the second line of every title."""
        width, seeds = self.rows["width"].iloc[0], self.rows["seed"].nunique()
        parts = [self.data["description"], f"{width} units per layer", count_of(seeds, "seed")]
        return ", ".join(filter(None, [*parts, run_directory.progress(self.folder)]))


def load(folder: Path) -> OmissionResults:
    """Reads a run directory.

    Raises:
        BadInput: it is none, or damaged; the message names the file.
    """
    identity = read_config(folder, "omit_digit")["identity"]
    rows = read(folder)
    test = load_arrays(folder / "test.npz", "labels", "example_images", "example_rows")
    return OmissionResults(folder, rows, **test, data=described(identity), temperature=first_temperature(identity))


def first_temperature(identity: dict[str, Any]) -> float:
    """The first of the temperatures, to the nine digits that results.csv has."""
    return float(f"{float(identity['config']['temperatures'][0]):.9g}")


def read(folder: Path) -> pd.DataFrame:
    """`results.csv` of an omission run, checked; `omitted` is text, and a hard run's temperature nan."""
    rows: pd.DataFrame = run_directory.read_results(folder)
    words = ["omitted", "without", "student", "correction", "teacher", "block"]
    numbers = ["width", "bias", "seed", "temperature", "test_errors", "test_images", "omitted_errors", "omitted_images"]
    numbers += ["failed_at", "place"]
    path = folder / "results.csv"
    missing = ", ".join(name for name in [*words, *numbers] if name not in rows)
    require(not missing, f"{path} lacks {missing}: it is no result of omit_digit")
    require(len(rows), f"{path} holds no run yet: let the experiment finish")
    damaged = ", ".join(name for name in numbers if not pd.api.types.is_numeric_dtype(rows[name]))
    require(not damaged, f"{path} is damaged in the columns {damaged}: give the experiment's command again")
    return rows.astype({"temperature": float})


def at_temperature(rows: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The rows at a temperature, hard-label runs among them: they have none."""
    return rows[rows["temperature"].eq(temperature) | rows["temperature"].isna()]


def described(identity: dict[str, Any]) -> dict[str, Any]:
    """The identity's data; their description says what stands for the teacher's logits, where something does."""
    data: dict[str, Any] = identity["data"]
    targets = identity["config"].get("targets")
    if targets is None:
        return data
    words = WORDS.get(targets, targets.replace("_", " "))
    return {**data, "description": f"{data['description']}; targets: {words}", "targets": words}


def name_task(omitted: str, data: dict[str, Any]) -> str:
    """What a student was shown, in words: "without 3", "without 3 and 5", "on 7 and 8 alone"."""
    left_out, names = [int(value) for value in omitted.split()], data["class_names"]
    shown = [names[value] for value in range(data["num_classes"]) if value not in left_out]
    if len(left_out) > len(shown):
        return f"on {_listed(shown)} alone"
    return f"without {_listed([names[value] for value in left_out])}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
