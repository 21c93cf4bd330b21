"""How close does training come to the machine's limit? `python -m experiments.throughput`

Times training steps of blocks on random images, in turn with a bare product (256 × width × width, of the same
precision) and with a pass through memory in the same process, because the speed of a shared machine drifts: results are
shares of these two. With `--scaling`, also times whole trainings against the number of blocks and of images. Takes four
minutes on two cores; `--scaling` takes two more, and `--against torch` four.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, Literal

from kdjax import cli
from kdjax.config import NETWORKS, Precision, TeacherConfig, TrainConfig
from kdjax.errors import require, require_count, require_name, require_option
from kdjax.files import make_folder, read_json, write_json
from kdjax.identity import canonical_json

PROG = "python -m experiments.throughput"
TEACHERS = {
    "teacher": TeacherConfig(),
    "elastic": TeacherConfig(hidden_dropout=0.0, max_norm=0.0, jitter=0, augment="elastic"),
}
CNN_BATCHES = {"fast": 250}
"""Images per step of a convolutional network, where they are not 128."""


@dataclasses.dataclass(frozen=True)
class ThroughputConfig:
    """Measures the speed of training beside a bare matrix product in the same process."""

    cases: tuple[str, ...] = ("teacher", "elastic", "1x800", "8x800", "8x300", "32x30")
    """What to measure: teacher (dropout, max-norm, jitter); elastic (the same network, on distorted images instead);
    KxW, a block of K students with two hidden layers of W units; or small, big, small_after_norm, big_after_norm (128
    images per step) or fast (250), a convolutional network at full width."""
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    """Precision of the operands of all products, the bare one's included."""
    against: Literal["torch"] | None = None
    """Also train single students of the same kinds in PyTorch, one after another, as tutorials do and tuned (needs the
    extra `bench`)."""
    scaling: bool = False
    """Also time whole trainings of 8x300 for 1 to 16 blocks, and for 4,000 to 60,000 images."""
    images: int = 60_000
    """Size of the (random) training set, in images."""
    batch_size: int = 256
    """Images per step of KxW; teachers take 256, small and big 128, fast 250."""
    rounds: int = 5
    """Measurements of each case, in turn with the bare product."""
    seconds: float = 1.5
    """Length of one measurement: as long as training runs between two reports of its progress."""
    out: Path = Path("runs")
    """The measurements are written to OUT/throughput/NAME and replace those of the same config."""
    name: str | None = None
    """Name of that folder (default: the cases and a hash of the config)."""

    def __post_init__(self) -> None:
        networks = [name for name, spec in NETWORKS.items() if spec.full_units]
        known = f"give {', '.join([*TEACHERS, *networks])}, or KxW such as 8x800"
        require(self.cases, f"--cases is empty: {known}")
        for case in self.cases:
            require(
                case in (*TEACHERS, *networks) or re.fullmatch("[1-9][0-9]{0,3}x[1-9][0-9]{0,4}", case),
                f"--cases {case} is unknown: {known}",
            )
        require(self.precisions, "--precisions is empty: give float32, bfloat16 or both")
        require_count("batch-size", self.batch_size, "images", most=4_000 if self.scaling else None)
        batch = max(self.recipe(case, "float32")[0].batch_size for case in self.cases)
        require_count("images", self.images, "images", batch, 1_000_000)
        require_count("rounds", self.rounds, "rounds", most=1_000)
        require_option(0 < self.seconds <= 60, "seconds", self.seconds, "it is above 0, and at most 60")
        require_name(self.name)

    def recipe(self, case: str, precision: Precision) -> tuple[TrainConfig, int]:
        """What a case trains, for one epoch, and the number of settings in its block."""
        if case in TEACHERS:
            return dataclasses.replace(TEACHERS[case], precision=precision).train_config(default_epochs=1), 1
        if case in NETWORKS:
            units = NETWORKS[case].full_units or 0
            return TrainConfig((units,), 1, CNN_BATCHES.get(case, 128), network=case, precision=precision), 1
        settings, width = map(int, case.split("x"))
        return TrainConfig((width, width), 1, self.batch_size, precision=precision), settings


def main(config: ThroughputConfig) -> None:
    """Measures every case; writes and prints the table, and draws it."""
    from analysis import terminal, throughput
    from experiments import speed
    from kdjax.progress import say
    from kdjax.provenance import provenance
    from kdjax.run_folders import run_folder

    peers = speed.pytorch() if config.against else {}
    folder = run_folder(config.out / "throughput", config.name, config, ["-".join(config.cases)])
    path, asked = folder / "throughput.json", json.loads(canonical_json(config))
    earlier: Any = read_json(path) if path.exists() else {}
    before = earlier.get("config") if isinstance(earlier, dict) else None  # of an earlier version it lacks options
    before = asked if before is None else {**json.loads(canonical_json(ThroughputConfig())), **before}
    differs = {name for name in before.keys() | asked.keys() if before.get(name) != asked.get(name)} - {"out", "name"}
    told = f"{folder} holds a measurement of another config (differing: {', '.join(sorted(differs))})"
    require(not differs, f"{told}: choose another --name, or remove the folder")
    make_folder(folder)
    cases, effort = [], speed.Effort(config.images, config.rounds, config.seconds)
    for case in config.cases:
        for precision in config.precisions:
            recipe, settings = config.recipe(case, precision)
            say(f"measuring {case}, {precision}")
            measured = speed.measure(recipe, settings, effort, {} if case in TEACHERS else peers)
            cases.append({"case": case, "precision": precision, **measured._asdict()})
    measurement = {
        "config": config,
        "provenance": provenance(),
        "cases": cases,
        "scaling": speed.scaling(*config.recipe("8x300", "float32")) if config.scaling else None,
    }
    write_json(path, json.loads(canonical_json(measurement)))
    terminal.show(throughput.table(cases).markdown())
    paths = throughput.draw(folder)
    say(f"figures: {', '.join(str(path) for path in paths if path.suffix == '.png')}")


if __name__ == "__main__":
    cli.run(main, ThroughputConfig, PROG)
