"""The CIFAR-10 table: which sweeps it is made of, what is refused, and all of it on few images, random and real."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import t as student_t

from analysis import crossed, plot_cifar10_table, stats, tables, tuning
from analysis.cifar10 import claims, class_similarity, figures, lengths, table
from analysis.cifar10.rows import rows_of_table, teacher_less_small
from analysis.cifar10.run import load as load_results
from experiments import cifar10_table
from experiments.cifar10 import evaluations, members
from experiments.cifar10.config import PRESETS, TableConfig
from experiments.cifar10_table import PROG
from kdjax import (
    cli,
    datasets,
    identity,
    metrics,
    models,
    progress,
    run_directory,
    run_folders,
    sweeps,
    teachers,
    train,
    trained,
    transforms,
)
from kdjax.config import DataConfig
from kdjax.errors import BadInput
from kdjax.files import read_json
from kdjax.identity import canonical_json
from tests import commands
from tests.raw_files import write_random_cifar

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FEW = [
    *("--width-multiplier", "0.125", "--epochs", "6", "--batch-size", "16", "--holdout", "20", "--devices", "1"),
    *("--batch-statistics", "--stability"),
]
TINY = [
    *(*FEW, "--teacher-epochs", "2", "--seeds", "2", "--teachers", "2", "--name", "run", "--temperatures", "inf"),
    *("--controls", "double_softmax", "shuffled", "random", "uniform"),
]


def call(root, *arguments, out=None):
    """The table of the pictures in `root`, kept in `out` (there too)."""
    places = ("--out", str(out or root / "runs"), "--data-dir", str(root / "data"), "--raw-dir", str(root / "raw"))
    return commands.call(cifar10_table.main, TableConfig, [*arguments, *places], PROG)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    write_random_cifar(root / "raw")
    return root


@pytest.fixture(scope="module")
def whole(pictures):
    code, said = call(pictures, *TINY)
    assert code == 0, said
    return pictures


def folder_of(root):
    return root / "runs" / "cifar10_table" / "run"


def test_presets_are_whole_settings_that_options_change():
    assert list(PRESETS) == ["cpu", "full", "post", "fast"]
    assert all(config.preset == name for name, config in PRESETS.items())
    assert cli.parse(TableConfig, PROG, [], PRESETS) == TableConfig()
    post = cli.parse(TableConfig, PROG, ["--preset", "post", "--epochs", "3"], PRESETS)
    assert post == dataclasses.replace(PRESETS["post"], epochs=3)
    asked = members.members(PRESETS["post"])[0].config
    student, teacher = asked.student(256, 1), asked.teacher.train_config(1)
    for recipe, network, hidden in ((student, "small", (256,)), (teacher, "big", (512,))):
        assert (recipe.network, recipe.hidden, recipe.epochs, recipe.batch_size) == (network, hidden, 300, 128)
        assert (recipe.schedule, recipe.augment, recipe.jitter) == ("constant", "full", 0)
    assert asked.rates() == (3e-3,) and asked.teacher.learning_rate == 3e-3
    assert (
        asked.temperatures == (10.0,) and asked.soft_weights == (0.9,) and asked.objectives == ("kd", "double_softmax")
    )
    widths = {"cpu": (128, 256), "full": (256, 512), "post": (256, 512), "fast": (16, 64)}
    for name, (narrow, wide) in widths.items():
        of_preset = members.members(PRESETS[name])[0].config
        assert (of_preset.widths, of_preset.teacher.widths) == ((narrow,), (wide,))
    assert PRESETS["full"].epochs * 10 <= PRESETS["post"].epochs
    assert PRESETS["cpu"].seeds >= 5 and PRESETS["cpu"].width_multiplier == 0.5


def test_dropout_after_the_last_batch_norm_is_another_table_of_other_networks():
    plain, after = (TableConfig(dropout_after_norm=given) for given in (False, True))
    asked = members.members(after)[0].config
    assert asked.student(256, 1).network == "small_after_norm"
    assert asked.teacher.train_config(1).network == "big_after_norm"
    assert asked.widths == members.members(plain)[0].config.widths
    assert identity.result_fields(plain) != identity.result_fields(after)


def test_double_softmax_is_an_objective_of_the_first_sweep_and_other_controls_have_their_own():
    config = TableConfig(controls=("shuffled", "double_softmax"), temperatures=(1.0, 10.0, math.inf))
    first, others, control = members.members(config)
    assert (
        first.config.temperatures == (10.0,)
        and first.config.hard_labels
        and "double_softmax" in first.config.objectives
    )
    assert first == members.members(TableConfig())[0]  # so that temperatures can be added later
    assert (others.role, others.config.temperatures) == ("temperatures", (1.0, math.inf))
    assert (control.role, control.config.targets, control.config.temperatures) == ("shuffled", "shuffled", (10.0,))
    assert not any(one.config.hard_labels or "double_softmax" in one.config.objectives for one in (others, control))


REFUSED = {
    "--dataset mnist": "--dataset mnist is grey-scale: this table is of networks for colour images",
    "--dataset auto": "--dataset auto is grey-scale",
    "--dataset cifar-10": "--dataset cifar-10 is unknown: ",
    "--width-multiplier 0.01": "--width-multiplier 0.01 is not allowed: 3 hidden units are too few for the small",
    "--width-multiplier 0": "--width-multiplier 0 is not allowed",
    "--controls shuffled shuffled": "--controls names one twice",
    "--temperature 0": "--temperature 0 is not allowed",
    "--temperatures -1": "--temperatures -1 is not allowed",
    "--soft-weight 0": "--soft-weight 0 is not allowed",
    "--teachers 0": "--teachers 0 is not allowed",
    "--epochs 0": "--epochs 0 is not allowed",
    "--stability --epochs 5": "--stability needs --epochs 6 or more",
    "--temperatures 1 1": "--temperatures repeats 1",
    "--holdout 20 --teacher-epochs 3 --teacher-from missing": "--teacher-epochs 3 with --teacher-from is not allowed",
    "--holdout 20 --teacher-seed 3 --teacher-from missing": "--teacher-seed 3 with --teacher-from is not allowed",
    "--teacher-seed -1": "--teacher-seed -1 is not allowed: it lies in 0 to",
    "--teacher-epochs 0": "--teacher-epochs 0 is not allowed",
    "--holdout 100": "--holdout 100 is not allowed",
    "--holdout 20 --batch-size 90": "--batch-size 90 is more than the 80 training examples: give at most 80",
    "--holdout 20 --batch-size 16 --teacher-from missing": "missing is no teacher",
    "--preset fast --holdout 20 --batch-size 16 --teacher-from missing": "missing is no teacher",
    "--lengths 3 12": "--lengths 12 is not allowed: the table itself has these --epochs",
    "--tuning-weights 0.5": "--tuning-weights needs --tuning-rates",
    "--tuning-rates 0.1 --tuning-weights 0.5 --soft-weight 0.7": "--soft-weight is not allowed with --tuning-weights",
    "--tuning-seeds 3": "--tuning-seeds needs several --tuning-rates or --tuning-weights",
    "--tuning-rates 0.1 --tuning-seeds 3": "--tuning-seeds needs several --tuning-rates or --tuning-weights",
    "--tuning-rates -1": "--tuning-rates -1 is not allowed",
    "--tuning-rates 0.1 0.2 --holdout 0": "--tuning-rates needs a --holdout",
    "--tuning-rates 0.1 --controls random": "--tuning-rates is for hard labels, soft targets",
    "--small-width 8": "--small-width says nothing of --networks post",
    "--networks fast --width-multiplier 1": "--width-multiplier says nothing of --networks fast",
    "--networks fast --dropout-after-norm": "--dropout-after-norm says nothing of --networks fast",
    "--networks fast --small-width 0": "--small-width 0 is not allowed",
    "--each-teaches": "--each-teaches needs --teachers 2 or more",
    "--networks fast --batch-statistics": "--batch-statistics with --networks fast is not",
    "--each-teaches --teachers 2 --batch-statistics": "--batch-statistics with --each-teaches is not allowed",
}


@pytest.mark.parametrize("line", REFUSED)
def test_bad_input_is_one_line(pictures, line):
    before = sorted((pictures / "runs").rglob("*"))
    code, said = call(pictures, *line.split())
    told = [text for text in said.splitlines() if text.startswith("error: ")]
    assert code == 2 and len(told) == 1 and "Traceback" not in said, said
    assert REFUSED[line] in told[0]
    assert sorted((pictures / "runs").rglob("*")) == before


def test_an_unknown_preset_is_one_line():
    said = commands.finish(commands.start(["--preset", "slow"], "experiments.cifar10_table"))
    assert said == (2, "error: --preset slow is unknown: there are cpu, full, post, fast\n")


def test_a_teacher_of_another_shape_is_refused(whole, tmp_path):
    (known, _) = sorted((whole / "runs" / "teachers").glob("*/teacher.json"))
    teacher = teachers.load(known.parent)
    grey = {**teacher.info, "input_shape": [28, 28, 1]}
    teachers.save(tmp_path / "grey", teacher.params, grey, teacher.model_state)
    code, said = call(whole, "--holdout", "20", "--batch-size", "16", "--teacher-from", str(tmp_path / "grey"))
    assert code == 2 and "is a teacher for images of shape (28, 28, 1), and cifar10 has (32, 32, 3)" in said


def test_every_row_is_there_with_its_runs(whole):
    results = load(whole)
    rows = {(row.role, row.temperature): row for row in rows_of_table(results)}
    soft = {("distilled", t) for t in (10.0, math.inf)}
    others = {(kind, 10.0) for kind in ("double_softmax", "shuffled", "random", "uniform")}
    assert {key for key in rows if not math.isnan(key[1])} == soft | others
    assert [role for role, t in rows if math.isnan(t)] == ["small", "big"]
    assert all(found.n == 2 for row in rows.values() for found in row.measures.values())
    assert all(row.differences["test_accuracy"].n == 2 for key, row in rows.items() if not math.isnan(key[1]))
    raw = run_directory.read_results(results.sweeps["teacher"][0])
    hard = raw[raw["objective"] == "hard"]
    small = next(row for row in rows.values() if row.role == "small")
    assert small.measures["holdout_accuracy"].mean == pytest.approx(100 - 100 * hard["holdout_errors"].mean() / 20)
    assert small.measures["holdout_nll"].mean == pytest.approx(hard["holdout_nll"].mean())
    over = 100 * hard["holdout_confidence"].mean() - small.measures["holdout_accuracy"].mean
    assert small.measures["holdout_overconfidence"].mean == pytest.approx(over)
    at = raw[(raw["objective"] == "double_softmax") & (raw["temperature"] == 10.0)].set_index("seed")["holdout_nll"]
    paired = rows["double_softmax", 10.0].differences["holdout_nll"]
    assert paired.mean == pytest.approx((at - hard.set_index("seed")["holdout_nll"]).mean())


def test_stability_is_measured_beside_the_table_and_adds_no_row(whole):
    text = (folder_of(whole) / "summary.md").read_text()
    assert "\n## Fluctuation from epoch to epoch" in text and "constant learning rate" in text
    results = load(whole)
    assert (results.results["role"] == "distilled").sum() == 2 * 2  # two temperatures, two seeds
    (steady,) = (path for path in results.sweeps["stability"])
    assert read_json(steady / "config.json")["identity"]["config"]["schedule"] == "constant"


def load(root):
    return load_results(folder_of(root))


def test_the_summary_says_on_which_images_and_what_each_network_is(whole):
    text = (folder_of(whole) / "summary.md").read_text()
    assert "(first 80 training images, last 20 held out, first 10 test images)" in text.splitlines()[0]
    assert "20 training images that are held out" in text
    assert "not so for shuffled targets and uniform targets: one target an image" in text
    assert "small: 12,754 parameters" in text and "queried at each step" in text
    assert "| big, hard labels (the first is the teacher) | – |" in text and "90 %" in text
    assert {path.suffix for path in (folder_of(whole) / "figures").iterdir()} == {".png", ".pdf", ".svg"}
    shown = (folder_of(whole) / "report.html").read_text()
    assert "Figure 2." in shown and "hard labels (the first is the teacher)" in shown and "double softmax" in shown


def test_targets_of_double_softmax_are_softer_than_its_teachers(whole):
    raw = run_directory.read_results(load(whole).sweeps["teacher"][0])
    at = raw.groupby("objective")["soft_target_entropy"].mean()
    assert at["kd"] < at["double_softmax"] <= math.log(10)


def test_the_same_command_again_trains_nothing(whole):
    before = (folder_of(whole) / "table.csv").read_bytes()
    blocks = {path: path.stat().st_mtime_ns for path in whole.glob("runs/cifar10_table/sweeps/*/blocks/*")}
    code, said = call(whole, *TINY)
    assert code == 0 and "2 of 2 blocks are finished already" in said and "students:" not in said
    assert (folder_of(whole) / "table.csv").read_bytes() == before
    assert blocks == {path: path.stat().st_mtime_ns for path in whole.glob("runs/cifar10_table/sweeps/*/blocks/*")}


def test_a_damaged_sweep_is_refused_before_the_table_is_touched(whole, tmp_path):
    shutil.copytree(whole / "runs", tmp_path / "runs")
    table = tmp_path / "runs" / "cifar10_table" / "run"
    sweep = run_folders.sweeps_of(table)[0]
    config = sweep / "config.json"
    config.write_bytes(config.read_bytes()[:100])
    before = {path: path.read_bytes() for path in table.rglob("*") if path.is_file()}
    for more in ((), ("--dry-run",), ("--fresh",)):
        code, said = call(whole, *TINY, *more, out=tmp_path / "runs")
        assert code == 2 and f"{config} is damaged (not JSON): put it back, remove the folder {sweep}" in said
        assert {path: path.read_bytes() for path in table.rglob("*") if path.is_file()} == before
    config.unlink()
    code, said = call(whole, *TINY, out=tmp_path / "runs")
    assert code == 2 and "no config.json to say what of: put that back, remove the folder" in said
    assert {path: path.read_bytes() for path in table.rglob("*") if path.is_file()} == before
    shutil.rmtree(sweep)  # as the message says
    code, said = call(whole, *TINY, "--dry-run", out=tmp_path / "runs")
    assert code == 0, said


def test_teachers_and_networks_are_evaluated_alike(whole):
    teacher = next((whole / "runs" / "teachers").glob("*/teacher.json")).parent
    given = ("--teacher-from", str(teacher), "--mirrored-views")
    code, said = call(whole, *FEW, "--seeds", "1", *given)
    assert code == 2 and "differ in mirrored views: leave out --mirrored-views" in said


def test_the_posts_distilled_network_stands_beside_double_softmax(whole):
    lines = (folder_of(whole) / "summary.md").read_text().splitlines()
    posted = {line.split("|")[1].strip() for line in lines if "| 85 % |" in line}
    assert posted == {"small, hard labels", "small, control: double softmax"}


def test_of_distilled_networks_what_can_be_claimed_is_marked(tuned):
    rows = {row.role: row for row in rows_of_table(tuned)}  # distilled at the last T
    sure, unsure, none = (
        stats.difference(stats.interval(np.array(each)))
        for each in ([3.0, 3.1, 2.9], [1.0, 2.0, 1.2], [0.1, -0.2, 0.0])
    )
    assert unsure.differs and unsure.p > 0.025
    others = [rows["distilled"]._replace(temperature=t) for t in (1.0, 4.0, 8.0)]
    found = [
        row._replace(differences=dict.fromkeys(tuned.columns, less), from_smoothing=less)
        for row, less in zip([*others, rows["label_smoothing"]], [sure, unsure, none, sure], strict=True)
    ]
    cells = [line.split("|")[3] for line in table._differences(found, tuned).splitlines()[4:8]]
    assert ["†" in cell for cell in cells] == [True, False, False, False]


def test_its_figure_again(whole):
    arguments = [str(folder_of(whole))]
    assert commands.call(
        plot_cifar10_table.main, plot_cifar10_table.PlotConfig, arguments, plot_cifar10_table.PROG
    ) == (0, "")
    code, said = commands.call(
        plot_cifar10_table.main, plot_cifar10_table.PlotConfig, ["--out", str(whole)], plot_cifar10_table.PROG
    )
    assert code == 2 and "holds no finished table" in said


def test_big_less_small_is_over_images(whole):
    results = load(whole)
    found = teacher_less_small(results)
    assert {split: interval.n for split, interval in found.items()} == {"test": 10, "holdout": 20}
    hard = results.results[results.results["role"] == "small"]
    for split, interval in found.items():
        expected = results.teacher[split]["accuracy"] - hard[f"{split}_accuracy"].mean()
        assert interval.mean == pytest.approx(expected)
    # Of each image of the hold-out by hand: is the teacher right, less the share of the two small networks that are?
    with np.load(results.folder / "teacher.npz") as teacher:
        labels, right = teacher["holdout_labels"], [teacher["holdout_logits"].argmax(1) == teacher["holdout_labels"]]
    for block in sorted((results.sweeps["teacher"][0] / "blocks").iterdir()):
        trained = [row["objective"] for row in read_json(block / "rows.json")["rows"]]
        if "hard" not in trained:  # double softmax has blocks of its own
            continue
        index = trained.index("hard")
        with np.load(block / "logits.npz") as logits:
            right.append(logits["holdout"][index].argmax(1) == labels)
    by_image = 100.0 * (right[0] - (right[1] * 0.5 + right[2] * 0.5))
    spread = student_t.ppf(0.975, 19) * by_image.std(ddof=1) / math.sqrt(20)
    assert found["holdout"].high - found["holdout"].mean == pytest.approx(spread)


def test_every_network_is_evaluated_with_statistics_under_dropout_and_without(whole):
    results = load(whole)
    frame = pd.read_csv(results.folder / "batch_statistics.csv")
    keys = ["role", "temperature", "seed"]
    kept = frame[frame["statistics"] == "trained"].set_index(keys).sort_index()
    expected = results.results[[*keys, *results.columns]].set_index(keys).sort_index()
    assert [str(key) for key in kept.drop("big").index] == [str(key) for key in expected.index]
    # As in the table: these are the statistics of the training.
    for column in results.columns:
        np.testing.assert_allclose(kept.drop("big")[column], expected[column], rtol=1e-4, atol=1e-4)
    assert kept.loc["big"]["holdout_nll"].tolist() == pytest.approx([one["holdout"]["nll"] for one in results.networks])
    by = frame.pivot(index=keys, columns="statistics", values="holdout_nll")
    assert len(frame) == 3 * (14 + 2) and (by["dropout"] != by["clean"]).all() and (by["trained"] != by["clean"]).all()


def test_statistics_collected_again_are_means_over_batches_of_training_images(whole):
    results = load(whole)
    dataset = datasets.load(DataConfig("cifar10", whole / "raw", whole / "data", holdout=20))
    student = trained.find(results.sweeps["teacher"][0], objective="hard", seed=1)[0]
    frame = pd.read_csv(results.folder / "batch_statistics.csv").set_index(["role", "seed", "statistics"])
    changed = dataclasses.replace(student.config, augment="flip_shift")
    images = jnp.asarray(dataset.train.images.reshape(5, 16, 32, 32, 3))
    params, state = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), student.variables)
    model, view = models.network(student.config, (32, 32, 3), 10), train.make_view(changed)

    @jax.jit
    def of_batch(images, key):
        seen = view(train.Batch(images, jnp.zeros(16, jnp.int32), jnp.zeros((16, 10)), key))
        return [models.batch_statistics(model, params, state, seen.images, key) for key in (seen.key, None)]

    sums = [of_batch(images[index], jax.random.fold_in(jax.random.key(0), index)) for index in range(5)]
    for name, each in zip(("dropout", "clean"), zip(*sums, strict=True), strict=True):
        mean = jax.tree.map(lambda *leaves: sum(leaves) / 5, *each)
        logits = np.asarray(
            model.apply(params, mean, transforms.to_float(jnp.asarray(dataset.holdout.images)), False)[0]
        )
        expected = metrics.nll(logits, dataset.holdout.labels)
        assert frame.loc["small", 1, name]["holdout_nll"] == pytest.approx(expected, rel=1e-4)


def test_statistics_are_of_one_batch_where_it_has_more_images_than_are_wanted(whole, tmp_path, monkeypatch):
    shutil.copytree(whole / "runs" / "cifar10_table", tmp_path / "cifar10_table")
    folder = tmp_path / "cifar10_table" / "run"
    dataset = datasets.load(DataConfig("cifar10", whole / "raw", whole / "data", holdout=20))
    monkeypatch.setattr(evaluations, "STATISTICS_IMAGES", 15)  # of a batch of 16
    evaluations.write_batch_statistics(folder, dataset, [], 1)
    frame = pd.read_csv(folder / "batch_statistics.csv")
    assert len(frame) == 3 * 14 and (frame["images"] == 16).all()


def test_the_summary_compares_the_evaluations(whole):
    text = (folder_of(whole) / "summary.md").read_text()
    _, section = text.split("## Batch statistics collected without dropout")
    assert "batches of 80 training images" in section
    frame = pd.read_csv(folder_of(whole) / "batch_statistics.csv").set_index(["role", "statistics", "seed"])
    values = frame.sort_index()["holdout_accuracy"]
    first, *_ = (line for line in section.splitlines() if line.startswith("| small, hard labels"))
    assert first.split(" | ")[4] == tables.estimate(stats.interval(values["small", "clean"].to_numpy()), 2)
    less = {name: (values["shuffled", name] - values["small", name]).to_numpy() for name in ("clean", "dropout")}
    of_clean, change = stats.interval(less["clean"]), crossed.paired_difference(less["clean"], less["dropout"])
    last = [line for line in section.splitlines() if "shuffled targets" in line][-1]
    assert last.endswith(f"| {tables.estimate(of_clean, 2, sign=True)} | {tables.estimate(change, 2, sign=True)} | 2 |")


def test_a_damaged_record_of_evaluations_is_one_line(whole, tmp_path):
    folder = tmp_path / "cifar10_table" / "run"
    shutil.copytree(folder_of(whole), folder)
    shutil.copytree(whole / "runs" / "cifar10_table" / "sweeps", tmp_path / "cifar10_table" / "sweeps")
    again = (plot_cifar10_table.main, plot_cifar10_table.PlotConfig, [str(folder)], plot_cifar10_table.PROG)
    (folder / "batch_statistics.csv").write_text("role\nsmall\n")
    code, said = commands.call(*again)
    assert code == 2 and "batch_statistics.csv is missing or differs from what was written" in said
    (folder / "MANIFEST.json").unlink()
    code, said = commands.call(*again)
    assert code == 2 and "batch_statistics.csv is damaged" in said and "Traceback" not in said
    (folder / "batch_statistics.csv").unlink()  # as in a run of before
    assert commands.call(*again)[0] == 0
    assert "without dropout" not in (folder / "summary.md").read_text()


def test_the_figure_marks_what_students_and_teacher_are_without_dropout(whole):
    results = load(whole)
    frame = pd.read_csv(results.folder / "batch_statistics.csv")
    clean = frame[frame["statistics"] == "clean"]
    first, *_ = figures.draw_students(results).axes
    marks = [line for line in first.get_lines() if line.get_marker() == "|" and line.get_markersize() == 11]
    rows = [row for row in rows_of_table(results) if row.role != "big"]
    found = {(row.role, row.temperature): mark.get_xdata()[0] for row, mark in zip(rows, marks, strict=True)}
    at = clean[(clean["role"] == "shuffled")]["holdout_accuracy"]
    assert found["shuffled", 10.0] == pytest.approx(at.mean())
    (teacher,) = (line for line in first.get_lines() if line.get_linestyle() == ":")
    of_first = clean[(clean["role"] == "big") & (clean["seed"] == 0)]["holdout_accuracy"]
    assert teacher.get_xdata()[0] == pytest.approx(of_first.item())


def test_a_teacher_far_from_its_students_is_a_number_above_the_axis(whole):
    results = load(whole)
    first, *_ = figures.draw_students(results).axes
    low, high = first.get_xlim()
    far = {split: {**measures, "accuracy": 1000.0} for split, measures in results.teacher.items()}
    axes, *_ = figures.draw_students(results._replace(teacher=far)).axes
    assert "the teacher: 1000.00 →" in axes.get_title("right").splitlines()
    assert axes.get_xlim()[1] <= high + (high - low)
    assert not [line for line in axes.get_lines() if line.get_linestyle() == "--"]


def test_verdicts_on_double_softmax_follow_the_signs(whole):
    results = load(whole)
    changed = results.results.copy()
    bug, true = (changed["role"] == role for role in ("double_softmax", "distilled"))
    seed = changed["seed"] * 1e-4  # a little spread
    for column, of_true, of_bug in (("nll", 0.5, 0.9), ("ece", 0.2, 0.1), ("overconfidence", 3.0, -9.0)):
        changed.loc[true, f"holdout_{column}"] = of_true + seed
        changed.loc[bug, f"holdout_{column}"] = of_bug + 3 * seed
    lines = claims.double_softmax(results._replace(results=changed)).splitlines()
    said = {line.split(",")[0].split(" ")[2]: line.rsplit(": ", 1)[1] for line in lines if "minus distilled" in line}
    assert said == {"NLL": "as predicted.", "ECE": "against the prediction.", "confidence": "as predicted."}


def test_a_changed_byte_of_the_teachers_logits_is_one_line(whole, tmp_path):
    folder = tmp_path / "cifar10_table" / "run"
    shutil.copytree(folder_of(whole), folder)
    path = folder / "teacher.npz"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    path.write_bytes(damaged)
    code, said = commands.call(
        plot_cifar10_table.main, plot_cifar10_table.PlotConfig, [str(folder)], plot_cifar10_table.PROG
    )
    assert code == 2 and "teacher.npz is missing or differs from what was written" in said


def test_a_forecast_counts_students_once_and_further_big_networks(pictures):
    places = ["--out", str(pictures / "none"), "--data-dir", str(pictures / "data"), "--raw-dir", str(pictures / "raw")]
    few = [*TINY, "--schedule", "constant", "--teachers", "3"]
    cost = cifar10_table.forecast(cifar10_table.prepare(cli.parse(TableConfig, PROG, [*few, *places])))
    *lines, total = cost.text.splitlines()
    assert not (pictures / "none").exists()
    named = [line.split(":")[0] for line in lines]
    asked = ["teacher", "temperatures", "shuffled", "random", "uniform"]
    assert named == [*asked, "further big networks"]
    assert "would train a teacher and 6 students in 4 blocks" in lines[0] and ": 2, about " in lines[-1]
    assert total == f"in all about {progress.clock(cost.seconds)} on this device" and cost.seconds > 0


def test_given_teachers_are_described_as_what_they_are_and_evaluated_on_these_images(whole, tmp_path):
    members, known = load_results(folder_of(whole)).networks, whole / "runs" / "teachers"
    both = [str(next(known.glob(f"{one['name']}*/teacher.json")).parent) for one in members]
    fewer = ("--seeds", "1", "--no-stability", "--controls")
    code, said = call(whole, *FEW, *fewer, "--name", "given", "--teacher-from", *both, out=tmp_path)
    assert code == 0, said
    results = load_results(tmp_path / "cifar10_table" / "given")
    assert [one["test"] for one in results.networks] == [one["test"] for one in members]
    assert {one["epochs"] for one in results.networks} == {2} and len(results.taught_by) == 2
    images = datasets.load(DataConfig("cifar10", whole / "raw", whole / "data", holdout=20))
    mean = np.mean([teachers.load(Path(path)).logits(images.holdout.images) for path in both], axis=0)
    assert results.teacher["holdout"]["nll"] == pytest.approx(metrics.nll(mean, images.holdout.labels), rel=1e-5)
    text = (results.folder / "summary.md").read_text()
    assert f"big: {members[0]['parameters']:,} parameters, 2 epochs" in text
    assert "). The small networks: Adam" in text and "The others were given." in text
    assert "big, hard labels (members of the ensemble that teaches)" in text and "their ensemble (the teacher)" in text
    frame = pd.read_csv(results.folder / "batch_statistics.csv").set_index(["role", "statistics"])
    assert len(frame.loc["big", "clean"]) == 2 and "| their ensemble | – |" in text
    assert frame.loc[("ensemble", "trained"), "holdout_nll"].item() == pytest.approx(results.teacher["holdout"]["nll"])


def test_a_table_whose_runs_all_failed_says_so(whole, tmp_path):
    teacher = str(next((whole / "runs" / "teachers").glob("*/teacher.json")).parent)
    some = ("--learning-rate", "1e38", "--seeds", "1", "--teacher-from", teacher)
    code, said = call(whole, *FEW, *some, "--name", "broken", out=tmp_path)
    assert code == 0, said
    text = (tmp_path / "cifar10_table" / "broken" / "summary.md").read_text()
    assert "| small, hard labels | – | failed | failed |" in text and "are left out of the means" in text
    assert "holds no run that did not fail" in text


@pytest.mark.parametrize(
    ("damage", "said_of_it"),
    [
        ("[1]", "config.json is damaged"),
        ("{}", "config.json is damaged"),
        ('{"identity": {"experiment": "cifar10_table"}, "details": {}}', "is no finished run of cifar10_table"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, damage, said_of_it):
    (tmp_path / "config.json").write_text(damage)
    code, said = commands.call(
        plot_cifar10_table.main, plot_cifar10_table.PlotConfig, [str(tmp_path)], plot_cifar10_table.PROG
    )
    assert code == 2 and said_of_it in said and "Traceback" not in said


def test_class_similarity_is_the_mean_soft_target_of_each_class():
    logits = np.random.default_rng(0).normal(0, 3, (40, 4))
    labels = np.arange(40) % 3  # none of the last class
    found = class_similarity.mean_targets(logits, labels, 5.0)
    np.testing.assert_allclose(found[1], softmax(logits[labels == 1] / 5, axis=1).mean(axis=0))
    np.testing.assert_allclose(found[:3].sum(axis=1), 1)
    assert np.isnan(found[3]).all()


def test_the_classes_most_alike():
    similarity = np.full((4, 4), 0.05) + np.eye(4)
    similarity[1, 3], similarity[3, 1], similarity[0, 2] = 0.2, 0.1, 0.24
    assert class_similarity.most_alike(similarity) == (1, 3)


@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason="../shared/data/cifar10 is absent")
def test_a_small_table_of_real_images(tmp_path):
    arguments = [
        *(*FEW, "--no-stability", "--no-batch-statistics", "--train-images", "400", "--teacher-epochs", "2"),
        *("--seeds", "1", "--name", "run", "--raw-dir", str(SHARED)),
        *("--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "runs")),
    ]
    code, said = commands.call(cifar10_table.main, TableConfig, arguments, PROG)
    assert code == 0, said
    text = (folder_of(tmp_path) / "summary.md").read_text()
    assert "CIFAR-10 (first 400 training images, last 20 held out, first 1,000 test images)" in text
    (run,) = (tmp_path / "runs" / "cifar10_table" / "sweeps").iterdir()
    rows = run_directory.read_results(run)
    assert rows["objective"].tolist() == ["double_softmax", "hard", "kd"]
    history = pd.read_json(run / "history.jsonl", lines=True)
    hard = history[history["objective"] == "hard"].set_index("epoch")["loss"]
    assert hard[6] < 0.8 * hard[1]  # it learns
    entropy = rows.set_index("objective")["soft_target_entropy"]
    assert entropy["double_softmax"] > 0.9997 * math.log(10) > entropy["kd"]
    assert json.loads((folder_of(tmp_path) / "config.json").read_text())["identity"]["config"]["parameters"] == 12_754


def test_at_a_constant_rate_the_tables_own_students_show_their_stability():
    cosine, constant = (
        members.members(TableConfig(stability=True, schedule=schedule, temperatures=(1.0,)))
        for schedule in ("cosine", "constant")
    )
    assert constant[0].config == constant[-1].config and constant[-1].role == "stability"
    assert cosine[0].config != cosine[-1].config and cosine[-1].config.schedule == "constant"
    assert cosine[0].config.monitor_every is None and constant[0].config.monitor_every == 1


FAST = [
    *("--networks", "fast", "--small-width", "2", "--big-width", "3", "--optimizer", "nesterov", "--epochs", "4"),
    *("--schedule", "triangle", "--augment", "alternate", "--batch-size", "16", "--holdout", "20", "--devices", "1"),
    *("--teachers", "2", "--each-teaches", "--seeds", "2", "--temperature", "4", "--temperatures", "1", "4"),
    *("--controls", "label_smoothing", "double_softmax", "--tuning-rates", "0.05", "0.1", "0.2", "--lengths", "2"),
    *("--tuning-weights", "0.5", "1", "--learning-rate", "0.1", "--name", "fast"),
]


@pytest.fixture(scope="module")
def tuned(pictures):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweeps, "MOST_EXTENSIONS", 0)  # on random images the best rate is any
        code, said = call(pictures, *FAST)
    assert code == 0, said
    return load_results(pictures / "runs" / "cifar10_table" / "fast")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--preset full --networks fast", "sets --width-multiplier 1; the default is --width-multiplier 0.5)"),
        ("--preset fast --epochs 4", "(--preset fast sets --lengths 4 16 32; the default is --lengths)"),
        ("--preset fast --batch-statistics", "sets --each-teaches; the default is --no-each-teaches)"),
        ("--batch-size 1", "--batch-size 1 is not allowed: batch norm needs 2 images or more"),
    ],
)
def test_a_refusal_says_why_and_which_options_the_preset_set(arguments, says):
    with pytest.raises(BadInput, match=re.escape(says)):
        cli.parse(TableConfig, PROG, arguments.split(), PRESETS)


def test_a_refusal_of_what_the_user_gave_does_not_name_the_preset():
    with pytest.raises(BadInput) as refused:
        cli.parse(TableConfig, PROG, ["--preset", "full", "--networks", "fast", "--width-multiplier=2"], PRESETS)
    assert "--preset" not in str(refused.value)


def test_of_fast_networks_each_setting_has_what_the_hold_out_chose(tuned):
    chosen = {(one.objective, one.temperature): one for one in tuned.choices}
    names = {name for name, _ in chosen}
    assert names == {"hard", "kd", "label_smoothing(eps=0.2)", "double_softmax"}
    assert len({one.soft_weight for one in tuned.choices if one.objective == "kd"}) == 1
    for _, row in tuned.results.iterrows():
        one = next(
            one
            for (name, t), one in chosen.items()
            if name == row["objective"] and (math.isnan(t) or math.isclose(t, row["temperature"]))
        )
        assert row["learning_rate"] == pytest.approx(one.learning_rate)
        assert row["soft_weight"] == pytest.approx(0 if row["objective"] == "hard" else one.soft_weight)
    tried = run_directory.read_results(tuned.sweeps["tuning"][0])
    assert tried["seed"].min() >= 10_000 > tuned.results["seed"].max()


def test_a_fast_teacher_of_the_posts_small_network_is_not_called_big(tuned, pictures, tmp_path):
    assert "| big, hard labels" in (tuned.folder / "summary.md").read_text()  # which it is among fast networks
    teacher = next((pictures / "runs" / "teachers").glob(f"{tuned.networks[0]['name']}*/teacher.json")).parent
    fewer = ("--seeds", "1", "--no-stability", "--no-batch-statistics", "--controls", "--epochs", "1")
    fewer += ("--temperature", "inf")
    code, said = call(pictures, *FEW, *fewer, "--name", "other", "--teacher-from", str(teacher), out=tmp_path)
    assert code == 0, said
    text = (tmp_path / "cifar10_table" / "other" / "summary.md").read_text()
    assert "| fast, hard labels (the teacher) |" in text and "| big, hard labels" not in text
    assert "| 85 % |" in text and "| 90 % |" not in text  # the post's big network is another one
    assert "| small, distilled | ∞ |" in text


def test_of_fast_networks_each_teacher_has_its_own_students(tuned):
    kd = tuned.results[tuned.results["objective"] == "kd"]
    assert kd.groupby("teacher").size().tolist() == [4, 4]  # two seeds, two temperatures
    rows = {(row.role, row.temperature): row for row in rows_of_table(tuned)}
    assert rows["distilled", 4.0].measures["holdout_accuracy"].n == 4
    at = kd[kd["temperature"] == 4.0].set_index(["teacher", "seed"])["holdout_accuracy"]
    for role, name in (("small", "hard"), ("label_smoothing", "label_smoothing(eps=0.2)")):
        others = tuned.results[tuned.results["objective"] == name].set_index("seed")["holdout_accuracy"]
        less = np.mean([value - others[seed] for (_, seed), value in at.items()])
        row = rows["distilled", 4.0]
        found = row.differences["holdout_accuracy"] if role == "small" else row.from_smoothing
        assert found.mean == pytest.approx(less) and found.n == 4


def test_of_fast_networks_the_summary_says_what_was_tuned_and_what_longer_training_gives(tuned):
    text = (tuned.folder / "summary.md").read_text()
    assert "Chosen by other seeds on the hold-out that is reported here: peak rates, hard labels: " in text
    assert "over 2 teachers crossed with seeds" in text and "blog post" not in text
    assert "Two teachers and seeds are few: such 95 % intervals cover 87 to 99 % (simulated)." in text
    assert "minus label smoothing's, points" in text and "(the teachers)" in text
    assert [one.epochs for one in lengths.read(tuned)] == [2, 4]
    assert all(one.difference.n == 2 for one in lengths.read(tuned))
    assert "## Accuracy against epochs" in text and "| hard labels: minus 4 epochs, points |" in text
    assert (tuned.folder / "figures" / "lengths.png").exists()


def rows_of_length(epochs, role, temperature, accuracies):
    seeds = {"seed": range(len(accuracies)), "holdout_accuracy": accuracies}
    seeds["holdout_nll"] = [1 - accuracy / 100 for accuracy in accuracies]
    one = {"epochs": epochs, "role": role, "temperature": temperature, "teacher": "a", "failed_at": -1}
    return pd.DataFrame(seeds).assign(**one)


def of_lengths(tuned, usual, others):
    """A table of 8 epochs at T = 4, of these rows."""
    return tuned._replace(
        identity={**tuned.identity, "config": {**tuned.identity["config"], "epochs": 8, "temperature": 4.0}},
        results=pd.concat(usual, ignore_index=True).drop(columns="epochs"),
        lengths=pd.concat(others, ignore_index=True),
    )


def test_what_longer_training_gives_is_paired_by_seed(tuned):
    rows = rows_of_length
    other_teacher = rows(8, "distilled", 4.0, [1.0] * 3).assign(teacher="b")
    usual = [other_teacher, rows(8, "distilled", 1.0, [1.0, 2.0, 3.0])]  # neither is asked
    usual += [rows(8, "small", math.nan, [80.0, 82.0, 84.0]), rows(8, "distilled", 4.0, [81.0, 83.0, 84.0])]
    longer = [rows(16, "small", math.nan, [82.0, 83.0, 85.5]), rows(16, "distilled", 4.0, [84.0, 86.0])]
    results = of_lengths(tuned, usual, longer)
    eight, sixteen = lengths.read(results)
    assert eight.difference.mean == pytest.approx(2 / 3) and eight.gains is None
    assert eight.nll.mean == pytest.approx(-2 / 300)
    assert (sixteen.hard.n, sixteen.soft.n, sixteen.pairs) == (3, 2, 2)
    assert {name: (gain.mean, gain.n) for name, gain in sixteen.gains._asdict().items()} == {
        "hard": (pytest.approx(1.5), 3),
        "soft": (pytest.approx(3.0), 2),
        "difference": (pytest.approx(1.5), 2),
    }
    header, _, of_eight, of_sixteen = lengths.section(results).splitlines()[2:6]
    assert header.split("|")[4:10] == [
        " difference, points ",
        " NLL: difference, nats ",
        " pairs ",
        " hard labels: minus 8 epochs, points ",
        " soft targets: minus 8 epochs, points ",
        " soft targets gain more by ",
    ]
    assert of_eight.split("|")[6:10] == [" 3 ", "  ", "  ", "  "]
    pairs, of_hard, of_soft, more = of_sixteen.split("|")[6:10]
    assert (pairs, of_hard[:8], of_soft, more[:8]) == (" 2 ", " +1.50 [", " +3.00 ", " +1.50 [")
    drawn = figures.draw_lengths(results)
    chosen = next(one.soft_weight for one in tuned.choices if one.objective == "kd")
    said = drawn.get_label()
    assert "CIFAR-10" in said and "n = 2 to 3 seeds" in said and f"soft weight {chosen:g}" in said
    assert [axes.get_ylabel() for axes in drawn.axes] == [
        "hold-out accuracy, %",
        "T = 4 minus hard labels,\npoints, paired by seed",
    ]
    assert figures.draw_lengths(results._replace(lengths=pd.DataFrame())) is None
    failed = results.results.assign(failed_at=results.results["role"].eq("distilled") * 4 - 1)
    (sixteen,) = lengths.read(results._replace(results=failed))
    assert sixteen.gains.soft is None and sixteen.gains.hard.mean == pytest.approx(1.5)
    cells = lengths.section(results._replace(results=failed)).splitlines()[4].split("|")
    assert cells[1] == " 16 " and cells[7][:8] == " +1.50 [" and cells[8] == "  "


def test_of_lengths_only_what_survives_correction_is_marked(tuned):
    hard, less = np.array([80.0, 82.0, 84.0, 81.0]), {4: [-1.2, -0.2, -0.9, -1.4], 8: [0.1, -0.1, 0.2, -0.1]}
    less[16] = [1.0, 1.1, 0.9, 1.0]
    usual, *others = (
        [rows_of_length(epochs, "small", math.nan, hard), rows_of_length(epochs, "distilled", 4.0, hard + less[epochs])]
        for epochs in (8, 4, 16)
    )
    results = of_lengths(tuned, usual, [*others[0], *others[1]])
    assert [one.difference.differs for one in lengths.read(results)] == [True, False, True]
    cells = [line.split("|")[4] for line in lengths.section(results).splitlines()[4:7]]
    assert ["†" in cell for cell in cells] == [False, False, True]  # p = 0.04, the least of two left, is no claim


def test_the_temperature_curve_is_of_paired_differences(tuned):
    drawn = figures.draw_differences(tuned)
    rows = {(row.role, row.temperature): row.differences for row in rows_of_table(tuned)}
    smoothing = next(found for (role, _), found in rows.items() if role == "label_smoothing")
    for axes, column in zip(drawn.axes, ("holdout_accuracy", "holdout_nll"), strict=True):
        (means,) = (line for line in axes.get_lines() if line.get_marker() == "o")
        assert list(means.get_ydata()) == pytest.approx([rows["distilled", t][column].mean for t in (1.0, 4.0)])
        (level,) = (line for line in axes.get_lines() if line.get_label() == "label smoothing")
        assert level.get_ydata()[0] == pytest.approx(smoothing[column].mean)
    assert drawn.axes[0].get_ylabel() == "hold-out accuracy\nminus hard labels, points"
    assert drawn.axes[1].get_ylabel() == "hold-out NLL\nminus hard labels, nats"
    assert "n = 2 seeds, 2 teachers" in drawn.get_label() and "CIFAR-10" in drawn.get_label()
    assert (tuned.folder / "figures" / "difference_from_hard_labels.png").exists()
    one = tuned.results[tuned.results["temperature"].ne(1.0)]
    assert figures.draw_differences(tuned._replace(results=one)) is None  # a point is no curve
    alone = tuned.results[tuned.results["role"].ne("small")]
    assert figures.draw_differences(tuned._replace(results=alone)) is None


def test_where_no_soft_weight_could_be_chosen_none_is_named(tuned):
    nothing = tuned._replace(choices=[one for one in tuned.choices if one.objective != "kd"])
    assert tuned.soft_weight in (0.5, 1.0) and nothing.soft_weight is None
    assert "soft weight" in figures.draw_students(tuned).get_label()
    assert "soft weight" not in figures.draw_students(nothing).get_label()


def test_at_infinite_temperature_the_table_is_written(tuned):
    config = json.loads(canonical_json({**tuned.identity["config"], "temperature": math.inf}))
    soft = tuned.results["role"].eq("distilled") & tuned.results["temperature"].eq(4.0)
    rows = tuned.results.assign(temperature=tuned.results["temperature"].mask(soft, math.inf))
    longer = tuned.lengths.assign(
        temperature=tuned.lengths["temperature"].where(tuned.lengths["role"] == "small", math.inf)
    )
    results = tuned._replace(identity={**tuned.identity, "config": config}, results=rows, lengths=longer)
    assert [one.epochs for one in lengths.read(results)] == [2, 4]
    assert "soft targets, T = ∞" in lengths.section(results)
    assert figures.draw_lengths(results).axes[1].get_ylabel().startswith("T = ∞ minus hard labels")


def test_a_forecast_of_fast_networks_names_every_sweep(pictures, tuned):
    def lines(out, *more):
        places = ["--out", str(out), "--data-dir", str(pictures / "data"), "--raw-dir", str(pictures / "raw")]
        prepared = cifar10_table.prepare(cli.parse(TableConfig, PROG, [*FAST, *more, *places]))
        return cifar10_table.forecast(prepared).text.splitlines()

    asked = ["tuning", "tuning", "teacher", "teacher", "teacher", "temperatures", "lengths"]
    there = lines(pictures / "runs")
    assert [line.split(":")[0] for line in there[:-2]] == asked and "in all about 0 s" in there[-1]
    new = lines(pictures / "none", "--seeds", "3")
    assert [line.split(":")[0] for line in new[:-2]] == [*asked, "further big networks"]
    assert "would train a teacher and 42 students" in new[0] and "12 students" in new[1]
    assert "would train no further teacher and" in new[5]  # it is among the further big networks


def test_the_soft_weight_is_that_whose_errors_are_fewest_at_each_temperatures_best_rate():
    rows = [
        {"objective": "kd", "temperature": t, "soft_weight": w, "learning_rate": rate, "seed": seed, "width": 2}
        | {"teacher": "a", "failed_at": -1, "holdout_errors": errors + seed, "test_errors": 0}
        for (t, w, rate), errors in {
            (1.0, 0.5, 0.1): 10, (1.0, 0.5, 0.2): 14, (1.0, 1.0, 0.1): 9, (1.0, 1.0, 0.2): 20,
            (4.0, 0.5, 0.1): 18, (4.0, 0.5, 0.2): 8, (4.0, 1.0, 0.1): 17, (4.0, 1.0, 0.2): 12,
        }.items()
        for seed in (0, 1)
    ]  # fmt: skip
    found = tuning.choices(pd.DataFrame(rows))
    assert [(one.temperature, one.soft_weight, one.learning_rate) for one in found] == [(1, 0.5, 0.1), (4, 0.5, 0.2)]


def test_a_setting_that_failed_at_every_rate_is_left_out_and_where_all_did_it_is_said():
    config = PRESETS["fast"]
    choices = [tuning.Choice("hard", math.nan, 0.2, soft_weight=0.0), tuning.Choice("kd", 1.0, 0.1)]
    first, *others = members.tuned_members(config, choices)
    assert first.config.temperatures == (1.0,) and first.config.learning_rates == (0.2, 0.1)
    assert [one.role for one in others] == ["temperatures"] * 2 + ["lengths"] * len(config.lengths)
    assert all(one.config.objectives == () for one in others[2:])  # T = 4 failed
    with pytest.raises(BadInput, match="every run failed at every one of --tuning-rates"):
        members.tuned_members(config, [])


def test_one_rate_alone_is_that_of_all_small_networks_and_nothing_is_tuned(pictures):
    one = [*FAST, "--tuning-rates", "0.2", "--tuning-weights", "0.5", "--name", "one-rate"]
    code, said = call(pictures, *one)
    assert code == 0, said
    results = load_results(pictures / "runs" / "cifar10_table" / "one-rate")
    assert not results.choices and "tuning" not in results.sweeps
    assert set(results.results["learning_rate"]) == {0.2}
    assert set(results.results["soft_weight"]) == {0.0, 0.5}
    text = (results.folder / "summary.md").read_text()
    assert "peak rate 0.1 of the big network and 0.2 of the small ones" in text and "soft weight 0.5" in text


def test_where_all_soft_targets_failed_no_soft_weight_is_chosen():
    row = {"seed": 0, "width": 2, "teacher": "a", "test_errors": 0, "holdout_errors": 5.0, "learning_rate": 0.1}
    soft = [{"objective": "kd", "temperature": 1.0, "soft_weight": w, "failed_at": 3} for w in (0.5, 1.0)]
    hard = {"objective": "hard", "temperature": math.nan, "soft_weight": 0.0, "failed_at": -1}
    (one,) = tuning.choices(pd.DataFrame([{**row, **given} for given in (*soft, hard)]))
    assert one.objective == "hard"
