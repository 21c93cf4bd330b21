"""kdjax: what does temperature do in knowledge distillation, and when is it logit matching?

After Hinton, Vinyals and Dean (2015), "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.
"""

import os
import signal
import sys

if getattr(sys, "argv", [])[:1] == ["-m"]:  # so it is while `python -m` looks for its module
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    if module.partition(".")[0] in ("kdjax", "experiments", "analysis"):  # one of the project's commands is starting
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))  # until kdjax.cli has more to say
