"""From the blocks of an omission run to `results.csv`: each student under each bias correction, a row each."""

import functools
import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdjax import bias, omission, run_directory
from kdjax.config import OmissionStudent
from kdjax.files import read_json, write_arrays, write_csv, write_whole
from kdjax.identity import canonical_json
from kdjax.students import Block, Run
from kdjax.transfer import DistillationData

EXAMPLES = 8
"""Test images of each class that are stored to look at: the first ones, not chosen ones."""

PAIRS: dict[OmissionStudent, OmissionStudent] = {"distilled": "pairs", "control": "control_pairs"}
"""The students from whose pairs another's seen_only bias is computed."""


def write_images(folder: Path, data: DistillationData) -> None:
    """Writes what corrections and figures need beside the blocks: `test.npz`, with the pool's labels in it too."""
    (images, labels), classes = data.dataset.test, range(data.dataset.num_classes)
    rows = np.concatenate([np.flatnonzero(labels == value)[:EXAMPLES] for value in classes])
    test = {"labels": labels, "teacher_logits": data.test_logits}
    pool = {"pool_labels": data.dataset.holdout.labels, "pool_teacher_logits": data.holdout_logits}
    examples = {"example_images": images[rows], "example_rows": rows}
    write_arrays(folder / "test.npz", **test, **pool, **examples)


def write_results(folder: Path, blocks: Sequence[Block], finished: Collection[str]) -> None:
    """Writes `results.csv` and `history.jsonl` from those blocks of the plan that are finished. A student has rows once
    all blocks are there from which it is corrected."""
    import pandas as pd  # late: a third of a second

    config = read_json(folder / "config.json")["identity"]["config"]
    reader, rows = Reader(folder, blocks, config["students"]), list[dict[str, Any]]()
    for omitted, student, seed in itertools.product(config["omitted"], config["students"], range(config["seeds"])):
        if reader.blocks_behind(student, tuple(omitted), seed) <= set(finished):
            rows += reader.rows(student, tuple(omitted), seed)
    if not rows:
        return
    write_csv(folder / "results.csv", pd.DataFrame(rows))
    lines = []
    for block in [block for block in blocks if block.name in finished]:
        names = {"kind": block.transfer.variant, "without": name_classes(block.transfer.omitted)}
        history = read_json(folder / "blocks" / block.name / "history.json")
        lines += [canonical_json({**names, **line}) + "\n" for line in history]
    write_whole(folder / "history.jsonl", "".join(lines))


def name_classes(classes: Sequence[int]) -> str:
    """Classes as a cell of the table: "3 5"; "none" where there are none."""
    return " ".join(map(str, classes)) or "none"


class Reader:
    """Reads the students of a run directory and corrects them."""

    def __init__(self, folder: Path, blocks: Sequence[Block], students: Sequence[OmissionStudent]):
        self._folder, self._students = folder, students
        self._blocks = {block.name: block for block in blocks}
        with np.load(folder / "test.npz") as arrays:
            self.labels, self.pool_labels = arrays["labels"], arrays["pool_labels"]
            self.pool_teacher = arrays["pool_teacher_logits"]
        self.num_classes = self.pool_teacher.shape[1]
        self._stored = functools.lru_cache(maxsize=64)(self._load)

    def blocks_behind(self, student: OmissionStudent, omitted: tuple[int, ...], seed: int) -> set[str]:
        """Names of the blocks that hold a student, and the pairs from which its bias is computed."""
        transfers = omission.transfers(student, omitted, self.num_classes)
        if (pairs := PAIRS.get(student)) in self._students and pairs:
            transfers += omission.transfers(pairs, omitted, self.num_classes)
        return {omission.block_name(transfer, seed) for transfer in transfers}

    def rows(self, student: OmissionStudent, omitted: tuple[int, ...], seed: int) -> Iterator[dict[str, Any]]:
        """The rows of a student: each of its settings under each correction that it can be given."""
        for transfer in omission.transfers(student, omitted, self.num_classes):
            block = self._blocks[omission.block_name(transfer, seed)]
            rows, test, pool = self._stored(block.name)
            for index, run in enumerate(block.runs):
                if (run.objective == "hard") != omission.learns_hard_labels(student):
                    continue
                columns = {name: rows[index][name] for name in (*run_directory.ORDER, "epochs", "failed_at")}
                without, place = name_classes(transfer.omitted), {"block": block.name, "place": index}
                names = {"omitted": name_classes(omitted), "student": student, "without": without, **columns, **place}
                if rows[index]["failed_at"] >= 0:  # no logits to correct
                    yield {**names, "correction": "none", "bias": 0.0, **count_errors(None, self.labels, omitted)}
                    continue
                if student in PAIRS.values():
                    (further,) = set(transfer.omitted) - set(omitted)
                    biases = {"fitted": self.pair_biases(student, omitted, seed, run)[further]}
                else:
                    biases = self.biases(student, omitted, seed, run, test[index], pool[index])
                for correction, value in biases.items():
                    # A student that saw all classes has none to raise, and bias 0.
                    answers = bias.answers(test[index], transfer.omitted or omitted, value)
                    errors = count_errors(answers, self.labels, omitted)
                    yield {**names, "correction": correction, "bias": value, **errors}

    def pair_biases(self, student: OmissionStudent, omitted: tuple[int, ...], seed: int, run: Run) -> dict[int, float]:
        """For each seen class the bias that it would have needed; no image of an omitted class is read."""
        shown = ~np.isin(self.pool_labels, omitted)
        logits = {}
        for transfer in omission.transfers(student, omitted, self.num_classes):
            block = self._blocks[omission.block_name(transfer, seed)]
            rows, _, pool = self._stored(block.name)
            index = block.runs.index(run)
            (further,) = set(transfer.omitted) - set(omitted)
            if rows[index]["failed_at"] < 0:
                logits[further] = pool[index][shown]
        return bias.seen_only(logits, self.pool_labels[shown], omitted)

    def biases(
        self,
        student: OmissionStudent,
        omitted: tuple[int, ...],
        seed: int,
        run: Run,
        test: np.ndarray,
        pool: np.ndarray,
    ) -> dict[str, float]:
        """By correction, the bias it chooses: `oracle` on the test images, the others on the pool."""
        biases = {"none": 0.0}
        if student in ("all_digits", "with_pool"):  # nothing to correct; and it was trained on the pool
            return biases
        biases["oracle"] = bias.best_bias(test, self.labels, omitted)
        biases["validation"] = bias.best_bias(pool, self.pool_labels, omitted)
        biases["label_free"] = bias.label_free(pool, omitted, bias.share_of_omitted(self.pool_teacher, omitted))
        pairs = PAIRS.get(student)
        if pairs and pairs in self._students and (fitted := self.pair_biases(pairs, omitted, seed, run)):
            biases["seen_only"] = float(np.median(list(fitted.values())))
        return biases

    def _load(self, block: str) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
        folder = self._folder / "blocks" / block
        test, pool = (run_directory.read_logits(folder, split) for split in ("test", "holdout"))
        return run_directory.read_rows(folder), test, pool


def count_errors(answers: bias.Labels | None, labels: bias.Labels, omitted: Sequence[int]) -> dict[str, int]:
    """Errors and images, in all and among the omitted classes, and errors by class. `answers` None: all are errors."""
    wrong = np.ones(len(labels), bool) if answers is None else answers != labels
    of_omitted = np.isin(labels, omitted)
    by_class = np.bincount(labels[wrong], minlength=labels.max() + 1)
    errors = {"test_errors": int(wrong.sum()), "omitted_errors": int(wrong[of_omitted].sum())}
    images = {"test_images": len(labels), "omitted_images": int(of_omitted.sum())}
    return {**errors, **images, **{f"class_{value}_errors": int(count) for value, count in enumerate(by_class)}}
