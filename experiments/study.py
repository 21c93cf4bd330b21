"""Prepares, runs and forecasts the sweeps of a study: `mnist_table` and `cifar10_table` say which sweeps.

A study trains nothing itself: each of its sweeps is a run directory of its own, and what is trained already is found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from analysis import terminal
from analysis.page import page
from experiments.member import Member
from kdjax import forecast, grids, scheduling, sweeps, teachers
from kdjax.config import DataConfig, RunConfig, SweepConfig, TeacherConfig, numerics
from kdjax.datasets import Dataset
from kdjax.forecast import Forecast
from kdjax.identity import identity
from kdjax.interim import seldom_summary
from kdjax.progress import clock, count_of, say
from kdjax.run_directory import RunDirectory
from kdjax.run_folders import SWEEPS, run_folder
from kdjax.sweeps import Sweep
from kdjax.teachers import Teacher

LONG = 30 * 60
"""Seconds; where work takes longer, a shorter way is named."""


class Study(NamedTuple):
    """A study that is ready to run: what the config became once the data were read."""

    config: Any
    dataset: Dataset
    identity: dict[str, Any]
    """What fixes the results: it names the run directory and must not change under the same name."""
    folder: Path
    data: dict[DataConfig, Dataset]
    """The images that its sweeps want, as they are read: each once."""

    @property
    def run(self) -> RunConfig:
        """Where to run and what to write."""
        options: RunConfig = self.config.run
        return options


def prepare(
    experiment: str,
    words: Sequence[str],
    config: Any,
    dataset: Dataset,
    network: str,
    fingerprints: Sequence[str] = (),
    **resolved: Any,
) -> Study:
    """A study of these images, with students of this network and these teachers. `words` say in its default name what
    it is of; `resolved` are fields as they became once the data were read."""
    facts = identity(experiment, config, dataset.identity(), numerics(network), fingerprints, **resolved)
    folder = run_folder(config.run.out / experiment, config.run.name, facts, [dataset.name, *words])
    return Study(config, dataset, facts, folder, {config.data: dataset})


def train_teachers(recipe: TeacherConfig, count: int, study: Study) -> list[Teacher]:
    """The teachers of a recipe from so many seeds, found or trained."""
    config, run = recipe.train_config(grids.teacher_epochs(study.dataset)), study.run
    return [
        teachers.find_or_train(config, recipe.rate, recipe.seed + index, study.dataset, run.out, run.checkpoint_seconds)
        for index in range(count)
    ]


def prepare_sweep(study: Study, config: SweepConfig) -> Sweep:
    """One of the study's sweeps, ready to train. Raises BadInput: its folder is damaged; nothing is changed then."""
    parent = study.folder.parent / SWEEPS
    sweep = sweeps.prepare(config, dataset=study.data.get(config.data), parent=parent)
    study.data[config.data] = sweep.dataset
    return sweep


def run_members(
    study: Study,
    record: RunDirectory,
    members: Sequence[Member],
    summarise: Callable[[Path], object],
    before: Sequence[dict[str, str]] = (),
) -> list[dict[str, str]]:
    """Runs every sweep, or finds it; returns the part, role and run directory's name of each, after those `before`.

    `config.json` tells them too, as `answers`, so that `summarise(folder)` can write a summary of those so far: it is
    called now and then.
    """
    entries, summary = list(before), seldom_summary(study.folder, summarise)
    total = len(before) + len(members)
    record.config_file.note_sweeps([entry["run"] for entry in entries], total)
    for number, member in enumerate(members, len(before) + 1):
        part = f"part {member.part}: " if member.part else ""
        say(f"{part}{member.role} ({number} of {count_of(total, 'sweep')})")
        folder = sweeps.run(prepare_sweep(study, member.config), wait=True)  # another table may train it too
        entry = {"part": member.part} if member.part else {}
        entries.append({**entry, "role": str(member.role), "run": folder.name})
        record.config_file.note("answers", entries)
        record.config_file.note_sweeps([entry["run"] for entry in entries], total)
        if len(entries) < total:
            summary()
    return entries


def forecast_members(
    study: Study, members: Iterable[Member], known: Iterable[str], compiled: set[Any]
) -> Iterator[tuple[str, float]]:
    """What each sweep would run and cost: a line, and seconds.

    Args:
        study: as prepared.
        members: its sweeps; one that stands there twice is counted once.
        known: fingerprints of teachers that are counted elsewhere.
        compiled: programs that were counted before; those of these sweeps are added to them.
    """
    teachers_counted, counted = set(known), list[SweepConfig]()
    for member in members:
        if member.config in counted:
            continue
        counted.append(member.config)
        sweep = prepare_sweep(study, member.config)
        teacher = sweep.identity["teachers"][0] not in teachers_counted
        teachers_counted |= set(sweep.identity["teachers"])
        name = ", ".join(filter(None, [member.part, str(member.role)]))
        text, seconds = forecast.of_sweep(sweep, teacher, compiled)
        yield f"{name}: {text}", seconds


def forecast_teachers(
    study: Study, recipe: TeacherConfig, numbers: range, compiled: set[Any]
) -> Iterator[tuple[str, float, str]]:
    """What training the teachers of these numbers would cost: a line, seconds, and its fingerprint; `compiled` as in
    `forecast_members`. Raises BadInput: there are too few devices for one that is missing."""
    config = recipe.train_config(grids.teacher_epochs(study.dataset))
    for index in numbers:
        name = teachers.fingerprint(config, recipe.rate, recipe.seed + index, study.dataset)
        folder = teachers.place(study.run.out, name)
        if folder.exists():
            yield f"teacher {index + 1}: it is there", 0.0, name
        else:
            scheduling.require_devices("teacher.devices", recipe.devices)
            seconds = forecast.training_seconds(config, study.dataset, compiled, folder)
            yield f"teacher {index + 1}: would be trained, about {clock(seconds)}", seconds, name


def execute(
    prepared: Any,
    run: Callable[[Any], Path],
    forecast: Callable[[Any], Forecast],
    write_summary: Callable[[Path], str],
    draw: Callable[[Path], list[Path]],
    shorter: str,
) -> None:
    """Says how long it will take, runs what was prepared, a `Study` or a `Sweep`, draws its figures, prints its summary
    and writes its page; with `--dry-run` only prints the forecast. `shorter`: options that make long work shorter."""
    cost = forecast(prepared)
    if prepared.run.dry_run:
        print(cost.text)
        return
    if cost.seconds:
        say(f"about {clock(cost.seconds)} on this device")
    if cost.seconds > LONG:
        say(f"shorter: {shorter}; --dry-run tells what takes how long")
    folder = run(prepared)
    terminal.show(write_summary(folder))
    if figures := [str(path) for path in draw(folder) if path.suffix == ".png"]:
        say(f"figures: {', '.join(figures)}")
    page.at_the_end(folder)
