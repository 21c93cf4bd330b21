"""`python -m kdjax.datasets --dataset mnist`: prepares a dataset, so that later commands find it."""

import logging
import sys

import tyro

from kdjax.config import BadInput, DataConfig
from kdjax.datasets import load


def main() -> int:
    """Prepares the dataset that the command line asks for and says what it is; exit code 2 for bad input."""
    config = tyro.cli(DataConfig, prog="python -m kdjax.datasets", description="Prepare a dataset for later use.")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("kdjax.datasets").setLevel(logging.INFO)
    try:
        dataset = load(config)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{dataset.description}, fingerprint {dataset.fingerprint[:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
