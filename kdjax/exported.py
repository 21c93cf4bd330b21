"""A trained student as arrays with flat names, and the files that take it elsewhere: NumPy, safetensors, PyTorch.

Of a multi-layer perceptron, each layer i has `dense_i/kernel` `[in, out]` and `dense_i/bias` `[out]`: units times
kernel plus bias, with ReLU between the layers. An image is one row in the order height, width, channels; bytes are
divided by 255. Other networks have their arrays as flax names and orders them: kernels of convolutions `[height, width,
in, out]`, of dense layers `[in, out]`, and below `batch_stats/` the running mean and variance of every batch norm.

Where students learnt from standardised features, `input_mean` and `input_deviation` `[in]` are there too: the network
takes (features − mean) / deviation.
"""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import kdjax
from kdjax.errors import BadInput, require
from kdjax.files import read_json
from kdjax.identity import canonical_json
from kdjax.trained import Student

Arrays = dict[str, np.ndarray]


class Format(NamedTuple):
    """How arrays are stored."""

    suffix: str
    content: Callable[[Student], bytes]
    """The whole file. Raises BadInput: the package that writes it is missing, or it cannot hold this network."""


def arrays(student: Student) -> Arrays:
    """Its parameters (float32) by flat names, with batch statistics and standardisation (float64) where it has any."""
    params, model_state = jax.tree.map(lambda leaf: leaf[0], student.variables)
    leaves, _ = jax.tree_util.tree_flatten_with_path({**params, **model_state})
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}
    if student.config.network == "mlp":
        named["dense_0/kernel"] = np.ascontiguousarray(named["dense_0/kernel"].T)  # in a block it is [out, in]
    if student.standardisation is None:
        return named
    return {**named, **{f"input_{name}": array for name, array in student.standardisation._asdict().items()}}


def state_dict(student: Student) -> Arrays:
    """What `Sequential(Linear, ReLU, Linear, …)` of PyTorch loads: `0.weight` `[out, in]`, `0.bias`, `2.weight`, …

    Standardisation is folded into the first layer, (x − m)/s · K + b = x · K/s + (b − m · K/s), so that it takes
    features as they are. Raises BadInput: the student is no multi-layer perceptron.
    """
    network = student.config.network
    remedy = f"the {network} network is exported as npz or safetensors: give --format npz"
    require(network == "mlp", f"a state_dict is written of multi-layer perceptrons alone; {remedy}")
    named, state = arrays(student), Arrays()
    for layer in range(len(student.config.hidden) + 1):
        kernel, bias = (named[f"dense_{layer}/{name}"].astype(np.float64) for name in ("kernel", "bias"))
        if layer == 0 and "input_mean" in named:
            kernel = kernel / named["input_deviation"][:, None]
            bias = bias - named["input_mean"] @ kernel
        state |= {f"{2 * layer}.weight": kernel.T, f"{2 * layer}.bias": bias}
    return {name: np.ascontiguousarray(array, np.float32) for name, array in state.items()}


def run_of(student: Student) -> Path:
    """The student's run directory, even if its blocks are a link to another place."""
    return Path(os.path.abspath(student.block)).parents[1]


def metadata(student: Student) -> str:
    """What the student is, as JSON: its row of `results.csv`, its network, its data's name, classes and shape of an
    input, the version of kdjax."""
    folder = run_of(student)
    data = read_json(folder / "config.json")["identity"]["data"]
    config = student.config
    return canonical_json(
        {
            "kdjax": kdjax.__version__,
            "run": folder.name,
            "data": data["description"],
            "student": student.row,
            "network": {"network": config.network, "hidden": config.hidden, "precision": config.precision}
            | ({"mirrored_views": True} if config.mirrored_views else {}),
            "input_shape": student.input_shape,
            "classes": data["class_names"],
        }
    )


def _npz(student: Student) -> bytes:
    buffer = io.BytesIO()
    described = np.frombuffer(metadata(student).encode(), np.uint8)
    np.savez(buffer, metadata=described, **arrays(student))  # type: ignore[arg-type]
    return buffer.getvalue()


def _safetensors(student: Student) -> bytes:
    try:
        from safetensors.numpy import save
    except ImportError:
        remedy = "pip install safetensors, or kdjax[files]; or give --format npz"
        raise BadInput(f"--format safetensors needs the package safetensors: {remedy}") from None
    return bytes(save(arrays(student), {"metadata": metadata(student)}))


def _torch(student: Student) -> bytes:
    state = state_dict(student)
    try:
        import torch
    except ImportError:
        raise BadInput("--format torch needs the package torch: pip install torch, or give --format npz") from None
    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, buffer)
    return buffer.getvalue()


FORMATS: Mapping[str, Format] = {
    "npz": Format(".npz", _npz),
    "safetensors": Format(".safetensors", _safetensors),
    "torch": Format(".pt", _torch),
}
