"""Mistakes in a user's data that no single array shows: a teacher that does not fit its labels, rows that are there
twice."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment

from kdjax import metrics
from kdjax.arrays import HostLogits
from kdjax.errors import name_rows

LOOKED_AT = 20_000
"""Rows from which calibration is guessed, evenly spaced; fewer of many classes."""
MOST_LOGITS = 2**25
"""Logits, at most, from which it is guessed."""
GAP, SHARPER = 0.1, 0.67
"""Logits look divided where confidence is lower than accuracy by more than the one, and the T that would calibrate them
is below the other."""
FIT = 0.15
"""Largest total variation between the predicted classes and the labels at which the former fit the latter."""
MOST_REPEATED = 0.01
"""Share of the test rows that may also be training rows: some are in most data, and are warned of."""
FEWEST = 20
"""A part of fewer rows may look shuffled by chance."""
LOST = 0.05
"""A teacher that is right on a smaller share of the rows, as one of many classes may be by chance, is refused up to
`DOUBTED`."""
REFUSED, DOUBTED = 2, 3
"""Standard deviations above chance: up to the first a teacher's data are refused, up to the second warned of. A part of
them is looked at where the teacher is worse than on the others by the second."""
FORGOTTEN = 10
"""Percentage points by which a teacher may be worse on training rows than on others, which are new to it."""
CATEGORIES, DISTINCT = 10, 0.25
"""Features of up to so many values each, and a smaller share of distinct rows, are categories."""
MOST_CLASSES = 1_000
"""Another order of the classes is looked for up to so many."""


class Mistake(NamedTuple):
    """What looks wrong, and what to do."""

    text: str
    certain: bool
    """Whether there is nothing to learn from such data, so that they are refused; else it is a warning."""


def of_teacher(logits: HostLogits, labels: Int[np.ndarray, "images"], part: str = "") -> list[Mistake]:
    """What looks wrong with a teacher's logits beside the labels: rows or classes in another order, labels counted from
    1, no better than chance, or divided by a temperature already. `part` says of which data: "training"."""
    predicted = logits.argmax(axis=1)
    return of_predictions(predicted, labels, logits.shape[1], part) or _of_calibration(logits, labels)


def of_predictions(
    predicted: Int[np.ndarray, "images"], labels: Int[np.ndarray, "images"], classes: int, part: str = ""
) -> list[Mistake]:
    """What looks wrong with the classes that a teacher predicts beside the labels, as in `of_teacher`."""
    return _of_order(predicted, labels, classes, np.arange(len(labels)), part)


def of_teacher_in_parts(
    logits: HostLogits, labels: Int[np.ndarray, "images"], parts: Mapping[str, Int[np.ndarray, "rows"]]
) -> list[Mistake]:
    """`of_teacher` of all rows; where these look well, of each part on which the teacher is worse than on the others:
    one part may be shuffled and the others not. Calibration is of all rows."""
    found = of_teacher(logits, labels)
    if any(mistake.certain for mistake in found):
        return found
    predicted, classes = logits.argmax(axis=1), logits.shape[1]
    right = predicted == labels
    worse = {part: rows for part, rows in parts.items() if len(rows) >= FEWEST and _is_worse(right, rows)}
    of_parts = [_of_order(predicted[rows], labels[rows], classes, rows, part) for part, rows in worse.items()]
    if "training" in worse and len(parts["training"]) < len(right) and not any(of_parts):
        rows = parts["training"]
        seen, unseen = (100 * float(np.mean(one)) for one in (right[rows], np.delete(right, rows)))
        if seen < unseen - FORGOTTEN:
            told = f"the teacher is right on {seen:.1f} % of the training rows and on {unseen:.1f} % of the others"
            of_parts.append([Mistake(f"{told}: are some of the former in another order than the labels?", False)])
    # Where a doubt of the whole is there already, that of a part says it once more.
    return [*found, *(one for of_part in of_parts for one in of_part if one.certain or not found)]


def of_pair(student: Int[np.ndarray, "rows"], teacher: Int[np.ndarray, "rows"], classes: int) -> list[Mistake]:
    """What looks wrong with the classes that a student and its teacher predict: rows or classes in another order."""
    agreed = float(np.mean(student == teacher))
    if not _is_at_chance(student, teacher, classes, DOUBTED) and not _other_order(student, teacher, classes, agreed):
        return []
    found = f"student and teacher predict the same class in {100 * agreed:.1f} % of {len(student):,} rows"
    return [Mistake(f"{found}: are the rows and the classes of both in one order?", False)]


def _of_order(predicted: np.ndarray, labels: np.ndarray, classes: int, rows: np.ndarray, part: str) -> list[Mistake]:
    """What looks wrong with the order of rows or classes; empty where nothing does."""
    right = float(np.mean(predicted == labels))
    about = f"the teacher is right on {100 * right:.1f} % of {len(labels):,} {part}{' ' * bool(part)}rows"
    differs = f"it differs from the label in {name_rows(np.sort(rows[predicted != labels]))}"
    if labels.min() == labels.max() or not _is_at_chance(predicted, labels, classes, DOUBTED):
        order = _other_order(predicted, labels, classes, right)  # "0", "1", "10", "2" leaves some in place
        return [Mistake(f"{about}: {order}; {differs}", True)] if order else []
    shares = [np.bincount(one, minlength=classes) / len(labels) for one in (predicted, labels)]
    for shift, word in ((1, "one more than"), (-1, "one less than")) if classes > 2 else ():
        agreed = float(np.mean(predicted - labels == shift))
        if agreed > max(0.5, 2 * right):
            text = f"{about}, and on {100 * agreed:.1f} % its class is {word} the label ({differs})"
            counted = f"labels and logits count classes from different numbers: {'add' if shift > 0 else 'subtract'} 1"
            return [Mistake(f"{text}: {counted} {'to' if shift > 0 else 'from'} the labels, or drop a logit", True)]
    if order := _other_order(predicted, labels, classes, right):
        return [Mistake(f"{about}: {order}; {differs}", True)]
    varied = np.sum(shares[0] > 0.01) > 1 or shares[0].max() < 0.5  # of many classes each is rare
    alike = varied and np.abs(shares[0] - shares[1]).sum() / 2 <= FIT
    if alike and (right < LOST or _is_at_chance(predicted, labels, classes, REFUSED)):
        found = f"{about}, no better than chance, and predicts each class as often as it is a label"
        remedy = (
            "its rows are in another order than the labels: write both in one loop over the data, without shuffling"
        )
        return [Mistake(f"{found} ({differs}): {remedy}", True)]
    return [Mistake(f"{about}: no better than chance; are its rows in the order of the labels?", False)]


def _is_worse(right: np.ndarray, rows: np.ndarray) -> bool:
    """Whether the teacher is right on fewer of these rows than chance makes likely, by its share of all others."""
    others = np.delete(right, rows)
    share = float(others.mean()) if len(others) else 1.0
    return float(right[rows].mean()) <= share - DOUBTED * math.sqrt(share * (1 - share) / len(rows))


def _is_at_chance(predicted: np.ndarray, labels: np.ndarray, classes: int, deviations: float) -> bool:
    """Whether the predictions agree with the labels no more than they might in another order: within so many standard
    deviations of the number of agreements over all orders (`Σ (δ_kl − b_k − a_l + Σ a b)² n a_k n b_l / (n − 1)`, a and
    b being the shares of the classes among predictions and labels)."""
    n = len(labels)
    a, b = (np.bincount(one, minlength=classes) / n for one in (predicted, labels))
    chance, agreed = float(a @ b), int(np.sum(predicted == labels))
    apart = chance - a - b  # on the diagonal
    squares = a @ b**2 + b @ a**2 - chance**2 + (a * b) @ ((1 + apart) ** 2 - apart**2)
    deviation = math.sqrt(max(float(squares), 0.0) * n * n / max(n - 1, 1))
    return agreed < n and agreed <= n * chance + deviations * deviation


def _other_order(predicted: np.ndarray, labels: np.ndarray, classes: int, right: float) -> str:
    """How the classes are to be read so that the teacher is right; empty where no order makes it much better."""
    if classes > MOST_CLASSES:
        return ""
    table = np.bincount(predicted * classes + labels, minlength=classes**2).reshape(classes, classes)
    own, theirs = linear_sum_assignment(-table)
    if table[own, theirs].sum() < max(0.5, right + 0.2) * len(labels) or len(labels) < 5 * classes:
        return ""
    if _is_at_chance(theirs[predicted], labels, classes, DOUBTED):  # it may be a frequent class that is never predicted
        return ""
    pairs = [
        f"{one} is label {other}" for one, other in zip(own, theirs, strict=True) if one != other and table[one].any()
    ]
    remedy = "put its columns in the order of the labels"
    return f"its classes are in another order (its class {', '.join(pairs[:3])}): {remedy}"


def _of_calibration(logits: HostLogits, labels: np.ndarray) -> list[Mistake]:
    right = float(np.mean(logits.argmax(axis=1) == labels))
    count = min(len(labels), LOOKED_AT, max(1, MOST_LOGITS // logits.shape[1]))
    rows = np.linspace(0, len(labels) - 1, count).astype(int)
    some, true = np.asarray(logits[rows], np.float64), labels[rows]
    confidence = metrics.confidence(some)
    if confidence >= right - GAP:
        return []
    fitted = metrics.calibrating_temperature(some, true, (-7, 3))
    if fitted >= SHARPER:
        return []
    found = f"the teacher is right on {100 * right:.1f} % and sure of {100 * confidence:.1f} % at T = 1"
    guess = "were its logits divided by a temperature already"
    if (some.argmax(axis=1) == true).all():  # the lower T, the lower NLL: none fits best
        guess += ", or its labels smoothed? Give logits that were not divided"
    else:
        times = f"{1 / fitted:.2g} times"
        guess += f"? T = {fitted:.2g} would calibrate them; give them undivided, about {times} as large, or read every "
        guess += f"T as {times} itself"
    return [Mistake(f"{found} (rows {rows[0]:,} to {rows[-1]:,}): {guess}", False)]


def of_classes(
    seen: Int[np.ndarray, "images"], asked: Int[np.ndarray, "asked"], rows: Int[np.ndarray, "asked"]
) -> list[Mistake]:
    """Labels that cannot be learnt: one class alone among the training labels `seen`, or classes that only the labels
    `asked`, of held-out and test rows, have; `rows` are the numbers of those in the user's data."""
    known = np.unique(seen)
    if len(known) == 1:
        return [Mistake(f"all training rows are of class {known[0]}: their labels tell no two classes apart", True)]
    unseen = ~np.isin(asked, known)
    if not unseen.any():
        return []
    classes = ", ".join(map(str, np.unique(asked[unseen])[:10]))
    at = name_rows(np.sort(rows[unseen]))
    return [Mistake(f"no training row is of class {classes}, as held-out or test rows are: {at}", False)]


def of_parts(
    seen: np.ndarray, asked: np.ndarray, rows: np.ndarray, names: tuple[str, str] = ("training", "test")
) -> list[Mistake]:
    """Rows of `asked` that are, byte for byte, in `seen` too; `rows` are the numbers of those of `asked` in the user's
    data."""
    if not len(asked):  # without a hold-out; then nothing has to be hashed
        return []
    repeated, count = np.flatnonzero(np.isin(_hashes(asked), _hashes(seen))), len(asked)
    if not len(repeated):
        return []
    one, other = names
    found = f"{len(repeated):,} of {count:,} {other} rows are {one} rows too: {name_rows(np.sort(rows[repeated]))}"
    many = len(repeated) > MOST_REPEATED * count and not _of_few_values(seen)
    learnt = "students would be tested on what they learnt"
    if "held-out" in names:
        learnt = "choices would be made on what students " + ("learnt" if one == "training" else "are tested on")
    learnt = f"; {learnt}" * many
    return [
        Mistake(f"{found}{learnt}: take each once, or keep like rows in one part (of a file, by a column groups)", many)
    ]


def _of_few_values(rows: np.ndarray) -> bool:
    """Whether these are features of a few categories each, and hardly a row is the only one of its kind: then like rows
    are no copies."""
    if rows.ndim != 2 or any(len(np.unique(column)) > CATEGORIES for column in rows.T):
        return False
    return len(np.unique(_hashes(rows))) < DISTINCT * len(rows)


def _hashes(images: np.ndarray) -> Any:
    return np.fromiter((hash(row.tobytes()) for row in images), np.int64, len(images))
