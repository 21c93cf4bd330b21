"""The sweeps behind the CIFAR-10 table: each row's students, and those on which rates and soft weights are chosen."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.cifar10.roles import SweepRole
from experiments.cifar10.options import OBJECTIVES, TableOptions
from experiments.member import TUNING_SEED, Member
from kdjax.config import SweepConfig
from kdjax.errors import require

if TYPE_CHECKING:
    from analysis.tuning import Choice


def members(config: TableOptions) -> list[Member]:
    """The sweeps behind the table: the teacher's students, with them controls that are objectives; other T; other
    controls; other lengths. Where rates are tuned, the sweeps on which they are chosen, alone (`tuned_members`)."""
    if config.tuning_rates:
        tuning = tuning_members(config)
        if config.is_tuned:
            return tuning
        return tuned_members(config, [choice for one in tuning for choice in first_choices(one.config)])
    first = config.sweep(objectives=config.objectives())
    sweeps = [Member(SweepRole.TEACHER, first)]
    if others := tuple(value for value in config.temperatures if value != config.temperature):
        sweeps.append(Member(SweepRole.TEMPERATURES, config.sweep(hard_labels=False, temperatures=others)))
    everywhere = config.all_temperatures()
    for number in config.further_teachers():
        sweeps.append(Member(SweepRole.TEMPERATURES, config.sweep(number, hard_labels=False, temperatures=everywhere)))
    for kind in config.controls:
        if kind not in OBJECTIVES:
            sweeps.append(Member(SweepRole(kind), config.sweep(hard_labels=False, targets=kind)))
    sweeps += [Member(SweepRole.LENGTHS, config.sweep(epochs=length)) for length in config.lengths]
    if config.stability and config.schedule == "constant":  # then the table's own students serve
        sweeps[0] = Member(SweepRole.TEACHER, dataclasses.replace(first, monitor_every=1))
        sweeps.append(Member(SweepRole.STABILITY, sweeps[0].config))
    elif config.stability:
        steady: dict[str, Any] = {"schedule": "constant", "monitor_every": 1}
        sweeps.append(Member(SweepRole.STABILITY, dataclasses.replace(first, **steady)))
    return sweeps


def tuning_members(config: TableOptions) -> list[Member]:
    """The sweeps on which rates and soft weights are chosen."""
    tried: dict[str, Any] = {"seeds": config.tuning_seeds, "first_seed": TUNING_SEED}
    tried |= {"learning_rates": config.tuning_rates, "soft_weights": config.tuning_weights or (config.soft_weight,)}
    named = tuple(name for name in config.objectives() if name != "double_softmax")  # tuned at one T
    everywhere = config.all_temperatures()
    sweeps = [Member(SweepRole.TUNING, config.sweep(temperatures=everywhere, objectives=named, **tried))]
    if "double_softmax" in config.controls:
        bug: dict[str, Any] = {"hard_labels": False, "objectives": ("double_softmax",)}
        sweeps.append(Member(SweepRole.TUNING, config.sweep(**bug, **tried)))
    return sweeps


def tuned_members(config: TableOptions, choices: Sequence["Choice"]) -> list[Member]:
    """The sweeps behind a table whose rates were tuned, each setting with what was chosen for it."""

    def own(role: SweepRole, chosen: Sequence["Choice"], by: int = 0, **changes: Any) -> list[Member]:
        """Students of hard labels, if they are among the choices, and of the one other objective; none without."""
        if not chosen:
            return []
        soft = [one for one in chosen if one.objective != "hard"]
        wanted: dict[str, Any] = {"own_rates": True, "hard_labels": len(soft) < len(chosen)}
        if soft:
            temperatures = [config.temperature if math.isnan(one.temperature) else one.temperature for one in soft]
            wanted |= {"temperatures": tuple(temperatures), "soft_weights": (soft[0].soft_weight,)}
        wanted |= {"objectives": tuple(dict.fromkeys(one.objective for one in soft))}
        rates = tuple(one.learning_rate for one in chosen)
        return [Member(role, config.sweep(by, learning_rates=rates, **{**wanted, **changes}))]

    require(choices, "every run failed at every one of --tuning-rates: give smaller ones")
    hard, kd = ([one for one in choices if one.objective == name] for name in ("hard", "kd"))
    sweeps = own(SweepRole.TEACHER, [*hard, *kd])
    for objective in config.objectives()[1:]:
        sweeps += own(SweepRole.TEACHER, [one for one in choices if one.objective == objective])
    for number in config.further_teachers():
        sweeps += own(SweepRole.TEMPERATURES, kd, number)
    both = [*hard, *(one for one in kd if math.isclose(one.temperature, config.temperature, rel_tol=1e-8))]
    for length in config.lengths:
        sweeps += own(SweepRole.LENGTHS, both, epochs=length)
    return sweeps


def first_choices(sweep: SweepConfig) -> list["Choice"]:
    """Of each setting of a tuning sweep, the first rate and soft weight that it tries."""
    from analysis.tuning import Choice
    from kdjax.grids import grid

    weights = (0.0, sweep.soft_weights[0])  # that of hard labels, and the first of the others
    runs = (run for group in grid(sweep, sweep.learning_rates[0]) for run in group if run.soft_weight in weights)
    return [Choice(run.objective, run.temperature, run.learning_rate, soft_weight=run.soft_weight) for run in runs]
