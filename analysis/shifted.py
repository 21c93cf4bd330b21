"""What the networks of an MNIST table do with shifted test images, and what an image costs them.

Hinton et al. 2015, Section 3, say that soft targets of unshifted images carry over what the teacher knows of
translations. Here its students are shown test images shifted by k pixels.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from analysis import answers_mnist, stats, tables
from analysis.answers_mnist import Answers
from kdjax import blocks, checkpoints, metrics, models, records, teachers, transforms
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.files import write_whole

PIXELS = (0, 1, 2, 3, 4)
"""Shifts: each by this number of pixels in the eight directions of a compass, all of them scored."""
STUDENTS = {
    "small": "hard labels",
    "of a still teacher": "distilled, teacher without jitter",
    "distilled": "distilled",
    "hard jittered": "hard labels, jittered by ±2 px",
    "jittered": "distilled, transfer set jittered by ±2 px",
}
"""Roles, in the order of the table, in words."""
COMPARED = (
    ("distilled", "hard labels"),
    ("distilled", "distilled, teacher without jitter"),
    ("distilled, transfer set jittered by ±2 px", "hard labels, jittered by ±2 px"),
)
"""Does a knowledge of shifts cross through soft targets? The first two: through those of unshifted images."""
Logits = Callable[[UInt8[np.ndarray, "images height width channels"]], Float[np.ndarray, "networks images classes"]]


class Shifted(NamedTuple):
    """Errors of one kind of network on shifted test images."""

    name: str
    errors: Float[np.ndarray, "networks shifts"]
    """Mean over directions, on as many images as the test set has."""


def write(folder: Path, dataset: Dataset) -> None:
    """Writes `shifted.csv` and `shifted.md` of a table's run directory, where it asked for the part."""
    answers = answers_mnist.load(folder)
    if not len(answers.of("hard jittered")):
        return
    found = list(_every(answers, dataset))
    rows = [
        {"network": one.name, "run": run, "pixels": pixels, "errors": errors}
        for one in found
        for run, of_run in enumerate(one.errors)
        for pixels, errors in zip(PIXELS, of_run, strict=True)
    ]
    frame = pd.DataFrame(rows)
    write_whole(folder / "shifted.csv", frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    header = ["test errors at a shift of", *(f"{pixels} px" for pixels in PIXELS), "n"]
    cells = []
    for one in found:
        intervals = [stats.interval(column) for column in one.errors.T]
        ranges = [tables.with_range(*each[:3]) for each in intervals]
        cells.append([one.name, *ranges, str(len(one.errors))])
    differences = []
    by_name = {one.name: one.errors for one in found}
    for first, second in COMPARED:
        if {first, second} <= by_name.keys() and by_name[first].shape == by_name[second].shape:
            pairs = zip(by_name[first].T, by_name[second].T, strict=True)
            each = [stats.paired_difference(mine, other) for mine, other in pairs]
            ranges = [tables.with_range(*found[:3], sign=True) for found in each]
            differences.append([f"{first} − {second}", *ranges, str(each[0].n)])
    notes = [
        "Mean over the eight directions; 95 % intervals over seeds. Soft targets are those of unshifted images, where "
        "nothing else is said.",
        "Differences are paired by seed: one is called so where its interval excludes zero.",
    ]
    table = tables.markdown(header, cells + differences, notes, left=1)
    write_whole(folder / "shifted.md", "## Shifted test images\n\n" + table + "\n")


def errors_on_shifted(logits: Logits, dataset: Dataset) -> Float[np.ndarray, "networks shifts"]:
    """Test errors of a stack of networks at each of `PIXELS`, a mean over directions."""
    images, labels = dataset.test
    columns = []
    for pixels in PIXELS:
        steps = (-pixels, 0, pixels) if pixels else (0,)
        ways = [(down, right) for down in steps for right in steps if (down, right) != (0, 0) or not pixels]
        counts = [[metrics.errors(table, labels) for table in logits(transforms.shift(images, *way))] for way in ways]
        columns.append(np.mean(counts, axis=0))
    return np.stack(columns, axis=1)


def _every(answers: Answers, dataset: Dataset) -> Iterator[Shifted]:
    kept = _runs(answers.folder) / "teachers"
    yield _of_teachers("teacher", [kept / one["folder"] for one in answers.teachers], dataset)
    still = answers.of("of a still teacher")
    if len(still):
        sweep = tables.sweep_folder(answers.folder, str(still["run"].iloc[0]))
        (name,) = records.read_json(sweep / "config.json")["identity"]["teachers"]
        yield _of_teachers("teacher without jitter", [teachers.place(_runs(answers.folder), name)], dataset)
    for role, name in STUDENTS.items():
        runs = answers.of(role)
        if role == "distilled":
            runs = answers.of(role, soft_weight=answers.soft_weight, teacher=str(answers.teachers[0]["name"]))
        if len(runs):
            params, config = _stack(answers, runs)
            yield Shifted(name, errors_on_shifted(_logits(params, config, dataset), dataset))


def _of_teachers(name: str, folders: list[Path], dataset: Dataset) -> Shifted:
    known = [teachers.load(folder) for folder in folders]
    scored = [errors_on_shifted(lambda images, one=one: one.logits(images)[None], dataset) for one in known]  # type: ignore[misc]
    return Shifted(name, np.concatenate(scored))


def _runs(folder: Path) -> Path:
    """What holds the run directories and teachers of a table's folder."""
    return folder.parent.parent


def _student(answers: Answers, width: int) -> TrainConfig:
    return TrainConfig((width, width), 1, 1, precision=answers.identity["config"]["precision"])


def _stack(answers: Answers, runs: pd.DataFrame) -> tuple[Any, TrainConfig]:
    """The final parameters of some runs of one sweep, stacked in the order of their seeds."""
    taken, config = [], _student(answers, int(runs["width"].iloc[0]))
    shape, classes = answers.identity["data"]["input_shape"], answers.identity["data"]["num_classes"]
    alone = jax.eval_shape(models.mlp(config, tuple(shape), classes).init, jax.random.key(0))[0]
    for _, row in runs.sort_values("seed").iterrows():
        block, place = answers_mnist.find_run(tables.sweep_folder(answers.folder, row["run"]), row)
        count = len(answers_mnist.read_rows(block))
        like = jax.tree.map(lambda leaf, n=count: jax.ShapeDtypeStruct((n, *leaf.shape), leaf.dtype), alone)
        params = checkpoints.load(block / "parameters", like)
        taken.append(jax.tree.map(lambda leaf, place=place: np.asarray(leaf[place]), params))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *taken), config


def _logits(params: Any, config: TrainConfig, dataset: Dataset) -> Logits:
    model = models.mlp(config, dataset.train.images.shape[1:], dataset.num_classes)
    evaluate = jax.jit(lambda params, images: blocks.evaluate(model, params, {}, images))
    return lambda images: np.asarray(evaluate(params, jnp.asarray(images)))


def write_cost(folder: Path, dataset: Dataset) -> None:
    """Writes `cost.md`: parameters, operations and measured milliseconds an image, of ensemble, teacher and student.

    Operations of a forward pass: `2·Σ in·out`. The only times in a table's run directory: they differ from run to run.
    """
    answers = answers_mnist.load(folder)
    known = [teachers.load(_runs(folder) / "teachers" / one["folder"]) for one in answers.teachers]
    student = _student(answers, answers.identity["config"]["width"])
    named = {"teacher": (known[0].config, 1), "student": (student, 1)}
    if len(known) > 1:
        named = {f"ensemble of {len(known)} teachers": (known[0].config, len(known)), **named}
    shape, classes = dataset.train.images.shape[1:], dataset.num_classes
    images = jnp.asarray(dataset.test.images[:1000])
    cells = []
    for name, (config, count) in named.items():
        model = models.mlp(config, shape, classes)
        params = jax.tree.map(lambda leaf, n=count: jnp.stack([leaf] * n), model.init(jax.random.key(0))[0])
        evaluate = jax.jit(lambda params, images, model=model: blocks.evaluate(model, params, {}, images).mean(axis=0))
        evaluate(params, images).block_until_ready()
        begin = time.perf_counter()
        for _ in range(5):
            evaluate(params, images).block_until_ready()
        milliseconds = 1000 * (time.perf_counter() - begin) / 5 / len(images)
        parameters = count * models.parameter_count(model)
        operations = count * models.forward_flops(model)
        cells.append([name, f"{parameters:,}", f"{operations / 1e6:.2f}", f"{milliseconds:.4f}"])
    header = ["", "parameters", "million operations an image", "milliseconds an image"]
    notes = ["Forward pass, in batches of 1,000, on this device."]
    write_whole(folder / "cost.md", "## Cost\n\n" + tables.markdown(header, cells, notes, left=1) + "\n")
