"""Where to run, where to write, and how often to save: shared by all experiments, and never part of an identity."""

import dataclasses
import math
import re
from pathlib import Path

from kdjax.config.data import as_declared
from kdjax.errors import require, require_count, require_name, require_option

CHECKPOINT_SECONDS = 30.0
"""Seconds between checkpoints: what a kill can cost."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where to run and what to write. None of it changes a result."""

    out: Path = Path("runs")
    """Folder that holds run directories and teachers."""
    name: str | None = None
    """Name of the run directory in OUT/EXPERIMENT (default: the data, what is trained, and a hash of the
    configuration)."""
    dry_run: bool = False
    """Only print what would run: blocks, runs, minutes, memory, disk."""
    fresh: bool = False
    """Remove what a run wrote into the run directory and start again, instead of resuming, and take nothing over from
    earlier runs. Teachers, and the sweeps of a table, stay."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints, the most that a kill can cost (with --cluster: a block)."""
    devices: int | None = None
    """Train on the first N of this machine's devices, one block on each at a time (default: all)."""
    cluster: str | None = None
    """Train on the workers of a Dask cluster: its scheduler's address, or local:N for N worker processes on this
    machine, or local for one per device. Needs the extra `cluster`."""

    def __post_init__(self) -> None:
        as_declared(self)
        require_name(self.name)
        require_count("checkpoint-seconds", self.checkpoint_seconds, "seconds", 0)
        require_count("devices", self.devices, "devices")
        if self.cluster is not None:
            require(self.devices is None, "--devices with --cluster is not allowed: a cluster's workers take one each")
            address = re.fullmatch(r"local(:[1-9]\d{0,3})?|[a-z]+://\S+|(?!local:)[^\s:/]+:\d{1,5}", self.cluster)
            allowed = "give local, local:N, or a scheduler's address such as tcp://10.0.0.1:8786"
            require_option(address, "cluster", repr(self.cluster), allowed)

    def of_member(self) -> "RunConfig":
        """The same for a sweep of a study: under the name that it has by itself, and resumed where it exists."""
        return dataclasses.replace(self, name=None, fresh=False, dry_run=False)

    def local_workers(self) -> float:
        """Worker processes to start on this machine: 0 for none, inf for one per device."""
        kind, _, count = (self.cluster or "").partition(":")
        return 0 if kind != "local" else float(count or math.inf)
