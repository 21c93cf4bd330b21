"""What stands above the verdict where the teacher came with the data: what is known of it, from its logits alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.tables import Table, fixed, number

MOST_NLL = 1e6
"""Nats: above, some label has no probability at all."""


def describe(teachers: Sequence[Mapping[str, Any]], test_images: int) -> str:
    """The teacher's measures on the test set, and its soft targets at each T of the sweep, in Markdown, with an empty
    line after it; empty where a teacher was trained or loaded. `teachers` are those of `config.json`."""
    if len(teachers) != 1 or "soft_targets" not in teachers[0]:
        return ""
    (teacher,), test = teachers, teachers[0]["test"]
    classes, given, nll = teacher["classes"], teacher["given"], test["nll"]
    right, shown = 100 - 100 * test["errors"] / test_images, "∞" if nll > MOST_NLL else f"{nll:.3g}"
    lines = [
        f"The teacher (its {teacher['kind']} came with the data): right on {right:.1f} % of {test_images:,} test "
        f"examples ({test['errors']} errors), NLL {shown} nats, calibration error (ECE) "
        f"{100 * test['ece']:.1f} %, sure of {100 * test['confidence']:.1f} % at T = 1."
    ]
    if given is not None:
        rest = "have no mass at any T" if teacher["renormalised"] else "share what is left at T = 1 evenly"
        lines.append(f"It gives {given} of {classes:,} classes; the others {rest}.")
    if teacher["dropped"] is not None:
        lines.append(f"On average {_share(teacher['dropped'])} of the mass was dropped.")
    topk = given is not None and not teacher["renormalised"]
    header = ["T", "entropy of its soft targets (nats)", *["mass on classes not given"] * topk]
    cells = [
        [number(float(at["temperature"])), fixed(at["entropy"], 3), *[_share(at["not_given"])] * topk]
        for at in teacher["soft_targets"]
    ]
    notes = [f"Means over the test examples; equal shares have ln {classes:,} = {math.log(classes):.3f} nats."]
    return f"{' '.join(lines)}\n\n{Table(header, cells, notes).markdown()}\n\n"


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"
