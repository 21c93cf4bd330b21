"""Where blocks are trained: on the devices of this process. (On the workers of a Dask cluster: `kdjax.cluster`.)

A block is a pure function of its spec and the distillation data: on devices of one kind its result does not depend on
where it runs, what else is running, and how often it was resumed. One process writes.
"""

import contextlib
import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import jax

from kdjax import checkpoints, students, transfer
from kdjax.blocks import TransferSet
from kdjax.checkpoints import Checkpoints
from kdjax.config import RunConfig
from kdjax.errors import require_option
from kdjax.progress import Progress, say
from kdjax.run_directory import RunDirectory
from kdjax.students import Block, BlockResult
from kdjax.transfer import DistillationData, TransferSpec


def require_devices(option: str, wanted: int) -> None:
    """Raises `BadInput` if an option wants more devices than there are."""
    count = jax.local_device_count()
    available = f"there {'is' if count == 1 else 'are'} {count} here ({jax.devices()[0].device_kind})"
    require_option(wanted <= count, option, wanted, available)


class Device:
    """A device, with the transfer set that was last used on it."""

    def __init__(self, device: Any):
        self.device = device
        self._last: tuple[TransferSpec, DistillationData, DistillationData, TransferSet] | None = None

    def train(
        self, block: Block, data: DistillationData, checkpoints: Checkpoints | None, report: Callable[[int, str], None]
    ) -> BlockResult:
        """Trains a block here; of the whole `data`, its students learn from what `block.transfer` selects."""
        with jax.default_device(self.device):
            if self._last is None or self._last[0] != block.transfer or self._last[1] is not data:
                self._last = None  # frees the old one first
                selected = block.transfer.select(data)
                self._last = block.transfer, data, selected, transfer.on_device(selected)
            return students.train_block(block, *self._last[2:], checkpoints, report)


class Board:
    """The progress of several blocks at once."""

    def __init__(self, progress: Progress, finished: int, found: int = 0, blocks: int = 1):
        """`finished` steps were done before, in `found` of all the `blocks`."""
        self._progress, self._finished, self._steps = progress, finished, dict[str, int]()
        self._found, self._blocks = found, blocks
        self._lock = threading.Lock()
        progress.resumed(finished)

    def update(self, block: str, step: int, note: str, whole: bool = False) -> None:
        """Reports the step of a block. Its first report counts as work done before, as after a resume, unless the
        `whole` block was trained since the start."""
        with self._lock:
            if block not in self._steps and not whole:
                self._progress.resumed(step)
            self._steps[block] = step
            part = f"block {self._found + len(self._steps)} of {self._blocks}"
            self._progress.update(self._finished + sum(self._steps.values()), note, part)


def store(record: RunDirectory, block: Block, result: BlockResult) -> None:
    """Writes a finished block into the run directory."""
    rows, history, logits, params, seconds = result
    record.finish(block.name, rows, history, logits, lambda folder: checkpoints.save(folder, params), seconds)


def train(blocks: Sequence[Block], data: DistillationData, record: RunDirectory, run: RunConfig) -> None:
    """Trains every block of `blocks`, in this order, that the run directory does not hold yet, or resumes it, on this
    process's devices. `data` are the whole dataset with its teacher's logits."""
    with progress_of(blocks, record) as (unfinished, board):
        _on_devices(unfinished, data, record, run, board)


@contextlib.contextmanager
def progress_of(blocks: Sequence[Block], record: RunDirectory) -> Iterator[tuple[list[Block], Board]]:
    """Yields the blocks that the run directory does not hold yet, and the board on which to report their steps; says
    how many it holds."""
    unfinished = [block for block in blocks if record.finished(block.name) is None]
    found, total = len(blocks) - len(unfinished), sum(block.steps for block in blocks)
    if found:
        say(f"{found} of {len(blocks)} blocks are finished already")
    with Progress("students", total) as progress:
        yield unfinished, Board(progress, total - sum(block.steps for block in unfinished), found, len(blocks))


def at_once(run: RunConfig, blocks: int) -> int:
    """Blocks that share this machine's memory in training, of so many; 0 where other machines train them."""
    workers, devices = run.local_workers(), len(jax.local_devices()[: run.devices])
    if run.cluster is not None and not workers:
        return 0
    places = int(min(blocks, workers if 0 < workers < math.inf else devices))
    return places if jax.default_backend() == "cpu" else math.ceil(places / devices)  # others have memory of their own


def _on_devices(
    blocks: Sequence[Block], data: DistillationData, record: RunDirectory, config: RunConfig, board: Board
) -> None:
    # One thread a device: each waits for its own block, so that no device waits for another's.
    devices = jax.local_devices()[: config.devices][: len(blocks)]
    idle: queue.SimpleQueue[Device] = queue.SimpleQueue()
    for device in devices:
        idle.put(Device(device))
    failed = threading.Event()

    def run(block: Block) -> BlockResult:
        def report(step: int, note: str) -> None:
            if failed.is_set():
                raise futures.CancelledError
            board.update(block.name, step, note)

        device = idle.get()
        try:
            record.begin(block.name)
            checkpoints = Checkpoints(record.checkpoints(block.name), config.checkpoint_seconds)
            return device.train(block, data, checkpoints, report)
        finally:
            idle.put(device)

    if len(devices) < 2:
        for block in blocks:
            store(record, block, run(block))
        return
    with futures.ThreadPoolExecutor(len(devices)) as pool:
        running = {pool.submit(run, block): block for block in blocks}
        try:
            for done in futures.as_completed(running):
                result = done.result()
                store(record, running.pop(done), result)
        finally:
            failed.set()
            pool.shutdown(cancel_futures=True)
            for done, block in running.items():  # finished just before something failed
                if not done.cancelled() and done.exception() is None:
                    store(record, block, done.result())
