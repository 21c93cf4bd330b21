"""Grids, blocks and rows: in-process, on a few of the bundled digits."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.sweep import figures, table
from kdjax import forecast, grids, metrics, run_directory, students, sweep_checks, sweeps, trained
from kdjax.config import SweepConfig, TeacherConfig
from kdjax.errors import BadInput
from kdjax.files import MANIFEST, check_seal
from kdjax.identity import added
from tests.small_sweep import config


def named(asked, name):
    """The same sweep under another name."""
    return dataclasses.replace(asked, run=dataclasses.replace(asked.run, name=name))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    asked = config(tmp_path_factory.mktemp("sweep"), block_size=3, holdout=100, name="first", soft_weights=(1.0, 0.5))
    return asked, sweeps.run(sweeps.prepare(asked))


def test_grid_is_hard_labels_then_temperatures_at_each_rate(tmp_path):
    (runs,) = grids.grid(config(tmp_path, soft_weights=(0.5, 1.0)), 1e-3)
    assert [run.objective for run in runs] == ["hard"] + ["kd"] * 6
    (soft,) = grids.grid(config(tmp_path, hard_labels=False), 1e-3)
    assert [run.objective for run in soft] == ["kd"] * 3
    planned = grids.plan(config(tmp_path, learning_rates=(1e-3, 1e-2), seeds=1), 2, 300)
    assert [run.learning_rate for block in planned for run in block.runs] == [1e-3] * 4 + [1e-2] * 4


def test_no_student_starts_from_its_teachers_own_weights(tmp_path, capfd):
    """Of one network and seed both would: the student would be next to its teacher before it learns anything."""

    def asked(**recipe):
        return config(tmp_path, widths=(12, 16), teacher=TeacherConfig(epochs=1, batch_size=50, **recipe))

    with pytest.raises(BadInput, match=r"student of seed 0 .* both are mlp of width 16: give the teacher another seed"):
        sweeps.prepare(asked(widths=(16, 16), seed=0))
    with pytest.raises(BadInput, match="student of seed 1 would start from its teacher's own"):
        sweeps.prepare(asked(widths=(16, 16), seed=1))
    assert len(sweeps.prepare(asked(widths=(16, 16))).blocks) == 4
    assert "warning: " not in capfd.readouterr().err
    sweep_checks._warn_once.cache_clear()
    assert len(sweeps.prepare(asked(widths=(16, 12), seed=0)).blocks) == 4
    assert "warning: students and their teacher share the random numbers of seed 0 (batches" in capfd.readouterr().err
    sweeps.prepare(asked(widths=(16, 12), seed=0))
    assert "warning: " not in capfd.readouterr().err  # once is enough
    fast = asked(widths=(12, 24, 24), network="fast", jitter=0, hidden_dropout=0.0, seed=0)
    with pytest.raises(BadInput, match="student of seed 0 would start from its teacher's own"):
        sweeps.prepare(dataclasses.replace(fast, network="fast", widths=(12,)))  # which says the same three
    network = {"network": "small_after_norm", "widths": (12,)}
    images = asked(widths=(12,), network="small", jitter=0, seed=0)
    with pytest.raises(BadInput, match="student of seed 0 would start from its teacher's own"):
        sweeps.prepare(dataclasses.replace(images, **network))
    sweep = sweeps.prepare(asked(widths=(16, 16), seed=5))
    teacher = sweeps.teachers_of(sweep)[0].folder
    later = dataclasses.replace(sweep.config, teacher=TeacherConfig(), teacher_from=(teacher,), first_seed=4)
    with pytest.raises(BadInput, match="student of seed 5 would start from its teacher's own"):
        sweeps.prepare(later)


def test_blocks_have_one_size_and_lose_no_run(tmp_path):
    planned = grids.plan(config(tmp_path, block_size=3), 2, 300)
    assert [len(block.runs) for block in planned] == [3, 1, 3, 1]
    assert {block.size for block in planned} == {3}
    assert len({block.name for block in planned}) == 4
    setting = students.traced_setting(planned[1])
    assert setting.temperature.shape == (3,) and np.isinf(setting.temperature).all()


def test_rows_are_complete_canonical_and_right(finished):
    _, folder = finished
    table = run_directory.read_results(folder)
    assert len(table) == 2 * (1 + 2 * 3)
    assert list(table.columns[:7]) == run_directory.ORDER
    assert table["objective"].tolist() == 2 * (["hard"] + ["kd"] * 6)
    assert table["temperature"].isna().sum() == 2 and np.isinf(table["temperature"]).sum() == 4
    assert (table["failed_at"] == -1).all()
    wanted = {
        f"{split}_{name}" for split in ("test", "transfer", "holdout") for name in ("errors", "nll", "brier", "ece")
    }
    wanted |= {f"{split}_{name}" for split in ("test", "transfer") for name in ("agreement", "teacher_kl")}
    assert wanted <= set(table.columns)
    assert not table.drop(columns=["temperature", "soft_target_entropy", "last_good_errors"]).isna().any().any()
    assert table.loc[np.isinf(table["temperature"]), "soft_target_entropy"].to_numpy() == pytest.approx(np.log(10))
    kept = np.load(folder / "blocks" / "width12-seed1-rate0.001-2" / "logits.npz")["test"]
    labels = np.load(folder / "test.npz")["labels"]
    last = table[(table["seed"] == 1) & np.isinf(table["temperature"]) & (table["soft_weight"] == 0.5)]
    assert metrics.errors(kept[0], labels) == last["test_errors"].item()


def test_each_test_image_counts(finished):
    _, folder = finished
    assert np.load(folder / "test.npz")["teacher_logits"].shape == (1000, 10)
    assert np.load(folder / "blocks" / "width12-seed0-rate0.001-0" / "logits.npz")["test"].shape == (3, 1000, 10)


def test_history_has_a_line_a_run_and_epoch(finished):
    _, folder = finished
    history = pd.read_json(folder / "history.jsonl", lines=True)
    assert len(history) == 14 * 2 and set(history["monitor"]) == {"holdout"}


def test_another_name_finds_the_teacher_and_gives_the_same_digits(finished, capfd):
    asked, folder = finished
    again = sweeps.run(sweeps.prepare(named(asked, "second")))
    assert "found" in capfd.readouterr().err
    assert (again / "results.csv").read_bytes() == (folder / "results.csv").read_bytes()
    assert (again / "history.jsonl").read_bytes() == (folder / "history.jsonl").read_bytes()


def test_a_finished_block_is_not_trained_again_and_a_damaged_one_is(finished, capfd):
    asked, folder = finished
    before = (folder / "results.csv").read_bytes()
    stamp = (folder / "blocks" / "width12-seed0-rate0.001-0").stat().st_mtime_ns
    (folder / "blocks" / "width12-seed0-rate0.001-1" / "rows.json").write_text("[]")
    sweeps.run(sweeps.prepare(asked))
    assert "width12-seed0-rate0.001-1 is trained again" in capfd.readouterr().err
    assert (folder / "blocks" / "width12-seed0-rate0.001-0").stat().st_mtime_ns == stamp
    assert (folder / "results.csv").read_bytes() == before


def test_a_changed_config_under_the_same_name_is_refused(finished):
    asked, folder = finished
    before = (folder / "results.csv").read_bytes()
    with pytest.raises(BadInput, match=r"another config.*config\.seeds"):
        sweeps.run(sweeps.prepare(dataclasses.replace(asked, seeds=5)))
    assert (folder / "results.csv").read_bytes() == before


def test_the_default_name_depends_on_what_affects_results_and_on_nothing_else(tmp_path):
    base = sweeps.prepare(config(tmp_path)).folder.name
    assert sweeps.prepare(config(tmp_path, out=tmp_path / "elsewhere")).folder.name == base
    assert sweeps.prepare(config(tmp_path, epochs=3)).folder.name != base
    assert sweeps.prepare(config(tmp_path, holdout=10)).folder.name != base


def test_forecast_names_the_cost(tmp_path):
    text = forecast.of_sweep(sweeps.prepare(config(tmp_path))).text
    assert "8 students in 2 blocks" in text and "GiB of memory" in text and "MiB of disk" in text
    assert not (tmp_path / "runs").exists()


def test_a_forecast_leaves_out_what_is_trained(tmp_path):
    asked = config(tmp_path, epochs=1, seeds=1)
    sweeps.run(sweeps.prepare(asked))
    text = forecast.of_sweep(sweeps.prepare(asked)).text
    assert "no teacher (it is there) and 0 students in 0 blocks" in text and "(1 are there): about 0 s" in text


def test_a_grid_of_rates_is_widened_where_the_holdout_chooses_an_edge(tmp_path, capfd, monkeypatch):
    train, sealed = sweeps.train, []

    def spy(blocks, data, record, run):
        sealed.append((record.folder / MANIFEST).exists())
        train(blocks, data, record, run)

    monkeypatch.setattr(sweeps, "train", spy)
    # Rates too small to learn much in two epochs: the higher is better for both settings, as the teacher has learnt.
    learnt = TeacherConfig(widths=(64,), epochs=20, batch_size=50, hidden_dropout=0.0, jitter=0)
    options = {"learning_rates": (1e-3, 3e-3), "temperatures": (4.0,), "seeds": 1, "widths": (64,), "teacher": learnt}
    asked = config(tmp_path, holdout=100, **options)
    table = run_directory.read_results(sweeps.run(sweeps.prepare(asked)))
    assert "edge of the grid: adding 0.009" in capfd.readouterr().err
    assert len(sealed) > 1 and not any(sealed)  # a run is finished once nothing is added
    assert {1e-3, 3e-3, 9e-3} <= set(table["learning_rate"])
    assert (table.groupby("learning_rate").size() == 2).all()  # the baseline and the temperature alike


@pytest.mark.parametrize(
    ("errors", "more"), [((5, 3, 4), ()), ((2, 3, 4), (0.5,)), ((4, 3, 2), (8.0,)), ((2, 3, None), (0.5,))]
)
def test_which_edges_are_moved_out(errors, more):
    rows = [
        {"width": 8, "objective": "kd", "temperature": 4.0, "soft_weight": 1.0, "learning_rate": rate}
        | {"holdout_errors": 0 if count is None else count, "failed_at": 3 if count is None else -1}
        for rate, count in zip((1.0, 2.0, 4.0), errors, strict=True)
    ]
    assert grids.wider(pd.DataFrame(rows), (1.0, 2.0, 4.0)) == more
    assert grids.wider(pd.DataFrame(rows).drop(columns="holdout_errors"), (1.0, 2.0, 4.0)) == ()


def test_matched_gradient_norms_and_their_placebos(tmp_path):
    controls = ("kd", "matched(reference=4)", "placebo(reference=4)")
    asked = config(tmp_path, optimizer="sgd", objectives=controls, seeds=1)
    folder = sweeps.run(sweeps.prepare(asked))
    table = run_directory.read_results(folder)
    assert table.groupby("objective").size().to_dict() == {
        "hard": 1,
        "matched(reference=4)": 3,
        "placebo(reference=4)": 3,
        "kd": 3,
    }
    kinds = {f"{name}(reference=4)": name for name in ("matched", "placebo")}
    # At the reference all three are the same run; elsewhere they are not.
    at = table[table["temperature"] == 4.0].set_index("objective")["transfer_nll"].rename(kinds)
    assert at["matched"] == pytest.approx(at["kd"], rel=1e-4) and at["placebo"] == pytest.approx(at["kd"], rel=1e-4)
    away = table[table["temperature"] == 1.0].set_index("objective")["transfer_nll"]
    assert len(set(away.round(6))) == 3
    from analysis.sweep import figures
    from analysis.sweep import table as sweep_table

    assert figures.draw(folder)
    assert "4 (placebo (reference=4))" in sweep_table.write_summary(folder)


def test_a_damaged_block_of_a_widened_grid_is_trained_again(tmp_path, capfd):
    asked = config(tmp_path, holdout=100, learning_rates=(1e-5, 3e-4), temperatures=(4.0,), seeds=1, widths=(64,))
    folder = sweeps.run(sweeps.prepare(asked))
    before = (folder / "results.csv").read_bytes()
    added = folder / "blocks" / "width64-seed0-rate0.009-0" / "rows.json"
    added.write_text(added.read_text()[:50])
    sweeps.run(sweeps.prepare(asked))
    assert "width64-seed0-rate0.009-0 is trained again" in capfd.readouterr().err
    assert (folder / "results.csv").read_bytes() == before


def test_a_run_that_breaks_at_its_last_update_is_marked(tmp_path):
    asked = config(tmp_path, learning_rates=(1e38,), temperatures=(4.0,), epochs=1, batch_size=300, seeds=1)
    table = run_directory.read_results(sweeps.run(sweeps.prepare(asked)))
    assert (table["failed_at"] >= 0).all()


def test_a_teacher_that_saw_the_holdout_is_refused(finished, tmp_path):
    asked, folder = finished
    (teacher,) = (path.parent for path in (folder.parents[1] / "teachers").glob("*/teacher.json"))
    given = dataclasses.replace(asked, teacher=TeacherConfig(), teacher_from=(teacher,))
    assert sweeps.prepare(given)
    other = dataclasses.replace(given, data=dataclasses.replace(asked.data, train_images=200))
    with pytest.raises(BadInput, match="never saw"):
        sweeps.prepare(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": (4.0, 4.0000000001)}, "repeats"),
        ({"temperatures": (1e-40,)}, "float32"),
        ({"temperatures": (1e39,)}, "float32"),
        ({"learning_rates": (0.1, 0.1000000001)}, "repeats"),
        ({"epochs": 10**20}, "100,000"),
        ({"teacher_from": (Path("a"), Path("./a"))}, "twice"),
    ],
)
def test_settings_that_cannot_be_told_apart_or_held_are_refused(tmp_path, options, message):
    with pytest.raises(BadInput, match=message):
        config(tmp_path, **options)


def test_operations_of_a_teacher_are_counted_where_it_is_queried_at_each_step(tmp_path):
    unasked = {"jitter": 2, "objectives": ("label_smoothing",)}
    for changes, share in (({}, 0), ({"jitter": 2}, 1), ({"jitter": 2, "targets": "uniform"}, 0), (unasked, 0)):
        sweep = sweeps.prepare(config(tmp_path, **changes))
        block, images = sweep.blocks[0], len(sweep.dataset.train.images)
        of_teacher = forecast.query_flops(block, sweep.dataset, sweep.teacher_config)
        widths = (784, *sweep.teacher_config.hidden, 10)
        forward = 2 * sum(before * after for before, after in itertools.pairwise(widths))
        assert of_teacher == pytest.approx(share * forward * block.config.epochs * images)
        assert forecast.block_flops(block, sweep.dataset) > 0


def test_a_field_that_is_added_later_does_not_orphan_a_finished_sweep(finished):
    asked, folder = finished

    @dataclasses.dataclass(frozen=True)
    class Later(SweepConfig):
        warmth: float = dataclasses.field(default=0.0, metadata=added(0.0))

    fields = {field.name: getattr(asked, field.name) for field in dataclasses.fields(asked)}
    unnamed = {**fields, "run": dataclasses.replace(asked.run, name=None)}
    same, warmer = sweeps.prepare(Later(**unnamed)), sweeps.prepare(Later(**unnamed, warmth=1.0))
    assert same.folder == sweeps.prepare(SweepConfig(**unnamed)).folder != warmer.folder
    again = sweeps.prepare(Later(**fields))
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "blocks").iterdir()}
    sweeps.run(again)
    assert {path: path.stat().st_mtime_ns for path in (folder / "blocks").iterdir()} == stamps
    with pytest.raises(BadInput, match=r"another config.*config\.warmth"):
        sweeps.run(sweeps.prepare(Later(**fields, warmth=1.0)))


def test_rows_of_two_schemas_are_not_mixed(finished, monkeypatch):
    asked, folder = finished
    before = (folder / "results.csv").read_bytes()
    monkeypatch.setattr(students, "ROW_SCHEMA", students.ROW_SCHEMA + 1)
    with pytest.raises(
        run_directory.OtherBlocks, match=r"has other columns \(differing: schema 1, schema 2\).*--fresh"
    ):
        sweeps.run(sweeps.prepare(asked))
    assert (folder / "results.csv").read_bytes() == before and (folder / MANIFEST).exists()
    check_seal(folder)


def test_an_objective_that_does_not_use_the_temperature_is_trained_once_for_each_soft_weight(tmp_path):
    asked = config(tmp_path, objectives=("kd", "mse"), seeds=1, soft_weights=(0.5, 1.0), holdout=100)
    sweep = sweeps.prepare(asked)
    assert [(len(block.runs), block.size) for block in sweep.blocks] == [(7, 7), (2, 2)]
    assert sweep.identity["config"]["without_temperature"] == ["mse"] and "-kd-mse-T1-inf-" in sweep.folder.name
    folder = sweeps.run(sweep)
    rows = run_directory.read_results(folder)
    assert rows["objective"].tolist() == ["hard", *["kd"] * 6, "mse", "mse"]
    mse = rows[rows["objective"] == "mse"]
    assert mse[["temperature", "soft_target_entropy"]].isna().all(axis=None) and mse["transfer_nll"].nunique() == 2
    assert len(trained.find(folder, objective="mse", temperature=None)) == 2
    alone = config(tmp_path, objectives=("mse",), seeds=1, soft_weights=(0.5, 1.0), holdout=100)
    alone = sweeps.prepare(alone)
    assert "-mse-" in alone.folder.name and "-T1" not in alone.folder.name
    again = run_directory.read_results(sweeps.run(alone)).set_index("objective")  # other K, other order of sums
    np.testing.assert_allclose(again.loc["mse", "transfer_nll"], mse["transfer_nll"], rtol=1e-4)
    assert "squared error of logits" in table.write_summary(folder) and figures.draw(folder)
    assert "– (squared error of logits)" in table.write_summary(alone.folder) and figures.draw(alone.folder)


def test_baselines_are_objectives_of_the_identity(tmp_path):
    def resolved(teacher=None, **options):
        asked = config(tmp_path, **options)
        given = dataclasses.replace(sweeps.read_data(asked.data))
        object.__setattr__(given, "teacher", teacher)
        return grids.with_baselines(asked, given).objectives

    both = ("kd", "label_smoothing", "shuffled")
    assert resolved() == resolved(object(), baselines=False) == ("kd",)
    assert resolved(baselines=True) == resolved(object()) == both
    own = ("label_smoothing(eps=0.2)", "kd")
    assert resolved(baselines=True, objectives=own) == (*own, "shuffled")
    assert resolved(object(), hard_labels=False) == ("kd",) and resolved(object(), objectives=()) == ()
    asked, written = (sweeps.prepare(config(tmp_path, **one)) for one in ({"baselines": True}, {"objectives": both}))
    assert asked.identity == written.identity and asked.folder == written.folder
    assert "baselines" not in sweeps.prepare(config(tmp_path, baselines=False)).identity["config"]
    assert " and 16 students in 6 blocks " in forecast.of_sweep(asked).text  # 2 · (1 + 3 + 1 + 3)
    with pytest.raises(BadInput, match="--baselines with --no-hard-labels is not allowed"):
        config(tmp_path, baselines=True, hard_labels=False)


def test_an_unknown_objective_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"--objectives mes is unknown.*did you mean mse"):
        sweeps.prepare(config(tmp_path, objectives=("mes",)))


def test_objectives_with_hyperparameters_are_trained_under_their_names(tmp_path):
    asked = config(tmp_path, objectives=("dkd(beta=2.0)", "logit_standardization", "kd"), seeds=1)
    sweep = sweeps.prepare(asked)
    assert sweep.config.objectives == ("dkd(beta=2)", "logit_standardization", "kd")
    assert [(len(block.runs), block.size) for block in sweep.blocks] == [(4, 4), (3, 3), (3, 3)]
    assert sweep.identity["config"]["padded"] is False  # the second and third had four once, one of them for nothing
    same = sweeps.prepare(dataclasses.replace(asked, block_size=3))  # as then, hence the name of then
    assert {block.size for block in same.blocks} == {3} and "padded" not in same.identity["config"]
    table = pd.read_csv(sweeps.run(sweep) / "results.csv")
    counts = {"hard": 1, "kd": 3, "dkd(beta=2)": 3, "logit_standardization": 3}
    assert table.groupby("objective").size().to_dict() == counts
    assert (table["failed_at"] == -1).all() and table["transfer_nll"].nunique() == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ("nkd",)}, "T = inf with the objective nkd is not allowed: there is no limit, because"),
        ({"objectives": ("dkd", "dkd(beta=8)")}, "--objectives names one twice"),
        ({"objectives": ("dist",), "batch_size": 1}, "give a batch of 2 or more"),
        ({"objectives": ("dkd(beta=-1)",)}, "beta=-1 is not allowed"),
    ],
)
def test_objectives_that_cannot_be_trained_are_refused_first(tmp_path, options, message):
    with pytest.raises(BadInput, match=message):
        sweeps.prepare(config(tmp_path, **options))
    assert not (tmp_path / "runs").exists()


def test_students_of_two_teachers_of_one_recipe_are_not_mixed(tmp_path):
    """A teacher that is trained again on other cores has the same fingerprint and other logits."""
    asked = config(tmp_path, name="first")
    folder = sweeps.run(sweeps.prepare(asked))
    rows = (folder / "results.csv").read_bytes()
    more = dataclasses.replace(asked, seeds=3, run=dataclasses.replace(asked.run, name="more"))
    (folder / MANIFEST).unlink()
    with np.load(folder / "test.npz") as arrays:
        stored = dict(arrays)
    noise = np.random.default_rng(0).normal(0, stored["teacher_logits"].std(), stored["teacher_logits"].shape)
    for share in (0.002, 0.3):  # as in bfloat16 on another processor; as trained again
        moved = {**stored, "teacher_logits": (stored["teacher_logits"] + share * noise).astype(np.float32)}
        np.savez(folder / "test.npz", **moved)
        if share < 0.1:
            sweeps.run(sweeps.prepare(asked))
            assert (folder / "results.csv").read_bytes() == rows
            (folder / MANIFEST).unlink()
    with pytest.raises(BadInput, match=r"trained again, and students in .*: put that one's folder back"):
        sweeps.run(sweeps.prepare(asked))
    assert (folder / "results.csv").read_bytes() == rows
    seal, config_before = b"{}", (folder / "config.json").read_bytes()
    (folder / MANIFEST).write_bytes(seal)
    with pytest.raises(run_directory.OtherBlocks):
        sweeps.run(sweeps.prepare(asked))
    assert (folder / MANIFEST).read_bytes() == seal and (folder / "config.json").read_bytes() == config_before
    assert sweeps.run(sweeps.prepare(more)) != folder
    for first, last in ((0, None), (0, 1000), (3000, 3064)):  # cut off, or changed, wherever: it is written again
        whole = (folder / "test.npz").read_bytes() if first else b""
        (folder / "test.npz").write_bytes(whole[:first] + b"damaged" * 9 + whole[last:])
        sweeps.run(sweeps.prepare(asked))
