"""One file, one question: `python -m experiments.NAME`."""
