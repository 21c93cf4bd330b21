"""What students minimise: the registry of objectives, each one loss per example.

`parse("dkd(beta=2)").loss(student_logits, teacher_logits, labels, temperature)` takes `[..., N]` to `[...]`. In
training, it is mixed with hard labels. To add one, call `register` from any file (docs/extending.md): its name is then
known to `--objectives`, and stands in `results.csv`, in tables and on figures.

z student logits, v teacher logits, y label, N classes, T temperature; `p = softmax(v/T)`, `q = softmax(z/T)`;
`u = (v − mean v) − (z − mean z)`; ρ the correlation of z and v over classes.
"""

from kdjax.objectives import controls, decoupled, divergences, plain, standardised
from kdjax.objectives.divergences import distillation
from kdjax.objectives.objective import Loss, Objective, Parameter, Setting
from kdjax.objectives.registry import (
    OBJECTIVES,
    is_baseline,
    is_compared,
    parse,
    parse_each,
    register,
    registered,
    words_of,
)
from kdjax.objectives.training import loss_of, uses_teacher

__all__ = [
    "OBJECTIVES",
    "Loss",
    "Objective",
    "Parameter",
    "Setting",
    "controls",
    "decoupled",
    "distillation",
    "divergences",
    "is_baseline",
    "is_compared",
    "loss_of",
    "parse",
    "parse_each",
    "plain",
    "register",
    "registered",
    "standardised",
    "uses_teacher",
    "words_of",
]
