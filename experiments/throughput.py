"""How near to the machine's limit does training run? `python -m experiments.throughput`

Times training steps of real blocks on random images, and a bare float32 product (256 × width × width) in turn with
them in the same process, since a shared machine's speed drifts: what counts is the share of the one in the other.
"""

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from kdjax import cli
from kdjax.config import TeacherConfig, TrainConfig, require

PROG = "python -m experiments.throughput"


@dataclasses.dataclass(frozen=True)
class ThroughputConfig:
    """Measures training speed, beside a bare matrix product in the same process."""

    cases: tuple[str, ...] = ("teacher", "8x800", "8x300", "32x30")
    """What to measure: teacher, or KxW for a block of K students with two hidden layers of W units."""
    images: int = 60_000
    """Size of the (random) training set, in images."""
    batch_size: int = 256
    """Images a step, for the students; the teacher's is that of its recipe."""
    rounds: int = 5
    """Times each case is measured, in turn with the bare product."""
    seconds: float = 1.0
    """Length of one measurement."""

    def __post_init__(self) -> None:
        require(self.cases, "--cases is empty: give teacher, or KxW such as 8x800")
        for case in self.cases:
            require(
                case == "teacher" or (re.fullmatch("[1-9][0-9]{0,3}x[1-9][0-9]{0,4}", case)),
                f"--cases {case} is unknown: give teacher, or KxW such as 8x800",
            )
        batch = max(self.batch_size, TeacherConfig().batch_size if "teacher" in self.cases else 1)
        require(self.batch_size > 0, f"--batch-size {self.batch_size} is not allowed: it is 1 image or more")
        require(batch <= self.images <= 1_000_000, f"--images {self.images} is not allowed: {batch} to 1,000,000 here")
        require(0 < self.rounds <= 1000, f"--rounds {self.rounds} is not allowed: it is 1 to 1,000")
        require(0 < self.seconds <= 60, f"--seconds {self.seconds:g} is not allowed: it is above 0, and at most 60")


class Speed(NamedTuple):
    """One case, measured."""

    case: str
    step_ms: float
    """Median over the rounds."""
    rate: float
    """Floating-point operations a second, of the products alone."""
    share: float
    """Median over the rounds of rate / rate of the bare product just before and after."""
    epoch_seconds: float
    """A student's (or the teacher's) epoch."""
    compile_seconds: float


def main(config: ThroughputConfig) -> None:
    """Measures every case and prints the table."""
    print(f"{'case':>8} {'ms/step':>9} {'GFLOP/s':>9} {'share':>6} {'s/epoch':>9} {'compile s':>9}")
    for case in config.cases:
        speed = measure(case, config)
        print(
            f"{speed.case:>8} {speed.step_ms:9.2f} {speed.rate / 1e9:9.1f} {speed.share:6.2f} "
            f"{speed.epoch_seconds:9.4f} {speed.compile_seconds:9.1f}",
            flush=True,
        )
    print("share: of a bare float32 product, 256 x width x width; s/epoch: of one network")


def measure(case: str, config: ThroughputConfig) -> Speed:
    """Times one case in turn with the bare product."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from kdjax import blocks, models
    from kdjax.train import Setting

    recipe, settings = _recipe(case, config)
    random = np.random.default_rng(0)
    transfer_set = blocks.TransferSet(
        jnp.asarray(random.integers(0, 256, (config.images, 28, 28, 1)).astype(np.uint8)),
        jnp.asarray(random.integers(0, 10, config.images).astype(np.int32)),
        jnp.asarray(random.normal(0, 5, (config.images, 10)).astype(np.float32)),
    )
    setting = Setting(*(jnp.full(settings, value) for value in (4.0, 0.0 if case == "teacher" else 1.0, 1e-3)))
    program = blocks.program_for(recipe, (28, 28, 1), 10, config.images, settings)
    order = blocks.epoch_order(0, 0, config.images)
    state, sums, _ = blocks.start(program, 0, 1)

    def steps(count: int) -> Any:
        nonlocal state, sums
        state, sums = program.advance(state, sums, transfer_set, setting, 0, order, count)
        return sums

    begin = time.perf_counter()
    jax.block_until_ready(steps(1))
    compile_seconds = time.perf_counter() - begin
    width = recipe.hidden[0]
    left, right, product = jnp.ones((256, width)), jnp.ones((width, width)), jax.jit(jnp.matmul)

    def products(count: int) -> Any:
        for _ in range(count):
            result = product(left, right)
        return result

    model = models.mlp(recipe, (28, 28, 1), 10)
    step_operations = settings * models.step_flops(model, recipe.hidden, recipe.batch_size)
    bare_operations = 2.0 * 256 * width * width
    timings = []
    for _ in range(config.rounds):
        before = _seconds_each(products, config.seconds / 4)
        step = _seconds_each(steps, config.seconds)
        after = _seconds_each(products, config.seconds / 4)
        timings.append((step, (step_operations / step) / (bare_operations / ((before + after) / 2))))
    seconds, share = np.median(np.array(timings), axis=0)
    epoch = seconds * program.steps_per_epoch / settings
    return Speed(case, 1e3 * seconds, step_operations / seconds, share, epoch, compile_seconds)


def _recipe(case: str, config: ThroughputConfig) -> tuple[TrainConfig, int]:
    if case == "teacher":
        return TeacherConfig().train_config(default_epochs=1), 1
    settings, width = map(int, case.split("x"))
    return TrainConfig(hidden=(width, width), epochs=1, batch_size=config.batch_size), settings


def _seconds_each(work: Callable[[int], Any], seconds: float) -> float:
    import jax

    count, spent = 1, 0.0
    while spent < seconds / 2:
        count = max(1, min(10 * count, int(count * seconds / spent))) if spent else count
        begin = time.perf_counter()
        jax.block_until_ready(work(count))
        spent = time.perf_counter() - begin
    return spent / count


if __name__ == "__main__":
    cli.run(main, ThroughputConfig, PROG)
