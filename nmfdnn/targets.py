"""What the output of a network is asked for: classes, or real values. All in which the two differ is here.

Legend: n samples, m outputs; `values`, what the user has of them, and `labels`, what a source hands out;
targets Y (n × m) and outputs V (n × m); weights w (n × 1): how often samples count, None: all count once.

Classes are latent targets (Saul 2022): Y is one-hot, and where it is 0 any V ≤ 0 will do. Real values are
plain ones, V = Y, in units of their standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .errors import ConfigError, DataError, require

LOSSES = ("auto", "cross_entropy", "squared")
BALANCED = "balanced"


class Targets(Protocol):
    """What data, training, evaluation and prediction ask."""

    kind: ClassVar[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs; empty where nobody has named them."""

    def fitted(self, values: np.ndarray, weights: np.ndarray | None = None) -> Targets:
        """The same for these values of the training part, which count `weights` (n) times each."""

    def weights(self, values: np.ndarray, how: Any, given: np.ndarray | None) -> np.ndarray | None:
        """How often samples count (n), as `class_weights` says, None where all count once."""

    def labels(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        """What a source hands out for these values."""

    def strata(self, values: np.ndarray) -> np.ndarray:
        """Numbers from 0 (n) of the groups of which every part of the data gets its share."""

    def matrix(self, labels: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
        """Y (n × m) for m = `outputs`."""

    def residual(self, Y: Tensor, V: Tensor) -> Tensor:
        """What the outputs V are to change by (n × m)."""

    def felt(self, P: Tensor, Y: Tensor, V: Tensor) -> Tensor:
        """The part of changes P of V (n × m) that changes the residual."""

    def loss(self, name: str, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The sum over samples of one of `LOSSES`, differentiable; "auto" is one that suits the targets."""

    def slope(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The gradient of the "auto" loss by V (n × m)."""

    def require_loss(self, name: str) -> None:
        """Raise a `ConfigError` if a loss does not suit the targets."""

    def misses(self, V: Tensor, labels: Tensor) -> Tensor:
        """A sum over samples from which `error` follows."""

    def error(self, misses: Tensor, samples: int) -> float:
        """How bad outputs are, for the total of `misses`."""

    def answers(self, V: Tensor) -> np.ndarray:
        """What the outputs say in the user's words or unit: n, or n × m where a sample has several."""


@dataclass(frozen=True)
class Classes:
    """Labels are the numbers of classes (n, int64); errors are percentages of misclassified samples."""

    names: tuple[str, ...] = ()
    kind: ClassVar[str] = "classes"

    def fitted(self, values: np.ndarray, weights: np.ndarray | None = None) -> Classes:
        return self

    def weights(self, values: np.ndarray, how: Any, given: np.ndarray | None) -> np.ndarray | None:
        return given if how is None else class_weights(values, self.names, how, given)

    def labels(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(values)

    def strata(self, values: np.ndarray) -> np.ndarray:
        return values

    def matrix(self, labels: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
        return one_hot(labels, outputs, dtype)

    def residual(self, Y: Tensor, V: Tensor) -> Tensor:
        """Y − V where Y > 0 or V > 0, else 0 (n × m): Y is to be f(V), and where Y = 0 any V ≤ 0 will do."""
        return Y - torch.where(Y > 0, V, V.relu())

    def felt(self, P: Tensor, Y: Tensor, V: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(P, Y.max(V), 0)

    def loss(self, name: str, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        if name == "squared":
            return half_squares(self.matrix(labels, V.shape[1], V.dtype) - V, weights)
        if weights is None:
            return functional.cross_entropy(V, labels, reduction="sum")
        return (functional.cross_entropy(V, labels, reduction="none") * weights[:, 0]).sum()

    def slope(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        E = V.softmax(dim=1) - self.matrix(labels, V.shape[1], V.dtype)
        return E if weights is None else weights * E

    def require_loss(self, name: str) -> None:
        pass

    def misses(self, V: Tensor, labels: Tensor) -> Tensor:
        return (V.argmax(dim=1) != labels).sum()

    def error(self, misses: Tensor, samples: int) -> float:
        return 100 * (int(misses) / samples)

    def answers(self, V: Tensor) -> np.ndarray:
        return np.array(self.names)[V.argmax(dim=1).cpu().numpy()]


@dataclass(frozen=True, eq=False)
class RealValues:
    """Labels are (y − `offset`) / `scale` of values y (n × m); errors are root mean squares in y's unit.

    `offset` and `scale` are m numbers in float64, see `fitted`. The error of several outputs is the mean of
    their errors.
    """

    names: tuple[str, ...] = ("y",)
    offset: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    scale: Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.float64))
    kind: ClassVar[str] = "real"

    def fitted(self, values: np.ndarray, weights: np.ndarray | None = None) -> RealValues:
        """With mean and standard deviation of these values (n or n × m).

        Raises:
            DataError: a value is not finite, or an output is constant.
        """
        y = _columns(values)
        names = self.names if len(self.names) == y.shape[1] else tuple(f"y{i}" for i in range(y.shape[1]))
        bad = ~np.isfinite(y).all(axis=1)
        if bad.any():
            raise DataError(f"the targets hold NaN or infinity in {bad.sum()} samples: leave these out")
        w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
        w = w[:, None] / w.sum()
        unit = np.maximum(np.abs(y).max(axis=0), np.finfo(np.float64).tiny)  # no square overflows
        mean = (w * (y / unit)).sum(axis=0)
        spread = np.sqrt((w * (y / unit - mean) ** 2).sum(axis=0))
        constant = np.flatnonzero(spread <= 8 * np.finfo(np.float64).eps)
        if len(constant):
            raise DataError(
                f"the target {names[constant[0]]} is {y[0, constant[0]]:g} in all {len(y)} training samples: "
                "there is nothing to learn; check that it holds the values that you meant"
            )
        return replace(
            self, names=names, offset=torch.from_numpy(mean * unit), scale=torch.from_numpy(spread * unit)
        )

    def weights(self, values: np.ndarray, how: Any, given: np.ndarray | None) -> np.ndarray | None:
        if how is not None:
            raise ConfigError(f"class_weight must be null where targets are real values, got {how!r}")
        return given

    def labels(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return ((torch.from_numpy(_columns(values)) - self.offset) / self.scale).to(dtype)

    def strata(self, values: np.ndarray) -> np.ndarray:
        return np.zeros(len(values), np.int64)

    def matrix(self, labels: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
        return labels.to(dtype)

    def residual(self, Y: Tensor, V: Tensor) -> Tensor:
        return Y - V

    def felt(self, P: Tensor, Y: Tensor, V: Tensor) -> Tensor:
        return P

    def loss(self, name: str, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        return half_squares(labels - V, weights)

    def slope(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        E = V - labels
        return E if weights is None else weights * E

    def require_loss(self, name: str) -> None:
        if name == "cross_entropy":
            raise ConfigError(
                "bp.loss=cross_entropy is for classes, and the targets are real values: set bp.loss=auto"
            )

    def misses(self, V: Tensor, labels: Tensor) -> Tensor:
        return (V.double() - labels).square().sum(dim=0)

    def error(self, misses: Tensor, samples: int) -> float:
        return float(((misses.cpu() / samples).sqrt() * self.scale).mean())

    def answers(self, V: Tensor) -> np.ndarray:
        found = (V.cpu().double() * self.scale + self.offset).numpy()
        return found[:, 0] if found.shape[1] == 1 else found


CLASSES = Classes()
"""Without names."""


def _columns(values: np.ndarray) -> np.ndarray:
    """Values (n or n × m) as n × m in float64."""
    return np.asarray(values, np.float64).reshape(len(values), -1)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Targets Y (n × classes) with a one at each label."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).to(dtype)


def half_squares(R: Tensor, weights: Tensor | None = None) -> Tensor:
    """½‖R‖² for residuals R (n × m) of samples that count `weights` (n × 1) times; 0-d."""
    return 0.5 * (R.square() if weights is None else weights * R.square()).sum()


def class_weights(
    labels: np.ndarray, names: Sequence[Any], how: str | dict[Any, float], weights: np.ndarray | None = None
) -> np.ndarray:
    """How often each sample is to count (n), so that its class counts as `how` says.

    Args:
        labels: numbers of classes (n), from 0.
        names: of all classes.
        how: "balanced", all classes alike in all (n/(m nᵧ), as scikit-learn has it); or a number ≥ 0 for the
            names of some classes, 1 for the others.
        weights: how often samples count besides (n); default once.

    Raises:
        ConfigError: a class that there is not, or a weight that is no number ≥ 0; or all are 0.
    """
    given = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    if how == BALANCED:
        counts = np.bincount(labels, given, len(names))
        factors = given.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1))
    elif isinstance(how, dict):
        factors, places = np.ones(len(names)), {str(name): i for i, name in enumerate(names)}
        for name, value in how.items():
            some = ", ".join(list(places)[:10])
            require(str(name) in places, "class_weight", f"about classes that there are ({some})", name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            require(number and 0 <= value < math.inf, "class_weight", "of numbers ≥ 0", value)
            factors[places[str(name)]] = value
    else:
        raise ConfigError(f"class_weight must be null, {BALANCED} or a weight for each class, got {how!r}")
    found = given * factors[labels]
    require(found.sum() > 0, "class_weight", "above 0 for a class that has samples", how)
    return found
