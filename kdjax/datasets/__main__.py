"""`python -m kdjax.datasets --dataset mnist`: prepares a dataset, so that later commands find it."""

import dataclasses

from kdjax import cli
from kdjax.config import DataConfig

PROG = "python -m kdjax.datasets"


@dataclasses.dataclass(frozen=True)
class PrepareConfig(DataConfig):
    """Prepares a dataset under --data-dir, where later commands find it. What is not there yet, nor in --raw-dir, is
    downloaded, and its checksums are compared: mnist, 12 MB, from storage.googleapis.com or
    ossci-datasets.s3.amazonaws.com; fashion_mnist, 31 MB, from fashion-mnist.s3-website.eu-central-1.amazonaws.com;
    cifar10, 170 MB, from www.cs.toronto.edu. For mnist5k nothing is downloaded; auto takes it where mnist cannot be
    had. A file of your own is read and checked as a sweep does it, and nothing is written."""


def main(config: PrepareConfig) -> None:
    """Prepares the dataset and prints its description."""
    from kdjax.datasets import load

    dataset = load(config)
    print(f"{dataset.description}, fingerprint {dataset.fingerprint[:12]}")
    if (given := dataset.teacher) is not None:
        print(f"teacher: {given.kind}, {dataset.num_classes:,} classes, fingerprint {given.fingerprint[:12]}")


if __name__ == "__main__":
    cli.run(main, PrepareConfig, PROG)
