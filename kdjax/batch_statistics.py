"""Batch statistics estimated again at a network's final weights, with dropout and without.

In the networks small and big dropout stands before convolutions and batch norms. The means and variances that a
batch norm averages in training are those of units under dropout; in evaluation the units come without it and have
smaller variances (Li et al. 2019, "Understanding the disharmony between dropout and batch normalization by variance
shift", arXiv 1801.05134). Where two recipes suffer from this differently, a difference between them may come from the
evaluation and not from the weights. So a network is evaluated three times, with the same weights:

    trained   with the running averages of its training
    dropout   with statistics collected again, under dropout: what collecting again changes by itself
    clean     with statistics collected again, without dropout: against `dropout`, what dropout in them changes

Collected: the mean over batches of training images, augmented as in the network's training, at its final weights (Wu
and Johnson 2021, "Rethinking 'batch' in BatchNorm", arXiv 2105.07576). Images, augmentation and masks are the same for
all networks of a kind.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

from kdjax import compilation, evaluation, models
from kdjax.arrays import HostLogits
from kdjax.config import TrainConfig
from kdjax.datasets import Dataset
from kdjax.train import Batch, make_view

SPLITS = ("holdout", "test")

Batches = UInt8[Array, "batches batch height width channels"]
LogitsByStatistics = dict[str, dict[str, HostLogits]]
"""By evaluation (`trained`, `dropout`, `clean`) and split."""
Collect = Callable[[models.Params, models.ModelState, Any], tuple[models.ModelState, models.ModelState]]


@functools.cache
def collector(config: TrainConfig, num_classes: int) -> Collect:
    """Compiles (params, model_state, images) → batch statistics (under dropout, without it) of one network. `config` is
    the network, and how its images are augmented in training. The model state gives the statistics' shapes."""
    view = make_view(config)

    def collect(params: models.Params, model_state: models.ModelState, images: Batches) -> Any:
        model = models.network(config, images.shape[2:], num_classes)
        blank = jax.tree.map(jnp.zeros_like, model_state)
        no_labels, no_logits = jnp.zeros(images.shape[1], jnp.int32), jnp.zeros((images.shape[1], num_classes))

        def add(total: Any, index: Array) -> tuple[Any, None]:
            batch = view(Batch(images[index], no_labels, no_logits, jax.random.fold_in(compilation.key(0), index)))
            keys = (batch.key, None)
            both = tuple(models.batch_statistics(model, params, blank, batch.images, key) for key in keys)
            return jax.tree.map(jnp.add, total, both), None

        total, _ = jax.lax.scan(add, (blank, blank), jnp.arange(len(images)))
        under_dropout, clean = jax.tree.map(lambda leaf: leaf / len(images), total)
        return under_dropout, clean

    return compilation.jit(collect)


def evaluate(
    config: TrainConfig, dataset: Dataset, variables: tuple[models.Params, models.ModelState], images: Batches
) -> LogitsByStatistics:
    """A network's logits of hold-out and test images with each of the three kinds of batch statistics.

    `config` is the network, and how its images are augmented in training; each leaf of `variables`, its parameters and
    batch statistics, has a leading axis of 1; statistics are collected from `images`.
    """
    params, running = jax.tree.map(jnp.asarray, variables)
    own, statistics = jax.tree.map(lambda leaf: leaf[0], (params, running))
    collected = collector(config, dataset.num_classes)(own, statistics, images)
    dropped, clean = jax.tree.map(lambda leaf: leaf[None], collected)
    network = models.network(config, dataset.input_shape, dataset.num_classes)
    splits = {split: getattr(dataset, split).images for split in SPLITS if len(getattr(dataset, split).images)}
    return {
        name: {split: evaluation.logits_of(network, params, state, pixels) for split, pixels in splits.items()}
        for name, state in (("trained", running), ("dropout", dropped), ("clean", clean))
    }
