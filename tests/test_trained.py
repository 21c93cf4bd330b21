"""Trained students are found again, and are those of the table."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from kdjax import datasets, evaluation, exported, metrics, run_directory, sweeps, train, trained
from kdjax.config import DataConfig
from kdjax.errors import BadInput
from kdjax.files import read_json
from tests import commands, small_sweep


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    code, said = commands.call_sweep(
        root, "--temperatures", "4", "inf", "--seeds", "2", "--name", "run", "--block-size", "2"
    )  # padded
    assert code == 0, said
    return root / "runs" / "temperature_sweep" / "run"


def test_each_student_answers_as_its_row_says(swept):
    data = read_json(swept / "config.json")["identity"]["data"]
    test = datasets.load(DataConfig(dataset="mnist5k", train_images=data["train_images"])).test
    found = trained.find(swept)
    table = run_directory.read_results(swept)
    assert len(found) == len(table) == 6
    for student in found:
        logits = student.logits(test.images)
        np.testing.assert_allclose(logits, student.stored_logits("test"), rtol=0, atol=1e-4)
        np.testing.assert_allclose(student.logits(test.images[..., 0] / 255), logits, rtol=0, atol=1e-4)
        with pytest.raises(BadInput, match="images are floats from 0 to 255, all whole: give uint8, or divide by 255"):
            student.logits(test.images.astype(np.float32))
        assert metrics.errors(student.stored_logits("test"), test.labels) == student.row["test_errors"]
        begun = student.network.init(train.run_key(student.row["seed"], train.Purpose.INIT))
        start = evaluation.logits_of(student.network, *jax.tree.map(lambda leaf: leaf[None], begun), test.images)
        drift = np.sqrt(np.mean(np.square(logits.mean(axis=1) - start.mean(axis=1))))
        assert student.row["mean_logit_drift"] == pytest.approx(drift, rel=1e-4) and drift > 1e-3
    for _, row in table.iterrows():
        where = {name: row[name] for name in ("seed", "objective", "temperature", "soft_weight")}
        (one,) = trained.find(swept, **where)
        assert one.row["test_errors"] == row["test_errors"]


def test_a_student_that_is_evaluated_with_mirrored_views_stays_so(tmp_path):
    asked = small_sweep.config(tmp_path, network="fast", widths=(2,), temperatures=(4.0,), seeds=1, mirrored_views=True)
    folder = sweeps.run(sweeps.prepare(asked))
    test = datasets.load(asked.data).test
    for student in trained.find(folder):
        mirrored, stored = student.logits(test.images), student.stored_logits("test")
        np.testing.assert_allclose(mirrored, stored, rtol=0, atol=1e-3)
        one_view = dataclasses.replace(student, config=dataclasses.replace(student.config, mirrored_views=False))
        assert np.abs(one_view.logits(test.images) - stored).max() > 1e-2
        assert '"mirrored_views":true' in exported.metadata(student).replace(" ", "")


def test_they_are_found_by_what_their_rows_say(swept):
    assert [one.row["seed"] for one in trained.find(swept, objective="kd", temperature=math.inf)] == [0, 1]
    assert {one.row["objective"] for one in trained.find(swept, temperature=None)} == {"hard"}
    assert len(trained.find(swept, temperature=4.0 + 1e-9)) == 2


def test_what_is_not_there_is_refused(swept, tmp_path):
    with pytest.raises(BadInput, match="holds no student of temperature 5"):
        trained.find(swept, temperature=5)
    with pytest.raises(BadInput, match=r"no column temprature: there are width, teacher, .* did you mean temperature"):
        trained.find(str(swept), temprature=4)
    with pytest.raises(BadInput, match=r"\[1, 2\] is not allowed as the value of a column: give a number, text, or"):
        trained.find(swept, seed=[1, 2])
    with pytest.raises(BadInput, match="images are bytes of 0 and 1 alone, and bytes are divided by 255: give floats"):
        trained.find(swept, seed=0)[0].logits(np.ones((2, 28, 28, 1), np.uint8))
    for images in (np.full((2, 28, 28, 1), 127.5), np.full((2, 28, 28, 1), -0.4)):
        with pytest.raises(BadInput, match=r"lie outside 0 to 1: give bytes, or floats 0 to 1; standardised images"):
            trained.find(swept, seed=0)[0].logits(images)
    with pytest.raises(BadInput, match="the run has no logits of train: there are "):
        trained.find(swept, seed=0)[0].stored_logits("train")
    (tmp_path / "config.json").write_text('{"identity": {}}')
    with pytest.raises(BadInput, match="not that of a run with students"):
        trained.find(tmp_path)
