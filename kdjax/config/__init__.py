"""Configuration dataclasses, imported without JAX, so that `--help` is quick.

A field's docstring is its help text. Defaults stand here, but for the epochs that depend on the dataset
(`kdjax.grids`).
"""

from kdjax.config.data import DataConfig, NamedDataConfig, TopkRest, as_declared, cache_folder, default_data_dir
from kdjax.config.network import (
    AFTER_NORM,
    NETWORKS,
    NUMERICS,
    TEACHER_SEED,
    Augment,
    NetworkSpec,
    Optimizer,
    Precision,
    Schedule,
    TeacherConfig,
    TrainConfig,
    network_spec,
    numerics,
    of_teacher,
    register_network,
    shared_fields,
)
from kdjax.config.run import CHECKPOINT_SECONDS, RunConfig
from kdjax.config.sweep import STABILITY_EPOCHS, OmissionStudent, SweepConfig, Targets

__all__ = [
    "AFTER_NORM",
    "CHECKPOINT_SECONDS",
    "NETWORKS",
    "NUMERICS",
    "STABILITY_EPOCHS",
    "TEACHER_SEED",
    "Augment",
    "DataConfig",
    "NamedDataConfig",
    "NetworkSpec",
    "OmissionStudent",
    "Optimizer",
    "Precision",
    "RunConfig",
    "Schedule",
    "SweepConfig",
    "Targets",
    "TeacherConfig",
    "TopkRest",
    "TrainConfig",
    "as_declared",
    "cache_folder",
    "default_data_dir",
    "network_spec",
    "numerics",
    "of_teacher",
    "register_network",
    "shared_fields",
]
