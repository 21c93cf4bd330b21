"""The grid of a sweep: its settings as blocks, defaults that depend on the data, and the learning rates to add."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from kdjax import datasets, objectives
from kdjax.config import SweepConfig, TeacherConfig
from kdjax.datasets import Dataset
from kdjax.errors import require
from kdjax.run_folders import span
from kdjax.students import Block, Run
from kdjax.transfer import TransferSpec

EPOCHS = {"mnist5k": 40}
"""Default epochs of a student, by dataset; elsewhere 20. Small datasets have fewer steps per epoch."""
OWN_STEPS, MOST_OWN_EPOCHS = 1_000, 200
"""Default epochs for a user's file: as many as make `OWN_STEPS` steps, from 20 to `MOST_OWN_EPOCHS`."""
TEACHER_EPOCHS = {"mnist5k": 80}
"""Default epochs of a teacher; elsewhere 30."""


def student_epochs(dataset: Dataset, batch_size: int) -> int:
    """Default epochs of a student."""
    if dataset.name in datasets.names():
        return EPOCHS.get(dataset.name, 20)
    steps = max(len(dataset.train.images) // batch_size, 1)
    return min(max(-(-OWN_STEPS // steps), 20), MOST_OWN_EPOCHS)


def teacher_epochs(dataset: Dataset) -> int:
    """Default epochs of a teacher."""
    own = max(30, student_epochs(dataset, TeacherConfig.batch_size))
    return TEACHER_EPOCHS.get(dataset.name, 30) if dataset.name in datasets.names() else own


def grid(config: SweepConfig, rate: float) -> list[list[Run]]:
    """The runs of a sweep at one learning rate, in groups that share a program: each temperature (once, where it is not
    used) for every objective of one name, whatever its hyper-parameters; hard labels are in the first."""
    groups: dict[str, list[Run]] = {}
    for objective in map(objectives.parse, config.objectives):
        temperatures = config.temperatures if objective.uses_temperature else (math.nan,)
        settings = itertools.product(config.soft_weights, temperatures)
        of_name = groups.setdefault(objective.name, [])
        of_name += [Run(str(objective), temperature, weight, rate) for weight, temperature in settings]
    hard = [Run("hard", math.nan, 0.0, rate)] if config.hard_labels else []
    first, *others = groups.values() or [[]]
    return [[*hard, *first], *others]


def plan(config: SweepConfig, epochs: int, images: int, rates: Sequence[float] = ()) -> list[Block]:
    """The blocks of a sweep, in order. K is fixed by the config: at most `block_size`, less only for a group that has
    fewer runs; a group's last block is padded, not smaller. `epochs` are those of a student where the config gives
    none, `images` the number of training images. `rates` stand in place of the config's learning rates; a further rate
    adds blocks and changes none. With `own_rates` a block holds runs of several rates."""
    transfer = TransferSpec(config.targets, config.transfer_images)
    grids = {f"rate{rate:.9g}": grid(config, rate) for rate in rates or config.rates()}
    if config.own_rates:
        pairs = zip(grid(config, 1.0)[0], config.rates(), strict=True)
        grids = {"own-rates": [[run._replace(learning_rate=rate) for run, rate in pairs]]}
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    blocks = []
    for width, seed, (rate, groups) in itertools.product(config.widths, seeds, grids.items()):
        sized = [(runs, min(config.block_size, len(runs))) for runs in groups]
        parts = [(runs[i : i + size], size) for runs, size in sized for i in range(0, len(runs), size)]
        for index, (runs, size) in enumerate(parts):
            last = runs[-1].objective
            objective = "kd" if last == "hard" else objectives.parse(last).name
            name, student = f"width{width}-seed{seed}-{rate}-{index}", config.student(width, epochs)
            block = Block(name, width, student, seed, tuple(runs), size, config.transfer_images or images, transfer)
            blocks.append(block._replace(objective=objective, monitor_every=config.monitor_every))
    return blocks


def wider(results: Any, rates: Sequence[float]) -> tuple[float, ...]:
    """Learning rates to add to `rates` because, for some setting, the hold-out's choice lies at an edge of the grid.
    One grid for all: what one temperature or the baseline needs, every one gets. An edge is moved out by the step of
    the grid there. Without a hold-out, or with a single rate, nothing is chosen and nothing is added."""
    if "holdout_errors" not in results or len(rates) < 2:
        return ()
    setting = ["width", "objective", "temperature", "soft_weight"]
    errors = results["holdout_errors"].where(results["failed_at"] < 0, float("inf"))
    groups = results.assign(errors=errors).groupby(setting, dropna=False)
    chosen = [runs.groupby("learning_rate")["errors"].mean().idxmin() for _, runs in groups]
    ordered = sorted(rates)
    below = [ordered[0] ** 2 / ordered[1]] if min(chosen) <= ordered[0] * 1.000001 else []
    above = [ordered[-1] ** 2 / ordered[-2]] if max(chosen) >= ordered[-1] * 0.999999 else []
    return tuple(float(f"{rate:.6g}") for rate in below + above)


def words(config: SweepConfig, dataset: Dataset) -> list[str]:
    """What a sweep's default name says of it: data, students, temperatures."""
    network = "" if config.network == "mlp" else config.network
    words = [dataset.name, span(config.widths, network)]
    if not config.objectives:
        return [*words, "hard"]
    parsed = {one.name: one for one in map(objectives.parse, config.objectives)}
    temperatures = [span(config.temperatures, "T")] * any(one.uses_temperature for one in parsed.values())
    named = [name for name, one in parsed.items() if not one.baseline] or list(parsed)
    return [*words, *(named if named != ["kd"] else ()), *temperatures]


def with_checked_objectives(config: SweepConfig) -> SweepConfig:
    """The config with each objective in the one way to write it, which names its runs. Raises BadInput: an objective
    that is unknown, named twice, cannot be trained on such batches or by Adam, or has no limit where a temperature is
    inf."""
    parsed = [objective for text in config.objectives for objective in objectives.parse_each(text)]
    names = tuple(map(str, parsed))
    require(len(set(names)) == len(names), "--objectives names one twice: give each once")
    for objective in parsed:
        if max(config.temperatures) == math.inf:
            objective.require_limit()
        reason = "Adam divides the size of its steps out again"
        sgd = config.optimizer != "adam" or not objective.for_sgd
        require(sgd, f"--objectives {objective} is for --optimizer sgd: {reason}")
        objectives.loss_of(objective.name, min(config.batch_size, 2))  # one is too few for some
    return dataclasses.replace(config, objectives=names)


def with_baselines(config: SweepConfig, dataset: Dataset) -> SweepConfig:
    """The config with the registry's baselines among its objectives, where `--baselines` says so; by default, where the
    dataset came with its teacher and something is to be compared with hard labels. A baseline that is named already is
    not named again."""
    compared = bool(config.objectives) and config.hard_labels and not config.own_rates
    default = compared and dataset.teacher is not None
    if not (default if config.baselines is None else config.baselines):
        return config
    named = {objectives.parse(text).name for text in config.objectives}
    missing = sorted(name for name, one in objectives.OBJECTIVES.items() if one.baseline and name not in named)
    return with_checked_objectives(dataclasses.replace(config, objectives=(*config.objectives, *missing)))
