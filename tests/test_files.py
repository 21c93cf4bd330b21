"""Whole or not there: atomic writes, manifests, locks between real processes."""

import contextlib
import errno
import json
import os
import random
import subprocess
import sys
import time

import pytest

from kdjax import files
from kdjax.errors import BadInput


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    files.write_whole(path, "old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        files.write_whole(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.csv"]


def test_a_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), files.whole_folder(tmp_path / "block") as folder:
        (folder / "part").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_folder_appears_whole_and_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with files.whole_folder(tmp_path / "block") as folder:
            (folder / "part").write_text(content)
            before = [path.read_text() for path in (tmp_path / "block").glob("part")]
            assert before == (["one"] if content == "two" else [])
        files.check_manifest(tmp_path / "block")
        assert (tmp_path / "block" / "part").read_text() == content


def test_a_replacement_that_fails_leaves_what_was_there(tmp_path):
    for content in ("one", "two"):
        with contextlib.suppress(RuntimeError), files.whole_folder(tmp_path / "block") as folder:
            (folder / "part").write_text(content)
            if content == "two":
                raise RuntimeError
    files.check_manifest(tmp_path / "block")
    assert (tmp_path / "block" / "part").read_text() == "one"


def test_what_file_managers_leave_is_no_damage(tmp_path):
    with files.whole_folder(tmp_path / "block") as folder:
        (folder / "part").write_text("x")
        (folder / ".nfs1").write_text("x")
    (tmp_path / "block" / ".nfs1").unlink()
    (tmp_path / "block" / ".DS_Store").write_text("x")
    (tmp_path / "block" / ".cache").mkdir()
    (tmp_path / "block" / ".cache" / "part").write_text("x")
    files.check_manifest(tmp_path / "block")


def test_a_link_is_removed_and_what_it_leads_to_is_not(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there")
    files.remove(tmp_path / "here")
    assert os.listdir(tmp_path) == ["there"]


def damage(path, how, rng):
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    elif how == "truncate":
        path.write_bytes(data[: rng.randrange(len(data))])
    elif how == "remove":
        path.unlink()
    else:
        (path.parent / "intruder").write_text("x")


@pytest.mark.parametrize("how", ["flip", "truncate", "remove", "add"])
@pytest.mark.parametrize("seed", range(5))
def test_damage_is_noticed(tmp_path, how, seed):
    rng = random.Random(f"{how}{seed}")
    with files.whole_folder(tmp_path / "block") as folder:
        (folder / "deep").mkdir()
        for name in ("a", "deep/b"):
            (folder / name).write_bytes(rng.randbytes(1000))
    path = rng.choice([tmp_path / "block" / name for name in ("a", "deep/b", files.MANIFEST)])
    damage(path, how, rng)
    with pytest.raises(files.Damaged):
        files.check_manifest(tmp_path / "block")


@pytest.mark.parametrize("content", ["[]", "1", "null", "{}", '{"a": 3}', "\xff"])
def test_a_manifest_that_is_no_manifest(tmp_path, content):
    (tmp_path / "a").write_text("x")
    (tmp_path / files.MANIFEST).write_text(content, encoding="latin-1")
    with pytest.raises(files.Damaged):
        files.check_manifest(tmp_path)


HOLD = """
import sys, time
from pathlib import Path
from kdjax.files import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path):
    path = tmp_path / "run" / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(files.Busy, match=f"process {holder.pid}"), files.lock(path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    begin = time.monotonic()
    with files.lock(path):  # stale: taken over at once
        assert time.monotonic() - begin < 1


def test_leftovers_of_killed_processes_are_cleared(tmp_path):
    (tmp_path / ".block.tmp-1").mkdir()
    (tmp_path / ".block.tmp-1" / "x").write_text("half")
    (tmp_path / ".results.csv.tmp-2").write_text("half")
    (tmp_path / "results.csv").write_text("whole")
    (tmp_path / ".theirs.tmp-x").write_text("of another program")
    files.clear_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".theirs.tmp-x", "results.csv"]


def test_a_folder_that_is_removed_is_gone_at_once(tmp_path, monkeypatch):
    (tmp_path / "blocks" / "one").mkdir(parents=True)

    def killed(folder, ignore_errors=False):
        if not ignore_errors:
            raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        files.remove(tmp_path / "blocks")
    assert not (tmp_path / "blocks").exists()
    monkeypatch.undo()
    files.clear_leftovers(tmp_path, "blocks")
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    refused = OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(files.fcntl, "flock", lambda *_: (_ for _ in ()).throw(refused))
    said = r"cannot be locked \(No locks available\): its file system may have no"
    with pytest.raises(BadInput, match=said), files.lock(tmp_path / "run" / ".lock"):
        pass


def test_manifest_names_every_file(tmp_path):
    with files.whole_folder(tmp_path / "block") as folder:
        (folder / "a").write_text("x")
    assert list(json.loads((tmp_path / "block" / files.MANIFEST).read_text())) == ["a"]


def test_a_seal_covers_the_files_it_names_and_no_others(tmp_path):
    files.check_seal(tmp_path)  # none: nothing to compare with
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    files.seal(tmp_path, ["a"])
    (tmp_path / "b").write_text("changed")
    files.check_seal(tmp_path)
    (tmp_path / "a").write_text("changed")
    with pytest.raises(files.Damaged, match="a is missing or differs"):
        files.check_seal(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(files.Damaged, match="a is missing or differs"):
        files.check_seal(tmp_path)


@pytest.mark.parametrize("content", ["[]", "1", "{", '{"a": 3}', '{"../../etc": "x"}', "\xff"])
def test_a_seal_that_is_no_seal(tmp_path, content):
    (tmp_path / "a").write_text("x")
    (tmp_path / files.MANIFEST).write_text(content, encoding="latin-1")
    with pytest.raises(files.Damaged):
        files.check_seal(tmp_path)


def test_a_damaged_lock_file_still_names_somebody(tmp_path):
    path = tmp_path / "run" / ".lock"
    with files.lock(path):
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(files.Busy, match="in use by process"), files.lock(path):
            pass


def test_leftovers_of_one_name_alone_are_cleared(tmp_path):
    for name in (".a.tmp-1", ".b.tmp-2"):
        (tmp_path / name).write_text("half")
    files.clear_leftovers(tmp_path, "a")
    assert os.listdir(tmp_path) == [".b.tmp-2"]


def test_a_pipe_or_a_device_in_a_files_place_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # which would be waited for
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(BadInput, match=f"{name} is no ordinary file"):
            files.read_json(tmp_path / name)
    os.mkfifo(tmp_path / files.MANIFEST)
    with pytest.raises(BadInput, match=f"{files.MANIFEST} is no ordinary file"):
        files.check_seal(tmp_path)
