"""The scripts of docs/own_data.md, as they stand there: each writes a file with what the page promises."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests import commands

PAGE = (commands.ROOT / "docs" / "own_data.md").read_text()
FILES = dict(re.findall(r"`(\w+\.py)`(?:\s[^`]*)?:\n\n```python\n(.*?)```", PAGE, re.DOTALL))
ELSEWHERE = {"keras_teacher.py", "text_teacher.py"}
"""Whose packages the tests do not need."""


def run(folder, name, *changes):
    """Writes the script of that name with changes that make it quick, runs it, and returns what it printed."""
    source = FILES[name]
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    (folder / name).write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(commands.ROOT), "KDJAX_DATA_DIR": str(folder / "data")}
    environment |= {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}  # some are trained too briefly on purpose
    command = [sys.executable, name]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def holds(path, count, **shapes):
    """The arrays of a file, which has these and no others, of so many rows."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    assert {name: array.shape for name, array in arrays.items()} == {
        name: (count, *shape) for name, shape in shapes.items()
    }
    assert arrays["labels"].dtype.kind == "i" and arrays["labels"].min() == 0
    assert set(arrays.get("split", ["train", "holdout", "test"])) == {"train", "holdout", "test"}
    return arrays


def test_the_page_shows_one_script_each():
    tested = {"torch_teacher.py", "sklearn_teacher.py", "made_answers.py", "server_teacher.py", "use_student.py"}
    assert set(FILES) == tested | ELSEWHERE
    assert len(FILES) == PAGE.count("```python")
    for name, source in FILES.items():
        compile(source, name, "exec")


def test_pytorch(tmp_path):
    pytest.importorskip("torch", reason="needs PyTorch")
    printed = run(tmp_path, "torch_teacher.py", ("=NAME)", "=NAME, train_images=1_200)"))
    shapes = {"images": (28, 28, 1), "labels": (), "teacher_logits": (10,), "split": ()}
    arrays = holds(tmp_path / "mnist5k_torch.npz", 2_200, **shapes)
    assert arrays["images"].dtype == np.uint8 and arrays["teacher_logits"].dtype == np.float32
    assert np.unique(arrays["split"], return_counts=True)[1].tolist() == [200, 1_000, 1_000]
    right = (arrays["teacher_logits"].argmax(axis=1) == arrays["labels"])[arrays["split"] == "test"]
    assert right.mean() > 0.7 and f"test: {100 * right.mean():.2f} % of 1,000 right" in printed


def test_scikit_learn(tmp_path):
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    run(tmp_path, "sklearn_teacher.py", ("max_iter=100", "max_iter=10"))
    arrays = holds(tmp_path / "digits.npz", 1_797, features=(64,), labels=(), teacher_logprobs=(10,), split=())
    np.testing.assert_allclose(np.exp(arrays["teacher_logprobs"]).sum(axis=1), 1, rtol=0, atol=1e-9)
    right = (arrays["teacher_logprobs"].argmax(axis=1) == arrays["labels"])[arrays["split"] == "test"]
    assert right.mean() > 0.9


def test_an_inference_server(tmp_path):
    run(tmp_path, "made_answers.py")
    run(tmp_path, "server_teacher.py")
    shapes = {"features": (8,), "labels": (), "teacher_topk_logprobs": (3,), "teacher_topk_indices": (3,)}
    arrays = holds(tmp_path / "server.npz", 600, **shapes)
    logprobs, indices = arrays["teacher_topk_logprobs"], arrays["teacher_topk_indices"]
    assert (np.diff(logprobs, axis=1) <= 0).all() and (np.exp(logprobs).sum(axis=1) < 1).all()
    assert indices.min() == 0 and indices.max() == 5 and all(len(set(row)) == 3 for row in indices)  # two spellings
    assert (indices[:, 0] == arrays["labels"]).mean() > 0.8
