"""Blocks trained by the workers of a Dask cluster. Needs the extra `cluster`."""

import contextlib
import functools
import hashlib
import logging
import math
import os
import platform
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from kdjax import compilation_cache, earlier_blocks, environment
from kdjax.config import RunConfig
from kdjax.errors import BadInput, require
from kdjax.progress import count_of, say, warn
from kdjax.run_directory import RunDirectory
from kdjax.scheduling import Board, Device, progress_of, store
from kdjax.students import Block, BlockResult
from kdjax.transfer import DistillationData

CONNECT_SECONDS = 10
"""Longest wait for a cluster's scheduler to answer."""
WORKER_SECONDS = 600
"""Longest wait for its first worker: a queue may have to start it."""
LOSSES = 3
"""Times that the data are sent again because every worker that held them has died."""
HINT = "results would differ; install the same kdjax and packages for all"
RESUME = "give the same command again, without --fresh, to resume"
_ONE_AT_A_TIME = threading.Lock()


def check(run: RunConfig) -> None:
    """Raises `BadInput` unless Dask is installed and the cluster answers."""
    if run.local_workers():  # to which this process must leave the memory of the accelerator
        environment.leave_memory()
    distributed = _dask()
    if not run.local_workers():
        with _client(distributed, run):
            pass


def train(blocks: Sequence[Block], data: DistillationData, record: RunDirectory, run: RunConfig) -> None:
    """`scheduling.train` on a cluster. Workers write no checkpoints: a block that is cut off starts again."""
    with progress_of(blocks, record) as (unfinished, board):
        if unfinished:
            _train(unfinished, data, record, run, board)


def _train(blocks: Sequence[Block], data: DistillationData, record: RunDirectory, run: RunConfig, board: Board) -> None:
    distributed = _dask()
    waiting, killed, losses = {block.name: block for block in blocks}, list[str](), 0
    with _client(distributed, run) as client:
        while waiting:
            facts = _wait_for_workers(client, run, record)
            try:
                # Every worker gets the data once, over the network; a block's own part is selected where it runs.
                (sent,) = client.scatter([data], broadcast=True)
                blocks_of = {
                    client.submit(train_on_worker, block, sent, facts, pure=False): block for block in waiting.values()
                }
                for done in distributed.as_completed(list(blocks_of)):
                    block = blocks_of.pop(done)
                    try:
                        store(record, block, done.result())
                        losses = 0
                    except distributed.KilledWorker:
                        killed.append(block.name)
                    del waiting[block.name]
                    note = f"{len(blocks) - len(waiting)} of {len(blocks)} blocks"
                    board.update(block.name, block.steps, note, whole=True)
            except distributed.client.FutureCancelledError:
                losses += 1
                lost = f"the cluster {run.cluster} is gone, or its workers die again and again: see their logs"
                alive = client.status == "running" and losses <= LOSSES
                require(alive, f"{lost}. Finished blocks are stored; {RESUME}")
                warn("all workers that held the data have died: they are sent again")
    lost = f"{count_of(len(killed), 'block')} ({', '.join(killed[:3])}) ended every worker that tried them"
    require(not killed, f"{lost}: see the workers' logs (memory?). All others are stored; {RESUME}")


def _wait_for_workers(client: Any, run: RunConfig, record: RunDirectory) -> dict[str, Any]:
    """Waits for the first worker; returns what all must have in common, and records it in the run directory."""
    if not client.scheduler_info()["workers"]:
        say(f"waiting for workers to join {run.cluster}")
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        absent = f"no worker joined the cluster {run.cluster} within {WORKER_SECONDS} s"
        raise BadInput(f"{absent}: start some, and {RESUME}") from None
    try:
        of_workers = client.run(what_fixes_digits)
    except ModuleNotFoundError as error:
        raise BadInput(f"the workers of {run.cluster} lack a package ({error}): install kdjax there") from None
    require(of_workers, f"the workers of {run.cluster} have died: see their logs, and {RESUME}")
    facts, here = next(iter(of_workers.values())), what_fixes_digits()
    for name in ("sources", "versions"):
        same = facts[name] == here[name]
        require(same, f"the workers of {run.cluster} have other {name} than this process: {HINT}")
    noted = record.config_file.details().get("workers", {})
    others = ", ".join(name for name, value in noted.items() if name in facts and value != facts[name])
    if others:
        warn(f"blocks of this run were trained by workers with other {others}: last digits may differ")
    record.config_file.note("workers", facts)
    return facts


@functools.cache
def what_fixes_digits() -> dict[str, Any]:
    """Facts that all processes of one run must share: sources, and the circumstances of a block."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    return {"sources": digest, **earlier_blocks.circumstances()}


@functools.cache
def _device_of_worker() -> Device:
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(compilation_cache.folder()))
    return Device(jax.local_devices()[0])


def train_on_worker(block: Block, data: DistillationData, facts: dict[str, Any]) -> BlockResult:
    """The result of a block on a worker: a pure function of block and data. Raises BadInput: this worker differs from
    `facts`, which all must have in common."""
    here = what_fixes_digits()
    differing = [name for name in facts if here[name] != facts[name]]
    require(not differing, f"a worker on {platform.node()} has other {', '.join(differing)} than the first one: {HINT}")
    with _ONE_AT_A_TIME, compilation_cache.persistent_cache():
        return _device_of_worker().train(block, data, None, lambda step, note: None)


def _dask() -> Any:
    try:
        import distributed
    except ModuleNotFoundError:
        remedy = "install kdjax[cluster] (pip install -e '.[cluster]') here and where workers run"
        raise BadInput(f"--cluster needs Dask: {remedy}") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # messages for a user come from this module
    return distributed


@contextlib.contextmanager
def _client(distributed: Any, run: RunConfig) -> Iterator[Any]:
    if run.local_workers():
        with _local_cluster(distributed, run) as cluster, distributed.Client(cluster) as client:
            count = len(cluster.workers)
            say(f"{count} worker process{'es' * (count > 1)}; dashboard: {client.dashboard_link}")
            yield client
        return
    try:
        client = distributed.Client(run.cluster, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "give the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786"
        remedy = f"{remedy}, or local:N for N worker processes here"
        raise BadInput(f"no cluster answers at --cluster {run.cluster} ({reason}): {remedy}") from None
    with client:
        yield client


def _local_cluster(distributed: Any, run: RunConfig) -> Any:
    workers, cards = run.local_workers(), os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    cards = cards if any(cards) else list(map(str, range(jax.local_device_count())))
    options: dict[str, Any] = {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL, "host": "127.0.0.1"}
    specs = {}
    for index in range(jax.local_device_count() if workers == math.inf else int(workers)):
        # A process that sees one card cannot take memory on the others.
        visible = {"CUDA_VISIBLE_DEVICES": cards[index % len(cards)]} if jax.default_backend() == "gpu" else {}
        specs[index] = {"cls": distributed.Nanny, "options": {**options, "env": visible}}
    options = {"host": "127.0.0.1", "dashboard": True, "dashboard_address": "127.0.0.1:0"}
    scheduler = {"cls": distributed.Scheduler, "options": options}
    return distributed.SpecCluster(workers=specs, scheduler=scheduler, silence_logs=logging.CRITICAL)
