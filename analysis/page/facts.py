"""What was run: what a page tells of data, teachers, students, versions, device, time, and what is missing."""

import datetime
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis import analysis_folder, runs, wording
from analysis.sweep.given_teacher import is_given
from analysis.tables import count_of
from kdjax import run_directory
from kdjax.files import read_json
from kdjax.progress import clock
from kdjax.run_folders import seconds_of, sweeps_of


class Facts(NamedTuple):
    """What was run."""

    command: str
    """To give again; empty where it is not known."""
    lines: dict[str, str]
    """What, and what of it."""
    missing: tuple[str, ...]
    """What is not there yet, or failed: sentences."""
    about: tuple[str, ...]
    """What is unusual about this run, or small: sentences for the caveats."""


def of_run(folder: Path, experiment: str) -> Facts:
    """Of the run directory of an experiment, or of an analysis, which says less.

    Raises:
        BadInput: `config.json` is damaged.
    """
    if not (folder / "config.json").exists():
        return _of_analysis(folder, experiment)
    config = read_json(folder / "config.json")
    with runs.reading(folder / "config.json"):
        identity, details, data = config["identity"], config["details"], config["identity"]["data"]
        lines = {"Data": _data(data)}
        if teachers := _teachers(details, data):
            lines["Teacher" if len(teachers) == 1 else "Teachers"] = "; ".join(teachers)
        results = [read for one in (folder, *sweeps_of(folder)) if (read := _results(one)) is not None]
        lines |= _students(results, wording.unit_of(identity.get("config", {})))
        lines["Device"] = f"{_device(details)}, {count_of(details.get('cpus') or 0, 'core')}"
        lines["Versions"] = ", ".join(f"{name} {version}" for name, version in details.get("versions", {}).items())
        lines["Commit"] = details.get("git_commit") or ""
        lines["Time"] = _time(folder, config)
        lines["Run directory"] = folder.name
        unusual = "; ".join(wording.unusual_options(identity))
        about = [f"Options other than the defaults: {unusual}."] * bool(unusual)
        about += [f"There are fuller data: {details.get('hint')}."] * bool(details.get("hint"))
        command = _command(config.get("command"))
        missing = _missing(run_directory.progress(folder), results)
    return Facts(command, {name: text for name, text in lines.items() if text}, missing, tuple(about))


def _of_analysis(folder: Path, experiment: str) -> Facts:
    """Of an analysis: its commands, and on what they were measured, as it noted them."""
    lines, commands = dict[str, str](), list[str]()
    path = folder / analysis_folder.COMMAND
    with runs.reading(path):
        for noted in read_json(path).values() if path.exists() else ():
            commands.append(_command(noted["command"]))
            lines["Measured on"] = noted["measured_on"]
            if noted.get("source") and ((run := folder / noted["source"]) / "config.json").exists():
                of_sweep = of_run(run, "temperature_sweep")
                lines |= {**of_sweep.lines, "Trained by": of_sweep.command}
    lines = {name: text for name, text in lines.items() if text} | {"Run directory": f"{experiment}/{folder.name}"}
    return Facts("\n".join(dict.fromkeys(commands)), lines, (), ())


def _data(data: Mapping[str, Any]) -> str:
    """The counts are left out where the description has them all."""
    counts = {"to train on": data["train_images"], "held out": data.get("holdout"), "to test on": data["test_images"]}
    known = {what: f"{count:,}" for what, count in counts.items() if count}
    parts = [data["description"], ", ".join(f"{count} {what}" for what, count in known.items())]
    said = set(re.findall(r"\d[\d,]*(?<!,)", data["description"])).issuperset(known.values())
    parts = [*parts[: 1 if said else 2], f"{data['num_classes']} classes", f"fingerprint {data['fingerprint'][:12]}"]
    return "; ".join(parts)


def _device(details: Mapping[str, Any]) -> str:
    """`cpu`, `NVIDIA H100 (gpu)`: platform and name once, where they are the same."""
    name, _, platform = details.get("device", "not known").partition(" (")
    return str(name if f"{name})" == platform else details.get("device", "not known"))


def _teachers(details: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Each teacher with its test errors, or by name alone."""
    listed = details.get("teachers", [])
    listed = listed or details.get("networks", [])  # of a table of CIFAR-10
    if not listed and details.get("teacher"):
        return [str(details["teacher"])]
    if is_given(listed):
        return [f"came with the data ({data['name']}); {count_of(listed[0]['test']['errors'], 'test error')}"]
    return [f"{one['name']} ({count_of(one['test']['errors'], 'test error')})" for one in listed]


def _results(folder: Path) -> pd.DataFrame | None:
    """The rows of a run directory that has students of its own."""
    if not (folder / "results.csv").exists():
        return None
    rows: pd.DataFrame = run_directory.read_results(folder)
    return rows


def _students(results: Sequence[pd.DataFrame], unit: str = "units per layer") -> dict[str, str]:
    if not results:
        return {}
    rows, count = pd.concat(results), sum(len(_distinct(one)) for one in results)
    widths = ", ".join(f"{width:,}" for width in sorted(rows["width"].unique()))
    seeds = sorted(int(seed) for seed in rows["seed"].unique())
    said = {"Students": f"{count:,}, of {widths} {unit}", "Seeds": _listed(seeds)}
    if "epochs" in rows:
        said["Epochs"] = ", ".join(f"{epochs:,}" for epochs in sorted(int(one) for one in rows["epochs"].unique()))
    return said


def _distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each student of a run directory: one that is evaluated several times has several."""
    return rows.drop_duplicates([name for name in (*run_directory.ORDER, "block", "place") if name in rows])


def _listed(numbers: list[int]) -> str:
    """`0 to 9` where they follow on each other."""
    whole = numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2
    return f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _time(folder: Path, config: Mapping[str, Any]) -> str:
    seconds = seconds_of(folder)
    parts = [f"{clock(seconds)} to train the students"] * (seconds > 0)
    started, finished = (config.get(name) for name in ("started", "finished"))
    if started:
        parts.append(f"started {_date(started)}" + (f", finished {_date(finished)}" if finished else ""))
    return "; ".join(parts)


def _date(text: str) -> str:
    return f"{datetime.datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"


def _command(command: Any) -> str:
    if not command or not command.get("module"):
        return ""
    kept = [argument for argument in command["arguments"] if argument != "--fresh"]
    return shlex.join(["python", "-m", command["module"], *kept])


def _missing(progress: str, results: Sequence[pd.DataFrame]) -> tuple[str, ...]:
    said = [f"The run is not finished: this is of {progress}."] if progress else []
    students = [_distinct(rows) for rows in results]
    failed = sum(int((rows["failed_at"] >= 0).sum()) for rows in students if "failed_at" in rows)
    if failed:
        total = sum(map(len, students))
        said.append(f"{failed} of {total:,} runs failed: their loss stopped being finite. They are left out of means.")
    return tuple(said)
