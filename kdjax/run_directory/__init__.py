"""The run directory `<out>/<experiment>/<name>/`: a run's config, its results, and enough to draw and check them.

config.json     the full config, command, git commit, versions, device, data and teachers; when, and how far
results.csv     one row per run of a finished block, in canonical order; no times in it
history.jsonl   one line per run and epoch
timing.json     seconds, by block
test.npz        labels and teacher logits of the test images, and a few images to look at
features.npz    where students see features: mean and deviation by which they were standardised
blocks/NAME/    rows, history, final parameters (orbax) and logits of a finished block, under a manifest
checkpoints/    the last two of each block being trained
figures/        PNG, PDF and SVG
summary.md      the verdict and the table
report.html     all of it as a page to show
MANIFEST.json   SHA-256 of the first three, test.npz and features.npz, once all is there
"""

from kdjax.run_directory.config_file import command_given, progress
from kdjax.run_directory.contents import (
    CONTENT,
    FEATURES,
    ORDER,
    SEALED,
    block_folders,
    read_logits,
    read_results,
    read_rows,
    start_again,
)
from kdjax.run_directory.directory import OtherBlocks, RunDirectory, opened

__all__ = [
    "CONTENT",
    "FEATURES",
    "ORDER",
    "SEALED",
    "OtherBlocks",
    "RunDirectory",
    "block_folders",
    "command_given",
    "opened",
    "progress",
    "read_logits",
    "read_results",
    "read_rows",
    "start_again",
]
