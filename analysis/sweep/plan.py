"""How many seeds a comparison needs, from the paired spread that sweeps show.

A paired difference between two settings, under teacher t and seed s, is modelled as `δ + a_t + b_s + e_ts`, independent
and normal with the standard deviations of a `Spread`. Over T teachers crossed with S seeds its mean has the variance
`σ_a²/T + σ_b²/S + σ_e²/(TS)`, and the interval that `crossed.paired_difference` will give is made of independent mean
squares, `(Sσ_a² + σ_e²)·χ²(T−1)/(T−1)` and `(Tσ_b² + σ_e²)·χ²(S−1)/(S−1)`. Power is the mean, over their distribution,
of the chance that the mean then falls where the verdict is given. One teacher: about that teacher, `σ_b² + σ_e²` only.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.special
from jaxtyping import Float

from analysis import crossed, runs
from analysis.runs import HARD, NONE
from analysis.sweep.config import PlanConfig
from analysis.tables import Table, count_of, fixed, number
from kdjax.errors import require
from kdjax.identity import canonical_json
from kdjax.objectives import is_compared

ALPHA = 0.05
"""Two-sided for a difference, whose 95 % interval excludes zero; one-sided, twice, for "alike"."""
MOST_SEEDS = 1000
POINTS = 100
"""Quantiles that stand for the distribution of a mean square."""


class Spread(NamedTuple):
    """Standard deviations of a paired difference, in test errors."""

    teachers: float
    """From teacher to teacher; nan where one teacher was seen."""
    seeds: float
    """From seed to seed, the same under every teacher; under one teacher it is part of `runs`."""
    runs: float
    """What remains."""


def power(difference: float, spread: Spread, seeds: int, teachers: int = 1, tests: int = 1) -> float:
    """The probability that the 95 % interval of a paired difference excludes zero, where `difference` is the true one.

    `tests`: one of so many, after a correction for all (Bonferroni, which Holm's at least equals): the `1 − 0.05/tests`
    interval excludes zero.

    Raises:
        BadInput: fewer than two seeds, or several teachers planned from the spread under one.
    """
    standard_error, df, of_mean = _intervals(spread, seeds, teachers)
    half = scipy.special.stdtrit(df, 1 - ALPHA / 2 / tests) * standard_error
    above, below = ((sign * difference - half) / of_mean for sign in (1, -1))
    return float(np.mean(scipy.special.ndtr(above) + scipy.special.ndtr(below)))


def equivalence_power(margin: float, spread: Spread, seeds: int, teachers: int = 1) -> float:
    """The probability that two one-sided tests at 5 % show a true difference of 0 to lie within ±margin.

    Raises: as `power`.
    """
    standard_error, df, of_mean = _intervals(spread, seeds, teachers)
    room = (margin - scipy.special.stdtrit(df, 1 - ALPHA) * standard_error) / of_mean
    return float(np.mean(np.maximum(2 * scipy.special.ndtr(room) - 1, 0.0)))


def seeds_for(power_with: Callable[[int], float], wanted: float = 0.8) -> int | None:
    """The fewest seeds, from two on, with which `power_with(seeds)` is `wanted`; None if more than `MOST_SEEDS`."""
    low, high = 1, 2  # too few, perhaps enough
    while power_with(high) < wanted:
        if high == MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_with(middle) >= wanted else (middle, high)
    return high


def _intervals(spread: Spread, seeds: int, teachers: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Standard errors and degrees of freedom that intervals may have, equally likely, and the mean's true deviation."""
    require(seeds > 1, f"{count_of(seeds, 'seed')}: without a second nothing is known about spread")
    one, known = teachers == 1, not math.isnan(spread.teachers)
    require(one or known, "the spread over teachers is not known from one teacher: give runs under two or more")
    of_teachers, of_seeds, of_runs = (0.0 if one else spread.teachers**2), spread.seeds**2, spread.runs**2
    of_mean = math.sqrt(of_teachers / teachers + of_seeds / seeds + of_runs / (teachers * seeds))
    require(of_mean > 0, "these runs do not differ at all: nothing is known about spread")
    by_seed = (teachers * of_seeds + of_runs) * _scaled_chi_squared(seeds - 1)
    if one:
        return np.sqrt(by_seed / seeds), np.full(POINTS, seeds - 1.0), of_mean
    by_teacher = ((seeds * of_teachers + of_runs) * _scaled_chi_squared(teachers - 1))[:, None]
    total = by_teacher + by_seed
    df = total**2 / (by_teacher**2 / (teachers - 1) + by_seed**2 / (seeds - 1))
    return np.sqrt(total / (teachers * seeds)), df, of_mean


def _scaled_chi_squared(df: int) -> Float[np.ndarray, "points"]:
    above = (np.arange(POINTS, 0, -1) - 0.5) / POINTS
    return np.asarray(scipy.special.chdtri(df, above) / df)


def spread_of(differences: Iterable[Float[np.ndarray, "teachers seeds"]]) -> Spread:
    """The spread of paired differences, its variances a mean over these comparisons.

    From the mean squares (analysis of variance); a variance that would be negative is 0.
    """
    tables = list(differences)
    teachers, seeds = tables[0].shape
    if teachers == 1:
        return Spread(math.nan, 0.0, math.sqrt(np.mean([np.var(table, ddof=1) for table in tables])))
    of_teachers, of_seeds, of_runs = np.mean([crossed.mean_squares(table) for table in tables], axis=0)
    components = ((of_teachers - of_runs) / seeds, (of_seeds - of_runs) / teachers, of_runs)
    return Spread(*(math.sqrt(max(float(component), 0.0)) for component in components))


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
        name = [*runs.in_words(setting, named), *["tuned rates"] * math.isnan(rate)]
        yield ", ".join(name), table.dropna(axis="columns")


def _recipe(folder: Path) -> object:
    """What sweeps that are pooled have in common: the images, and how students are trained."""
    identity = runs.read_config(folder, *runs.OF_SWEEPS)["identity"]
    with runs.reading(folder / "config.json"):
        own = {"seeds", "first_seed", "widths", "learning_rates", "hard_labels", "block_size"}
        own |= {"objectives", "temperatures", "without_temperature", "soft_weights", "padded"}
        config = {name: value for name, value in identity["config"].items() if name not in own}
        return {"config": config, "data": identity["data"]}
