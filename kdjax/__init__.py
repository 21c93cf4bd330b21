"""kdjax: what does temperature do in knowledge distillation, and when is it logit matching?

After Hinton, Vinyals and Dean (2015), "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.

From your own arrays:

    distil          inputs, labels and a teacher's logits → students at several temperatures, compared
    Distillation    what it returns: table, compare(), logits(), plot(), students
    BadInput        raised for what cannot be used: one line that says what to do

Around it:

    trained         find the students of a run directory again
    objectives      what students can minimise; register one of your own
    losses          distillation losses, accurate at every temperature
    metrics         errors, calibration and more from logits; register one of your own
    datasets        names or files → images and labels
    config          every option: SweepConfig, TrainConfig, …
    sweeps          a whole sweep with its teacher and run directory: prepare, run

Below it, `blocks` and `loop` train one seed at several settings as one program.
"""

import importlib
import os
import signal
import sys
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "BadInput",
    "Distillation",
    "config",
    "datasets",
    "distil",
    "losses",
    "metrics",
    "objectives",
    "sweeps",
    "trained",
]
_MODULES = {"distil": "distillation", "Distillation": "distilled", "BadInput": "errors"}
"""Of the names that are no modules themselves."""

if getattr(sys, "argv", [])[:1] == ["-m"]:  # so it is while `python -m` looks for its module
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    if module.partition(".")[0] in ("kdjax", "experiments", "analysis"):  # one of the project's commands is starting
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))  # until kdjax.cli has more to say


def __getattr__(name: str) -> Any:
    """The names of `__all__`, imported when they are first used: `import kdjax` alone is quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"kdjax.{_MODULES.get(name, name)}")
    return getattr(module, name) if name in _MODULES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "pdoc" in sys.modules:  # the API reference shows what a module holds, and would leave these out
    globals().update({name: __getattr__(name) for name in _MODULES})
