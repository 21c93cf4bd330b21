"""The first sentence of a sweep's verdict, and how many seeds would tell where it claims nothing."""

import math
from collections.abc import Sequence

from analysis.sweep import power
from analysis.sweep.calls import Call, Found, listed, rival_of
from analysis.sweep.config import PlanConfig
from analysis.sweep.groups import HARD, Group
from analysis.tables import count_of


def headline_of(subject: str, found: Sequence[Found], seeds: int, needed: float) -> str:
    """Whether distillation (`subject`) helps, of so many seeds; `needed`: `seeds_needed`."""
    what, calls = subject[0].lower() + subject[1:], [call for one in found for call in one.calls]
    if not found:
        return "Hard labels alone: there is nothing to compare with them."
    if not any(HARD in one.group.errors for one in found):
        return f"Whether {what} helps is not known: there are no hard labels to compare with."
    if seeds == 1:
        return f"1 seed cannot tell whether {what} helps: give --seeds 3 or more."
    if not calls:
        return f"Whether {what} helps is not known: no setting has two seeds that finished, as they did on hard labels."
    fewer, more = ([call for call in calls if call.word == word] for word in ("fewer", "more"))
    noun = "temperature" if len(found) == 1 else "setting"
    if fewer and more:
        return f"{subject} beats hard labels{_at(fewer, calls, noun)}, and is worse{_at(more, calls, noun)}."
    if fewer:
        return f"{subject} helps{_at(fewer, calls, noun)}, against hard labels{_beyond(found)}."
    if more:
        worst = all(call.difference.mean >= 0 for call in calls)
        return f"{subject} is worse{_at(more, calls, noun)}{': use hard labels' if worst else ' than hard labels'}."
    return _undecided(what, needed, seeds)


def _beyond(found: Sequence[Found]) -> str:
    """The end of a headline that says that distillation helps: what is said against the best baseline."""
    helping = [one for one in found if any(call.word == "fewer" for call in one.calls)]
    if not any(one.group.baselines for one in helping):
        return ""
    left = dict.fromkeys(name for one in helping for name in one.group.uncompared)
    but = f"; not compared with {' and '.join(left)}, of which a run failed or is missing" if left else ""
    if not any(one.group.rivals for one in helping):
        return f", the best baseline{' of those compared' * bool(left)}{but}"
    return _against_rivals(helping) + but


def _against_rivals(helping: Sequence[Found]) -> str:
    """How what helps does against the best baseline; empty where nothing of it could be compared."""
    # Where hard labels are the best baseline of a width, what beats them beats the best.
    beyond = [
        one.beyond if one.group.rivals else [call for call in one.calls if call.word == "fewer"] for one in helping
    ]
    words = [call.word for calls in beyond for call in calls]
    fewer, more, rival = words.count("fewer"), words.count("more"), rival_of([one.group for one in helping])
    if not words:
        return ""
    if fewer == len(words):
        return f" and against {rival}"
    if fewer:
        return f"; against {rival}, at {fewer}"
    if more:
        beating = "some baseline" if rival.startswith("every") else rival
        return f", but makes more errors than {beating}, at {more} of these"
    return f", but is not told apart from {rival}" if helping[0].group.holdout.size else f"; against {rival}, at none"


def _undecided(what: str, needed: float, seeds: int) -> str:
    """Where no difference is claimed: how many seeds would show one."""
    size = f"a difference of {PlanConfig.difference:g} errors"
    if needed <= seeds:
        return f"No difference from hard labels is seen, where {count_of(seeds, 'seed')} would show {size}."
    cannot = f"{count_of(seeds, 'seed')} cannot tell whether {what} helps"
    if math.isinf(needed):
        return f"{cannot}, nor would {power.MOST_SEEDS:,}, for {size}."
    return f"{cannot}." if math.isnan(needed) else f"{cannot}: about {needed:,.0f} would, for {size}."


def seeds_needed(every: Sequence[Group], tests: int) -> float:
    """With which the default `--difference` of `analysis.plan` is claimed in four of five sweeps, by the largest spread
    of a group; inf where `power.MOST_SEEDS` are too few, nan where no spread is known."""
    spread = max((spread for group in every if (spread := group.spread())), key=lambda one: one.runs, default=None)
    if spread is None:
        return math.nan
    return power.seeds_for(lambda n: power.power(PlanConfig.difference, spread, n, tests=tests)) or math.inf


def _at(which: Sequence[Call], calls: Sequence[Call], noun: str) -> str:
    """Where: `at T = 4`, `at all 7 temperatures`, `at 5 of 7 temperatures`."""
    if len(calls) == 1:
        return listed(calls)
    return f" at all {len(calls)} {noun}s" if len(which) == len(calls) else f" at {len(which)} of {len(calls)} {noun}s"
