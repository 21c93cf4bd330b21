"""The omission experiment, end to end on a few of the bundled digits: who saw what, and what each correction read."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from analysis.omission import figures as omission_figures
from analysis.omission import rows as omission_rows
from analysis.omission import run as omission_run
from analysis.omission import table as omission_table
from experiments import omit_digit
from experiments.omission.config import FEW, OmitConfig
from kdjax import cli, corrections, forecast, loop, students
from kdjax.config import TeacherConfig
from kdjax.errors import BadInput
from kdjax.files import MANIFEST, read_json
from tests import commands, hurry
from tests.small_omission import config

MAIN = ("distilled", "control", "permuted", "mean_logit")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, and block name → the transfer set that was handed to the training loop itself."""
    asked = config(tmp_path_factory.mktemp("omit"), digit=(3,), name="first")
    plan = omit_digit.prepare(asked)
    seen, current = {}, []
    train_block, fit = students.train_block, loop.fit

    def spy_block(block, *arguments, **options):
        current[:] = [block.name]
        return train_block(block, *arguments, **options)

    def spy_fit(program, transfer_set, *arguments, **options):
        if current:  # else it is the teacher
            seen[current[0]] = [np.asarray(array) for array in transfer_set[:3]]
        return fit(program, transfer_set, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(students, "train_block", spy_block)
        patch.setattr(loop, "fit", spy_fit)
        folder = omit_digit.run(plan)
    return asked, plan, folder, seen


@pytest.fixture(scope="module")
def table(finished):
    return omission_run.read(finished[2])


def keys(images):
    return {image.tobytes() for image in images}


def reader(finished):
    _, plan, folder, _ = finished
    return corrections.Reader(folder, plan.blocks, plan.config.chosen())


def biases(found, student="distilled", seed=0):
    return {row["correction"]: row["bias"] for row in found.rows(student, (3,), seed)}


def test_no_image_of_an_omitted_class_reaches_a_students_step(finished):
    _, plan, _, seen = finished
    data = plan.dataset
    assert len(seen) == len(plan.blocks) == 2 * (5 + 9)
    everything = np.concatenate([data.train.images, data.holdout.images, data.test.images])
    labels = np.concatenate([data.train.labels, data.holdout.labels, data.test.labels])
    assert len(keys(everything)) == len(everything)  # an image is known by its pixels
    for block in plan.blocks:
        images, shown_labels, _ = seen[block.name]
        shown = keys(images)
        left = data.train.images[~np.isin(data.train.labels, block.transfer.omitted)]
        if block.transfer.variant == "with_pool":
            assert shown == keys(left) | keys(data.holdout.images)
        else:
            assert shown == keys(left)
            assert not shown & keys(everything[np.isin(labels, block.transfer.omitted)])
            assert not np.isin(shown_labels, block.transfer.omitted).any()
            assert not shown & keys(data.holdout.images)
        assert not shown & keys(data.test.images)
        assert len(images) == block.images


def test_the_students_are_who_they_should_be(finished):
    _, plan, _, _ = finished
    omitted = {(block.transfer.variant, block.transfer.omitted) for block in plan.blocks}
    alone = {("plain", ()), ("plain", (3,)), ("permuted", (3,)), ("mean_logit", (3,)), ("with_pool", (3,))}
    assert omitted == alone | {("plain", tuple(sorted((3, c)))) for c in range(10) if c != 3}
    for block in plan.blocks:
        assert [run.objective for run in block.runs] == (
            ["hard", "kd"] if block.transfer.variant == "plain" and block.transfer.omitted else ["kd"]
        )


def test_the_teacher_saw_all_digits_and_no_image_of_the_pool(finished):
    asked, plan, _, _ = finished
    kept = read_json(next((asked.run.out / "teachers").glob("*/teacher.json")))
    assert kept["data"] == plan.dataset.fingerprint
    assert len(list((asked.run.out / "teachers").glob("*/teacher.json"))) == 1
    assert set(plan.dataset.train.labels) == set(range(10))
    assert not keys(plan.dataset.train.images) & keys(plan.dataset.holdout.images)


def test_a_teacher_that_saw_the_pool_is_refused(finished):
    asked, _, _, _ = finished
    (teacher,) = (path.parent for path in (asked.run.out / "teachers").glob("*/teacher.json"))
    given = dataclasses.replace(asked, teacher=TeacherConfig(), teacher_from=(teacher,))
    assert omit_digit.prepare(given).loaded
    other = dataclasses.replace(given, data=dataclasses.replace(asked.data, holdout=400))
    with pytest.raises(BadInput, match="was not trained on these training images less the hold-out"):
        omit_digit.prepare(other)


def test_what_no_student_finished_is_not_drawn_and_what_was_drawn_before_goes(finished, tmp_path):
    _, _, folder, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    (copy / MANIFEST).unlink()
    omission_figures.draw(copy)
    rows = omission_run.read(copy)
    # The same rows as those of a task of `--each` under way: all classes were seen, and no distilled student is there.
    other = rows[rows["student"] == "all_digits"].assign(omitted="5")
    pd.concat([rows, other]).to_csv(copy / "results.csv", index=False)
    drawn = {path.stem for path in omission_figures.draw(copy)}
    assert drawn == {"soft_predictions", "each"} == {path.stem for path in (copy / "figures").iterdir()}
    failed = rows.assign(failed_at=np.where(rows["student"] == "all_digits", -1, 3))
    failed.to_csv(copy / "results.csv", index=False)
    drawn = {path.stem for path in omission_figures.draw(copy)}
    assert drawn == {"errors_by_class"} == {path.stem for path in (copy / "figures").iterdir()}


@pytest.mark.parametrize(
    ("missing", "left_out"),
    [
        ("plain-without-3-8-seed0", ["distilled", "control", "pairs", "control_pairs"]),  # a pair: no bias of seen_only
        ("mean_logit-without-3-seed0", ["mean_logit"]),
    ],
)
def test_a_run_under_way_has_the_rows_of_students_whose_blocks_are_all_there(
    finished, table, tmp_path, missing, left_out
):
    _, plan, folder, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    (copy / MANIFEST).unlink()
    there = {block.name for block in plan.blocks if block.seed == 0} - {missing}
    corrections.write_results(copy, plan.blocks, there)
    expected = table[(table["seed"] == 0) & ~table["student"].isin(left_out)].reset_index(drop=True)
    pd.testing.assert_frame_equal(omission_run.read(copy), expected, check_dtype=False)
    (copy / "config.json").write_text(
        json.dumps({**read_json(copy / "config.json"), "progress": {"done": 13, "total": 28}})
    )
    assert omission_table.write_summary(copy).splitlines()[0].endswith(", 13 of 28 blocks")
    assert omission_run.load(copy).where.endswith("1 seed, 13 of 28 blocks")
    if "distilled" in left_out:
        with pytest.raises(BadInput, match="holds no distilled student yet"):
            omission_figures.draw(copy)
    (copy / "results.csv").unlink()
    corrections.write_results(copy, plan.blocks, {missing} & {"plain-without-3-8-seed0"})
    assert not (copy / "results.csv").exists()


def test_students_that_failed_are_counted_for_every_correction(table):
    failed = (table["student"] == "distilled") & (table["seed"] == 1)
    rest = table[~failed | (table["correction"] == "none")]  # a student that failed is not corrected
    rows = omission_rows.summarise(rest.assign(failed_at=np.where(failed[rest.index], 3, -1)))
    assert {row.correction: row.failed for row in rows if row.student == "distilled"} == dict.fromkeys(
        ["none", "oracle", "validation", "label_free", "seen_only"], 1
    )


def test_students_of_which_every_run_failed_are_named(finished, table, tmp_path):
    _, _, folder, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    (copy / MANIFEST).unlink()
    lost = table["student"].isin(["control", "pairs", "control_pairs"])  # pairs have no row of their own
    table.assign(failed_at=np.where(lost, 3, -1)).to_csv(copy / "results.csv", index=False)
    said = "* hard labels without 3: every run failed (loss not finite), so no row says anything of them."
    assert said in omission_table.write_summary(copy)
    assert "every run failed" not in omission_table.write_summary(folder)


@pytest.mark.parametrize(
    ("tasks", "name"),
    [([(3,)], "digit3"), ([(3, 5)], "digits3-5"), ([(0, 1, 2, 3, 4, 5, 6, 9)], "keep7-8"), ([(0,), (1,)], "each")],
)
def test_a_default_name_says_what_is_omitted(tasks, name):
    assert omit_digit.name_tasks(tasks, 10) == name


def test_each_run_has_a_row_for_each_correction_in_canonical_order(table):
    per_run = {
        "distilled": ["none", "oracle", "validation", "label_free", "seen_only"],
        "all_digits": ["none"],
        "control": ["none", "oracle", "validation", "label_free", "seen_only"],
        "permuted": ["none", "oracle", "validation", "label_free"],
        "mean_logit": ["none", "oracle", "validation", "label_free"],
        "with_pool": ["none"],
        "pairs": ["fitted"] * 9,
        "control_pairs": ["fitted"] * 9,
    }
    wanted = [(student, seed, name) for student, names in per_run.items() for seed in range(2) for name in names]
    assert list(table[["student", "seed", "correction"]].itertuples(index=False, name=None)) == wanted
    assert table["temperature"].isna().equals(table["objective"] == "hard")


def test_rows_are_right(finished, table):
    _, plan, folder, _ = finished
    labels = plan.dataset.test.labels
    for _, row in table.iterrows():
        logits = np.load(folder / "blocks" / row["block"] / "logits.npz")["test"][row["place"]].astype(np.float64)
        raised = [] if row["without"] == "none" else [int(value) for value in row["without"].split()]
        logits[:, raised] += row["bias"]
        wrong = logits.argmax(axis=1) != labels
        assert row["test_errors"] == wrong.sum() and row["omitted_errors"] == wrong[labels == 3].sum()
        assert [row[f"class_{c}_errors"] for c in range(10)] == [wrong[labels == c].sum() for c in range(10)]
    assert (table.loc[table["correction"] == "none", "bias"] == 0).all()


def test_oracle_is_the_fewest_and_the_median_of_the_pairs_is_seen_only(table):
    for student, pairs in (("distilled", "pairs"), ("control", "control_pairs")):
        for seed in range(2):
            mine = table[(table["student"] == student) & (table["seed"] == seed)].set_index("correction")
            assert mine["test_errors"].min() == mine.loc["oracle", "test_errors"]
            fitted = table[(table["student"] == pairs) & (table["seed"] == seed)]
            assert mine.loc["seen_only", "bias"] == pytest.approx(fitted["bias"].median())
            assert {frozenset(value.split()) - {"3"} for value in fitted["without"]} == {
                frozenset(str(c)) for c in range(10) if c != 3
            }


@pytest.mark.parametrize("student", MAIN)
def test_label_free_reads_no_labels(finished, student):
    honest = biases(reader(finished), student)
    poisoned = reader(finished)
    poisoned.labels = np.full_like(poisoned.labels, 3)
    poisoned.pool_labels = np.full_like(poisoned.pool_labels, 3)
    poisoned._students = ()  # its pairs would have no label to be fitted on
    found = biases(poisoned, student)
    assert found["label_free"] == honest["label_free"]
    assert found["validation"] != honest["validation"] and found["oracle"] != honest["oracle"]  # the poison is read


def test_validation_and_label_free_read_no_test_image(finished):
    honest, poisoned = biases(reader(finished)), reader(finished)
    load = poisoned._load

    def no_test_logits(block):
        kept, test, pool = load(block)
        return kept, np.random.default_rng(0).normal(0, 9, test.shape), pool

    poisoned._stored = no_test_logits
    found = biases(poisoned)
    assert {name for name in found if found[name] != honest[name]} == {"oracle"}


def test_seen_only_reads_no_image_of_the_digit(finished):
    honest, poisoned = biases(reader(finished)), reader(finished)
    load, of_digit = poisoned._load, poisoned.pool_labels == 3
    assert of_digit.any()

    def digit_poisoned(block):
        kept, test, pool = load(block)
        pool = pool.copy()
        pool[:, of_digit] = np.nan
        return kept, test * np.nan, pool

    poisoned._stored = digit_poisoned
    run = next(run for run in finished[1].blocks[0].runs if run.objective == "kd")
    fitted = poisoned.pair_biases("pairs", (3,), 0, run)
    assert np.median(list(fitted.values())) == honest["seen_only"]
    # And not for want of looking at the rest: the other images are read.
    poisoned.pool_labels = np.where(of_digit, 3, (poisoned.pool_labels + 1) % 3)
    assert np.median(list(poisoned.pair_biases("pairs", (3,), 0, run).values())) != honest["seen_only"]


def test_what_is_finished_is_not_trained_again_and_what_is_damaged_is(finished, capfd):
    _, plan, folder, _ = finished
    before = (folder / "results.csv").read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "blocks").iterdir()}
    (folder / "blocks" / "permuted-without-3-seed1" / "rows.json").write_text("[]")
    omit_digit.run(plan)
    assert "permuted-without-3-seed1 is trained again" in capfd.readouterr().err
    changed = {path.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {"permuted-without-3-seed1"}
    assert (folder / "results.csv").read_bytes() == before


def test_killed_in_mid_block_it_resumes_to_the_same_bits(finished, tmp_path):
    said = "--digit 3 --dataset mnist5k --holdout 500 --width 12 --seeds 2 --epochs 2 --batch-size 250 --devices 1"
    said += " --learning-rate 0.01 --teacher.widths 32 --teacher.epochs 4 --teacher.batch-size 50 --teacher.jitter 0"
    where = ["--name", "first", "--out", str(tmp_path / "runs"), "--data-dir", str(tmp_path / "data")]
    arguments = [*said.split(), *where, "--checkpoint-seconds", "0"]
    process = commands.start(arguments, "experiments.omit_digit", env=hurry.environment())
    folder = tmp_path / "runs" / "omit_digit" / "first"
    while process.poll() is None and not (
        [*folder.glob("blocks/*")] and [*folder.glob("checkpoints/*seed0/0*/MANIFEST.json")]
    ):
        time.sleep(0.002)
    process.kill()
    assert commands.finish(process)[0] == -signal.SIGKILL
    assert not (folder / "results.csv").exists()
    asked = config(tmp_path, digit=(3,), name="first")
    assert omit_digit.run(omit_digit.prepare(asked)) == folder
    for name in ("results.csv", "history.jsonl"):
        assert (folder / name).read_bytes() == (finished[2] / name).read_bytes()
    assert not [*folder.glob("checkpoints/*")]


def test_the_table_names_students_corrections_and_pairs_seeds(finished, table):
    text = omission_table.write_summary(finished[2])
    for words in ("Students without 3, T = 20", "distilled on all classes", "label-free", "seen only", "paired, n = 2"):
        assert words in text
    assert "paper" not in text  # its figures are full MNIST's
    found = omission_rows.compare(table, "3", 20.0)["oracle − distilled on all classes"]
    errors = table.set_index(["student", "correction", "seed"])["test_errors"]
    differences = [errors["distilled", "oracle", s] - errors["all_digits", "none", s] for s in range(2)]
    assert found.mean == np.mean(differences) and found.n == 2


def test_other_targets_are_another_run_and_named(tmp_path):
    asked = config(tmp_path, digit=(3,), targets="shuffled", students=("distilled",), seeds=1)
    plan = omit_digit.prepare(asked)
    assert plan.folder != omit_digit.prepare(dataclasses.replace(asked, targets="teacher")).folder
    folder = omit_digit.run(plan)
    text = omission_table.write_summary(folder)
    assert "; targets: shuffled targets" in text.splitlines()[0]
    assert "Soft targets of every student: shuffled targets." in text
    with np.load(folder / "blocks" / plan.blocks[0].name / "logits.npz") as logits:
        assert np.isfinite(logits["test"]).all()


def test_keep_lowers_the_seen_and_trains_on_them_alone(tmp_path):
    asked = config(tmp_path, keep=(7, 8), seeds=1, epochs=60, students=("pairs",))
    folder = omit_digit.run(omit_digit.prepare(asked))
    table = omission_run.read(folder)
    assert table["omitted"].unique().tolist() == ["0 1 2 3 4 5 6 9"]
    assert set(table.loc[table["student"] == "pairs", "without"]) == {"0 1 2 3 4 5 6 7 9", "0 1 2 3 4 5 6 8 9"}
    mine = table[table["student"] == "distilled"].set_index("correction")
    assert mine.loc["oracle", "test_errors"] < mine.loc["none", "test_errors"] and mine.loc["oracle", "bias"] > 0
    assert "on 7 and 8 alone" in omission_table.write_summary(folder)


def test_each_trains_a_pair_once_for_both_its_digits(tmp_path):
    plan = omit_digit.prepare(config(tmp_path, each=True))
    assert len(plan.blocks) == 2 * (10 + 1 + 45)
    assert len({block.name for block in plan.blocks}) == len(plan.blocks)
    assert plan.identity["config"]["omitted"] == [(value,) for value in range(10)]


def test_temperatures_share_a_block(tmp_path):
    plan = omit_digit.prepare(config(tmp_path, temperatures=(1.0, 8.0, float("inf"))))
    (first, *_) = plan.blocks
    assert [run.objective for run in first.runs] == ["hard", "kd", "kd", "kd"]
    assert len(plan.blocks) == 2 * (5 + 9)


def test_few_images_get_more_epochs_unless_the_user_says_how_many(tmp_path):
    plan = omit_digit.prepare(config(tmp_path, keep=(7, 8), epochs=None))
    epochs = {block.transfer.omitted: block.config.epochs for block in plan.blocks}
    assert epochs[()] * FEW == epochs[0, 1, 2, 3, 4, 5, 6, 9]
    # All students of a task are trained for as long, though the pool or a pair of classes makes more or fewer images.
    for kept in ((0, 1, 2, 3), (5, 6, 7, 8, 9)):
        plan = omit_digit.prepare(config(tmp_path, keep=kept, epochs=None))
        assert len({block.config.epochs for block in plan.blocks if block.transfer.omitted}) == 1


def test_the_default_pool_depends_on_the_dataset(tmp_path):
    asked = config(tmp_path, holdout=0, train_images=None)
    plan = omit_digit.prepare(asked)
    assert len(plan.dataset.holdout.images) == 500 and len(plan.dataset.train.images) == 3500


def test_seeds_are_trained_one_after_another(tmp_path):
    """So that a run under way has whole seeds to tell of, and the pairs behind `seen_only` are not the last thing."""
    seeds = [block.seed for block in omit_digit.prepare(config(tmp_path)).blocks]
    assert seeds == sorted(seeds) and len(set(seeds)) > 1


def test_forecast_names_the_cost(tmp_path):
    text = forecast.of_sweep(omit_digit.prepare(config(tmp_path))).text
    assert "a teacher and 48 students in 28 blocks" in text
    assert not (tmp_path / "runs").exists()


BAD = {
    "--digit 10": "0 to 9",
    "--digit -1": "0 to 9",
    "--digit three": "three",
    "--digit 3 11": "--digit 11",
    "--digit 3 3": "repeats 3",
    "--digit 0 1 2 3 4 5 6 7 8 9": "leaves 0 of 10",
    "--digit 0 1 2 3 4 5 6 7 8": "leaves 1 of 10",
    "--digit 3 --keep 7 8": "--digit with --keep",
    "--digit 3 5 --each": "--digit with --each",
    "--keep": "--keep is given without a value",
    "--keep 7": "--keep 7",
    "--keep 7 12": "--keep 12",
    "--keep 0 1 2 3 4 5 6 7 8 9": "omits nothing",
    "--temperatures": "empty",
    "--temperatures 0": "above 0",
    "--temperatures nan": "above 0",
    "--temperatures 1e400": "too large",
    "--temperatures 4 4": "repeats 4",
    "--soft-weight 0": "(0, 1]",
    "--soft-weight 1.5": "(0, 1]",
    "--students nobody": "nobody",
    "--students pairs pairs": "repeats pairs",
    "--width 0": "--width 0 is not allowed: it is a number of units, 1 to 100,000",
    "--width 200000": "--width 200000 is not allowed",
    "--seeds 0": "--seeds 0",
    "--epochs -1": "--epochs -1",
    "--learning-rate -1": "positive",
    "--name a/b": "one folder",
    "--holdout 4000": "--holdout 4000",
    "--holdout 5": "pool images hold none of class",
    "--train-images 9": "training images hold none of class",
    "--batch-size 5000": "--batch-size 5000",
    "--keep 7 8 --batch-size 500": "too large",
    "--dataset mnist6k": "did you mean mnist5k",
    "--teacher-from nowhere": "no teacher",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_message_and_exit_code_2(line, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("KDJAX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("KDJAX_RAW_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    arguments = [*([] if "--dataset" in line else ["--dataset", "mnist5k"]), *line.split()]
    with pytest.raises(SystemExit) as ending:
        cli.run(omit_digit.main, OmitConfig, omit_digit.PROG, arguments)
    assert ending.value.code == 2
    said = capfd.readouterr().err
    assert BAD[line] in said and "Traceback" not in said
    assert len([text for text in said.splitlines() if text.startswith("error:")]) <= 1
    assert not (tmp_path / "runs").exists()


def test_help_needs_no_jax():
    code = "import sys, experiments.omit_digit; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
