"""Results of sweeps, made up: what `results.csv` would hold."""

import math

import pandas as pd

HARD, T4, INF = ("hard", math.nan), ("kd", 4.0), ("kd", math.inf)


def sweep(errors, width=800, rate=0.001, weight=1.0, teachers=("a",), holdout=None, failed=()):
    """Rows from `{setting: errors of each run}`; runs go through the seeds of the first teacher, then of the next."""
    rows = []
    for (objective, temperature), values in errors.items():
        for i, value in enumerate(values):
            per_teacher = len(values) // len(teachers)
            row = {
                "width": width,
                "teacher": teachers[i // per_teacher],
                "seed": i % per_teacher,
                "objective": objective,
            }
            row |= {
                "temperature": temperature,
                "soft_weight": 0.0 if objective == "hard" else weight,
                "learning_rate": rate,
            }
            row |= {"test_errors": value, "failed_at": 5 if (objective, temperature, i) in failed else -1}
            if holdout:
                row["holdout_errors"] = holdout[objective, temperature][i]
            rows.append(row)
    return pd.DataFrame(rows)
