"""The sweeps behind the MNIST table: those of each part, and those at tuned rates."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.mnist.roles import Role
from experiments.member import TUNING_SEED, Member
from experiments.mnist.options import Part, TableOptions, distorted
from kdjax.config import TEACHER_SEED, Targets, TeacherConfig

if TYPE_CHECKING:
    from analysis.tuning import Choice

SETTINGS = 16
"""Settings of one width that are trained together: all temperatures and hard labels fit in one block."""
SMOOTHINGS = (0.03, 0.1, 0.3)
"""Label smoothings among which the hold-out chooses."""
JITTER = 2
"""Pixels; as the paper's teacher."""
NEGATIVE: tuple[Targets, ...] = ("shuffled", "random", "uniform")
"""Controls: targets that say nothing of the image; what students gain is not the teacher's."""


def members(config: TableOptions, images: int, folders: tuple[Path, ...] = ()) -> list[Member]:
    """The sweeps behind the parts that are wanted, in order, but for those at tuned rates (`tuned_members`).

    Args:
        config: the table.
        images: number of training images.
        folders: the teachers; an ensemble is named by them.
    """
    wanted, sweeps = config.parts(), list[Member]()

    def add(parts: set[Part], role: Role, by: int = 0, **changes: Any) -> None:
        serving = [part for part in wanted if part in parts]
        if serving:
            sweeps.append(Member(role, config.sweep(by, **changes), serving[0]))

    hard: dict[str, Any] = {
        "hard_labels": True,
        "objectives": (),
        "soft_weights": (1.0,),  # no student of soft targets: any weight
    }
    add({"small", "distilled", "shifted", "better"}, Role.SMALL, **hard)
    for t in range(config.teachers):
        if t == 0 or "distilled" in wanted:
            add({"distilled", "shifted", "better"}, Role.DISTILLED, t)
    if others := config.soft_weights[1:]:
        add({"distilled"}, Role.SOFT_WEIGHTS, soft_weights=others)
    data = dataclasses.replace(config.data, holdout=max(images // 6, 1))  # of what is there before --train-images
    seeds = {"seeds": config.tuning_seeds, "first_seed": TUNING_SEED}
    for width, epochs in config.schedules():
        rates = {"learning_rates": config.tuning_rates, "data": data}
        add({"widths"}, Role.TUNING, hard_labels=True, **{**at_width(config, width, epochs), **seeds, **rates})
        for t in range(config.width_teachers):
            # A student of hard labels has no teacher: once is enough.
            add({"widths"}, Role.ONE_RATE, t, hard_labels=t == 0, **at_width(config, width, epochs))
    steps = config.width_epochs[0] * (images // config.batch_size)
    for count in dict.fromkeys(max(round(share * images), config.batch_size) for share in config.fractions):
        epochs = max(1, round(steps / (count // config.batch_size)))
        add({"transfer"}, Role.TRANSFER, hard_labels=True, transfer_images=count, epochs=epochs)
    add({"shifted", "better"}, Role.HARD_JITTERED, jitter=JITTER, **hard)
    still = dataclasses.replace(config.teacher, jitter=0, augment="none")
    add({"shifted"}, Role.STILL_TEACHER, teacher=still)
    add({"better"}, Role.SHIFT_AVERAGED, targets="shift_averaged")
    add({"better", "shifted"}, Role.JITTERED, jitter=JITTER)
    # The baseline of the same images in the same blocks: how much is the images', how much the teacher's?
    add({"better"}, Role.ELASTIC, teacher=distorted(config.teacher), hard_labels=True, **elastic(config))
    if len(folders) > 1:
        for role, changes in of_ensemble(config).items():
            add({"better"}, role, teacher=TeacherConfig(), teacher_from=folders, **changes)
    add({"controls"}, Role.HELD_OUT, hard_labels=True, data=data)
    smoothing: dict[str, Any] = {"targets": "uniform", "temperatures": (1.0,), "soft_weights": SMOOTHINGS}
    add({"controls"}, Role.LABEL_SMOOTHING, data=data, **smoothing)
    bug: dict[str, Any] = {"objectives": ("double_softmax",)}
    add({"controls"}, Role.DOUBLE_SOFTMAX, data=data, **bug)
    for control in NEGATIVE:
        add({"controls"}, Role(control), targets=control, data=data)
    add({"controls"}, Role.SELF_DISTILLATION, teacher=own_kind(config), data=data)
    return sweeps


def tuned_members(config: TableOptions, choices: Mapping[tuple[int, int], Sequence["Choice"]]) -> list[Member]:
    """The sweeps of the widths at tuned rates: what has its rate in the sweeps at one rate already is not in them.

    Args:
        config: the table.
        choices: by width and epochs, the rate of hard labels and of each T.
    """
    sweeps = list[Member]()
    for (width, epochs), of_schedule in choices.items():
        apart = [one for one in of_schedule if not math.isclose(one.learning_rate, config.learning_rate, rel_tol=1e-6)]
        soft = [one for one in apart if one.objective == "kd"]
        for t in range(config.width_teachers):
            asked = apart if t == 0 else soft
            if asked:
                changes: dict[str, Any] = {"hard_labels": len(asked) > len(soft), "objectives": ("kd",) * bool(soft)}
                changes |= {"own_rates": True, "learning_rates": tuple(one.learning_rate for one in asked)}
                changes |= {"temperatures": tuple(one.temperature for one in soft)} if soft else {}
                changes = {**at_width(config, width, epochs), **changes}
                sweeps.append(Member(Role.TUNED, config.sweep(t, **changes), "widths"))
    return sweeps


def at_width(config: TableOptions, width: int, epochs: int) -> dict[str, Any]:
    """What is particular to students whose errors against T are compared at one width and schedule."""
    return {
        "widths": (width,),
        "soft_weights": (1.0,),  # so that T is all that changes
        "temperatures": config.width_temperatures,
        "seeds": config.width_seeds,
        "epochs": epochs,
        "block_size": SETTINGS,
    }


def own_kind(config: TableOptions) -> TeacherConfig:
    """A teacher of the small net's own kind, for self-distillation."""
    return TeacherConfig(
        widths=(config.width, config.width),
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        hidden_dropout=0.0,
        max_norm=0.0,
        jitter=0,
        seed=TEACHER_SEED + 100,  # of none of the table's teachers
        precision=config.precision,
    )


def elastic(config: TableOptions) -> dict[str, Any]:
    """What is particular to students of distorted images."""
    return {"augment": "elastic", "epochs": config.elastic_epochs}


def of_ensemble(config: TableOptions) -> dict[Role, dict[str, Any]]:
    """Students of all teachers together, by role: of the images as they are; distorted where the teachers' were, else
    jittered."""
    if config.teacher.augment == "elastic":
        return {Role.ENSEMBLE: {}, Role.ENSEMBLE_ELASTIC: elastic(config)}
    return {Role.ENSEMBLE: {}, Role.ENSEMBLE_JITTERED: {"jitter": JITTER}}
