"""One question each: `python -m experiments.NAME`. Parts: member, study, speed, torch_baseline, two packages."""

import kdjax  # noqa: F401 - before all else: Ctrl-C ends a command that is still starting
