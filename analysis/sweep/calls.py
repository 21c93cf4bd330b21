"""What is claimed of each temperature of a sweep, against hard labels and against the best baseline."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis import stats
from analysis.runs import NONE, SETTING
from analysis.sweep.groups import Group, of
from analysis.tables import number


class Call(NamedTuple):
    """What is said of one temperature of a group against hard labels, or against the best baseline."""

    temperature: float
    difference: stats.Difference
    claimed: bool
    p: float
    """Adjusted for all that the verdict tests."""
    rival: str = ""
    """The baseline, where it is not hard labels."""

    @property
    def word(self) -> str:
        """Fewer or more errors; empty where no difference is claimed."""
        return ("fewer" if self.difference.mean < 0 else "more") if self.claimed else ""


class Found(NamedTuple):
    """What is said of one group."""

    group: Group
    calls: list[Call]
    """Against hard labels."""
    beyond: list[Call]
    """Against the best baseline, of the temperatures at which fewer errors than with hard labels are claimed."""


def tested(every: Sequence[Group]) -> list[Found]:
    """One family of tests for all that a verdict claims: at each temperature the difference from hard labels, then, if
    that is claimed and errors are fewer, the one from the best baseline (`stats.claimed_in_turn`)."""
    differences, rivals = [group.differences() for group in every], [group.from_rivals() for group in every]
    chains = [
        [less, rival[t][1]] if less.mean < 0 and t in rival else [less]
        for of_group, rival in zip(differences, rivals, strict=True)
        for t, less in of_group.items()
    ]
    counts, found = zip(stats.claimed_in_turn(chains), stats.adjusted_in_turn(chains), strict=True), []
    for group, of_group, rival in zip(every, differences, rivals, strict=True):
        claims = {t: next(counts) for t in of_group}
        calls = [Call(t, less, claims[t][0] > 0, claims[t][1][0]) for t, less in of_group.items()]
        better = [call.temperature for call in calls if call.word == "fewer" and call.temperature in rival]
        beyond = [Call(t, rival[t][1], claims[t][0] > 1, claims[t][1][1], rival[t][0]) for t in better]
        found.append(Found(group, calls, beyond))
    return found


def by_setting(results: pd.DataFrame) -> dict[tuple[Any, ...], Call]:
    """What the verdict says of each setting against hard labels, by `runs.SETTING`, where an objective without a
    temperature has `NONE`. Empty where settings have rates of their own, or there are several teachers: then the
    verdict compares other runs."""
    rates, said = results["learning_rate"].unique(), dict[tuple[Any, ...], Call]()
    if results["teacher"].nunique() > 1:
        return said
    for group, calls, _ in tested(of(results)):
        if "learning_rate" in group.setting or len(rates) == 1:
            setting = {"learning_rate": rates[0], **group.setting}
            said |= {tuple({**setting, "temperature": one.temperature}[name] for name in SETTING): one for one in calls}
    return said


def rival_of(every: Sequence[Group]) -> str:
    """The best baseline in words."""
    if any(group.holdout.empty for group in every):
        return "every other baseline" if any(group.uncompared for group in every) else "every baseline"
    names = {rival.name for group in every for rival in group.rivals}
    same = len(names) == 1 and all(group.rivals for group in every)
    return f"{names.pop()}, the best baseline" if same else "the best baseline of each width"


def listed(calls: Sequence[Call]) -> str:
    """` at T = 2, 4`; empty where the objective has no temperature."""
    temperatures = [number(call.temperature) for call in calls if call.temperature != NONE]
    return f" at T = {', '.join(temperatures)}" if temperatures else ""
