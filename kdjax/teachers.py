"""Teachers: found by their fingerprint or trained once; their logits on a transfer set, alone or as an ensemble."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from kdjax import blocks, checkpoints, evaluation, loop, metrics, models, run_directory, train, transforms
from kdjax.config import CHECKPOINT_SECONDS, TrainConfig, numerics
from kdjax.datasets import Dataset
from kdjax.errors import BadInput, require
from kdjax.files import Busy, check_manifest, clear_leftovers, lock, whole_folder
from kdjax.identity import digest, result_fields
from kdjax.objectives import Setting
from kdjax.progress import Progress, clock, say
from kdjax.provenance import provenance


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained network and what is known of it."""

    folder: Path
    config: TrainConfig
    info: dict[str, Any]
    """`teacher.json`: fingerprint, dataset, input_shape, num_classes, config, test (its measures), provenance."""
    params: Any
    """With a leading axis of 1."""
    model_state: Any = dataclasses.field(default_factory=dict)
    """Batch statistics, with a leading axis of 1; empty where the network has none."""

    @property
    def network(self) -> models.Model:
        """What its parameters belong to."""
        return models.network(self.config, tuple(self.info["input_shape"]), self.info["num_classes"])

    @property
    def name(self) -> str:
        """The first twelve digits of the fingerprint."""
        return str(self.info["fingerprint"])[:12]

    def logits(self, images: UInt8[np.ndarray, "images height width channels"]) -> Float[np.ndarray, "images classes"]:
        """Logits in evaluation mode."""
        return np.asarray(evaluation.evaluator(self.network)(self.params, self.model_state, images))[0]


def ensemble_logits(
    teachers: Sequence[Teacher], images: UInt8[np.ndarray, "images height width channels"]
) -> Float[np.ndarray, "images classes"]:
    """Mean of the teachers' logits: the geometric mean of their predictions (the paper's Section 5), at every T."""
    return mean_logits(np.stack([teacher.logits(images) for teacher in teachers]))


def mean_logits(
    tables: Float[np.ndarray, "teachers images classes"],
) -> Float[np.ndarray, "images classes"]:
    """`ensemble_logits` of teachers whose logits are known."""
    return np.asarray(tables.mean(axis=0, dtype=np.float64), np.float32)


def fingerprint(config: TrainConfig, learning_rate: float, seed: int, dataset: Dataset) -> str:
    """SHA-256 of everything that fixes a teacher: recipe, rate, seed, training images and labels, numerics."""
    return digest(
        {
            "config": result_fields(config),
            "learning_rate": learning_rate,
            "seed": seed,
            "data": dataset.fingerprint,
            "num_classes": dataset.num_classes,
            "numerics": numerics(config.network),
        }
    )


def place(out: Path, name: str) -> Path:
    """The folder in which the teacher of a fingerprint is kept."""
    return out / "teachers" / name[:16]


def find_or_train(
    config: TrainConfig,
    learning_rate: float,
    seed: int,
    dataset: Dataset,
    out: Path,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Teacher:
    """The teacher of this recipe and seed on this dataset's training images; trained if `out` does not hold it.

    Args:
        config: the recipe.
        learning_rate: peak rate.
        seed: of weights, order, masks and jitter.
        dataset: what it learns; its hold-out and test images are never trained on.
        out: it is kept in `out/teachers/FINGERPRINT/`.
        checkpoint_seconds: time between checkpoints.
    """
    folder = place(out, fingerprint(config, learning_rate, seed, dataset))
    run_directory.make_folder(folder.parent)
    guard = folder.with_name(f"{folder.name}.lock")
    kept = checkpoints.Checkpoints(folder.with_name(f"{folder.name}.checkpoints"), checkpoint_seconds)
    try:
        with lock(guard):
            return _find_or_train(config, learning_rate, seed, dataset, folder, kept)
    except Busy as busy:
        say(f"waiting for a teacher that process {busy.holder} is training")
        with lock(guard, wait=True):
            return _find_or_train(config, learning_rate, seed, dataset, folder, kept)


def load(folder: Path, dataset: Dataset | None = None) -> Teacher:
    """A teacher kept in a folder.

    Args:
        folder: as written by `find_or_train` or `save`.
        dataset: if given, what it is to teach on.

    Raises:
        BadInput: the folder holds no teacher, a damaged one, or one that does not fit the dataset.
    """
    require(
        (folder / "teacher.json").exists(),
        f"{folder} is no teacher: name a folder that holds teacher.json, such as one in runs/teachers",
    )
    check_manifest(folder)
    info = run_directory.read_json(folder / "teacher.json")
    try:
        config = TrainConfig(**{**info["config"], "hidden": tuple(info["config"]["hidden"])})
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder} is a teacher of another version of kdjax ({error}): train it again") from None
    if dataset is not None:
        _refuse_unfit(folder, info, dataset)
    model = models.network(config, tuple(info["input_shape"]), info["num_classes"])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype),
        models.pack_variables(*jax.eval_shape(model.init, jax.random.key(0))),
    )
    return Teacher(folder, config, info, *models.unpack_variables(model, checkpoints.load(folder / "parameters", like)))


def save(folder: Path, params: Any, info: dict[str, Any], model_state: Any = None) -> None:
    """Keeps a teacher under a manifest, whole: `teacher.json`, and parameters and model state as in a `Teacher`."""
    with whole_folder(folder) as temporary:
        run_directory.write_json(temporary / "teacher.json", info)
        checkpoints.save(temporary / "parameters", models.pack_variables(params, model_state))


def untrained(teacher: Teacher, seed: int, images: UInt8[np.ndarray, "images height width channels"]) -> Teacher:
    """An untrained network of the teacher's shape: randomly initialised, from a reserved seed.

    Its batch statistics are those of the first 256 of `images`. With the initial ones, which normalise nothing, its
    logits would be all but the same for every image.
    """
    model = teacher.network
    params, before = model.init(train.run_key(2**31 - 1 - seed, train.Purpose.INIT))
    of_images = models.batch_statistics(model, params, before, transforms.to_float(jnp.asarray(images[:256])))
    params, model_state = jax.tree.map(lambda leaf: leaf[None], (params, of_images))
    return dataclasses.replace(teacher, params=params, model_state=model_state)


def _find_or_train(
    config: TrainConfig,
    learning_rate: float,
    seed: int,
    dataset: Dataset,
    folder: Path,
    kept: checkpoints.Checkpoints,
) -> Teacher:
    clear_leftovers(folder.parent, folder.name)
    if folder.exists():
        try:
            teacher = load(folder, dataset)
            kept.clear()  # a kill may have come between the teacher and this
            say(f"teacher {teacher.name} found in {folder}: {teacher.info['test']['errors']} test errors")
            warn_of_differences(teacher)
            return teacher
        except BadInput as damage:
            say(f"teacher is trained again: {damage}")
    begin = time.perf_counter()
    program = blocks.program_for(
        config, dataset.train.images.shape[1:], dataset.num_classes, len(dataset.train.images), 1
    )
    blank = np.zeros((len(dataset.train.images), dataset.num_classes), np.float32)  # hard labels alone: never looked at
    images, labels = dataset.train
    transfer_set = blocks.TransferSet(jnp.asarray(images), jnp.asarray(labels), jnp.asarray(blank))
    setting = Setting(*(jnp.full(1, value, jnp.float32) for value in (1.0, 0.0, learning_rate)))
    with Progress("teacher", config.epochs * program.steps_per_epoch) as progress:
        report = progress.update
        trained = loop.fit_with_checkpoints(program, transfer_set, setting, seed, config.epochs, kept, report)
    params = trained.state.params if trained.state.averaged is None else trained.state.averaged
    test_logits = np.asarray(program.logits(trained.state, jnp.asarray(dataset.test.images)))[0]
    failed_at = int(trained.state.failed_at[0])
    require(failed_at < 0, f"the teacher's loss was not finite at step {failed_at}: lower its learning rate")
    info: dict[str, Any] = {
        "fingerprint": fingerprint(config, learning_rate, seed, dataset),
        "dataset": dataset.name,
        "data": dataset.fingerprint,
        "description": dataset.description,
        "input_shape": list(dataset.train.images.shape[1:]),
        "num_classes": dataset.num_classes,
        "config": dataclasses.asdict(config),
        "learning_rate": learning_rate,
        "seed": seed,
        "numerics": numerics(config.network),
        "test": metrics.evaluate(test_logits, dataset.test.labels),
        "parameters": models.parameter_count(
            models.network(config, dataset.train.images.shape[1:], dataset.num_classes)
        ),
        "provenance": provenance(),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    save(folder, params, info, trained.state.model_state)
    kept.clear()
    teacher = load(folder, dataset)
    errors = teacher.info["test"]["errors"]
    say(f"teacher {teacher.name} trained in {clock(info['seconds'])}: {errors} test errors; kept in {folder}")
    return teacher


def _refuse_unfit(folder: Path, info: dict[str, Any], dataset: Dataset) -> None:
    shape = dataset.train.images.shape[1:]
    require(
        tuple(info["input_shape"]) == shape,
        f"{folder} is a teacher for images of shape {tuple(info['input_shape'])}, and {dataset.name} has {shape}",
    )
    require(
        info["num_classes"] == dataset.num_classes,
        f"{folder} is a teacher of {info['num_classes']} classes, and {dataset.name} has {dataset.num_classes}",
    )
    # The bundled digits are MNIST training images: a teacher that was trained on MNIST has seen the test digits.
    require(
        not (info["dataset"] == "mnist" and dataset.name == "mnist5k"),
        f"{folder} was trained on MNIST, which contains the test digits of mnist5k: use a teacher trained on mnist5k",
    )


def warn_of_differences(teacher: Teacher) -> None:
    """Says where a teacher was trained with other versions or on another device than these."""
    before, now = teacher.info["provenance"], provenance()
    for name in ("versions", "device"):
        if before.get(name) != now[name]:
            say(f"note: the teacher was trained with other {name} ({before.get(name)}; now {now[name]})")
