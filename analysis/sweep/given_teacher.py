"""What a summary says of a teacher that came with the data: what its logits alone tell."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.tables import Table, fixed, number

KINDS = {
    "logits": "logits",
    "logprobs": "log-probabilities",
    "top-k logits": "top-k logits",
    "top-k logprobs": "top-k log-probabilities",
}
"""As `GivenTeacher` has them, in words."""
MOST_NLL = 1e6
"""Nats: above, some label has no probability at all."""


def sentences(teachers: Sequence[Mapping[str, Any]], test_images: int) -> str:
    """The teacher's measures on the test set; empty where a teacher was trained or loaded. `teachers` are those of
    `config.json`."""
    if not is_given(teachers):
        return ""
    (teacher,), test = teachers, teachers[0]["test"]
    kept, nll = teacher["kept"], test["nll"]
    right, shown = 100 - 100 * test["errors"] / test_images, "∞" if nll > MOST_NLL else f"{nll:.3g}"
    lines = [
        f"The teacher (its {KINDS[teacher['kind']]} came with the data): accuracy {right:.1f} % on {test_images:,} "
        f"test examples ({test['errors']} errors), NLL {shown} nats, calibration error (ECE) "
        f"{100 * test['ece']:.1f} %, mean confidence {100 * test['confidence']:.1f} % at T = 1."
    ]
    if kept is not None:
        rest = "have no mass at any T" if teacher["renormalised"] else "share what is left at T = 1 evenly"
        lines.append(f"It gives {kept} of {teacher['classes']:,} classes; the others {rest}.")
    if teacher["dropped"] is not None:
        lines.append(f"On average {_share(teacher['dropped'])} of the mass was dropped.")
    return " ".join(lines)


def section(teachers: Sequence[Mapping[str, Any]]) -> str:
    """Its soft targets at each T of the sweep, as a section; empty as above."""
    if not is_given(teachers):
        return ""
    (teacher,), classes = teachers, teachers[0]["classes"]
    topk = teacher["kept"] is not None and not teacher["renormalised"]
    header = ["T", "entropy (nats)", *["mass on classes not given"] * topk]
    cells = [
        [number(float(at["temperature"])), fixed(at["entropy"], 3), *[_share(at["not_given"])] * topk]
        for at in teacher["soft_targets"]
    ]
    notes = [f"Means over the test examples; equal shares have ln {classes:,} = {math.log(classes):.3f} nats."]
    return f"\n## The teacher's soft targets\n\n{Table(header, cells, notes).markdown()}\n"


def is_given(teachers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the teacher came with the data."""
    return len(teachers) == 1 and "soft_targets" in teachers[0]


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"
