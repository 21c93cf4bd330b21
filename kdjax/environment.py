"""Environment variables of JAX: those that would change results are set aside, others are checked before JAX starts."""

import os
import re
import subprocess
import sys

from kdjax.errors import BadInput, require
from kdjax.progress import warn

FIXED = (
    *("JAX_ENABLE_X64", "JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE", "JAX_RANDOM_SEED_OFFSET"),
    *("JAX_NUMPY_DTYPE_PROMOTION", "JAX_DEFAULT_MATMUL_PRECISION"),
)
"""Variables of precision and of random keys, which `compilation.fixed_numerics` fixes: results never depend on them."""
OURS = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
"""Variables that `compilation_cache` sets."""
DEVICES = "--xla_force_host_platform_device_count="
SECONDS = 20.0
"""Longest time in which XLA reads its flags, which may name a file."""


def prepare(local_workers: bool = False) -> None:
    """Call it before JAX is imported. With `local_workers` this process leaves them the memory of the accelerator.

    Raises BadInput: JAX or XLA would end with what the environment says, which would be a traceback or an abort.
    """
    for name in FIXED:
        if (value := os.environ.pop(name, None)) is not None:
            warn(f"{name}={value} has no effect here: results do not depend on it")
    seconds = os.environ.get(OURS[1], "0")
    try:
        float(seconds)
    except ValueError:
        raise BadInput(f"{OURS[1]}={seconds} is no number of seconds: correct or unset it") from None
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if flags:
        _check_flags(flags)
    else:
        os.environ.pop("XLA_FLAGS", None)  # XLA takes a blank for the name of a file, and aborts
    named = sorted(name for name in os.environ if name.startswith(("JAX_", "XLA_")) and name not in OURS)
    if local_workers:
        leave_memory()  # JAX reads it when it starts, which may be here
    if named:
        try:
            import jax

            jax.devices()
        except Exception as error:  # of any kind: JAX's own checks are assertions, too
            reason = str(error).splitlines()[0] if str(error) else "there is no such device"
            settings = " ".join(f"{name}={os.environ[name]}" for name in named)
            raise BadInput(f"JAX does not start with {settings} ({reason}): correct or unset it") from None


def leave_memory() -> None:
    """Leaves the memory of the accelerator to other processes, unless the user says otherwise."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def _check_flags(flags: str) -> None:
    if flags.startswith(DEVICES) and flags.removeprefix(DEVICES).isdecimal():
        require(1 <= int(flags.removeprefix(DEVICES)) <= 1_000, f"XLA_FLAGS={flags} is not allowed: 1 to 1,000 devices")
        return
    # XLA ends the process that it runs in: let that be another one.
    reads = "from jaxlib import xla_client; xla_client.CompileOptions()"
    said = "it takes too long to read them"
    try:
        read = subprocess.run([sys.executable, "-c", reads], capture_output=True, timeout=SECONDS)
        reasons = re.findall(r"^[EF]\d{4} .*?\] (.*)", read.stderr.decode(errors="replace"), re.MULTILINE)
        if read.returncode == 0 or not reasons:
            return
        said = reasons[0]
    except subprocess.TimeoutExpired:
        if flags.startswith("--"):  # no file that is read without end: the machine is slow
            return
    raise BadInput(f"XLA does not start with XLA_FLAGS={flags} ({said}): correct or unset it")
