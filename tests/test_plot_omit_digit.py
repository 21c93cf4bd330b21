"""Figures and tables of an omission run: drawn from small runs, refused from anything else."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from analysis import stats, style, terminal
from analysis.omission import figures, predictions
from analysis.omission import rows as omission_rows
from analysis.omission import table as omission_table
from analysis.omission.run import load, read
from analysis.page import page
from experiments import omit_digit
from kdjax.errors import BadInput
from tests.small_omission import config


def trained(folder, **options):
    return omit_digit.run(omit_digit.prepare(config(folder, **options)))


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    options = {"students": ("all_digits", "control"), "temperatures": (8.0, 2.0, float("inf"))}
    return trained(tmp_path_factory.mktemp("single"), digit=(3,), **options)


@pytest.fixture(scope="module")
def each(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("each"), each=True, seeds=1, students=("all_digits",))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("several"), digit=(3, 5), seeds=1, students=("control",))


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
    assert names(figures.draw(single)) == one | {"errors_against_temperature"}
    assert names(figures.draw(each)) == {"soft_predictions", "each"}
    for folder, first in ((single, "errors_against_bias-"), (each, "each-")):
        omission_table.write_summary(folder)
        shown = page.html(folder)
        assert shown.index(f'id="{first}') < shown.index('id="soft_predictions-') and "students are right on" in shown


def test_the_curve_passes_through_what_the_rows_say(single):
    results = load(single)
    assert results.temperature == 8.0  # the first that was asked for, not the lowest
    for student in ("distilled", "control"):
        for correction in ("none", "oracle", "validation", "label_free"):
            for _, row in results.of("3", student, correction).iterrows():
                at = figures._along(results, row, "3", np.array([row["bias"]]))
                assert at[:, 0].tolist() == [row["test_errors"], row["omitted_errors"]]


def test_what_digits_are_taken_for_agrees_with_the_errors(single):
    results = load(single)
    found = dict(predictions._confusions(results, "3", [3]))
    for label, correction in (("distilled, before correction", "none"), ("distilled, oracle", "oracle")):
        rows = results.of("3", "distilled", correction)
        right = 100 - 100 * (rows["omitted_errors"] / rows["omitted_images"]).mean()
        assert found[label].shape == (1, 10) and found[label].sum() == pytest.approx(100)
        assert found[label][0, 3] == pytest.approx(right)


def test_the_figure_of_each_digit_has_ten_rows(each):
    results = load(each)
    with style.applied():
        figure = figures.each(results)
        left, right = figure.axes
        assert [label.get_text() for label in left.get_yticklabels()] == [str(value) for value in range(10)]
        before = [line for line in right.lines if line.get_label() == "before correction"]
        assert [line.get_xdata()[0] for line in before] == results.rows.loc[
            (results.rows["student"] == "distilled") & (results.rows["correction"] == "none"), "test_errors"
        ].tolist()


def test_the_strip_shows_omitted_digits_that_the_run_kept(several):
    results = load(several)
    assert len(results.example_rows) == 80 and len(results.example_images) == 80
    with style.applied():
        figure = predictions.strip(results)
        confusions = predictions.taken_for(results)
    assert len(figure.axes) == 16  # eight images, with a prediction under each
    assert [axes.get_title("left") for axes in confusions.axes][::3] == [
        "distilled, before correction",
        "hard labels, before correction",
    ]


def test_table_has_a_section_a_temperature_and_a_line_a_digit(single, each):
    text = omission_table.write_summary(single)
    assert [line for line in text.splitlines() if line.startswith("## Students without")] == [
        f"## Students without 3, T = {value}" for value in ("2", "8", "∞")
    ]
    lines = terminal.text(omission_table.write_summary(each)).splitlines()
    assert len([line for line in lines if line.startswith("without")]) == 10
    assert (each / "summary.md").read_text().count("| without") == 10


def test_paper_stands_beside_full_mnist_alone(single):
    rows = omission_rows.summarise(read(single))
    table = omission_table._students([row for row in rows if row.temperature == 2], "without 3", True)
    assert table.header[-1] == "paper"
    found = {tuple(cell[:2]): cell[-1] for cell in table.rows}
    assert found["distilled without 3", "none"].startswith("206") and "109" in found["distilled without 3", "oracle"]
    assert found["hard labels without 3", "oracle"] == ""


def test_means_and_intervals_are_over_seeds_and_leave_failed_runs_out(single):
    results = read(single)
    chosen = (results["student"] == "distilled") & (results["correction"] == "none") & (results["temperature"] == 2)
    errors = results.loc[chosen, "test_errors"].to_numpy(float)

    def row(table):
        rows = omission_rows.summarise(table)
        return next(r for r in rows if (r.temperature, r.student, r.correction) == (2, "distilled", "none"))

    assert row(results).errors.mean == errors.mean() and row(results).errors.n == 2
    failed = results.copy()
    failed.loc[chosen & (failed["seed"] == 1), "failed_at"] = 7
    assert row(failed).errors.mean == errors[0] and row(failed).failed == 1


def test_the_csv_has_the_rows_and_comparisons_of_the_summary(single):
    omission_table.write_summary(single)
    table, results = pd.read_csv(single / "table.csv", dtype={"omitted": str}), read(single)
    key = {"omitted": "3", "temperature": 2.0, "student": "distilled", "correction": "oracle"}
    line = table[table["against"].isna() & np.logical_and.reduce([table[name] == value for name, value in key.items()])]
    errors = results[np.logical_and.reduce([results[name] == value for name, value in key.items()])]["test_errors"]
    interval = stats.interval(errors.to_numpy(float))
    names = ["test_errors", "test_errors_low", "test_errors_high", "n"]
    assert line[names].iloc[0].tolist() == pytest.approx([*interval[:3], 2], rel=1e-5, nan_ok=True)
    compared = omission_rows.compare(results, "3", 2.0)
    written = table[table["against"].notna() & (table["temperature"] == 2.0)]
    assert written["difference"].tolist() == pytest.approx([less.mean for less in compared.values()], rel=1e-5)
    assert len(written) == 3  # nothing was trained on the pool too, and no pairs


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no folder"):
        figures.draw(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"config\.json is missing"):
        figures.draw(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"identity": {"experiment": "temperature_sweep"}}))
    with pytest.raises(BadInput, match="is a run of temperature_sweep: name one of omit_digit"):
        figures.draw(tmp_path)


def test_what_is_damaged_is_named(copy):
    (copy / "test.npz").write_bytes(b"not an archive")
    with pytest.raises(BadInput, match=r"test\.npz is damaged"):
        figures.draw(copy)
    (copy / "test.npz").unlink()
    with pytest.raises(BadInput, match=r"test\.npz is missing"):
        figures.draw(copy)
    whole = pd.read_csv(copy / "results.csv")
    whole.drop(columns="bias").to_csv(copy / "results.csv", index=False)
    with pytest.raises(BadInput, match="lacks bias"):
        figures.draw(copy)
    for column, said in (("without", "lacks without"), ("test_errors", "damaged in the columns test_errors")):
        rows = whole.drop(columns=column) if column == "without" else whole.assign(test_errors="many")
        rows.to_csv(copy / "results.csv", index=False)
        with pytest.raises(BadInput, match=said):
            read(copy)


def test_a_changed_byte_is_noticed(single, tmp_path):
    shutil.copytree(single, tmp_path / "run")
    path = tmp_path / "run" / "results.csv"
    path.write_text(path.read_text().replace("distilled", "distiller", 1))
    with pytest.raises(BadInput, match=r"results\.csv"):
        figures.draw(tmp_path / "run")
