"""What `analysis.logit_matching` measures: its options."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from kdjax.config import TopkRest
from kdjax.errors import require, require_count, require_distinct, require_option


@dataclasses.dataclass(frozen=True)
class MatchingConfig:
    """Measures how soft targets become logit matching as T grows, and where they do not."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run directory with a trained teacher and students, or its name in OUT/temperature_sweep (default: the one there
    with the newest results; with none, a small pair is trained on the bundled digits)."""
    out: Path = Path("runs")
    """Folder that holds run directories and teachers, and in which the results are kept: OUT/logit_matching/NAME, NAME
    being the run's, or FILE-logits for a file."""
    classes: tuple[int, ...] = (2, 3, 10, 100)
    """Numbers of classes N of the random logits, each 2 or more."""
    scale: float = 5.0
    """Standard deviation s of the random logits."""
    images: int = 1000
    """Number of training images of the pair on which gradients are measured."""
    training: bool = True
    """Also train students at T = 1 … 1000 and ∞, under SGD and Adam."""
    seeds: int = 3
    """Number of those students' seeds, 3 or more."""
    epochs: int | None = None
    """Passes over the transfer set by those students (default: as many as the run's)."""
    logits: Path | None = None
    """Instead of a run: a file (.npz, .safetensors, .parquet, or a folder of .npy) with student_logits and
    teacher_logits, both [examples, classes], and perhaps labels [examples], from 0; nothing is trained.
    Log-probabilities are student_logprobs, teacher_logprobs; the teacher's k largest alone are teacher_topk_logits or
    teacher_topk_logprobs with teacher_topk_indices, [examples, k], and of logits teacher_logsumexp [examples]."""
    columns: tuple[str, ...] = ()
    """With --logits: the file's own names, such as student_logits=z labels=y."""
    topk_rest: TopkRest | None = None
    """With --logits and a top-k teacher: spread divides the remaining probability mass evenly among the other
    classes; renormalised gives them none (default: spread)."""
    curvature: bool = False
    """Measure curvature and the best learning rate at T = 0.5 … 32 and ∞ under SGD and Adam, and nothing else. The run
    needs a hold-out (default: a pair of 30 units, trained on the bundled digits)."""
    dry_run: bool = False
    """Only say how long it would take."""

    def __post_init__(self) -> None:
        self._require_one_question()
        for number in self.classes:
            require_option(1 < number <= 1_000, "classes", number, "soft targets need 2 classes or more, up to 1,000")
        require_distinct("classes", self.classes)
        limits = "its logits are divided by T = 0.1 to 100,000; it lies in 0.01 to 1,000"
        require_option(0.01 <= self.scale <= 1_000, "scale", self.scale, limits)
        require_count("images", self.images, "images")
        require_option(3 <= self.seeds <= 1_000, "seeds", self.seeds, "3 to 1,000, or --no-training")
        require_count("epochs", self.epochs, "epochs", most=100_000)

    def _require_one_question(self) -> None:
        """Refuses options that the measurement does not read: logits from a file train nothing and need no run."""
        of_file = {"logits", "columns", "topk_rest"}
        changed = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]
        if self.logits is None:
            alone = [name for name in changed if name in of_file]
            require(not alone, f"{_listed(alone)} is about a file of logits: give it with --logits FILE")
            for option, unread, given in (
                ("curvature", ("training", "classes", "scale"), self.curvature),
                ("no-training", ("seeds", "epochs"), not self.training),
            ):
                idle = [name for name in changed if name in unread]
                require(not (given and idle), f"leave out {_listed(idle)}, which --{option} does not use")
            return
        require(self.run is None, "a run directory with --logits is not allowed: give one of them")
        others = [name for name in changed if name not in of_file | {"out"}]
        require(not others, f"{_listed(others)} is not allowed with --logits, which trains nothing: leave it out")

    @property
    def main_classes(self) -> int:
        """The N whose random logits stand for all where one is enough."""
        return 10 if 10 in self.classes else max(self.classes)


def _listed(fields: list[str]) -> str:
    return " and ".join("--no-training" if name == "training" else f"--{name.replace('_', '-')}" for name in fields)
