"""The figures of a synthetic run directory: all there, whole, the same bytes twice; and what is no run directory, refused."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import plot_temperature_sweep as plot
from kdjax import cli, metrics
from kdjax.config import BadInput

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)
KEYS = ["width", "teacher", "seed", "objective", "temperature", "soft_weight", "learning_rate"]


def make_run(
    folder, widths=(30, 300), seeds=3, temperatures=TEMPERATURES, weights=(1.0,), rates=(0.001,), teachers=("3f9a2b",), hard=True, holdout=False
):
    """Writes a run directory as an experiment would, with plausible numbers; returns the folder."""
    random = np.random.default_rng(0)
    rows, history = [], []
    settings = [("hard", math.nan, 0.0, rate) for rate in rates] * hard
    settings += [("soft", t, weight, rate) for t in temperatures for weight in weights for rate in rates]
    for width in widths:
        for teacher in teachers:
            for seed in range(seeds):
                common = random.normal(0, 4)
                for objective, t, weight, rate in settings:
                    x = math.log2(t if math.isfinite(t) else 64) if objective == "soft" else 0.0
                    base = {30: 420, 300: 150}.get(width, 128) - (objective == "soft") * ({30: 40}.get(width, 20) + 1.2 * x * (5 - x) + 3 * x)
                    errors = round(base + common + random.normal(0, 4) + 20 * abs(math.log10(rate / 0.001)))
                    row = dict(zip(KEYS, (width, teacher, seed, objective, t, weight, rate), strict=True)) | {"epochs": 10}
                    for name, scale in (("test", 1.0), ("transfer", 0.3)) + ((("holdout", 1.1),) if holdout else ()):
                        count = errors * scale
                        row |= {f"{name}_errors": round(count), f"{name}_nll": count / 2800, f"{name}_brier": count / 6000}
                        row |= {f"{name}_ece": 0.004 + 0.01 * (objective == "hard") + 0.002 * abs(x - 2) + random.normal(0, 3e-4)}
                        row |= {f"{name}_agreement": 1 - count / 11000, f"{name}_teacher_kl": count / 6000, f"{name}_logit_rmse": 1.0}
                        row |= {f"{name}_errors_where_teacher_right": round(count * 0.6), f"{name}_errors_where_teacher_wrong": round(count * 0.4)}
                    row |= {"mean_logit_drift": 0.1, "failed_at": -1}
                    row |= {"soft_target_entropy": math.log(10) * (1 - 1 / (1 + (t / 7) ** 2)) if objective == "soft" else math.nan}
                    rows.append(row)
                    for epoch in range(1, 11):
                        line = {key: row[key] for key in KEYS} | {"epoch": epoch, "loss": 1 / epoch}
                        line["temperature"] = None if objective == "hard" else t
                        line |= {"transfer_error_rate": 0.1 * 0.55**epoch * (width < 100 or epoch < 10) + 1e-3 * random.random()}
                        line |= {"monitor": "holdout" if holdout else "test"}
                        line |= {"monitor_errors": round(errors * (1 + 3 * 0.6**epoch)) if epoch % 2 == 0 else None}
                        history.append(line)
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False, float_format="%.9g")
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    labels = np.arange(400) % 10
    logits = random.normal(0, 3, (400, 10)) + 9 * np.eye(10)[labels]
    images = random.integers(0, 255, (6, 28, 28, 1), dtype=np.uint8)
    np.savez(folder / "test.npz", labels=labels, teacher_logits=logits.astype(np.float32), example_images=images, example_rows=np.arange(6) * 7)
    details = [{"fingerprint": name, "name": name, "test": {"errors": 74 + i, "nll": 0.026, "brier": 0.011, "ece": 0.004}} for i, name in enumerate(teachers)]
    data = {"description": "MNIST (60,000 training images, 10,000 test images)", "class_names": [str(i) for i in range(10)], "num_classes": 10}
    (folder / "config.json").write_text(json.dumps({"identity": {"data": data}, "details": {"teachers": details}}))
    return folder
