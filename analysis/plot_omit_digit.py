"""Draws an omission run: errors against bias, errors by class, what omitted digits are taken for, and a strip of them.

    python -m analysis.plot_omit_digit [FOLDER]

Figures go into FOLDER/figures, as PNG and PDF. Where each class was omitted in turn there is a figure of one row a
class; where there are several temperatures, one against T, and the others are of the first T that was asked for.
"""

import dataclasses
import zipfile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from kdjax import cli, run_directory
from kdjax.errors import BadInput, require


@dataclasses.dataclass(frozen=True)
class PlotConfig:
    """Draws the figures of an omission run."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory to draw (default: the one under --out with the newest results)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""


class Run(NamedTuple):
    """What a run directory holds, as far as figures need it."""

    folder: Path
    results: Any
    """`results.csv`, a pandas table."""
    labels: np.ndarray
    example_images: np.ndarray
    example_rows: np.ndarray
    data: dict[str, Any]
    """Of the identity: description, class names, number of classes."""
    temperature: float
    """The first that was asked for."""

    def logits(self, row: Any) -> np.ndarray:
        """Test logits of the student of a row."""
        with np.load(self.folder / "blocks" / row["block"] / "logits.npz") as arrays:
            return arrays["test"][int(row["place"])]

    def of(self, omitted: str, student: str, correction: str, temperature: float | None = None) -> Any:
        """The rows of one student under one correction, a row a seed; a hard run is the same at every T."""
        rows = self.results
        t = self.temperature if temperature is None else temperature
        mine = (rows["omitted"] == omitted) & (rows["student"] == student) & (rows["correction"] == correction)
        return rows[mine & (rows["failed_at"] < 0) & (rows["temperature"].eq(t) | rows["temperature"].isna())]

    @property
    def tasks(self) -> list[str]:
        """Sets of omitted classes."""
        return list(dict.fromkeys(self.results["omitted"]))

    @property
    def where(self) -> str:
        """Data, width, seeds: the second line of every title."""
        first, seeds = self.results.iloc[0], self.results["seed"].nunique()
        parts = [self.data["description"], f"{first['width']} units per layer", f"{seeds} seed{'s' * (seeds > 1)}"]
        return ", ".join(parts)


def main(config: PlotConfig) -> None:
    """Draws, and says where."""
    folder = config.folder or run_directory.latest_run(config.out, "omit_digit")
    for path in draw(folder):
        if path.suffix == ".png":
            print(path)


def draw(folder: Path) -> list[Path]:
    """Draws every figure of a run directory into its folder `figures`; returns the files written.

    Raises:
        BadInput: `folder` is no run directory, or what is in it is damaged.
    """
    from analysis import style
    from analysis.omission import figures as figures_of

    run = load(folder)
    with style.applied():
        figures = {"soft_predictions": figures_of.strip(run)}
        if len(run.tasks) > 1:
            figures["each"] = figures_of.each(run)
        else:
            figures |= {
                "errors_against_bias": figures_of.against_bias(run),
                "errors_by_class": figures_of.classes(run),
                "taken_for": figures_of.taken_for(run),
            }
        if run.results["temperature"].nunique() > 1 and len(run.tasks) == 1:
            figures["errors_against_temperature"] = figures_of.temperatures(run)
        return [
            path for name, figure in figures.items() if figure for path in style.save(figure, folder / "figures", name)
        ]


def load(folder: Path) -> Run:
    """Reads a run directory.

    Raises:
        BadInput: it is none, or damaged; the message names the file.
    """
    from analysis.omission import table as omission_table

    require(folder.is_dir(), f"{folder} is no folder: name a run directory, or leave it out for the newest one")
    identity = run_directory.read_json(folder / "config.json").get("identity", {})
    require(identity.get("experiment") == "omit_digit", f"{folder} is no run directory of omit_digit")
    results = omission_table.read(folder)
    path = folder / "test.npz"
    try:
        with np.load(path) as arrays:
            test = {name: arrays[name] for name in ("labels", "example_images", "example_rows")}
    except FileNotFoundError:
        raise BadInput(f"{path} is missing: give the experiment's command again") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is damaged ({error}): give the experiment's command again") from None
    return Run(
        folder, results, **test, data=omission_table.described(identity), temperature=identity_temperature(identity)
    )


def identity_temperature(identity: dict[str, Any]) -> float:
    """The first temperature asked for (JSON has no infinity: it is text there)."""
    return float(identity["config"]["temperatures"][0])


if __name__ == "__main__":
    cli.run(main, PlotConfig, "python -m analysis.plot_omit_digit")
