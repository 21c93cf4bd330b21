"""How many seeds the next sweep needs: `python -m analysis.plan` as a table, from the spread of finished sweeps."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.special
from jaxtyping import Float

from analysis import crossed, runs, wording
from analysis.runs import HARD, NONE
from analysis.sweep.config import PlanConfig
from analysis.sweep.power import MOST_SEEDS, Spread, equivalence_power, power, seeds_for, spread_of
from analysis.tables import Table, count_of, fixed, number
from kdjax.errors import require
from kdjax.identity import canonical_json
from kdjax.objectives import is_compared


class Comparison(NamedTuple):
    """A kind of comparison between the settings of one width."""

    name: str
    pairs: list[Float[np.ndarray, "teachers seeds"]]
    """Paired differences of test errors."""
    tests: int = 1
    """A difference is called one after a correction for so many comparisons."""
    together: bool = False
    """"Alike" is to be shown for all pairs at once, not for one."""


def comparisons(table: pd.DataFrame, alike_from: float, tests: int) -> Iterator[Comparison]:
    """What may be compared among test errors indexed by teacher and seed, a column a temperature (`HARD`, `NONE`).
    `tests`: the differences from hard labels that the verdict of the sweep tests together."""
    teachers = table.index.get_level_values("teacher").nunique()
    soft = {t: table[t].to_numpy(float).reshape(teachers, -1) for t in table}
    hard = soft.pop(HARD, None)
    if hard is not None and soft:
        pairs = [column - hard for column in soft.values()]
        what = "the objective" if NONE in soft else "a temperature"
        yield Comparison(f"{what} and hard labels", pairs, tests)
    if len(soft) > 1:
        yield Comparison("two temperatures", _pairs(soft.values()))
    high = {t: column for t, column in soft.items() if t >= alike_from}
    if len(high) > 1:
        yield Comparison(f"every two of T = {', '.join(map(number, high))}", _pairs(high.values()), together=True)


def _pairs(columns: Iterable[np.ndarray]) -> list[np.ndarray]:
    return [a - b for a, b in itertools.combinations(columns, 2)]


def describe(folders: Sequence[Path], config: PlanConfig) -> str:
    """The plan as a table, and in words below it, in Markdown.

    Raises:
        BadInput: a folder is no finished sweep, the sweeps are of several recipes, or nothing in them is paired.
    """
    header = ["", "a difference between", "spread", "teachers", f"to see {config.difference:g}: seeds", "power now"]
    header += [f"to show within ±{config.margin:g}: seeds", "power now"]
    cells, said, same, planned = list[list[str]](), list[str](), list[str](), set[int]()
    results = _read(folders)
    tests = settings_compared(results)
    for where, table in _tables(results):
        seen, seeds = (table.index.get_level_values(name).nunique() for name in runs.RUN)
        for kind in comparisons(table, config.alike_from, tests):
            spread = spread_of(kind.pairs)
            if not any(value > 0 for value in spread):
                same.append(f"{where}: {kind.name} differ by the same in every run, which says nothing about spread.")
                continue
            total = fixed(math.sqrt(np.nansum(np.square(spread))))
            for teachers in config.teachers or (seen,):
                planned.add(teachers)
                numbers = _row(kind, spread, teachers, seeds, config)
                cells.append([where, kind.name, total, str(teachers), *numbers])
        asked = config.alike_from != PlanConfig.alike_from
        if asked and sum(t >= config.alike_from for t in table.columns) < 2:
            said.append(f"{where}: no two temperatures from {number(config.alike_from)} on (--alike-from).")
        said.append(f"{where}: {count_of(seen, 'teacher')}, {count_of(seeds, 'seed')}; {_uncertain(seen, seeds)}.")
    require(cells or not same, "these runs do not differ at all: nothing is known about spread")
    require(cells, "nothing is to be compared: a plan needs two seeds of two temperatures, or of one and hard labels")
    notes = [
        f"Seeds, under each teacher, with which it is seen or shown with probability {config.power:g}; now: that "
        "probability with as many seeds as these runs have.",
        "Seen: the 95 % interval of the paired difference excludes zero, where the true one is "
        f"{config.difference:g} errors; from hard labels, after a correction for all {tests} settings that are "
        "compared with them, as in a verdict on all of these runs. Shown: two one-sided "
        f"tests at 5 % find it within ±{config.margin:g}, where it is 0. For every two at once these are bounds: at "
        "most so many seeds, at least that probability.",
        "Spread: standard deviation of the paired difference of test errors, a mean over the pairs of settings. "
        "Under one teacher a plan is about that teacher.",
        *said,
        *same,
        *crossed.few_draws(2 if 2 in planned else 1, 3),
    ]
    return f"# How many seeds\n\n{Table(header, cells, notes, left=2).markdown()}"


def _row(kind: Comparison, spread: Spread, teachers: int, seeds: int, config: PlanConfig) -> list[str]:
    """Seeds to see a difference and the power now, then the same of equivalence."""
    # Of m claims that must hold together each may fail with (1 − power)/m, however they depend (Bonferroni).
    m = len(kind.pairs) if kind.together else 1

    def see(n: int) -> float:
        return power(config.difference, spread, n, teachers, kind.tests)

    def show(n: int) -> float:
        return max(0.0, 1 - m * (1 - equivalence_power(config.margin, spread, n, teachers)))

    found = [[_seeds(seeds_for(of, config.power)), fixed(of(seeds), 2)] for of in (see, show)]
    return ["", "", *found[1]] if kind.together else [*found[0], *found[1]]


def _seeds(count: int | None) -> str:
    return f"> {MOST_SEEDS}" if count is None else str(count)


def _uncertain(teachers: int, seeds: int) -> str:
    """How far the spread itself may be from the truth: by the 97.5 % bound of a standard deviation."""
    factors = [
        f"{math.sqrt((n - 1) / float(scipy.special.chdtri(n - 1, 0.975))):.1f} times as large from {name} to {name}"
        for name, n in (("seed", seeds), ("teacher", teachers))
        if n > 1
    ]
    return f"the true spread may be up to {', and '.join(factors)}; seeds go with its square"


def _read(folders: Sequence[Path]) -> pd.DataFrame:
    """The runs of sweeps of one recipe."""
    recipes = {canonical_json(_recipe(folder)) for folder in folders}
    results = pd.concat([runs.read(folder) for folder in folders], ignore_index=True)
    require(len(recipes) == 1, "these sweeps have different recipes or images: a spread is that of one")
    again = results.duplicated([*runs.SETTING, *runs.RUN]).any()
    require(not again, "the same runs come twice: name each sweep once, and sweeps of several teachers")
    return results


def settings_compared(results: pd.DataFrame) -> int:
    """How many settings a verdict compares with hard labels: all but controls, each at the rate that the hold-out
    chooses, where there is one."""
    chosen = len(runs.best_on_holdout(results, by=["width"])) > 0
    names = [name for name in runs.SETTING if not (chosen and name == "learning_rate")]
    return len(results.loc[results["objective"].map(is_compared), names].drop_duplicates())


def _tables(results: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Of each width, soft weight and rate, in words: test errors by teacher and seed, a column a temperature.

    With a hold-out and several rates, each setting has the rate that the hold-out chooses. Settings with a failed run
    are left out, as are seeds that not every teacher has; hard labels are the same under every teacher.
    """
    names = list(filter(is_compared, results["objective"].unique()))
    objective = "kd" if "kd" in names else names[0] if names else ""  # one stands for the others
    results = results[results["objective"].isin(["hard", objective])]
    tuned = runs.best_on_holdout(results, by=["width", "soft_weight", "temperature"])
    if results["learning_rate"].nunique() > 1 and len(tuned):
        results = tuned.assign(learning_rate=math.nan)
    hard, soft = (results[results["objective"] == kind] for kind in ("hard", objective))
    for (width, weight, rate), rows in soft.groupby(["width", "soft_weight", "learning_rate"], dropna=False):
        seeds = [set(of_teacher["seed"]) for _, of_teacher in rows.groupby("teacher")]
        rows = rows[rows["seed"].isin(set.intersection(*seeds))]
        if rows["seed"].nunique() < 2:
            continue
        errors = rows.assign(test_errors=rows["test_errors"].where(rows["failed_at"] < 0)).fillna({"temperature": NONE})
        table = errors.pivot_table(index=runs.RUN, columns="temperature", values="test_errors", dropna=False)
        same = hard[(hard["width"] == width) & ((hard["learning_rate"] == rate) | math.isnan(rate))]
        by_seed = runs.finished(same).groupby("seed")["test_errors"].mean()
        table.insert(0, HARD, table.index.get_level_values("seed").map(by_seed))
        named = ["width", *["objective"] * (objective != "kd"), *["soft_weight"] * (soft["soft_weight"].nunique() > 1)]
        named += ["learning_rate"] * (results["learning_rate"].nunique() > 1)  # none where they are tuned
        setting = {"width": width, "objective": objective, "soft_weight": weight, "learning_rate": rate}
        name = [*wording.in_words(setting, named), *["tuned rates"] * math.isnan(rate)]
        yield ", ".join(name), table.dropna(axis="columns")


def _recipe(folder: Path) -> object:
    """What sweeps that are pooled have in common: the images, and how students are trained."""
    identity = runs.read_config(folder, *runs.OF_SWEEPS)["identity"]
    with runs.reading(folder / "config.json"):
        own = {"seeds", "first_seed", "widths", "learning_rates", "hard_labels", "block_size"}
        own |= {"objectives", "temperatures", "without_temperature", "soft_weights", "padded"}
        config = {name: value for name, value in identity["config"].items() if name not in own}
        return {"config": config, "data": identity["data"]}
