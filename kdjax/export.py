"""Takes a trained student away: `python -m kdjax.export RUN --temperature 4 --seed 0`

Writes the parameters of one student of a run into a file, for NumPy, JAX or (a multi-layer perceptron) PyTorch:
`kdjax.exported` says what stands in it.
"""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from kdjax import cli
from kdjax.errors import require, require_temperature

PROG = "python -m kdjax.export"


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Writes the parameters of one trained student into a file, for other programs, and prints its name. Where a run
    holds several students, options say which one."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run directory, or its name below --out as `python -m kdjax runs` lists it (default: the sweep with the newest
    results)."""
    out: Path = Path("runs")
    """Folder that holds run directories, for a name."""
    objective: str | None = None
    """What it minimised, as in results.csv: kd, hard (labels alone), or another one (default: any)."""
    temperature: float | None = None
    """T of its soft targets; inf is the limit, and students on hard labels have none (default: any)."""
    seed: int | None = None
    """The random seed that it was trained from (default: any)."""
    width: int | None = None
    """Units in each of its hidden layers (default: any)."""
    soft_weight: float | None = None
    """Weight of the soft term in its loss, from 0 to 1 (default: any)."""
    learning_rate: float | None = None
    """The peak learning rate that it was trained at (default: any)."""
    teacher: str | None = None
    """Its teacher, as in results.csv: the first twelve digits of the fingerprint (default: any)."""
    to: Path | None = None
    """File to write (default: RUN-WIDTH-OBJECTIVE-T-SEED in the working folder)."""
    format: Literal["npz", "safetensors", "torch"] | None = None
    """npz or safetensors: arrays by name; torch: a state_dict, of multi-layer perceptrons (default: as the ending of
    --to says, .npz, .safetensors or .pt; without it npz)."""
    overwrite: bool = False
    """Write the file even where there is one already."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "student": ("objective", "temperature", "seed", "width", "soft_weight", "learning_rate", "teacher"),
        "file": ("to", "format", "overwrite"),
    }
    """Options by group, the most used first (`kdjax.options`)."""

    def __post_init__(self) -> None:
        if self.temperature is not None:
            require_temperature("temperature", self.temperature)


def main(config: ExportConfig) -> None:
    """Finds the student, writes the file, and prints its path."""
    from kdjax.exported import FORMATS  # late, so that --help is quick
    from kdjax.files import write_whole
    from kdjax.progress import say, warn

    if config.to is not None:
        _require_free(config.to, config.overwrite)  # before much is read
    kind = _format(config, {form.suffix: name for name, form in FORMATS.items()})
    student = _student(_folder(config), config)
    row, suffix = student.row, FORMATS[kind].suffix
    of = "" if row["temperature"] is None else f" at T = {row['temperature']:g}"
    path = config.to or _default_path(student, suffix)
    _require_free(path, config.overwrite)
    write_whole(path, FORMATS[kind].content(student))
    say(f"{row['objective']}{of}, {row['width']} units, seed {row['seed']}: {row['test_errors']:,} test errors")
    if student.config.precision != "float32" and kind == "torch":
        warn(f"it was trained and tested with products of {student.config.precision}: PyTorch's logits differ")
    if student.config.mirrored_views and kind == "torch":
        warn("it was tested by the mean logits of an image and its mirror image: PyTorch's are of the image alone")
    print(path)


def _format(config: ExportConfig, by_suffix: dict[str, str]) -> str:
    """The format that is asked for, in so many words or by the ending of the file."""
    ending = config.to.suffix if config.to else ""
    known = by_suffix.get(ending)
    listed = ", ".join(by_suffix)
    require(config.format or known or not config.to, f"--to {config.to} does not say a format: end it with {listed}")
    agree = not (config.format and known) or config.format == known
    require(agree, f"--to {config.to} with --format {config.format} is not allowed: a {ending} file is {known}")
    return config.format or known or "npz"


def _folder(config: ExportConfig) -> Path:
    """The run directory: by default the newest sweep."""
    from kdjax import listing, run_folders

    if config.run is None:
        return run_folders.latest_run(config.out, "temperature_sweep")
    return listing.folder_of(config.out, config.run)


def _student(folder: Path, config: ExportConfig) -> Any:
    """The one student that the options leave. Raises BadInput: none, a failed one, several (what differs)."""
    from kdjax import trained

    names = ExportConfig.GROUPS["student"]
    where = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    found = trained.find(folder, **where)
    # Those of hard labels have no temperature, and are told apart by their objective.
    values = {name: {student.row[name] for student in found} - {None} for name in names}
    rest = [f"--{name.replace('_', '-')} {trained.listed(values[name])}" for name in names if len(values[name]) > 1]
    several = f"that names {len(found)} students of {folder}"
    require(len(found) == 1 or rest, f"{several}, which no option tells apart: kdjax.trained.find reads them in Python")
    require(len(found) == 1, f"{several}: choose by {', '.join(rest)}")
    failed = found[0].row["failed_at"]
    require(failed < 0, f"that student of {folder} failed at step {failed} (loss not finite): name another one")
    return found[0]


def _default_path(student: Any, suffix: str) -> Path:
    from kdjax.exported import run_of

    row, temperature = student.row, student.row["temperature"]
    words = [
        run_of(student).name,
        str(row["width"]),
        re.sub(r"[^A-Za-z0-9_.-]+", "_", row["objective"]),
    ]
    words += [] if temperature is None else [f"T{temperature:g}"]
    return Path("-".join([*words, f"seed{row['seed']}"]) + suffix)


def _require_free(path: Path, overwrite: bool) -> None:
    require(path.parent.is_dir(), f"{path.parent} is no folder: make it, or name another file with --to")
    require(not path.is_dir(), f"{path} is a folder: name a file with --to")
    require(overwrite or not path.exists(), f"{path} is there already: give --overwrite, or another file with --to")


if __name__ == "__main__":
    cli.run(main, ExportConfig, PROG)
