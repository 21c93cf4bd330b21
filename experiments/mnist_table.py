"""The paper's MNIST table, with intervals, and the studies behind it: `python -m experiments.mnist_table`

Hinton et al. 2015, Section 3: a large net with dropout and jitter (67 test errors), a small net alone (146), the small
net distilled at T = 20 (74), and what temperature does to students of different widths. `--dry-run` says how long each
part would take here. The default is the three rows from one teacher; `--preset full` is everything, and takes many
hours; `--preset quick` on the bundled digits takes minutes.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.mnist.roles import Role
from experiments.mnist.config import PRESETS, TableConfig
from experiments.mnist.members import members, of_ensemble, tuned_members
from experiments.mnist.options import PARTS, Part
from kdjax import cli
from kdjax.config import of_teacher
from kdjax.errors import BadInput
from kdjax.identity import result_fields

if TYPE_CHECKING:
    from analysis.tuning import Choice
    from experiments.study import Study
    from kdjax.forecast import Forecast

PROG = "python -m experiments.mnist_table"

OF_PARTS: dict[tuple[Part, ...], tuple[str, ...]] = {
    ("widths",): ("widths", "width_temperatures", "width_teachers", "width_seeds", "tuning_rates", "tuning_seeds"),
    ("widths", "transfer"): ("width_epochs",),
    ("transfer",): ("fractions",),
    ("better",): ("elastic_epochs",),
    ("small", "distilled", "shifted", "better", "controls"): ("epochs",),
    ("small", "distilled", "transfer", "shifted", "better", "controls"): ("width", "seeds"),
    ("distilled", "transfer", "shifted", "better", "controls"): ("temperature", "soft_weights"),
    ("teacher", "distilled", "better", "widths"): ("teachers",),
}
"""Options that are of some parts alone."""


def prepare(config: TableConfig) -> "Study":
    """Reads the data and refuses what cannot work, before any training."""
    from experiments import study
    from kdjax import datasets, grids, models, sweep_checks, sweeps
    from kdjax.progress import warn

    datasets.require_named(config.data, "mnist_table")
    sweeps.check_run(config.run)
    dataset = sweeps.read_data(config.data)
    count = len(dataset.train.images)
    for name, size in (("batch-size", config.batch_size), ("teacher.batch-size", config.teacher.batch_size)):
        left = count - count // 6 if {"controls", "widths"} & set(config.parts()) else count
        sweep_checks.require_at_most(name, size, left)
    for t in range(config.teachers_needed()):
        recipe = config.sweep(t).teacher.train_config(grids.teacher_epochs(dataset))
        try:
            models.network(recipe, dataset.input_shape, dataset.num_classes)
        except BadInput as error:
            raise of_teacher(error) from None
    for parts, options in OF_PARTS.items():
        changed = [name for name in options if getattr(config, name) != getattr(PRESETS[config.preset], name)]
        if changed and not set(parts) & set(config.only):
            given, which = f"--{' --'.join(changed).replace('_', '-')}", ", ".join(parts)
            which = f"one of the parts {which}" if len(parts) > 1 else f"the part {which}"
            warn(f"{given} {'have' if len(changed) > 1 else 'has'} no effect without {which} (--only)")
    resolved: dict[str, Any] = {"parts": config.parts(), "teacher": result_fields(config.teacher)}
    words = ["all"] if config.parts() == PARTS else config.parts()
    return study.prepare("mnist_table", words, config, dataset, "mlp", **resolved)


def run(table: "Study") -> Path:
    """Finds or trains the teachers and runs every sweep; writes where each is. Returns the folder."""
    from analysis import tuning
    from analysis.mnist import table as summary
    from experiments import study
    from experiments.mnist import evaluations
    from kdjax import metrics, run_directory, sweeps
    from kdjax.progress import say
    from kdjax.run_folders import sweep_folder

    config, dataset = table.config, table.dataset
    if not (table.folder / "table.csv").exists():
        for line in slower_precision(config):
            say(line)
    with run_directory.opened(table.folder, table.identity, table.run.fresh) as record:
        teachers = study.train_teachers(config.teacher, config.teachers_needed(), table)
        folders = tuple(teacher.folder for teacher in teachers[: config.teachers])
        test = dataset.test
        described = [
            {"name": one.name, "folder": one.folder.name, "test": metrics.evaluate(logits, test.labels)}
            for one in teachers[: config.teachers]
            for logits in [one.logits(test.images)]
        ]
        sweeps.describe(record, config, dataset, teachers=described, answers=[])
        first = members(config, len(dataset.train.images), folders)
        entries = study.run_members(table, record, first, summary.write_summary)
        tuned = [sweep_folder(table.folder, entry["run"]) for entry in entries if entry["role"] == Role.TUNING]
        choices = dict(zip(config.schedules(), map(tuning.choices_in, tuned), strict=False))  # none without the part
        study.run_members(table, record, tuned_members(config, choices), summary.write_summary, entries)
        evaluations.write_shifted(table.folder, dataset)
        evaluations.write_cost(table.folder, dataset)
        record.seal(["config.json"])
    return table.folder


def forecast(table: "Study") -> "Forecast":
    """What would run and cost, one line per sweep; a teacher that several sweeps share is counted once."""
    from experiments import study
    from kdjax import forecast as costs
    from kdjax import teachers
    from kdjax.progress import clock, count_of

    config, images = table.config, len(table.dataset.train.images)
    compiled = set[Any]()
    of_teachers = list(study.forecast_teachers(table, config.teacher, range(config.teachers_needed()), compiled))
    lines, seconds = [line for line, _, _ in of_teachers], sum(cost for _, cost, _ in of_teachers)
    fingerprints = [name for *_, name in of_teachers]
    folders = tuple(teachers.place(config.run.out, name) for name in fingerprints[: config.teachers])
    there = all(folder.exists() for folder in folders)
    known = known_choices(table)
    asked = [*members(config, images, folders if there else ()), *tuned_members(config, known)]
    tuned = forecast_tuned(table, [one for one in config.schedules() if one not in known])
    for line, cost in itertools.chain(study.forecast_members(table, asked, fingerprints, compiled), tuned):
        lines.append(line)
        seconds += cost
    if "better" in config.parts() and config.teachers > 1 and not there:  # an ensemble that is not there yet
        for role, changes in of_ensemble(config).items():
            sweep = study.prepare_sweep(table, config.sweep(**changes))
            cost = costs.sweep_seconds(sweep._replace(folder=sweep.folder / "none"), False, config.teachers)
            lines.append(f"better, {role}: would train {count_of(config.seeds, 'student')}, about {clock(cost)}")
            seconds += cost
    lines.append(f"in all about {clock(seconds)} on this device")
    return costs.Forecast("\n".join([*lines, *slower_precision(config)]), seconds)


def known_choices(table: "Study") -> dict[tuple[int, int], list["Choice"]]:
    """By width and epochs, the rates chosen by the tuning sweeps that are finished."""
    from analysis import tuning
    from experiments import study
    from kdjax.files import MANIFEST

    config = table.config
    asked = [one.config for one in members(config, len(table.dataset.train.images)) if one.role == Role.TUNING]
    folders = [study.prepare_sweep(table, sweep).folder for sweep in asked]
    pairs = zip(config.schedules(), folders, strict=False)  # no folders without the part
    return {schedule: tuning.choices_in(folder) for schedule, folder in pairs if (folder / MANIFEST).exists()}


def forecast_tuned(table: "Study", schedules: Sequence[tuple[int, int]]) -> Iterator[tuple[str, float]]:
    """What the sweeps at tuned rates would run and cost at schedules whose rates are not chosen yet: a line each, and
    seconds. At most, no setting has the one rate of all."""
    from analysis.tuning import Choice
    from experiments import study
    from kdjax import forecast as costs
    from kdjax.progress import clock, count_of

    config, other = table.config, 2 * table.config.learning_rate
    settings = [Choice("hard", math.nan, other), *(Choice("kd", t, other) for t in config.width_temperatures)]
    for width, epochs in schedules if "widths" in config.parts() else ():
        asked = [study.prepare_sweep(table, one.config) for one in tuned_members(config, {(width, epochs): settings})]
        cost = sum(costs.sweep_seconds(sweep._replace(folder=sweep.folder / "none"), False) for sweep in asked)
        students = sum(len(block.runs) for sweep in asked for block in sweep.blocks)
        what = f"{count_of(students, 'student')} of {width} units, {count_of(epochs, 'epoch')}, at rates not chosen yet"
        what = f"{what}, about {clock(cost)}"
        yield f"widths, tuned rates: would train up to {what}", cost


def slower_precision(config: TableConfig) -> list[str]:
    """A line where bfloat16 is the slower precision here; measured in half a second."""
    from kdjax import forecast as costs

    if "bfloat16" not in (config.precision, config.teacher.precision):
        return []
    times = costs.dense_rate("float32") / costs.dense_rate("bfloat16")
    line = f"bfloat16 takes {times:.1f} times as long as float32 on this device: --precision float32 and "
    return [line + "--teacher.precision float32 are faster"] if times > 1.2 else []


def main(config: TableConfig) -> None:
    """Makes the table (or resumes it), draws the figures and prints it."""
    from analysis.mnist import figures, table  # late, so that --help is quick
    from experiments import study

    shorter = "--preset quick, --dataset mnist5k, fewer --teachers, or fewer parts (--only)"
    study.execute(prepare(config), run, forecast, table.write_summary, figures.draw, shorter)


if __name__ == "__main__":
    cli.run(main, TableConfig, PROG, presets=PRESETS)
