"""What `analysis.logit_matching` measures: its options."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from kdjax.errors import require, require_count, require_option


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
            require_option(1 < number <= 1_000, "classes", number, "soft targets need 2 classes or more, up to 1,000")
        require(self.classes, "--classes is empty: give at least one number of classes")
        limits = "its logits are divided by T = 0.1 to 100,000; it lies in 0.01 to 1,000"
        require_option(0.01 <= self.scale <= 1_000, "scale", self.scale, limits)
        require_count("images", self.images, "images")
        require_option(3 <= self.seeds <= 1_000, "seeds", self.seeds, "3 to 1,000, or --no-training")
        require(self.curvature or not self.dry_run, "--dry-run is for --curvature: give both, or neither")
        require_count("epochs", self.epochs, "epochs", most=100_000)

    @property
    def main_classes(self) -> int:
        """The N whose random logits stand for all where one is enough."""
        return 10 if 10 in self.classes else max(self.classes)
