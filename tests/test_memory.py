"""What training needs of memory, and what there is."""

import dataclasses
import math
import os
import resource
import shutil
import types

import pytest

from kdjax import forecast, memory, models, run_directory, scheduling, sweeps
from kdjax.config import RunConfig
from kdjax.errors import BadInput
from tests import small_sweep


def test_what_there_is_is_no_more_than_the_machine_has(monkeypatch, tmp_path):
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.available() <= machine
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**29, resource.RLIM_INFINITY))
    assert memory.available() <= 2**29
    (tmp_path / "limit").write_text("268435456\n")
    monkeypatch.setattr(memory, "CGROUPS", {"": (str(tmp_path / "none"), "max"), "memory": (str(tmp_path), "limit")})
    assert memory.available() == 2**28
    job = tmp_path / "batch" / "job_7"
    (job / "step").mkdir(parents=True)
    (job / "limit").write_text("134217728\n")  # the job's, which is not the group of this process
    (tmp_path / "own").write_text("0::/init\n3:cpu,memory:/batch/job_7/step\n")
    monkeypatch.setattr(memory, "OWN_CGROUPS", str(tmp_path / "own"))
    assert memory.available() == 2**27
    for folder in (tmp_path, job):
        (folder / "limit").write_text("max\n")
    assert memory.available() <= 2**29


def test_parameters_moments_and_layers_are_counted(tmp_path):
    sweep = sweeps.prepare(small_sweep.config(tmp_path, widths=(1000,), batch_size=300))
    (block, _), images = sweep.blocks, 300
    pixels, parameters = 784, 784 * 1000 + 1000 + 1000 * 1000 + 1000 + 1000 * 10 + 10
    test, classes = 1000, 10
    logits = 4 * classes * (2 * images + test)
    of_block = 5 * 4 * parameters + 4 * images * 3 * (1000 + 1000 + 10) + logits
    expected = block.size * of_block + 8 * images * pixels + (2 * images + test) * pixels
    expected += logits + 5 * 8 * images * classes  # the teacher's, and a run's in float64
    assert memory.needed(sweep.blocks, sweep.dataset) - memory.PROGRAM == pytest.approx(expected, rel=1e-6)


def test_students_and_teachers_that_do_not_fit_are_refused_before_anything_is_trained(tmp_path, monkeypatch):
    asked = small_sweep.config(tmp_path)
    monkeypatch.setattr(memory, "available", lambda: 0.0)
    with pytest.raises(BadInput, match=r"the teacher would need about .* there are 0.0: give smaller --teacher.widths"):
        sweeps.prepare(asked)
    monkeypatch.setattr(memory, "available", lambda: 2.0**30)
    with pytest.raises(
        BadInput, match=r"the students would need about .* there are 1.0: give smaller widths, a smaller --batch-size"
    ):
        sweeps.prepare(small_sweep.config(tmp_path, widths=(4000,)))
    several = small_sweep.config(tmp_path, widths=(1000,))
    two = dataclasses.replace(several, run=dataclasses.replace(several.run, devices=2))
    sweep = sweeps.prepare(several)
    need = memory.needed(sweep.blocks, sweep.dataset) - memory.PROGRAM
    monkeypatch.setattr(memory, "available", lambda: memory.PROGRAM + 2 * need - 2**27)
    sweeps.prepare(several)
    with pytest.raises(BadInput, match="2 blocks of students at once would need about"):
        sweeps.prepare(two)
    monkeypatch.setattr(memory, "available", lambda: math.inf)
    sweeps.prepare(asked)
    assert not (tmp_path / "runs").exists()


def test_what_is_there_needs_no_memory(tmp_path, monkeypatch):
    asked = small_sweep.config(tmp_path, widths=(12,), seeds=2)
    sweep = sweeps.prepare(asked)
    assert f"{memory.largest(sweep.blocks, sweep.teacher_config, sweep.dataset, 1) / 2**30:.1f} GiB" in str(
        forecast.of_sweep(sweep).text
    )
    sweeps.teachers_of(sweep)
    monkeypatch.setattr(memory, "_of_training", lambda *_: 2.0**40)
    with pytest.raises(BadInput, match="the students would need"):  # not the teacher
        sweeps.prepare(asked)
    run_directory.RunDirectory(sweep.folder).open(sweep.identity)
    for block in sweep.blocks:
        (sweep.folder / "blocks" / block.name).mkdir(parents=True)
    sweeps.prepare(asked)


def test_blocks_at_once_share_the_memory_of_this_machine_alone():
    for options, expected in (
        ({"devices": 1}, 1),
        ({"devices": 2}, 2),
        ({"cluster": "local:3"}, 3),
        ({"cluster": "local:8"}, 5),
        ({"cluster": "tcp://10.0.0.1:8786"}, 0),
    ):
        assert scheduling.at_once(RunConfig(**options), 5) == expected


def test_a_run_that_the_disk_does_not_hold_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    asked = small_sweep.config(tmp_path)
    sweep = sweeps.prepare(asked)
    runs, images = sum(len(block.runs) for block in sweep.blocks), len(sweep.dataset.test.images)
    network = models.network(sweep.blocks[0].config, sweep.dataset.input_shape, 10)
    stored = runs * 4 * (models.parameter_count(network) + 10 * images)
    assert memory.disk_needed(sweep.blocks, sweep.dataset) == stored
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=0))
    monkeypatch.setattr(memory, "disk_needed", lambda *_: 3 * 2**30)
    with pytest.raises(BadInput, match=r"would need about 3.0 GiB of disk in .*, and 0.0 are free: give another --out"):
        sweeps.prepare(asked)
    assert not (tmp_path / "runs").exists()
