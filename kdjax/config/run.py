"""Where to run, where to write, and how often to save: shared by all experiments, and never part of an identity."""

import dataclasses
import math
import re
from pathlib import Path

from kdjax.errors import require, require_name

CHECKPOINT_SECONDS = 30.0
"""Seconds between checkpoints: what a kill can cost."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Where to run and what to write. None of it changes a result."""

    out: Path = Path("runs")
    """Folder that holds run directories and teachers."""
    name: str | None = None
    """Name of the run directory in OUT/EXPERIMENT (default: a hash of the configuration)."""
    fresh: bool = False
    """Remove what the run directory holds and start again, instead of resuming. Teachers, and the sweeps of a table,
    are kept."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Seconds between checkpoints of what is being trained: the most that a kill can cost."""
    dry_run: bool = False
    """Only print what would run: blocks, runs, minutes, memory, disk."""
    devices: int | None = None
    """Train on the first N of this machine's devices, one block on each at a time (default: all)."""
    cluster: str | None = None
    """Train on the workers of a Dask cluster: its scheduler's address, or local:N for N worker processes on this
    machine, or local for one a device. Needs the extra `cluster`."""

    def __post_init__(self) -> None:
        require_name(self.name)
        require(
            self.checkpoint_seconds >= 0,
            f"--checkpoint-seconds {self.checkpoint_seconds:g} is not allowed: it is a number of seconds, 0 or more",
        )
        require(
            self.devices is None or self.devices > 0,
            f"--devices {self.devices} is not allowed: it is a number of devices, 1 or more",
        )
        if self.cluster is None:
            return
        require(self.devices is None, "--devices with --cluster is not allowed: a cluster's workers take one each")
        require(
            re.fullmatch(r"local(:[1-9]\d{0,3})?|[a-z]+://\S+|(?!local:)[^\s:/]+:\d{1,5}", self.cluster),
            f"--cluster {self.cluster!r} is not allowed: give local, local:N, or a scheduler's address such as "
            "tcp://10.0.0.1:8786",
        )

    def local_workers(self) -> float:
        """Worker processes to start on this machine: 0 for none, inf for one a device."""
        kind, _, count = (self.cluster or "").partition(":")
        return 0 if kind != "local" else float(count or math.inf)
