"""Where blocks are trained: on the devices of this process, or by the workers of a Dask cluster.

A block is a pure function of its spec, its seed and the lesson: where it runs, beside what, and how often it was
begun anew, changes no bit of it. One process writes.
"""

import contextlib
import functools
import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax

from kdjax import checkpoints, records, students
from kdjax.blocks import TransferSet
from kdjax.checkpoints import Checkpoints
from kdjax.config import CHECKPOINT_SECONDS, BadInput, WhereConfig, require
from kdjax.progress import Progress, say
from kdjax.students import Block, Lesson, Outcome

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
    shown: Callable[[Lesson], Lesson]
    """The whole lesson → this block's; it travels to workers, so it must be picklable."""

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.block.config.epochs * (self.images // self.block.config.batch_size)


def everything(taught: Lesson) -> Lesson:
    """Students that are shown the whole lesson."""
    return taught


def check(where: WhereConfig, teacher_devices: int = 1) -> None:
    """Raises `BadInput` unless there are the devices that are asked for, and the cluster answers."""
    there = jax.local_device_count()
    for option, asked in (("devices", where.devices or 1), ("teacher.devices", teacher_devices)):
        require(
            asked <= there,
            f"--{option} {asked} is not allowed: there {'is' if there == 1 else 'are'} {there} here "
            f"({jax.devices()[0].device_kind})",
        )
    if where.cluster is not None:
        distributed = _dask()
        if not where.local_workers():
            with _client(distributed, where):
                pass


def train(
    jobs: Sequence[Job],
    taught: Lesson,
    record: records.RunDirectory,
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


def _keep(record: records.RunDirectory, job: Job, outcome: Outcome) -> None:
    rows, history, logits, params, seconds = outcome
    record.finish(job.block.name, rows, history, logits, lambda folder: checkpoints.save(folder, params), seconds)


class _Board:
    """The progress of several blocks at once."""

    def __init__(self, progress: Progress, found: int):
        self._progress, self._found, self._steps = progress, found, dict[str, int]()
        self._lock = threading.Lock()
        progress.start_at(found)

    def update(self, block: str, step: int, note: str) -> None:
        with self._lock:
            self._steps[block] = step
            self._progress.update(self._found + sum(self._steps.values()), note)


class _Place:
    """A device, with the transfer set that was last used on it."""

    def __init__(self, device: Any):
        self.device = device
        self._held: tuple[Callable[[Lesson], Lesson], Lesson, Lesson, TransferSet] | None = None

    def train(self, job: Job, taught: Lesson, kept: Checkpoints | None, report: Callable[[int, str], None]) -> Outcome:
        with jax.default_device(self.device):
            if self._held is None or self._held[0] is not job.shown or self._held[1] is not taught:
                self._held = None  # frees the old one first
                mine = job.shown(taught)
                self._held = job.shown, taught, mine, students.on_device(mine)
            return students.train_block(job.block, *self._held[2:], kept, report)


def _on_devices(
    jobs: Sequence[Job],
    taught: Lesson,
    record: records.RunDirectory,
    devices: Sequence[Any],
    seconds: float,
    board: _Board,
) -> None:
    # One thread a device: each waits for its own block, so that no device waits for another's.
    places: queue.SimpleQueue[_Place] = queue.SimpleQueue()
    for device in devices:
        places.put(_Place(device))
    failed = threading.Event()

    def run(job: Job) -> Outcome:
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
                _keep(record, running.pop(done), done.result())
        finally:
            failed.set()
            pool.shutdown(cancel_futures=True)


def _on_cluster(
    jobs: Sequence[Job], taught: Lesson, record: records.RunDirectory, where: WhereConfig, board: _Board
) -> None:
    distributed = _dask()
    waiting, losses = list(jobs), 0
    with _client(distributed, where) as client:
        while waiting:
            try:
                client.wait_for_workers(1, timeout=WORKER_SECONDS)
                # Every worker gets the lesson once, over the network; a block's own part is cut out where it runs.
                sent = client.scatter(taught, broadcast=True)
                running = {client.submit(train_on_worker, job, sent, pure=False): job for job in waiting}
                for done in distributed.as_completed(list(running)):
                    job = running.pop(done)
                    _keep(record, job, done.result())
                    waiting.remove(job)
                    board.update(job.block.name, job.steps, f"{len(jobs) - len(waiting)} of {len(jobs)} blocks")
            except (distributed.client.FutureCancelledError, distributed.KilledWorker) as loss:
                losses += 1
                if losses > LOSSES:
                    raise BadInput(
                        f"the cluster's workers died again and again ({type(loss).__name__}): see their logs. "
                        "Finished blocks are kept; give the same command again to go on"
                    ) from None
                say("all workers that held the lesson have died: it is sent out anew")
            except TimeoutError:
                raise BadInput(
                    f"no worker joined the cluster {where.cluster} within {WORKER_SECONDS} s: start some, and give "
                    "the same command again to go on"
                ) from None


_ONE_AT_A_TIME = threading.Lock()


@functools.cache
def _place_of_worker() -> _Place:
    # Workers of one machine are numbered by Dask: each takes a device of its own, as far as they go.
    from distributed import get_worker

    devices = jax.local_devices()
    name = str(get_worker().name)
    return _Place(devices[int(name) % len(devices)] if name.isdigit() else devices[0])


def train_on_worker(job: Job, taught: Lesson) -> Outcome:
    """What a worker computes: a pure function of its arguments."""
    with _ONE_AT_A_TIME:
        return _place_of_worker().train(job, taught, None, lambda step, note: None)


def _dask() -> Any:
    try:
        import distributed
    except ModuleNotFoundError:
        raise BadInput(
            "--cluster needs Dask: install kdjax[cluster] (pip install -e '.[cluster]') here and where workers run"
        ) from None
    return distributed


@contextlib.contextmanager
def _client(distributed: Any, where: WhereConfig) -> Iterator[Any]:
    workers = where.local_workers()
    if workers:
        count = jax.local_device_count() if workers is math.inf else int(workers)
        with (
            distributed.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0") as cluster,
            distributed.Client(cluster) as client,
        ):
            say(f"{count} worker process{'es' * (count > 1)}; dashboard: {client.dashboard_link}")
            yield client
        return
    try:
        client = distributed.Client(where.cluster, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"no cluster answers at --cluster {where.cluster} ({reason}): give the address that `dask scheduler` "
            "prints, such as tcp://10.0.0.1:8786, or local:N for N worker processes here"
        ) from None
    with client:
        yield client
