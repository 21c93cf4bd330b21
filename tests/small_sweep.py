"""A small temperature sweep on the bundled digits, for the tests of what is trained in this process."""

import math
from pathlib import Path

from kdjax.config import DataConfig, RunConfig, SweepConfig, TeacherConfig

TEACHER = TeacherConfig(widths=(16, 12), epochs=2, batch_size=50)


def config(folder: Path, **options) -> SweepConfig:
    data = DataConfig(
        dataset="mnist5k", raw_dir=None, data_dir=folder / "data", train_images=300, holdout=options.pop("holdout", 0)
    )
    defaults = {"temperatures": (1.0, 4.0, math.inf), "widths": (12,), "seeds": 2, "epochs": 2, "batch_size": 50}
    places = {"out": folder / "runs", **{name: options.pop(name) for name in ("out", "name") if name in options}}
    groups = {"teacher": TEACHER, "data": data, "run": RunConfig(devices=1, **places)}
    return SweepConfig(**{**defaults, **groups, **options})
