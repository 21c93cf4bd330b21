"""The runs in `results.csv`: read and checked, grouped by setting, averaged, paired, chosen on the hold-out."""

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import crossed, stats
from kdjax import run_directory, trained
from kdjax.errors import BadInput, require
from kdjax.files import read_json, require_ordinary
from kdjax.run_folders import sweep_folder

SETTING = ["width", "objective", "temperature", "soft_weight", "learning_rate"]
"""The columns that name a setting; runs of one setting differ in teacher and seed."""
RUN = ["teacher", "seed"]
OF_SWEEPS = ("temperature_sweep", "logit_matching")
"""Experiments whose run directories are those of sweeps."""
HARD, NONE = 0.0, -1.0
"""Stand among temperatures, which are above 0, for hard labels, and for an objective that does not use one."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a file is read becomes one line that names it.

    Raises:
        BadInput: the file is missing, or not what it should be.
    """
    try:
        yield
    except FileNotFoundError:
        raise BadInput(f"{path} is missing: give the experiment's command again") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{path} is damaged ({error}): give the experiment's command again") from None


def load_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file: those of the given names, or all.

    Raises:
        BadInput: the file is missing, damaged, or lacks one.
    """
    require_ordinary(path)
    with reading(path), np.load(path) as arrays:
        return {name: arrays[name] for name in names or arrays.files}


def read_config(folder: Path, *experiments: str) -> Any:
    """`config.json` of a run directory of one of these experiments. Raises BadInput: there is none, it is damaged, or
    of another experiment."""
    require(folder.is_dir(), f"{folder} is no folder: name a run directory, or leave it out for the newest one")
    config = read_json(folder / "config.json")
    with reading(folder / "config.json"):
        experiment = config["identity"]["experiment"]
    require(experiment in experiments, f"{folder} is a run of {experiment}: name one of {experiments[0]}")
    broken = f"{folder / 'config.json'} is damaged: give the experiment's command again"
    require(isinstance(config.get("details"), dict), broken)
    return config


def read(folder: Path) -> pd.DataFrame:
    """`results.csv` of a sweep's run directory, checked."""
    results: pd.DataFrame = run_directory.read_results(folder)
    check(results, str(folder / "results.csv"))
    return results.astype({"teacher": str})  # a fingerprint may be all digits


def check(results: pd.DataFrame, source: str = "results.csv") -> None:
    """Refuses a table that has no rows, lacks a column, or holds text where numbers belong."""
    columns = [*SETTING, *RUN, "test_errors", "failed_at"]
    missing = ", ".join(column for column in columns if column not in results)
    require(not missing, f"{source} lacks the columns {missing}: it is no result of a temperature sweep, or damaged")
    require(len(results), f"{source} holds no run yet: let the experiment finish a block")
    numbers = results[columns].drop(columns=["teacher", "objective"])
    damaged = [name for name, values in numbers.items() if not pd.api.types.is_numeric_dtype(values)]
    whole = [name for name in ("width", "seed", "test_errors") if name not in damaged]
    damaged += [name for name in whole if results[name].isna().any()]
    damaged += [] if results["objective"].map(lambda name: isinstance(name, str)).all() else ["objective"]
    names = ", ".join(map(str, damaged))
    require(not damaged, f"{source} is damaged in the columns {names}: give the experiment's command again")


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose loss stayed finite."""
    return runs[runs["failed_at"] < 0]


def by_setting(results: pd.DataFrame) -> list[tuple[pd.Series, pd.DataFrame]]:
    """Each setting with its runs, indexed by teacher and seed: by width, hard labels, then kd, then the rest."""
    ordered = results.sort_values(SETTING, na_position="first", kind="stable", key=hard_labels_first)
    groups = ordered.groupby(SETTING, sort=False, dropna=False)
    return [(runs.iloc[0][SETTING], runs.set_index(RUN)) for _, runs in groups]


def hard_labels_first(column: pd.Series) -> pd.Series:
    """A key to sort by: of the column objective, hard labels, then kd, then the rest; other columns as they are."""
    first = {"hard": "", "kd": " "}
    return column.map(lambda name: first.get(name, name)) if column.name == "objective" else column


def hard_baseline(results: pd.DataFrame, setting: pd.Series) -> pd.DataFrame:
    """The hard-label runs of a setting's width and learning rate, indexed by teacher and seed; there may be none."""
    same = (results["width"] == setting["width"]) & (results["learning_rate"] == setting["learning_rate"])
    return results[same & (results["objective"] == "hard")].set_index(RUN)


def mean(values: pd.Series) -> stats.Interval:
    """Mean and interval of one column of finished runs, indexed by teacher and seed.

    One teacher: over seeds (about this teacher, then). Several: `crossed.crossed_interval`, over the seeds that all
    have, so that a seed of which one run failed is left out. With fewer than two such seeds: over the teachers' means,
    or over runs where each has a teacher of its own.
    """
    return crossed.crossed_interval(grid(values))


def paired(values: pd.Series, others: pd.Series) -> stats.Difference | None:
    """The mean of `values − others` over the labels that both have: seeds, or teachers and seeds; None without any.

    One seed under several teachers is one run, as networks of hard labels are the same under all."""
    shared = values.index.intersection(others.index)
    if shared.empty:
        return None
    less = values[shared] - others[shared]
    if shared.nlevels > 1 and shared.get_level_values("seed").nunique() == 1:
        less = less.groupby("seed").mean()
    return stats.difference(crossed.crossed_interval(grid(less)))


def difference(runs: pd.DataFrame, baseline: pd.DataFrame, column: str = "test_errors") -> stats.Difference | None:
    """The paired difference of a column between two settings, over the runs that finished in both."""
    return paired(finished(runs)[column], finished(baseline)[column])


def wrong_answers(folder: Path) -> dict[tuple[str, ...], np.ndarray]:
    """Whether each answer of a run is wrong, `[test images]`, from the logits in a sweep's run directory.

    By what `name_of` calls a run; empty where no logits are stored.

    Raises:
        BadInput: a block is damaged.
    """
    blocks = run_directory.block_folders(folder)
    labels = load_arrays(folder / "test.npz", "labels")["labels"] if blocks else None
    wrong = dict[tuple[str, ...], np.ndarray]()
    for block in blocks:
        answers = run_directory.read_logits(block, "test").argmax(axis=-1)
        with reading(block):
            wrong |= dict(zip(map(name_of, run_directory.read_rows(block)), answers != labels, strict=True))
    return wrong


def over_images(
    wrong: Mapping[tuple[str, ...], np.ndarray], runs: pd.DataFrame, baseline: pd.DataFrame
) -> stats.Difference | None:
    """`stats.difference_over_images` between two settings, over the runs that finished in both; None where there are
    none, or their answers are not known."""
    a, b = finished(runs), finished(baseline)
    shared = a.index.intersection(b.index)
    named = [map(name_of, rows.loc[shared].reset_index().to_dict("records")) for rows in (a, b)]
    answers = [[wrong.get(name) for name in names] for names in named]
    if not len(shared) or any(answer is None for one in answers for answer in one):
        return None
    return stats.difference_over_images(np.array(answers[0]), np.array(answers[1]))


def best_on_holdout(results: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """`best` by hold-out errors; empty without a hold-out."""
    return best(results, by, "holdout_errors") if "holdout_errors" in results else results.iloc[:0]


def best(results: pd.DataFrame, by: Sequence[str], column: str) -> pd.DataFrame:
    """The runs of the setting with the lowest mean of a column in each group of equal `by` columns.

    A setting with a failed run is not chosen; of equal settings the first in the table's order is.
    """
    kept = whole(results, column)
    if kept.empty:
        return kept
    means = kept.groupby(SETTING, dropna=False)[column].transform("mean")
    ordered = kept.assign(_mean=means).sort_values(["_mean", *SETTING], kind="stable", na_position="first")
    chosen = ordered.drop_duplicates(list(by))[SETTING]
    return kept.merge(chosen, on=SETTING)  # pandas joins nan to nan


def whole(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """The runs of the settings in which no run failed, or lacks a number in a column."""
    bad = results["failed_at"].ge(0) | results[column].isna()
    return results[~bad.groupby([results[name] for name in SETTING], dropna=False).transform("any")]


def load_student(folder: Path, row: pd.Series) -> trained.Student:
    """The student of a row (with a column `run`) of the sweeps behind the table in `folder`."""
    (student,) = trained.find(sweep_folder(folder, str(row["run"])), **row[[*SETTING, *RUN]])
    return student


def name_of(run: Mapping[str, Any]) -> tuple[str, ...]:
    """What names a run, alike from `results.csv`, which keeps nine digits, and from a block's rows."""
    words = ("objective", "teacher")
    values = ((name, run[name]) for name in [*SETTING, *RUN])
    return tuple(str(v) if name in words else f"{math.nan if v is None else float(v):.9g}" for name, v in values)


def grid(values: pd.Series) -> np.ndarray:
    """`[teachers, seeds]` of the seeds that all teachers have; one column where runs are indexed by seed alone, or, of
    teachers' means, where fewer than two of several seeds are shared."""
    if values.index.nlevels == 1:
        return values.to_numpy(np.float64)[:, None]
    table = values.astype(float).unstack("seed")
    shared = table.dropna(axis="columns")
    kept = shared if shared.shape[1] >= min(2, table.shape[1]) else table.mean(axis=1).to_frame()
    return np.asarray(kept, np.float64)
