"""`python -m kdjax.datasets --dataset mnist`: prepares a dataset, so that later commands find it."""

from kdjax import cli
from kdjax.config import DataConfig
from kdjax.datasets import load

PROG = "python -m kdjax.datasets"


def main(config: DataConfig) -> None:
    """Prepares the dataset that the command line asks for and says what it is."""
    dataset = load(config)
    print(f"{dataset.description}, fingerprint {dataset.fingerprint[:12]}")


if __name__ == "__main__":
    cli.run(main, DataConfig, PROG)
