"""Controls of the MNIST table: what label smoothing, self-distillation, temperature scaling and wrong targets do."""

import numpy as np
import pandas as pd

from analysis import stats, tables
from analysis.mnist.run import Answers
from analysis.tables import markdown, sweep_folder
from kdjax import metrics


def section(answers: Answers) -> str:
    """The table of controls, each less distillation; empty where the part was not made."""
    held = answers.of("held out")
    if not len(held):
        return ""
    hard = held[held["objective"] == "hard"]
    everything = answers.results[answers.results["role"] == "label smoothing"]  # a failed run counts against a setting
    smooth = tables.tuned(everything, by=["width"])
    named = {
        "hard labels": hard,
        "distilled": held[held["objective"] == "soft"],
        **(
            {f"label smoothing by {smooth['soft_weight'].iloc[0]:g} (chosen on the hold-out)": smooth}
            if len(smooth)
            else {}
        ),
        "self-distillation (the small net's own kind teaches)": answers.of("self-distillation"),
        "hard labels, temperature-scaled on the hold-out": temperature_scaled(answers, hard),
        **{f"control: {what}": answers.of(role) for role, what in tables.CONTROLS.items()},
    }
    soft = named["distilled"]
    header = ["", "test errors", "NLL (nats)", "ECE (%)", "n"]
    header += [f"less distilled, {what}" for what in ("errors", "NLL", "ECE")]
    cells, base = [], _measures(soft)
    for name, rows in named.items():
        if len(rows):
            mine = _measures(rows)
            cell = [tables.estimate(stats.interval(mine[what].to_numpy()), digits) for what, digits in _DIGITS.items()]
            cells.append([name, *cell, str(len(mine)), *_less(mine, base, name == "distilled")])
    notes = [
        "Training images are held out from teachers and students alike. ECE of 15 bins. Differences are paired by "
        "seed, none corrected for their number; all kinds have the learning rate that suits soft targets."
    ]
    tried = sorted(everything["soft_weight"].unique())
    if len(smooth) and smooth["soft_weight"].iloc[0] in (tried[0], tried[-1]):
        notes.append(f"The label smoothing chosen is at an edge of those tried, {', '.join(f'{w:g}' for w in tried)}.")
    taught = answers.of("self-distillation")
    if len(taught):
        notes.append(f"The teacher of self-distillation has {taught['teacher_errors'].iloc[0]:g} test errors.")
    if len(soft):
        at = f"T = {tables.number(soft['temperature'].iloc[0])}, soft weight {soft['soft_weight'].iloc[0]:g}"
        notes.append(
            f"Distilled, self-distillation and each control: {at}. Label smoothing is all classes alike at T = 1."
        )
    if missing := [what for role, what in tables.CONTROLS.items() if not len(answers.of(role))]:
        notes.append(f"Not made, or failed: {', '.join(missing)}. The experiment's command makes what is missing.")
    return "## Controls\n\n" + markdown(header, cells, notes, left=1)


_DIGITS = {"test_errors": 1, "test_nll": 4, "test_ece": 2}
"""Measures of a control, and their decimals."""


def _measures(rows: pd.DataFrame) -> pd.DataFrame:
    table = rows.set_index("seed")[list(_DIGITS)].astype(float)
    return table.assign(test_ece=100 * table["test_ece"])


def _less(mine: pd.DataFrame, base: pd.DataFrame, same: bool) -> list[str]:
    """Each measure less that of distilled networks, paired by seed."""
    shared = mine.index.intersection(base.index)
    if same or not len(shared):
        return [""] * len(_DIGITS)
    return [
        tables.estimate(
            stats.paired_difference(mine[what][shared].to_numpy(), base[what][shared].to_numpy()), digits, sign=True
        )
        for what, digits in _DIGITS.items()
    ]


def temperature_scaled(answers: Answers, hard: pd.DataFrame) -> pd.DataFrame:
    """Each hard-label run with its logits divided by the temperature that suits the hold-out (Guo et al. 2017)."""
    import scipy

    rows = []
    for _, row in hard.iterrows():
        student = tables.trained(answers.folder, row)
        held, tested = student.stored_logits("holdout"), student.stored_logits("test")
        with np.load(sweep_folder(answers.folder, row["run"]) / "test.npz") as arrays:
            known, labels = arrays["holdout_labels"], arrays["labels"]
        fitted = scipy.optimize.minimize_scalar(
            lambda log_t, held=held, known=known: metrics.nll(held / np.exp(log_t), known),
            bounds=(-3, 3),
            method="bounded",
        )
        judged = metrics.evaluate(tested / np.exp(fitted.x), labels)
        rows.append({**row, **{f"test_{name}": value for name, value in judged.items()}})
    return pd.DataFrame(rows)
