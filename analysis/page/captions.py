"""How to read each figure, and what each says in words: captions and alternative texts."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from analysis import runs
from analysis.tables import fixed, number, with_bounds

READING = {
    "difference_from_kd": "Errors under each other objective minus those on soft targets at the same T, paired by "
    "seed: below zero is fewer errors. Intervals are not corrected for their number.",
    "learning_curves": "Errors during training, a line a temperature: on what is learned from at the left, on other "
    "data at the right.",
    "stability": "How much accuracy and predictions change from one epoch to the next, at a constant rate: lower is "
    "steadier.",
    "errors_against_temperature": "Each point is a mean number of wrong answers, lower is better; filled markers may "
    "be the best temperature, open ones are excluded as the best.",
    "fewer_images": "Errors where students see fewer images: the gap between the curves is what soft targets add.",
    "shifted": "Errors on test images that are shifted by some pixels: what the student has learned of shifts.",
    "students": "A line a kind of student: accuracy, negative log-likelihood and overconfidence, with 95 % intervals. "
    "The dashed line is the teacher, or a number with an arrow where it lies beyond the scale; upright marks are means "
    "with batch statistics without dropout.",
    "class_similarity": "Which classes the teacher confuses: the mean probability that it gives to each other class.",
    "lengths": "Accuracy after each number of epochs, at the left; at the right soft targets minus hard labels, paired "
    "by seed: above zero soft targets are better.",
    "soft_predictions": "What students say of images of the class that they never saw.",
    "errors_against_bias": "Errors as the bias of the omitted class is raised: the lower a curve gets, the more its "
    "student knows of the class. The markers show the biases that each method chooses.",
    "errors_by_class": "Errors on the images of each class, before and after the correction of the bias.",
    "taken_for": "What images of the omitted class are mistaken for.",
    "each": "Each class omitted in turn, a row a class.",
    "1_limit": "The relative error of taking the gradient of soft targets for that of logit matching: it falls as T "
    "grows past the spread of the logits.",
    "2_teachers_and_norms": "The same against T/s for several networks as teachers, whose logits spread differently: "
    "they fall on one curve; and the size of the gradient.",
    "3_who_gets_the_gradient": "Which classes get the gradient at each T: at low T the likely ones, at high T all.",
    "4_weights_and_low_temperatures": "How much each class's squared difference of logits weighs, by the rank of the "
    "teacher's logit; and what soft targets become as T falls to 0.",
    "5_rounding_and_parameters": "Where rounding takes over in float32; and how far the gradient in the "
    "parameters is from that of logit matching.",
    "logits": "When this pair's soft targets are logit matching, which classes get the gradient, and how soft and how "
    "well calibrated both networks are, each against T.",
    "6_training": "Where students end up at each T, and what training leaves as it was.",
    "curvature": "Curvature of the loss over T, and the best learning rates beside it.",
    "objectives": "A row an objective: how far its gradient is from its own limit at each T, and what it changes.",
}
"""By the first words of a figure's name. Where the figure gives a reading itself (`style.title`), that one stands: it
names only what is drawn."""


def reading(name: str) -> str:
    """How to read the figure of that name; empty for one that is not known."""
    starts = [start for start in READING if f"{name}_".startswith(f"{start}_")]
    return READING[max(starts, key=len)] if starts else ""


def findings(folder: Path, experiment: str) -> dict[str, str]:
    """What the figures of a run directory say in numbers, by name; empty but for sweeps: others say their verdict."""
    if experiment != "temperature_sweep" or not (folder / "table.csv").exists():
        return {}
    with runs.reading(folder / "table.csv"):
        rows = pd.read_csv(folder / "table.csv")
    said = {
        "errors": _along(rows, "test_errors", "test errors", 1),
        "difference_from_hard_labels": _differences(rows),
    }
    return {name: text for name, text in said.items() if text}


def _along(rows: pd.DataFrame, column: str, name: str, decimals: int) -> str:
    """`test errors, 300 units: hard labels 71.0, T = 1 69.2, …`"""
    return "; ".join(
        f"{name}, {width} units: " + ", ".join(f"{_setting(row)} {fixed(row[column], decimals)}" for row in of_width)
        for width, of_width in _of_widths(
            rows, lambda row: not math.isnan(row.get(column, math.nan))
        )  # all may have failed
    )


def _differences(rows: pd.DataFrame) -> str:
    column = "test_errors_difference"
    if column not in rows:
        return ""
    return "; ".join(
        f"minus hard labels, {width} units: "
        + ", ".join(
            f"{_setting(row)} " + with_bounds(row[column], row[f"{column}_low"], row[f"{column}_high"], sign=True)
            for row in of_width
        )
        for width, of_width in _of_widths(rows, lambda row: not math.isnan(row[column]))
    )


def _of_widths(rows: pd.DataFrame, known: Callable[[pd.Series], bool]) -> list[tuple[int, list[pd.Series]]]:
    """By width, the rows of hard labels and soft targets at the first soft weight: few enough to be heard. None where
    there are several rates, or no soft targets: the verdict says more of these."""
    plain = rows[rows["objective"].isin(["hard", "kd"])]
    found = []
    for width, of_width in plain.groupby("width"):
        weights = of_width.loc[of_width["objective"] == "kd", "soft_weight"]
        if of_width["learning_rate"].nunique() > 1 or weights.empty:
            continue
        kept = of_width[(of_width["objective"] == "hard") | (of_width["soft_weight"] == weights.iloc[0])]
        if listed := [row for _, row in kept.iterrows() if known(row)]:
            found.append((int(str(width)), listed))
    return found


def _setting(row: pd.Series) -> str:
    return "hard labels" if row["objective"] == "hard" else f"T = {number(row['temperature'])}"
