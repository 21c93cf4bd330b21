"""Networks of the CIFAR-10 table evaluated once more, with other batch statistics."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from analysis.cifar10 import run
from analysis.cifar10.batch_statistics import FILE, KEYS
from analysis.cifar10.roles import Role
from kdjax import batch_statistics, metrics, trained
from kdjax.batch_statistics import LogitsByStatistics
from kdjax.datasets import Dataset
from kdjax.files import write_csv
from kdjax.progress import Progress
from kdjax.teachers import Teacher

STATISTICS_IMAGES = 10_000
"""Training images from which batch statistics are collected: the first so many, in whole batches."""


def write_batch_statistics(folder: Path, dataset: Dataset, networks: Sequence[Teacher], teaching: int) -> None:
    """Writes `batch_statistics.csv` into the run directory of a CIFAR-10 table: one line per network and evaluation.

    Args:
        folder: a run of `cifar10_table`, described.
        dataset: its images.
        networks: the big networks; their seed in the file is their place here.
        teaching: how many of them teach, from the first.
    """
    results = run.load(folder)
    config = results.identity["config"]
    students = [
        (run.role_of(role, student.row["objective"]), student)
        for role in results.sweeps
        if role not in run.APART
        for sweep in results.sweeps[role]
        for student in trained.find(sweep)
        if student.row["failed_at"] < 0
    ]
    batch = config["batch_size"]
    batches = max(1, min(STATISTICS_IMAGES, len(dataset.train.images)) // batch)
    first = dataset.train.images[: batches * batch]
    images = jnp.asarray(first.reshape(-1, batch, *first.shape[1:]))
    lines, of_teachers = list[dict[str, Any]](), list[LogitsByStatistics]()

    def add(role: Role, temperature: float | None, seed: int, logits: LogitsByStatistics) -> None:
        for name, of_splits in logits.items():
            line = {"role": role.value, "temperature": temperature, "seed": seed, "statistics": name}
            line |= {"images": len(first)}
            for split, table in of_splits.items():
                labels = getattr(dataset, split).labels
                line |= run.of_evaluation(metrics.evaluate(table, labels), split, len(labels))
            lines.append(line)

    with Progress("batch statistics", len(networks) + len(students)) as progress:
        for done, network in enumerate(networks):
            progress.update(done, network.name)
            if network.model_state:  # a multi-layer perceptron has none
                variables = (network.params, network.model_state)
                logits = batch_statistics.evaluate(network.config, dataset, variables, images)
                add(Role.BIG, None, done, logits)
                of_teachers += [logits] * (done < teaching)
        if len(of_teachers) == teaching > 1:
            add(Role.ENSEMBLE, None, 0, jax.tree.map(lambda *each: np.mean(each, axis=0), *of_teachers))
        for done, (role, student) in enumerate(students, len(networks)):
            progress.update(done, f"{role}, seed {student.row['seed']}")
            augmented = dataclasses.replace(student.config, augment=config["augment"])
            logits = batch_statistics.evaluate(augmented, dataset, student.variables, images)
            add(role, student.row["temperature"], student.row["seed"], logits)
    frame = pd.DataFrame(lines).astype({"temperature": float})
    order = [role.value for role in Role]
    frame = frame.sort_values(KEYS, key=lambda column: column.map(order.index) if column.name == "role" else column)
    write_csv(folder / FILE, frame)
