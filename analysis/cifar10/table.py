"""The summary of a CIFAR-10 table: its rows and paired differences."""

from pathlib import Path

import pandas as pd

from analysis import crossed, measures, stats
from analysis.cifar10 import batch_statistics, lengths
from analysis.cifar10.claims import double_softmax, verdict
from analysis.cifar10.roles import Role, SweepRole
from analysis.cifar10.rows import TableRow, big_name, rows_of_table, size, teacher_less_small
from analysis.cifar10.run import Cifar10Results, load
from analysis.measures import SPLITS
from analysis.sweep import stability
from analysis.tables import CLAIMED_NOTE, Table, columns_of, differences, estimate, number
from kdjax.errors import BadInput
from kdjax.files import write_csv, write_whole
from kdjax.objectives import words_of
from kdjax.targets import WORDS

BLOG_POST = {Role.SMALL: "85 %", Role.BIG: "90 %", Role.DOUBLE_SOFTMAX: "85 %"}
"""What the blog post reported that this table does again (single networks at full width, 300 epochs, the checkpoint
chosen on the test set); its distilled network was taught by double softmax."""


OPTIMIZERS = {"adam": "Adam", "sgd": "SGD", "nesterov": "SGD with Nesterov's momentum"}


def write_summary(folder: Path) -> str:
    """Writes `summary.md` and `table.csv` of a table's run directory; returns the former."""
    results = load(folder)
    rows = rows_of_table(results)
    sections = [
        f"# {results.title}",
        f"**{verdict(rows, results)}**",
        *(f"Warning: {caution}" for caution in stats.cautions(results.results["seed"].nunique(), [])),
        _table(rows, results),
        _differences(rows, results),
        double_softmax(results),
    ]
    sections.append(lengths.section(results))
    for sweep in results.sweeps.get(SweepRole.STABILITY, []):
        try:
            sections.append("#" + stability.write(sweep).rstrip())
        except BadInput as error:  # such as that all of its runs failed: no reason to withhold the rest
            sections.append(f"## Fluctuation from epoch to epoch\n\n{error}")
    sections.append(batch_statistics.section(results))
    text = "\n\n".join(filter(None, sections))
    write_whole(folder / "summary.md", text.rstrip() + "\n")
    lines = []
    for row in rows:
        for column, mean in row.measures.items():
            line = {"role": row.role.value, "temperature": row.temperature, "measure": column, "failed": row.failed}
            line |= {"mean": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n}
            if less := row.differences.get(column):
                line |= columns_of("from_small", less)
            lines.append(line)
    write_csv(folder / "table.csv", pd.DataFrame(lines), digits=6)
    return text


def _table(rows: list[TableRow], results: Cifar10Results) -> str:
    config, data = results.identity["config"], results.identity["data"]
    shown = {column: measures.of_column("cifar10", column) for column in results.columns}
    failed = any(row.failed for row in rows)
    of_post = results.of_post
    header = ["", "T", *(one.heading for one in shown.values()), "n", *["blog post"] * of_post, *["failed"] * failed]
    cells = []
    for row in rows:
        means = [estimate(mean, shown[column].decimals) for column, mean in row.measures.items()]
        n = str(row.measures[results.columns[0]].n) if row.measures else "0"
        alike = row.role != Role.BIG or big_name(results) == "big"  # else teachers of another kind were given
        cell = [row.name, number(row.temperature), *(means or ["failed"] * len(shown)), n]
        posted = [BLOG_POST.get(row.role, "") if alike else ""] * of_post
        cells.append([*cell, *posted, *[str(row.failed)] * failed])
    networks = {(one["parameters"], one["epochs"]): one for one in results.networks}.values()
    each = "; ".join(f"{one['network']}: {size(one)}" for one in networks)
    width = f"; width multiplier {config['width_multiplier']:g}" * of_post
    rates, own_rates = f"peak rate {config['learning_rate']:g}", config.get("tuning_rates")
    if results.given:
        rates = "" if results.choices else f"peak rate {(own_rates or [config['learning_rate']])[0]:g}"
    elif own_rates:  # one alone is the rate of all small networks
        rates += " of the big network" + ("" if results.choices else f" and {own_rates[0]:g} of the small ones")
    weight = "" if results.choices or results.soft_weight is None else f", soft weight {results.soft_weight:g}"
    recipe = [OPTIMIZERS[config.get("optimizer", "adam")], *[rates] * bool(rates), f"schedule {config['schedule']}"]
    recipe += [f"batch {config['batch_size']}", f"augmentation {config['augment']}{weight}"]
    of_whom = "The small networks: " if results.given else ""
    notes = [
        f"small: {size(config)}; {each} (batch statistics counted{width}). {of_whom}{', '.join(recipe)}."
        + " The others were given." * results.given
    ]
    if results.choices:
        chosen = "; ".join(
            f"{one.name}: {one.learning_rate:g}{' (at the edge)' * one.at_edge}" for one in results.choices
        )
        weights = "; ".join(
            f"{words_of(name) if name != 'kd' else 'soft targets'}: {weight:g}"
            for name, weight in {one.objective: one.soft_weight for one in results.choices}.items()
            if name != "hard"
        )
        by = "Chosen by other seeds on the hold-out that is reported here"
        notes.append(f"{by}: peak rates, {chosen}; soft weights, {weights}.")
    if config.get("dropout_after_norm"):
        notes.append("Dropout of the small networks: once, after the last batch norm; in the post after each pooling.")
    if config.get("mirrored_views"):
        notes.append("Every network is evaluated by the mean logits of an image and its mirror image.")
    if config["augment"] != "none":
        present = {row.role for row in rows}
        fixed = [WORDS[role.value] for role in (Role.SHUFFLED, Role.UNIFORM) if role in present]
        notes.append(
            "The teacher is queried at each step about the image as the student sees it"
            + (f"; not so for {' and '.join(fixed)}: one target an image." if fixed else ".")
        )
    teachers = results.of(Role.DISTILLED)["teacher"].nunique()
    about = "about the one teacher"
    if teachers > 1:
        about = f"over {teachers} teachers crossed with seeds, and controls about the first"
    notes += crossed.few_draws(teachers, results.results["seed"].nunique())
    if 1 < teachers < 6:
        notes.append("Which T may be best: so few teachers exclude too much where teachers change the differences.")
    notes += [
        f"Mean and 95 % t interval over seeds; those that are taught, {about}. The last epoch is what is "
        "reported. NLL, ECE (15 bins) and confidence at temperature 1.",
        *["Failed runs, whose loss was no number, are left out of the means; of several teachers, their seeds."]
        * failed,
    ]
    if data["holdout"]:
        notes.append(f"No network is trained on the {data['holdout']:,} training images that are held out.")
    if of_post:
        notes.append(
            "Blog post: single networks at full width after 300 epochs of a constant rate, the checkpoint chosen on "
            "all 10,000 test images. What it calls distilled is double softmax."
        )
    return Table(header, cells, notes, left=1).markdown()


def _differences(rows: list[TableRow], results: Cifar10Results) -> str:
    paired = [row for row in rows if row.differences]
    if not paired:
        return ""
    shown = {column: measures.of_column("cifar10", column) for column in results.columns}
    smoothed = any(row.from_smoothing for row in paired)
    against = [f"{next(iter(shown.values())).heading.split(',')[0]} minus label smoothing's, points"] * smoothed
    header = [
        "minus small on hard labels, paired by seed",
        "T",
        *(one.heading for one in shown.values()),
        *against,
        "n",
    ]
    texts = {
        name: _cells(paired, [row.differences.get(name) for row in paired], shown[name].decimals) for name in shown
    }
    if smoothed:
        texts["from_smoothing"] = _cells(paired, [row.from_smoothing for row in paired], 2)
    cells = [
        [row.name, number(row.temperature), *of_row, str(row.differences[results.columns[0]].n)]
        for row, *of_row in zip(paired, *texts.values(), strict=True)
    ]
    notes = [
        f"The teacher minus the small networks on hard labels, {SPLITS[split]}: {estimate(gap, 2, sign=True)} "
        f"points of accuracy; interval over the {gap.n:,} images, about these networks."
        for split, gap in sorted(teacher_less_small(results).items())
    ]
    notes.append(
        f"Accuracies in percentage points. {CLAIMED_NOTE} Only distilled networks are marked; intervals are not "
        "corrected."
    )
    return "## Differences\n\n" + Table(header, cells, notes, left=1).markdown()


def _cells(rows: list[TableRow], column: list[stats.Difference | None], decimals: int) -> list[str]:
    """A column of differences, of which those of distilled networks are marked where they are claimed."""
    tested = [one if row.role == Role.DISTILLED else None for row, one in zip(rows, column, strict=True)]
    plain = [estimate(one, decimals, sign=True) if one else "" for one in column]
    return [marked or text for marked, text in zip(differences(tested, decimals), plain, strict=True)]
