"""Stratified random splits."""

from __future__ import annotations

import numpy as np


def take(labels: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split 0..n-1 at random into ``count`` indices and the rest, both shuffled.

    Every class gives its share ``count``·n_c/n, rounded up or down (largest remainders are rounded up).
    ``labels`` (n) are integers ≥ 0; 0 ≤ ``count`` ≤ n.
    """
    n = len(labels)
    sizes = np.bincount(labels)
    quota, remainder = np.divmod(sizes * count, n)
    quota[np.argsort(-remainder, kind="stable")[: count - quota.sum()]] += 1

    order = rng.permutation(n)
    order = order[np.argsort(labels[order], kind="stable")]  # by class, at random within each
    rank = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken = rank < np.repeat(quota, sizes)
    return rng.permutation(order[taken]), rng.permutation(order[~taken])
