"""`kdjax.distil`: from arrays to students at several temperatures, from several seeds."""

import functools
import math
import re
from collections.abc import Sequence
from numbers import Real
from typing import Any

import jax
import numpy as np
import pandas as pd

from kdjax import grids, mistakes, models, scheduling, students, transfer
from kdjax.config import SweepConfig, TrainConfig
from kdjax.datasets import Dataset, Split
from kdjax.distilled import Distillation, Student
from kdjax.errors import BadInput, require
from kdjax.inputs import Examples, read_examples
from kdjax.progress import Progress, say, warn
from kdjax.students import Block
from kdjax.transfer import DistillationData

HELD_OUT = 5
"""Where no test set is given, one example of so many is held out in each class."""
FEW_TESTED = 100
"""Of fewer test examples a right teacher may look shuffled by chance."""
RECIPE = ("network", "optimizer", "schedule", "input_dropout", "hidden_dropout", "max_norm", "average", "precision")
"""Further fields of `kdjax.config.TrainConfig` that `distil` takes."""
ARGUMENTS = {"learning-rates": "learning_rate", "widths": "hidden", "no-hard-labels": "hard_labels=False"}
"""Options of a sweep that have another name here."""


def distil(
    inputs: Any,
    labels: Any,
    teacher_logits: Any,
    *,
    test: Sequence[Any] | None = None,
    temperatures: Sequence[float] | float = (1.0, 2.0, 4.0, 8.0, math.inf),
    objectives: Sequence[str] | str = ("kd",),
    soft_weights: Sequence[float] | float = 1.0,
    hard_labels: bool = True,
    learning_rate: float | None = None,
    seeds: int = 5,
    hidden: Sequence[int] = (300, 300),
    epochs: int = 20,
    batch_size: int = 256,
    **recipe: Any,
) -> Distillation:
    """Trains students on a teacher's logits: every seed at every setting, and each seed on hard labels alone.

    A seed fixes initial weights and batches, whatever the setting, so that differences are paired. Arrays are NumPy's,
    JAX's or PyTorch's, or paths (`kdjax.inputs`). Everything is checked before anything is trained.

    Args:
        inputs: images `[n, height, width, channels]` or `[n, height, width]`, or features `[n, d]`. uint8 is divided by
            255; floats are used as they are.
        labels: class numbers `[n]` from 0.
        teacher_logits: `[n, classes]`.
        test: (inputs, labels) or (inputs, labels, teacher_logits) to test on; None: every fifth example of each class
            is held out for it.
        temperatures: T of the soft targets, above 0; inf is the limit.
        objectives: what students minimise, such as `"kd"`, `"mse"` (which has no temperature: it is trained once for
            each soft weight) or `"dkd(beta=2)"` (`kdjax.objectives.OBJECTIVES`).
        soft_weights: weights w in (0, 1]: the loss is w·soft + (1 − w)·CE.
        hard_labels: also train on the labels alone, the baseline.
        learning_rate: peak learning rate; None: 0.001 for adam, 0.02 for sgd, 0.3 for nesterov.
        seeds: their number.
        hidden: units of each hidden layer.
        epochs: passes over the examples.
        batch_size: examples a step.
        recipe: further fields of `kdjax.config.TrainConfig`: network, optimizer, schedule, input_dropout,
            hidden_dropout, max_norm, average, precision.

    Rows that are in the training and in the test set are warned of, and so is what may be a mistake.

    Raises:
        BadInput: something given cannot be used: what, and what to do; the teacher's rows or classes are in another
            order than the labels.
    """
    data = _data(inputs, labels, teacher_logits, test)
    names = (objectives,) if isinstance(objectives, str) else objectives
    listed = isinstance(names, (tuple, list)) and all(isinstance(name, str) for name in names)
    require(listed, f"objectives {objectives!r} is not allowed: give a name, or a list of names")
    whole = {"seeds": seeds, "epochs": epochs, "batch_size": batch_size}
    for name, value in whole.items():
        require(_is_whole(value), f"{name} {value!r} is not allowed: give a whole number")
    sizes = isinstance(hidden, (tuple, list)) and all(map(_is_whole, hidden))
    require(sizes, f"hidden {hidden!r} is not allowed: give the units of each hidden layer, such as (300, 300)")
    rates = () if learning_rate is None else _numbers("learning_rate", learning_rate)
    several = f"learning_rate {learning_rate!r} is not allowed: give one number; rates are compared by several calls"
    require(learning_rate is None or len(rates) == 1, several)
    require(isinstance(hard_labels, bool), f"hard_labels {hard_labels!r} is not allowed: give True or False")
    names = tuple(names)
    unknown, known = ", ".join(sorted(recipe.keys() - set(RECIPE))), ", ".join(RECIPE)
    require(not unknown, f"distil takes no {unknown}: further arguments are {known}")
    for name, value in recipe.items():
        kind = type(getattr(TrainConfig, name))
        fits = isinstance(value, str) if kind is str else isinstance(value, Real) and not isinstance(value, bool)
        require(fits, f"{name} {value!r} is not allowed: give {'a name' if kind is str else 'a number'}")
    try:
        student = TrainConfig(tuple(hidden), epochs, batch_size, **recipe)
        grid = SweepConfig(
            temperatures=_numbers("temperatures", temperatures),
            soft_weights=_numbers("soft_weights", soft_weights),
            objectives=names,
            hard_labels=hard_labels,
            learning_rates=rates,
            optimizer=student.optimizer,
            seeds=seeds,
            epochs=epochs,
            batch_size=batch_size,
        )
        blocks = _blocks(grids.with_checked_objectives(grid), student, data)
    except BadInput as error:  # which names options
        raise BadInput(re.sub(r"--([a-z][a-z-]*)", _argument, str(error))) from None
    return _trained(blocks, data)


def _argument(option: re.Match[str]) -> str:
    return ARGUMENTS.get(option[1], option[1].replace("-", "_"))


def _data(inputs: Any, labels: Any, teacher_logits: Any, test: Any) -> DistillationData:
    """The arrays, checked, as a dataset with its teacher's logits."""
    train = read_examples("", inputs, labels, teacher_logits)
    logits: Any = train.teacher_logits
    classes = int(logits.shape[1])
    right = float(np.mean(logits.argmax(axis=1) == train.labels))
    say(f"the teacher is right on {100 * right:.1f} % of {len(logits):,} examples")
    _check_teacher(train, "")
    if test is None:
        train, tested, rows = _held_out(train)
    else:
        count = len(test) if isinstance(test, (tuple, list)) else None
        given = f"test is of type {type(test).__name__}" if count is None else f"test has {count} parts"
        parts = f"{given}: give (inputs, labels) or (inputs, labels, teacher_logits)"
        require(count in (2, 3), parts)
        tested = read_examples("test ", test[0], test[1], test[2] if len(test) > 2 else None, classes)
        rows = np.arange(len(tested.inputs))
        _check_teacher(tested, "test")
    one, other = (f"{part.inputs.dtype} {list(part.inputs.shape[1:])}" for part in (train, tested))
    require(one == other, f"test inputs are {other} and inputs are {one}: give both in one type and shape")
    classes_of = mistakes.of_classes(train.labels, tested.labels, rows)
    for mistake in [*classes_of, *mistakes.of_parts(train.inputs, tested.inputs, rows)]:
        warn(mistake.text)
    splits = [Split(*part[:2]) for part in (train, tested)]
    none = Split(*(array[:0] for array in splits[0]))
    names = tuple(map(str, range(classes)))
    dataset = Dataset("arrays", classes, names, splits[0], none, splits[1], "", "arrays")
    own: Any = train.teacher_logits
    return DistillationData(dataset, "arrays", own, own[:0], tested.teacher_logits)


def _check_teacher(given: Examples, part: str) -> None:
    """Refuses or warns of what looks wrong; of few test examples it only warns, as they may look so by chance."""
    if given.teacher_logits is None:
        return
    for mistake in mistakes.of_teacher(given.teacher_logits, given.labels, part=part):
        require(not mistake.certain or (part and len(given.labels) < FEW_TESTED), mistake.text)
        warn(mistake.text)


def _held_out(given: Examples) -> tuple[Examples, Examples, np.ndarray]:
    """(what is left, the test set, its rows): the fifth of every five examples of a class, in their order, is a test
    example."""
    is_test = (pd.Series(given.labels).groupby(given.labels).cumcount() % HELD_OUT == HELD_OUT - 1).to_numpy()
    remedy = "give test=(inputs, labels)"
    require(is_test.any(), f"no class has {HELD_OUT} examples, so none can be held out to test on: {remedy}")
    count = f"{is_test.sum():,} of {len(is_test):,} examples are held out to test on"
    say(f"no test set is given: {count}, one of every {HELD_OUT} of each class")
    train, tested = (Examples(*(np.asarray(array)[chosen] for array in given)) for chosen in (~is_test, is_test))
    return train, tested, np.flatnonzero(is_test)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _numbers(name: str, given: Any) -> tuple[float, ...]:
    try:
        values = np.ravel(given)
    except ValueError:  # lists of unequal length
        values = np.array([None])
    require(values.dtype.kind in "iuf", f"{name} {given!r} is not allowed: give numbers")
    return tuple(map(float, values))


def _blocks(grid: SweepConfig, student: TrainConfig, data: DistillationData) -> list[Block]:
    """A sweep's blocks, with students of this recipe."""
    dataset = data.dataset
    count = len(dataset.train.images)
    fits = f"batch_size {student.batch_size} is more than the {count:,} training examples: give at most {count}"
    require(student.batch_size <= count, fits)
    models.network(student, dataset.input_shape, dataset.num_classes)
    return [block._replace(config=student) for block in grids.plan(grid, student.epochs, count)]


def _trained(blocks: Sequence[Block], data: DistillationData) -> Distillation:
    """Trains and evaluates every block, one after another, on the default device."""
    dataset, transfer_set = data.dataset, transfer.on_device(data)
    trained: list[Student] = []
    with Progress("students", sum(block.steps for block in blocks)) as progress:
        board = scheduling.Board(progress, 0, blocks=len(blocks))
        for block in blocks:
            report = functools.partial(board.update, block.name)
            result = students.train_block(block, data, transfer_set, None, report)
            network = models.network(block.config, dataset.input_shape, dataset.num_classes)
            params, model_state = models.unpack_variables(network, result.params)
            for index, row in enumerate(result.rows):
                loss = result.history[(index + 1) * block.config.epochs - 1]["loss"]
                row = {name: value for name, value in row.items() if name not in ("width", "teacher")}
                row["train_loss"] = loss
                own = jax.tree.map(lambda leaf: leaf[index : index + 1], (params, model_state))  # noqa: B023
                trained.append(Student(row, network, own, dataset.train.images.dtype))
    table = pd.DataFrame([student.row for student in trained]).astype({"temperature": float})
    return Distillation(table, tuple(trained), len(dataset.test.labels))
