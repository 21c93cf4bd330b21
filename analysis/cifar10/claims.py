"""What a CIFAR-10 table says: whether distillation helps, the best T, and whether double softmax over-smooths."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis import measures, runs, stats, tuning
from analysis.cifar10.roles import Role, SweepRole
from analysis.cifar10.rows import TableRow, possible_best
from analysis.cifar10.run import Cifar10Results
from analysis.tables import count_of, estimate, number


def verdict(rows: list[TableRow], results: Cifar10Results) -> str:
    """Whether distilled networks are better than those of hard labels, in accuracy and NLL, and at which T."""
    distilled = [row for row in rows if row.role == Role.DISTILLED]

    def by_temperature(measure: str) -> dict[float, stats.Difference]:
        found = {row.temperature: row.differences.get(f"{results.split}_{measure}") for row in distilled}
        return {temperature: difference for temperature, difference in found.items() if difference}

    less = by_temperature("accuracy")
    if not less:
        return "Whether distillation helps is not known: there are no pairs with networks of hard labels."
    if max(difference.n for difference in less.values()) == 1:
        one = results.results["seed"].nunique() == 1
        why = "1 seed cannot tell" if one else "As runs failed, only 1 seed has both networks, which cannot tell"
        return f"{why} whether distillation helps: give --seeds 3 or more."
    by_test = results.split == "test"
    sentences = [_compared("Distilled small networks", less, "those of hard labels", by_test)]
    smoothed = {row.temperature: row.from_smoothing for row in distilled if row.from_smoothing}
    if smoothed:
        sentences.append(_compared("They", smoothed, "those of label smoothing", by_test))
    if nll := by_temperature("nll"):
        sentences.append(_compared_in_nll(nll, by_test))
    best = possible_best(results)
    if lost := _lost(results):
        sentences.append(f"Left out, where some run failed at every rate tried: {', '.join(lost)}.")
    oracle = " (oracle: by test accuracy)" * by_test
    if len(best) > 1:
        sentences.append(f"The best T may be {', '.join(map(number, best))}{oracle}.")
    elif best:
        sentences.append(f"The best T is {number(best[0])}{oracle}.")
    return " ".join(sentences)


def _lost(results: Cifar10Results) -> list[str]:
    """The settings of the table that were tuned and have no choice, in words."""
    kept = {one.name for one in results.choices}
    return sorted(
        {name for sweep in results.sweeps.get(SweepRole.TUNING, []) for name in tuning.settings(runs.read(sweep))}
        - kept
    )


def _compared(subject: str, less: Mapping[float, stats.Difference], others: str, by_test: bool) -> str:
    """Whether distilled networks (`subject`) are better or worse than others, in accuracy."""
    found, most = _told_apart(less, ("better", "worse"), "points of accuracy", 2, by_test)
    if found:
        return f"{subject} are {found} than {others}."
    pairs = count_of(max(difference.n for difference in less.values()), "pair")
    return f"{subject} are not told apart from {others} ({pairs}; {most})."


def _compared_in_nll(less: Mapping[float, stats.Difference], by_test: bool) -> str:
    found, most = _told_apart(less, ("higher", "lower"), "nats", 3, by_test)
    if found:
        return f"Their NLL is {found} than that of hard labels."
    return f"Their NLL is not told apart from that of hard labels ({most})."


def _told_apart(
    less: Mapping[float, stats.Difference], words: tuple[str, str], unit: str, decimals: int, by_test: bool
) -> tuple[str, str]:
    """In words: at how many temperatures differences are above zero, and below it, for all at once, and the largest of
    each (empty where none is told apart); and the largest of all. Which is largest, test images (`by_test`) chose: an
    oracle's choice."""

    def largest(which: Sequence[float], several: str) -> str:
        most = max(which, key=lambda temperature: abs(less[temperature].mean))
        at = f"{several * (len(which) > 1)}T = {number(most)}{' (oracle)' * (by_test and len(which) > 1)}"
        return f"{at}: {estimate(less[most], decimals, sign=True)} {unit}"

    calls, found = dict(zip(less, stats.claimed(list(less.values())), strict=True)), []
    for word, sign in zip(words, (1, -1), strict=True):
        which = [temperature for temperature, call in calls.items() if call and sign * less[temperature].mean > 0]
        if which:
            of_all = count_of(len(less), "temperature")
            found.append(f"{word} at {len(which)} of {of_all} ({largest(which, 'most at ')})")
    return ", and ".join(found), largest(list(less), "largest at ")


def double_softmax(results: Cifar10Results) -> str:
    """Whether double softmax over-smooths as it should: its targets are all but uniform, so that NLL and ECE are
    larger, and confidence falls short of accuracy."""
    bug, true = (
        rows[np.isclose(rows["temperature"], results.temperature, rtol=1e-8)]
        for rows in (runs.finished(results.of(role)) for role in (Role.DOUBLE_SOFTMAX, Role.DISTILLED))
    )
    bug, true = (rows.set_index("seed") for rows in (bug, true[true["teacher"].isin(bug["teacher"])]))
    found = {column: runs.paired(bug[column], true[column]) for column in results.columns}
    if None in found.values():
        return ""
    predicted = {column: less for column, less in found.items() if less and not column.endswith("_accuracy")}
    lines = []
    for (column, less), seen in zip(predicted.items(), stats.claimed(list(predicted.values())), strict=True):
        measure, name = measures.of_column("cifar10", column), column.split("_", 1)[1]
        verdict = "no verdict at n = 1" if less.n == 1 else "no difference seen"
        if seen:
            verdict = "as predicted" if (less.mean < 0) == (name == "overconfidence") else "against the prediction"
        text = estimate(less, measure.decimals, sign=True)
        lines.append(f"* {measure.heading}, double softmax minus distilled: {text}: {verdict}.")
    uniform = math.log(results.identity["data"]["num_classes"])
    shares = [f"{100 * rows['soft_target_entropy'].mean() / uniform:.2f} %" for rows in (bug, true)]
    lines.append(
        f"* Entropy of its targets: {shares[0]} of that of the uniform distribution; of distilled ones: {shares[1]} "
        "(of the training images as they are)."
    )
    return "## Double softmax: over-smoothing is predicted\n\n" + "\n".join(lines)
