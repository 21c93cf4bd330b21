"""How many workers, and which block size, does a large sweep want? Measures on this machine, then simulates a cluster.

    python docs/results/scaling.py              # measures in about ten minutes, then simulates
    python docs/results/scaling.py --simulate   # simulates again from what was measured

Writes data/scaling_blocks.csv and data/scaling_scheduler.csv (measured) and data/scaling.csv (simulated);
docs/results/tables.py prints them in docs/machines.md. Students are 784-300-300-10, 20 epochs on 60,000 images of
MNIST's size; a worker is one core of this machine. Seconds are of processor time, so that what else the machine does
counts little.
"""

import argparse
import heapq
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

DATA = Path(__file__).parent / "data"
STUDENTS, WIDTH, EPOCHS, IMAGES = 10_000, 300, 20, 60_000
PART = 10
"""Blocks are timed on IMAGES / PART images, as cost is linear in images (docs/results/cost.md)."""
BLOCK_SIZES = 1, 2, 4, 8, 16, 32
WORKERS = tuple(2**power for power in range(11))
SHOWN = 1, 16, 32, 64, 128, 256, 512, 1024
"""Numbers of workers in the table."""
MEASURED_WORKERS = 1, 2, 4, 8
ROUNDS, SEEDS = 3, 3
ALIKE = 1.02
"""Block sizes whose time is within this factor of the shortest are called alike."""
LINEAR = 0.85
"""Least share of one worker's efficiency that is called linear."""


class Costs(NamedTuple):
    """Seconds beside training. Scheduler and main process do one block after another."""

    startup: float = 0.0
    """Of a worker, before its first block: imports and compilation."""
    schedule: float = 0.0
    """Of the scheduler, for each start of a block."""
    store: float = 0.0
    """Of the main process, to fetch and to write a block."""
    gather: float = 0.0
    """Of the main process, to read a block again for the tables at the end."""


class Trouble(NamedTuple):
    """What befalls workers."""

    slow: float = 0.0
    """Share of them that work at half speed."""
    deaths: float = 0.0
    """Deaths per worker and hour. The block starts again elsewhere."""
    away: float = 60.0
    """Seconds until a dead worker is back."""


FREE, CALM, TROUBLE = Costs(), Trouble(), Trouble(slow=0.05, deaths=0.1)
LIMITS = {
    "workers' starts": {"startup": 0.0},
    "scheduling": {"schedule": 0.0},
    "writing": {"store": 0.0, "gather": 0.0},
}
"""Name → the costs that would be gone."""


def makespan(
    seconds: Sequence[float], workers: int, costs: Costs = FREE, trouble: Trouble = CALM, seed: int = 0
) -> float:
    """Seconds from the start to the last table, simulated event by event.

    Each free worker takes the next block in order (list scheduling, as Dask does). A block that was cut off goes to the
    front. Results wait for the main process while their workers go on.

    Args:
        seconds: of each block on an undisturbed worker.
    """
    random, waiting, idle = np.random.default_rng(seed), deque(seconds), list[int]()
    slow = round(trouble.slow * workers)
    # (time, worker, seconds of the block that it ends, or 0, whether the worker dies)
    events = [(costs.startup, worker, 0.0, False) for worker in range(workers)]
    scheduled = stored = 0.0
    while events:
        now, worker, block, died = heapq.heappop(events)
        if died:
            waiting.appendleft(block)
            heapq.heappush(events, (now + trouble.away + costs.startup, worker, 0.0, False))
        else:
            stored = max(stored, now) + costs.store if block else stored
            idle.append(worker)
        while waiting and idle:
            worker, block = idle.pop(), waiting.popleft()
            scheduled = max(scheduled, now) + costs.schedule
            needed = block * (2 if worker < slow else 1)
            death = random.exponential(3600 / trouble.deaths) if trouble.deaths else math.inf
            heapq.heappush(events, (scheduled + min(needed, death), worker, block, death < needed))
    return stored + costs.gather * len(seconds)


def block_times(count: int, mean: float, spread: float, seed: int) -> list[float]:
    """Log-normal seconds of blocks, with that mean and that standard deviation of the logarithm."""
    normal = np.random.default_rng([seed, 1]).standard_normal(count)
    return list(mean * np.exp(spread * normal - spread**2 / 2))


def simulated(blocks: pd.DataFrame, schedule: float, workers: Sequence[int] = WORKERS) -> pd.DataFrame:
    """Median seconds over seeds: a row for each number of workers and each block size.

    Columns: `trouble`, the whole; `calm`, without stragglers and deaths; `NAME`, for each of LIMITS, what would be
    saved if that cost nothing; `efficiency` and `calm_efficiency`, ideal / seconds, where ideal = STUDENTS × the fewest
    seconds of a student at any block size / workers.
    """
    ideal, rows = STUDENTS * min(blocks.block / blocks.index), []
    spread = float(np.sqrt((blocks.spread**2).mean()))
    for count in workers:
        for size, row in blocks.iterrows():
            times = [block_times(-(-STUDENTS // size), row.block, spread, seed) for seed in range(SEEDS)]

            def median(costs: Costs, trouble: Trouble, count: int = count, times: list[list[float]] = times) -> float:
                return float(np.median([makespan(one, count, costs, trouble, seed) for seed, one in enumerate(times)]))

            costs = Costs(row.startup, schedule, row.store, row.gather)
            whole, calm = median(costs, TROUBLE), median(costs, CALM)
            line = {"workers": count, "size": size, "trouble": whole, "calm": calm}
            line |= {name: whole - median(costs._replace(**free), TROUBLE) for name, free in LIMITS.items()}
            line |= {"stragglers and deaths": whole - calm}
            line |= {"whole blocks": median(FREE, CALM) - len(times[0]) * row.block / count}
            rows.append({**line, "efficiency": ideal / count / whole, "calm_efficiency": ideal / count / calm})
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the page: for each number of workers the block sizes that are best, efficiencies, and what costs
    most."""
    lines = []
    for count in SHOWN:
        own = rows[rows.workers == count].set_index("size")
        best = [str(size) for size, seconds in own.trouble.items() if seconds <= ALIKE * own.trouble.min()]
        first = own.loc[own.trouble.idxmin()]
        limit = max((*LIMITS, "stragglers and deaths", "whole blocks"), key=lambda name: first[name])
        line = {"key": count, "workers": count, "minutes": f"{first.trouble / 60:.1f}", "best": ", ".join(best)}
        line |= {"calm": f"{own.calm_efficiency.max():.2f}", "efficiency": f"{first.efficiency:.2f}"}
        line |= {f"of_{size}": f"{own.efficiency[size]:.2f}" for size in (1, 8, 32)}
        lines.append({**line, "limit": limit})
    return pd.DataFrame(lines)


def finding(rows: pd.DataFrame) -> tuple[int, int, float]:
    """Where it stops being linear, and which block size is right.

    Returns:
        The most workers up to which the best efficiency is at least LINEAR of one worker's; the block size that, over
        these numbers of workers, is at worst the least slower than the best; and how many times as long it takes there.
    """
    seconds = rows.pivot(index="workers", columns="size", values="trouble")
    best = seconds.min(axis=1)
    efficiency = best[1] / (best * best.index)
    fails = efficiency[efficiency < LINEAR].index.min()  # nan where none does
    linear = int(max(count for count in best.index if not count >= fails))
    worst = seconds.div(best, axis=0).loc[:linear].max()
    return linear, int(worst.idxmin()), float(worst.min())


# What is measured.


class Sent(NamedTuple):
    """What every worker gets once: data of the real size, and the answers of workers that do not train."""

    data: Any
    result: Any
    sleeps: list[float]


def answer(block: Any, sent: Sent, facts: dict[str, Any]) -> Any:
    """In place of `cluster.train_on_worker`: (start, end, result), by the clock of this machine."""
    begin = time.time()
    time.sleep(sent.sleeps[block.seed % len(sent.sleeps)])
    return begin, time.time(), sent.result


def random_data() -> Any:
    """Distillation data of MNIST's shape, of a PART of its images."""
    from kdjax.datasets import Dataset, Split
    from kdjax.transfer import DistillationData

    random = np.random.default_rng(0)

    def split(count: int) -> Split:
        images = random.integers(0, 256, (count, 28, 28, 1)).astype(np.uint8)
        return Split(images, random.integers(0, 10, count).astype(np.int32))

    dataset = Dataset("random", 10, tuple("0123456789"), split(IMAGES // PART), split(0), split(10_000 // PART), "", "")
    logits = [random.normal(0, 5, (count, 10)).astype(np.float32) for count in (IMAGES // PART, 0, 10_000 // PART)]
    return DistillationData(dataset, "teacher", *logits)


def block_of(size: int, epochs: int = EPOCHS) -> Any:
    """A block of that many temperatures, its errors counted as often as in one of EPOCHS."""
    from kdjax import grids
    from kdjax.config import SweepConfig

    config = SweepConfig(
        temperatures=tuple(float(1 + index) for index in range(size)),
        hard_labels=False,
        block_size=size,
        widths=(WIDTH,),
        epochs=epochs,
        monitor_every=2,
    )
    return grids.plan(config, epochs, IMAGES // PART)[0]


class Trained(NamedTuple):
    """Whole blocks, trained by the real program."""

    seconds: float
    """Of one block of EPOCHS on IMAGES, with its evaluation and rows."""
    compile: float
    spread: float
    """Standard deviation of the logarithm of repeated times."""
    result: Any
    """As large as with 10,000 test images."""


def train(size: int, data: Any) -> Trained:
    """Blocks of 4 epochs, the last two of which are timed by themselves. The first block compiles."""
    from kdjax import students, transfer

    on_device, block, seconds, pairs = transfer.on_device(data), block_of(size, 4), [], []
    for _ in range(1 + ROUNDS):
        begin, reports = time.process_time(), dict[int, float]()

        def report(step: int, note: str, reports: dict[int, float] = reports) -> None:
            reports[step] = time.process_time()

        result = students.train_block(block, data, on_device, None, report)
        seconds.append(time.process_time() - begin)
        pairs.append(reports[block.steps] - reports[block.steps // 2])
    cold, *seconds = seconds
    whole = PART * (np.array(seconds) + (EPOCHS - 4) / 2 * np.array(pairs[1:]))
    # Repeated: a compressor that looks back 32 kB does not see it.
    logits = {name: np.tile(table, (1, PART, 1)) for name, table in result.logits.items()}
    spread = float(np.log(whole).std(ddof=1))
    compiling = cold - float(np.median(seconds))
    return Trained(float(np.median(whole)), compiling, spread, result._replace(logits=logits))


def import_seconds() -> float:
    """Seconds until a new process could train."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import kdjax.cluster, jax; jax.devices()"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def on_workers(address: str, count: int, size: int, sent: Sent, write: bool) -> tuple[float, float, float]:
    """The real `cluster.train` on workers that only answer. The scheduler is in this process, too.

    Returns:
        Seconds of this process for each block, after the first quarter; seconds by the clock from the first start to
        the last end on workers; and seconds for each block in the tables at the end (0 unless results are written).
    """
    from kdjax import cluster, students
    from kdjax.config import RunConfig
    from kdjax.run_directory import RunDirectory

    blocks = [block_of(size)._replace(name=f"block{index}", seed=index) for index in range(count)]
    stored, times, store = [], [], cluster.store

    def note(record: RunDirectory, block: Any, result: Any) -> None:
        times.append(result[:2])
        if write:
            store(record, block, result[2])
        stored.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        record = RunDirectory(Path(folder), students.row_schema())
        record.open({})
        before, cluster.train_on_worker, cluster.store = cluster.train_on_worker, answer, note
        try:
            cluster.train(blocks, sent, record, RunConfig(cluster=address))
        finally:
            cluster.train_on_worker, cluster.store = before, store
        begin, first = time.process_time(), count // 4
        if write:
            record.write_tables()
        gather = (time.process_time() - begin) / count
    starts, ends = zip(*times, strict=True)
    return (stored[-1] - stored[first]) / (count - 1 - first), max(ends) - min(starts), gather


def local_workers(count: int) -> Any:
    """A Dask cluster of so many local workers of one thread (a context)."""
    import distributed

    return distributed.LocalCluster(
        n_workers=count, threads_per_worker=1, memory_limit=0, dashboard_address=None, silence_logs=50
    )


def measure_blocks(data: Any) -> None:
    """Writes what blocks of each size cost."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # before JAX starts its threads: one core, so that none waits for another
    trained = {size: train(size, data) for size in BLOCK_SIZES}
    os.sched_setaffinity(0, cores)
    importing, rows = float(np.median([import_seconds() for _ in range(ROUNDS)])), []
    with local_workers(2) as cluster:
        for size, (seconds, compiling, spread, result) in trained.items():
            where = cluster.scheduler_address, max(12, 32 // size), size, Sent(data, result, [0.0]), True
            store, _, gather = np.median([on_workers(*where) for _ in range(ROUNDS)], axis=0)
            row = {"key": size, "size": size, "block": seconds, "student": seconds / size, "store": store}
            rows.append({**row, "gather": gather, "startup": importing + compiling, "spread": spread})
    write("scaling_blocks", pd.DataFrame(rows))


def measure_scheduler(data: Any) -> None:
    """Writes what scheduling costs with several workers, and how well the simulation foretells Dask."""
    lines = []
    for workers in MEASURED_WORKERS:
        with local_workers(workers) as cluster:
            address, ratios = cluster.scheduler_address, []
            empty = Sent(data, None, [0.0])
            schedule = float(np.median([on_workers(address, 400, 8, empty, False)[0] for _ in range(ROUNDS)]))
            # Log-normal sleeps, which need no core: Dask's time for a list of blocks, over the simulated.
            for seed in range(ROUNDS):
                sleeps = block_times(5 * workers + 3, 1.0, 0.5, seed)
                seen = on_workers(address, len(sleeps), 8, Sent(data, None, sleeps), False)[1]
                ratios.append(seen / makespan(sleeps, workers, Costs(schedule=schedule)))
        line = {"key": workers, "workers": workers, "schedule_ms": 1e3 * schedule}
        lines.append({**line, "ratio": float(np.median(ratios))})
    write("scaling_scheduler", pd.DataFrame(lines))


def write(name: str, frame: pd.DataFrame) -> None:
    """Writes data/NAME.csv with four significant digits."""
    frame.to_csv(DATA / f"{name}.csv", index=False, float_format="%.4g", lineterminator="\n")


def read(name: str) -> pd.DataFrame:
    """Reads data/NAME.csv, indexed by its key."""
    return pd.read_csv(DATA / f"{name}.csv", index_col="key")


def main() -> None:
    """Measures unless told not to, and simulates."""
    parser = argparse.ArgumentParser(description="Measures blocks and Dask here, then simulates a cluster.")
    parser.add_argument("--simulate", action="store_true", help="only simulate, from what was measured")
    if not parser.parse_args().simulate:
        data = random_data()
        measure_blocks(data)
        measure_scheduler(data)
    rows = simulated(read("scaling_blocks"), read("scaling_scheduler").schedule_ms.max() / 1e3)
    print(rows.pivot(index="workers", columns="size", values="efficiency").round(2).to_string())
    linear, size, worst = finding(rows)
    print(f"linear to {linear} workers; blocks of {size} take at most {worst:.2f} times as long as the best there")
    write("scaling", table(rows))


if __name__ == "__main__":
    main()
