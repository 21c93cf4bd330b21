"""The results of a CIFAR-10 table, read from its run directory and those of the sweeps that it names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis import measures, runs, tuning
from analysis.cifar10.roles import Role, SweepRole
from analysis.measures import SPLITS
from analysis.tuning import Choice
from kdjax import run_directory
from kdjax.errors import BadInput, require
from kdjax.files import check_seal
from kdjax.run_folders import sweep_folder

APART = {SweepRole.STABILITY, SweepRole.TUNING, SweepRole.LENGTHS}
"""Sweeps that are no rows of the table."""


class Cifar10Results(NamedTuple):
    """What a table's sweeps have trained, and its big networks."""

    folder: Path
    identity: dict[str, Any]
    networks: list[dict[str, Any]]
    """Each big network: name, network, epochs, parameters, and its measures on `test` and (with one) `holdout`."""
    taught_by: list[dict[str, Any]]
    """Those whose mean logits are `teacher`: the first, or all members of an ensemble."""
    teacher: dict[str, Any]
    """The measures of what teaches: of the one network, or of the ensemble."""
    sweeps: dict[str, list[Path]]
    """`SweepRole` → run directories; those of `APART` are not in `results`."""
    results: pd.DataFrame
    """The small networks: `results.csv` of all sweeps, with a column role, and the table's measures of both splits."""
    lengths: pd.DataFrame
    """The same of the small networks of other numbers of epochs; without rows where there are none."""
    choices: list[Choice]
    """The rates and soft weight chosen on the hold-out; empty where all have the same."""
    columns: list[str]
    """Those that the table shows: both accuracies, and the rest on the hold-out if there is one."""
    given: bool = False
    """Whether the big networks were given, and have a recipe of their own."""

    def of(self, role: Role | str) -> pd.DataFrame:
        """The runs of a role, failed ones too.

        Raises:
            ValueError: there is no such role.
        """
        return self.results[self.results["role"] == Role(role).value]

    @property
    def of_post(self) -> bool:
        """Whether the table's networks are those of the blog post; else they are fast ones."""
        return bool(self.identity["config"].get("networks", "post") == "post")

    @property
    def temperature(self) -> float:
        """T of the distilled row and of the controls; ∞ stands in the config as text."""
        return float(self.identity["config"]["temperature"])

    @property
    def soft_weight(self) -> float | None:
        """That of soft targets: given, or chosen on the hold-out; None where nothing could be chosen."""
        config = self.identity["config"]
        chosen = [one.soft_weight for one in self.choices if one.objective == "kd"]
        if not chosen and SweepRole.TUNING in self.sweeps:
            return None
        return float((chosen or config.get("tuning_weights") or [config["soft_weight"]])[0])

    @property
    def first_teacher(self) -> str:
        """Who taught the students of which a figure or table has one teacher's alone."""
        members = len(self.taught_by)
        if self.results["teacher"].nunique() > 1:
            return "the first teacher"
        return "one teacher" if members == 1 else f"an ensemble of {members} teachers"

    @property
    def split(self) -> str:
        """The split of the first column: that of the figures."""
        return self.columns[0].split("_", 1)[0]

    @property
    def title(self) -> str:
        """What was done, on which images: it stands wherever a number does."""
        described = f"Small, big and distilled networks on {self.identity['data']['description']}"
        return ", ".join(filter(None, [described, run_directory.progress(self.folder)]))


def load(folder: Path) -> Cifar10Results:
    """Reads a table's run directory and the sweeps that it names.

    Raises:
        BadInput: it is none, or one of its sweeps is missing or damaged.
    """
    config = runs.read_config(folder, "cifar10_table")
    check_seal(folder)
    try:
        identity, details = config["identity"], config["details"]
        sweeps = dict[str, list[Path]]()
        for entry in details["answers"]:
            sweeps.setdefault(entry["role"], []).append(sweep_folder(folder, entry["run"]))
        networks, teacher = details["networks"], details["teacher"]
        taught_by = networks[: int(details["taught_by"])]
        images = {"test": int(identity["data"]["test_images"]), "holdout": int(identity["data"]["holdout"])}
        for network in (*networks, teacher):
            for split in SPLITS.keys() & network.keys():
                evaluated = of_evaluation(network[split], split, images[split])
                network[split] |= {name.removeprefix(f"{split}_"): value for name, value in evaluated.items()}
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{folder} is no finished run of cifar10_table: give the experiment's command again") from None
    results = _rows([(role, one) for role in sweeps if role not in APART for one in sweeps[role]], images)
    require(len(results), f"{folder} holds no finished sweep yet: give the experiment's command again")
    lengths = _rows([(SweepRole.TEACHER, one) for one in sweeps.get(SweepRole.LENGTHS, [])], images)
    choices = [choice for one in sweeps.get(SweepRole.TUNING, []) for choice in tuning.choices_in(one)]
    watched = "holdout" if images["holdout"] else "test"
    columns = [f"{split}_accuracy" for split in SPLITS if images[split]]
    columns += [column for column in measures.columns("cifar10", watched) if column not in columns]
    given = bool(details.get("config", {}).get("teacher_from"))
    return Cifar10Results(
        folder, identity, networks, taught_by, teacher, sweeps, results, lengths, choices, columns, given
    )


def _rows(sweeps: Sequence[tuple[str, Path]], images: Mapping[str, int]) -> pd.DataFrame:
    """The students of sweeps, given with their roles, with a column role and the table's measures."""
    parts = []
    for role, sweep in sweeps:
        rows = runs.read(sweep)
        try:
            parts.append(rows.assign(role=[role_of(role, objective).value for objective in rows["objective"]]))
        except ValueError as error:
            older = f"{sweep} was trained by another version of kdjax ({error})"
            raise BadInput(f"{older}: give the experiment's command again") from None
    if not parts:
        return pd.DataFrame()
    results = pd.concat(parts, ignore_index=True)
    for split in [split for split in SPLITS if images[split]]:
        results = measures.add("cifar10", results.assign(**{f"{split}_images": images[split]}), split)
    return results


def role_of(sweep_role: SweepRole | str, objective: str) -> Role:
    """The row of the table to which a student belongs."""
    role = SweepRole(sweep_role)
    if objective == "kd":
        return Role.DISTILLED if role in (SweepRole.TEACHER, SweepRole.TEMPERATURES) else Role(role.value)
    return Role.SMALL if objective == "hard" else Role(objective.partition("(")[0])


def of_evaluation(evaluation: Mapping[str, Any], split: str, images: int) -> dict[str, float]:
    """The table's measures, by column, from an evaluation (`kdjax.metrics`) on so many images of a split."""
    row = {f"{split}_{name}": value for name, value in evaluation.items()}
    return measures.of_row("cifar10", {**row, f"{split}_images": images}, split)
