"""What `analysis.objectives` measures: its options."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from kdjax.errors import require


@dataclasses.dataclass(frozen=True)
class AtlasConfig:
    """Measures what each objective is at every temperature, beside its limit as T → ∞."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory of a temperature sweep, or its name in OUT/temperature_sweep: its narrowest students on soft
    targets are measured on up to 1,000 test images (default: random logits)."""
    logits: Path | None = None
    """Instead of a run: a file (.npz, .safetensors, .parquet, or a folder of .npy) with student_logits and
    teacher_logits, both [examples, classes], and labels [examples], from 0; also log-probabilities, or the teacher's k
    largest alone, as in analysis.logit_matching."""
    columns: tuple[str, ...] = ()
    """With --logits: the file's own names, such as student_logits=z labels=y."""
    objectives: tuple[str, ...] = ()
    """Names of objectives, with hyper-parameters in quotes, such as "dkd(beta=2)" (default: all but
    controls, at their authors' values)."""
    out: Path = Path("runs")
    """Folder in which the results are kept: OUT/objectives/NAME, NAME being the run's, FILE-logits for a
    file, or random."""

    def __post_init__(self) -> None:
        both = "a run directory with --logits is not allowed: give one of them, or neither for random logits"
        require(self.run is None or self.logits is None, both)
        require(self.logits is not None or not self.columns, "--columns is about a file: give it with --logits FILE")
