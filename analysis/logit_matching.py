"""When is training on soft targets the same as matching logits? `python -m analysis.logit_matching [RUN]`

Measures Section 2.1 of Hinton, Vinyals, Dean 2015 (arXiv 1503.02531) on random logits, on a trained pair, in its
parameter space, and in what students become. Writes OUT/logit_matching/NAME/, NAME being the run's: `summary.md` (each
claim, its prediction, what was measured, whether it holds), `logit_matching.csv` (every curve) and `figures/`. On two
cores the gradients take under a minute, the training somewhat over a minute an epoch with full MNIST.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from analysis.matching.rows import Numbers, Row
from kdjax import cli
from kdjax.errors import require

if TYPE_CHECKING:
    import numpy as np

    from analysis.matching.pair import Pair

PROG = "python -m analysis.logit_matching"
ENTRIES = 400_000
"""Random logits in all, cases × classes: constants are then known to about 1 %."""
CLOSE = 0.01
"""Distance of a student called close to its teacher, as a share of s."""


@dataclasses.dataclass(frozen=True)
class MatchingConfig:
    """Measures how soft targets become logit matching as T grows, and where they do not."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory with a trained teacher and students (default: the one of temperature_sweep under --out with the
    newest results; with none, a small pair is trained on the bundled digits)."""
    out: Path = Path("runs")
    """Folder that holds run directories and teachers, and in which the results are kept."""
    classes: tuple[int, ...] = (2, 3, 10, 100)
    """Numbers of classes N of the random logits, each 2 or more."""
    scale: float = 5.0
    """Standard deviation s of the random logits."""
    images: int = 1000
    """Training images of the pair on which gradients are measured."""
    training: bool = True
    """Also train students at T = 1 … 1000 and ∞, under SGD and Adam."""
    seeds: int = 3
    """Seeds of those students, 3 or more."""
    epochs: int | None = None
    """Passes over the transfer set by those students (default: as many as the run's)."""

    def __post_init__(self) -> None:
        for number in self.classes:
            require(number > 1, f"--classes {number} is not allowed: soft targets need 2 classes or more")
        require(self.classes, "--classes is empty: give at least one number of classes")
        require(self.scale > 0 and math.isfinite(self.scale), f"--scale {self.scale:g} is not allowed: it is above 0")
        require(self.images > 0, f"--images {self.images} is not allowed: it is a number of images, 1 or more")
        require(self.seeds >= 3, f"--seeds {self.seeds} is not allowed: 3 or more, or --no-training")
        require(self.epochs is None or self.epochs > 0, f"--epochs {self.epochs} is not allowed: it is 1 or more")

    @property
    def main_classes(self) -> int:
        """The N whose random logits stand for all where one is enough."""
        return 10 if 10 in self.classes else max(self.classes)


def main(config: MatchingConfig) -> None:
    """Measures, writes, and prints the summary."""
    import time

    from analysis.matching import figures, training
    from analysis.matching import pair as pair_
    from kdjax import run_directory
    from kdjax.progress import clock, say

    folder = config.run or _latest(config.out) or pair_.small_pair(config.out)
    pair = pair_.load(folder, config.out)
    require(
        config.images <= len(pair.lesson.dataset.train.images),
        f"--images {config.images} is more than the {len(pair.lesson.dataset.train.images):,} training images",
    )
    target = config.out / "logit_matching" / folder.resolve().name
    run_directory.make_folder(target)

    begin = time.perf_counter()
    rows = [*random_rows(config), *pair_rows(pair, config.images)]
    seconds = time.perf_counter() - begin
    note = f"Pair: {pair.where}. Gradients on {config.images:,} of its training images, in {seconds:.0f} s."
    numbers = _write(target, rows, note, config)
    say(f"gradients: {seconds:.0f} s")
    if config.training:
        begin = time.perf_counter()
        for measure in training.train(pair, config.seeds, config.epochs):
            rows.append(Row("training", measure.optimizer, measure.name, *measure[2:]))
        epochs, took = config.epochs or pair.config.epochs, clock(time.perf_counter() - begin)
        note += (
            f" Students: seeds 0 to {config.seeds - 1}, {epochs} epochs, batch {pair.config.batch_size}, "
            f"peak rates {', '.join(f'{rate:g} ({name})' for name, rate in training.RATES.items())}, "
            f"in {took}."
        )
        numbers = _write(target, rows, note, config)
    figures.draw(target / "figures", numbers, pair.where, config)
    print((target / "summary.md").read_text())
    say(f"written: {target}")


def random_rows(config: MatchingConfig) -> Iterator[Row]:
    """Everything that is measured on random logits."""
    from analysis.matching import theory

    for classes in config.classes:
        cases = ENTRIES // classes
        for distance, data in ((None, f"random {classes}"), (CLOSE, f"random {classes}, close")):
            z, v = theory.random_logits(classes, config.scale, cases, distance=distance)
            yield from limit_rows(data, z, v)
            yield _number(
                "law", data, "first order: closed form", theory.random_constant(classes, distance is not None)
            )
            if classes == config.main_classes and distance is None:
                yield from other_rows(data, z[:10_000], v[:10_000])


def pair_rows(pair: "Pair", images: int) -> Iterator[Row]:
    """Everything that is measured on the trained pair, on so many training images."""
    import numpy as np

    from analysis.matching import pair as pairs
    from analysis.matching import theory

    dataset = pair.lesson.dataset
    chosen = np.sort(np.random.default_rng(0).choice(len(dataset.train.images), images, replace=False))
    v = pair.lesson.train_logits[chosen].astype(np.float64)
    for stage in pairs.STAGES:
        data = f"pair, {stage}"
        z = pairs.student_logits(pair, stage, chosen).astype(np.float64)
        yield from limit_rows(data, z, v)
        yield from other_rows(data, z, v)
        for name, values in pairs.parameter_curves(pair, stage, chosen, theory.TEMPERATURES[::2]).items():
            yield from _curve("parameters", data, name, theory.TEMPERATURES[::2], values)
    for name, table in pair.peers.items():
        # Against a student before training, whose logits are alike: what differs is the teacher.
        v = table[:images].astype(np.float64)
        z = np.zeros_like(v)
        errors, _ = theory.errors_and_cosines(z, v, theory.TEMPERATURES)
        first = errors[theory.APPROXIMATIONS[0]]
        yield from _curve("teachers", name, "error", theory.TEMPERATURES, first)
        yield _number("teachers", name, "s", theory.spread(v, v))
        yield _number("teachers", name, "T at 10 %", theory.falls_below(0.1, theory.TEMPERATURES, first))


def limit_rows(data: str, z: "np.ndarray", v: "np.ndarray") -> Iterator[Row]:
    """The limit T → ∞ of the gradient: errors, cosines, laws, plateau, thresholds."""
    import numpy as np

    from analysis.matching import theory

    errors, cosines = theory.errors_and_cosines(z, v, theory.TEMPERATURES)
    for name in theory.APPROXIMATIONS:
        yield from _curve("error", data, name, theory.TEMPERATURES, errors[name])
        yield from _curve("cosine", data, name, theory.TEMPERATURES, cosines[name])
    for law, order in zip(theory.laws(z, v), ("first order", "second order"), strict=True):
        for field in ("slope", "predicted_slope", "constant", "predicted_constant"):
            yield _number("law", data, f"{order}: {field.replace('_', ' ')}", getattr(law, field))
    if z.shape[1] > 2:
        yield _number("law", data, "1 − cosine: slope", theory.cosine_slope(z, v))
    # Far out on the plateau, wherever the logits' spread puts it.
    s = theory.spread(z, v)
    far, far_cosines = theory.errors_and_cosines(z, v, np.array([theory.FIT[-1] * s]))
    plain = theory.APPROXIMATIONS[2]
    yield _number("plateau", data, "error", far[plain][0])
    yield _number("plateau", data, "predicted error", theory.plateau(z, v))
    yield _number("plateau", data, "cosine", far_cosines[plain][0])
    yield _number("plateau", data, "predicted cosine", math.sqrt(1 - theory.plateau(z, v) ** 2))
    yield _number("threshold", data, "s", s)
    first = errors[theory.APPROXIMATIONS[0]]
    for level in (0.1, 0.01):
        below = theory.falls_below(level, theory.TEMPERATURES, first)
        yield _number("threshold", data, f"T at {100 * level:g} %", below)
    at_20, cosine_20 = theory.errors_and_cosines(z, v, np.array([20.0]))
    yield _number("threshold", data, "error at T = 20", at_20[theory.APPROXIMATIONS[0]][0])
    yield _number("threshold", data, "cosine at T = 20", cosine_20[theory.APPROXIMATIONS[0]][0])


def other_rows(data: str, z: "np.ndarray", v: "np.ndarray") -> Iterator[Row]:
    """Norms, attention, the value's expansion, the limit T → 0, and rounding; with slopes where one is predicted."""
    from analysis.matching import theory

    s = theory.spread(z, v)
    everywhere = {"norm": theory.norms, "attention": theory.attention, "value": theory.value_errors}
    for part, measure in {**everywhere, "rounding": theory.rounding}.items():
        for name, values in measure(z, v, theory.TEMPERATURES).items():
            yield from _curve(part, data, name, theory.TEMPERATURES, values)
    for part in ("norm", "value"):
        for name, values in everywhere[part](z, v, theory.FIT * s).items():
            yield _number(part, data, f"{name}: slope", theory.slope(theory.FIT, values))
    if (z.argmax(axis=1) != v.argmax(axis=1)).mean() > 0.01:  # where both agree on all, label matching asks for nothing
        for name, values in theory.label_errors(z, v, theory.LOW_TEMPERATURES).items():
            yield from _curve("label", data, name, theory.LOW_TEMPERATURES, values)
        for name, values in theory.label_errors(z, v, theory.LOW_FIT * s).items():
            yield _number("label", data, f"{name}: slope", theory.slope(theory.LOW_FIT, values))


def _write(folder: Path, rows: list[Row], note: str, config: MatchingConfig) -> Numbers:
    """Writes the table and the summary of what has been measured so far."""
    from analysis.matching import claims
    from kdjax.files import write_whole

    numbers = Numbers(rows)
    table = numbers.table.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    write_whole(folder / "logit_matching.csv", table)
    write_whole(folder / "summary.md", claims.summary(numbers, note, config))
    return numbers


def _curve(part: str, data: str, name: str, temperatures: "np.ndarray", values: "np.ndarray") -> Iterator[Row]:
    for temperature, value in zip(temperatures, values, strict=True):
        yield Row(part, data, name, float(temperature), math.nan, float(value))


def _number(part: str, data: str, name: str, value: Any) -> Row:
    return Row(part, data, name, math.nan, math.nan, float(value))


def _latest(out: Path) -> Path | None:
    from kdjax import run_directory

    found = any((out / "temperature_sweep").glob("*/results.csv"))
    return run_directory.latest_run(out, "temperature_sweep") if found else None


if __name__ == "__main__":
    cli.run(main, MatchingConfig, PROG)
