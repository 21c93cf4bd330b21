"""What the networks of an MNIST table do with shifted test images, and what an image costs them.

Hinton et al. 2015, Section 3, say that soft targets of unshifted images carry over what the teacher knows of
translations. Here its students are shown test images shifted by k pixels.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from analysis import answers_mnist, stats, tables
from analysis.answers_mnist import Answers
from kdjax import blocks, metrics, models, records, teachers, transforms
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.files import write_whole
from kdjax.teachers import Teacher
from kdjax.trained import Student

PIXELS = (0, 1, 2, 3, 4)
"""Shifts: each by this number of pixels in the eight directions of a compass, all of them scored."""
STUDENTS = {
    "small": "hard labels",
    "of a still teacher": "distilled, teacher of still images",
    "distilled": "distilled",
    "hard jittered": "hard labels, jittered by ±2 px",
    "jittered": "distilled, transfer set jittered by ±2 px",
}
"""Roles, in the order of the table, in words."""
COMPARED = (
    ("distilled", "hard labels"),
    ("distilled", "distilled, teacher of still images"),
    ("distilled, teacher of still images", "hard labels"),
    ("distilled, transfer set jittered by ±2 px", "hard labels, jittered by ±2 px"),
)
"""Does a knowledge of shifts cross through soft targets? All but the last: through those of unshifted images."""
Logits = Callable[[UInt8[np.ndarray, "images height width channels"]], Float[np.ndarray, "images classes"]]


class Shifted(NamedTuple):
    """Errors of one kind of network on shifted test images."""

    name: str
    errors: Float[np.ndarray, "networks shifts"]
    """Mean over directions, on as many images as the test set has."""
    seeds: tuple[int, ...]
    """Of each network."""


def write(folder: Path, dataset: Dataset) -> None:
    """Writes `shifted.csv` and `shifted.md` of a table's run directory, where it asked for the part."""
    answers = answers_mnist.load(folder)
    if "shifted" not in answers.identity["config"]["parts"] or not len(answers.of("hard jittered")):
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
    by_name = {one.name: one for one in found}
    for first, second in COMPARED:
        if {first, second} <= by_name.keys():
            differences += _differences(by_name[first], by_name[second])
    notes = [
        "Mean over the eight directions; 95 % intervals over seeds. Soft targets are those of unshifted images, where "
        "nothing else is said.",
        "Differences are paired by seed: one is called so where its interval excludes zero. Knowledge of shifts shows "
        "in what is beyond the difference without a shift.",
    ]
    table = tables.markdown(header, cells + differences, notes, left=1)
    write_whole(folder / "shifted.md", "## Shifted test images\n\n" + table + "\n")


def _differences(first: Shifted, second: Shifted) -> list[list[str]]:
    """Two rows: first less second at each shift, over the seeds that both have, and that less its value unshifted."""
    shared = sorted(set(first.seeds) & set(second.seeds))
    if not shared:
        return []
    mine, other = (one.errors[[one.seeds.index(seed) for seed in shared]] for one in (first, second))
    each = [stats.paired_difference(*pair) for pair in zip(mine.T, other.T, strict=True)]
    beyond = [
        stats.paired_difference(*pair) for pair in zip((mine - mine[:, :1]).T, (other - other[:, :1]).T, strict=True)
    ]
    plain, further = ([tables.with_range(*found[:3], sign=True) for found in row] for row in (each, beyond))
    name, n = f"{first.name} − {second.name}", str(len(shared))
    return [[name, *plain, n], ["… beyond that at 0 px", "", *further[1:], n]]


def errors_on_shifted(logits: Logits, dataset: Dataset) -> Float[np.ndarray, "shifts"]:
    """Test errors of a network at each of `PIXELS`, a mean over directions."""
    images, labels = dataset.test
    columns = []
    for pixels in PIXELS:
        steps = (-pixels, 0, pixels) if pixels else (0,)
        ways = [(down, right) for down in steps for right in steps if (down, right) != (0, 0) or not pixels]
        columns.append(np.mean([metrics.errors(logits(transforms.shift(images, *way)), labels) for way in ways]))
    return np.array(columns)


def _every(answers: Answers, dataset: Dataset) -> Iterator[Shifted]:
    kept = _runs(answers.folder) / "teachers"
    yield _of_teachers("teacher", [kept / one["folder"] for one in answers.teachers], dataset)
    still = answers.of("of a still teacher")
    if len(still):
        sweep = tables.sweep_folder(answers.folder, str(still["run"].iloc[0]))
        (name,) = records.read_json(sweep / "config.json")["identity"]["teachers"]
        yield _of_teachers("teacher of still images", [teachers.place(_runs(answers.folder), name)], dataset)
    for role, name in STUDENTS.items():
        runs = answers.of(role)
        if role == "distilled":
            runs = answers.of(role, soft_weight=answers.soft_weight, teacher=str(answers.teachers[0]["name"]))
        if len(runs):
            by_seed = runs.sort_values("seed")
            networks = [tables.trained(answers.folder, row) for _, row in by_seed.iterrows()]
            yield Shifted(name, _each(networks, dataset), tuple(by_seed["seed"]))


def _of_teachers(name: str, folders: list[Path], dataset: Dataset) -> Shifted:
    found = [teachers.load(folder) for folder in folders]
    return Shifted(name, _each(found, dataset), tuple(teacher.info["seed"] for teacher in found))


def _each(networks: Sequence[Teacher | Student], dataset: Dataset) -> Float[np.ndarray, "networks shifts"]:
    return np.array([errors_on_shifted(network.logits, dataset) for network in networks])


def _runs(folder: Path) -> Path:
    """What holds the run directories and teachers of a table's folder."""
    return folder.parent.parent


def write_cost(folder: Path, dataset: Dataset) -> None:
    """Writes `cost.md`: errors, parameters, operations and measured milliseconds an image, of ensemble, teacher and
    student.

    Operations of a forward pass: `2·Σ in·out`. The only times in a table's run directory: they differ from run to run.
    """
    answers = answers_mnist.load(folder)
    known = [teachers.load(_runs(folder) / "teachers" / one["folder"]) for one in answers.teachers]
    config = answers.identity["config"]
    student = TrainConfig((config["width"],) * 2, 1, 1, precision=config["precision"])
    named = {"teacher": (known[0].config, 1), "student": (student, 1)}
    if len(known) > 1:
        named = {f"ensemble of {len(known)} teachers": (known[0].config, len(known)), **named}
    shape, classes = dataset.train.images.shape[1:], dataset.num_classes
    images = jnp.asarray(dataset.test.images[:1000])
    errors = {"teacher": np.mean([one["test"]["errors"] for one in answers.teachers])}
    if len(distilled := answers.of("distilled", soft_weight=answers.soft_weight)):
        errors["student"] = distilled["test_errors"].mean()
    cells = []
    for name, (config, count) in named.items():
        if count > 1:
            said = teachers.ensemble_logits(known, dataset.test.images)
            errors[name] = metrics.errors(said, dataset.test.labels)
        model = models.mlp(config, shape, classes)
        params = jax.tree.map(lambda leaf, n=count: jnp.stack([leaf] * n), model.init(jax.random.key(0))[0])
        evaluate = blocks.evaluator(model)
        evaluate(params, {}, images).mean(axis=0).block_until_ready()
        begin = time.perf_counter()
        for _ in range(5):
            evaluate(params, {}, images).mean(axis=0).block_until_ready()
        milliseconds = 1000 * (time.perf_counter() - begin) / 5 / len(images)
        parameters = count * models.parameter_count(model)
        operations = count * models.forward_flops(model)
        mean = f"{errors[name]:.1f}" if name in errors else ""
        cells.append([name, mean, f"{parameters:,}", f"{operations / 1e6:.2f}", f"{milliseconds:.4f}"])
    header = ["", "test errors", "parameters", "million operations an image", "milliseconds an image"]
    notes = ["Errors: means of the teachers and of the distilled students. Forward pass, in batches of 1,000, here."]
    write_whole(folder / "cost.md", "## Cost\n\n" + tables.markdown(header, cells, notes, left=1) + "\n")
