"""The figures of a synthetic run directory: all there, whole, the same bytes twice; what is none is refused."""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis import plot_temperature_sweep, scales, style
from analysis.sweep import against_kd, figures, learning_curves, softening
from analysis.sweep.run import curves, load
from analysis.sweep.table import write_summary
from kdjax import cli
from kdjax.errors import BadInput

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, math.inf)
KEYS = ["width", "teacher", "seed", "objective", "temperature", "soft_weight", "learning_rate"]


def make_run(
    folder,
    widths=(30, 300),
    seeds=3,
    temperatures=TEMPERATURES,
    weights=(1.0,),
    rates=(0.001,),
    teachers=("3f9a2b",),
    hard=True,
    holdout=False,
):
    """Writes a run directory as an experiment would, with plausible numbers; returns the folder."""
    random = np.random.default_rng(0)
    rows, history = [], []
    settings = [("hard", math.nan, 0.0, rate) for rate in rates] * hard
    settings += [("kd", t, weight, rate) for t in temperatures for weight in weights for rate in rates]
    for width in widths:
        for teacher in teachers:
            for seed in range(seeds):
                common = random.normal(0, 4)
                for objective, t, weight, rate in settings:
                    x = math.log2(t if math.isfinite(t) else 64) if objective == "kd" else 0.0
                    base = {30: 420, 300: 150}.get(width, 128) - (objective == "kd") * (
                        {30: 40}.get(width, 20) + 1.2 * x * (5 - x) + 3 * x
                    )
                    errors = round(base + common + random.normal(0, 4) + 20 * abs(math.log10(rate / 0.001)))
                    row = dict(zip(KEYS, (width, teacher, seed, objective, t, weight, rate), strict=True)) | {
                        "epochs": 10
                    }
                    for name, scale in (("test", 1.0), ("transfer", 0.3)) + ((("holdout", 1.1),) if holdout else ()):
                        count = errors * scale
                        row |= {
                            f"{name}_errors": round(count),
                            f"{name}_nll": count / 2800,
                            f"{name}_brier": count / 6000,
                        }
                        row |= {
                            f"{name}_ece": 0.004
                            + 0.01 * (objective == "hard")
                            + 0.002 * abs(x - 2)
                            + random.normal(0, 3e-4)
                        }
                        row |= {
                            f"{name}_agreement": 1 - count / 11000,
                            f"{name}_teacher_kl": count / 6000,
                            f"{name}_logit_rmse": 1.0,
                        }
                        row |= {
                            f"{name}_errors_where_teacher_right": round(count * 0.6),
                            f"{name}_errors_where_teacher_wrong": round(count * 0.4),
                        }
                    row |= {"mean_logit_drift": 0.1, "failed_at": -1}
                    row |= {
                        "soft_target_entropy": math.log(10) * (1 - 1 / (1 + (t / 7) ** 2))
                        if objective == "kd"
                        else math.nan
                    }
                    rows.append(row)
                    for epoch in range(1, 11):
                        line = {key: row[key] for key in KEYS} | {"epoch": epoch, "loss": 1 / epoch}
                        line["temperature"] = None if objective == "hard" else t
                        line |= {
                            "transfer_error_rate": 0.1 * 0.55**epoch * (width < 100 or epoch < 10)
                            + 1e-3 * random.random()
                        }
                        line |= {"monitor": "holdout" if holdout else "test"}
                        line |= {"monitor_errors": round(errors * (1 + 3 * 0.6**epoch)) if epoch % 2 == 0 else None}
                        history.append(line)
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False, float_format="%.9g")
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    labels = np.arange(400) % 10
    logits = random.normal(0, 3, (400, 10)) + 9 * np.eye(10)[labels]
    images = random.integers(0, 255, (6, 28, 28, 1), dtype=np.uint8)
    np.savez(
        folder / "test.npz",
        labels=labels,
        teacher_logits=logits.astype(np.float32),
        example_images=images,
        example_rows=np.arange(6) * 7,
    )
    details = [
        {"fingerprint": name, "name": name, "test": {"errors": 74 + i, "nll": 0.026, "brier": 0.011, "ece": 0.004}}
        for i, name in enumerate(teachers)
    ]
    data = {
        "description": "MNIST (60,000 training images, 10,000 test images)",
        "class_names": [str(i) for i in range(10)],
        "num_classes": 10,
    }
    identity = {"experiment": "temperature_sweep", "data": data}
    (folder / "config.json").write_text(json.dumps({"identity": identity, "details": {"teachers": details}}))
    return folder


FIGURES = ["calibration_and_agreement", "difference_from_hard_labels", "errors", "learning_curves", "softening"]


def names(paths):
    return sorted(path.name for path in paths)


def test_every_figure_as_png_pdf_and_svg_and_the_same_bytes_twice(tmp_path):
    folder = make_run(tmp_path / "run", widths=(30,), temperatures=(1.0, 4.0, math.inf))
    written = figures.draw(folder)
    assert names(written) == sorted(f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf", "svg"))
    first = {path: path.read_bytes() for path in written}
    begin = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    assert all(data.startswith(begin[path.suffix]) for path, data in first.items())
    assert {path: path.read_bytes() for path in figures.draw(folder)} == first
    assert names((folder / "figures").iterdir()) == names(written)  # no leftovers


def test_a_sweep_of_controls_alone_is_drawn(tmp_path):
    folder = make_run(tmp_path / "run", widths=(30,), hard=False)
    for name in ("results.csv", "history.jsonl"):
        path = folder / name
        path.write_text(re.sub(r"\bkd\b", "double_softmax", path.read_text()))
    assert "softening" in {path.stem for path in figures.draw(folder)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"widths": (800,), "seeds": 1}, FIGURES),
        ({"hard": False}, [name for name in FIGURES if name != "difference_from_hard_labels"]),
        ({"temperatures": ()}, []),
        ({"temperatures": (math.inf,), "widths": (30,)}, FIGURES),
        ({"temperatures": (3.0,), "widths": (30,)}, FIGURES),
    ],
)
def test_what_a_sweep_lacks_is_not_drawn(tmp_path, changes, expected):
    folder = make_run(tmp_path / "run", **changes)
    assert sorted(path.stem for path in figures.draw(folder) if path.suffix == ".pdf") == expected


def drawn(run, draw):
    """The figure, in the style of all."""
    with style.applied():
        figure = draw(run)
    return figure


def test_errors_are_drawn_where_they_were_measured(tmp_path):
    run = load(make_run(tmp_path / "run", widths=(300,)))
    axes = drawn(run, figures.draw_errors).axes[0]
    rows = run.results[run.results["objective"] == "kd"]
    means = rows.groupby("temperature")["test_errors"].mean().to_numpy()
    curve = next(line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_allclose(curve.get_ydata(), means)
    assert curve.get_xdata()[-1] - curve.get_xdata()[-2] > 0.99  # infinity has a place of its own
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4", "8", "16", "32", "∞"]
    hard = next(line for line in axes.lines if line.get_label() == "hard labels")
    assert hard.get_ydata()[0] == run.results[run.results["objective"] == "hard"]["test_errors"].mean()
    assert next(line for line in axes.lines if line.get_label() == "teacher").get_ydata()[0] == 74


def test_titles_say_on_what(tmp_path):
    run = load(make_run(tmp_path / "run", widths=(30,), seeds=4))
    for draw in (figures.draw_errors, figures.draw_differences, figures.draw_calibration, softening.draw):
        title = drawn(run, draw).get_suptitle().replace("\n", " ")
        assert "MNIST (60,000 training images, 10,000 test images), 4 seeds, 1 teacher" in title


def test_nothing_is_cut_off_or_over_anything_else(tmp_path):
    run = load(make_run(tmp_path / "run", widths=(30, 300, 800)))
    for draw in (figures.draw_errors, figures.draw_differences, figures.draw_calibration):
        figure = drawn(run, draw)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        legend = figure.legends[0].get_window_extent(renderer)
        for axes in figure.axes:
            panel = axes.get_window_extent(renderer)
            assert not panel.overlaps(legend)
            assert panel.height > 0.1 * figure.bbox.height
            ticks = [tick.get_window_extent(renderer) for tick in axes.get_xticklabels() if tick.get_text()]
            assert not any(a.overlaps(b) for a, b in itertools.pairwise(ticks))
            label = axes.yaxis.label.get_window_extent(renderer)
            assert label.x0 >= 0 and label.height <= 1.1 * panel.height


def test_a_logarithmic_axis_names_its_scale_and_has_three_ticks(tmp_path):
    run = load(make_run(tmp_path / "run", widths=(30, 300)))
    drawings = [drawn(run, draw) for draw in (figures.draw_errors, figures.draw_calibration)]
    drawings += learning_curves.draw(run).values()
    seen = 0
    for figure in drawings:
        FigureCanvasAgg(figure).draw()
        for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if axis.get_scale() == "log"]:
            low, high = sorted(axis.get_view_interval())
            labels = [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            assert len([label for label in labels if label]) >= 3 and "log scale" in axis.get_label_text(), labels
            seen += 1
        temperature = figure.axes[-1].get_xlabel()
        assert temperature in ("temperature T (log scale)", "epoch")
    assert seen >= 6


def test_ticks_of_any_range_are_three_to_seven_and_inside():
    random = np.random.default_rng(0)
    for _ in range(500):
        low = 10 ** random.uniform(-12, 9)
        high = low * 10 ** random.uniform(0.001, 12)
        ticks = scales.LogTicks().tick_values(low, high)
        assert 3 <= len(ticks) <= 7 and np.all(np.diff(ticks) > 0), (low, high, ticks)
        assert low * (1 - 1e-6) <= ticks[0] and ticks[-1] <= high * (1 + 1e-6)


def test_softening_shows_the_image_that_is_asked_for_at_every_temperature(tmp_path, capsys):
    folder = make_run(tmp_path / "temperature_sweep" / "run", widths=(30,), seeds=1)
    run = load(folder)
    for image in (None, 4):
        figure = drawn(run, lambda run, image=image: softening.draw(run, image))
        which = softening.most_ambiguous(run) if image is None else image
        assert f"test image {run.example_rows[which]};" in figure.get_suptitle().replace("\n", " ")
        bars = [axes for axes in figure.axes if axes.get_title().startswith("T = ")]
        assert [axes.get_title() for axes in bars] == [f"T = {t}" for t in ("1", "2", "4", "8", "16", "32", "∞")]
        for axes in bars:  # the longest bar fills its panel, at any T
            assert max(bar.get_width() for bar in axes.patches) == pytest.approx(axes.get_xlim()[1] / 1.08)
    with pytest.raises(BadInput, match=r"--image 6 is not allowed: .* keeps 6 test images .* give 0 to 5"):
        figures.draw(folder, image=6)
    written = (folder / "summary.md").read_text() if (folder / "summary.md").exists() else None
    assert run_cli(str(folder), "--image", "-1") == 2 and "--image -1" in capsys.readouterr().err
    assert written is None and not (folder / "summary.md").exists()


def test_no_two_curves_share_a_colour_and_legends_are_whole(tmp_path):
    rates = tuple(0.001 * 2.0**k for k in range(5))
    run = load(make_run(tmp_path / "run", widths=(300,), rates=rates, weights=(0.5, 1.0), temperatures=(1.0, 4.0)))
    figure = drawn(run, figures.draw_differences)
    curves_drawn = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", None, "")]
    colours = [line.get_color() for line in curves_drawn if not line.get_label().startswith("_")]
    assert len(colours) == len(set(colours)) == 10
    assert len({style.colour(index) for index in range(40)}) == 40
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    frame = figure.legends[0].get_window_extent(canvas.get_renderer())
    assert frame.x0 >= 0 and frame.y0 >= 0 and frame.x1 <= figure.bbox.x1 and frame.y1 <= figure.bbox.y1
    left, right = figure.axes[0].get_xlim()
    assert all(left <= x <= right for line in curves_drawn for x in line.get_xdata())


def test_a_long_label_is_wrapped():
    with style.applied():
        figure = style.figure(4.0, 3.0)
        figure.subplots().plot([1, 2], label="a label of many words " * 8)
        style.finish(figure, "what", "where")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    frame = figure.legends[0].get_window_extent(canvas.get_renderer())
    assert frame.x0 >= 0 and frame.x1 <= figure.bbox.x1


def test_many_fixed_rates_are_one_grey_entry(tmp_path):
    rates = tuple(0.001 * 2.0**k for k in range(8))
    run = load(make_run(tmp_path / "run", widths=(300,), rates=rates, holdout=True, seeds=2, temperatures=(1.0, 4.0)))
    labels = [text.get_text() for text in drawn(run, figures.draw_errors).legends[0].get_texts()]
    assert "one rate for all T" in labels and len(labels) == 4  # the tuned curve, hard labels, the teacher


def test_a_failed_run_is_left_out_and_said(tmp_path):
    folder = make_run(tmp_path / "run", widths=(300,))
    results = pd.read_csv(folder / "results.csv")
    bad = (results["temperature"] == 4) & (results["seed"] == 0)
    gone = results["temperature"] == 8
    results.loc[bad, ["test_errors", "failed_at"]] = [9000, 17]
    results.loc[gone, "failed_at"] = 3
    results.to_csv(folder / "results.csv", index=False)
    run = load(folder)
    figure = drawn(run, figures.draw_errors)
    assert "4 failed runs left out" in figure.get_suptitle().replace("\n", " ")
    assert figure.axes[0].get_ylim()[1] < 1000
    assert set(run.history[run.history["temperature"] == 4]["seed"]) == {1, 2}
    assert figures.draw(folder)


def test_fixed_and_tuned_rates(tmp_path):
    rates = (0.0003, 0.001, 0.003)
    run = load(make_run(tmp_path / "run", widths=(300,), rates=rates, holdout=True))
    found = curves(run)
    assert [curve.label for curve in found] == [*(f"rate {rate:g}" for rate in rates), "rate chosen on the hold-out"]
    assert [curve.thin for curve in found] == [True] * 3 + [False]
    tuned = found[-1].runs
    means = (
        run.results[run.results["objective"] == "kd"].groupby(["temperature", "learning_rate"])["holdout_errors"].mean()
    )
    for temperature, runs in tuned.groupby("temperature"):
        assert set(runs["learning_rate"]) == {means[temperature].idxmin()}
    without = load(make_run(tmp_path / "without", widths=(300,), rates=rates))
    assert not any(curve.thin for curve in curves(without)) and len(curves(without)) == 3


def test_temperatures_that_no_decimal_ends_are_found_in_both_files(tmp_path):
    folder = make_run(tmp_path / "run", widths=(30,), seeds=2, temperatures=(1 / 3, 2 / 3), rates=(0.1 / 3,))
    run = load(folder)
    assert len(run.history) == 2 * 3 * 10
    assert len(figures.draw(folder)) == 15


def test_the_summary_is_written_and_printed(tmp_path):
    folder = make_run(tmp_path / "run", widths=(300,))
    text = write_summary(folder)
    written = (folder / "summary.md").read_text()
    for said in ("MNIST (60,000 training images, 10,000 test images)", "Teacher 3f9a2b: 74 test errors", "hard labels"):
        assert said in text and said in written
    assert "| 300 | ∞ |" in written


def test_an_ensemble_is_judged_by_itself_and_not_by_its_members(tmp_path):
    folder = make_run(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    (ensemble,) = config["details"]["teachers"]
    config["details"]["teachers"] = [ensemble, *[{**ensemble, "test": {**ensemble["test"], "errors": 99}}] * 2]
    (folder / "config.json").write_text(json.dumps(config))
    assert load(folder).teacher["errors"] == ensemble["test"]["errors"] != 99


def damage(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "results.csv").unlink(), "no results.csv"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "test.npz").unlink(), "test.npz is missing"),
        (lambda folder: (folder / "history.jsonl").unlink(), "history.jsonl is missing"),
        (damage("results.csv", b""), "damaged"),
        (damage("results.csv", b"a,b\n1,2\n"), "lacks the columns width"),
        (
            lambda folder: damage("results.csv", (folder / "results.csv").read_bytes().split(b"\n")[0] + b"\n")(folder),
            "holds no run",
        ),
        (
            lambda folder: damage("results.csv", (folder / "results.csv").read_bytes().replace(b",kd,", b",,", 1))(
                folder
            ),
            "objective",
        ),
        (damage("results.csv", b"\xff\xfe\x00\x01" * 99), "damaged"),
        (damage("test.npz", b"PK nonsense"), "test.npz is damaged"),
        (damage("history.jsonl", b'{"epoch": '), "history.jsonl is damaged"),
        (damage("history.jsonl", b'{"epoch": 1}\n'), "history.jsonl is damaged"),
        (damage("config.json", b"{"), "config.json is damaged"),
        (damage("config.json", b'{"identity": {}}'), "config.json is damaged"),
        (damage("config.json", b"[]"), "config.json is damaged"),
        (
            damage("config.json", b'{"identity": {"experiment": "omit_digit"}, "details": {}}'),
            "is a run of omit_digit: name one of temperature_sweep",
        ),
    ],
)
def test_what_is_no_run_directory_is_refused_in_one_line(tmp_path, harm, said):
    folder = make_run(tmp_path / "run", widths=(30,), seeds=1, temperatures=(1.0,))
    harm(folder)
    with pytest.raises(BadInput, match=said) as refused:
        figures.draw(folder)
    assert "\n" not in str(refused.value)
    if said.startswith("config.json is") or "omit_digit" in said:
        with pytest.raises(BadInput, match=said):
            write_summary(folder)
    assert not (folder / "figures").exists()


def run_cli(*arguments):
    with pytest.raises(SystemExit) as ended:
        cli.run(
            plot_temperature_sweep.main,
            plot_temperature_sweep.PlotSweepConfig,
            plot_temperature_sweep.PROG,
            list(arguments),
        )
    return ended.value.code


def test_command_line_draws_the_latest_run(tmp_path, capsys):
    make_run(tmp_path / "temperature_sweep" / "mine", widths=(30,), seeds=1, temperatures=(1.0, math.inf))
    assert run_cli("--out", str(tmp_path)) == 0
    assert str(Path("mine") / "figures" / "errors.png") in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nowhere"], ["--out", "nowhere"], [__file__]])
def test_command_line_refuses_what_is_no_run(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert run_cli(*arguments) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def add_baselines(folder, shuffled):
    """Label smoothing as good as hard labels, and a shuffled teacher with so many more errors than soft targets."""
    results = pd.read_csv(folder / "results.csv")
    smooth = results[results["objective"] == "hard"].assign(objective="label_smoothing", soft_weight=1.0)
    other = results[results["objective"] == "kd"].assign(objective="shuffled")
    other["test_errors"] += shuffled
    pd.concat([results, smooth, other]).to_csv(folder / "results.csv", index=False)
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    names = {"hard": {"objective": "label_smoothing", "soft_weight": 1.0}, "kd": {"objective": "shuffled"}}
    lines += [line | names[line["objective"]] for line in lines]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize("more", [15, 6000])
def test_baselines_are_a_level_and_a_thin_curve_where_it_fits(tmp_path, more):
    folder = add_baselines(make_run(tmp_path / "run", widths=(300,), holdout=True), more)
    sweep = load(folder)
    (axes,) = figures.draw_errors(sweep).axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels.count("label smoothing") == 1 and ("shuffled teacher" in labels) == (more == 15)
    level = axes.get_legend_handles_labels()[0][labels.index("label smoothing")].get_ydata()
    means = sweep.results.groupby("objective")["test_errors"].mean()
    assert list(level) == pytest.approx([means["label_smoothing"]] * 2)
    assert ("shuffled teacher: 6,1" in axes.get_title(loc="right")) == (more == 6000)
    assert len(axes.patches) == 1  # bands on bands are mud: that of hard labels alone is filled
    reading = axes.figure.get_label().partition("\n\n")[2]
    assert "dashed, hard labels; dash-dotted, label smoothing" in reading
    assert ("Beyond the scale: " in reading and "shuffled teacher: 6,1" in reading) == (more == 6000)
    assert ("dotted, teacher;" in reading) == (
        "teacher:" not in axes.get_title(loc="right").replace("shuffled teacher", "")
    )
    names = figures.draw_calibration(sweep).axes[0].get_legend_handles_labels()[1]
    assert names.count("hard labels") == 1
    (other,) = figures.draw_differences(sweep).axes
    names = other.get_legend_handles_labels()[1]
    assert "300 units, label smoothing" in names and not any("shuffled" in name for name in names)
    assert "learning_curves" in learning_curves.draw(sweep)
    assert not against_kd.compare(sweep.results).rows and {path.stem for path in figures.draw(folder)} == set(FIGURES)


def test_a_sweep_without_kd_has_its_axis_and_curves(tmp_path):
    folder = make_run(tmp_path / "run", widths=(30,), seeds=2, temperatures=(1.0, math.inf))
    for name in ("results.csv", "history.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(",kd,", ",mse,").replace('"kd"', '"mse"'))
    stems = {path.stem for path in figures.draw(folder)}
    assert {"errors", "difference_from_hard_labels", "learning_curves", "softening"} <= stems
    config = json.loads((folder / "config.json").read_text())
    config["identity"]["config"] = {"network": "fast"}
    (folder / "config.json").write_text(json.dumps(config))
    run, mse = load(folder), "(squared error of logits)"
    (curves_of,) = learning_curves.draw(run).values()
    titles = [figure.get_suptitle() for figure in (drawn(run, figures.draw_errors), curves_of)]
    titles.append(drawn(run, figures.draw_differences).get_suptitle())
    starts = [f"Test errors with soft targets {mse}", f"Learning curves {mse}", f"Soft targets {mse} minus hard labels"]
    assert all(title.startswith(start) for title, start in zip(titles, starts, strict=True)), titles
    for figure in (drawn(run, figures.draw_errors), curves_of):
        assert figure.axes[0].get_title(loc="left") == "30 channels in the first group"


def test_a_band_stands_in_the_legend_behind_its_level(tmp_path):
    figure = drawn(load(make_run(tmp_path / "run", widths=(300,))), figures.draw_errors)
    assert [text.get_text() for text in figure.legends[0].get_texts()].count("hard labels") == 1
    assert len(figure.axes[0].patches) == len(figure.legends[0].get_patches()) == 1


def test_a_dollar_in_a_name_is_no_formula(tmp_path):
    figure = style.figure(4, 3)
    figure.subplots().plot([1, 2])
    style.finish(figure, "Errors of cost_$5_to_$9 and a$^$b")
    assert len(style.save(figure, tmp_path, "named")) == 3
    assert "cost_$5_to_$9 and a$^$b" in str(figure.get_label())
