"""docs/from_sweep_to_plot.ipynb runs from start to end, as it stands there."""

import os
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests import hurry

ROOT = Path(__file__).parents[1]
NOTEBOOK = nbformat.read(ROOT / "docs" / "from_sweep_to_plot.ipynb", as_version=4)


def outputs(notebook, kind):
    """What the cells show, but for their log."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    return [output["data"][kind] for output in shown if kind in output["data"]]


def test_the_notebook_runs(tmp_path, monkeypatch):
    environment = hurry.environment() | {"PYTHONPATH": str(ROOT), "KDJAX_DATA_DIR": str(tmp_path / "data")}
    flags = re.sub(r"\S*device_count=\d+", "", environment["XLA_FLAGS"])  # each device compiles
    environment["XLA_FLAGS"] = flags.strip()  # XLA takes a blank for a file's name
    for name, value in environment.items():
        monkeypatch.setitem(os.environ, name, value)
    notebook = nbformat.from_dict(NOTEBOOK)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert len(outputs(notebook, "image/png")) == 3
    texts = outputs(notebook, "text/plain")
    swept, drawn = (next(text for text in texts if re.search(row, text)) for row in (r"kd {2,}1\.0", r"kd 1 "))
    # The sweep and kdjax.distil train the same students here: 64 units, 4 epochs, the same teacher's logits.
    means = {temperature: float(errors) for temperature, errors in re.findall(r"(\d\.\d|inf) +(\d+\.\d+) ", swept)}
    same = dict(re.findall(r"kd (\S) (\d+\.\d)", drawn))
    assert {name: round(means[number], 1) for name, number in (("1", "1.0"), ("4", "4.0"), ("∞", "inf"))} == {
        name: float(errors) for name, errors in same.items()
    }


def test_its_stored_outputs_are_small_and_of_these_cells():
    assert len(nbformat.writes(NOTEBOOK)) < 120_000
    assert [cell.execution_count for cell in NOTEBOOK.cells if cell.cell_type == "code"] == list(range(1, 8))
    stored = [output for cell in NOTEBOOK.cells for output in cell.get("outputs", [])]
    assert {output.output_type for output in stored} == {"execute_result", "display_data"}
    assert len(outputs(NOTEBOOK, "image/png")) == 3
