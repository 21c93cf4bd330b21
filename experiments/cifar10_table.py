"""Small, big and distilled networks on CIFAR-10: `python -m experiments.cifar10_table`

The blog post's table: two convolutional networks of 770,378 and 3,844,938 parameters (at full width) on hard labels;
the small one distilled from the big one at T = 10 with soft weight 0.9; beside it the control `double_softmax`, a
student of the teacher's probabilities taken for logits, and others on request. `--temperatures 1 2 4 10 20 inf` adds
what temperature does. And the same of networks that are better in fewer minutes, `--preset fast`: errors against T,
each setting's learning rate and soft weight chosen on the hold-out by seeds of their own.

The last 5,000 training images are held out: no network learns from them. Where images are augmented, the teacher is
queried, at each step, about the image as the student sees it; with `--augment none` its logits are looked up.
`--preset cpu`, `full` and `fast` are meant for two cores, in pieces by resume; `post` (the post's recipe) for a GPU.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cifar10.config import PRESETS, TableConfig
from experiments.cifar10.members import first_choices, members, tuned_members
from kdjax import cli
from kdjax.errors import BadInput, require, require_known
from kdjax.files import write_arrays

if TYPE_CHECKING:
    from analysis.tuning import Choice
    from experiments.study import Study
    from kdjax.forecast import Forecast

PROG = "python -m experiments.cifar10_table"


def prepare(config: TableConfig) -> "Study":
    """Reads the data and refuses what cannot work, before any training."""
    from experiments import study
    from kdjax import datasets, models, sweeps
    from kdjax.progress import say
    from kdjax.run_folders import span

    datasets.require_named(config.data, "cifar10_table")
    require_known("dataset", config.data.dataset, datasets.names())
    spec = datasets.CATALOG.get(config.data.dataset)
    if spec is None or spec.shape[2] != 3:  # the bundled digits have none
        raise BadInput(
            f"--dataset {config.data.dataset} is grey-scale: this table is of networks for colour images (3 channels); "
            "give cifar10"
        )
    first = members(config)[0].config
    for recipe in (config.teacher().train_config(1), first.student(config.units("small"), 1)):
        try:
            network = models.network(recipe, spec.shape, len(spec.class_names))
        except BadInput as error:
            given = f"--width-multiplier {config.width_multiplier:g} is not allowed: " * (config.networks == "post")
            raise BadInput(f"{given}{error}") from None
    sweep = sweeps.prepare(first)
    if config.preset == "fast" and len(sweep.loaded) > 1:
        given = f"the {len(sweep.loaded)} given teachers are one ensemble"
        say(f"{given}: --each-teaches is for those that are trained")
    for teacher in sweep.loaded:
        told = "leave out" if config.mirrored_views else "give"
        same = teacher.config.mirrored_views == config.mirrored_views
        require(same, f"{teacher.folder} and the table differ in mirrored views: {told} --mirrored-views")
    fingerprints, parameters = sweep.identity["teachers"], models.parameter_count(network)
    words = [f"{config.network('small')}{config.units('small')}", span([config.temperature, *config.temperatures], "T")]
    kind = config.network("small")
    return study.prepare("cifar10_table", words, config, sweep.dataset, kind, fingerprints, parameters=parameters)


def run(table: "Study") -> Path:
    """Finds or trains the big networks and runs every sweep; writes where each is. Returns the folder."""
    import numpy as np

    from analysis import tuning
    from analysis.cifar10 import table as summary
    from experiments import study
    from experiments.cifar10 import evaluations
    from kdjax import metrics, run_directory, sweeps, teachers
    from kdjax.run_folders import sweep_folder

    config, dataset = table.config, table.dataset
    splits = {"test": dataset.test} | ({"holdout": dataset.holdout} if len(dataset.holdout.images) else {})
    with run_directory.opened(table.folder, table.identity, table.run.fresh) as record:
        loaded = [teachers.load(folder, dataset) for folder in config.teacher_from]
        networks = loaded or study.train_teachers(config.teacher(), config.teachers, table)
        teaching = len(loaded) or 1  # the first so many
        arrays = {f"{name}_labels": split.labels for name, split in splits.items()}
        logits = {name: np.stack([one.logits(split.images) for one in networks]) for name, split in splits.items()}
        arrays |= {f"{name}_logits": teachers.mean_logits(tables[:teaching]) for name, tables in logits.items()}
        write_arrays(table.folder / "teacher.npz", **arrays)
        described = [
            {
                **{"name": one.name, "network": one.config.network, "epochs": one.config.epochs},
                "parameters": one.info["parameters"],
                **{name: metrics.evaluate(logits[name][index], split.labels) for name, split in splits.items()},
            }
            for index, one in enumerate(networks)
        ]
        teacher = {name: metrics.evaluate(arrays[f"{name}_logits"], split.labels) for name, split in splits.items()}
        details = {"networks": described, "teacher": teacher, "taught_by": teaching, "answers": []}
        sweeps.describe(record, config, dataset, **details)
        entries = study.run_members(table, record, members(config), summary.write_summary)
        if config.is_tuned:
            tuned = [sweep_folder(table.folder, entry["run"]) for entry in entries]
            choices = [choice for folder in tuned for choice in tuning.choices_in(folder)]
            study.run_members(table, record, tuned_members(config, choices), summary.write_summary, entries)
        if config.batch_statistics:
            evaluations.write_batch_statistics(table.folder, dataset, networks, teaching)
        record.seal(("config.json", "teacher.npz", "batch_statistics.csv"))
    return table.folder


def forecast(table: "Study") -> "Forecast":
    """What would run and cost, one line per sweep; students that serve twice are counted once."""
    from experiments import study
    from kdjax.forecast import Forecast
    from kdjax.progress import clock

    config = table.config
    asked = [*members(config), *(tuned_members(config, known_choices(table)) if config.is_tuned else [])]
    compiled = set[Any]()
    further = list(study.forecast_teachers(table, config.teacher(), range(1, config.teachers), compiled))
    of_sweeps = list(study.forecast_members(table, asked, [name for *_, name in further], compiled))
    more = "more where the best rate lies at an edge of those given: then further ones are tried"
    lines, total = [line for line, _ in of_sweeps], sum(seconds for _, seconds in of_sweeps)
    if missing := [seconds for _, seconds, _ in further if seconds]:
        lines.append(f"further big networks: {len(missing)}, about {clock(sum(missing))}")
    total += sum(missing)
    lines += [more] * config.is_tuned
    return Forecast("\n".join([*lines, f"in all about {clock(total)} on this device"]), total)


def known_choices(table: "Study") -> list["Choice"]:
    """What the tuning sweeps chose, if they are finished; else what they might."""
    from analysis import tuning
    from experiments import study
    from kdjax.files import MANIFEST

    choices = list[tuning.Choice]()
    for member in members(table.config):
        sweep = study.prepare_sweep(table, member.config)
        finished = (sweep.folder / MANIFEST).exists()
        choices += tuning.choices_in(sweep.folder) if finished else first_choices(sweep.config)
    return choices


def main(config: TableConfig) -> None:
    """Makes the table (or resumes it), draws the figures and prints it."""
    from analysis.cifar10 import figures, table  # late, so that --help is quick
    from experiments import study

    narrower = "--small-width 8" if config.networks == "fast" else "--width-multiplier 0.25"
    shorter = f"fewer --epochs or --seeds, or {narrower}"
    study.execute(prepare(config), run, forecast, table.write_summary, figures.draw, shorter)


if __name__ == "__main__":
    cli.run(main, TableConfig, PROG, presets=PRESETS)
