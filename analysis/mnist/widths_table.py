"""The part `widths` of an MNIST table: its section of the summary, and `widths.csv`."""

import pandas as pd

from analysis.mnist import claims, widths
from analysis.mnist.run import MnistResults
from analysis.mnist.widths import AtWidth, Found
from analysis.tables import Table, columns_of, estimate, p_value
from analysis.tuning import Choice

NOTE = (
    "Rates: chosen for hard labels and for each T on held-out training images, from other seeds, under a teacher that "
    "never saw these images; the test images play no part. Not excluded: the smallest and the largest of the rates "
    "tried that may be best by these seeds, under this one teacher (95 % for each line, paired). Test errors, with "
    "95 % intervals: fresh seeds, all training images. Told apart from hard labels: p (Holm, over the temperatures) is "
    "0.05 at most, or the intervals of all temperatures lie on one side of zero."
)


def section(results: MnistResults) -> str:
    """A table of each width and schedule, then what they say; empty where the part was not made."""
    found = widths.read(results)
    if not found:
        return ""
    notes = [NOTE, *(sentence for one in found for sentence in claims.verdicts(one, results))]
    notes += claims.claims([one.tuned for one in found if one.tuned], results)
    text = "\n".join(f"* {note}" for note in notes)
    return "\n\n".join(["## Errors against temperature", *(_table(one, results) for one in found), text])


def frame(results: MnistResults) -> pd.DataFrame:
    """For `widths.csv`: a line for each width, schedule and setting; empty where the part was not made."""
    lines = []
    for one in widths.read(results):
        pairs = [("", _found(one.tuned)), ("one_rate_", _found(one.one_rate))]
        for choice in one.choices:
            line = {"width": one.width, "epochs": one.epochs, "setting": choice.name, "rate": choice.learning_rate}
            line |= {"rate_low": min(choice.possible), "rate_high": max(choice.possible)}
            line |= {"at_edge": choice.at_edge, "one_rate": results.learning_rate}
            for prefix, of_curve in pairs:
                if cell := of_curve.get(choice.name):
                    line |= {**columns_of(f"{prefix}errors", cell.mean), f"{prefix}n": cell.mean.n}
                    if cell.difference:
                        line |= columns_of(f"{prefix}difference", cell.difference)
                        line |= {f"{prefix}p_holm": cell.p_holm, f"{prefix}possible": cell.possible}
            lines.append(line)
    return pd.DataFrame(lines)


def _table(one: AtWidth, results: MnistResults) -> str:
    header = ["", "tuned rate", "rates not excluded", "test errors", "n", "from hard labels", "p (Holm)", "best?"]
    header += [f"test errors at rate {results.learning_rate:g}", "n", "best?"]
    tuned, at_one = _found(one.tuned), _found(one.one_rate)
    cells = []
    for choice in one.choices:
        rate = f"{choice.learning_rate:g}" + " (at the edge)" * choice.at_edge
        own, other = tuned.get(choice.name), at_one.get(choice.name)
        less = own.difference if own else None
        compared = [estimate(less, sign=True), p_value(own.p_holm)] if own and less else [""] * 2
        errors = [""] * 2 if one.under_way else _errors(own)
        cell = [choice.name, rate, _range(choice), *errors, *compared, _best(own)]
        cells.append([*cell, *_errors(other), _best(other)])
    return f"### {one.name}\n\n" + Table(header, cells, left=1).markdown()


def _range(choice: Choice) -> str:
    return " to ".join(dict.fromkeys(f"{rate:g}" for rate in (min(choice.possible), max(choice.possible))))


def _found(curve: widths.WidthCurve | None) -> dict[str, Found]:
    return curve.found() if curve else {}


def _errors(found: Found | None) -> list[str]:
    return [estimate(found.mean), str(found.mean.n)] if found else ["failed", ""]


def _best(found: Found | None) -> str:
    return "possible" if found and found.possible else ""
