"""The full image sets: their files, digests and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..targets import Classes
from . import cifar
from .config import FullConfig
from .dataset import Raw
from .embedded import DIGITS
from .files import REPLACE, bad_file
from .idx import read_idx
from .locate import FileSet, locate

CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# MD5 of the decompressed files: compressed copies differ from one distributor to the next.
FILES: dict[str, FileSet] = {
    "fashion_mnist": FileSet(
        title="Fashion-MNIST",
        torchvision="FashionMNIST",
        folders=("FashionMNIST/raw", "fashion_mnist", "fashion-mnist"),
        variants=(
            {
                "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
                "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
                "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
            },
        ),
        system=Path("/usr/share/datasets/fashion-mnist"),
        package="dataset-fashion-mnist",
    ),
    "mnist": FileSet(
        title="MNIST",
        torchvision="MNIST",
        folders=("MNIST/raw", "mnist"),
        variants=(
            {
                "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
                "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
                "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
                "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
            },
        ),
    ),
    "cifar10": FileSet(
        title="CIFAR-10",
        torchvision="CIFAR10",
        folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
        variants=(
            {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            },
            {f"{name}.bin": None for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")},
        ),
    ),
}


def read_full(config: FullConfig) -> Raw:
    """Find and read a full set (bytes) with its official test set.

    Raises `DataError` if files are not found, incomplete, damaged or not the published ones.
    """
    files = locate(FILES[config.name], config.root, config.download)
    if config.name == "cifar10":
        return _read_cifar(files)
    return _read_mnist(files, CLOTHES if config.name == "fashion_mnist" else DIGITS)


def _read_mnist(files: dict[Path, str | None], classes: tuple[str, ...]) -> Raw:
    parts = []
    paths, digests = list(files), list(files.values())
    for i in (0, 2):
        images = read_idx(paths[i], 3, str(digests[i]))
        labels = read_idx(paths[i + 1], 1, str(digests[i + 1])).astype(np.int64)
        if len(images) != len(labels) or labels.max() >= len(classes):
            expected = f"{len(images)} labels 0..{len(classes) - 1}, as {paths[i].name} has images"
            raise bad_file(paths[i + 1], expected, f"{len(labels)} labels up to {labels.max()}", REPLACE)
        parts.append((images, labels))
    (X, y), test = parts
    return Raw(X, y, Classes(classes), maximum=255, test=test)


def _read_cifar(files: dict[Path, str | None]) -> Raw:
    batches = [
        cifar.read_binary_batch(path) if digest is None else cifar.read_python_batch(path, digest)
        for path, digest in files.items()
    ]
    *train, test = batches
    X, y = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return Raw(X, y, Classes(cifar.CLASSES), maximum=255, test=test)
