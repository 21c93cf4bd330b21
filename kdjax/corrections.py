"""From the blocks of an omission run to `results.csv`: each student under each bias correction, a row each."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import bias, omission, run_directory
from kdjax.config import canonical_json
from kdjax.files import seal, write_whole
from kdjax.omission import Student, Study
from kdjax.students import DistillationData, Run

CORRECTIONS = ("none", "oracle", "validation", "label_free", "seen_only")
"""Canonical order. `fitted`, of the pairs alone: the bias of their further class, given to all their omitted ones."""
EXAMPLES = 8
"""Test images of each class that are kept to look at: the first ones, not chosen ones."""

PAIRS: dict[Student, Student] = {"distilled": "pairs", "control": "control_pairs"}
"""Whose pairs tell whose seen_only bias."""


def write_images(folder: Path, taught: DistillationData) -> None:
    """Keeps what corrections and figures need beside the blocks: `test.npz`, with the pool's labels in it too."""
    dataset = taught.dataset
    of_class = [np.flatnonzero(dataset.test.labels == value)[:EXAMPLES] for value in range(dataset.num_classes)]
    rows = np.concatenate(of_class)
    run_directory.write_arrays(
        folder / "test.npz",
        labels=dataset.test.labels,
        teacher_logits=taught.test_logits,
        pool_labels=dataset.holdout.labels,
        pool_teacher_logits=taught.holdout_logits,
        example_images=dataset.test.images[rows],
        example_rows=rows,
    )


def write_results(folder: Path, studies: Sequence[Study]) -> None:
    """Writes `results.csv` and `history.jsonl` from the finished blocks, and seals them.

    Args:
        folder: the run directory, with all blocks finished.
        studies: the plan by which they were trained.
    """
    import pandas as pd  # late: a third of a second

    asked = run_directory.read_json(folder / "config.json")["identity"]["config"]
    reader = Reader(folder, studies, asked["students"])
    rows = [
        row
        for omitted in asked["omitted"]
        for student in asked["students"]
        for seed in range(asked["seeds"])
        for row in reader.rows(student, tuple(omitted), seed)
    ]
    table = pd.DataFrame(rows).to_csv(index=False, float_format="%.9g", lineterminator="\n")
    write_whole(folder / "results.csv", table)
    lines = []
    for study in studies:
        names = {"kind": study.kind, "without": name_classes(study.omitted)}
        history = run_directory.read_json(folder / "blocks" / study.block.name / "history.json")
        lines += [canonical_json({**names, **line}) + "\n" for line in history]
    write_whole(folder / "history.jsonl", "".join(lines))
    seal(folder, ("config.json", "results.csv", "history.jsonl", "test.npz"))


def name_classes(classes: Sequence[int]) -> str:
    """Classes as a cell: "3 5"; "none" where there are none."""
    return " ".join(map(str, classes)) or "none"


class Reader:
    """Finds students in a run directory and corrects them."""

    def __init__(self, folder: Path, studies: Sequence[Study], students: Sequence[Student]):
        self._folder, self._students = folder, students
        self._studies = {(study.kind, study.omitted, study.block.seed): study for study in studies}
        with np.load(folder / "test.npz") as arrays:
            self.labels, self.pool_labels = arrays["labels"], arrays["pool_labels"]
            self.pool_teacher = arrays["pool_teacher_logits"]
        self.num_classes = self.pool_teacher.shape[1]
        self._block = functools.lru_cache(maxsize=64)(self._load)

    def rows(self, student: Student, omitted: tuple[int, ...], seed: int) -> Iterator[dict[str, Any]]:
        """The rows of a student: each of its settings under each correction that it can be given."""
        for place in omission.places(student, omitted, self.num_classes):
            study = self._studies[place.kind, place.omitted, seed]
            kept, test, pool = self._block(study.block.name)
            for index, run in enumerate(study.block.runs):
                if (run.objective == "hard") != place.hard:
                    continue
                names = {
                    "omitted": name_classes(omitted),
                    "student": student,
                    "without": name_classes(place.omitted),
                    **{name: kept[index][name] for name in (*run_directory.ORDER, "epochs", "failed_at")},
                    "block": study.block.name,
                    "place": index,
                }
                if kept[index]["failed_at"] >= 0:  # no logits to correct
                    yield {**names, "correction": "none", "bias": 0.0, **judge(None, self.labels, omitted)}
                    continue
                if student in PAIRS.values():
                    (further,) = set(place.omitted) - set(omitted)
                    biases = {"fitted": self.pair_biases(student, omitted, seed, run)[further]}
                else:
                    biases = self._biases(student, omitted, seed, run, test[index], pool[index])
                for correction, value in biases.items():
                    # A student that saw all classes has none to raise, and bias 0.
                    said = bias.answers(test[index], place.omitted or omitted, value)
                    yield {**names, "correction": correction, "bias": value, **judge(said, self.labels, omitted)}

    def pair_biases(self, student: Student, omitted: tuple[int, ...], seed: int, run: Run) -> dict[int, float]:
        """For each seen class the bias that it would have needed; no image of an omitted class is looked at."""
        shown = ~np.isin(self.pool_labels, omitted)
        said = {}
        for place in omission.places(student, omitted, self.num_classes):
            study = self._studies[place.kind, place.omitted, seed]
            kept, _, pool = self._block(study.block.name)
            index = study.block.runs.index(run)
            (further,) = set(place.omitted) - set(omitted)
            if kept[index]["failed_at"] < 0:
                said[further] = pool[index][shown]
        return bias.seen_only(said, self.pool_labels[shown], omitted)

    def _biases(
        self,
        student: Student,
        omitted: tuple[int, ...],
        seed: int,
        run: Run,
        test: np.ndarray,
        pool: np.ndarray,
    ) -> dict[str, float]:
        biases = {"none": 0.0}
        if student in ("all_digits", "with_pool"):  # nothing to correct; and it was trained on the pool
            return biases
        biases["oracle"] = bias.best_bias(test, self.labels, omitted)
        biases["validation"] = bias.best_bias(pool, self.pool_labels, omitted)
        share = bias.share_of_omitted(self.pool_teacher, omitted)
        biases["label_free"] = bias.label_free(pool, omitted, share)
        pairs = PAIRS.get(student)
        if pairs is not None and pairs in self._students:
            fitted = list(self.pair_biases(pairs, omitted, seed, run).values())
            if fitted:
                biases["seen_only"] = float(np.median(fitted))
        return biases

    def _load(self, block: str) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
        folder = self._folder / "blocks" / block
        with np.load(folder / "logits.npz") as arrays:
            return run_directory.read_json(folder / "rows.json"), arrays["test"], arrays["holdout"]


def judge(said: bias.Labels | None, labels: bias.Labels, omitted: Sequence[int]) -> dict[str, int]:
    """Errors in all, among the omitted classes' images and their number, and by class. None: all are errors."""
    wrong = np.ones(len(labels), bool) if said is None else said != labels
    of_omitted = np.isin(labels, omitted)
    by_class = np.bincount(labels[wrong], minlength=labels.max() + 1)
    return {
        "test_errors": int(wrong.sum()),
        "omitted_errors": int(wrong[of_omitted].sum()),
        "test_images": len(labels),
        "omitted_images": int(of_omitted.sum()),
        **{f"class_{value}_errors": int(count) for value, count in enumerate(by_class)},
    }
