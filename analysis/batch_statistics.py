"""The networks of a CIFAR-10 table, judged again with batch statistics that were collected without dropout.

In these networks dropout stands before convolutions and batch norms, as in the seed's. What a batch norm averages while
training are then means and variances under dropout; in evaluation the units come without it and have smaller variances
(Li et al. 2019, "Understanding the disharmony between dropout and batch normalization by variance shift", arXiv
1801.05134). Where two recipes suffer from this differently, a difference between them may be a matter of the evaluation
rather than of the weights. So every network is judged three times, with the same weights:

    trained   with the running averages of its training
    dropout   with statistics collected anew, under dropout: what collecting anew changes by itself
    clean     with statistics collected anew, without dropout: against `dropout`, what dropout in the statistics changes

Anew: the mean over batches of training images, changed at random as in the network's training, at its last weights (Wu
and Johnson 2021, "Rethinking 'batch' in BatchNorm", arXiv 2105.07576). Images, their changes and masks are the same for
all networks of a kind.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, UInt8

from analysis import stats, tables, tables_cifar10
from analysis.tables_cifar10 import Answers
from kdjax import blocks, metrics, models, trained
from kdjax.checks import BadInput
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.files import write_whole
from kdjax.progress import Progress
from kdjax.teachers import Teacher
from kdjax.train import Batch, make_view

IMAGES = 10_000
"""Of the training set, from which statistics are collected: the first so many, in whole batches."""
EVALUATIONS = {"trained": "as trained", "dropout": "anew, under dropout", "clean": "anew, without dropout"}
"""With which batch statistics a network is judged, in words."""
KEYS = ["role", "temperature", "seed"]
FILE = "batch_statistics.csv"

Logits = dict[str, dict[str, Float[np.ndarray, "images classes"]]]
"""By evaluation and split."""
Collect = Callable[[models.Params, models.ModelState, Any], tuple[models.ModelState, models.ModelState]]


@functools.cache
def collector(config: TrainConfig, num_classes: int) -> Collect:
    """Compiles (params, model_state, images) → batch statistics (under dropout, without it) of one network.

    Args:
        config: the network, and how its images are changed in training.
        num_classes: number of its logits.

    Returns:
        a function of parameters, a model state of the same shapes, and images `[batches, batch, height, width,
        channels]` as bytes.
    """
    view = make_view(config)

    def collect(
        params: models.Params,
        model_state: models.ModelState,
        images: UInt8[Array, "batches batch height width channels"],
    ) -> tuple[models.ModelState, models.ModelState]:
        model = models.network(config, images.shape[2:], num_classes)
        blank = jax.tree.map(jnp.zeros_like, model_state)
        no_labels, no_logits = jnp.zeros(images.shape[1], jnp.int32), jnp.zeros((images.shape[1], num_classes))

        def add(total: Any, index: Array) -> tuple[Any, None]:
            seen = view(Batch(images[index], no_labels, no_logits, jax.random.fold_in(jax.random.key(0), index)))
            found = tuple(models.batch_statistics(model, params, blank, seen.images, key) for key in (seen.key, None))
            return jax.tree.map(jnp.add, total, found), None

        total, _ = jax.lax.scan(add, (blank, blank), jnp.arange(len(images)))
        dropped, clean = jax.tree.map(lambda leaf: leaf / len(images), total)
        return dropped, clean

    return blocks.jit(collect)


def write(folder: Path, dataset: Dataset, networks: Sequence[Teacher], taught_by: int) -> None:
    """Writes `batch_statistics.csv` into a table's run directory: a line a network and evaluation.

    Args:
        folder: a run of `cifar10_table`, described.
        dataset: its images.
        networks: the big networks; their seed in the file is their place here.
        taught_by: how many of them teach, from the first.
    """
    answers = tables_cifar10.load(folder)
    config = answers.identity["config"]
    students = [
        (tables_cifar10.role_of(role, student.row["objective"]), student)
        for role, sweep in answers.runs.items()
        if role != "stability"
        for student in trained.find(sweep)
        if student.row["failed_at"] < 0
    ]
    batch = config["batch_size"]
    first = dataset.train.images[: min(IMAGES, len(dataset.train.images)) // batch * batch]
    images = jnp.asarray(first.reshape(-1, batch, *first.shape[1:]))
    lines, of_teachers = list[dict[str, Any]](), list[Logits]()

    def judge(role: str, temperature: float | None, seed: int, found: Logits) -> None:
        for name, of_splits in found.items():
            line = {"role": role, "temperature": temperature, "seed": seed, "statistics": name, "images": len(first)}
            for split, logits in of_splits.items():
                labels = getattr(dataset, split).labels
                judged = metrics.judge(logits, labels)
                judged |= tables_cifar10.in_points(judged, len(labels))
                line |= {f"{split}_{measure}": judged[measure] for measure in tables_cifar10.MEASURES}
            lines.append(line)

    with Progress("batch statistics", len(networks) + len(students)) as progress:
        for done, network in enumerate(networks):
            progress.update(done, network.name)
            if network.model_state:  # a multi-layer perceptron has none
                variables = (network.params, network.model_state)
                found = logits_of(network.config, dataset, variables, images)
                judge("big", None, done, found)
                of_teachers += [found] * (done < taught_by)
        if len(of_teachers) == taught_by > 1:
            judge("ensemble", None, 0, jax.tree.map(lambda *each: np.mean(each, axis=0), *of_teachers))
        for done, (role, student) in enumerate(students, len(networks)):
            progress.update(done, f"{role}, seed {student.row['seed']}")
            changed = dataclasses.replace(student.config, augment=config["augment"])
            found = logits_of(changed, dataset, student.variables, images)
            judge(role, student.row["temperature"], student.row["seed"], found)
    frame = pd.DataFrame(lines).astype({"temperature": float})
    frame = frame.sort_values(
        KEYS, key=lambda column: column.map(tables_cifar10.ROLES.index) if column.name == "role" else column
    )
    write_whole(folder / FILE, frame.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


def logits_of(
    config: TrainConfig,
    dataset: Dataset,
    variables: tuple[models.Params, models.ModelState],
    images: UInt8[Array, "batches batch height width channels"],
) -> Logits:
    """What a network answers on hold-out and test images under each of `EVALUATIONS`.

    Args:
        config: the network, and how its images are changed in training.
        dataset: its images.
        variables: parameters and batch statistics, each leaf with a leading axis of 1.
        images: from which to collect statistics.
    """
    params, kept = jax.tree.map(jnp.asarray, variables)
    own, statistics = jax.tree.map(lambda leaf: leaf[0], (params, kept))
    found = collector(config, dataset.num_classes)(own, statistics, images)
    dropped, clean = jax.tree.map(lambda leaf: leaf[None], found)
    evaluate = blocks.evaluator(models.network(config, dataset.train.images.shape[1:], dataset.num_classes))
    splits = {split: getattr(dataset, split).images for split in tables_cifar10.SPLITS}
    return {
        name: {split: np.asarray(evaluate(params, state, asked))[0] for split, asked in splits.items() if len(asked)}
        for name, state in (("trained", kept), ("dropout", dropped), ("clean", clean))
    }


def read(folder: Path) -> pd.DataFrame | None:
    """What `write` left in a run directory; None where it did not (older runs).

    Raises:
        BadInput: the file is damaged.
    """
    try:
        frame = pd.read_csv(folder / FILE)
        return frame.astype({"role": str, "statistics": str, "temperature": float, "seed": int, "images": int})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder / FILE} is damaged ({error}): give the experiment's command again") from None


def section(answers: Answers) -> str:
    """Two tables in Markdown: each row of the table by evaluation, and its paired differences from `small`."""
    frame = read(answers.folder)
    if frame is None or frame.empty:
        return ""
    split = answers.columns[0].split("_", 1)[0]
    measures = [f"{split}_accuracy", f"{split}_nll"]
    shown = [(column, name) for column in measures for name in EVALUATIONS]
    values = frame.pivot(index=KEYS, columns="statistics", values=measures)
    small = values[values.index.get_level_values("role") == "small"].droplevel(["role", "temperature"])
    cells, differences = [], []
    groups = values.groupby(["role", "temperature"], dropna=False)
    for (role, temperature), runs in sorted(
        groups, key=lambda group: (tables_cifar10.ROLES.index(group[0][0]), group[0][1])
    ):
        mine = runs.droplevel(["role", "temperature"])
        known = {"big": f"{answers.networks[0]['network']}, hard labels", "ensemble": "their ensemble"}
        name = known.get(role) or tables_cifar10.row_name(role)
        found = [stats.interval(mine[column].to_numpy(float)) for column in shown]
        numbers = [tables_cifar10.estimate(column, each) for (column, _), each in zip(shown, found, strict=True)]
        cells.append([name, tables.number(temperature), *numbers, str(len(mine))])
        shared = mine.index.intersection(small.index)
        if len(shared) and role not in ("small", "big", "ensemble"):
            less = (mine.loc[shared] - small.loc[shared])[measures[0]]
            each = [stats.interval(less[name].to_numpy(float)) for name in EVALUATIONS]
            each.append(stats.interval((less["clean"] - less["dropout"]).to_numpy(float)))
            numbers = [tables.estimate(one, 2, sign=True) for one in each]
            differences.append([name, tables.number(temperature), *numbers, str(len(shared))])
    titles = [f"{tables_cifar10.column_name(column)}: {EVALUATIONS[name]}" for column, name in shown]
    notes = [
        "The same weights throughout. As trained: with the running averages of training, under dropout. Anew: means "
        f"over batches of {frame['images'].iloc[0]:,} training images, changed at random as in training.",
        "Mean and 95 % t interval over seeds; those that are taught, about the one teacher. One set of images, their "
        "changes and masks serves all networks: the noise of collecting is not in the intervals.",
    ]
    parts = [
        "## Batch statistics collected without dropout",
        tables.markdown(["", "T", *titles, "n"], cells, notes, left=1),
    ]
    if differences:
        what = f"{tables_cifar10.SPLITS[split]} accuracy less that of small, points"
        change = "change without dropout, points"
        header = ["paired by seed", "T", *(f"{what}: {words}" for words in EVALUATIONS.values()), change, "n"]
        notes = [
            "Change: of the difference, anew without dropout less anew under dropout.",
            "A difference is one only where its interval excludes zero; of twenty such intervals one misses by chance, "
            "for which nothing is corrected here.",
        ]
        parts.append(tables.markdown(header, differences, notes, left=1))
    return "\n\n".join(parts)
