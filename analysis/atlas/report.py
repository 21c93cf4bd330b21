"""The atlas from logits to its report: measures every objective, writes the page, the numbers and the figure."""

from collections.abc import Sequence
from pathlib import Path

from analysis import analysis_folder
from analysis.atlas import figures, measurements, page, pairs, table
from analysis.atlas.config import AtlasConfig
from analysis.atlas.identities import identities
from analysis.atlas.pairs import Pairs
from analysis.atlas.table import Atlas
from kdjax import objectives, run_folders
from kdjax.errors import require
from kdjax.files import write_csv, write_whole
from kdjax.objectives import Objective
from kdjax.progress import say


def write(config: AtlasConfig) -> Path:
    """Measures and writes everything; returns the folder, OUT/objectives/NAME."""
    chosen, measured_on = _objectives(config.objectives), _pairs(config)
    if measured_on.logprobs:
        chosen = _shift_invariant(chosen, bool(config.objectives))
    folder = config.out / "objectives" / measured_on.name
    analysis_folder.make(folder, measured_on.source)
    say(f"logits: {measured_on.where}")
    atlas = measure(chosen, measured_on)
    lines = table.frame(atlas)
    text = page.markdown(atlas, lines, list(identities(_followed(measured_on))))
    write_csv(folder / "objectives.csv", atlas.curves)
    write_csv(folder / "table.csv", lines)
    write_whole(folder / "objectives.md", text)
    analysis_folder.note_command(folder, "objectives.md", measured_on.where, measured_on.source)
    figures.draw(folder, atlas, lines)
    say(f"written: {folder}")
    return folder


def measure(chosen: Sequence[Objective], measured_on: Pairs) -> Atlas:
    """Everything about these objectives but the identities, which are about the registry."""
    curves = measurements.measure(chosen, measured_on.pairs)
    pair = _followed(measured_on)
    kinds = {str(objective): measurements.what_it_becomes(objective, pair) for objective in chosen}
    reasons = {str(objective): objective.limit for objective in chosen if not callable(objective.limit)}
    return Atlas(measured_on, curves, measurements.summary(curves, measured_on.pairs), kinds, reasons)


def _followed(measured_on: Pairs) -> pairs.Pair:
    return next(pair for pair in measured_on.pairs if pair.name == measured_on.followed)


def _pairs(config: AtlasConfig) -> Pairs:
    if config.logits is not None:
        return pairs.file_pair(config.logits, config.columns)
    if config.run is None:
        return pairs.random_pairs()
    return pairs.run_pairs(run_folders.named_run(config.run, config.out, "temperature_sweep"))


def _objectives(names: Sequence[str]) -> list[Objective]:
    """Those that are asked for, or all but controls."""
    every = [name for name, one in objectives.OBJECTIVES.items() if not one.control]
    chosen = [objectives.parse(name) for name in names or every]
    require(len(set(map(str, chosen))) == len(chosen), "--objectives names one twice: give each once")
    return chosen


def _shift_invariant(chosen: list[Objective], named: bool) -> list[Objective]:
    """Without those that log-probabilities do not determine. Raises BadInput: one of them was asked for by name."""
    shifted = ", ".join(str(objective) for objective in chosen if not objective.shift_invariant)
    needs = f"{shifted} changes with a shift of the logits, which log-probabilities do not say"
    require(not (named and shifted), f"--objectives {needs}: give the logits themselves, or leave it out")
    if shifted:
        say(f"left out: {needs}")
    return [objective for objective in chosen if objective.shift_invariant]
