"""Arrays that a user gives: read, checked, and brought into the form in which they are trained on.

Each is a NumPy or JAX array, what `numpy.asarray` makes one of (a PyTorch tensor, a list), or a file: a path to
`NAME.npy`, or to one of several arrays (`array_files.read_arrays`) with the array's name after a colon,
`mine.npz:labels`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int32

from kdjax import array_files
from kdjax.arrays import HostImages, HostLogits
from kdjax.errors import BadInput, name_rows, require
from kdjax.faults import Faults

CHANNELS = (1, 3)
"""Of grey and colour images."""
BEYOND = 1e-3
"""By how much floats from 0 to 1 may lie outside: resizing rounds."""
MOST_CLASSES = 2**24
"""Labels above are none."""


class Examples(NamedTuple):
    """Inputs with labels, and the teacher's logits for them."""

    inputs: HostImages
    labels: Int32[np.ndarray, "examples"]
    teacher_logits: Float[np.ndarray, "examples classes"] | None
    """None where the teacher was not asked about them."""


def read(name: str, given: Any) -> np.ndarray:
    """The array that a user gives as `name`. Raises BadInput: a file that is missing, damaged or holds no such array;
    what is no array of numbers."""
    if isinstance(given, (str, Path)):
        return _of_file(name, str(given))
    try:
        array = np.asarray(given)
    except Exception as error:  # whatever its own library raises
        reason = str(error).partition("\n")[0]
        raise BadInput(f"{name}: {type(given).__name__} is no array ({reason}): give a NumPy array") from None
    numbers = array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"
    kind = f"an array of {array.dtype}" if isinstance(given, np.ndarray) else type(given).__name__
    require(numbers and array.ndim, f"{name}: {kind} is no array of numbers: give a NumPy array")
    return array


def _of_file(name: str, given: str) -> np.ndarray:
    file, _, member = ("", "", "") if Path(given).exists() else given.rpartition(":")
    path = Path(file or given)
    kinds = f"give an array, a path to NAME.npy, or {array_files.KINDS} with a colon and the array's name"
    require(path.exists(), f"{name}: {path} does not exist: {kinds}")
    if path.suffix.lower() == ".npy":
        return array_files.read_npy(path)
    arrays = array_files.read_arrays(path)
    wanted = f"{name}: {path} holds {', '.join(arrays)}: name one of them after a colon, {path}:NAME"
    require(member in arrays, wanted)
    return arrays[member]


def read_examples(
    prefix: str, inputs: Any, labels: Any, teacher_logits: Any, num_classes: int | None = None
) -> Examples:
    """What students learn from or are tested on. Names in messages begin with `prefix`; with `num_classes`, the number
    of logits, the teacher's may be left out (None). Raises BadInput: an array is refused, or they are not of the same
    examples."""
    images = read_inputs(prefix + "inputs", inputs)
    logits = None
    if teacher_logits is not None or num_classes is None:
        logits = read_logits(f"{prefix}teacher_logits", teacher_logits, num_classes)
        num_classes = int(logits.shape[1])
    classes = read_labels(f"{prefix}labels", labels, num_classes)
    counts = {f"{prefix}inputs": len(images), f"{prefix}labels": len(classes)}
    counts |= {} if logits is None else {f"{prefix}teacher_logits": len(logits)}
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    require(len(set(counts.values())) == 1, f"unequal numbers of examples: {listed}; give each for the same examples")
    require(len(images), f"{prefix}inputs are empty: give one example or more")
    return Examples(images, classes, logits)


def read_inputs(name: str, given: Any) -> HostImages:
    """Images `[n, height, width, channels]` or `[n, height, width]` (one channel), or features `[n, d]`: as bytes
    (uint8), which are divided by 255 in training, or as floats, which are used as they are.

    Raises BadInput: another shape or type; values that are not finite; images whose channels come first; bytes of 0 and
    1 alone, which are no shares of 255; float images of whole numbers up to 255, which are bytes.
    """
    array = read(name, given)
    shapes = "give images [n, height, width, channels] or [n, height, width], or features [n, d]"
    require(
        2 <= array.ndim <= 4 and min(array.shape[1:]) > 0, f"{name} of shape {array.shape} are not allowed: {shapes}"
    )
    types = (
        f"{name} of {array.dtype} are not allowed: give uint8 (0 to 255, divided by 255) or floats (used as they are)"
    )
    require(array.dtype == np.uint8 or array.dtype.name == "bfloat16" or array.dtype.kind == "f", types)
    require_channels_last(name, array.shape)
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype == np.uint8:
        binary = f"{name} are bytes of 0 and 1 alone, and bytes are divided by 255: give floats, or multiply by 255"
        require(array.max(initial=0) != 1, binary)
        return array
    with np.errstate(over="ignore"):  # what becomes inf is refused
        array = array.astype(np.float32)
    require_finite(name, array)
    bytes_ = array.ndim == 4 and array.size and array.min() >= 0 and array.max() > 1
    whole = bytes_ and array.max() <= 255 and bool((array == np.round(array)).all())
    require(not whole, f"{name} are floats from 0 to {array.max(initial=0):g}, all whole: give uint8, or divide by 255")
    return array


def require_channels_last(name: str, shape: tuple[int, ...]) -> None:
    """Raises BadInput: images of one or three channels have them first."""
    first = len(shape) == 4 and shape[1] in CHANNELS and shape[3] not in CHANNELS
    remedy = "give [n, height, width, channels], by numpy.moveaxis(images, 1, -1)"
    require(not first, f"{name} of shape {shape} have their channels first: {remedy}")


def read_labels(
    name: str, given: Any, num_classes: int | None = None, from_one: bool = False
) -> Int32[np.ndarray, "examples"]:
    """Class numbers `[n]` from 0 to `num_classes` − 1; where that is not known (None), to the largest, and the least
    may be 1 if it is known to be right (`from_one`). Raises BadInput: another shape, type, range or count."""
    array = read(name, given)
    one_hot = array.ndim == 2 and num_classes in (None, array.shape[1])
    remedy = f"give {name}.argmax(axis=1)" if one_hot else "give one class number for each example, [n]"
    remedy = f"give {name}[:, 0]" if array.ndim == 2 and array.shape[1] == 1 else remedy
    require(array.ndim == 1, f"{name} of shape {array.shape} are not allowed: {remedy}")
    last = "" if num_classes is None else f", 0 to {num_classes - 1}"
    whole = f"{name} of {array.dtype} are not allowed: give whole numbers{last}"
    require(array.dtype.kind in "iu" or not array.size, whole)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if num_classes is None:
        counted = f"{name} begin at 1 ({name_rows(np.flatnonzero(array == 1))}) and no row has class 0"
        require(low != 1 or from_one, f"{counted}: they are counted from 1; subtract 1")
        require(high < MOST_CLASSES, f"{name} of up to {high:,} are no class numbers: count classes from 0")
        num_classes = high + 1
    else:
        ends = name_rows(np.flatnonzero(array == num_classes))
        counted = f"{name} are counted from 1 (1 to {num_classes}, and {num_classes} in {ends})"
        require((low, high) != (1, num_classes), f"{counted}: subtract 1")
    rows = np.flatnonzero((array < 0) | (array >= num_classes))
    wrong = f"{name} from {low} to {high} do not fit {num_classes} logits ({name_rows(rows)})"
    require(not len(rows), f"{wrong}: give class numbers 0 to {num_classes - 1}")
    return array.astype(np.int32)


def read_logits(name: str, given: Any, num_classes: int | None = None) -> HostLogits:
    """A teacher's logits `[n, classes]`, of any shift and scale: log-probabilities are logits too. Raises BadInput:
    another shape or type; values that are not finite; probabilities."""
    array = read(name, given)
    require_classes(name, array, num_classes)
    with np.errstate(over="ignore"):  # what becomes inf is refused
        array = np.asarray(read_raw(name, array), np.float32)
    require_finite(name, array)
    faults = Faults()
    faults.distributions(name, array)
    faults.report()
    return array


def require_classes(name: str, array: np.ndarray, num_classes: int | None = None) -> None:
    """Refuses logits that are not `[n, classes]`; None: two classes or more."""
    known = "classes" if num_classes is None else num_classes
    fits = array.ndim == 2 and array.shape[1] >= 2 and num_classes in (None, array.shape[1])
    require(fits, f"{name} of shape {array.shape} are not allowed: give [n, {known}], a logit for each class")


def read_raw(name: str, given: Any) -> np.ndarray:
    """Numbers of their own type. Raises BadInput: another type."""
    array = read(name, given)
    require(array.dtype.kind != "b", f"{name} are true or false: give numbers")
    return array


def require_finite(name: str, array: np.ndarray) -> None:
    """Raises BadInput, naming the rows, unless all values are finite."""
    faults = Faults()
    faults.finite(name, array, 0)
    faults.report()
