"""What `experiments.throughput --against torch` compares with: one student at a time, as PyTorch is written.

No experiment of its own. Both styles train a student at T = 4 by Adam, on the mix of soft and hard labels: 784-W-W-10,
or one of the convolutional networks of `kdjax.models.STAGES`.

    idiomatic  a shuffled DataLoader; the teacher (784-1200-1200-10, or the big network) is asked at every step
    tuned      tensors in memory (channels last), the teacher's logits looked up, torch.compile, fused Adam
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from kdjax.blocks import TransferSet
from kdjax.models.cnn import DROPOUT, LEAK, STAGES

TEMPERATURE, SOFT_WEIGHT = 4.0, 0.95
TEACHER = 1200
Step = Callable[[], None]
Student = int | Literal["small", "big"]
"""Units of two hidden layers, or a convolutional network."""


def idiomatic(student: Student, batch: int, transfer_set: TransferSet, seconds: float) -> float:
    """Seconds a step, measured for about `seconds`."""
    return _seconds_each(_kept(_idiomatic, student, batch, _Tensors(transfer_set)), seconds)


def tuned(student: Student, batch: int, transfer_set: TransferSet, seconds: float) -> float:
    """Seconds a step, measured for about `seconds`, compiled before."""
    return _seconds_each(_kept(_tuned, student, batch, _Tensors(transfer_set)), seconds)


class _Tensors:
    """The transfer set as PyTorch has it; equal where it has as many images (they are random)."""

    def __init__(self, transfer_set: TransferSet):
        self.transfer_set = transfer_set

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tensors) and other.transfer_set.images.shape == self.transfer_set.images.shape

    def __hash__(self) -> int:
        return len(self.transfer_set.images)


@functools.cache
def _loaded(tensors: _Tensors) -> tuple[Any, Any, Any]:
    images, labels, logits = map(np.asarray, tensors.transfer_set[:3])
    floats = torch.from_numpy(images.astype(np.float32) / 255)
    floats = floats.flatten(1) if images.shape[-1] == 1 else floats.permute(0, 3, 1, 2)
    return floats, torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(logits.copy())


@functools.cache
def _kept(style: Callable[..., Iterator[None]], student: Student, batch: int, tensors: _Tensors) -> Step:
    running = style(student, batch, *_loaded(tensors))
    next(running)  # builds, and compiles
    return functools.partial(next, running)


def _idiomatic(kind: Student, batch: int, images: Any, labels: Any, logits: Any) -> Iterator[None]:
    student = _network(kind, images)
    teacher = _network(TEACHER if isinstance(kind, int) else "big", images).eval()
    images = images.contiguous()
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


def _tuned(kind: Student, batch: int, images: Any, labels: Any, logits: Any) -> Iterator[None]:
    student = _network(kind, images)
    if not isinstance(kind, int):
        student, images = student.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(student.parameters(), 1e-3, fused=True)
    loss = torch.compile(lambda shown, taught, right: _loss(student(shown), taught, right))
    while True:
        for rows in torch.randperm(len(images)).split(batch)[: len(images) // batch]:
            optimizer.zero_grad(set_to_none=True)
            loss(images[rows], logits[rows], labels[rows]).backward()
            optimizer.step()
            yield


def _network(kind: Student, images: Any) -> Any:
    if isinstance(kind, int):
        inputs = images.shape[1]
        return nn.Sequential(nn.Linear(inputs, kind), nn.ReLU(), nn.Linear(kind, kind), nn.ReLU(), nn.Linear(kind, 10))
    stages, (_, before, height, width) = STAGES[kind], images.shape
    parts: list[Any] = []
    for stage in stages.channels:
        for after in stage:
            norm = nn.BatchNorm2d(after, eps=1e-3, momentum=0.01)
            parts += [nn.Conv2d(before, after, 3, padding=1), norm, nn.LeakyReLU(LEAK)]
            before = after
        parts += [nn.MaxPool2d(2), nn.Dropout(DROPOUT)]
        height, width = height // 2, width // 2
    parts += [nn.Flatten(), nn.Linear(height * width * before, stages.units)]
    parts += [nn.BatchNorm1d(stages.units, eps=1e-3, momentum=0.01), nn.LeakyReLU(LEAK), nn.Linear(stages.units, 10)]
    return nn.Sequential(*parts)


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
