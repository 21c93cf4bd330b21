"""The results of a temperature sweep, read from its run directory: tables, curves, test images."""

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import runs, wording
from analysis.sweep import verdict
from analysis.tables import count_of
from kdjax import run_directory
from kdjax.objectives import is_baseline, is_compared, words_of


class SweepResults(NamedTuple):
    """What the run directory of a sweep holds, as far as figures need it."""

    results: pd.DataFrame
    """`results.csv`: one row per run."""
    history: pd.DataFrame
    """`history.jsonl`: one row per epoch of each finished run."""
    teacher: dict[str, float]
    """Each measure of what students learn from, a teacher or an ensemble, on the test images."""
    labels: np.ndarray
    teacher_logits: np.ndarray
    example_images: np.ndarray
    example_rows: np.ndarray
    class_names: list[str]
    headline: str
    """Of the verdict."""
    where: str
    """Dataset, images, seeds: the last line of every title."""
    unit: str
    """What a width counts."""

    @property
    def examples(self) -> str:
        """What the test set is of, in words."""
        return "rows" if self.example_images.ndim == 2 else "images"

    @property
    def temperatures(self) -> list[float]:
        """Those of all runs but hard labels'; nan where an objective has none."""
        return list(self.results.loc[self.results["objective"] != "hard", "temperature"])

    @property
    def several(self) -> bool:
        """More than one run of a setting: there are intervals."""
        return self.results["seed"].nunique() > 1

    @property
    def learnt_from(self) -> str:
        """What students minimise, but for hard labels, baselines and controls; named where it is one other objective
        than `kd`: where there are several, each curve has its name."""
        names = [name for name in self.results["objective"].unique() if is_compared(name)]
        return "soft targets" + (f" ({words_of(names[0])})" if len(names) == 1 and names[0] != "kd" else "")


class Curve(NamedTuple):
    """One line against temperature: the runs of one width, objective, soft weight and learning rate."""

    width: int
    label: str
    """What tells it from the other curves of its width; empty where it is the only one."""
    runs: pd.DataFrame
    hard: pd.DataFrame
    """The hard-label runs it is compared with; may be empty."""
    thin: bool
    """A fixed rate, drawn behind the tuned one."""
    baseline: bool = False
    """Of an objective that is a baseline."""

    @property
    def swept(self) -> bool:
        """Its objective uses the temperature; if not, it is a level."""
        return bool(self.runs["temperature"].notna().any())

    @property
    def name(self) -> str:
        """Its width, and its label if it has one."""
        return ", ".join([f"{self.width} units", *[self.label] * bool(self.label)])


def load(folder: Path) -> SweepResults:
    """Reads a run directory.

    Raises:
        BadInput: it is none, or damaged; the message names the file.
    """
    config = runs.read_config(folder, *runs.OF_SWEEPS)
    results = runs.read(folder)
    test = runs.load_arrays(folder / "test.npz", "labels", "teacher_logits", "example_images", "example_rows")
    path = folder / "history.jsonl"
    with runs.reading(path):
        history = pd.read_json(path, lines=True, dtype=False).astype({"teacher": str})
        for name in ("temperature", "soft_weight", "learning_rate"):  # to the nine digits that results.csv has
            history[name] = [float(f"{float(value):.9g}") for value in history[name].fillna(math.nan)]
        names_of_run = [*runs.SETTING, *runs.RUN]
        history = runs.finished(history.merge(results[[*names_of_run, "failed_at"]], on=names_of_run))
        history[["monitor_errors", "transfer_error_rate", "epoch"]].astype(float)
    with runs.reading(folder / "config.json"):
        data = config["identity"]["data"]
        description, names = data["description"], data["class_names"]
        measures = config["details"]["teachers"][0]["test"]  # members of an ensemble come after it
        teacher = {name: float(measures[name]) for name in ("errors", "nll", "ece")}
    headline = verdict.of_run(folder, results, config).headline
    options = filter(None, [*wording.unusual_options(config["identity"]), run_directory.progress(folder)])
    where = _where(description, results, len(test["labels"]), list(options))
    unit = wording.unit_of(config["identity"].get("config", {}))
    return SweepResults(results, history, teacher, **test, class_names=names, headline=headline, where=where, unit=unit)


def curves(sweep: SweepResults) -> list[Curve]:
    """The curves of a sweep: one for each width, objective, soft weight and learning rate; baselines last.

    With a hold-out and several rates there is one more, whose rate the hold-out chooses at each temperature: it is then
    the main one, and the fixed rates are drawn thin.
    """
    drawn = []
    for width, of_width in sweep.results.groupby("width"):
        hard, soft = of_width[of_width["objective"] == "hard"], of_width[of_width["objective"] != "hard"]
        rates = sorted(of_width["learning_rate"].unique())
        for (weight, objective), of_weight in soft.groupby(["soft_weight", "objective"], dropna=False, sort=False):
            varying = [name for name in ("soft_weight", "objective") if soft[name].nunique() > 1]
            tuned = runs.best_on_holdout(of_weight, by=["temperature"]) if len(rates) > 1 else of_weight.iloc[:0]
            for rate in rates:
                setting = {"soft_weight": weight, "objective": objective, "learning_rate": rate}
                label = ", ".join(wording.in_words(setting, varying + ["learning_rate"] * (len(rates) > 1)))
                at_rate, base = (rows[rows["learning_rate"] == rate] for rows in (of_weight, hard))
                drawn.append(Curve(int(width), label, at_rate, base, not tuned.empty, is_baseline(str(objective))))
            if not tuned.empty:
                label = ", ".join([*wording.in_words(tuned.iloc[0], varying), "rate chosen on the hold-out"])
                base = runs.best_on_holdout(hard, by=["width"])
                drawn.append(Curve(int(width), label, tuned, base, thin=False, baseline=is_baseline(str(objective))))
    return sorted([curve for curve in drawn if len(curve.runs)], key=lambda curve: (curve.width, curve.baseline))


def _where(description: str, results: pd.DataFrame, test_images: int, options: list[str]) -> str:
    failed = int((results["failed_at"] >= 0).sum())
    parts = [description, *[f"{test_images:,} test images"] * (not re.search("test (images|rows)", description))]
    parts += [count_of(results["seed"].nunique(), "seed"), wording.teachers_in_words(results)]
    return ", ".join(parts + options + [f"{count_of(failed, 'failed run')} left out"] * (failed > 0))
