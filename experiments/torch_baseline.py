"""The PyTorch side of `experiments.throughput --against torch`: one student at a time.

Not an experiment of its own. Both styles train a student at T = 4 by Adam, on a mix of soft and hard labels.

    idiomatic  a shuffled DataLoader; the teacher (784-1200-1200-10, or the big network) is queried at every step
    tuned      tensors in memory (channels last), the teacher's logits looked up, torch.compile, fused Adam; no biases
               before batch norm, which subtracts them again

Students of bfloat16 run under autocast, the teacher too; parameters, optimizer and loss are float32.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from kdjax.blocks import TransferSet
from kdjax.config import AFTER_NORM, TeacherConfig, TrainConfig
from kdjax.forecast import seconds_each
from kdjax.models import fast
from kdjax.models.cnn import DROPOUT, LEAK, MOMENTUM, STAGES

TEMPERATURE, SOFT_WEIGHT = 4.0, 0.95
TEACHERS = {False: TeacherConfig().train_config(1), True: TrainConfig((512,), 1, 128, network="big")}
"""Of a multi-layer perceptron; of a convolutional network."""
Step = Callable[[], object]


def idiomatic(student: TrainConfig, transfer_set: TransferSet, seconds: float) -> float:
    """Seconds a step, measured for about `seconds`."""
    return _seconds_each(_started(_idiomatic, student, _Tensors(transfer_set)), seconds)


def tuned(student: TrainConfig, transfer_set: TransferSet, seconds: float) -> float:
    """Seconds a step, measured for about `seconds`, compiled before."""
    return _seconds_each(_started(_tuned, student, _Tensors(transfer_set)), seconds)


class _Tensors:
    """A transfer set as a key of caches: equal to any of the same size, as they are all random."""

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
def _started(style: Callable[..., Iterator[None]], student: TrainConfig, tensors: _Tensors) -> Step:
    running = style(student, *_loaded(tensors))
    next(running)  # builds, and compiles
    return functools.partial(next, running)


def _idiomatic(recipe: TrainConfig, images: Any, labels: Any, logits: Any) -> Iterator[None]:
    student = _network(recipe, images)
    teacher = _network(TEACHERS[images.ndim == 4], images).eval()
    images = images.contiguous()
    optimizer = torch.optim.Adam(student.parameters(), 1e-3)
    dataset = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(dataset, recipe.batch_size, shuffle=True, drop_last=True)
    for batch, targets in itertools.chain.from_iterable(itertools.repeat(loader)):
        with torch.no_grad(), _autocast(recipe):
            teacher_logits = teacher(batch)
        optimizer.zero_grad()
        with _autocast(recipe):
            student_logits = student(batch)
        _loss(student_logits, teacher_logits, targets).backward()
        optimizer.step()
        yield


def _tuned(recipe: TrainConfig, images: Any, labels: Any, logits: Any) -> Iterator[None]:
    student = _network(recipe, images, biased=False)
    if images.ndim == 4:
        student, images = student.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(student.parameters(), 1e-3, fused=True)

    @torch.compile
    def loss(batch: Any, teacher_logits: Any, targets: Any) -> Any:
        with _autocast(recipe):
            student_logits = student(batch)
        return _loss(student_logits, teacher_logits, targets)

    steps = len(images) // recipe.batch_size
    while True:
        for rows in torch.randperm(len(images)).split(recipe.batch_size)[:steps]:
            optimizer.zero_grad(set_to_none=True)
            loss(images[rows], logits[rows], labels[rows]).backward()
            optimizer.step()
            yield


def _autocast(recipe: TrainConfig) -> Any:
    return torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16")


def _network(recipe: TrainConfig, images: Any, biased: bool = True) -> Any:
    if recipe.network == "fast":
        return _fast(recipe, images.shape[1])
    name, after_norm = recipe.network.removesuffix(AFTER_NORM), recipe.network.endswith(AFTER_NORM)
    if name not in STAGES:
        sizes = itertools.pairwise((images.shape[1], *recipe.hidden, 10))
        return nn.Sequential(*[part for size in sizes for part in (nn.Linear(*size), nn.ReLU())][:-1])
    (units,), (_, channels, height, width) = recipe.hidden, images.shape
    parts: list[Any] = []
    for stage in STAGES[name]:
        for outputs in stage:
            norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=1 - MOMENTUM)
            parts += [nn.Conv2d(channels, outputs, 3, padding=1, bias=biased), norm, nn.LeakyReLU(LEAK)]
            channels = outputs
        parts += [nn.MaxPool2d(2), *[nn.Dropout(DROPOUT)] * (not after_norm)]
        height, width = height // 2, width // 2
    parts += [nn.Flatten(), nn.Linear(height * width * channels, units, bias=biased)]
    parts += [nn.BatchNorm1d(units, eps=1e-3, momentum=1 - MOMENTUM), nn.LeakyReLU(LEAK)]
    parts += [*[nn.Dropout(DROPOUT)] * after_norm, nn.Linear(units, 10)]
    return nn.Sequential(*parts)


def _fast(recipe: TrainConfig, colours: int) -> Any:
    channels, first = 8 * colours, nn.Conv2d(colours, 8 * colours, 2).requires_grad_(False)
    parts: list[Any] = [first, nn.GELU("tanh")]
    for width in fast.groups(recipe.hidden):
        for pool in ([nn.MaxPool2d(2)], []):
            norm = nn.BatchNorm2d(width, eps=1e-5, momentum=1 - fast.MOMENTUM)
            norm.weight.requires_grad_(False)
            parts += [nn.Conv2d(channels, width, 3, padding=1, bias=False), *pool, norm, nn.GELU("tanh")]
            channels = width
    return nn.Sequential(*parts, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, 10, bias=False), _Ninth())


class _Ninth(nn.Module):
    def forward(self, logits: Any) -> Any:
        return logits / 9


def _loss(logits: Any, teacher_logits: Any, labels: Any) -> Any:
    student, teacher = (functional.log_softmax(each.float() / TEMPERATURE, 1) for each in (logits, teacher_logits))
    soft = functional.kl_div(student, teacher, log_target=True, reduction="batchmean") * TEMPERATURE**2
    return SOFT_WEIGHT * soft + (1 - SOFT_WEIGHT) * functional.cross_entropy(logits.float(), labels)


def _seconds_each(step: Step, seconds: float) -> float:
    return seconds_each(lambda count: [step() for _ in range(count)], seconds)
