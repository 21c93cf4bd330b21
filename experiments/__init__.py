"""One question each: `python -m experiments.NAME`; study, evaluations, speed and torch_baseline are parts of them."""

import kdjax  # noqa: F401 - before all else: Ctrl-C ends a command that is still starting
