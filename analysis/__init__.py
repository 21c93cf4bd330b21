"""Reads run directories, draws, judges; `python -m analysis.NAME`."""
