"""Networks of a study evaluated once more: on shifted test images, with other batch statistics, and for their cost.

No experiment of its own: `mnist_table` and `cifar10_table` write these files beside their summary.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from analysis.cifar10 import batch_statistics as statistics_table
from analysis.cifar10 import run as cifar10
from analysis.cifar10.roles import Role as Cifar10Role
from analysis.mnist import run as mnist
from analysis.mnist import shifted
from analysis.mnist.roles import Role
from analysis.runs import load_student
from analysis.tables import Table
from kdjax import batch_statistics, evaluation, metrics, models, teachers, trained, transforms
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.files import read_json, write_csv, write_whole
from kdjax.progress import Progress
from kdjax.run_folders import sweep_folder
from kdjax.teachers import Teacher
from kdjax.trained import Student

STATISTICS_IMAGES = 10_000
"""Training images from which batch statistics are collected: the first so many, in whole batches."""
Logits = Callable[[UInt8[np.ndarray, "images height width channels"]], Float[np.ndarray, "images classes"]]


def write_shifted(folder: Path, dataset: Dataset) -> None:
    """Writes `shifted.csv` of an MNIST table: test errors of its networks on shifted test images, where asked for."""
    results = mnist.load(folder)
    if "shifted" not in results.identity["config"]["parts"] or not len(results.of(Role.HARD_JITTERED)):
        return
    rows = [
        {"network": name, "run": index, "seed": seed, "pixels": pixels, "errors": errors}
        for name, networks, seeds in _shifted_networks(results)
        for index, (network, seed) in enumerate(zip(networks, seeds, strict=True))
        for pixels, errors in zip(shifted.PIXELS, errors_on_shifted(network.logits, dataset), strict=True)
    ]
    write_csv(folder / "shifted.csv", pd.DataFrame(rows))


def errors_on_shifted(logits: Logits, dataset: Dataset) -> Float[np.ndarray, "shifts"]:
    """Test errors of a network at each shift of `shifted.PIXELS`, a mean over the eight directions of a compass."""
    images, labels = dataset.test
    columns = []
    for pixels in shifted.PIXELS:
        steps = (-pixels, 0, pixels) if pixels else (0,)
        ways = [(down, right) for down in steps for right in steps if (down, right) != (0, 0) or not pixels]
        columns.append(np.mean([metrics.errors(logits(transforms.shift(images, *way)), labels) for way in ways]))
    return np.array(columns)


def _shifted_networks(results: mnist.MnistResults) -> Iterator[tuple[str, Sequence[Teacher | Student], Sequence[int]]]:
    """Name of each kind of network, the networks, and their seeds."""
    runs = results.folder.parent.parent
    folders = {"teacher": [teachers.place(runs, one["folder"]) for one in results.teachers]}
    still = results.of(Role.STILL_TEACHER)
    if len(still):
        sweep = sweep_folder(results.folder, str(still["run"].iloc[0]))
        (name,) = read_json(sweep / "config.json")["identity"]["teachers"]
        folders["teacher of still images"] = [teachers.place(runs, name)]
    for name, places in folders.items():
        loaded = [teachers.load(place) for place in places]
        yield name, loaded, [teacher.info["seed"] for teacher in loaded]
    for role, name in shifted.STUDENTS.items():
        rows = results.of(role)
        if role == Role.DISTILLED:
            rows = results.of_first_teacher()
        if len(rows):
            by_seed = rows.sort_values("seed")
            yield name, [load_student(results.folder, row) for _, row in by_seed.iterrows()], list(by_seed["seed"])


def write_cost(folder: Path, dataset: Dataset) -> None:
    """Writes `cost.md` of an MNIST table: errors, parameters, operations and milliseconds per image, of ensemble,
    teacher and student.

    The only times in a table's run directory: they differ from run to run.
    """
    results = mnist.load(folder)
    known = [teachers.load(teachers.place(folder.parent.parent, one["folder"])) for one in results.teachers]
    config = results.identity["config"]
    student = TrainConfig((config["width"],) * 2, 1, 1, precision=config["precision"])
    named = {"teacher": (known[0].config, 1), "student": (student, 1)}
    if len(known) > 1:
        named = {f"ensemble of {len(known)} teachers": (known[0].config, len(known)), **named}
    shape, classes = dataset.input_shape, dataset.num_classes
    images = jnp.asarray(dataset.test.images[:1000])
    errors = {"teacher": np.mean([one["test"]["errors"] for one in results.teachers])}
    if len(distilled := results.of(Role.DISTILLED, soft_weight=results.soft_weight)):
        errors["student"] = distilled["test_errors"].mean()
    cells = []
    for name, (config, count) in named.items():
        if count > 1:
            errors[name] = metrics.errors(teachers.ensemble_logits(known, dataset.test.images), dataset.test.labels)
        model = models.network(config, shape, classes)
        params, state = jax.tree.map(lambda leaf, n=count: jnp.stack([leaf] * n), model.init(jax.random.key(0)))
        evaluate = evaluation.evaluator(model)
        evaluate(params, state, images).mean(axis=0).block_until_ready()
        begin = time.perf_counter()
        for _ in range(5):
            evaluate(params, state, images).mean(axis=0).block_until_ready()
        milliseconds = 1000 * (time.perf_counter() - begin) / 5 / len(images)
        operations = count * models.forward_flops(model) / 1e6
        mean = f"{errors[name]:.1f}" if name in errors else ""
        parameters = f"{count * models.parameter_count(model):,}"
        cells.append([name, mean, parameters, f"{operations:.2f}", f"{milliseconds:.4f}"])
    header = ["", "test errors", "parameters", "million operations per image", "milliseconds per image"]
    notes = ["Errors: means over teachers and over distilled students. Forward pass, batches of 1,000, on this device."]
    write_whole(folder / "cost.md", "# Cost\n\n" + Table(header, cells, notes, left=1).markdown() + "\n")


def write_batch_statistics(folder: Path, dataset: Dataset, networks: Sequence[Teacher], teaching: int) -> None:
    """Writes `batch_statistics.csv` into the run directory of a CIFAR-10 table: one line per network and evaluation.

    Args:
        folder: a run of `cifar10_table`, described.
        dataset: its images.
        networks: the big networks; their seed in the file is their place here.
        teaching: how many of them teach, from the first.
    """
    results = cifar10.load(folder)
    config = results.identity["config"]
    students = [
        (cifar10.role_of(role, student.row["objective"]), student)
        for role in results.sweeps
        if role not in cifar10.APART
        for sweep in results.sweeps[role]
        for student in trained.find(sweep)
        if student.row["failed_at"] < 0
    ]
    batch = config["batch_size"]
    batches = max(1, min(STATISTICS_IMAGES, len(dataset.train.images)) // batch)
    first = dataset.train.images[: batches * batch]
    images = jnp.asarray(first.reshape(-1, batch, *first.shape[1:]))
    lines, of_teachers = list[dict[str, Any]](), list[batch_statistics.Logits]()

    def add(role: Cifar10Role, temperature: float | None, seed: int, logits: batch_statistics.Logits) -> None:
        for name, of_splits in logits.items():
            line = {"role": role.value, "temperature": temperature, "seed": seed, "statistics": name}
            line |= {"images": len(first)}
            for split, table in of_splits.items():
                labels = getattr(dataset, split).labels
                line |= cifar10.of_evaluation(metrics.evaluate(table, labels), split, len(labels))
            lines.append(line)

    with Progress("batch statistics", len(networks) + len(students)) as progress:
        for done, network in enumerate(networks):
            progress.update(done, network.name)
            if network.model_state:  # a multi-layer perceptron has none
                variables = (network.params, network.model_state)
                logits = batch_statistics.evaluate(network.config, dataset, variables, images)
                add(Cifar10Role.BIG, None, done, logits)
                of_teachers += [logits] * (done < teaching)
        if len(of_teachers) == teaching > 1:
            add(Cifar10Role.ENSEMBLE, None, 0, jax.tree.map(lambda *each: np.mean(each, axis=0), *of_teachers))
        for done, (role, student) in enumerate(students, len(networks)):
            progress.update(done, f"{role}, seed {student.row['seed']}")
            augmented = dataclasses.replace(student.config, augment=config["augment"])
            logits = batch_statistics.evaluate(augmented, dataset, student.variables, images)
            add(role, student.row["temperature"], student.row["seed"], logits)
    frame = pd.DataFrame(lines).astype({"temperature": float})
    order = [role.value for role in Cifar10Role]
    frame = frame.sort_values(
        statistics_table.KEYS, key=lambda column: column.map(order.index) if column.name == "role" else column
    )
    write_csv(folder / statistics_table.FILE, frame)
