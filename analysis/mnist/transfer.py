"""Soft targets and hard labels on fewer images: the section of an MNIST table."""

import numpy as np

from analysis import crossed, stats
from analysis.mnist.roles import Role
from analysis.mnist.run import MnistResults
from analysis.tables import Table, estimate, number
from kdjax.files import read_json
from kdjax.run_folders import sweep_folder


def pairs(results: MnistResults) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Images of a transfer set → test errors of soft targets and of hard labels, paired by seed; without those of which
    no seed has both."""
    errors = {}
    for run, rows in results.of(Role.TRANSFER).groupby("run"):
        identity = read_json(sweep_folder(results.folder, str(run)) / "config.json")["identity"]
        images = identity["config"].get("transfer_images") or identity["data"]["train_images"]
        soft, hard = (rows[rows["objective"] == kind].set_index("seed")["test_errors"] for kind in ("kd", "hard"))
        shared = soft.index.intersection(hard.index)
        if len(shared):
            errors[int(images)] = soft[shared].to_numpy(float), hard[shared].to_numpy(float)
    return dict(sorted(errors.items()))


def section(results: MnistResults) -> str:
    """The section of the summary; empty where the part was not made."""
    if not (found := pairs(results)):
        return ""
    header = ["images", "hard labels", "soft targets", "difference", "n"]
    cells = []
    for images, (soft, hard) in found.items():
        less = crossed.paired_difference(soft, hard)
        means = [estimate(stats.interval(errors)) for errors in (hard, soft)]
        cells.append([f"{images:,}", *means, estimate(less, sign=True), str(less.n)])
    notes = [
        f"T = {number(results.temperature)}, soft weight {results.soft_weight:g}; as many steps "
        "on every transfer set. The teacher was trained on all images.",
        "Differences, soft minus hard, are paired by seed; their intervals are not corrected for their number.",
    ]
    return "## Fewer images in the transfer set\n\n" + Table(header, cells, notes, left=1).markdown()
