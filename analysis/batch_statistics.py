"""What the networks of a CIFAR-10 table are worth with batch statistics that were collected without dropout.

In these networks dropout stands before convolutions and batch norms, as in the seed's. What a batch norm averages while
training are then means and variances under dropout; in evaluation the units come without it and have smaller variances
(Li et al. 2019, "Understanding the disharmony between dropout and batch normalization by variance shift", arXiv
1801.05134). Two recipes may suffer from this differently, which is no difference between what they have learnt. So
every network is judged three times, with the same weights:

    trained   with the running averages of its training
    dropout   with statistics collected anew, under dropout: what the collecting itself changes
    clean     with statistics collected anew, without dropout

Anew: the mean over batches of training images, augmented as in training, at the last weights (Wu and Johnson 2021,
"Rethinking 'batch' in BatchNorm", arXiv 2105.07576).
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, UInt8

from analysis import stats, tables, tables_cifar10
from kdjax import blocks, compiled, metrics, models, trained, transforms
from kdjax.config import Augment, TrainConfig
from kdjax.datasets import Dataset
from kdjax.files import write_whole
from kdjax.progress import Progress
from kdjax.teachers import Teacher
from kdjax.trained import Student

IMAGES = 10_000
"""Of the training set, from which statistics are collected: the first so many, in whole batches."""
EVALUATIONS = {"trained": "as trained", "dropout": "anew, under dropout", "clean": "anew, without dropout"}
"""With which batch statistics a network is judged, in words."""

Collect = Callable[[models.Params, models.ModelState, Any], tuple[models.ModelState, models.ModelState]]


@functools.cache
def collector(config: TrainConfig, num_classes: int, augment: Augment) -> Collect:
    """Compiles (params, model_state, images) → batch statistics (under dropout, without it) of one network.

    Args:
        config: the network.
        num_classes: number of its logits.
        augment: how its images are augmented.

    Returns:
        a function of parameters, a model state of the same shapes, and images `[batches, batch, height, width,
        channels]` as bytes.
    """

    @compiled.jit
    def collect(
        params: models.Params,
        model_state: models.ModelState,
        images: UInt8[Array, "batches batch height width channels"],
    ) -> tuple[models.ModelState, models.ModelState]:
        model = models.network(config, images.shape[2:], num_classes)
        blank = jax.tree.map(jnp.zeros_like, model_state)

        def add(total: Any, index: Array) -> tuple[Any, None]:
            view_key, mask_key = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
            seen = transforms.augment(view_key, transforms.to_float(images[index]), augment)
            found = tuple(models.batch_statistics(model, params, blank, seen, key) for key in (mask_key, None))
            return jax.tree.map(jnp.add, total, found), None

        total, _ = jax.lax.scan(add, (blank, blank), jnp.arange(len(images)))
        dropped, clean = jax.tree.map(lambda leaf: leaf / len(images), total)
        return dropped, clean

    return collect


def write(folder: Path, dataset: Dataset, networks: Sequence[Teacher]) -> None:
    """Writes `batch_statistics.csv` and `batch_statistics.md` into a table's run directory.

    Args:
        folder: a finished run of `cifar10_table`.
        dataset: its images.
        networks: the big networks.
    """
    answers = tables_cifar10.load(folder)
    students = [
        (tables_cifar10.role_of(role, student.row["objective"]), student)
        for role, sweep in answers.runs.items()
        if role != "stability"
        for student in trained.find(sweep)
        if student.row["failed_at"] < 0
    ]
    config, lines = answers.identity["config"], list[dict[str, Any]]()
    batch = min(config["batch_size"], len(dataset.train.images))
    batches = max(1, min(IMAGES, len(dataset.train.images)) // batch)
    first = dataset.train.images[: batches * batch]
    images = jnp.asarray(first.reshape(batches, batch, *first.shape[1:]))
    with Progress("batch statistics", len(networks) + len(students)) as progress:
        for done, network in enumerate(networks):
            progress.update(done, network.name)
            names = {"role": "big", "temperature": math.nan, "seed": network.info["seed"]}
            lines += [{**names, **line} for line in _judged(network, dataset, images, config["augment"])]
        for done, (role, student) in enumerate(students, len(networks)):
            progress.update(done, f"{role}, seed {student.row['seed']}")
            names = {"role": role, "temperature": student.row["temperature"], "seed": student.row["seed"]}
            lines += [{**names, **line} for line in _judged(student, dataset, images, config["augment"])]
    frame = pd.DataFrame(lines).astype({"temperature": float})
    write_whole(folder / "batch_statistics.csv", frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))
    write_whole(folder / "batch_statistics.md", _section(frame, answers, batches * batch))


def _judged(network: Teacher | Student, dataset: Dataset, images: Array, augment: Augment) -> Iterator[dict[str, Any]]:
    if isinstance(network, Student):
        (params, state), classes = network.variables, network.num_classes
    else:
        params, state, classes = network.params, network.model_state, int(network.info["num_classes"])
    own, kept = (jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), tree) for tree in (params, state))
    dropped, clean = collector(network.config, classes, augment)(own, kept, images)
    evaluate = blocks.evaluator(network.config, classes)
    for name, statistics in (("trained", kept), ("dropout", dropped), ("clean", clean)):
        line: dict[str, Any] = {"statistics": name}
        for split in tables_cifar10.SPLITS:
            asked = getattr(dataset, split)
            if len(asked.images):
                stacked = jax.tree.map(lambda leaf: leaf[None], statistics)
                judged = metrics.judge(np.asarray(evaluate(params, stacked, asked.images))[0], asked.labels)
                judged |= tables_cifar10.in_points(judged, len(asked.images))
                line |= {f"{split}_{measure}": judged[measure] for measure in tables_cifar10.MEASURES}
        yield line


def _section(frame: pd.DataFrame, answers: tables_cifar10.Answers, images: int) -> str:
    """Both tables, in Markdown: what each row is worth under each evaluation, and paired differences from `small`."""
    split = answers.columns[0].split("_", 1)[0]
    accuracy, nll = f"{split}_accuracy", f"{split}_nll"
    shown = [(accuracy, name) for name in EVALUATIONS] + [(nll, "trained"), (nll, "clean")]
    titles = [f"{tables_cifar10.column_name(column)}: {EVALUATIONS[name]}" for column, name in shown]
    values = frame.pivot(index=["role", "temperature", "seed"], columns="statistics", values=[accuracy, nll])
    cells, differences = [], []
    small = values[values.index.get_level_values("role") == "small"].droplevel(["role", "temperature"])
    order = ["small", "big", "distilled", *tables_cifar10.CONTROLS]
    groups = values.groupby(["role", "temperature"], dropna=False)
    for (role, temperature), runs in sorted(groups, key=lambda group: (order.index(group[0][0]), group[0][1])):
        mine = runs.droplevel(["role", "temperature"])
        name = "big, hard labels" if role == "big" else tables_cifar10.row_name(role)
        found = [stats.interval(mine[column].to_numpy(float)) for column in shown]
        numbers = [tables_cifar10.estimate(column, each) for (column, _), each in zip(shown, found, strict=True)]
        cells.append([name, tables.number(temperature), *numbers, str(len(mine))])
        shared = mine.index.intersection(small.index)
        if len(shared) and role not in ("small", "big"):
            less = mine.loc[shared] - small.loc[shared]
            pairs = [(less[column], 0 * less[column]) for column in shown]
            pairs.append((less[accuracy, "clean"], less[accuracy, "trained"]))
            of_pairs = [stats.paired_difference(*(side.to_numpy(float) for side in pair)) for pair in pairs]
            columns = [*(column for column, _ in shown), accuracy]
            numbers = [
                tables_cifar10.estimate(column, each, sign=True) for column, each in zip(columns, of_pairs, strict=True)
            ]
            differences.append([name, tables.number(temperature), *numbers, str(len(shared))])
    notes = [
        "The same weights throughout. As trained: with the running averages of training, under dropout. Anew: means "
        f"over batches of {images:,} training images, augmented as in training.",
        "Mean and 95 % t interval over seeds.",
    ]
    parts = [
        "## Batch statistics collected without dropout",
        tables.markdown(["", "T", *titles, "n"], cells, notes, left=1),
    ]
    if differences:
        header = [
            "less small on hard labels, paired by seed",
            "T",
            *titles,
            "accuracy: without dropout less as trained",
            "n",
        ]
        notes = [
            "The last difference is of the differences: how much of what is seen as trained dropout has to do with."
        ]
        parts.append(tables.markdown(header, differences, notes, left=1))
    return "\n\n".join(parts) + "\n"
