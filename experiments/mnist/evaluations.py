"""Networks of the MNIST table evaluated once more: on shifted test images, and for their cost."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from analysis.mnist import run, shifted
from analysis.mnist.roles import Role
from analysis.runs import load_student
from analysis.tables import Table
from kdjax import evaluation, metrics, models, teachers, transforms
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.files import read_json, write_csv, write_whole
from kdjax.run_folders import sweep_folder
from kdjax.teachers import Teacher
from kdjax.trained import Student

Logits = Callable[[UInt8[np.ndarray, "images height width channels"]], Float[np.ndarray, "images classes"]]


def write_shifted(folder: Path, dataset: Dataset) -> None:
    """Writes `shifted.csv` of an MNIST table: test errors of its networks on shifted test images, where asked for."""
    results = run.load(folder)
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


def _shifted_networks(results: run.MnistResults) -> Iterator[tuple[str, Sequence[Teacher | Student], Sequence[int]]]:
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
    results = run.load(folder)
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
