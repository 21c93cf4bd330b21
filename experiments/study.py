"""Prepares, runs and forecasts the sweeps of a study: `mnist_table` and `cifar10_table` say which sweeps.

A study trains nothing itself: each of its sweeps is a run directory of its own, and what is trained already is found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from analysis import terminal
from kdjax import forecast, run_directory, sweeps, teachers
from kdjax.config import DataConfig, RunConfig, SweepConfig, TeacherConfig, numerics
from kdjax.datasets import Dataset
from kdjax.identity import identity
from kdjax.progress import clock, say
from kdjax.sweeps import Sweep
from kdjax.teachers import Teacher


class Member(NamedTuple):
    """One sweep of a study."""

    role: str
    """An enum's value: what the table and the figures look its runs up by."""
    config: SweepConfig
    part: str = ""
    """The part of the study that it belongs to, where the study has parts."""


class Study(NamedTuple):
    """A study that is ready to run: what the config became once the data were read."""

    config: Any
    run: RunConfig
    dataset: Dataset
    identity: dict[str, Any]
    """What fixes the results: it names the run directory and must not change under the same name."""
    folder: Path


def prepare(
    experiment: str, config: Any, dataset: Dataset, network: str, fingerprints: Sequence[str] = (), **resolved: Any
) -> Study:
    """A study of these images, with students of this network and these teachers; `resolved` are fields as they became
    once the data were read."""
    facts = identity(experiment, config, dataset.identity(), numerics(network), fingerprints, **resolved)
    folder = run_directory.run_folder(config.run.out, experiment, config.run.name, facts)
    return Study(config, config.run, dataset, facts, folder)


def train_teachers(recipe: TeacherConfig, count: int, study: Study) -> list[Teacher]:
    """The teachers of a recipe from so many seeds, found or trained."""
    config, run = recipe.train_config(sweeps.teacher_epochs(study.dataset)), study.run
    return [
        teachers.find_or_train(
            config, recipe.learning_rate, recipe.seed + index, study.dataset, run.out, run.checkpoint_seconds
        )
        for index in range(count)
    ]


class Reader:
    """Prepares sweeps; the images that several of them want are read once."""

    def __init__(self, study: Study):
        self._data: dict[DataConfig, Dataset] = {study.config.data: study.dataset}

    def prepare(self, config: SweepConfig) -> Sweep:
        """The sweep, ready to train."""
        sweep = sweeps.prepare(config, dataset=self._data.get(config.data))
        self._data[config.data] = sweep.dataset
        return sweep


def run_members(study: Study, members: Sequence[Member]) -> list[dict[str, str]]:
    """Runs every sweep, or finds it; returns the part, role and run directory's name of each."""
    reader, entries = Reader(study), []
    for index, member in enumerate(members):
        part = f"part {member.part}: " if member.part else ""
        say(f"{part}{member.role} ({index + 1} of {len(members)} sweeps)")
        folder = sweeps.run(reader.prepare(member.config))
        entry = {"part": member.part} if member.part else {}
        entries.append({**entry, "role": str(member.role), "run": folder.name})
    return entries


def forecast_members(study: Study, members: Iterable[Member], known: Iterable[str]) -> Iterator[tuple[str, float]]:
    """What each sweep would run and cost: a line, and seconds.

    Args:
        study: as prepared.
        members: its sweeps; one that stands there twice is counted once.
        known: fingerprints of teachers that are counted elsewhere.
    """
    reader, teachers_counted, counted = Reader(study), set(known), list[SweepConfig]()
    for member in members:
        if member.config in counted:
            continue
        counted.append(member.config)
        sweep = reader.prepare(member.config)
        teacher = sweep.identity["teachers"][0] not in teachers_counted
        teachers_counted |= set(sweep.identity["teachers"])
        name = ", ".join(filter(None, [member.part, str(member.role)]))
        yield f"{name}: {forecast.of_sweep(sweep, teacher)}", forecast.sweep_seconds(sweep, teacher)


def forecast_teachers(study: Study, recipe: TeacherConfig, count: int) -> Iterator[tuple[str, float, str]]:
    """What training each teacher would cost: a line, seconds, and its fingerprint."""
    config = recipe.train_config(sweeps.teacher_epochs(study.dataset))
    for index in range(count):
        name = teachers.fingerprint(config, recipe.learning_rate, recipe.seed + index, study.dataset)
        if teachers.place(study.run.out, name).exists():
            yield f"teacher {index + 1}: it is there", 0.0, name
        else:
            seconds = forecast.training_seconds(config, study.dataset)
            yield f"teacher {index + 1}: would be trained, about {clock(seconds)}", seconds, name


def execute(
    prepared: Any,
    run: Callable[[Any], Path],
    forecast: Callable[[Any], str],
    write_summary: Callable[[Path], str],
    draw: Callable[[Path], list[Path]],
) -> None:
    """Runs what was prepared, a `Study` or a `Sweep`, draws its figures and prints its summary; with `--dry-run` only
    prints the forecast."""
    if prepared.run.dry_run:
        print(forecast(prepared))
        return
    folder = run(prepared)
    terminal.show(write_summary(folder))
    if figures := [str(path) for path in draw(folder) if path.suffix == ".png"]:
        say(f"figures: {', '.join(figures)}")
