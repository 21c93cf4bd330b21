"""Controls of the MNIST table: what label smoothing, self-distillation, temperature scaling and wrong targets do."""

import numpy as np
import pandas as pd

from analysis import measures, runs, stats
from analysis.mnist.roles import Role
from analysis.mnist.run import MnistResults
from analysis.tables import Table, estimate, number
from kdjax import metrics
from kdjax.objectives import words_of
from kdjax.run_folders import sweep_folder
from kdjax.targets import WORDS

CONTROLS = (Role.DOUBLE_SOFTMAX, Role.SHUFFLED, Role.RANDOM, Role.UNIFORM)


def section(results: MnistResults) -> str:
    """The table of controls, each less distillation; empty where the part was not made."""
    held_out = results.of(Role.HELD_OUT)
    if not len(held_out):
        return ""
    hard, soft = (held_out[held_out["objective"] == kind] for kind in ("hard", "kd"))
    tried = results.trained(Role.LABEL_SMOOTHING)  # a failed run counts against a setting
    smoothed = runs.best_on_holdout(tried, by=["width"])
    weight, weights = next(iter(smoothed["soft_weight"]), None), sorted(tried["soft_weight"].unique())
    self_distilled = results.of(Role.SELF_DISTILLATION)
    kinds = {
        "hard labels": hard,
        "distilled": soft,
        f"label smoothing by {weight or 0:g} (chosen on the hold-out)": smoothed,
        "self-distillation (the small net's own kind teaches)": self_distilled,
        "hard labels, temperature-scaled on the hold-out": temperature_scaled(results, hard),
        **{f"control: {WORDS.get(role.value, words_of(role.value))}": results.of(role) for role in CONTROLS},
    }
    notes = [
        "Training images are held out from teachers and students alike. ECE of 15 bins. Differences are paired by "
        "seed, none corrected for their number; all kinds have the learning rate that suits soft targets."
    ]
    if weight is not None and weight in (weights[0], weights[-1]):
        edges = ", ".join(f"{value:g}" for value in weights)
        notes.append(f"The label smoothing chosen is at an edge of those tried, {edges}.")
    if len(self_distilled):
        errors = self_distilled["teacher_errors"].iloc[0]
        notes.append(f"The teacher of self-distillation has {errors:g} test errors.")
    if len(soft):
        at = f"T = {number(soft['temperature'].iloc[0])}, soft weight {soft['soft_weight'].iloc[0]:g}"
        notes.append(
            f"Distilled, self-distillation and each control: {at}. Label smoothing is uniform targets at T = 1."
        )
    if missing := [WORDS.get(role.value, words_of(role.value)) for role in CONTROLS if not len(results.of(role))]:
        notes.append(f"Not made, or failed: {', '.join(missing)}. The experiment's command makes what is missing.")
    return "## Controls\n\n" + _table(kinds, notes).markdown()


def _table(kinds: dict[str, pd.DataFrame], notes: list[str]) -> Table:
    columns = measures.columns("controls")
    shown = {column: measures.of_column("controls", column) for column in columns}
    header = ["", *(measure.heading for measure in shown.values()), "n"]
    header += [f"{measure.heading}: minus distilled" for measure in shown.values()]
    tables = {name: measures.add("controls", rows).set_index("seed") for name, rows in kinds.items() if len(rows)}
    cells = []
    for name, rows in tables.items():
        means = [estimate(stats.interval(rows[column].to_numpy(float)), shown[column].decimals) for column in columns]
        baseline = tables.get("distilled", rows.iloc[:0]) if name != "distilled" else rows.iloc[:0]
        less = {column: runs.paired(rows[column], baseline[column]) for column in columns}
        differences = [estimate(d, shown[column].decimals, sign=True) if d else "" for column, d in less.items()]
        cells.append([name, *means, str(len(rows)), *differences])
    return Table(header, cells, notes, left=1)


def temperature_scaled(results: MnistResults, hard: pd.DataFrame) -> pd.DataFrame:
    """Each hard-label run with its logits divided by the temperature that suits the hold-out (Guo et al. 2017)."""
    rows = []
    for _, row in hard.iterrows():
        student = runs.load_student(results.folder, row)
        held_out, tested = student.stored_logits("holdout"), student.stored_logits("test")
        stored = runs.load_arrays(sweep_folder(results.folder, row["run"]) / "test.npz", "holdout_labels", "labels")
        held_out_labels, labels = stored["holdout_labels"], stored["labels"]
        temperature = metrics.calibrating_temperature(held_out, held_out_labels)
        evaluated = metrics.evaluate(tested.astype(np.float64) / temperature, labels)
        rows.append({**row, **{f"test_{name}": value for name, value in evaluated.items()}})
    return pd.DataFrame(rows)
