"""Teachers: found by their fingerprint or trained once; their logits on a transfer set, alone or as an ensemble."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from kdjax import blocks, checkpoints, evaluation, loop, metrics, models, train, transforms
from kdjax.arrays import HostImages, HostLogits
from kdjax.checkpoints import Checkpoints
from kdjax.compilation import fixed_numerics
from kdjax.config import CHECKPOINT_SECONDS, TrainConfig, numerics
from kdjax.datasets import Dataset
from kdjax.errors import BadInput, require
from kdjax.files import check_manifest, clear_leftovers, lock, make_folder, read_json, whole_folder, write_json
from kdjax.identity import digest, result_fields
from kdjax.objectives import Setting
from kdjax.progress import Progress, clock, say, warn
from kdjax.provenance import provenance, toolchain
from kdjax.run_folders import TEACHERS


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained network, and a record of its training."""

    folder: Path
    config: TrainConfig
    info: dict[str, Any]
    """`teacher.json`: fingerprint; dataset, data, description, input_shape, num_classes; config, learning_rate, seed,
    numerics; test (its measures), parameters, seconds, provenance."""
    params: Any
    """With a leading axis of 1."""
    model_state: Any = dataclasses.field(default_factory=dict)
    """Batch statistics, with a leading axis of 1; empty where the network has none."""

    @property
    def network(self) -> models.Model:
        """The architecture, as pure functions of its parameters."""
        return models.network(self.config, tuple(self.info["input_shape"]), self.info["num_classes"])

    @property
    def name(self) -> str:
        """The first twelve digits of the fingerprint."""
        return str(self.info["fingerprint"])[:12]

    def logits(self, images: HostImages) -> HostLogits:
        """Logits in evaluation mode. Raises BadInput: images of another shape."""
        return evaluation.logits_of(self.network, self.params, self.model_state, images)


def ensemble_logits(teachers: Sequence[Teacher], images: HostImages) -> HostLogits:
    """Mean of the teachers' logits: the geometric mean of their predictions (the paper's Section 5), at every T."""
    return mean_logits(np.stack([teacher.logits(images) for teacher in teachers]))


def mean_logits(tables: Float[np.ndarray, "teachers images classes"]) -> HostLogits:
    """`ensemble_logits` from the logits of each teacher."""
    return np.asarray(tables.mean(axis=0, dtype=np.float64), np.float32)


def checkpoints_of(folder: Path, seconds: float = CHECKPOINT_SECONDS) -> Checkpoints:
    """Those of the training of the teacher that will be stored there."""
    return Checkpoints(folder.with_name(f"{folder.name}.checkpoints"), seconds)


def fingerprint(config: TrainConfig, learning_rate: float, seed: int, dataset: Dataset) -> str:
    """SHA-256 of everything that fixes a teacher: recipe, rate, seed, training images and labels, numerics."""
    recipe = {"config": result_fields(config), "learning_rate": learning_rate, "seed": seed}
    data = {"data": dataset.fingerprint, "num_classes": dataset.num_classes}
    return digest({**recipe, **data, "numerics": numerics(config.network)})


def place(out: Path, name: str) -> Path:
    """The folder in which the teacher of a fingerprint is stored."""
    return out / TEACHERS / name[:16]


@fixed_numerics()
def find_or_train(
    config: TrainConfig,
    learning_rate: float,
    seed: int,
    dataset: Dataset,
    out: Path,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Teacher:
    """The teacher of this recipe and seed on this dataset's training images; trained if `out` does not hold it.
    `learning_rate` is the peak rate, `seed` that of weights, order, masks and jitter. Hold-out and test images are
    never trained on. It is stored in `out/teachers/FINGERPRINT/`. Raises BadInput: its loss or its logits are not
    finite, or `out` cannot be written to."""
    folder = place(out, fingerprint(config, learning_rate, seed, dataset))
    make_folder(folder.parent)
    stored = checkpoints_of(folder, checkpoint_seconds)
    note = "waiting for a teacher that process {} is training"
    with lock(folder.with_name(f"{folder.name}.lock"), lambda holder: say(note.format(holder))):
        clear_leftovers(folder.parent, folder.name)
        teacher = _find(folder, dataset) or _train(config, learning_rate, seed, dataset, folder, stored)
        stored.clear()  # after a kill they may be there beside the teacher
        return teacher


def load(folder: str | Path, dataset: Dataset | None = None) -> Teacher:
    """The teacher in a folder that `find_or_train` or `save` wrote. Raises BadInput: the folder holds no teacher, a
    damaged one, or one that does not fit the dataset."""
    folder, remedy = Path(folder), "name a folder that holds teacher.json, such as one in runs/teachers"
    require((folder / "teacher.json").exists(), f"{folder} is no teacher: {remedy}")
    check_manifest(folder)
    info = read_json(folder / "teacher.json")
    try:
        config = TrainConfig(**{**info["config"], "hidden": tuple(info["config"]["hidden"])})
        info["provenance"]
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder} is a teacher of another version of kdjax ({error}): train it again") from None
    if dataset is not None:
        _refuse_unfit(folder, info, dataset)
    model = models.network(config, tuple(info["input_shape"]), info["num_classes"])
    variables = checkpoints.load(folder / "parameters", models.variable_shapes(model, 1))
    return Teacher(folder, config, info, *models.unpack_variables(model, variables))


def save(folder: Path, params: Any, info: dict[str, Any], model_state: Any = None) -> None:
    """Writes a teacher whole, under a manifest: `teacher.json`, and parameters and model state as in a `Teacher`."""
    with whole_folder(folder) as temporary:
        write_json(temporary / "teacher.json", info)
        checkpoints.save(temporary / "parameters", models.pack_variables(params, model_state))


@fixed_numerics()
def untrained(teacher: Teacher, seed: int, images: HostImages) -> Teacher:
    """An untrained network of the teacher's shape: randomly initialised, from a reserved seed. Its batch statistics are
    those of the first 256 of `images`. With the initial ones, which normalise nothing, its logits would be all but the
    same for every image."""
    model = teacher.network
    params, before = model.init(train.run_key(2**31 - 1 - seed, train.Purpose.INIT))
    params = {**params, **(model.prepare(images) if model.prepare else {})}
    of_images = models.batch_statistics(model, params, before, transforms.to_float(jnp.asarray(images[:256])))
    params, model_state = jax.tree.map(lambda leaf: leaf[None], (params, of_images))
    return dataclasses.replace(teacher, params=params, model_state=model_state)


def _find(folder: Path, dataset: Dataset) -> Teacher | None:
    if not folder.exists():
        return None
    try:
        teacher = load(folder, dataset)
    except BadInput as damage:
        warn(f"teacher is trained again: {damage}")
        return None
    say(f"teacher {teacher.name} found in {folder}")
    warn_of_differences(teacher)
    return teacher


def _train(
    config: TrainConfig, learning_rate: float, seed: int, dataset: Dataset, folder: Path, stored: Checkpoints
) -> Teacher:
    begin, (images, labels) = time.perf_counter(), dataset.train
    program = blocks.program_for(config, dataset.input_shape, dataset.num_classes, len(images), 1)
    no_logits = np.zeros((len(images), dataset.num_classes), np.float32)  # hard labels alone: never read
    transfer_set = blocks.TransferSet(*map(jnp.asarray, (images, labels, no_logits)))
    temperature, soft_weight, rate = (jnp.full(1, value, jnp.float32) for value in (1.0, 0.0, learning_rate))
    setting = Setting(temperature, soft_weight, rate)
    with Progress("teacher", config.epochs * program.steps_per_epoch) as progress:

        def report(step: int, note: str) -> None:
            epoch = min(step // program.steps_per_epoch + 1, config.epochs)
            progress.update(step, note, f"epoch {epoch} of {config.epochs}")

        trained = loop.fit_with_checkpoints(program, transfer_set, setting, seed, config.epochs, stored, report)
    state = trained.state
    test_logits = np.asarray(program.logits(state, jnp.asarray(dataset.test.images)))[0]
    failed_at = int(state.failed_at[0])
    if failed_at >= 0 or not np.isfinite(test_logits).all():
        stored.clear()  # with another rate it is another teacher
    require(failed_at < 0, f"the teacher's loss was not finite at step {failed_at}: lower its learning rate")
    require(np.isfinite(test_logits).all(), "the teacher's logits are not finite: lower its learning rate")
    info: dict[str, Any] = {"fingerprint": fingerprint(config, learning_rate, seed, dataset)}
    info |= {"dataset": dataset.name, "data": dataset.fingerprint, "description": dataset.description}
    info |= {"input_shape": list(dataset.input_shape), "num_classes": dataset.num_classes}
    info |= {"config": dataclasses.asdict(config), "learning_rate": learning_rate, "seed": seed}
    info |= {"numerics": numerics(config.network), "test": metrics.evaluate(test_logits, dataset.test.labels)}
    info |= {"parameters": models.parameter_count(program.model), "provenance": provenance()}
    info |= {"seconds": round(time.perf_counter() - begin, 1)}
    save(folder, state.evaluated, info, state.model_state)
    teacher = load(folder, dataset)
    errors = teacher.info["test"]["errors"]
    say(f"teacher {teacher.name} trained in {clock(info['seconds'])}: {errors} test errors; stored in {folder}")
    return teacher


def _refuse_unfit(folder: Path, info: dict[str, Any], dataset: Dataset) -> None:
    shape, classes = tuple(info["input_shape"]), info["num_classes"]
    actual = f"and {dataset.name} has {dataset.input_shape}"
    require(shape == dataset.input_shape, f"{folder} is a teacher for images of shape {shape}, {actual}")
    actual = f"and {dataset.name} has {dataset.num_classes}"
    require(classes == dataset.num_classes, f"{folder} is a teacher of {classes} classes, {actual}")
    own = dataset.standardisation is None or info.get("data") == dataset.fingerprint
    other = f"{folder} was trained on other rows or labels than those of {dataset.name}, which standardise its features"
    require(own, f"{other}: give a teacher of these, or its logits as a column")
    # The bundled digits are MNIST training images: a teacher that was trained on MNIST has seen the test digits.
    leaked = info["dataset"] == "mnist" and dataset.name == "mnist5k"
    reason = "contains the test digits of mnist5k: use a teacher trained on mnist5k"
    require(not leaked, f"{folder} was trained on MNIST, which {reason}")


def warn_of_differences(teacher: Teacher) -> None:
    """Says where a teacher was trained with other versions or on another device than these."""
    before = teacher.info["provenance"]
    for name, now in toolchain().items():
        if before.get(name) != now:
            warn(f"the teacher was trained with other {name} ({before.get(name)}; now {now})")
