"""A problem whose labels a network of known size can explain."""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError
from ..targets import Classes
from .config import Synthetic
from .dataset import Raw
from .files import check_memory


def plant(config: Synthetic, rng: np.random.Generator) -> Raw:
    """Draw X uniform in [0, 1) and label it by a random network.

    The teacher is h ← max(h W, 0) over the hidden layers, then h W, with He weights (normal with variance
    2 / inputs) and no offsets. Every output is standardised over the samples, which keeps the classes
    roughly balanced, and the largest one is the label.

    Raises `ConfigError` where the teacher cannot tell as many classes apart (very narrow layers).
    """
    size = 4 * config.samples * sum((config.features, *config.hidden, config.classes))
    check_memory(
        size, f"planting {config.samples} samples", "lower data.samples, data.features or data.hidden"
    )
    X = rng.random((config.samples, config.features), dtype=np.float32)
    h = X
    for width in config.hidden:
        h = np.maximum(h @ _he(h.shape[1], width, rng), 0)
    outputs = h @ _he(h.shape[1], config.classes, rng)
    outputs -= outputs.mean(axis=0)
    outputs /= outputs.std(axis=0) + np.finfo(np.float32).tiny  # a dead layer gives constant outputs
    labels = outputs.argmax(axis=1)

    present = len(np.unique(labels))
    if present < config.classes:
        raise ConfigError(
            f"data.hidden={config.hidden!r} with data.features={config.features} plants only {present} of "
            f"data.classes={config.classes} classes in {config.samples} samples; take wider layers, more "
            "features, more samples, fewer classes or another seed"
        )
    redrawn = rng.permutation(config.samples)[: round(config.noise * config.samples)]
    labels[redrawn] = rng.integers(config.classes, size=len(redrawn))
    return Raw(X, labels, Classes(tuple(map(str, range(config.classes)))), maximum=1)


def _he(inputs: int, outputs: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((inputs, outputs), dtype=np.float32) * np.float32(np.sqrt(2 / inputs))
