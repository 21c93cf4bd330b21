"""Where blocks are trained changes no bit of what they find: several devices, worker processes, killed workers."""

import os
import pickle
import signal
import time
from pathlib import Path

import jax
import pytest

from kdjax import cluster, scheduling, students, transfer
from kdjax.config import RunConfig, TrainConfig
from kdjax.errors import BadInput
from kdjax.run_directory import RunDirectory
from tests import commands, hurry


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    root = tmp_path_factory.mktemp("one")
    code, said = commands.call_sweep(root, *MANY)
    assert code == 0, said
    return commands.outcome(root)


MANY = ("--seeds", "5", "--epochs", "4", "--dataset", "mnist5k")
"""More blocks than places."""


def test_several_devices(one_device, tmp_path, monkeypatch):
    used = []
    train_block = students.train_block

    def spy(block, taught, transfer_set, *arguments):
        used.append(transfer_set.images.device)
        return train_block(block, taught, transfer_set, *arguments)

    monkeypatch.setattr(students, "train_block", spy)
    code, said = commands.call_sweep(tmp_path, *MANY, "--devices", "4")
    assert code == 0, said
    assert len(used) == 5 and set(used) == set(jax.devices())
    assert commands.outcome(tmp_path) == one_device
    assert not commands.leftovers(tmp_path)


def test_what_fails_on_one_device_ends_the_others(tmp_path, monkeypatch):
    train_block, begun = students.train_block, []

    def failing(block, *arguments):
        begun.append(block.seed)
        if block.seed == 1:
            raise OSError(28, "No space left on device", "somewhere")
        return train_block(block, *arguments)

    monkeypatch.setattr(students, "train_block", failing)
    begin = time.monotonic()
    code, said = commands.call_sweep(tmp_path, *MANY, "--epochs", "3000", "--devices", "2")
    assert code == 2 and "error: somewhere: No space left on device" in said
    assert time.monotonic() - begin < 60 and len(begun) <= 3


def test_blocks_that_cannot_begin_end_the_run(tmp_path, monkeypatch):
    def failing(self, name):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(RunDirectory, "begin", failing)
    code, said = commands.call_sweep(tmp_path, *MANY, "--devices", "2")
    assert code == 2 and "error: somewhere: No space left on device" in said


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--devices", "5"], "--devices 5 is not allowed: there are 4 here"),
        (["--devices", "0"], "--devices 0 is not allowed"),
        (
            ["--teacher.devices", "5", "--teacher.batch-size", "100"],
            "--teacher.devices 5 is not allowed: there are 4 here",
        ),
        (["--cluster", "tls://127.0.0.1:9"], "no cluster answers at --cluster tls://127.0.0.1:9"),
        (["--teacher.devices", "3"], "divides the 50 images of a batch"),
        (["--devices", "2", "--cluster", "local"], "--devices with --cluster is not allowed"),
        (["--cluster", "local:0"], "--cluster 'local:0' is not allowed"),
        (["--cluster", "somewhere"], "--cluster 'somewhere' is not allowed"),
        (["--cluster", "tcp://127.0.0.1:9"], "no cluster answers at --cluster tcp://127.0.0.1:9"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, arguments, said):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    code, told = commands.call_sweep(tmp_path, *arguments)
    assert code == 2 and said in told and told.count("error: ") == 1, told
    assert not list(tmp_path.iterdir())


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(path.parent.name), *children(int(path.parent.name))]
    return found


def is_worker(pid: int) -> bool:
    try:
        return b"from multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_worker_processes_and_one_that_is_killed(one_device, tmp_path):
    process = commands.start(commands.tiny(tmp_path, *MANY, "--cluster", "local:2"), env=hurry.environment())
    try:
        found: list[int] = []
        while process.poll() is None and len(found) < 2:
            found = [pid for pid in children(process.pid) if is_worker(pid)]
            time.sleep(0.01)
        while process.poll() is None and not [*commands.run_directory(tmp_path).glob("blocks/[!.]*")]:
            time.sleep(0.01)  # once the first block is kept, every worker is in the middle of another
        os.kill(found[0], signal.SIGKILL)
        code, said = commands.finish(process)
    finally:
        process.kill()
    assert code == 0 and "Traceback" not in said, said
    assert "2 worker processes; dashboard: http" in said, said
    assert commands.outcome(tmp_path) == one_device
    assert not commands.leftovers(tmp_path)
    assert not [pid for pid in found if is_worker(pid)]


def test_local_workers():
    assert RunConfig().local_workers() == 0
    assert RunConfig(cluster="local").local_workers() == float("inf")
    assert RunConfig(cluster="local:3").local_workers() == 3
    assert RunConfig(cluster="tcp://10.0.0.1:8786").local_workers() == 0
    with pytest.raises(BadInput):
        RunConfig(cluster="local:x")


BLOCK = students.Block("block", 8, TrainConfig((8, 8), 1, 10), 0, (), 1, 100)


def data_of(what) -> transfer.DistillationData:
    return transfer.DistillationData(what, "teacher", None, None, None)


def test_a_device_keeps_the_transfer_set_of_equal_blocks(monkeypatch):
    made, trained = [], []
    monkeypatch.setattr(transfer, "on_device", lambda data: made.append(data.dataset) or "images")
    monkeypatch.setattr(
        students,
        "train_block",
        lambda block, data, *_: trained.append(data.dataset) or students.BlockResult([], [], {}, None, 0.0),
    )
    monkeypatch.setattr(transfer.TransferSpec, "select", lambda self, data: data_of((data.dataset, *self.omitted)))
    device, data = scheduling.Device(jax.devices()[1]), data_of("images")
    for digit in (3, 3, 4, 4):
        block = BLOCK._replace(transfer=transfer.TransferSpec(omitted=(digit,)))
        block = pickle.loads(pickle.dumps(block))  # as it comes to a worker
        device.train(block, data, None, lambda step, note: None)
    device.train(block, data_of("others"), None, lambda step, note: None)
    assert trained == [("images", 3)] * 2 + [("images", 4)] * 2 + [("others", 4)]
    assert made == [("images", 3), ("images", 4), ("others", 4)]


def test_a_worker_that_differs_is_refused():
    facts = cluster.what_fixes_digits()
    for name in ("sources", "versions", "device", "cpus", "processor", "xla_flags"):
        with pytest.raises(BadInput, match=f"has other {name} than the first one"):
            cluster.train_on_worker(BLOCK, data_of(None), {**facts, name: "other"})
