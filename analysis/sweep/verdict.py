"""What a sweep says, in a few sentences: does distillation help here, what is best, what would the hold-out choose?"""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import runs, stats
from analysis.sweep import groups as groups_
from analysis.sweep import plan
from analysis.sweep.groups import HARD, Group
from analysis.tables import count_of, estimate, fixed, number
from kdjax import metrics
from kdjax.targets import WORDS

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
    """What is said of one temperature of a group against hard labels."""

    temperature: float
    difference: stats.Difference
    claimed: bool

    @property
    def word(self) -> str:
        """Fewer or more errors; empty where no difference is claimed."""
        return ("fewer" if self.difference.mean < 0 else "more") if self.claimed else ""


def of_run(folder: Path, results: pd.DataFrame, config: Mapping[str, Any]) -> Verdict:
    """The verdict of a run directory, from its `results.csv` and `config.json`, with the warnings on its teacher."""
    identity, listed = config["identity"], config["details"].get("teachers", [])
    teachers, data = [float(one["test"]["errors"]) for one in listed], identity["data"]
    if len(teachers) > results["teacher"].nunique():  # an ensemble is one teacher, with errors of its own
        test = runs.load_arrays(folder / "test.npz", "teacher_logits", "labels")
        teachers = [float(metrics.errors(test["teacher_logits"], test["labels"]))]
    targets = identity.get("config", {}).get("targets", "teacher")
    subject = "Distillation" + (f" ({WORDS.get(targets, targets)})" if targets != "teacher" else "")
    said = of(results, subject, str(folder), data.get("test_images"))
    if teachers and "test_images" in data:
        warnings = _of_teachers(teachers, groups_.of(results), data["test_images"], data["num_classes"])
        said = said._replace(warnings=(*warnings, *said.warnings))
    return said


def of(
    results: pd.DataFrame, subject: str = "Distillation", run: str = "RUN", test_images: int | None = None
) -> Verdict:
    """The verdict of a sweep's runs; `run` is its name in the command that plans the next one."""
    every, seeds = groups_.of(results), results["seed"].nunique()
    differences = [group.differences() for group in every]
    flat = [difference for of_group in differences for difference in of_group.values()]
    claims = iter(stats.claimed(flat))
    calls = [[Call(t, less, next(claims)) for t, less in of_group.items()] for of_group in differences]
    together = [call for of_group in calls for call in of_group]
    needed = _seeds_needed(every, len(together)) if together else math.nan
    headline = _headline(subject, every, together, seeds, needed)
    if not every and results["objective"].ne("hard").any():
        headline = "Controls alone: a verdict is about other objectives."
    parts = [
        [part for part in (_found(of_group), _best(group, of_group), _choice(group, of_group)) if part]
        for group, of_group in zip(every, calls, strict=True)
    ]
    lines = [f"{group.name}: {'; '.join(of_group)}." for group, of_group in zip(every, parts, strict=True) if of_group]
    if len(every) == 1:
        said = parts[0] if any(call.claimed for call in together) else parts[0][bool(together) :]  # the headline has it
        lines = [f"{part[0].upper()}{part[1:]}." for part in said]
    if not all(call.claimed for call in together) and needed > seeds:
        command = f"python -m analysis.plan {shlex.quote(run)} --difference {plan.DIFFERENCE:g}"
        lines = [*lines[:-1], " ".join([*lines[-1:], f"How many seeds would tell: {command}"])]
    columns = [column.dropna().to_numpy(float) for group in every for _, column in group.errors.items()]
    warnings = stats.cautions(seeds, [stats.interval(column) for column in columns if len(column)], test_images)
    few, notes = len(every) <= MOST_LINES, []
    if any("; not excluded" in line for line in lines):
        notes.append("Not excluded as the best T: 95 % for all temperatures at once, paired, on the test set.")
    if "holdout_errors" in results and results["learning_rate"].nunique() > 1:
        notes.append(
            "The verdict compares each setting, hard labels too, at the rate that the hold-out chooses for it."
        )
    return Verdict(headline, tuple(lines) * few, tuple(warnings), (*notes, *([] if few else lines)))


def _headline(subject: str, every: Sequence[Group], calls: Sequence[Call], seeds: int, needed: float) -> str:
    what = subject[0].lower() + subject[1:]
    if not every:
        return "Hard labels alone: there is nothing to compare with them."
    if not any(HARD in group.errors for group in every):
        return f"Whether {what} helps is not known: there are no hard labels to compare with."
    if seeds == 1:
        return f"1 seed cannot tell whether {what} helps: give --seeds 3 or more."
    if not calls:
        return f"Whether {what} helps is not known: no setting has two seeds that finished, as they did on hard labels."
    fewer, more = ([call for call in calls if call.word == word] for word in ("fewer", "more"))
    noun = "temperature" if len(every) == 1 else "setting"
    if fewer and more:
        return f"{subject} beats hard labels {_at(fewer, calls, noun)}, and is worse {_at(more, calls, noun)}."
    if fewer:
        return f"{subject} helps {_at(fewer, calls, noun)}, against hard labels."
    if more:
        worst = all(call.difference.mean >= 0 for call in calls)
        return f"{subject} is worse {_at(more, calls, noun)}{': use hard labels' if worst else ' than hard labels'}."
    return _undecided(what, needed, seeds)


def _undecided(what: str, needed: float, seeds: int) -> str:
    """Where no difference is claimed: how many seeds would show one."""
    size = f"a difference of {plan.DIFFERENCE:g} errors"
    if needed <= seeds:
        return f"No difference from hard labels is seen, where {count_of(seeds, 'seed')} would show {size}."
    cannot = f"{count_of(seeds, 'seed')} cannot tell whether {what} helps"
    if math.isinf(needed):
        return f"{cannot}, nor would {plan.MOST_SEEDS:,}, for {size}."
    return f"{cannot}." if math.isnan(needed) else f"{cannot}: about {needed:,.0f} would, for {size}."


def _seeds_needed(every: Sequence[Group], tests: int) -> float:
    """With which a difference of `plan.DIFFERENCE` is claimed in four of five sweeps, by the largest spread of a group;
    inf where `plan.MOST_SEEDS` are too few, nan where no spread is known."""
    spread = max((spread for group in every if (spread := group.spread())), key=lambda one: one.runs, default=None)
    if spread is None:
        return math.nan
    return plan.seeds_for(lambda n: plan.power(plan.DIFFERENCE, spread, n, tests=tests)) or math.inf


def _at(which: Sequence[Call], calls: Sequence[Call], noun: str) -> str:
    """Where: `at T = 4`, `at all 7 temperatures`, `at 5 of 7 temperatures`."""
    if len(calls) == 1:
        return f"at T = {number(calls[0].temperature)}"
    return f"at all {len(calls)} {noun}s" if len(which) == len(calls) else f"at {len(which)} of {len(calls)} {noun}s"


def _found(calls: Sequence[Call]) -> str:
    """Where one group makes fewer errors than hard labels, where more, and by how much at most."""
    parts = []
    for word in ("fewer", "more"):
        which = [call for call in calls if call.word == word]
        if which:
            most = max(which, key=lambda call: abs(call.difference.mean))
            at, size = _listed(call.temperature for call in which), estimate(most.difference, sign=True)
            at += f", most at T = {number(most.temperature)}" if len(which) > 1 else ""
            parts.append(f"{word} errors than hard labels at {at}: {size}")
    neither = [call.temperature for call in calls if not call.claimed]
    if neither:
        parts.append(f"not told apart from hard labels at {_listed(neither)}")
    return "; ".join(parts)


def _best(group: Group, calls: Sequence[Call]) -> str:
    """The best guess, and what is not excluded as best among the temperatures."""
    means = group.means()
    soft = {t: mean for t, mean in means.items() if t != HARD}
    if not soft:
        return ""
    best, guess = min(means, key=means.__getitem__), min(soft, key=soft.__getitem__)
    text = f"best guess: {_setting(best)} ({fixed(means[best])} errors)"
    text += f", of the temperatures T = {number(guess)} ({fixed(soft[guess])})" if best == HARD else ""
    if calls and all(call.word == "more" for call in calls):
        return text
    possible = group.candidates()
    if len(possible) > 1:
        return f"{text}; not excluded as the best T: {', '.join(map(number, possible))}"
    return f"{text}; every other T is excluded as the best" if possible else text


def _choice(group: Group, calls: Sequence[Call]) -> str:
    """What the hold-out would choose, hard labels among the settings, and what that scores on the test set.

    The runs that the hold-out judges are those that are tested: where a run is good by chance, it is so on both. So the
    choice is no test of its own (of seven equal temperatures, it would differ from hard labels in up to 11 %, not 5 %,
    of simulated sweeps), and a difference is claimed as at any other temperature.
    """
    if group.holdout.empty:
        return ""
    chosen = float(group.holdout.idxmin())
    text = f"the hold-out would choose {_setting(chosen)}: {fixed(group.means()[chosen])} test errors"
    for call in calls:
        if call.temperature == chosen:
            text += f", {estimate(call.difference, sign=True)} from hard labels"
            text += "" if call.claimed else " (not told apart)"
    return text


def _setting(temperature: float) -> str:
    return "hard labels" if temperature == HARD else f"T = {number(temperature)}"


def _listed(temperatures: Iterable[float]) -> str:
    return "T = " + ", ".join(map(number, temperatures))


def _of_teachers(errors: Sequence[float], every: Sequence[Group], images: int, classes: int) -> list[str]:
    """A warning where the teacher knows nothing, or less than its students."""
    mean, chance = float(np.mean(errors)), 1 / classes
    guessing = images * (1 - chance) - 2 * math.sqrt(images * chance * (1 - chance))
    if mean >= guessing:
        right = f"right on {100 - 100 * mean / images:.1f} % of the test images"
        return [f"the teacher is {right}, as one that guesses among {classes} classes: there is little to learn of it."]
    students = [(group.means(), group.name) for group in every]
    hard = [
        (means[HARD], f"students of hard labels, {name.partition(', ')[0]}")
        for means, name in students
        if HARD in means
    ]
    soft = [(min(means.values()), f"its students, {name}") for means, name in students if means]
    least, who = min(hard or soft, default=(math.inf, ""))
    better = f"{fixed(mean)} test errors, and {who} {fixed(least)}"
    return [f"the teacher is worse than what it teaches: {better}."] * (mean > least)
