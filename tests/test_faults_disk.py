"""Disks that fill up, turn read-only or change hands in mid-run: one clear line, and resuming later works."""

import contextlib
import os
import resource
import subprocess

import numpy as np
import pytest

from kdjax import checkpoints, files
from kdjax.checkpoints import Checkpoints
from tests import commands

# A refused write leaves threads of tensorstore behind, which may report to an event loop that is closed already.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NOBODY = 65534


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    assert commands.call_sweep(root)[0] == 0
    return commands.outcome(root)


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of its own, of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system needs root")
    yield folder
    while os.path.ismount(folder):
        subprocess.run(["umount", folder], check=True)


def check_stopped(code, said, reason):
    assert code == 2, said
    assert reason in said.splitlines()[-1] and "Traceback" not in said, said
    assert said.count("error: ") == 1 and "to resume, give the same command again" in said.splitlines()[-1], said


def check_what_is_there(root):
    """Whatever has its final name is whole."""
    for manifest in root.rglob(files.MANIFEST):
        if ".tmp-" not in str(manifest) and manifest.parent != commands.run_directory(root):
            files.check_manifest(manifest.parent)


@contextlib.contextmanager
def file_size_limit(size):
    """No file may grow beyond so many bytes: like a full disk, and possible without root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 20_000, 150_000])
def test_a_limit_on_the_size_of_files(tmp_path, undisturbed, size):
    with file_size_limit(size):
        code, said = commands.call_sweep(tmp_path)
    check_stopped(code, said, "File too large")
    check_what_is_there(tmp_path)
    assert commands.call_sweep(tmp_path, "--checkpoint-seconds", "30")[0] == 0
    assert commands.outcome(tmp_path) == undisturbed and not commands.leftovers(tmp_path)


@pytest.mark.parametrize("room", [3_000, 600_000, 1_400_000])
def test_a_disk_that_fills_up(tiny_disk, undisturbed, room):
    free = os.statvfs(tiny_disk)
    (tiny_disk / "filler").write_bytes(bytes(free.f_bavail * free.f_bsize - room))
    code, said = commands.call_sweep(tiny_disk)
    check_stopped(code, said, "No space left on device")
    check_what_is_there(tiny_disk)
    (tiny_disk / "filler").unlink()
    assert commands.call_sweep(tiny_disk, "--checkpoint-seconds", "30")[0] == 0
    assert commands.outcome(tiny_disk) == undisturbed and not commands.leftovers(tiny_disk)


def at_save(monkeypatch, number, event):
    """Lets something happen just before the checkpoint of that number is written."""
    save, count = Checkpoints.save, 0

    def counted(self, step, tree):
        nonlocal count
        count += 1
        if count == number:
            event()
        save(self, step, tree)

    monkeypatch.setattr(Checkpoints, "save", counted)


@pytest.mark.parametrize("number", [2, 15])
def test_a_disk_that_turns_read_only(tiny_disk, undisturbed, monkeypatch, number):
    def turn_read_only():
        # A mount on top of it: the lock is open for writing, and the disk itself can't turn read-only under it.
        subprocess.run(["mount", "--bind", tiny_disk, tiny_disk], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", tiny_disk], check=True)

    at_save(monkeypatch, number, turn_read_only)
    code, said = commands.call_sweep(tiny_disk)
    check_stopped(code, said, "Read-only file system")
    check_what_is_there(tiny_disk)
    code, said = commands.call_sweep(tiny_disk)  # still so
    assert code == 2 and said.count("error: ") == 1 and "Traceback" not in said, said
    subprocess.run(["umount", tiny_disk], check=True)
    assert commands.call_sweep(tiny_disk, "--checkpoint-seconds", "30")[0] == 0
    assert commands.outcome(tiny_disk) == undisturbed and not commands.leftovers(tiny_disk)


@pytest.mark.parametrize("number", [2, 15])
def test_a_permission_that_is_lost(tmp_path, undisturbed, monkeypatch, number):
    folders = [*tmp_path.parents[:2], tmp_path]

    def lose():
        if os.geteuid() == 0:  # root needs no permission: be somebody else for a while
            modes.update({folder: folder.stat().st_mode for folder in folders})
            for folder in folders:
                folder.chmod(0o755)
            os.seteuid(NOBODY)
        else:
            for folder in tmp_path.rglob("*"):
                if folder.is_dir():
                    modes[folder] = folder.stat().st_mode
                    folder.chmod(0o555)

    modes: dict = {}
    at_save(monkeypatch, number, lose)
    try:
        code, said = commands.call_sweep(tmp_path)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        for folder, mode in modes.items():
            folder.chmod(mode)
    check_stopped(code, said, "Permission denied")
    check_what_is_there(tmp_path)
    assert commands.call_sweep(tmp_path, "--checkpoint-seconds", "30")[0] == 0
    assert commands.outcome(tmp_path) == undisturbed and not commands.leftovers(tmp_path)


def test_only_the_systems_errors_are_translated(tmp_path, monkeypatch):
    def broken(error):
        class Broken:
            @staticmethod
            def save(path, tree):
                raise error

        return Broken

    for error, expected in (
        (ValueError("RESOURCE_EXHAUSTED: … [os_error_code='28']"), OSError),
        (ValueError("something else"), ValueError),
    ):
        monkeypatch.setattr(checkpoints, "_orbax", lambda error=error: broken(error))
        with pytest.raises(expected) as raised:
            checkpoints.save(tmp_path / "tree", {"a": np.ones(3)})
        assert getattr(raised.value, "errno", None) == (28 if expected is OSError else None)
        assert not list(tmp_path.iterdir())
