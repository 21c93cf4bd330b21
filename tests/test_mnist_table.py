"""The MNIST table: what is asked of the sweep, and the whole of it on a few of the bundled digits."""

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import fieller, measures, style, tuning
from analysis import runs as runs_
from analysis.mnist import claims, controls, figures, shifted, transfer, widths, widths_table
from analysis.mnist import rows as rows_module
from analysis.mnist import run as mnist_run
from analysis.mnist import table as mnist_table_
from analysis.mnist.roles import Role
from analysis.mnist.rows import BETTER, rows_of_table
from analysis.runs import RUN, grid
from analysis.tables import fixed
from experiments import mnist_table
from experiments.mnist import evaluations, members
from experiments.mnist.config import PRESETS, TableConfig
from experiments.mnist.options import PARTS, DigitsConfig
from experiments.mnist_table import PROG
from kdjax import datasets, grids, interim, listing, metrics, sweeps, trained
from kdjax.config import DataConfig, RunConfig, TeacherConfig
from kdjax.errors import BadInput
from kdjax.files import Damaged
from kdjax.run_folders import sweep_folder
from tests import commands, hurry, raw_files

TINY = [
    *("--dataset", "mnist5k", "--train-images", "400", "--devices", "1", "--teachers", "2", "--seeds", "2"),
    *("--width", "12", "--epochs", "2", "--widths", "12", "--width-seeds", "2", "--width-epochs", "2"),
    *("--width-teachers", "2", "--width-temperatures", "1", "4", "inf", "--tuning-seeds", "2"),
    *("--tuning-rates", "0.003", "0.01"),
    *("--elastic-epochs", "2"),
    *("--batch-size", "50", "--fractions", "0.25", "1", "--soft-weights", "0.9", "1", "--learning-rate", "0.003"),
    *("--teacher.widths", "16", "--teacher.epochs", "2", "--teacher.batch-size", "50", "--name", "run"),
]


def places(root):
    return ["--out", str(root / "runs"), "--data-dir", str(root / "data")]


def call(root, *more):
    parts = () if "--only" in more else ("--only", *PARTS)
    return commands.call(mnist_table.main, TableConfig, [*TINY, *places(root), *parts, *more], PROG)


def folder_of(root):
    return root / "runs" / "mnist_table" / "run"


def contents(root):
    """What must be the same when it is made again: all but what it cost."""
    sweeps_of = sorted((root / "runs" / "mnist_table" / "sweeps").glob("*/results.csv"))
    own = [folder_of(root) / name for name in ("table.csv", "summary.md", "shifted.csv", "widths.csv")]
    return {str(path.relative_to(root)): path.read_bytes() for path in [*sweeps_of, *own]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("table")
    code, said = call(root)
    assert code == 0, said
    return root


def asked(**options):
    return members.members(dataclasses.replace(PRESETS["full"], **options), 60_000)


def test_the_default_is_the_papers_three_rows_from_one_teacher():
    for name, preset in PRESETS.items():
        if name != "full":
            assert preset.parts() == ("teacher", "small", "distilled") and preset.teachers_needed() == 1
            assert [member.role for member in members.members(preset, 60_000)] == ["small", "distilled"]
    # What they train is found again by the whole table, which makes all parts from three teachers.
    few, everything = (members.members(PRESETS[name], 60_000) for name in ("tuned", "full"))
    assert {member.part for member in everything} == set(PARTS) - {"teacher"} and PRESETS["full"].teachers == 3
    assert [member.config for member in few] == [member.config for member in everything[:2]]


def test_only_makes_what_it_names_and_all_is_the_sum():
    assert {member.part for member in asked()} == set(PARTS) - {"teacher"}
    assert not asked(only=("teacher",))
    (small,) = asked(only=("small",))
    assert not small.config.objectives and small.config.widths == (800,)
    both = asked(only=("small", "distilled"), teachers=1)
    assert [member.role for member in both] == ["small", "distilled", "other soft weights"]
    assert both[1].config.soft_weights == (0.9,) and both[1].config.temperatures == (20.0,)
    assert both[2].config.soft_weights == (0.5, 0.99, 1.0)
    # The three rows by themselves are found again by the whole table: its sweep of them is the same.
    (alone,) = asked(only=("distilled",), teachers=1, soft_weights=(0.9,))[1:]
    assert alone.config == both[1].config


def test_every_teacher_teaches_the_widths_and_hard_labels_are_trained_once():
    found = asked(only=("widths",), widths=(30, 800), width_teachers=3)
    tuning_, one_rate = ([one.config for one in found if one.role == role] for role in (Role.TUNING, Role.ONE_RATE))
    # The longer schedule is not for the wider net.
    assert [(one.widths[0], one.epochs) for one in tuning_] == [(30, 20), (30, 60), (800, 20)]
    assert [one.teacher.seed for one in one_rate] == [1000, 1001, 1002] * 3
    assert [one.hard_labels for one in one_rate] == [True, False, False] * 3
    assert {one.rates() for one in one_rate} == {(TableConfig().learning_rate,)}


def test_rates_are_tried_on_a_holdout_from_seeds_that_are_not_among_the_fresh_ones():
    found = asked(only=("widths", "controls"), widths=(30,))
    fresh, tried, controls_ = (
        [one.config for one in found if one.role == role] for role in (Role.ONE_RATE, Role.TUNING, Role.HELD_OUT)
    )

    def seeds(config):
        return {block.seed for block in grids.plan(config, 1, 60_000)}

    assert len(seeds(tried[0])) == TableConfig().tuning_seeds and not seeds(tried[0]) & seeds(fresh[0])
    assert min(seeds(tried[0])) >= 10_000  # more than there may be of any others
    assert tried[0].data.holdout == 10_000 and fresh[0].data.holdout == 0
    assert tried[0].data == controls_[0].data and tried[0].teacher == controls_[0].teacher  # one teacher for both


def test_tuned_sweeps_hold_each_setting_at_its_own_rate_and_what_has_the_one_rate_is_not_trained_again():
    config = TableConfig(only=("widths",), widths=(30,), width_epochs=(20,), width_teachers=2, learning_rate=2e-3)
    chosen = [("hard", math.nan, 8e-3), ("kd", 1.0, 4e-3), ("kd", 4.0, 2e-3), ("kd", math.inf, 1e-3)]
    choices = {(30, 20): [tuning.Choice(*one) for one in chosen]}
    first, second = (one.config for one in members.tuned_members(config, choices))

    def settings(sweep):
        return [
            [(run.objective, run.temperature, run.learning_rate) for run in block.runs if run.objective == "kd"]
            for block in grids.plan(sweep, 1, 60_000)
        ]

    assert settings(first) == settings(second) == [[chosen[1], chosen[3]]] * config.width_seeds
    hard = [run for run in grids.plan(first, 1, 60_000)[0].runs if run.objective == "hard"]
    assert [run.learning_rate for run in hard] == [8e-3] and not second.hard_labels
    assert not members.tuned_members(config, {(30, 20): [tuning.Choice("kd", 4.0, 2e-3)]})
    (alone,) = members.tuned_members(config, {(30, 20): [tuning.Choice(*chosen[0])]})
    assert alone.config.hard_labels and not alone.config.objectives


def test_distorted_teachers_are_those_of_the_table_and_its_ensemble_is_queried_about_such_images():
    config = dataclasses.replace(PRESETS["distorted"], only=("better", "shifted"), teachers=2)
    folders = (Path("first"), Path("second"))
    found = {member.role: member.config for member in members.members(config, 60_000, folders)}
    assert found["elastic"].teacher == config.teacher
    assert config.teacher.hidden_dropout == 0 and config.teacher.augment == "elastic"
    together = found["ensemble, elastic"]
    assert (together.augment, together.jitter, together.epochs) == ("elastic", 0, config.elastic_epochs)
    assert together.teacher_from == folders == found["ensemble"].teacher_from
    assert "ensemble, jittered" not in found
    still = found["of a still teacher"].teacher  # who is shown no image moved
    assert (still.augment, still.jitter) == ("none", 0)


def test_fewer_images_are_trained_on_for_as_many_steps():
    steps = {
        member.config.epochs * (member.config.transfer_images // member.config.batch_size)
        for member in asked(only=("transfer",), batch_size=200)
    }
    assert max(steps) <= 1.01 * min(steps) and min(steps) >= 20 * 300


def test_a_teacher_that_cannot_be_built_is_refused_by_the_teachers_options(tmp_path, monkeypatch):
    monkeypatch.setenv("KDJAX_DATA_DIR", str(tmp_path))
    asked = ["--dataset", "mnist5k", "--teacher.network", "small", "--teacher.widths", "8", "--teacher.batch-size", "1"]
    code, said = commands.call(mnist_table.main, TableConfig, [*asked, "--out", str(tmp_path), "--dry-run"], PROG)
    assert code == 2 and "give --teacher.batch-size 2 or more" in said and "Traceback" not in said


def test_presets_are_whole_settings_and_bad_ones_are_one_line():
    for name, preset in PRESETS.items():
        assert preset.preset == name
    code, said = commands.call(mnist_table.main, TableConfig, ["--preset", "best"], PROG)
    assert code == 2 and "--preset" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": (0.0,)}, "share"),
        ({"fractions": (0.5, 0.5)}, "repeats"),
        ({"soft_weights": (1.5,)}, "soft-weights"),
        ({"temperature": -1.0}, "temperature"),
        ({"only": ("small", "small")}, "twice"),
        ({"only": ()}, "--only is empty"),
        ({"elastic_epochs": 0}, "elastic-epochs 0 is not allowed"),
        ({"teachers": 0}, "teachers"),
        ({"widths": ()}, "empty"),
        ({"width_epochs": ()}, "empty"),
        ({"width_temperatures": (0.0,)}, "temperature"),
        ({"tuning_rates": (1e-3, 1e-3)}, "repeats"),
        ({"tuning_seeds": 0}, "seeds 0"),
        ({"data": DigitsConfig(dataset="mnist5k", holdout=10)}, "holdout"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(options, message):
    with pytest.raises(BadInput, match=message):
        dataclasses.replace(TableConfig(), **options)


def test_the_whole_table(whole):
    text = (folder_of(whole) / "summary.md").read_text()
    for control in ("double softmax", "shuffled targets", "untrained teacher", "uniform targets"):
        assert f"| control: {control} |" in text
    for title in ("against temperature", "Fewer images", "Controls", "Shifted test images", "cost.md"):
        assert title in text
    shown = (folder_of(whole) / "report.html").read_text()
    for part in ("Figure 3.", "Controls", "milliseconds per image", "0, 1, 10000, 10001", " to train the students"):
        assert part in shown, part
    table = pd.read_csv(folder_of(whole) / "table.csv")
    assert table["name"].tolist()[:3] == ["teacher", "small net alone", "small net distilled, T = 20, soft weight 0.9"]
    assert table["n"].tolist()[:3] == [2, 2, 4]
    results = mnist_run.load(folder_of(whole))
    mine = results.of(Role.DISTILLED, soft_weight=0.9)["test_errors"]
    assert table["mean"][2] == pytest.approx(mine.mean(), rel=1e-5)
    assert "Two teachers and seeds are few" in text
    alone = results.of(Role.SMALL).set_index("seed")["test_errors"]
    less = mine.mean() - alone.mean()  # both seeds under both teachers
    (note,) = [line for line in text.splitlines() if line.startswith("* Distilled minus small net: ")]
    assert f"net: {fixed(less, sign=True)} [" in note and "over images like them is [" in note
    weight = table.set_index("name")["verdict"]["small net distilled, T = 20, soft weight 1, first teacher"]
    assert weight.startswith("against soft weight 0.9: ")
    assert "| ensemble of 2 teachers | " in (folder_of(whole) / "cost.md").read_text()
    assert "paper" in text and "| 146 |" not in text  # the paper's figures are about full MNIST
    cells = [cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.split("|")]
    assert max(map(len, cells)) <= 120  # a cell is no paragraph
    assert {path.stem for path in (folder_of(whole) / "figures").glob("*.png")} == {
        "errors_against_temperature_12_units",
        "fewer_images",
        "shifted",
    }


def test_its_sweeps_lie_under_it_and_are_read_as_one(whole):
    assert not (whole / "runs" / "temperature_sweep").exists()
    config = json.loads((folder_of(whole) / "config.json").read_text())
    names = {path.name for path in (whole / "runs" / "mnist_table" / "sweeps").iterdir()}
    assert set(config["sweeps"]) == names and all(
        re.fullmatch(r"mnist5k-12-(T.*|hard|double_softmax-T.*)-\w{6}", name) for name in names
    )
    assert config["progress"] == {"done": len(config["sweeps"]), "total": len(config["sweeps"])}
    rows = trained.results(folder_of(whole))
    assert set(rows["run"]) == names and len(rows) == sum(
        len(runs_.read(folder_of(whole).parent / "sweeps" / name)) for name in names
    )
    table, *_ = listing.find(whole / "runs")
    assert (table.name, table.total) == ("run", len(config["sweeps"])) and table.finished and table.seconds > 0


def test_the_gap_is_over_teachers_crossed_with_seeds():
    errors = np.array([[100.0, 104, 99], [90, 96, 91], [103, 105, 110]])
    table = [
        {"role": role, "objective": "kd", "teacher": str(t), "seed": s, "test_errors": errors[t, s] + more}
        | {"soft_weight": 0.9, "teacher_errors": 60.0 + 3 * t, "failed_at": -1}
        for role, more, teachers in (("small", 50.0, (0,)), ("distilled", 0.0, (0, 1, 2)))
        for t in teachers
        for s in range(3)
    ]
    config = {"soft_weights": [0.9], "temperature": 20.0, "width": 300, "teacher": {"widths": [1200, 1200]}}
    teachers = [{"name": str(t), "test": {"errors": 60 + 3 * t}} for t in range(3)]
    data = {"name": "mnist", "train_images": 60_000, "test_images": 10_000}
    made_up = mnist_run.MnistResults(None, {"config": config, "data": data}, teachers, pd.DataFrame(table), None)
    gap = rows_of_table(made_up)[2].gap
    of_teachers = np.array([[60.0], [63], [66]]) + np.zeros((1, 3))
    assert gap == fieller.gap_closed(np.tile(errors[0] + 50, (3, 1)), errors, of_teachers)
    assert gap.low < gap.ratio - 0.05 and gap.n == 9


def test_one_seed_under_several_teachers_closes_no_gap_that_is_bounded():
    table = pd.DataFrame({"teacher": list("abc"), "seed": 0, "soft_weight": 0.9, "failed_at": -1, "test_nll": 0.1})
    distilled = table.assign(test_errors=[80.0, 84, 79], teacher_errors=[60.0, 63, 66])
    gap = rows_module._distilled("distilled", distilled, pd.Series({0: 130.0})).gap
    assert gap.n == 1 and math.isnan(gap.low) and gap.ratio == pytest.approx(49 / 67)
    assert claims._closed(gap).endswith("; 1 run cannot tell more.")
    none = rows_module._distilled("distilled", distilled, pd.Series({1: 130.0})).gap
    assert claims._closed(none).endswith("is not known: no seed has both a small net and a distilled one.")
    worse = rows_module._distilled("distilled", distilled, pd.Series({0: 50.0})).gap
    assert claims._closed(worse).startswith("There is no gap to close")
    for low, high, word in (
        (0.8, 0.9, "not all of it"),
        (0.9, 1.1, "which may be all of it"),
        (1.1, 1.3, "more than all"),
    ):
        assert f" of the gap between small net and teacher, {word}" in claims._closed(fieller.Ratio(1, low, high, 10))


def test_made_again_it_trains_nothing_and_gives_the_same_digits(whole):
    before = contents(whole)
    blocks = {path: path.stat().st_mtime_ns for path in whole.glob("runs/mnist_table/sweeps/*/blocks/*")}
    code, said = call(whole)
    assert code == 0 and "students:" not in said
    assert contents(whole) == before
    assert blocks == {path: path.stat().st_mtime_ns for path in whole.glob("runs/mnist_table/sweeps/*/blocks/*")}


def test_unshifted_errors_are_those_of_the_sweep(whole):
    table = pd.read_csv(folder_of(whole) / "shifted.csv")
    results = mnist_run.load(folder_of(whole))
    for role in (Role.SMALL, Role.HARD_JITTERED, Role.JITTERED):
        still = table[(table["network"] == shifted.STUDENTS[role]) & (table["pixels"] == 0)]
        assert still["errors"].tolist() == results.of(role).sort_values("seed")["test_errors"].tolist()
    teacher = table[(table["network"] == "teacher") & (table["pixels"] == 0)]
    assert teacher["errors"].tolist() == [one["test"]["errors"] for one in results.teachers]


def test_errors_on_shifted_images_are_a_mean_over_eight_directions(tmp_path):
    image, places = np.zeros((1, 11, 11, 1), np.uint8), []
    image[0, 5, 5] = 255

    def logits(images):
        down, right = np.argwhere(images[0, :, :, 0])[0] - 5
        places.append((int(down), int(right)))
        return np.array([[1.0, 0.0]]) if down > 0 else np.array([[0.0, 1.0]])  # wrong where it is shifted down

    digits = datasets.load(DataConfig("mnist5k", raw_dir=None, data_dir=tmp_path))
    dataset = dataclasses.replace(digits, test=datasets.Split(image, np.array([1], np.int32)))
    assert evaluations.errors_on_shifted(logits, dataset).tolist() == [0, *[3 / 8] * 4]
    around = {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)} - {(0, 0)}
    assert sorted(places) == sorted([(0, 0), *((k * down, k * right) for k in (1, 2, 3, 4) for down, right in around)])


def test_differences_on_shifted_images_are_paired_by_seed_and_less_those_unshifted():
    first = shifted.Shifted("a", np.array([[10, 20, 30, 40, 50], [12, 26, 34, 42, 59]]), (0, 1))
    second = shifted.Shifted("b", np.array([[11, 22, 33, 44, 55], [7, 70, 70, 70, 70], [9, 12, 20, 30, 41]]), (1, 5, 0))
    plain, beyond = shifted._differences(first, second)
    assert plain[0] == "a − b" and [cell.split(" ")[0] for cell in plain[1:6]] == [
        "+1.0",
        "+6.0",
        "+5.5",
        "+4.0",
        "+6.5",
    ]
    assert beyond[1] == "" and [cell.split(" ")[0] for cell in beyond[2:6]] == ["+5.0", "+4.5", "+3.0", "+5.5"]
    assert plain[6] == beyond[6] == "2"


def test_distorted_images_have_a_teacher_and_a_baseline_of_their_own(whole):
    results = mnist_run.load(folder_of(whole))
    found = results.of(Role.ELASTIC)
    assert sorted(found["objective"].unique()) == ["hard", "kd"]
    assert set(found["teacher"]).isdisjoint(results.of(Role.JITTERED)["teacher"])
    names = pd.read_csv(folder_of(whole) / "table.csv").set_index("name")
    for name, objective in (
        (BETTER[Role.ELASTIC].format(epochs=2), "kd"),
        ("hard labels on those images", "hard"),
    ):
        mine = found[found["objective"] == objective]["test_errors"]
        assert (names["mean"][name], names["n"][name]) == (pytest.approx(mine.mean(), rel=1e-5), len(mine))
    assert names["mean"]["that teacher"] == found["teacher_errors"].iloc[0]
    verdict = names["verdict"][BETTER[Role.ELASTIC].format(epochs=2)]
    assert verdict.startswith("against hard labels on those images")
    # So have jittered ones, which are also set against plain targets.
    verdict = names["verdict"][BETTER[Role.JITTERED]]
    assert [part.split(":")[0] for part in verdict.split("; ")] == [
        "against the first teacher's plain targets",
        "against hard labels on those images",
    ]
    mine = results.of(Role.HARD_JITTERED)["test_errors"]
    assert names["mean"]["hard labels, images jittered likewise"] == pytest.approx(mine.mean(), rel=1e-5)
    verdict = names["verdict"][BETTER[Role.ENSEMBLE].format(members=2)]
    assert verdict.startswith("against the plain targets of its members, their mean")


def test_fewer_images_are_paired_by_their_number(whole):
    results = mnist_run.load(folder_of(whole))
    pairs, rows = transfer.pairs(results), results.of(Role.TRANSFER).sort_values("seed")
    assert list(pairs) == [100, 400]
    for run, of_run in rows.groupby("run"):
        identity = json.loads((sweep_folder(results.folder, run) / "config.json").read_text())["identity"]
        found = pairs[identity["config"].get("transfer_images", 400)]
        for kind, errors in zip(("kd", "hard"), found, strict=True):
            assert errors.tolist() == of_run.loc[of_run["objective"] == kind, "test_errors"].tolist()


def test_differences_of_controls_are_less_distilled(whole):
    results = mnist_run.load(folder_of(whole))
    (line,) = [one for one in controls.section(results).splitlines() if one.startswith("| control: double softmax |")]
    both = [results.of(role, **which).set_index("seed")["test_errors"] for role, which in (
        (Role.DOUBLE_SOFTMAX, {}), (Role.HELD_OUT, {"objective": "kd"})
    )]  # fmt: skip
    cells, count = line.split("|")[1:-1], len(measures.columns("controls"))
    assert cells[count + 2].split()[0] == fixed((both[0] - both[1]).mean(), 1, sign=True)


def test_temperature_scaling_keeps_the_answers_and_fits_the_holdout(whole):
    results = mnist_run.load(folder_of(whole))
    hard = results.of(Role.HELD_OUT, objective="hard")
    scaled = controls.temperature_scaled(results, hard)
    assert scaled["test_errors"].tolist() == hard["test_errors"].tolist()
    temperatures = np.exp(np.linspace(-3, 3, 3001))
    for (_, row), nll in zip(hard.iterrows(), scaled["test_nll"], strict=True):
        student = runs_.load_student(results.folder, row)
        with np.load(sweep_folder(results.folder, row["run"]) / "test.npz") as stored:
            held_out, labels = stored["holdout_labels"], stored["labels"]
        best = min(temperatures, key=lambda t: metrics.nll(student.stored_logits("holdout") / t, held_out))
        assert nll == pytest.approx(metrics.nll(student.stored_logits("test") / best, labels), rel=1e-3)


def test_figures_are_drawn_again_from_a_run_of_the_table_alone(whole):
    found = figures.draw(folder_of(whole))
    assert len(found) == 9 and all(path.stat().st_size > 5_000 for path in found)
    with pytest.raises(BadInput, match="is a run of temperature_sweep: name one of mnist_table"):
        figures.draw(next(whole.glob("runs/mnist_table/sweeps/*")))


def test_killed_at_some_moment_it_resumes_to_the_same_digits(whole, tmp_path):
    arguments = [*TINY, *places(tmp_path), "--only", "small", "distilled", "--checkpoint-seconds", "0"]
    process = commands.start(arguments, "experiments.mnist_table", env=hurry.environment())
    # In the middle: the first sweep is there, the last is not.
    while process.poll() is None and not list(tmp_path.glob("runs/mnist_table/sweeps/*/MANIFEST.json")):
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    os.kill(process.pid, signal.SIGKILL)
    assert commands.finish(process)[0] == -signal.SIGKILL
    code, said = commands.finish(commands.start(arguments, "experiments.mnist_table", env=hurry.environment()))
    assert code == 0, said
    swept = sorted((tmp_path / "runs" / "mnist_table" / "sweeps").glob("*/results.csv"))
    assert len(swept) == 4
    for path in swept:  # as in the run that nobody disturbed
        assert path.read_bytes() == (whole / path.relative_to(tmp_path)).read_bytes()
    table, undisturbed = ((folder_of(root) / "table.csv").read_text().splitlines() for root in (tmp_path, whole))
    assert len(table) == 5 and table == undisturbed[:5]


def results_of(rows, width=800, teachers=1, drop=(), rate=2e-3):
    """Results with the given test errors: {temperature: errors of seeds 0, 1, …}; nan is hard labels.

    With several teachers the errors are `[teachers, seeds]`. `drop`: (teacher, seed, temperature) of failed runs. All
    have one rate, and it is the one chosen.
    """
    table = []
    for temperature, of_runs in rows.items():
        setting = {"width": width, "epochs": 20, "temperature": temperature, "learning_rate": rate, "soft_weight": 1.0}
        setting |= {"objective": "hard" if math.isnan(temperature) else "kd"}
        table.append({**setting, **TRIED})
        for teacher, of_seeds in enumerate(np.reshape(of_runs, (-1, np.shape(of_runs)[-1]))[:teachers]):
            for seed, errors in enumerate(of_seeds):
                failed = 3 if (teacher, seed, temperature) in drop else -1
                of_run = {"teacher": str(teacher), "seed": seed, "test_errors": errors, "failed_at": failed}
                table.append({"role": "one rate", **setting, **of_run})
    data = {"name": "mnist", "train_images": 60_000, "test_images": 10_000}
    identity = {"data": data, "config": {"learning_rate": rate, "teacher": {"widths": [1200, 1200]}}}
    return mnist_run.MnistResults(None, identity, [], pd.DataFrame(table), None)


TRIED = {"role": "tuning", "teacher": "held out", "seed": 10_000, "failed_at": -1}
TRIED |= {"holdout_errors": 1, "test_errors": 1}


def curves_of(results):
    return [one.tuned for one in widths.read(results) if one.tuned]


def said_of(results):
    return widths_table.section(results)


def test_an_ensemble_of_distorted_images_is_set_against_one_teacher_and_hard_labels_of_such_images():
    errors = {
        ("small", "hard", "a"): [150, 148, 152],
        ("distilled", "kd", "a"): [90, 92, 94],
        ("distilled", "kd", "b"): [88, 90, 95],
        ("elastic", "kd", "a"): [70, 75, 71],
        ("elastic", "hard", "a"): [80, 81, 85],
        ("ensemble, elastic", "kd", "d"): [55, 58, 55],
    }
    table = [
        {"role": role, "objective": objective, "teacher": teacher, "seed": seed, "test_errors": of_seed}
        | {"soft_weight": 0.9, "teacher_errors": 60, "epochs": 100, "failed_at": -1}
        for (role, objective, teacher), of_seeds in errors.items()
        for seed, of_seed in enumerate(of_seeds)
    ]
    config = {"soft_weights": [0.9], "temperature": 20.0, "width": 800}
    config["teacher"] = {"widths": [1200, 1200], "augment": "elastic"}
    teachers = [{"name": name, "test": {"errors": count}} for name, count in (("a", 60), ("b", 62))]
    data = {"name": "mnist", "train_images": 60_000, "test_images": 10_000}
    results = mnist_run.MnistResults(None, {"config": config, "data": data}, teachers, pd.DataFrame(table), None)
    rows = {row.name: row for row in rows_of_table(results)}
    teacher = rows["teacher of elastically distorted images"]
    assert (
        teacher.measures["test_errors"].mean == 61 and math.isnan(teacher.paper) and not teacher.verdict
    )  # no recipe of the paper's
    assert "that teacher" not in rows  # it is the first
    ensemble = rows[BETTER[Role.ENSEMBLE_ELASTIC].format(members=2, epochs=100)]
    assert ensemble.measures["test_errors"].mean == pytest.approx(56) and ensemble.measures["test_errors"].n == 3
    one, hard = ensemble.details().split("; ")
    assert one.startswith("against one teacher of such images, on them: −16.0")
    assert hard.startswith("against hard labels on those images: −26.0")


@pytest.mark.parametrize("augment, words", [("none", ""), ("elastic", "elastically distorted"), ("full", "(full)")])
def test_a_figure_of_soft_targets_says_which_images_its_teachers_saw(augment, words):
    results = results_of({t: [100, 101, 99] for t in (1.0, 4.0)})
    data = {"name": "mnist", "description": "MNIST", "test_images": 10_000}
    config = {"teacher": {"augment": augment}, "learning_rate": 2e-3}
    results = results._replace(identity={"data": data, "config": config})
    with style.applied():
        (drawn,) = figures.draw_widths(results).values()
        title = drawn.get_suptitle()
    assert ("of a teacher" in title) == bool(words) and words in title


def test_claims_name_no_winner_inside_the_noise():
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 5, 10)
    near = {t: 80 + seeds + rng.normal(0, 3, 10) for t in (1.0, 2.0, 4.0, 8.0, 16.0, math.inf)}
    alike = results_of({float("nan"): 140 + seeds, **near})
    (one,) = curves_of(alike)
    assert len(one.candidates) > 1 and one.reach < 7
    said = said_of(alike)
    assert "no winner" in said and "alike within ±7 errors (" in said and "about this teacher" in said
    assert "reproduced" not in said  # one teacher is not enough for that
    apart = results_of({**near, 2.0: near[2.0] - 40, 16.0: near[16.0] + 40})
    (one,) = curves_of(apart)
    assert one.candidates.tolist() == [2.0] and not one.reach < 7
    assert "not shown to be alike" in " ".join(claims.claims([one], apart))


def test_narrow_students_optimum_is_compared_with_the_papers():
    rng = np.random.default_rng(1)
    for best, word in ((3.0, "only these may be best: reproduced."), (16.0, "excluded: not reproduced.")):
        rows = {t: 400 + (0 if t == best else 60) + rng.normal(0, 4, (3, 20)) for t in (1.0, 2.0, 3.0, 8.0, 16.0)}
        results = results_of(rows, width=30, teachers=3)
        curves = curves_of(results)
        assert curves[0].errors.shape == (3, 20, 5)
        assert any(note.endswith(f"best (paper): {word}") for note in claims.claims(curves, results))
    for tried in ((1.0, 8.0), (3.0, 4.0)):  # none of the paper's, or no other
        few = results_of({t: rows[8.0] + t for t in tried}, width=30, teachers=3)
        assert "best (paper)" not in " ".join(claims.claims(curves_of(few), few))
    lost = curves[0]._replace(left_out=[3.0])
    assert "best (paper)" not in " ".join(claims.claims([lost], results))


def test_teachers_are_draws_too():
    # Where temperatures are alike but for what each teacher makes of them, none is excluded too often.
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(60):
        seeds = rng.normal(0, 4, 10)
        rows = {t: 80 + rng.normal(0, 4, (3, 1)) + seeds + rng.normal(0, 2, (3, 10)) for t in (1.0, 2.0, 4.0, 8.0)}
        (one,) = curves_of(results_of(rows, teachers=3))
        wrong += 8.0 not in one.candidates
    assert wrong <= 9  # 5 % of 60 is 3; over seeds alone it is about half of them


def test_optima_differ_only_among_temperatures_that_both_were_trained_at():
    rng = np.random.default_rng(3)

    def curve(grid):
        return {t: 100 + 40 * math.log(t / 2.8) ** 2 + rng.normal(0, 1, 10) for t in grid}

    fine, coarse = results_of(curve((1.0, 2.0, 3.0, 4.0, 8.0)), width=30), results_of(curve((1.0, 2.0, 4.0, 8.0)), 300)
    results = fine._replace(results=pd.concat([fine.results, coarse.results]))
    curves = curves_of(results)
    assert not set(curves[0].candidates) & set(curves[1].candidates)
    apart = "the optima of 30 units, 20 epochs, and 300 units, 20 epochs, are not told apart"
    assert apart in " ".join(claims.claims(curves, results))


def test_a_failed_run_costs_its_temperature_and_is_named():
    rng = np.random.default_rng(4)
    rows = {t: 100 + rng.normal(0, 3, (2, 5)) for t in (1.0, 2.0, 4.0)}
    results = results_of({float("nan"): 140 + rng.normal(0, 3, (1, 5)), **rows}, teachers=2, drop={(0, 3, 2.0)})
    (one,) = curves_of(results)
    assert one.temperatures.tolist() == [1.0, 4.0] and one.errors.shape == (2, 5, 2)
    assert "T = 2 left out" in " ".join(claims.claims([one], results))
    assert len(one.from_hard()) == 2 and one.from_hard()[0][0].n == 10
    hard_failed = results_of({float("nan"): 140 + rng.normal(0, 3, 5), 4.0: rows[4.0][0]}, drop={(0, 1, 4.0)})
    assert curves_of(hard_failed) == []  # and one of the two temperatures is all there was


def test_runs_that_share_a_teacher_are_not_independent_where_one_failed():
    rng = np.random.default_rng(5)
    table = 90 + np.array([[-8.0], [0.0], [8.0]]) + rng.normal(0, 2, (3, 5))
    errors = pd.DataFrame(table, index=list("012")).stack()
    errors.index.names = RUN
    assert grid(errors) == pytest.approx(table)
    assert grid(errors.drop(index=("1", 2))) == pytest.approx(np.delete(table, 2, axis=1))
    apart = errors[[(str(t), t) for t in range(3)]]  # no seed under two teachers
    assert grid(apart)[:, 0] == pytest.approx(np.diag(table))
    assert grid(errors[["1"]])[0] == pytest.approx(table[1])


def test_the_limit_is_compared_with_the_high_temperatures_and_without():
    rng = np.random.default_rng(6)
    rows = {t: 80 + rng.normal(0, 2, (3, 10)) for t in (2.0, 8.0, 16.0, 32.0)}
    results = results_of({**rows, math.inf: 95 + rng.normal(0, 2, (3, 10))}, teachers=3)
    said = claims.claims(curves_of(results), results)
    (both,) = (note for note in said if "every two temperatures from 8 on" in note)
    (finite,) = (note for note in said if "every two finite temperatures from 8 on" in note)
    assert "not shown to be alike" in both and "as the paper says: reproduced" in finite


def tried_at(errors, failed=()):
    """Rows of a tuning sweep: {(temperature, rate): hold-out errors of seeds}; their test errors say the opposite."""
    return pd.DataFrame(
        [
            {**TRIED, "width": 30, "epochs": 20, "soft_weight": 1.0, "temperature": t, "learning_rate": rate}
            | {"objective": "hard" if math.isnan(t) else "kd", "seed": 10_000 + seed, "holdout_errors": count}
            | {"test_errors": 1_000 - count, "failed_at": 5 if (t, rate, seed) in failed else -1}
            for (t, rate), of_seeds in errors.items()
            for seed, count in enumerate(of_seeds)
        ]
    )


def test_the_rate_with_the_fewest_mean_holdout_errors_is_chosen_and_an_edge_is_marked():
    hard = {(math.nan, 1e-3): [50, 52], (math.nan, 2e-3): [40, 44], (math.nan, 4e-3): [30, 70]}
    edge = {(4.0, 1e-3): [50, 52], (4.0, 2e-3): [40, 44], (4.0, 4e-3): [39, 41]}
    ties = {(math.inf, 1e-3): [60, 60], (math.inf, 2e-3): [41, 43], (math.inf, 4e-3): [43, 41]}
    lost = {(1.0, rate): [9, 9] for rate in (1e-3, 2e-3, 4e-3)}
    tried = tried_at({**ties, **edge, **hard, **lost}, failed={(1.0, rate, 1) for rate in (1e-3, 2e-3, 4e-3)})
    found = tuning.choices(tried)
    assert [one.name for one in found] == ["hard labels", "T = 4", "T = ∞"]
    assert [one.learning_rate for one in found] == [2e-3, 4e-3, 2e-3]
    assert [one.at_edge for one in found] == [False, True, False]
    results = results_of({t: [100, 102, 99] for t in (1.0, 4.0)}, width=30)
    results = results._replace(results=pd.concat([results.results[results.results["role"] == "one rate"], tried]))
    said = said_of(results)
    assert "| T = 4 | 0.004 (at the edge) | 0.001 to 0.004 |" in said
    assert "| hard labels | 0.002 | 0.001 to 0.004 |" in said
    assert "rates at the edge of those tried, 0.001 to 0.004 (better ones may lie beyond): T = 4." in said
    assert "T = 1 left out, where some run failed at every rate" in said


def test_test_errors_play_no_part_in_a_choice():
    rng = np.random.default_rng(7)
    errors = {(t, rate): rng.integers(20, 90, 4) for t in (math.nan, 1.0, math.inf) for rate in (1e-3, 2e-3, 4e-3)}
    tried = tried_at(errors)
    other = tried.assign(test_errors=rng.permutation(tried["test_errors"].to_numpy()))
    chosen, same, without = (
        [(one.name, one.learning_rate) for one in tuning.choices(rows)]
        for rows in (tried, other, tried.drop(columns="test_errors"))
    )
    assert chosen == same == without and len({rate for _, rate in chosen}) > 1


def test_the_rates_that_the_holdout_does_not_exclude_as_best_stand_beside_the_chosen_one():
    # Paired differences from the best rate, over 3 seeds: 2 or 22 errors with a spread of 1, or more spread than mean.
    seeds = np.array([100.0, 130.0, 90.0])
    alike, excluded = np.array([1.0, 2.0, 3.0]), np.array([21.0, 22.0, 23.0])
    errors = {(4.0, 2e-3): seeds, (4.0, 4e-3): seeds + alike, (4.0, 8e-3): seeds + excluded}
    noisy = {(8.0, 2e-3): seeds, (8.0, 4e-3): seeds[::-1] + 2, (8.0, 8e-3): seeds + np.array([2.0, 22.0, 42.0])}
    sharp = {(1.0, 2e-3): seeds + excluded, (1.0, 4e-3): seeds, (1.0, 8e-3): seeds + excluded}
    found = {one.name: one for one in tuning.choices(tried_at({**errors, **noisy, **sharp}))}
    assert found["T = 4"].possible == (2e-3, 4e-3)
    assert found["T = 8"].possible == (2e-3, 4e-3, 8e-3)
    assert found["T = 1"].possible == (4e-3,)
    lost = tuning.choices(tried_at({**sharp, (1.0, 1e-3): seeds}, failed={(1.0, 1e-3, 2)}))
    assert lost[0].possible == (4e-3,)
    single = tuning.choices(tried_at({key: values[:1] for key, values in errors.items()}))
    assert single[0].possible == (2e-3, 4e-3, 8e-3)


def test_where_soft_targets_help_is_said_at_tuned_rates_and_at_one_rate():
    rng = np.random.default_rng(8)
    rows = {t: 300 + rng.normal(0, 3, (3, 5)) for t in (1.0, 4.0, 32.0)}
    results = results_of({math.nan: 300 + rng.normal(0, 3, 5), **rows}, width=30, teachers=3)
    fresh = results.results[results.results["role"] == "one rate"].assign(learning_rate=8e-3, role="tuned rates")
    at_four, at_most = fresh["temperature"] == 4.0, fresh["temperature"] == 32.0
    fresh = fresh.assign(test_errors=fresh["test_errors"] - 50 * at_four + 50 * at_most)
    tried = results.results["role"] == "tuning"
    moved = results.results.assign(learning_rate=np.where(tried, 8e-3, results.results["learning_rate"]))
    said = said_of(results._replace(results=pd.concat([moved, fresh])))
    tuned, one_rate = (
        next(line for line in said.splitlines() if f", {how}:" in line)
        for how in (
            "each rate tuned",
            "all at rate 0.002",
        )
    )
    assert "soft targets help at T = 4, most of all by −" in tuned and "harm at T = 32, most of all by +" in tuned
    assert "best may be T = 4" in tuned and "help" not in one_rate and "harm" not in one_rate


def tried_in(root):
    """The folder of the tuning sweep of a table, and what it tried."""
    ((_, name),) = [entry for entry in sweeps_behind(root) if entry[0] == Role.TUNING]
    return runs_.read(root / "runs" / "mnist_table" / "sweeps" / name)


def test_the_table_uses_the_rates_that_its_tuning_sweep_says(whole):
    tried, table = tried_in(whole), pd.read_csv(folder_of(whole) / "widths.csv")
    assert set(tried["seed"]) == {10_000, 10_001} and len(tried["learning_rate"].unique()) >= 2
    everything = mnist_run.load(folder_of(whole)).results
    fresh = everything[everything["role"].isin([Role.ONE_RATE.value, Role.TUNED.value])]
    assert set(fresh["seed"]) == {0, 1} and "holdout_errors" not in fresh.dropna(axis=1, how="all")
    means = tried.fillna({"temperature": -1}).groupby(["temperature", "learning_rate"])["holdout_errors"].mean()
    for temperature, of_setting in means.groupby(level=0):
        kind = "hard labels" if temperature < 0 else f"T = {'∞' if math.isinf(temperature) else f'{temperature:g}'}"
        best = float(of_setting.idxmin()[1])
        (line,) = table[table["setting"] == kind].to_dict("records")
        assert line["rate"] == pytest.approx(best, rel=1e-5)
        assert line["at_edge"] == (best in (tried["learning_rate"].min(), tried["learning_rate"].max()))
        assert tried["learning_rate"].min() <= line["rate_low"] <= line["rate"] <= line["rate_high"]
        same = fresh["temperature"].isna() if temperature < 0 else fresh["temperature"] == temperature
        errors = fresh[same & np.isclose(fresh["learning_rate"], best, rtol=1e-6)]["test_errors"]
        assert (line["errors"], line["n"]) == (pytest.approx(errors.mean(), rel=1e-5), 2 if temperature < 0 else 4)
        at_one = fresh[same & np.isclose(fresh["learning_rate"], 0.003)]["test_errors"]
        assert line["one_rate_errors"] == pytest.approx(at_one.mean(), rel=1e-5)


def test_killed_while_rates_are_tried_it_resumes_to_the_same_choices(whole, tmp_path):
    arguments = [*TINY, *places(tmp_path), "--only", "widths", "--checkpoint-seconds", "0"]
    process = commands.start(arguments, "experiments.mnist_table", env=hurry.environment())
    while process.poll() is None and not list(tmp_path.glob("runs/mnist_table/sweeps/*/blocks/width*")):
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    os.kill(process.pid, signal.SIGKILL)
    assert commands.finish(process)[0] == -signal.SIGKILL
    assert not list(tmp_path.glob("runs/mnist_table/sweeps/*/MANIFEST.json"))  # nothing was chosen yet
    code, said = commands.finish(commands.start(arguments, "experiments.mnist_table", env=hurry.environment()))
    assert code == 0, said
    swept = sorted((tmp_path / "runs" / "mnist_table" / "sweeps").glob("*/results.csv"))
    for path in swept:
        assert path.read_bytes() == (whole / path.relative_to(tmp_path)).read_bytes()
    of_widths = ((folder_of(root) / "widths.csv").read_bytes() for root in (tmp_path, whole))
    assert len(set(of_widths)) == 1


def test_a_table_under_way_has_a_summary_of_the_sweeps_so_far(tmp_path, monkeypatch):
    run, done = sweeps.run, []

    def interrupted(sweep, **how):
        assert how == {"wait": True}  # another table may train it
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(run(sweep, **how))
        return done[-1]

    monkeypatch.setattr(sweeps, "run", interrupted)
    monkeypatch.setattr(interim, "SHARE", math.inf)  # after every sweep
    some = ("--only", "teacher", "small", "distilled", "controls")
    with pytest.raises(KeyboardInterrupt):
        call(tmp_path, *some)
    text = (folder_of(tmp_path) / "summary.md").read_text()
    assert re.search(r"^# The MNIST table on .*, 2 of \d+ sweeps$", text, re.MULTILINE), text
    assert "| teacher |" in text and "Warning: 2 seeds say next to nothing" in text
    figures.draw(folder_of(tmp_path))  # what the plot command does: nothing is to be drawn yet
    monkeypatch.setattr(sweeps, "run", run)
    code, said = call(tmp_path, *some)
    assert code == 0 and " sweeps" not in (folder_of(tmp_path) / "summary.md").read_text().splitlines()[0], said


def test_tuned_students_that_are_not_trained_yet_are_no_failures(whole):
    found = mnist_run.load(folder_of(whole))
    rows = found.results
    some = rows[(rows["role"] != Role.TUNED.value) | (rows["teacher"] == found.teachers[0]["name"])]
    (one,) = widths.read(found._replace(results=some))
    assert one.under_way and one.tuned is None and one.one_rate is not None
    said = widths_table.section(found._replace(results=some))
    assert "each rate tuned: not all students are trained yet." in said and "failed" not in said
    (one,) = widths.read(found)
    assert not one.under_way and one.tuned is not None


def sweeps_behind(root, name="run"):
    """(role, folder's name) of each sweep of a table."""
    details = json.loads((root / "runs" / "mnist_table" / name / "config.json").read_text())["details"]
    return [(entry["role"], entry["run"]) for entry in details["answers"]]


def test_no_sweep_is_trained_twice(whole):
    found = sweeps_behind(whole)
    assert len({run for _, run in found}) == len(found)
    assert {path.name for path in (whole / "runs" / "mnist_table" / "sweeps").iterdir()} == {run for _, run in found}
    roles = [member.role for member in asked(only=("small", "distilled", "shifted"), teachers=1)]
    assert len(roles) == len(set(roles))


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_made_alone(whole, part):
    code, said = call(whole, "--only", part, "--name", part)
    assert code == 0 and "students:" not in said, said  # all of it is found
    assert set(sweeps_behind(whole, part)) <= set(sweeps_behind(whole))
    text = (whole / "runs" / "mnist_table" / part / "summary.md").read_text()
    assert "| teacher |" in text
    assert ("Shifted test images" in text) == (part == "shifted")
    # Sweeps are counted on from those at given rates to those at tuned ones.
    numbers = [int(number) for number in re.findall(r"part \w+: .* \((\d+) of \d+ sweeps?\)", said)]
    assert numbers == list(range(1, len(sweeps_behind(whole, part)) + 1))


def test_bad_teachers_are_refused_before_anything_is_written(tmp_path):
    for options in (["--teacher.learning-rate", "-1"], ["--teacher.epochs", "0"], ["--teacher.seed", "2147483647"]):
        code, said = call(tmp_path, "--only", "teacher", *options)
        assert code == 2 and "is not allowed" in said and not (tmp_path / "runs").exists()


def test_options_of_parts_that_are_left_out_are_named(tmp_path):
    code, said = call(tmp_path, "--only", "widths", "--dry-run")
    assert code == 0 and "warning: --fractions has no effect without the part transfer (--only)" in said
    assert "--elastic-epochs has no effect" in said and "--width-epochs" not in said, said
    rows = (
        "--width --seeds have no effect without one of the parts small, distilled, transfer, shifted, better, controls"
    )
    assert rows in said and "--epochs has no effect" in said and "--soft-weights has no effect" in said
    assert len(re.findall("ha(s|ve) no effect", said)) == 5  # of all teachers the table tells, too
    code, said = call(tmp_path, "--only", "transfer", "--dry-run")
    assert code == 0 and "--epochs has no effect" in said and "--width --seeds" not in said


def test_few_images_do_not_ask_one_sweep_twice():
    shown = [member.config.transfer_images for member in members.members(TableConfig(only=("transfer",)), 4_000)]
    assert shown == sorted(set(shown)) and shown[0] == 128


def test_damaged_tables_are_one_line(whole, tmp_path):
    shutil.copytree(whole / "runs", tmp_path / "runs")
    path = tmp_path / "runs" / "mnist_table" / "run" / "config.json"
    good = json.loads(path.read_text())
    damages = [[1], {**good, "details": {}}, {**good, "identity": {"experiment": "mnist_table"}}]
    damages += [{**good, "details": {**good["details"], name: None}} for name in ("answers", "teachers")]
    for damage in damages:
        path.write_text(json.dumps(damage))
        with pytest.raises(BadInput, match="experiment's command again"):
            figures.draw(path.parent)


def test_a_forecast_asks_every_sweep(tmp_path, capsys):
    data = DigitsConfig(dataset="mnist5k", raw_dir=None, data_dir=tmp_path)
    small = TeacherConfig(widths=(16,), epochs=1)
    config = TableConfig(
        data=data,
        run=RunConfig(devices=1, out=tmp_path / "runs", dry_run=True),
        teacher=small,
        only=("widths",),
        precision="float32",
    )
    mnist_table.main(config)
    told = capsys.readouterr()
    printed = told.out.splitlines()
    assert told.err.count("data: ") <= 3  # what every sweep asks for is read once: all images, or less the hold-out
    sweeps_, schedules = members.members(config, 4_000), len(config.schedules())
    assert len(printed) == 6 + len(sweeps_) + schedules + 1
    assert sum("would be trained" in line for line in printed) == 6
    assert sum("train a teacher" in line for line in printed) == 1  # it never saw the hold-out
    assert sum("no further teacher" in line for line in printed) == len(sweeps_) - 1
    assert sum("rates not chosen yet" in line for line in printed) == schedules
    assert printed[-1].startswith("in all about ")
    assert not any("bfloat16 takes" in line for line in printed)  # asked for is float32
    assert not (tmp_path / "runs").exists()


def test_what_was_trained_for_one_part_serves_another(tmp_path):
    few = ("--teachers", "1", "--seeds", "1", "--temperature", "inf")
    code, said = call(tmp_path, *few, "--only", "small")
    assert code == 0, said
    (small,) = (tmp_path / "runs" / "mnist_table" / "sweeps").iterdir()
    trained = {path: path.stat().st_mtime_ns for path in small.glob("blocks/**/*")}
    assert len(trained) > 3
    code, said = call(tmp_path, *few, "--only", "shifted", "--name", "shifted")
    assert code == 0 and said.count("1 of 1 blocks are finished already") == 1, said
    assert small.name in [name for _, name in sweeps_behind(tmp_path, "shifted")]
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    text = (folder_of(tmp_path).parent / "shifted" / "summary.md").read_text()
    assert "| small net distilled, T = ∞, soft weight " in text


def test_another_dataset_is_another_name_and_nothing_else(tmp_path):
    raw = raw_files.write_digits(tmp_path / "fashion_mnist")  # its files are named as those of MNIST
    options = [
        "--dataset",
        "fashion_mnist",
        "--raw-dir",
        str(raw),
        "--only",
        "small",
        "--teachers",
        "1",
        "--seeds",
        "1",
    ]
    code, said = call(tmp_path, *options)
    assert code == 0, said
    text = (folder_of(tmp_path) / "summary.md").read_text()
    assert "Fashion" in text and "reproduced" not in text.replace("Reproduced:", "")


def test_an_unknown_role_is_an_error():
    with pytest.raises(ValueError, match="hard jitterd"):
        results_of({4.0: [100]}).of("hard jitterd")


def test_a_changed_digit_in_a_finished_tables_config_is_reported(whole, tmp_path):
    folder = tmp_path / "mnist_table" / "run"
    shutil.copytree(folder_of(whole), folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(re.sub(r'"errors": \d+', '"errors": 0', text, count=1))
    with pytest.raises(Damaged, match=r"config\.json is missing or differs from what was written"):
        mnist_run.load(folder)


@pytest.fixture
def nll():
    """A measure of a user's own in the MNIST table."""
    measures.register(measures.Measure("nll", "NLL, nats", lambda row: row["nll"], decimals=4), ["mnist"])
    yield
    del measures.MEASURES["mnist"]["nll"]


def test_a_registered_measure_is_a_column(whole, nll):
    folder = folder_of(whole)
    before = {name: (folder / name).read_bytes() for name in ("summary.md", "table.csv")}
    text, expected = mnist_table_.write_summary(folder), mnist_run.load(folder).of(Role.SMALL)["test_nll"]
    table = pd.read_csv(folder / "table.csv").set_index("name")
    for name, content in before.items():
        (folder / name).write_bytes(content)
    assert table["test_nll"]["small net alone"] == pytest.approx(expected.mean(), rel=1e-5)
    assert "test NLL, nats" in text and f"{expected.mean():.4f} [" in text
