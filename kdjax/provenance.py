"""Versions, device, commit and command line: what may explain a difference between two runs."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def provenance() -> dict[str, Any]:
    """Versions, device, commit and argv: what may explain a difference between two runs."""
    import jax

    facts = {"argv": sys.argv, "git_commit": _commit(), **toolchain()}
    return {**facts, "devices": jax.device_count(), "cpus": cpus()}


def cpus() -> int:
    """Cores that this process may use; XLA computes with as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def toolchain() -> dict[str, Any]:
    """Versions and device: where they differ, the same config may give other last digits."""
    import jax

    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "versions": {"python": platform.python_version(), **versions},
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
    }


def _commit() -> str | None:
    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=here.parent, env=env, capture_output=True, text=True, timeout=5).stdout

    here, env = Path(__file__), {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        ours = git("ls-files", here.name)  # installed into another project, it is not in that one's history
        return (git("describe", "--always", "--dirty").strip() or None) if ours else None
    except (OSError, subprocess.TimeoutExpired):
        return None
