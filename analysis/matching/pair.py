"""A trained teacher and student, from a run directory: their logits at the start, middle and end of the training."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from analysis.matching.rows import STAGES
from analysis.matching.theory import PAPER, Curves, Temperatures
from analysis.runs import OF_SWEEPS, read_config
from kdjax import (
    blocks,
    datasets,
    evaluation,
    grids,
    loop,
    losses,
    models,
    students,
    sweeps,
    teachers,
    trained,
    transfer,
    transforms,
)
from kdjax.config import DataConfig, RunConfig, SweepConfig, TeacherConfig, TrainConfig
from kdjax.errors import BadInput, require
from kdjax.files import read_json
from kdjax.progress import say
from kdjax.transfer import DistillationData


class Pair(NamedTuple):
    """A student, its teacher, and what both were trained on."""

    where: str
    """Dataset, widths, temperature: for titles."""
    data: DistillationData
    config: TrainConfig
    """The student's recipe."""
    params: dict[str, Any]
    """The student's parameters at those of `STAGES` that were asked for: as its seed makes them, after half of its
    epochs, and as kept. The middle is trained again, by the same schedule, stopped halfway."""
    peers: dict[str, Float[np.ndarray, "test classes"]]
    """Test logits of networks that may stand in as teachers: the teacher, and the run's students on hard labels."""

    @property
    def model(self) -> models.Model:
        dataset = self.data.dataset
        return models.network(self.config, dataset.input_shape, dataset.num_classes)

    def sample(self, images: int) -> Int[np.ndarray, "images"]:
        """So many training images, by number and in order: the same for all that is measured on them."""
        count = len(self.data.dataset.train.images)
        return np.sort(np.random.default_rng(0).choice(count, images, replace=False))


def small_sweep(out: Path, curvature: bool = False) -> sweeps.Sweep:
    """A small pair on the bundled digits, to be trained or found, in `out/logit_matching/small`; for `curvature` in
    `small_holdout`, of 30 units and with a hold-out."""
    config = SweepConfig(
        temperatures=(PAPER,),
        widths=(30 if curvature else 300,),
        seeds=1 if curvature else 3,
        run=RunConfig(out=out, name="small_holdout" if curvature else "small"),
        data=DataConfig(dataset="mnist5k", holdout=1000 if curvature else 0),
        teacher=TeacherConfig(widths=(600, 600), epochs=40),
    )
    return sweeps.prepare(config, "logit_matching")


def load(folder: Path, out: Path, stages: Sequence[str] = STAGES) -> Pair:
    """The pair of a run directory: its first width and seed, and the soft targets nearest to T = 20.

    Args:
        folder: as written by `experiments.temperature_sweep`.
        out: holds the teachers, if they are not beside the run.
        stages: at which the student is wanted. The middle is trained again.

    Raises:
        BadInput: no run directory; one without parameters; data or a teacher that are not there, or not the same.
    """
    config = read_config(folder, *OF_SWEEPS)
    try:
        identity, details = config["identity"], config["details"]["config"]
        fingerprints, images = identity["teachers"], identity["data"]
        sweep, data = _sweep(identity["config"]), _data(images, details["data"])
        folders = [Path(path) for path in details["teacher_from"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{folder / 'config.json'} is not that of a temperature sweep, or damaged ({error})") from None
    require(sweep.network == "mlp", f"{folder} is a run of {sweep.network} networks: name one of --network mlp")
    plain = sweep.targets == "teacher" and sweep.jitter == 0 and sweep.augment == "none"
    plain = plain and sweep.transfer_images is None and sweep.temperature_schedule == "constant"
    require("kd" in sweep.objectives, f"{folder} holds no students of kd: name a run with kd among its --objectives")
    require(
        plain,
        f"the students of {folder} were not taught at one temperature by a teacher's logits for all training images as "
        "they are: name a run without --targets, --jitter, --augment, --transfer-images and --temperature-schedule",
    )
    file = f"{folder} is a sweep of a file's data: write its logits into a file, and give that with --logits"
    require(images["name"] in datasets.names(), file)
    block, index = _nearest(sweep)
    stored = folder / "blocks" / block.name
    require(
        (stored / "parameters").is_dir(),
        f"{folder} holds no parameters of its students ({stored / 'parameters'} is missing): name a finished run",
    )
    failed = _student(folder, block, index).row["failed_at"]
    followed = f"the student of {folder} to follow, of T = {block.runs[index].temperature:g}, failed at step {failed}"
    require(failed < 0, f"{followed} (loss not finite): name a run with a lower learning rate")
    dataset = datasets.load(data)
    require(
        dataset.fingerprint == images["fingerprint"],
        f"the training images of {folder} ({images['description']}) are not those found ({dataset.description}): "
        "set KDJAX_RAW_DIR or KDJAX_DATA_DIR to where they are",
    )
    outs = [*folder.parents[1:3], out]  # a table's sweep lies deeper
    members = [teachers.load(_teacher(name, folders, outs), dataset) for name in fingerprints]
    distillation = transfer.query_teachers(dataset, members)
    layers = "-".join(map(str, (math.prod(dataset.input_shape), *block.config.hidden, dataset.num_classes)))
    where = f"{dataset.description}; student {layers}, T = {block.runs[index].temperature:g}"
    peers = {"teacher": distillation.test_logits, **(_peers(folder) if sweep.hard_labels else {})}
    pair = Pair(where, distillation, block.config, {}, peers)
    return pair._replace(params=_stages(pair, block, index, folder, stages))


def student_logits(pair: Pair, stage: str, rows: np.ndarray) -> Float[np.ndarray, "cases classes"]:
    """The student's logits for some of the training images, in evaluation mode, float32."""
    stacked = jax.tree.map(lambda leaf: leaf[None], pair.params[stage])
    images = jnp.asarray(pair.data.dataset.train.images[rows])
    return evaluation.logits_of(pair.model, stacked, {}, images)


def parameter_curves(pair: Pair, stage: str, rows: np.ndarray, temperatures: Temperatures) -> Curves:
    """The whole parameter gradient of the mean `T²·KL`, G(T), beside that of centred logit matching, G(∞).

    Returns, against T: `cosine`; `norm ratio`, ‖G(T)‖/‖G(∞)‖; `distance`, ‖G(T) − G(∞)‖/‖G(∞)‖. In float32, as trained.
    """
    images = transforms.to_float(jnp.asarray(pair.data.dataset.train.images[rows]))
    table = jnp.asarray(pair.data.train_logits[rows])

    @jax.jit
    def curves(params: Any, temperatures: Array) -> dict[str, Array]:
        logits, pull_back = jax.vjp(lambda params: pair.model.apply(params, {}, images, False)[0], params)

        def gradient(temperature: Array | float) -> Array:
            (tree,) = pull_back(losses.soft_target_gradient(logits, table, temperature) / len(rows))
            return ravel_pytree(tree)[0]

        limit = gradient(math.inf)
        size = jnp.linalg.norm(limit)

        def at(temperature: Array) -> dict[str, Array]:
            whole = gradient(temperature)
            length, cosine = jnp.linalg.norm(whole), jnp.vdot(whole, limit)
            distance = jnp.linalg.norm(whole - limit) / size
            return {"cosine": cosine / (length * size), "norm ratio": length / size, "distance": distance}

        return jax.lax.map(at, temperatures)

    measured = curves(pair.params[stage], jnp.asarray(temperatures, jnp.float32))
    return {name: np.asarray(values) for name, values in measured.items()}


def _sweep(config: dict[str, Any]) -> SweepConfig:
    """The sweep's config, as far as its blocks depend on it."""
    names = {field.name for field in dataclasses.fields(SweepConfig)}
    options = {name: value for name, value in config.items() if name in names and value is not None}
    for name in ("temperatures", "soft_weights", "learning_rates"):
        options[name] = tuple(float(value) for value in options[name])  # "inf" too
    lists = {name: tuple(options[name]) for name in ("widths", "objectives")}
    return SweepConfig(**{**options, **lists})


def _nearest(sweep: SweepConfig) -> tuple[students.Block, int]:
    """The block that holds the student to follow, and its place there."""
    first = sweep.widths[0], sweep.first_seed
    planned = [block for block in grids.plan(sweep, 1, 1) if (block.width, block.seed) == first]
    places = [(block, i) for block in planned for i, run in enumerate(block.runs) if run.objective == "kd"]

    def distance(place: tuple[students.Block, int]) -> tuple[float, float]:
        run = place[0].runs[place[1]]
        return -run.soft_weight, abs(math.log(run.temperature / PAPER))

    return min(places, key=distance)


def _stages(pair: Pair, block: students.Block, index: int, folder: Path, stages: Sequence[str]) -> dict[str, Any]:
    dataset, run = pair.data.dataset, block.runs[index]
    shape, images = dataset.input_shape, len(dataset.train.images)
    program = blocks.program_for(block.config, shape, dataset.num_classes, images, 1)

    def start() -> Any:
        return program.init(block.seed).params

    def middle() -> Any:
        setting = jax.tree.map(lambda values: values[index : index + 1], students.traced_setting(block))
        half = max(1, block.config.epochs // 2)
        say(f"trains the student of T = {run.temperature:g} again, to epoch {half} of {block.config.epochs}")
        # The program's schedule is that of all epochs; the block is begun for half of them.
        begun = loop.start(program, block.seed, half)
        return loop.fit(program, transfer.on_device(pair.data), setting, block.seed, begun).state.params

    def end() -> Any:
        return _student(folder, block, index).variables[0]

    each = dict(zip(STAGES, (start, middle, end), strict=True))
    return {stage: jax.tree.map(lambda leaf: leaf[0], each[stage]()) for stage in stages}


def _student(folder: Path, block: students.Block, index: int) -> trained.Student:
    return trained.find(folder, width=block.width, seed=block.seed, **block.runs[index]._asdict())[0]


def _peers(folder: Path) -> dict[str, np.ndarray]:
    """Test logits of the run's students on hard labels, by width and seed."""
    peers: dict[str, np.ndarray] = {}
    hard = [student for student in trained.find(folder, objective="hard") if student.row["failed_at"] < 0]
    for student in sorted(hard, key=lambda student: (student.row["width"], student.row["seed"])):
        peers.setdefault(f"{student.row['width']} units, seed {student.row['seed']}", student.stored_logits("test"))
    return peers


def _teacher(fingerprint: str, folders: list[Path], outs: list[Path]) -> Path:
    places = [*folders, *[teachers.place(out, fingerprint) for out in outs]]
    for place in places:
        info = place / "teacher.json"
        if info.exists() and read_json(info).get("fingerprint") == fingerprint:
            return place
    raise BadInput(
        f"the teacher {fingerprint[:16]} is in none of {', '.join(map(str, places))}: give its folder's --out"
    )


def _data(images: dict[str, Any], config: dict[str, Any]) -> DataConfig:
    """The run's data, from the folders that it took them from where these are there, else from this computer's own."""
    here = DataConfig()
    raw, prepared = (config.get(name) for name in ("raw_dir", "data_dir"))
    return DataConfig(
        dataset=images["name"],
        raw_dir=Path(raw) if raw and Path(raw).is_dir() else here.raw_dir,
        data_dir=Path(prepared) if prepared and Path(prepared).is_dir() else here.data_dir,
        train_images=config["train_images"],
        holdout=images["holdout"],
    )
