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
from analysis.sweep.calls import Call, Found, listed, rival_of, tested
from analysis.sweep.config import PlanConfig
from analysis.sweep.groups import HARD, Group
from analysis.sweep.headline import headline_of, seeds_needed
from analysis.tables import estimate, fixed, number
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
    found = tested(every)
    together = [call for one in found for call in one.calls]
    needed = seeds_needed(every, len(together)) if together else math.nan
    headline = headline_of(subject, found, seeds, needed)
    if not every and results["objective"].ne("hard").any():
        headline = "Controls or baselines alone: a verdict is about other objectives."
    parts = [[part for part in (_found(one), _best(one), _choice(one)) if part] for one in found]
    lines = [f"{group.name}: {'; '.join(of_group)}." for group, of_group in zip(every, parts, strict=True) if of_group]
    if len(every) == 1:
        said = parts[0] if any(call.claimed for call in together) else parts[0][bool(together) :]  # the headline has it
        lines = [f"{part[0].upper()}{part[1:]}." for part in said]
    if not all(call.claimed for call in together) and needed > seeds:
        command = f"`python -m analysis.plan {shlex.quote(run)} --difference {PlanConfig.difference:g}`"
        lines = [*lines[:-1], " ".join([*lines[-1:], f"How many seeds would tell: {command}"])]
    columns = [column.dropna().to_numpy(float) for group in every for _, column in group.errors.items()]
    warnings = stats.cautions(seeds, [stats.interval(column) for column in columns if len(column)], test_images)
    few, notes = len(every) <= MOST_LINES, _baseline_notes(every, "holdout_errors" in results)
    if any("; not excluded" in line for line in lines):
        notes.append("Not excluded as the best T: 95 % for all temperatures at once, paired, on the test set.")
    if any(group.tuned for group in every):
        notes.append(
            "The verdict compares each setting, hard labels too, at the rate that the hold-out chooses for it."
        )
    return Verdict(headline, tuple(lines) * few, tuple(warnings), (*notes, *([] if few else lines)))


def _found(found: Found) -> str:
    """Where one group makes fewer errors than hard labels, where more, and by how much at most, which is chosen on the
    test set; then the same against the best baseline."""
    parts = _told(found.calls, "hard labels")
    return "; ".join(parts + _told(found.beyond, rival_of([found.group])))


def _told(calls: Sequence[Call], other: str) -> list[str]:
    parts = []
    for word in ("fewer", "more"):
        which = [call for call in calls if call.word == word]
        if which:
            most = max(which, key=lambda call: abs(call.difference.mean))
            size = estimate(most.difference, sign=True)
            at = f", most at T = {number(most.temperature)} (oracle)" if len(which) > 1 else ""
            every = other.startswith("every")
            hardest = f" from {most.rival}" if every and word == "fewer" else ""
            # More than the one that is hardest to beat: not more than every one.
            against = " or ".join(dict.fromkeys(call.rival for call in which)) if every and word == "more" else other
            parts.append(f"{word} errors than {_before(against, listed(which))}{at}: {size}{hardest}")
    if neither := [call for call in calls if not call.claimed]:
        parts.append(f"not told apart from {_before(other, listed(neither))}")
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
    guess = min(soft, key=soft.__getitem__)
    named = {_setting(t, group): mean for t, mean in means.items()}
    named |= {one.name: float(one.errors.mean()) for one in group.baselines if one.errors.notna().any()}
    best = min(named, key=named.__getitem__)
    text = f"fewest test errors (oracle): {best} ({fixed(named[best])})"
    if NONE in soft:
        return text
    if best != _setting(guess, group):
        text += f", of the temperatures T = {number(guess)} ({fixed(soft[guess])})"
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


def _baseline_notes(every: Sequence[Group], holdout: bool) -> list[str]:
    """How the best baseline was found, and tested, where there are others than hard labels."""
    if not any(group.baselines for group in every):
        return []
    tested = (
        "A temperature is compared with {} only where it makes fewer errors than hard labels, which is tested first."
    )
    if all(group.holdout.empty for group in every):
        why = "As some run of every setting failed, the hold-out chooses no best baseline"
        why = why if holdout else "Without a hold-out the best baseline is not chosen"
        would = "" if holdout else " (a hold-out would choose)"
        return [f"{why}, and a temperature has to beat every one of them{would}. {tested.format('them')}"]
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
