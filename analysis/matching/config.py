"""What `analysis.logit_matching` measures: its options."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import tyro

from kdjax.errors import require


@dataclasses.dataclass(frozen=True)
class MatchingConfig:
    """Measures how soft targets become logit matching as T grows, and where they do not."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory with a trained teacher and students (default: the one of temperature_sweep under --out with the
    newest results; with none, a small pair is trained on the bundled digits)."""
    out: Path = Path("runs")
    """Folder that holds run directories and teachers, and in which the results are kept."""
    classes: tuple[int, ...] = (2, 3, 10, 100)
    """Numbers of classes N of the random logits, each 2 or more."""
    scale: float = 5.0
    """Standard deviation s of the random logits."""
    images: int = 1000
    """Training images of the pair on which gradients are measured."""
    training: bool = True
    """Also train students at T = 1 … 1000 and ∞, under SGD and Adam."""
    seeds: int = 3
    """Seeds of those students, 3 or more."""
    epochs: int | None = None
    """Passes over the transfer set by those students (default: as many as the run's)."""
    curvature: bool = False
    """Measure curvature and the best learning rate at T = 0.5 … 32 and ∞ under SGD and Adam, and nothing else. The run
    needs a hold-out (default: a pair of 30 units, trained on the bundled digits)."""
    dry_run: bool = False
    """With --curvature: only say how long it would take."""

    def __post_init__(self) -> None:
        for number in self.classes:
            require(number > 1, f"--classes {number} is not allowed: soft targets need 2 classes or more")
        require(self.classes, "--classes is empty: give at least one number of classes")
        require(self.scale > 0 and math.isfinite(self.scale), f"--scale {self.scale:g} is not allowed: it is above 0")
        require(self.images > 0, f"--images {self.images} is not allowed: it is a number of images, 1 or more")
        require(self.seeds >= 3, f"--seeds {self.seeds} is not allowed: 3 or more, or --no-training")
        require(self.curvature or not self.dry_run, "--dry-run is for --curvature: give both, or neither")
        require(self.epochs is None or self.epochs > 0, f"--epochs {self.epochs} is not allowed: it is 1 or more")

    @property
    def main_classes(self) -> int:
        """The N whose random logits stand for all where one is enough."""
        return 10 if 10 in self.classes else max(self.classes)
