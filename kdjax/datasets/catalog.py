"""The datasets that can be named: what they are called, where they come from, what their files must be.

To add one whose files have a known layout, add a `Spec` to `CATALOG`; nothing else changes. (A new layout:
`kdjax.datasets.layouts`.)
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Spec:
    """One dataset that is prepared from raw files."""

    name: str
    title: str
    """As people write it: "Fashion-MNIST"."""
    layout: str
    """How the raw files are named and read: a name in `kdjax.datasets.layouts.LAYOUTS`."""
    shape: tuple[int, int, int]
    """Height, width and channels of an image, in pixels."""
    class_names: tuple[str, ...]
    train_count: int
    """Images in the official training set; a folder may hold fewer, and then as many are used as there are."""
    test_count: int
    mirrors: tuple[str, ...] = ()
    """Addresses of the official files, tried in this order; empty: a raw folder is needed."""
    md5: dict[str, str] = dataclasses.field(default_factory=dict)
    """The official files, as they are downloaded, and their published MD5 sums: a guard against accidents."""


DIGITS = tuple("0123456789")
GARMENTS = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
CIFAR_MD5 = {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"}

SPECS = (
    Spec("mnist", "MNIST", "idx", (28, 28, 1), DIGITS, 60_000, 10_000, MNIST_MIRRORS, MNIST_MD5),
    Spec("fashion_mnist", "Fashion-MNIST", "idx", (28, 28, 1), GARMENTS, 60_000, 10_000, FASHION_MIRRORS, FASHION_MD5),
    Spec("cifar10", "CIFAR-10", "cifar", (32, 32, 3), OBJECTS, 50_000, 10_000, CIFAR_MIRRORS, CIFAR_MD5),
)
CATALOG: dict[str, Spec] = {spec.name: spec for spec in SPECS}
"""By name. A raw folder that is not named after a dataset is taken to be the first here with such file names: mnist,
and never fashion_mnist."""
