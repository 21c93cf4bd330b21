"""Where blocks are trained: on the devices of this process, or by the workers of a Dask cluster.

A block is a pure function of its spec and the lesson: on devices of one kind it does not matter to it where it runs,
beside what, and how often it was begun anew. One process writes.
"""

import contextlib
import functools
import hashlib
import logging
import math
import os
import platform
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import jax

from kdjax import checkpoints, compilation_cache, run_directory, students
from kdjax.blocks import TransferSet
from kdjax.checkpoints import Checkpoints
from kdjax.config import CHECKPOINT_SECONDS, WhereConfig
from kdjax.errors import BadInput, require
from kdjax.progress import Progress, say
from kdjax.provenance import provenance
from kdjax.students import Block, BlockResult, DistillationData

CONNECT_SECONDS = 10
"""How long to wait for a cluster's scheduler to answer."""
WORKER_SECONDS = 600
"""How long to wait for its first worker: a queue may have to start it."""
LOSSES = 3
"""Times that the lesson is sent out anew because every worker that held it has died."""


class Job(NamedTuple):
    """A block, and what of the lesson its students are shown."""

    block: Block
    images: int
    """Size of its transfer set."""
    shown: Callable[[DistillationData], DistillationData]
    """The whole lesson → this block's. It travels to workers, so it is picklable; equal ones are the same."""

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.block.config.epochs * (self.images // self.block.config.batch_size)


def check(where: WhereConfig) -> None:
    """Raises `BadInput` unless there are the devices that are asked for, or the cluster answers."""
    if where.local_workers():  # beside which this process takes only the memory that it needs
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    check_devices("devices", where.devices or 1)
    if where.cluster is not None:
        distributed = _dask()
        if not where.local_workers():
            with _client(distributed, where):
                pass


def check_devices(option: str, asked: int) -> None:
    """Raises `BadInput` if an option asks for more devices than there are."""
    there = jax.local_device_count()
    require(
        asked <= there,
        f"--{option} {asked} is not allowed: there {'is' if there == 1 else 'are'} {there} here "
        f"({jax.devices()[0].device_kind})",
    )


def train(
    jobs: Sequence[Job],
    taught: DistillationData,
    record: run_directory.RunDirectory,
    where: WhereConfig,
    seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Trains every block that the run directory does not hold yet, or goes on with it.

    Args:
        jobs: in the order in which to begin them.
        taught: the whole dataset with its teacher's logits.
        record: where finished blocks and checkpoints are kept.
        where: devices, or a cluster.
        seconds: time between checkpoints. (A cluster's workers write none: a block that is cut off begins anew.)
    """
    missing = [job for job in jobs if record.finished(job.block.name) is None]
    if len(missing) < len(jobs):
        say(f"{len(jobs) - len(missing)} of {len(jobs)} blocks are there already")
    if not missing:
        return
    total = sum(job.steps for job in jobs)
    with Progress("students", total) as progress:
        board = _Board(progress, total - sum(job.steps for job in missing))
        if where.cluster is not None:
            _on_cluster(missing, taught, record, where, board)
        else:
            devices = jax.local_devices()[: where.devices]
            _on_devices(missing, taught, record, devices[: len(missing)], seconds, board)


def _keep(record: run_directory.RunDirectory, job: Job, outcome: BlockResult) -> None:
    rows, history, logits, params, seconds = outcome
    record.finish(job.block.name, rows, history, logits, lambda folder: checkpoints.save(folder, params), seconds)


class _Board:
    """The progress of several blocks at once."""

    def __init__(self, progress: Progress, found: int):
        self._progress, self._found, self._steps = progress, found, dict[str, int]()
        self._lock = threading.Lock()
        progress.found(found)

    def update(self, block: str, step: int, note: str, whole: bool = False) -> None:
        """A block is at a step. Where it went on from a checkpoint is not known: unless the `whole` of it was done
        since the start, its first report is taken for what was found."""
        with self._lock:
            if block not in self._steps and not whole:
                self._progress.found(step)
            self._steps[block] = step
            self._progress.update(self._found + sum(self._steps.values()), note)


class _Place:
    """A device, with the transfer set that was last used on it."""

    def __init__(self, device: Any):
        self.device = device
        self._held: (
            tuple[Callable[[DistillationData], DistillationData], DistillationData, DistillationData, TransferSet]
            | None
        ) = None

    def train(
        self, job: Job, taught: DistillationData, kept: Checkpoints | None, report: Callable[[int, str], None]
    ) -> BlockResult:
        with jax.default_device(self.device):
            if self._held is None or self._held[0] != job.shown or self._held[1] is not taught:
                self._held = None  # frees the old one first
                mine = job.shown(taught)
                self._held = job.shown, taught, mine, students.on_device(mine)
            return students.train_block(job.block, *self._held[2:], kept, report)


def _on_devices(
    jobs: Sequence[Job],
    taught: DistillationData,
    record: run_directory.RunDirectory,
    devices: Sequence[Any],
    seconds: float,
    board: _Board,
) -> None:
    # One thread a device: each waits for its own block, so that no device waits for another's.
    places: queue.SimpleQueue[_Place] = queue.SimpleQueue()
    for device in devices:
        places.put(_Place(device))
    failed = threading.Event()

    def run(job: Job) -> BlockResult:
        def report(step: int, note: str) -> None:
            if failed.is_set():
                raise futures.CancelledError
            board.update(job.block.name, step, note)

        place = places.get()
        try:
            return place.train(job, taught, Checkpoints(record.checkpoints(job.block.name), seconds), report)
        finally:
            places.put(place)

    if len(devices) == 1:
        for job in jobs:
            _keep(record, job, run(job))
        return
    with futures.ThreadPoolExecutor(len(devices)) as pool:
        running = {pool.submit(run, job): job for job in jobs}
        try:
            for done in futures.as_completed(running):
                outcome = done.result()
                _keep(record, running.pop(done), outcome)
        finally:
            failed.set()
            pool.shutdown(cancel_futures=True)
            for done, job in running.items():  # finished just before something failed
                if not done.cancelled() and done.exception() is None:
                    _keep(record, job, done.result())


def _on_cluster(
    jobs: Sequence[Job], taught: DistillationData, record: run_directory.RunDirectory, where: WhereConfig, board: _Board
) -> None:
    distributed = _dask()
    waiting, killed, losses = {job.block.name: job for job in jobs}, list[str](), 0
    with _client(distributed, where) as client:
        while waiting:
            facts = _wait_for_workers(client, where, record)
            try:
                # Every worker gets the lesson once, over the network; a block's own part is cut out where it runs.
                (sent,) = client.scatter([taught], broadcast=True)
                running = {
                    client.submit(train_on_worker, job, sent, facts, pure=False): job for job in waiting.values()
                }
                for done in distributed.as_completed(list(running)):
                    job = running.pop(done)
                    try:
                        _keep(record, job, done.result())
                        losses = 0
                    except distributed.KilledWorker:
                        killed.append(job.block.name)
                    del waiting[job.block.name]
                    note = f"{len(jobs) - len(waiting)} of {len(jobs)} blocks"
                    board.update(job.block.name, job.steps, note, whole=True)
            except distributed.client.FutureCancelledError:
                losses += 1
                require(
                    client.status == "running" and losses <= LOSSES,
                    f"the cluster {where.cluster} is gone, or its workers die again and again: see their logs. "
                    "Finished blocks are kept; give the same command again to go on",
                )
                say("all workers that held the lesson have died: it is sent out anew")
    require(
        not killed,
        f"{len(killed)} blocks ({', '.join(killed[:3])}) ended every worker that tried them: see the workers' logs "
        "(memory?). All others are kept; give the same command again to go on",
    )


def _wait_for_workers(client: Any, where: WhereConfig, record: run_directory.RunDirectory) -> dict[str, Any]:
    """Waits for the first worker; returns what all must have in common, and notes it in the run directory."""
    if not client.scheduler_info()["workers"]:
        say(f"waiting for workers to join {where.cluster}")
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        raise BadInput(
            f"no worker joined the cluster {where.cluster} within {WORKER_SECONDS} s: start some, and give the same "
            "command again to go on"
        ) from None
    try:
        found = client.run(what_fixes_digits)
    except ModuleNotFoundError as error:
        raise BadInput(f"the workers of {where.cluster} lack a package ({error}): install kdjax there") from None
    facts, mine = next(iter(found.values())), what_fixes_digits()
    for name in ("sources", "versions"):
        same = facts[name] == mine[name]
        require(same, f"the workers of {where.cluster} have other {name} than this process: {HINT}")
    record.note("workers", facts)
    return facts


HINT = "results would differ; install the same kdjax and packages for all"


@functools.cache
def what_fixes_digits() -> dict[str, Any]:
    """What must be the same wherever blocks of one run are trained: sources, versions, device, cores."""
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    found = provenance()
    return {"sources": digest, **{name: found[name] for name in ("versions", "device", "cpus")}}


_ONE_AT_A_TIME = threading.Lock()


@functools.cache
def _place_of_worker() -> _Place:
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(compilation_cache.folder()))
    return _Place(jax.local_devices()[0])


def train_on_worker(job: Job, taught: DistillationData, facts: dict[str, Any]) -> BlockResult:
    """What a worker computes: a pure function of job and lesson.

    Raises:
        BadInput: this worker is not as `facts` says that all are.
    """
    mine = what_fixes_digits()
    differing = [name for name in facts if mine[name] != facts[name]]
    require(not differing, f"a worker on {platform.node()} has other {', '.join(differing)} than the first one: {HINT}")
    with _ONE_AT_A_TIME, compilation_cache.programs_kept():
        return _place_of_worker().train(job, taught, None, lambda step, note: None)


def _dask() -> Any:
    try:
        import distributed
    except ModuleNotFoundError:
        raise BadInput(
            "--cluster needs Dask: install kdjax[cluster] (pip install -e '.[cluster]') here and where workers run"
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters to a user is said here
    return distributed


@contextlib.contextmanager
def _client(distributed: Any, where: WhereConfig) -> Iterator[Any]:
    if where.local_workers():
        with _local_cluster(distributed, where) as cluster, distributed.Client(cluster) as client:
            count = len(cluster.workers)
            say(f"{count} worker process{'es' * (count > 1)}; dashboard: {client.dashboard_link}")
            yield client
        return
    try:
        client = distributed.Client(where.cluster, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"no cluster answers at --cluster {where.cluster} ({reason}): give the address that `dask scheduler` "
            "prints, such as tcp://10.0.0.1:8786, or local:N for N worker processes here"
        ) from None
    with client:
        yield client


def _local_cluster(distributed: Any, where: WhereConfig) -> Any:
    devices, workers = jax.local_device_count(), where.local_workers()
    options: dict[str, Any] = {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL, "host": "127.0.0.1"}
    specs = {}
    for index in range(devices if workers == math.inf else int(workers)):
        # A process that sees one card cannot take memory on the others.
        seen = {"CUDA_VISIBLE_DEVICES": str(index % devices)} if jax.default_backend() == "gpu" else {}
        specs[index] = {"cls": distributed.Nanny, "options": {**options, "env": seen}}
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"host": "127.0.0.1", "dashboard": True, "dashboard_address": "127.0.0.1:0"},
    }
    return distributed.SpecCluster(workers=specs, scheduler=scheduler, silence_logs=logging.CRITICAL)
