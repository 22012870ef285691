"""What the output of a network is asked for: classes, or real values. All in which the two differ is here.

Legend: n samples, m outputs; `values`, what the user has of them, and `labels`, what a source hands out;
targets Y (n × m) and outputs V (n × m); weights w (n × 1): how often samples count, None: all count once.

Classes are latent targets (Saul 2022): Y is one-hot, and where it is 0 any V ≤ 0 will do. Real values are
plain ones, V = Y, in units of their standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .errors import ConfigError, DataError, require

LOSSES = ("auto", "cross_entropy", "squared", "latent")
BALANCED = "balanced"


class Targets(Protocol):
    """What data, training, evaluation and prediction ask."""

    kind: ClassVar[str]
    measure: ClassVar[str]  # of `records.MEASURES`: what `error` is
    hardly: ClassVar[float]  # an error of this share of that of a guess is hardly below it
    guess: ClassVar[str]  # the best answer that is always the same

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs; empty where nobody has named them."""

    def fitted(self, values: np.ndarray, weights: np.ndarray | None = None) -> Targets:
        """The same for these values of the training part, which count `weights` (n) times each."""

    def weights(self, values: np.ndarray, how: Any, given: np.ndarray | None) -> np.ndarray | None:
        """How often samples count (n), as `class_weights` says, None where all count once."""

    def labels(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        """What a source hands out for these values."""

    def read(self, y: np.ndarray) -> Tensor:
        """Labels for what a file says of samples (n, n × 1 or n × m).

        Raises:
            DataError: that is something else.
        """

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in which a table has them, if these are known."""

    def outward(self, W: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weights and biases of the last layer whose outputs are in the user's unit."""

    def strata(self, values: np.ndarray) -> np.ndarray:
        """Numbers from 0 (n) of the groups of which every part of the data gets its share."""

    def matrix(self, labels: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
        """Y (n × m) for m = `outputs`."""

    def residual(self, Y: Tensor, V: Tensor) -> Tensor:
        """What the outputs V are to change by (n × m)."""

    def felt(self, P: Tensor, Y: Tensor, V: Tensor) -> Tensor:
        """The part of changes P of V (n × m) that changes the residual."""

    def loss(
        self,
        name: str,
        V: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
    ) -> Tensor:
        """The sum over samples of one of `LOSSES`, differentiable; "auto" is one that suits the targets.

        "latent" is ½‖residual‖². With `smoothing` ε in [0, 1) a cross-entropy is about the targets
        (1 − ε)Y + ε/m instead of Y.
        """

    def slope(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The gradient of the "auto" loss by V (n × m)."""

    def require_loss(self, name: str, smoothing: float = 0.0) -> None:
        """Raise a `ConfigError` if a loss, or its smoothing, does not suit the targets."""

    def misses(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """A sum over samples, which count as `weights` (n × 1) say, from which `error` follows."""

    def error(self, misses: Tensor, samples: float) -> float:
        """How bad outputs are, for the total of `misses` of so many samples, or of so much weight."""

    def slack(self, samples: int) -> float:
        """A rise of the error that so many samples can show without much behind it."""

    def guess_error(self, labels: Tensor) -> float:
        """Error of the best answer that is always the same."""

    def answers(self, V: Tensor) -> np.ndarray:
        """What the outputs say in the user's words or unit: n, or n × m where a sample has several."""

    def scores(self, V: Tensor, temperature: float | None) -> dict[str, np.ndarray]:
        """What there is to say of each output besides the answer: columns of n numbers."""

    def probabilities(self, V: Tensor, temperature: float | None) -> Tensor:
        """Those of the classes (n × m), in float64, where they are calibrated.

        Raises:
            ConfigError: there are none.
        """

    def temperature(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> float | None:
        """By which outputs are to be divided for calibrated probabilities; None where there are none."""

    def measures(self, V: Tensor, labels: Tensor, temperature: float | None = None) -> dict[str, Any]:
        """More measures than `error`, of outputs of at least one sample."""

    def state(self) -> dict[str, Any]:
        """As plain containers and tensors, see `from_state`."""


@dataclass(frozen=True)
class Classes:
    """Labels are the numbers of classes (n, int64); errors are percentages of misclassified samples."""

    names: tuple[str, ...] = ()
    kind: ClassVar[str] = "classes"
    measure: ClassVar[str] = "error"
    hardly: ClassVar[float] = 0.9
    guess: ClassVar[str] = "the most frequent class"

    def fitted(self, values: np.ndarray, weights: np.ndarray | None = None) -> Classes:
        return self

    def weights(self, values: np.ndarray, how: Any, given: np.ndarray | None) -> np.ndarray | None:
        return given if how is None else class_weights(values, self.names, how, given)

    def labels(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(values)

    def read(self, y: np.ndarray) -> Tensor:
        """−1 where there is no such class."""
        places = {name: i for i, name in enumerate(self.names)}
        return torch.tensor([places.get(name, -1) for name in named(y).tolist()])

    @property
    def columns(self) -> tuple[str, ...]:
        return ()

    def outward(self, W: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return W, b

    def strata(self, values: np.ndarray) -> np.ndarray:
        return values

    def matrix(self, labels: Tensor, outputs: int, dtype: torch.dtype) -> Tensor:
        return one_hot(labels, outputs, dtype)

    def residual(self, Y: Tensor, V: Tensor) -> Tensor:
        """Y − V where Y > 0 or V > 0, else 0 (n × m): Y is to be f(V), and where Y = 0 any V ≤ 0 will do."""
        return Y - torch.where(Y > 0, V, V.relu())

    def felt(self, P: Tensor, Y: Tensor, V: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(P, Y.max(V), 0)

    def loss(
        self,
        name: str,
        V: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
    ) -> Tensor:
        if name in ("squared", "latent"):
            Y = self.matrix(labels, V.shape[1], V.dtype)
            return half_squares(self.residual(Y, V) if name == "latent" else Y - V, weights)
        if weights is None:
            return functional.cross_entropy(V, labels, reduction="sum", label_smoothing=smoothing)
        each = functional.cross_entropy(V, labels, reduction="none", label_smoothing=smoothing)
        return (each * weights[:, 0]).sum()

    def slope(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        E = V.softmax(dim=1) - self.matrix(labels, V.shape[1], V.dtype)
        return E if weights is None else weights * E

    def require_loss(self, name: str, smoothing: float = 0.0) -> None:
        if smoothing > 0 and name not in ("auto", "cross_entropy"):
            raise ConfigError(
                "bp.label_smoothing is for bp.loss=cross_entropy: set that, or bp.label_smoothing=0"
            )

    def misses(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        wrong = V.argmax(dim=1) != labels
        return wrong.sum() if weights is None else weights[wrong].sum(dtype=torch.float64)

    def error(self, misses: Tensor, samples: float) -> float:
        return 100 * (float(misses) / samples)

    def slack(self, samples: int) -> float:
        return max(5.0, 200.5 / samples)  # in points; two samples do not make a rise

    def guess_error(self, labels: Tensor) -> float:
        return 100 * (1 - int(labels.bincount().max()) / len(labels))

    def answers(self, V: Tensor) -> np.ndarray:
        return np.array(self.names)[V.argmax(dim=1).cpu().numpy()]

    def scores(self, V: Tensor, temperature: float | None) -> dict[str, np.ndarray]:
        name, values = "output", V.cpu().numpy()
        if temperature is not None:
            name, values = "probability", self.probabilities(V, temperature).cpu().numpy()
        return {f"{name}_{label}": values[:, i] for i, label in enumerate(self.names)}

    def probabilities(self, V: Tensor, temperature: float | None) -> Tensor:
        """Softmax of outputs divided by a temperature (Guo et al. 2017)."""
        if temperature is None:
            raise ConfigError(
                "this model's probabilities are not calibrated, because nothing was held out when it was "
                "trained: train with data.validation above 0, or use decision_function"
            )
        return (V.double() / temperature).softmax(dim=1)

    def temperature(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> float | None:
        return calibrated(V, labels, weights)

    def measures(self, V: Tensor, labels: Tensor, temperature: float | None = None) -> dict[str, Any]:
        """Errors of each class there is and their mean, in %; F₁, the mean over classes; log-loss."""
        from sklearn import metrics

        known = labels >= 0
        V, labels = V[known], labels[known]
        if not len(labels):
            return {}
        true, found = labels.cpu().numpy(), V.argmax(dim=1).cpu().numpy()
        present = np.unique(true)
        errors = 100 * (1 - metrics.recall_score(true, found, labels=present, average=None))
        values: dict[str, Any] = {
            "balanced_error": float(errors.mean()),
            "macro_f1": float(metrics.f1_score(true, found, average="macro", zero_division=0)),
        }
        if temperature is not None:
            shares = self.probabilities(V, temperature).cpu().numpy()
            values["log_loss"] = float(metrics.log_loss(true, shares, labels=range(V.shape[1])))
        names = self.names or tuple(map(str, range(V.shape[1])))
        values["error_of"] = {names[i]: float(error) for i, error in zip(present, errors, strict=True)}
        return values

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "names": list(self.names)}


@dataclass(frozen=True, eq=False)
class RealValues:
    """Labels are (y − `offset`) / `scale` of values y (n × m); errors are root mean squares in y's unit.

    `offset` and `scale` are m numbers in float64, see `fitted`. The error of several outputs is the mean of
    their errors.
    """

    names: tuple[str, ...] = ("y",)
    offset: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    scale: Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.float64))
    kind: ClassVar[str] = "values"
    measure: ClassVar[str] = "rmse"
    hardly: ClassVar[float] = 0.99
    guess: ClassVar[str] = "the mean"

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

    def read(self, y: np.ndarray) -> Tensor:
        if y.dtype.kind not in "iubf" or y.size != len(y) * len(self.names):
            raise DataError(
                f"each sample must have {len(self.names)} values ({', '.join(self.names)}), got "
                f"shape {y.shape} of {y.dtype}: leave them out, or give those that the model predicts"
            )
        return self.labels(y, torch.float64)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.names

    def outward(self, W: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        scale, offset = self.scale.to(W), self.offset.to(W)
        return W * scale, offset if b is None else b * scale + offset

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

    def loss(
        self,
        name: str,
        V: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
    ) -> Tensor:
        return half_squares(labels - V, weights)

    def slope(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        E = V - labels
        return E if weights is None else weights * E

    def require_loss(self, name: str, smoothing: float = 0.0) -> None:
        if smoothing > 0:
            raise ConfigError(
                "bp.label_smoothing is for classes, and the targets are real values: set bp.label_smoothing=0"
            )
        if name == "cross_entropy":
            raise ConfigError(
                "bp.loss=cross_entropy is for classes, and the targets are real values: set bp.loss=auto"
            )

    def misses(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        squares = (V.double() - labels).square()
        return (squares if weights is None else weights * squares).sum(dim=0)

    def error(self, misses: Tensor, samples: float) -> float:
        return float(((misses.cpu() / samples).sqrt() * self.scale).mean())

    def slack(self, samples: int) -> float:
        return 0.05 * float(self.scale.mean())

    def guess_error(self, labels: Tensor) -> float:
        return self.error(self.misses(labels.mean(dim=0, dtype=torch.float64), labels), len(labels))

    def scores(self, V: Tensor, temperature: float | None) -> dict[str, np.ndarray]:
        return {}

    def probabilities(self, V: Tensor, temperature: float | None) -> Tensor:
        raise ConfigError("this model predicts real values, which have no probabilities: use predict")

    def temperature(self, V: Tensor, labels: Tensor, weights: Tensor | None = None) -> float | None:
        return None

    def measures(self, V: Tensor, labels: Tensor, temperature: float | None = None) -> dict[str, Any]:
        """R² and mean absolute error, means over outputs; of several outputs also those of each."""
        from sklearn import metrics

        true, found = (T.cpu().double() * self.scale + self.offset for T in (labels, V))
        values: dict[str, Any] = {"mae": float(metrics.mean_absolute_error(true, found))}
        if len(true) > 1:  # of one value there is no variance
            values = {"r2": float(metrics.r2_score(true, found)), **values}
        if len(self.names) > 1:
            errors = metrics.mean_squared_error(true, found, multioutput="raw_values") ** 0.5
            values["rmse_of"] = dict(zip(self.names, errors.tolist(), strict=True))
        return values

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "names": list(self.names), "offset": self.offset, "scale": self.scale}

    def answers(self, V: Tensor) -> np.ndarray:
        found = (V.cpu().double() * self.scale + self.offset).numpy()
        return found[:, 0] if found.shape[1] == 1 else found


CLASSES = Classes()
"""Without names."""


def from_state(state: dict[str, Any]) -> Targets:
    """The targets of which `state` is the `Targets.state`."""
    values = {key: value.cpu() if isinstance(value, Tensor) else value for key, value in state.items()}
    return KINDS[str(values.pop("kind"))](**{**values, "names": tuple(values["names"])})


KINDS: dict[str, Callable[..., Targets]] = {kind.kind: kind for kind in (Classes, RealValues)}


def _columns(values: np.ndarray) -> np.ndarray:
    """Values (n or n × m) as n × m in float64."""
    return np.asarray(values, np.float64).reshape(len(values), -1)


def named(y: np.ndarray) -> np.ndarray:
    """Labels (n, n × 1, or one-hot rows) as the names that classes have."""
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim == 2:
        y = y.argmax(axis=1)
    if y.dtype.kind == "f" and (y == np.round(y)).all():
        y = y.astype(np.int64)
    return y.astype(str)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Targets Y (n × classes) with a one at each label."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).to(dtype)


def half_squares(R: Tensor, weights: Tensor | None = None) -> Tensor:
    """½‖R‖² for residuals R (n × m) of samples that count `weights` (n × 1) times; 0-d."""
    return 0.5 * (R.square() if weights is None else weights * R.square()).sum()


def calibrated(outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """The temperature T > 0 for which softmax(outputs/T) has the least log-loss on these labels (n).

    The sample that is classified right by the smallest margin counts once more, with the label that came
    second: a few samples that are all right would else ask for probabilities of 0 and 1.

    Args:
        outputs: n × classes, n ≥ 1.
        labels: n, int64.
        weights: how often samples count (n × 1); default once.
    """
    from scipy.optimize import brentq

    outputs = outputs.double()
    outputs = outputs - outputs.mean(dim=1, keepdim=True)
    size = float(outputs.square().mean().sqrt()) or 1.0
    counts = outputs.new_ones(len(outputs)) if weights is None else weights[:, 0].to(outputs)
    second, runner_up = outputs.scatter(1, labels[:, None], -math.inf).max(dim=1)
    margins = outputs.gather(1, labels[:, None])[:, 0] - second
    nearest = torch.where(margins > 0, margins, math.inf).argmin()
    if outputs.shape[1] > 1 and margins[nearest] > 0:
        outputs = torch.cat([outputs, outputs[nearest][None]])
        labels = torch.cat([labels, runner_up[nearest][None]])
        counts = torch.cat([counts, counts.new_ones(1)])
    own = outputs.gather(1, labels[:, None])[:, 0]

    def slope(log_temperature: float) -> float:
        """Of the log-loss in 1/T, in which it is convex."""
        shares = (outputs / (size * math.exp(log_temperature))).softmax(dim=1)
        return float(counts @ ((shares * outputs).sum(dim=1) - own))

    low, high = -7.0, 7.0
    if slope(low) <= 0:
        return size * math.exp(low)
    return size * math.exp(high if slope(high) >= 0 else brentq(slope, low, high, xtol=1e-12))


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
