"""Statistics, tables and figures from run directories: `python -m analysis.NAME`."""

import kdjax  # noqa: F401 - before all else: Ctrl-C ends a command that is still starting
