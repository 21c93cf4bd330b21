"""Configuration dataclasses: what a command line can say. No JAX in sight, so that `--help` is quick.

A field's docstring is its help text; its default is said here and nowhere else.
"""

from kdjax.config.data import DataConfig, cache_folder, default_data_dir, default_raw_dir
from kdjax.config.network import (
    NETWORKS,
    NUMERICS,
    Augment,
    NetworkSpec,
    Precision,
    Schedule,
    TeacherConfig,
    TrainConfig,
    network_spec,
    numerics,
    register_network,
)
from kdjax.config.run import CHECKPOINT_SECONDS, RunConfig
from kdjax.config.sweep import STABILITY_EPOCHS, SweepConfig, Targets

__all__ = [
    "CHECKPOINT_SECONDS",
    "NETWORKS",
    "NUMERICS",
    "STABILITY_EPOCHS",
    "Augment",
    "DataConfig",
    "NetworkSpec",
    "Precision",
    "RunConfig",
    "Schedule",
    "SweepConfig",
    "Targets",
    "TeacherConfig",
    "TrainConfig",
    "cache_folder",
    "default_data_dir",
    "default_raw_dir",
    "network_spec",
    "numerics",
    "register_network",
]

Network = str
from kdjax.identity import canonical_json  # noqa: E402, F401
