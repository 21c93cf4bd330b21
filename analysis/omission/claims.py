"""What an omission run says: its verdict, and which differences are told apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import stats
from analysis.omission.rows import COMPARISONS, CORRECTIONS, OmissionRow, compare
from analysis.omission.run import name_task
from analysis.tables import estimate, number


def in_words(compared: dict[str, stats.Difference]) -> dict[str, str]:
    """Which of these differences there are, all considered at once (`stats.claimed`); but not whether a bias is worse
    than the oracle's for the same students, as none is better."""
    sizes = {name for name, ((left, _), right) in COMPARISONS.items() if right == (left, "oracle")}
    tested = {name: difference for name, difference in compared.items() if name not in sizes}
    words = map(stats.difference_in_words, tested.values(), stats.claimed(list(tested.values())))
    said = dict(zip(tested, words, strict=True))
    return {name: said.get(name, "the oracle has the fewest by definition") for name in compared}


def verdict(results: pd.DataFrame, rows: Sequence[OmissionRow], data: dict[str, Any], temperature: float) -> str:
    """How many of the omitted distilled students get right, before and after correction, and what they still lack."""
    at_t = [row for row in rows if row.temperature == temperature]
    found = {(row.omitted, row.student, row.correction): row for row in at_t}
    tasks = list(dict.fromkeys(omitted for omitted, student, _ in found if student == "distilled"))

    def right(student: str, correction: str) -> str:
        rows = [found.get((task, student, correction)) for task in tasks]
        return f"{np.mean([row.right.mean for row in rows]):.1f} %" if all(rows) else ""  # type: ignore[union-attr]

    if not (tasks and right("distilled", "none")):
        return "No distilled student finished at every task: nothing can be said."
    who = name_task(tasks[0], data) if len(tasks) == 1 else f"without each of {len(tasks)} classes in turn"
    text = f"Distilled {who}, at T = {number(temperature)}, students are right on {right('distilled', 'none')} of the "
    text += "omitted" + (f" ({hard} if taught by hard labels)" if (hard := right("control", "none")) else "")
    after = next((name for name in ("label_free", "oracle") if right("distilled", name)), None)
    text += f", and on {right('distilled', after)} after correction ({CORRECTIONS[after]})." if after else "."
    compared, last = compare(results, tasks[0], temperature), "oracle − distilled on all classes"
    if len(tasks) == 1 and last in compared:
        size = f"{estimate(compared[last], sign=True)} errors ({in_words(compared)[last]})"
        text += f" After the oracle's correction, minus students distilled on all classes: {size}."
    return text
