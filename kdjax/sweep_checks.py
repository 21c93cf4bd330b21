"""What a sweep refuses before any training: options that do not fit its images, its teacher or each other."""

import functools
from collections.abc import Sequence

import numpy as np

from kdjax import models, objectives
from kdjax.compilation import fixed_numerics
from kdjax.config import SweepConfig, TrainConfig
from kdjax.datasets import Dataset, GivenTeacher
from kdjax.datasets.splits import MOST_T, NO_MASS
from kdjax.errors import require, require_option
from kdjax.objectives import Objective
from kdjax.progress import warn
from kdjax.students import Block
from kdjax.teachers import Teacher
from kdjax.transforms import REFLECT


def require_at_most(option: str, number: int, count: int) -> None:
    """Refuses an option that asks for more than so many training examples."""
    require(number <= count, f"--{option} {number} is more than the {count:,} training examples: give at most {count}")


def require_fit(config: SweepConfig, dataset: Dataset) -> None:
    """Refuses options that do not fit the images or features, or the teacher that came with them."""
    require_at_most("transfer-images", config.transfer_images or 0, len(dataset.train.images))
    _require_several_classes(config.transfer_images, dataset)
    require_at_most("batch-size", config.batch_size, len(dataset.train.images))
    require_jitter("jitter", config.jitter, dataset)
    require_augment("augment", config.augment, dataset)
    require_images_to_change("targets shift_averaged", config.targets == "shift_averaged", dataset)
    if dataset.teacher is not None:
        _require_given(config, dataset.name, dataset.teacher)


def _require_several_classes(transfer_images: int | None, dataset: Dataset) -> None:
    """Refuses a transfer set of one class, and warns of one without all classes: its images are the first ones."""
    first, there = np.unique(dataset.train.labels[:transfer_images]), np.unique(dataset.train.labels)
    about = f"the first {transfer_images} training rows are of {len(first):,} of the {len(there):,} classes"
    mixed = "if they are sorted by class, shuffle them first"
    require(transfer_images is None or len(first) > 1, f"--transfer-images is not allowed: {about}; {mixed}")
    if len(first) < len(there):
        warn(f"{about}; {mixed}")


def require_images_to_change(option: str, changes: object, dataset: Dataset) -> None:
    features = f"--{option} is not allowed: it changes images, and {dataset.name} has features; leave it out"
    require(not changes or len(dataset.input_shape) == 3, features)


def require_augment(option: str, augment: str, dataset: Dataset) -> None:
    require_images_to_change(option, augment != "none", dataset)
    small = f"--{option} alternate is not allowed: it reflects {REFLECT} pixels at the edges, and these images have"
    side = min(dataset.input_shape[:2])
    require(augment != "alternate" or side > REFLECT, f"{small} {side} a side; give another, or none")


def require_jitter(option: str, pixels: int, dataset: Dataset) -> None:
    require_images_to_change(option, pixels, dataset)
    side = min(dataset.input_shape[:2])
    require_option(pixels < side, option, pixels, f"images of {side} pixels a side are shifted by less than that")


def _require_own_start(
    blocks: Sequence[Block], recipe: TrainConfig | None, seed: int, loaded: Sequence[Teacher], dataset: Dataset
) -> None:
    """Refuses students that would start from a teacher's own initial weights: those of its network and seed. Warns of
    other students of its seed, which see its batches and augmented images, and may start from a part of its weights:
    the first layer of a narrower perceptron is the first rows of a wider one's."""

    @functools.cache
    def weights(config: TrainConfig) -> str:
        """Names and shapes of a network's weights."""
        return str(models.shapes(models.network(config, dataset.input_shape, dataset.num_classes))[0])

    taken = {(weights(one.config), one.info.get("seed")) for one in loaded}
    if recipe is not None:
        taken = {(weights(recipe), seed)}
    remedy = "give the teacher another seed, such as 1000, or a teacher that was trained with one"
    for block in blocks:
        about = f"the student of seed {block.seed} would start from its teacher's own initial weights"
        same = f"{about}, as both are {block.config.network} of width {block.width}: {remedy}"
        require((weights(block.config), block.seed) not in taken, same)
    taught = {block.seed for block in blocks if any(run.objective != "hard" for run in block.runs)}
    if shared := sorted(taught & {seed for _, seed in taken}):
        seeds = ", ".join(map(str, shared))
        about = f"students and their teacher share the random numbers of seed {seeds} (batches, augmentation, perhaps"
        _warn_once(f"{about} initial weights): give the teacher another seed, which is 1000 by default")


_warn_once = functools.cache(warn)  # for all sweeps of a table


def check_blocks(
    blocks: Sequence[Block], recipe: TrainConfig | None, seed: int, loaded: Sequence[Teacher], dataset: Dataset
) -> None:
    """Refuses students that cannot be built, and that would start as their teacher did. `recipe` and `seed` are of the
    teacher that is trained where none is `loaded`."""
    _require_own_start(blocks, recipe, seed, loaded, dataset)
    for config in dict.fromkeys(block.config for block in blocks):
        models.network(config, dataset.input_shape, dataset.num_classes)


def _require_given(config: SweepConfig, name: str, given: GivenTeacher) -> None:
    """Refuses what a teacher of which there are logits alone cannot do, or not such logits."""
    asked = f"the teacher of {name} came with the data, as logits: there is no network to ask about other images"
    for option, changes in (
        ("jitter", config.jitter),
        ("augment", config.augment != "none"),
        (f"targets {config.targets}", config.targets in ("shift_averaged", "random")),
    ):
        require(not changes, f"--{option} is not allowed: {asked}; leave it out")
    for objective in map(objectives.parse, config.objectives):
        counts = f"--objectives {objective} is not allowed: a constant added to all logits changes it"
        known = given.kind == "logits" or objective.shift_invariant
        require(known, f"{counts}, and {given.kind} do not tell it; give teacher_logits, or leave it out")
    if given.renormalised:
        finite = [min(t, MOST_T) for t in (*config.temperatures, config.last_temperature)]
        allowed = f"with --topk-rest renormalised it is {MOST_T:g} at most, as classes without mass have no limit"
        for name, most in (("temperatures", max(config.temperatures)), ("last-temperature", config.last_temperature)):
            require_option(most <= MOST_T, name, most, allowed)
        for objective in map(objectives.parse, config.objectives):
            reason = "it depends on the logits of classes that have no mass with --topk-rest renormalised"
            ignores = all(_ignores_absent(objective, t) for t in (min(finite), max(finite)))
            require(ignores, f"--objectives {objective} is not allowed: {reason}; give spread, or leave it out")


@fixed_numerics()
def _ignores_absent(objective: Objective, temperature: float) -> bool:
    """Whether a loss is the same wherever the logits of classes without mass lie."""
    random = np.random.default_rng(0)
    student, teacher = random.normal(0, 2, (2, 4, 6)).astype(np.float32)
    values = []
    for below in (NO_MASS, NO_MASS / 8):
        teacher[:, 4:] = -below
        values.append(np.asarray(objective.loss(student, teacher, np.arange(4), temperature)))
    return bool(np.allclose(values[0], values[1], rtol=1e-3))
