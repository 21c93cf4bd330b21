"""Figures and tables of an omission run: drawn from small runs, refused from anything else."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from analysis import plot_omit_digit, style
from analysis.omission import figures
from analysis.omission import table as omission_table
from experiments import omit_digit
from kdjax.errors import BadInput
from tests.small_omission import config


def trained(folder, **options):
    return omit_digit.run(omit_digit.prepare(config(folder, **options)))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    options = {"students": ("all_digits", "control"), "temperatures": (8.0, 2.0, float("inf"))}
    return trained(tmp_path_factory.mktemp("single"), digit=3, **options)


@pytest.fixture(scope="module")
def each(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("each"), each=True, seeds=1, students=("all_digits",))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("several"), digits=(3, 5), seeds=1, students=("control",))


@pytest.fixture
def copy(single, tmp_path):
    """A copy to be spoiled, without its seal (which would name the file before anything is read)."""
    shutil.copytree(single, tmp_path / "run")
    (tmp_path / "run" / "MANIFEST.json").unlink()
    return tmp_path / "run"


def names(paths):
    assert all(path.stat().st_size > 1000 for path in paths)
    return {path.stem for path in paths if path.suffix == ".png"}


def test_each_question_has_its_figure(single, each):
    one = {"soft_predictions", "errors_against_bias", "errors_by_class", "taken_for"}
    assert names(plot_omit_digit.draw(single)) == one | {"errors_against_temperature"}
    assert names(plot_omit_digit.draw(each)) == {"soft_predictions", "each"}


def test_the_curve_passes_through_what_the_rows_say(single):
    run = plot_omit_digit.load(single)
    assert run.temperature == 8.0  # the first that was asked for, not the lowest
    for student in ("distilled", "control"):
        for correction in ("none", "oracle", "validation", "label_free"):
            for _, row in run.of("3", student, correction).iterrows():
                at = figures._along(run, row, "3", np.array([row["bias"]]))
                assert at[:, 0].tolist() == [row["test_errors"], row["omitted_errors"]]


def test_what_digits_are_taken_for_agrees_with_the_errors(single):
    run = plot_omit_digit.load(single)
    found = dict(figures._confusions(run, "3", [3]))
    for label, correction in (("distilled, before correction", "none"), ("distilled, oracle", "oracle")):
        rows = run.of("3", "distilled", correction)
        right = 100 - 100 * (rows["omitted_errors"] / rows["omitted_images"]).mean()
        assert found[label].shape == (1, 10) and found[label].sum() == pytest.approx(100)
        assert found[label][0, 3] == pytest.approx(right)


def test_the_figure_of_each_digit_has_ten_rows(each):
    run = plot_omit_digit.load(each)
    with style.applied():
        figure = figures.each(run)
        left, right = figure.axes
        assert [label.get_text() for label in left.get_yticklabels()] == [str(value) for value in range(10)]
        before = [line for line in right.lines if line.get_label() == "before correction"]
        assert [line.get_xdata()[0] for line in before] == run.results.loc[
            (run.results["student"] == "distilled") & (run.results["correction"] == "none"), "test_errors"
        ].tolist()


def test_the_strip_shows_omitted_digits_that_the_run_kept(several):
    run = plot_omit_digit.load(several)
    assert len(run.example_rows) == 80 and len(run.example_images) == 80
    with style.applied():
        figure = figures.strip(run)
        confusions = figures.taken_for(run)
    assert len(figure.axes) == 16  # eight images, with a prediction under each
    assert [axes.get_title("left") for axes in confusions.axes][::3] == [
        "distilled, before correction",
        "hard labels, before correction",
    ]


def test_table_has_a_section_a_temperature_and_a_line_a_digit(single, each):
    text = omission_table.write_summary(single)
    assert [line for line in text.splitlines() if line.startswith("Students without")] == [
        f"Students without 3, T = {value}" for value in ("2", "8", "∞")
    ]
    lines = omission_table.write_summary(each).splitlines()
    assert len([line for line in lines if line.startswith("without")]) == 10
    assert (each / "summary.md").read_text().count("| without") == 10


def test_paper_stands_beside_full_mnist_alone(single):
    results = omission_table.read(single)
    rows = omission_table.summarise(results)
    header, cells = omission_table._cells([row for row in rows if row.temperature == 2], "without 3", True)
    assert header[-1] == "paper"
    found = {tuple(cell[:2]): cell[-1] for cell in cells}
    assert found["distilled without 3", "none"].startswith("206") and "109" in found["distilled without 3", "oracle"]
    assert found["hard labels without 3", "oracle"] == ""


def test_means_and_intervals_are_over_seeds_and_leave_failed_runs_out(single):
    results = omission_table.read(single)
    mine = (results["student"] == "distilled") & (results["correction"] == "none") & (results["temperature"] == 2)
    errors = results.loc[mine, "test_errors"].to_numpy(float)

    def row(table):
        rows = omission_table.summarise(table)
        return next(r for r in rows if (r.temperature, r.student, r.correction) == (2, "distilled", "none"))

    assert row(results).errors.mean == errors.mean() and row(results).errors.n == 2
    failed = results.copy()
    failed.loc[mine & (failed["seed"] == 1), "failed_at"] = 7
    assert row(failed).errors.mean == errors[0] and row(failed).failed == 1


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no folder"):
        plot_omit_digit.draw(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"config\.json is missing"):
        plot_omit_digit.draw(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"identity": {"experiment": "temperature_sweep"}}))
    with pytest.raises(BadInput, match="no run directory of omit_digit"):
        plot_omit_digit.draw(tmp_path)


def test_what_is_damaged_is_named(copy):
    (copy / "test.npz").write_bytes(b"not an archive")
    with pytest.raises(BadInput, match=r"test\.npz is damaged"):
        plot_omit_digit.draw(copy)
    (copy / "test.npz").unlink()
    with pytest.raises(BadInput, match=r"test\.npz is missing"):
        plot_omit_digit.draw(copy)
    pd.read_csv(copy / "results.csv").drop(columns="bias").to_csv(copy / "results.csv", index=False)
    with pytest.raises(BadInput, match="lacks bias"):
        plot_omit_digit.draw(copy)


def test_a_changed_byte_is_noticed(single, tmp_path):
    shutil.copytree(single, tmp_path / "run")
    path = tmp_path / "run" / "results.csv"
    path.write_text(path.read_text().replace("distilled", "distiller", 1))
    with pytest.raises(BadInput, match=r"results\.csv"):
        plot_omit_digit.draw(tmp_path / "run")
