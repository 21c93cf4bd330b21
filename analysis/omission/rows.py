"""The rows of an omission run: each student under each correction, and what is compared."""

import math
from typing import NamedTuple

import pandas as pd

from analysis import runs, stats
from analysis.omission.run import at_temperature

STUDENTS = {
    "distilled": "distilled {shown}",
    "all_digits": "distilled on all classes",
    "with_pool": "distilled {shown}, and on the pool",
    "control": "hard labels {shown}",
    "permuted": "wrong logits permuted",
    "mean_logit": "omitted logit: its mean",
}
"""In the order of the table; the pairs have no row of their own, only the correction seen_only."""
CORRECTIONS = {"none": "none", "oracle": "oracle", "validation": "validation", "label_free": "label-free",
               "seen_only": "seen only"}  # fmt: skip
COMPARISONS = {
    "oracle − distilled on all classes": (("distilled", "oracle"), ("all_digits", "none")),
    "label-free − oracle": (("distilled", "label_free"), ("distilled", "oracle")),
    "seen only − oracle": (("distilled", "seen_only"), ("distilled", "oracle")),
    "label-free − distilled also on the pool": (("distilled", "label_free"), ("with_pool", "none")),
    "control − distilled, both oracle": (("control", "oracle"), ("distilled", "oracle")),
}
"""The paired differences in test errors that the claims rest on: (student, correction) less (student, correction)."""


class OmissionRow(NamedTuple):
    """One student under one correction: intervals over seeds."""

    omitted: str
    temperature: float
    student: str
    correction: str
    bias: stats.Interval
    errors: stats.Interval
    omitted_errors: stats.Interval
    right: stats.Interval
    """Per cent of the omitted classes' test images."""
    images: int
    """Test images."""
    failed: int


def summarise(results: pd.DataFrame) -> list[OmissionRow]:
    """A row for each set of omitted classes, temperature, student and correction; failed runs are left out of means.

    Hard-label runs have no temperature: they stand at every one.
    """
    rows = []
    for omitted, of_task in results.groupby("omitted", sort=False):
        for temperature in sorted(of_task["temperature"].dropna().unique()):
            groups = dict(list(at_temperature(of_task, temperature).groupby(["student", "correction"])))
            for student, correction in ((student, correction) for student in STUDENTS for correction in CORRECTIONS):
                of_row = groups.get((student, correction), results.iloc[:0])
                finished = runs.finished(of_row)
                if finished.empty:
                    continue
                columns = [finished[name].to_numpy(float) for name in ("bias", "test_errors", "omitted_errors")]
                right = 100 - 100 * columns[2] / finished["omitted_images"].to_numpy(float)
                bias, errors, on_omitted, share = (stats.interval(values) for values in (*columns, right))
                names = (str(omitted), float(temperature), student, correction)
                failed = groups.get((student, "none"), of_row)["failed_at"].ge(0).sum()  # they are not corrected
                counts = int(finished["test_images"].iloc[0]), int(failed)
                rows.append(OmissionRow(*names, bias, errors, on_omitted, share, *counts))
    return rows


def compare(results: pd.DataFrame, omitted: str, temperature: float) -> dict[str, stats.Difference]:
    """The `COMPARISONS` that can be made, paired by seed."""
    rows = at_temperature(runs.finished(results[results["omitted"] == omitted]), temperature)
    errors = {key: group.set_index("seed")["test_errors"] for key, group in rows.groupby(["student", "correction"])}
    differences = {
        name: runs.paired(errors[left], errors[right])
        for name, (left, right) in COMPARISONS.items()
        if {left, right} <= errors.keys()
    }
    return {name: difference for name, difference in differences.items() if difference}


def percent(interval: stats.Interval) -> stats.Interval:
    """A t interval knows nothing of 0 and 100."""
    low, high = (value if math.isnan(value) else min(max(value, 0.0), 100.0) for value in (interval.low, interval.high))
    return interval._replace(low=low, high=high)
