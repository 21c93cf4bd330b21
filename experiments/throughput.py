"""How near to the machine's limit does training run? `python -m experiments.throughput`

Times training steps of real blocks on random images, and a bare float32 product (256 × width × width) in turn with
them in the same process, since a shared machine's speed drifts: what counts is the share of the one in the other. With
`--scaling`, the seconds of whole trainings against the number of blocks and of images. About a minute on two cores;
`--scaling` takes two more, and `--against torch` two.
"""

import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from kdjax import cli
from kdjax.config import CONVOLUTIONAL, Network, Precision, TeacherConfig, TrainConfig, canonical_json
from kdjax.errors import require, require_name

PROG = "python -m experiments.throughput"
BLOCKS = 1, 2, 4, 8, 16
BLOCK_IMAGES = 8_000
IMAGES = 4_000, 8_000, 15_000, 30_000, 60_000
"""Whole trainings that `--scaling` times: numbers of blocks of `BLOCK_IMAGES` images, and numbers of images in one."""


@dataclasses.dataclass(frozen=True)
class ThroughputConfig:
    """Measures training speed, beside a bare matrix product in the same process."""

    cases: tuple[str, ...] = ("teacher", "1x800", "8x800", "8x300", "32x30")
    """What to measure: teacher; KxW for a block of K students with two hidden layers of W units; small or big, one
    convolutional network at full width, 128 images a step."""
    precisions: tuple[Precision, ...] = ("float32",)
    """Operands of the students' products; the bare product is float32 in any case."""
    against: Literal["torch"] | None = None
    """Also train single students of the same kinds in PyTorch, one after another, written as tutorials do and tuned
    (needs the extra `bench`)."""
    scaling: bool = False
    """Also time whole trainings of 8x300 for 1 to 16 blocks, and for 4,000 to 60,000 images."""
    images: int = 60_000
    """Size of the (random) training set, in images."""
    batch_size: int = 256
    """Images a step, for the students; the teacher's is that of its recipe."""
    rounds: int = 5
    """Times each case is measured, in turn with the bare product."""
    seconds: float = 1.0
    """Length of one measurement."""
    out: Path = Path("runs")
    """The measurements are kept in OUT/throughput/NAME, a new one of the same config in the place of the old."""
    name: str | None = None
    """Name of that folder (default: a hash of the config)."""

    def __post_init__(self) -> None:
        require(self.cases, "--cases is empty: give teacher, small, big, or KxW such as 8x800")
        for case in self.cases:
            require(
                case in ("teacher", *CONVOLUTIONAL) or (re.fullmatch("[1-9][0-9]{0,3}x[1-9][0-9]{0,4}", case)),
                f"--cases {case} is unknown: give teacher, small, big, or KxW such as 8x800",
            )
        require(self.precisions, "--precisions is empty: give float32, bfloat16 or both")
        batch = max(self.batch_size, TeacherConfig().batch_size if "teacher" in self.cases else 1)
        batch = max(batch, 128 if set(CONVOLUTIONAL) & set(self.cases) else 1)
        require(self.batch_size > 0, f"--batch-size {self.batch_size} is not allowed: it is 1 image or more")
        require(batch <= self.images <= 1_000_000, f"--images {self.images} is not allowed: {batch} to 1,000,000 here")
        require(
            not self.scaling or self.batch_size <= IMAGES[0],
            f"--batch-size {self.batch_size} is not allowed with --scaling: at most {IMAGES[0]}",
        )
        require(0 < self.rounds <= 1000, f"--rounds {self.rounds} is not allowed: it is 1 to 1,000")
        require(0 < self.seconds <= 60, f"--seconds {self.seconds:g} is not allowed: it is above 0, and at most 60")
        require_name(self.name)


class Speed(NamedTuple):
    """One case, measured: medians over the rounds."""

    case: str
    precision: str
    step_ms: float
    images_runs_per_second: float
    """Images × runs a second."""
    gflops: float
    """10⁹ floating-point operations a second, of the products alone, by formula."""
    share: float
    """Of the bare float32 product just before and after."""
    epoch_seconds: float
    """Of one student, or of the teacher."""
    compiler_count: float
    """What XLA's cost analysis counts in a step, over the formula. It counts a loop once, and so misses products of the
    convolutional networks on a CPU, whose gradients go over a few images at a time."""
    peak_mib: float
    """Memory of the compiled step with its arguments, by XLA's own account."""
    compile_seconds: float
    torch_idiomatic: float | None = None
    """Seconds of an epoch of one student in PyTorch over `epoch_seconds`."""
    torch_tuned: float | None = None


def main(config: ThroughputConfig) -> None:
    """Measures every case; writes and prints the table, and draws it."""
    from analysis import plot_throughput
    from kdjax import run_directory
    from kdjax.progress import say
    from kdjax.provenance import provenance

    peers = _peers() if config.against else {}
    folder = run_directory.run_folder(config.out, "throughput", config.name, config)
    run_directory.make_folder(folder)
    speeds = []
    print(plot_throughput.header(), flush=True)
    for case in config.cases:
        for precision in config.precisions if case != "teacher" else config.precisions[:1]:
            speeds.append(measure(case, "float32" if case == "teacher" else precision, config, peers))
            print(plot_throughput.line(speeds[-1]._asdict()), flush=True)
    found = {
        "config": config,
        "provenance": provenance(),
        "cases": [speed._asdict() for speed in speeds],
        "scaling": scaling(config) if config.scaling else None,
    }
    run_directory.write_json(folder / "throughput.json", json.loads(canonical_json(found)))
    figures = plot_throughput.draw(folder)
    say(f"figures: {', '.join(str(path) for path in figures if path.suffix == '.png')}")


def measure(case: str, precision: Precision, config: ThroughputConfig, peers: dict[str, Any]) -> Speed:
    """Times one case in turn with the bare product, and with the peers where there are any."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from kdjax import blocks, layers, loop, models
    from kdjax.train import Setting

    recipe, settings = _recipe(case, precision, config)
    shape = (32, 32, 3) if case in CONVOLUTIONAL else (28, 28, 1)
    transfer_set = _random_images(config.images, shape)
    setting = Setting(*(jnp.full(settings, value) for value in (4.0, 0.0 if case == "teacher" else 1.0, 1e-3)))
    program = blocks.program_for(recipe, shape, 10, config.images, settings)
    order = blocks.epoch_order(0, 0, config.images)
    state, sums, _ = loop.start(program, 0, 1)
    lowered = program.advance.lower(state, sums, transfer_set, setting, 0, order, 1)  # type: ignore[attr-defined]
    with _no_cache():  # what is asked is how long compiling takes
        begin = time.perf_counter()
        compiled = lowered.compile()
        compile_seconds = time.perf_counter() - begin

    def steps(count: int) -> Any:
        nonlocal state, sums
        state, sums = compiled(state, sums, transfer_set, setting, 0, order, count)
        return sums

    width = recipe.hidden[0]
    left, right = jnp.ones((256, width)), jnp.full((width, width), 1 / width)

    @jax.jit
    def products(count: Any) -> Any:
        # Each product needs the one before it, and no time goes into calling them.
        return jax.lax.fori_loop(0, count, lambda _, left: jnp.matmul(left, right, precision=layers.FLOAT32), left)

    jax.block_until_ready((steps(1), products(1)))
    model = models.network(recipe, shape, 10)
    operations = settings * models.step_flops(model, recipe.batch_size)
    bare_operations = 2.0 * 256 * width * width
    steps_per_epoch = config.images // recipe.batch_size
    timings, ratios = [], []
    for _ in range(config.rounds):
        before = _seconds_each(products, config.seconds / 4)
        step = _seconds_each(steps, config.seconds)
        after = _seconds_each(products, config.seconds / 4)
        timings.append((step, (operations / step) / (bare_operations / ((before + after) / 2))))
        if peers and case != "teacher":
            own, student = step * steps_per_epoch / settings, case if case in CONVOLUTIONAL else width
            theirs = [peer(student, recipe.batch_size, transfer_set, config.seconds) for peer in peers.values()]
            ratios.append([seconds * steps_per_epoch / own for seconds in theirs])
    seconds, share = np.median(np.array(timings), axis=0)
    memory = compiled.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    return Speed(
        case,
        precision,
        1e3 * float(seconds),
        settings * recipe.batch_size / float(seconds),
        operations / float(seconds) / 1e9,
        float(share),
        float(seconds) * steps_per_epoch / settings,
        # Its loop over groups of settings is counted once.
        float(compiled.cost_analysis()["flops"]) * program.settings / program.together / operations,
        (peak - memory.alias_size_in_bytes) / 2**20,
        compile_seconds,
        *(map(float, np.median(np.array(ratios), axis=0)) if ratios else ()),
    )


def scaling(config: ThroughputConfig) -> dict[str, Any]:
    """Seconds of whole trainings (one epoch a block of 8x300, compiled before): by blocks, and by images.

    Returns:
        `blocks` and `images`: lists of [number, seconds], the fastest of three; blocks of `BLOCK_IMAGES` images each,
        images in one block of four epochs.
    """
    import jax.numpy as jnp
    from rich.console import Console

    from kdjax import blocks, loop
    from kdjax.train import Setting

    recipe, settings = _recipe("8x300", "float32", config)
    setting = Setting(*(jnp.full(settings, value) for value in (4.0, 1.0, 1e-3)))

    def seconds(count: int, images: int, epochs: int) -> float:
        transfer_set = _random_images(images)
        program = blocks.program_for(recipe, (28, 28, 1), 10, images, settings)

        def train(blocks_to_train: int, epochs: int) -> float:
            begin = time.perf_counter()
            for seed in range(blocks_to_train):
                loop.fit(program, transfer_set, setting, seed, loop.start(program, seed, epochs))
            return time.perf_counter() - begin

        train(1, 1)
        return min(train(count, epochs) for _ in range(3))

    found: dict[str, Any] = {"blocks": [], "images": []}
    with Console(stderr=True).status("whole trainings"):
        for count in BLOCKS:
            found["blocks"].append([count, seconds(count, BLOCK_IMAGES, 1)])
        for images in IMAGES:
            found["images"].append([images, seconds(1, images, 4)])
    return found


def _peers() -> dict[str, Callable[..., float]]:
    import jax

    require(
        jax.default_backend() == "cpu",
        f"--against torch compares on CPUs, and JAX runs on {jax.devices()[0].device_kind} here: set JAX_PLATFORMS=cpu",
    )
    try:
        from experiments import torch_baseline
    except ModuleNotFoundError as error:
        require(False, f"--against torch needs PyTorch ({error}): pip install -e '.[bench]'")
    return {"idiomatic": torch_baseline.idiomatic, "tuned": torch_baseline.tuned}


def _random_images(images: int, shape: tuple[int, ...] = (28, 28, 1)) -> Any:
    import jax.numpy as jnp
    import numpy as np

    from kdjax import blocks

    random = np.random.default_rng(0)
    return blocks.TransferSet(
        jnp.asarray(random.integers(0, 256, (images, *shape)).astype(np.uint8)),
        jnp.asarray(random.integers(0, 10, images).astype(np.int32)),
        jnp.asarray(random.normal(0, 5, (images, 10)).astype(np.float32)),
    )


def _recipe(case: str, precision: Precision, config: ThroughputConfig) -> tuple[TrainConfig, int]:
    if case == "teacher":
        return TeacherConfig().train_config(default_epochs=1), 1
    if case in CONVOLUTIONAL:
        hidden, network = (CONVOLUTIONAL[case],), cast("Network", case)
        return TrainConfig(hidden, 1, 128, network=network, precision=precision), 1
    settings, width = map(int, case.split("x"))
    student = TrainConfig(hidden=(width, width), epochs=1, batch_size=config.batch_size, precision=precision)
    return student, settings


@contextlib.contextmanager
def _no_cache() -> Iterator[None]:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()


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
