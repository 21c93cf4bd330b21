"""Trees come back bit for bit, or not at all."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import checkpoints
from kdjax.files import Damaged


class Tree(NamedTuple):
    weights: dict
    step: jnp.ndarray
    averaged: None
    host: np.ndarray


TREE = Tree({"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.array([np.nan, np.inf])}, jnp.int32(7), None, np.eye(2) / 3)


def same(a, b):
    np.testing.assert_array_equal(a.weights["a"], b.weights["a"])
    np.testing.assert_array_equal(a.weights["b"], b.weights["b"])
    np.testing.assert_array_equal(a.host, b.host)
    assert int(a.step) == int(b.step) and a.averaged is b.averaged is None


def test_round_trip(tmp_path):
    checkpoints.save(tmp_path / "tree", TREE)
    loaded = checkpoints.load(tmp_path / "tree", TREE)
    same(loaded, TREE)
    assert np.asarray(loaded.host).dtype == np.float64
    assert not loaded.weights["a"].committed  # or what resumes would compile its program once more


def test_another_structure_is_refused(tmp_path):
    checkpoints.save(tmp_path / "tree", TREE)
    for other in (TREE._replace(step=jnp.zeros(3, jnp.int32)), TREE._replace(weights={"c": jnp.zeros(2)})):
        with pytest.raises(Damaged, match="other parameters"):
            checkpoints.load(tmp_path / "tree", other)


def test_a_flipped_byte_anywhere_is_noticed(tmp_path):
    checkpoints.save(tmp_path / "tree", TREE)
    for path in sorted(path for path in (tmp_path / "tree").rglob("*") if path.is_file() and path.stat().st_size):
        content = path.read_bytes()
        for at in {0, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
            with pytest.raises(Damaged):
                checkpoints.load(tmp_path / "tree", TREE)
        path.write_bytes(content)
    same(checkpoints.load(tmp_path / "tree", TREE), TREE)


def test_the_last_two_are_kept_and_a_damaged_one_is_passed_over(tmp_path, caplog):
    kept = checkpoints.Checkpoints(tmp_path / "block")
    assert kept.latest(TREE) is None
    for step in (1, 2, 30):
        kept.save(step, TREE._replace(step=jnp.int32(step)))
    assert sorted(path.name for path in (tmp_path / "block").iterdir()) == ["000000002", "000000030"]
    assert int(kept.latest(TREE).step) == 30 and not caplog.messages
    (tmp_path / "block" / "000000030" / "MANIFEST.json").unlink()
    assert int(kept.latest(TREE).step) == 2
    assert len(caplog.messages) == 1 and "000000030" in caplog.messages[0]
    (tmp_path / "block" / "000000040 (copy)").mkdir()
    assert kept.step == 2
    kept.clear()
    assert not (tmp_path / "block").exists()


def test_with_none_left_it_says_so(tmp_path, caplog):
    kept = checkpoints.Checkpoints(tmp_path / "block")
    kept.save(1, TREE)
    (tmp_path / "block" / "000000001" / "structure.json").write_text("[]")
    assert kept.latest(TREE) is None
    said = caplog.messages
    assert len(said) == 2 and "structure.json differs" in said[0] and "no whole checkpoint is left" in said[1]
    assert kept.latest(TREE) is None and len(caplog.messages) == 2  # a start that is new needs no warning


def test_what_a_kill_left_is_cleared_when_going_on(tmp_path):
    kept = checkpoints.Checkpoints(tmp_path / "block")
    kept.save(1, TREE)
    (tmp_path / "block" / ".000000002.tmp-1" / "tree.orbax-checkpoint-tmp").mkdir(parents=True)
    same(kept.latest(TREE), TREE)
    assert [path.name for path in (tmp_path / "block").iterdir()] == ["000000001"]
