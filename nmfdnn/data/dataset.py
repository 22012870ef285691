"""What a loaded data set is: before (`Raw`, NumPy on the host) and after (`Dataset`) splitting and moving."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..source import Source
from ..targets import Targets
from .folder import Stored
from .preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Dataset:
    """Disjoint splits of one data set.

    ``targets`` says what the labels are; ``classes`` are its names. ``image_shape`` is the shape of a row as
    an image, such as (28, 28) or (3, 32, 32), and None for plain vectors. ``validation`` is None where
    nothing is held out. ``digest`` is a SHA-256 of all that was read, see `survey`; it is the same for every
    split, device and type. ``preprocessing`` made the splits' values out of what was read, and prepares other
    samples alike.
    """

    name: str
    train: Source
    validation: Source | None
    test: Source
    targets: Targets
    image_shape: tuple[int, ...] | None
    digest: str = ""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    @property
    def features(self) -> int:
        return self.train.features

    @property
    def outputs(self) -> int:
        return len(self.targets.names)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.targets.names


@dataclass(frozen=True, eq=False)
class Raw:
    """A data set as its source stores it: values ``X`` (n × ...), and what the output is asked for of each.

    ``labels`` are n numbers of classes, int64 from 0 on, or real values n × m in float64, as ``targets``
    says. ``weights`` (n) are how often samples of ``X`` count, None where all count once. ``maximum`` is the
    stored value that stands for 1 (255 for bytes). ``test`` is the official test set, or None where a part of
    the samples has to be split off. ``path`` is what was read, for messages. ``names`` are
    those of a table's features.
    """

    X: np.ndarray | Stored
    labels: np.ndarray
    targets: Targets
    maximum: float
    test: tuple[np.ndarray | Stored, np.ndarray] | None = None
    path: Path = Path()
    weights: np.ndarray | None = None
    names: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        return self.X.shape[1:] if self.X.ndim > 2 else None
