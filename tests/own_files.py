"""Small files such as users have, in every format, with a teacher that knows something."""

from pathlib import Path

import numpy as np

ROWS, CLASSES, WIDTH = 300, 4, 6
FORMATS = ("npz", "compressed.npz", "safetensors", "parquet", "folder")


def columns(**changes) -> dict[str, np.ndarray]:
    """Features of four overlapping classes, labels, and the log-probabilities of their true model; None leaves out."""
    random = np.random.default_rng(0)
    centres, labels = random.normal(0, 1.5, (CLASSES, WIDTH)), random.integers(0, CLASSES, ROWS)
    features = (centres[labels] + random.normal(0, 1, (ROWS, WIDTH))).astype(np.float32)
    logits = -((features[:, None] - centres) ** 2).sum(axis=2) / 2
    logprobs = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
    given = {"features": features, "labels": labels, "teacher_logprobs": logprobs, **changes}
    return {name: array for name, array in given.items() if array is not None}


def largest(k: int, logprobs: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Columns of the teacher's largest k classes, in place of all."""
    logprobs = columns()["teacher_logprobs"] if logprobs is None else logprobs
    indices = np.argsort(-logprobs, axis=1)[:, :k]
    values = np.take_along_axis(logprobs, indices, axis=1)
    return {"teacher_logprobs": None, "teacher_topk_logprobs": values, "teacher_topk_indices": indices}


def write(folder: Path, arrays: dict[str, np.ndarray], kind: str = "npz", name: str = "mine") -> Path:
    """Writes a file of that name in a format; text stands as numbers where a format has none."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        (folder / name).mkdir(exist_ok=True)
        for column, array in arrays.items():
            np.save(folder / name / f"{column}.npy", array)
        return folder / name
    path = folder / f"{name}.{kind.rpartition('.')[2]}"
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "compressed.npz":
        np.savez_compressed(path, **arrays)
    elif kind == "safetensors":
        from safetensors.numpy import save_file

        save_file({column: np.ascontiguousarray(numbers(array)) for column, array in arrays.items()}, path)
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({column: listed(array) for column, array in arrays.items()}), path)
    return path


def numbers(array: np.ndarray) -> np.ndarray:
    """Words as numbers: the parts of a split by their place, others in alphabetical order."""
    if array.dtype.kind != "U":
        return array
    words = ("train", "holdout", "test") if set(array) <= {"train", "holdout", "test"} else sorted(set(array))
    return np.array([list(words).index(word) for word in array])


def listed(array: np.ndarray):
    """A column of a table; of lists in lists where the array has several axes."""
    import pyarrow

    if array.ndim == 1:
        return pyarrow.array(
            array.tolist(), type=None if array.dtype.kind == "U" else pyarrow.from_numpy_dtype(array.dtype)
        )
    kind = pyarrow.from_numpy_dtype(array.dtype)
    for _ in array.shape[1:]:
        kind = pyarrow.list_(kind)
    return pyarrow.array(array.tolist(), type=kind)
