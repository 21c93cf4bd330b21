"""The results of an MNIST table, read from its run directory and those of the sweeps that it names."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import runs
from analysis.mnist.roles import Role
from kdjax.errors import BadInput, require
from kdjax.files import check_seal, read_json
from kdjax.run_folders import sweep_folder


class MnistResults(NamedTuple):
    """What the sweeps of a table have trained."""

    folder: Path
    identity: dict[str, Any]
    teachers: list[dict[str, Any]]
    """name, folder and test measures of each."""
    results: pd.DataFrame
    """The rows of all sweeps, with the columns part, role, run (the name of its folder) and teacher_errors."""
    hint: str | None

    def of(self, role: Role | str, **where: Any) -> pd.DataFrame:
        """The finished runs of a role, with the given values in the given columns.

        Raises:
            ValueError: there is no such role.
        """
        return runs.finished(self.trained(role, **where))

    def failed(self, role: Role | str, **where: Any) -> int:
        """How many of those runs are left out because their loss stopped being finite."""
        return int((self.trained(role, **where)["failed_at"] >= 0).sum())

    def trained(self, role: Role | str, **where: Any) -> pd.DataFrame:
        """All runs of a role, failed ones too."""
        rows = self.results[self.results["role"] == Role(role).value]
        for column, value in where.items():
            same = rows[column] == value
            if isinstance(value, float):  # of which results.csv keeps nine digits
                same |= np.isclose(rows[column], value, rtol=1e-8)
            rows = rows[same]
        return rows

    def of_first_teacher(self) -> pd.DataFrame:
        """The finished runs of the distilled row under the first teacher alone."""
        return self.of(Role.DISTILLED, soft_weight=self.soft_weight, teacher=str(self.teachers[0]["name"]))

    @property
    def of_paper(self) -> bool:
        """Whether the setting is the paper's: all of MNIST, 800 units, T = 20, teachers of 1200 units whose images are
        shifted at most."""
        return self.with_papers_teacher and (self.identity["config"]["width"], self.temperature) == (800, 20.0)

    @property
    def with_papers_teacher(self) -> bool:
        """Whether images and teachers are the paper's."""
        widths, images = self.identity["config"]["teacher"]["widths"], self.identity["data"]["train_images"]
        return self.on_mnist and images == 60_000 and list(widths) == [1200, 1200] and self.augment == "none"

    @property
    def augment(self) -> str:
        """Random maps of the teachers' images (the first tables had none)."""
        return str(self.identity["config"]["teacher"].get("augment", "none"))

    @property
    def of_which_images(self) -> str:
        """Words for teachers whose images are changed by more than jitter; empty for others."""
        words = {"none": "", "elastic": " of elastically distorted images"}
        return words.get(self.augment, f" of images changed at random ({self.augment})")

    @property
    def on_mnist(self) -> bool:
        """Whether the images are those of the paper."""
        return bool(self.identity["data"]["name"] == "mnist")

    @property
    def temperature(self) -> float:
        """T of the distilled row; ∞ stands in the config as text."""
        return float(self.identity["config"]["temperature"])

    @property
    def soft_weight(self) -> float:
        """That of the table's distilled row."""
        return float(self.identity["config"]["soft_weights"][0])

    @property
    def learning_rate(self) -> float:
        """The table's own, at which the widths are trained too."""
        return float(self.identity["config"]["learning_rate"])

    @property
    def test_images(self) -> int:
        """Number of test images."""
        return int(self.identity["data"]["test_images"])


def load(folder: Path) -> MnistResults:
    """Reads a table's run directory and the sweeps that it names.

    Raises:
        BadInput: it is none, or one of its sweeps is missing or damaged.
    """
    config = runs.read_config(folder, "mnist_table")
    check_seal(folder)
    broken = f"{folder / 'config.json'} is damaged: give the experiment's command again"
    identity, details = config["identity"], config["details"]
    require("answers" in details, f"{folder} is no finished run of mnist_table: give the experiment's command again")
    columns = ["part", "role", "run", "teacher_errors", *runs.SETTING, *runs.RUN, "epochs", "test_errors", "failed_at"]
    parts = []
    try:
        for answer in details["answers"]:
            sweep = sweep_folder(folder, answer["run"])
            teachers = read_json(sweep / "config.json")["details"]["teachers"]
            errors = {str(teacher["name"]): teacher["test_errors"] for teacher in teachers}
            rows = runs.read(sweep)
            parts.append(rows.assign(**answer, teacher_errors=rows["teacher"].map(errors)))
        needed: list[tuple[Any, tuple[str, ...]]] = [(one, ("name", "folder", "test")) for one in details["teachers"]]
        needed += [(identity["data"], ("name", "description", "train_images", "test_images"))]
        of_config = ("soft_weights", "temperature", "width", "precision", "teacher", "learning_rate")
        needed += [(identity["config"], of_config)]
        missing = [name for holder, names in needed for name in names if name not in holder]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{broken} ({error!r} in it, or in a sweep's)") from None
    require(not missing, f"{broken} (it lacks {', '.join(missing)})")
    results = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return MnistResults(folder, identity, details["teachers"], results, details.get("hint"))
