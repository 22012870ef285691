"""Data sets as sources of rows: embedded, planted, the user's own arrays, and the full image sets.

Rows are samples: ``X`` is n × features, nonnegative for every set but the user's own arrays and where
``standardize`` is "standard".
"""

from .augmentation import AugmentConfig, augmented
from .config import (
    CIFAR10,
    MNIST,
    SCHEMAS,
    Arrays,
    DataConfig,
    Digits,
    FashionMNIST,
    MNIST5k,
    Synthetic,
)
from .dataset import Dataset
from .loading import load
from .preprocessing import Preprocessing

__all__ = [
    "CIFAR10",
    "MNIST",
    "SCHEMAS",
    "Arrays",
    "AugmentConfig",
    "DataConfig",
    "Dataset",
    "Digits",
    "FashionMNIST",
    "MNIST5k",
    "Preprocessing",
    "Synthetic",
    "augmented",
    "load",
]
