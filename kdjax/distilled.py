"""What `kdjax.distil` returns: its students, their table, and comparisons of them."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from kdjax import evaluation, models, trained
from kdjax.arrays import HostLogits
from kdjax.errors import require
from kdjax.inputs import read_inputs
from kdjax.intervals import Difference, Interval, claimed, difference, error_bars, holm, interval, on_one_side
from kdjax.objectives import is_compared

SETTING = ["objective", "temperature", "soft_weight"]
"""Columns that name a setting."""


@dataclasses.dataclass(frozen=True)
class Student:
    """A trained student."""

    row: dict[str, Any]
    """Its row of the table."""
    network: models.Model
    """The architecture, as pure functions of its parameters."""
    variables: tuple[models.Params, models.ModelState]
    """Its parameters and batch statistics (empty where it has none), each leaf with a leading axis of 1."""
    dtype: np.dtype
    """Of the inputs that it was trained on: uint8 or float32."""

    def logits(self, inputs: Any) -> HostLogits:
        """`[n, classes]`, in evaluation mode, of inputs of the shape that it was trained on. Raises BadInput: of
        another shape or kind."""
        images = read_inputs("inputs", inputs)
        scaled = "bytes are divided by 255, floats are used as they are"
        kinds = f"inputs of {images.dtype} are not allowed: it was trained on {self.dtype} ({scaled})"
        require(images.dtype == self.dtype, f"{kinds}; give that")
        return evaluation.logits_of(self.network, *self.variables, images)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Students at several settings from several seeds. Printed, it says what was found."""

    table: pd.DataFrame
    """A row a student, with the columns of `results.csv` (docs/run_directory.md): its objective (`hard`: labels alone),
    temperature (nan: it has none), soft weight, learning rate and seed, `test_errors` and the other metrics on the
    test examples, the same on the training examples (`transfer_`), and `train_loss`, the mean over the last epoch."""
    students: tuple[Student, ...]
    """In the order of the table."""
    test_examples: int

    def logits(self, inputs: Any, **where: Any) -> HostLogits:
        """`[n, classes]` of any inputs, by the student whose row has these values, such as `temperature=4, seed=0`.
        Raises BadInput: there is no column of that name, or not exactly one such student; it failed; inputs of another
        shape."""
        found = [student for student in self.students if trained.matches(student.row, where)]
        named = ", ".join(f"{name} {value}" for name, value in where.items()) or "no condition"
        count = f"{len(found)} students have {named}"
        rest = [name for name in (*SETTING, "seed") if name not in where and len({one.row[name] for one in found}) > 1]
        require(len(found) < 2, f"{count}: give {' and '.join(rest)} too")
        require(found, f"no student has {named}: the table names those that there are")
        failed = int(found[0].row["failed_at"])
        require(failed < 0, f"the student with {named} failed at step {failed} (loss not finite): lower learning_rate")
        return found[0].logits(inputs)

    def compare(
        self,
        objective: str | None = None,
        against: str = "hard",
        measure: str = "test_errors",
        confidence: float = 0.95,
    ) -> pd.DataFrame:
        """Paired differences, `objective` minus `against`, between runs that share a seed: a row a setting.

        From hard labels, or between two objectives at the same temperature and soft weight, such as
        `compare("kd", "dkd")`; one that has no temperature, such as `mse`, is compared at each of the other's.
        `objective` None: each of the others. Columns: the `difference` with the bounds `low` and `high` of its t
        interval, `n` pairs, `p` of the paired t test, and `p_holm`, adjusted for the number of rows (Holm 1979); and
        both means. A difference was found where `p_holm` is below 1 − confidence, or where all intervals lie on one
        side of zero.

        Failed students are left out; without a pair there is no row. Raises BadInput: an objective that was not
        trained, or compared with itself; an unknown measure; a confidence outside (0, 1).
        """
        known = list(dict.fromkeys(self.table["objective"]))
        for name in (against, objective or against):
            require(name in known, f"no student has the objective {name}: there are {', '.join(known)}")
        others = [name for name in known if name not in (against, "hard")]
        chosen = others if objective is None else [objective]
        rest = ", ".join(others) or "no other"
        told = f"{objective or 'another objective'} minus {against} is no comparison: there are {rest} to compare"
        require(chosen and set(chosen) <= set(others), told)
        self._require_measure(measure)
        rows = []
        baselines = [setting for setting in self._settings() if setting[0][0] == against]
        for (name, temperature, weight), runs in self._settings():
            for (_, at, weight_of_partner), partners in baselines if name in chosen else ():
                same = weight == weight_of_partner and (temperature == at or math.isnan(temperature) or math.isnan(at))
                if not same and against != "hard":
                    continue
                pairs = runs.merge(partners, on="seed", suffixes=("", "_against"))
                if pairs.empty:
                    continue
                own, other = (pairs[measure + suffix].to_numpy(np.float64) for suffix in ("", "_against"))
                found = difference(interval(own - other, confidence))
                where = at if math.isnan(temperature) else temperature
                row = {"objective": name, "against": against, "temperature": where, "soft_weight": weight}
                row |= {"difference": found.mean, "low": found.low, "high": found.high, "n": found.n, "p": found.p}
                rows.append(row | {"mean": own.mean(), "against_mean": other.mean()})
        names = ["difference", "low", "high", "n", "p", "mean", "against_mean"]
        compared = pd.DataFrame(rows, columns=["objective", "against", "temperature", "soft_weight", *names])
        compared.insert(compared.columns.get_loc("p") + 1, "p_holm", holm(compared["p"].to_numpy(np.float64)))
        return compared

    def plot(self, measure: str = "test_errors", axes: Any = None) -> Any:
        """Means with 95 % t intervals over seeds against the temperature, a curve an objective; hard labels, and what
        has no temperature, as a level with a band; on matplotlib's `axes`, or new ones, which are returned. Raises
        BadInput: an unknown measure."""
        from matplotlib import pyplot as plt

        self._require_measure(measure)
        axes = plt.subplots(layout="constrained")[1] if axes is None else axes
        temperatures = sorted(self.table["temperature"].dropna().unique())
        curves = self._finished.groupby(["objective", "soft_weight"], sort=False)
        for index, ((name, weight), runs) in enumerate(curves):
            by_temperature = runs.groupby("temperature", dropna=False)[measure]
            means = [interval(values.to_numpy(np.float64)) for _, values in by_temperature]
            label = f"{name}, soft weight {weight:g}" if self._weights() > 1 else name
            if math.isnan(runs["temperature"].iloc[0]):
                colour, line = ("0.4", "--") if name == "hard" else (f"C{index}", "-.")
                words = "hard labels" if name == "hard" else label
                axes.axhline(means[0].mean, color=colour, linestyle=line, label=words)
                axes.axhspan(*np.nan_to_num(means[0][1:3], nan=means[0].mean), color=colour, alpha=0.15, linewidth=0)
                continue
            aside = 0.04 * (index - len(curves) / 2)  # bars side by side
            places = [temperatures.index(temperature) + aside for temperature in by_temperature.groups]
            centres, bars = [mean.mean for mean in means], error_bars(means)
            axes.errorbar(places, centres, bars, marker="o", capsize=3, label=label)
        axes.set_xticks(range(len(temperatures)), map(_number, temperatures))
        of_all = f" of {self.test_examples:,}" if measure == "test_errors" else ""
        axes.set(xlabel="temperature T", ylabel=measure.replace("_", " ") + of_all)
        axes.legend()
        return axes

    def __repr__(self) -> str:
        return f"{self._verdict()}\n{self._summary().to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p>{self._verdict()}</p>{self._summary().to_html(index=False)}"

    @property
    def _finished(self) -> pd.DataFrame:
        """The table without failed students, whose measures say nothing."""
        return self.table[self.table["failed_at"] < 0]

    def _settings(self) -> Iterator[tuple[Any, pd.DataFrame]]:
        yield from self._finished.groupby(SETTING, sort=False, dropna=False)

    def _weights(self) -> int:
        return int(self.table.loc[self.table["objective"] != "hard", "soft_weight"].nunique())

    def _require_measure(self, measure: str) -> None:
        known = [name for name in self.table if name not in (*SETTING, "seed")]
        require(measure in known, f"the table has no measure {measure}: there are {', '.join(known)}")

    @functools.cached_property
    def _compared(self) -> pd.DataFrame | None:
        """The comparison with hard labels, where there is one."""
        names = set(self.table["objective"])
        compared = self.compare() if "hard" in names and len(names) > 1 else None
        return compared if compared is not None and len(compared) else None

    def _summary(self) -> pd.DataFrame:
        """Mean errors of each setting, and the difference from hard labels."""
        compared, rows = self._compared, []
        for (name, temperature, weight), runs in self.table.groupby(SETTING, sort=False, dropna=False):
            row = {"objective": name, "T": _number(temperature)}
            row |= {"soft weight": f"{weight:g}"} if self._weights() > 1 else {}
            errors = runs.loc[runs["failed_at"] < 0, "test_errors"].to_numpy(np.float64)
            row["test errors"] = _estimate(interval(errors)) if len(errors) else "failed"
            if compared is not None:
                at = compared["temperature"].eq(temperature) | math.isnan(temperature)
                own = compared[compared["objective"].eq(name) & compared["soft_weight"].eq(weight) & at]
                bounds = [Interval(one.difference, one.low, one.high, one.n, 0, 0) for one in own.itertuples()]
                row["from hard labels"] = "".join(_estimate(one, "+") for one in bounds)
            rows.append(row)
        return pd.DataFrame(rows)

    def _verdict(self) -> str:
        seeds, compared = self.table["seed"].nunique(), self._compared
        about = f"{self.test_examples:,} test examples, {seeds} seed{'s' * (seeds > 1)}"
        if failed := int((self.table["failed_at"] >= 0).sum()):
            about += f", {failed} of {len(self.table)} students failed (loss not finite: lower learning_rate)"
        if compared is not None and seeds < 2:
            return f"{about}: one seed says nothing about chance, so nothing is said of a difference from hard labels."
        if compared is None or not compared["objective"].map(is_compared).any():
            return f"{about}; 95 % intervals over seeds."
        told = compared[compared["objective"].map(is_compared).astype(bool)]  # baselines and controls teach nothing
        differences = [
            Difference(row.difference, row.low, row.high, row.n, row.p, row.p < 0.05) for row in told.itertuples()
        ]
        found, settings = told["difference"][claimed(differences)], len(told)
        words = f"fewer test errors than hard labels at {(found < 0).sum()} of {settings} settings"
        rest = f"more at {(found > 0).sum()}, no difference seen at {settings - len(found)}"
        together = settings > 1 and on_one_side(differences)
        rule = "all intervals on one side of zero" if together else "corrected for all by Holm"
        return f"{about}: {words}, {rest} (paired t tests, {rule}; 95 % intervals over seeds)."


def _number(value: float | int) -> str:
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:g}"


def _estimate(mean: Interval, sign: str = "") -> str:
    bounds = "" if math.isnan(mean.low) else f" [{mean.low:{sign}.1f}, {mean.high:{sign}.1f}]"
    return f"{mean.mean:{sign}.1f}{bounds}"
