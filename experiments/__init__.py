"""One file, one question: `python -m experiments.NAME`."""

import kdjax  # noqa: F401 - before all else: Ctrl-C ends a command that is still starting
