"""What a sweep says, in a few sentences: does distillation help here, what is best, what would the hold-out choose?"""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis import stats
from analysis.runs import NONE
from analysis.sweep import groups as groups_
from analysis.sweep import plan
from analysis.sweep.config import PlanConfig
from analysis.sweep.groups import HARD, Group
from analysis.tables import count_of, estimate, fixed, number
from kdjax.targets import WORDS

FAR, UNTRAINED = 5, 0.1
"""Students that make so many times their teacher's errors, and err on such a share of the test images, have learnt too
little for a verdict."""
MOST_LINES = 4
"""Groups that have a line above the table; more are told below it."""


class Verdict(NamedTuple):
    """What stands above a sweep's table."""

    headline: str
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    """For below the table: how it was found, and the sentences where they are too many to stand above it."""

    def markdown(self) -> str:
        """The headline in bold, the sentences below it, a paragraph a warning."""
        warnings = [f"Warning: {warning}" for warning in self.warnings]
        return "\n\n".join([f"**{self.headline}**", *filter(None, [" ".join(self.sentences)]), *warnings])


class Call(NamedTuple):
    """What is said of one temperature of a group against hard labels, or against the best baseline."""

    temperature: float
    difference: stats.Difference
    claimed: bool
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


def of_run(folder: Path, results: pd.DataFrame, config: Mapping[str, Any]) -> Verdict:
    """The verdict of a run directory, from its `results.csv` and `config.json`, with the warnings on its teacher."""
    identity, teachers = config["identity"], config["details"].get("teachers")
    data = identity["data"]
    targets = identity.get("config", {}).get("targets", "teacher")
    subject = "Distillation" + (f" ({WORDS.get(targets, targets)})" if targets != "teacher" else "")
    said = of(results, subject, str(folder), data.get("test_images"))
    if teachers and "test_images" in data:
        errors = float(teachers[0]["test"]["errors"])  # members of an ensemble come after it
        warnings = _of_teacher(errors, groups_.of(results), data["test_images"], data["num_classes"])
        said = said._replace(warnings=(*warnings, *said.warnings))
    return said


def of(
    results: pd.DataFrame, subject: str = "Distillation", run: str = "RUN", test_images: int | None = None
) -> Verdict:
    """The verdict of a sweep's runs; `run` is its name in the command that plans the next one."""
    every, seeds = groups_.of(results), results["seed"].nunique()
    found = _tested(every)
    together = [call for one in found for call in one.calls]
    needed = _seeds_needed(every, len(together)) if together else math.nan
    headline = _headline(subject, found, seeds, needed)
    if not every and results["objective"].ne("hard").any():
        headline = "Controls or baselines alone: a verdict is about other objectives."
    parts = [[part for part in (_found(one), _best(one), _choice(one)) if part] for one in found]
    lines = [f"{group.name}: {'; '.join(of_group)}." for group, of_group in zip(every, parts, strict=True) if of_group]
    if len(every) == 1:
        said = parts[0] if any(call.claimed for call in together) else parts[0][bool(together) :]  # the headline has it
        lines = [f"{part[0].upper()}{part[1:]}." for part in said]
    if not all(call.claimed for call in together) and needed > seeds:
        command = f"python -m analysis.plan {shlex.quote(run)} --difference {PlanConfig.difference:g}"
        lines = [*lines[:-1], " ".join([*lines[-1:], f"How many seeds would tell: {command}"])]
    columns = [column.dropna().to_numpy(float) for group in every for _, column in group.errors.items()]
    warnings = stats.cautions(seeds, [stats.interval(column) for column in columns if len(column)], test_images)
    few, notes = len(every) <= MOST_LINES, _baseline_notes(every)
    if any("; not excluded" in line for line in lines):
        notes.append("Not excluded as the best T: 95 % for all temperatures at once, paired, on the test set.")
    if "holdout_errors" in results and results["learning_rate"].nunique() > 1:
        notes.append(
            "The verdict compares each setting, hard labels too, at the rate that the hold-out chooses for it."
        )
    return Verdict(headline, tuple(lines) * few, tuple(warnings), (*notes, *([] if few else lines)))


def _tested(every: Sequence[Group]) -> list[Found]:
    """One family of tests for all that a verdict claims: at each temperature the difference from hard labels, then, if
    that is claimed and errors are fewer, the one from the best baseline (`stats.claimed_in_turn`)."""
    differences, rivals = [group.differences() for group in every], [group.from_rivals() for group in every]
    chains = [
        [less, rival[t][1]] if less.mean < 0 and t in rival else [less]
        for of_group, rival in zip(differences, rivals, strict=True)
        for t, less in of_group.items()
    ]
    counts, found = iter(stats.claimed_in_turn(chains)), []
    for group, of_group, rival in zip(every, differences, rivals, strict=True):
        claims = {t: next(counts) for t in of_group}
        calls = [Call(t, less, claims[t] > 0) for t, less in of_group.items()]
        better = [call.temperature for call in calls if call.word == "fewer" and call.temperature in rival]
        found.append(Found(group, calls, [Call(t, rival[t][1], claims[t] > 1, rival[t][0]) for t in better]))
    return found


def _headline(subject: str, found: Sequence[Found], seeds: int, needed: float) -> str:
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
    fewer, more, rival = words.count("fewer"), words.count("more"), _rival([one.group for one in helping])
    if not words:
        return ""
    if fewer == len(words):
        return f" and against {rival}"
    if fewer:
        return f"; against {rival}, at {fewer}"
    if more:
        return f", but makes more errors than {rival}, at {more} of these"
    return f", but is not told apart from {rival}" if helping[0].group.holdout.size else f"; against {rival}, at none"


def _rival(every: Sequence[Group]) -> str:
    """The best baseline in words."""
    if any(group.holdout.empty for group in every):
        return "every other baseline" if any(group.uncompared for group in every) else "every baseline"
    names = {rival.name for group in every for rival in group.rivals}
    same = len(names) == 1 and all(group.rivals for group in every)
    return f"{names.pop()}, the best baseline" if same else "the best baseline of each width"


def _undecided(what: str, needed: float, seeds: int) -> str:
    """Where no difference is claimed: how many seeds would show one."""
    size = f"a difference of {PlanConfig.difference:g} errors"
    if needed <= seeds:
        return f"No difference from hard labels is seen, where {count_of(seeds, 'seed')} would show {size}."
    cannot = f"{count_of(seeds, 'seed')} cannot tell whether {what} helps"
    if math.isinf(needed):
        return f"{cannot}, nor would {plan.MOST_SEEDS:,}, for {size}."
    return f"{cannot}." if math.isnan(needed) else f"{cannot}: about {needed:,.0f} would, for {size}."


def _seeds_needed(every: Sequence[Group], tests: int) -> float:
    """With which the default `--difference` of `analysis.plan` is claimed in four of five sweeps, by the largest spread
    of a group; inf where `plan.MOST_SEEDS` are too few, nan where no spread is known."""
    spread = max((spread for group in every if (spread := group.spread())), key=lambda one: one.runs, default=None)
    if spread is None:
        return math.nan
    return plan.seeds_for(lambda n: plan.power(PlanConfig.difference, spread, n, tests=tests)) or math.inf


def _at(which: Sequence[Call], calls: Sequence[Call], noun: str) -> str:
    """Where: `at T = 4`, `at all 7 temperatures`, `at 5 of 7 temperatures`."""
    if len(calls) == 1:
        return _listed(calls)
    return f" at all {len(calls)} {noun}s" if len(which) == len(calls) else f" at {len(which)} of {len(calls)} {noun}s"


def _found(found: Found) -> str:
    """Where one group makes fewer errors than hard labels, where more, and by how much at most; then the same against
    the best baseline."""
    parts = _told(found.calls, "hard labels")
    return "; ".join(parts + _told(found.beyond, _rival([found.group])))


def _told(calls: Sequence[Call], other: str) -> list[str]:
    parts = []
    for word in ("fewer", "more"):
        which = [call for call in calls if call.word == word]
        if which:
            most = max(which, key=lambda call: abs(call.difference.mean))
            size = estimate(most.difference, sign=True)
            at = f", most at T = {number(most.temperature)}" if len(which) > 1 else ""
            hardest = f" from {most.rival}" if other.startswith("every") else ""
            parts.append(f"{word} errors than {_before(other, _listed(which))}{at}: {size}{hardest}")
    if neither := [call for call in calls if not call.claimed]:
        parts.append(f"not told apart from {_before(other, _listed(neither))}")
    return parts


def _before(name: str, at: str) -> str:
    """A name and where: the comma of an apposition is closed."""
    return f"{name}{',' * bool(at and ',' in name)}{at}"


def _best(found: Found) -> str:
    """The setting of the fewest test errors, and what is not excluded as best among the temperatures."""
    (group, calls, _), means = found, found.group.means()
    soft = {t: mean for t, mean in means.items() if t != HARD}
    if not soft:
        return ""
    best, guess = min(means, key=means.__getitem__), min(soft, key=soft.__getitem__)
    text = f"fewest test errors (oracle): {_setting(best, group)} ({fixed(means[best])})"
    if NONE in soft:
        return text
    text += f", of the temperatures T = {number(guess)} ({fixed(soft[guess])})" if best == HARD else ""
    if calls and all(call.word == "more" for call in calls):
        return text
    possible, failed = group.candidates(), [t for t in group.temperatures if group.errors[t].isna().any()]
    if possible == [guess] and not failed:
        return f"{text}; every other T is excluded as the best"
    untested = f" (not tested, as a run failed or is missing: {', '.join(map(number, failed))})" if failed else ""
    return f"{text}; not excluded as the best T: {', '.join(map(number, possible))}{untested}" if possible else text


def _choice(found: Found) -> str:
    """What the hold-out would choose, hard labels and baselines among the settings, and its score on the test set.

    The runs that the hold-out judges are those that are tested: where a run is good by chance, it is so on both. So the
    choice is no test of its own (of seven equal temperatures, it would differ from hard labels in up to 11 %, not 5 %,
    of simulated sweeps), and a difference is claimed as at any other temperature.
    """
    group = found.group
    if group.holdout.empty:
        return ""
    chosen, least = float(group.holdout.idxmin()), float(group.holdout.min())
    for rival in group.rivals:
        if rival.holdout < least:
            return f"the hold-out would choose {rival.name}: {fixed(float(rival.errors.mean()))} test errors"
    text = f"the hold-out would choose {_setting(chosen, group)}: {fixed(group.means()[chosen])} test errors"
    for call in found.calls:
        if call.temperature == chosen:
            text += f", {estimate(call.difference, sign=True)} from hard labels"
            text += "" if call.claimed else " (not told apart)"
    return text


def _setting(temperature: float, group: Group) -> str:
    named = {HARD: "hard labels", NONE: group.objective}
    return named.get(temperature, f"T = {number(temperature)}")


def _listed(calls: Sequence[Call]) -> str:
    """` at T = 2, 4`; empty where the objective has no temperature."""
    temperatures = [number(call.temperature) for call in calls if call.temperature != NONE]
    return f" at T = {', '.join(temperatures)}" if temperatures else ""


def _baseline_notes(every: Sequence[Group]) -> list[str]:
    """How the best baseline was found, and tested, where there are others than hard labels."""
    if not any(group.baselines for group in every):
        return []
    tested = (
        "A temperature is compared with {} only where it makes fewer errors than hard labels, which is tested first."
    )
    if all(group.holdout.empty for group in every):
        chosen = "Without a hold-out the best baseline is not chosen, and a temperature has to beat every one of them"
        return [f"{chosen} (a hold-out would choose). {tested.format('them')}"]
    best = dict.fromkeys(rival.name for group in every for rival in group.rivals)
    least = f"The best baseline is chosen by mean hold-out errors: {' or '.join(best) or 'hard labels'}"
    return [f"{least}. That is no test of it. {tested.format('it')}"]


def _of_teacher(errors: float, every: Sequence[Group], images: int, classes: int) -> list[str]:
    """A warning where the teacher knows nothing, or less than its students, or these have not learnt what it knows."""
    chance = 1 / classes
    guessing = images * (1 - chance) - 2 * math.sqrt(images * chance * (1 - chance))
    if errors >= guessing > 0:
        right = f"right on {100 - 100 * errors / images:.1f} % of the test images"
        return [f"the teacher is {right}, as one that guesses among {classes} classes: there is little to learn of it."]
    students = [(group.means(), group.name) for group in every if group.means()]
    best = min((min(means.values()) for means, _ in students), default=errors)
    if best > max(FAR * errors, UNTRAINED * images):
        return [
            f"the best students make {fixed(best)} test errors, and the teacher {fixed(errors)}: train for more epochs."
        ]
    hard = [
        (means[HARD], f"students of hard labels, {name.partition(', ')[0]}")
        for means, name in students
        if HARD in means
    ]
    soft = [(min(means.values()), f"its students, {name}") for means, name in students]
    least, who = min(hard or soft, default=(math.inf, ""))
    better = f"{fixed(errors)} test errors, and {who} {fixed(least)}"
    return [f"the teacher is no better than what it teaches, in the mean: {better}."] * (errors > least)
