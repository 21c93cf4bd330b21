"""What `experiments.throughput --against torch` compares with: one student at a time, as PyTorch is written.

No experiment of its own. Both styles train a 784-W-W-10 student at T = 4 by Adam, on the mix of soft and hard labels:

    idiomatic  a shuffled DataLoader; the teacher (784-1200-1200-10) is asked at every step
    tuned      tensors in memory, the teacher's logits looked up, torch.compile, fused Adam
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from kdjax.blocks import TransferSet

TEMPERATURE, SOFT_WEIGHT = 4.0, 0.95
TEACHER = 1200
Step = Callable[[], None]


def idiomatic(width: int, batch: int, transfer_set: TransferSet, seconds: float) -> float:
    """Seconds a step, measured for about so many seconds."""
    return _seconds_each(_kept(_idiomatic, width, batch, _Tensors(transfer_set)), seconds)


def tuned(width: int, batch: int, transfer_set: TransferSet, seconds: float) -> float:
    """Seconds a step, measured for about so many seconds, compiled before."""
    return _seconds_each(_kept(_tuned, width, batch, _Tensors(transfer_set)), seconds)


class _Tensors:
    """The transfer set as PyTorch has it; equal where it has as many images (they are random)."""

    def __init__(self, transfer_set: TransferSet):
        self.transfer_set = transfer_set

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tensors) and len(other.transfer_set.images) == len(self.transfer_set.images)

    def __hash__(self) -> int:
        return len(self.transfer_set.images)

    def load(self) -> tuple[Any, Any, Any]:
        images, labels, logits = map(np.asarray, self.transfer_set[:3])
        flat = images.reshape(len(images), -1).astype(np.float32) / 255
        return torch.from_numpy(flat), torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(logits.copy())


@functools.cache
def _kept(style: Callable[..., Iterator[None]], width: int, batch: int, tensors: _Tensors) -> Step:
    running = style(width, batch, *tensors.load())
    next(running)  # builds, and compiles
    return functools.partial(next, running)


def _idiomatic(width: int, batch: int, images: Any, labels: Any, logits: Any) -> Iterator[None]:
    student, teacher = _mlp(images.shape[1], width), _mlp(images.shape[1], TEACHER).eval()
    optimizer = torch.optim.Adam(student.parameters(), 1e-3)
    dataset = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(dataset, batch, shuffle=True, drop_last=True)
    for shown, right in itertools.chain.from_iterable(itertools.repeat(loader)):
        with torch.no_grad():
            taught = teacher(shown)
        optimizer.zero_grad()
        _loss(student(shown), taught, right).backward()
        optimizer.step()
        yield


def _tuned(width: int, batch: int, images: Any, labels: Any, logits: Any) -> Iterator[None]:
    student = _mlp(images.shape[1], width)
    optimizer = torch.optim.Adam(student.parameters(), 1e-3, fused=True)
    loss = torch.compile(lambda shown, taught, right: _loss(student(shown), taught, right))
    while True:
        for rows in torch.randperm(len(images)).split(batch)[: len(images) // batch]:
            optimizer.zero_grad(set_to_none=True)
            loss(images[rows], logits[rows], labels[rows]).backward()
            optimizer.step()
            yield


def _mlp(inputs: int, width: int) -> Any:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def _loss(logits: Any, taught: Any, right: Any) -> Any:
    mine, theirs = (functional.log_softmax(table / TEMPERATURE, 1) for table in (logits, taught))
    soft = functional.kl_div(mine, theirs, log_target=True, reduction="batchmean") * TEMPERATURE**2
    return SOFT_WEIGHT * soft + (1 - SOFT_WEIGHT) * functional.cross_entropy(logits, right)


def _seconds_each(step: Step, seconds: float) -> float:
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        step()
        count += 1
    return (time.perf_counter() - begin) / count
