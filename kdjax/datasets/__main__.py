"""`python -m kdjax.datasets --dataset mnist`: prepares a dataset, so that later commands find it."""

from kdjax import cli
from kdjax.config import DataConfig
from kdjax.datasets import load

PROG = "python -m kdjax.datasets"


def main(config: DataConfig) -> None:
    """Prepares the dataset and prints its description."""
    dataset = load(config)
    print(f"{dataset.description}, fingerprint {dataset.fingerprint[:12]}")


if __name__ == "__main__":
    cli.run(main, DataConfig, PROG)
