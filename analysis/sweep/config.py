"""What `analysis.plan` plans: its options."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from kdjax.errors import require


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """Plans the number of seeds from the spread of a finished sweep."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Sweeps of one recipe: run directories, or their names in OUT/temperature_sweep (default: the newest there)."""
    out: Path = Path("runs")
    """Folder that holds the run directories."""
    difference: float = 5.0
    """The true difference to detect, in test errors."""
    margin: float = 7.0
    """The equivalence margin: smaller differences count as alike, in test errors."""
    power: float = 0.8
    """Statistical power: the probability of detecting it, or of showing that two are alike, in (0, 1)."""
    teachers: tuple[int, ...] = ()
    """Numbers of teachers to plan for, each with all seeds (default: as many as there are in the runs)."""
    alike_from: float = 8.0
    """The T (no unit) from which on every two temperatures should be shown to be alike, all pairs at once."""

    def __post_init__(self) -> None:
        for name in ("difference", "margin", "alike_from"):
            value = getattr(self, name)
            require(0 < value < float("inf"), f"--{name.replace('_', '-')} {value:g} is not allowed: it is above 0")
        require(0 < self.power < 1, f"--power {self.power:g} is not allowed: it lies in (0, 1)")
        wrong = [count for count in self.teachers if not 1 <= count <= 1000]
        require(not wrong, f"--teachers {' '.join(map(str, wrong))} is not allowed: it is from 1 to 1000")
