"""Networks as a classifier and a regressor.

Legend: samples X (n × p), outputs V (n × m).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import Tags, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from ..data.dataset import Raw
from ..data.preprocessing import CHOICES, Preprocessing
from ..data.splitting import take
from ..data.survey import survey
from ..errors import ConfigError, DataError, require, require_whole
from ..model import Model
from ..network import Network, build_layers
from ..records import Record
from ..runs.progress import Progress
from ..runs.results import versions
from ..source import Memory, mass
from ..targets import Classes, RealValues, Targets, class_weights
from ..training import METHODS, starting_network
from .base import Estimator, check_unmasked, host, like
from .settings import PRETRAINING, network_config, recipe, settings

if TYPE_CHECKING:
    from typing_extensions import Self

BATCHES = range(20, 251)
"""Samples in a mini-batch where nothing else is asked for: a tenth of all, but in this range."""


class Given(NamedTuple):
    """What a fit is given.

    Attributes:
        X: samples, n × p, as they came.
        y: numbers of classes, or values: n, or n × m.
        weights: how often samples count (n); None where all count once.
        device: where to compute.
    """

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    device: torch.device

    def part(self, rows: np.ndarray) -> Given:
        """Of some samples."""
        weights = None if self.weights is None else self.weights[rows]
        return Given(self.X[rows], self.y[rows], weights, self.device)

    def source(self, preprocessing: Preprocessing, targets: Targets, dtype: torch.dtype) -> Memory:
        """As the network sees them, on the device."""
        values = preprocessing.apply(self.X, device=self.device, dtype=dtype)
        labels = targets.labels(self.y, dtype).to(self.device)
        weights = self.weights
        own = None if weights is None else torch.from_numpy(weights)[:, None].to(self.device, dtype)
        return Memory(values, labels, targets=targets, weights=own)


class NetworkEstimator(Estimator):
    """What the classifier and the regressor share: training and outputs."""

    hidden_layer_sizes: Any
    method: str
    max_epochs: int
    batch_size: int | str
    start: str | None
    standardize: str
    options: Mapping[str, Any] | None
    validation_fraction: float
    patience: int | None

    model_: Model

    def _read(self, X: Any, y: Any, sample_weight: Any, *, reset: bool = True) -> Given:
        """What a fit is given as arrays; samples of weight 0 are left out. `reset` finds out the features."""
        device, X = self._device(X), host(X)
        check_unmasked(X)
        X = validate_data(self, X, reset=reset, dtype="numeric", ensure_min_samples=2)
        if y is None:
            raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        y = np.asarray(host(y))
        check_consistent_length(X, y)
        if sample_weight is None:
            return Given(X, y, None, device)
        weights = _check_sample_weight(host(sample_weight), X, dtype=np.float64)
        require(min(weights) >= 0 and max(weights) > 0, "sample_weight", "≥ 0, not all 0", weights)
        return Given(X, y, weights, device).part(weights > 0)

    def _train(self, given: Given, targets: Targets) -> Self:
        """From the start, as the parameters say."""
        epochs = require_whole(self.max_epochs, "max_epochs", 1)
        fraction, patience = self.validation_fraction, self.patience
        require(0 <= fraction < 1, "validation_fraction", "in [0, 1)", fraction)
        require(patience is None or patience >= 1, "patience", "None or ≥ 1", patience)
        held = round(fraction * len(given.y))
        if patience is not None and held == 0:
            raise ConfigError(
                "patience needs a validation part: raise validation_fraction, or set patience=None"
            )
        return self._begin(given, targets, epochs, held)

    def _begin(self, given: Given, targets: Targets, epochs: int, count: int) -> Self:
        """Hold `count` samples out, find the scale of features and targets, and train on the rest."""
        require(self.standardize in CHOICES, "standardize", f"one of {', '.join(CHOICES)}", self.standardize)
        seed, strata = self._seed(), targets.strata(given.y)
        held, rows = take(strata, count, np.random.default_rng(seed))
        found = survey(Raw(given.X, strata, targets, 255 if given.X.dtype == np.uint8 else 1), rows)
        X, dtype, kept = found.raw.X, self._dtype(given.X), given.part(rows)
        fitted = Preprocessing.fit(
            self.standardize, X, rows, found.low, found.high, found.raw.maximum, kept.weights
        )
        names = tuple(map(str, getattr(self, "feature_names_in_", ())))
        preprocessing = replace(fitted, names=names)
        targets = targets.fitted(kept.y, kept.weights)
        train = kept.source(preprocessing, targets, dtype)
        validation = given.part(held).source(preprocessing, targets, dtype) if count else None
        config = network_config(self.hidden_layer_sizes, self.method, self.start)
        layers = build_layers(config, train.features, None, len(targets.names))
        generator = torch.Generator().manual_seed(seed)
        start = starting_network(train, layers, config, PRETRAINING, recipe(self.method).solver, generator)
        progress = self._run(start.network, train, validation, epochs, generator)
        self.loss_curve_ = [record.objective for record in progress.records]
        self.validation_errors_ = [r.validation_error for r in progress.records] if validation else None
        self.n_epochs_, self.kept_epoch_ = int(progress.last.epoch), int(progress.kept_epoch)
        self._keep(Network(progress.weights, True, layers), preprocessing, validation or train)
        return self

    def _continue(self, given: Given) -> Self:
        """One more epoch, on these samples."""
        network = self.model_.network.to(given.device)
        source = given.source(self.model_.preprocessing, self.model_.targets, network.weights[0].dtype)
        generator = torch.Generator().manual_seed(self._seed())
        progress = self._run(network, source, None, 1, generator)
        self.loss_curve_.append(progress.last.objective)
        self.n_epochs_ += 1
        self.kept_epoch_ = self.n_epochs_
        self._keep(Network(progress.weights, True, network.layers), self.model_.preprocessing, source)
        return self

    def _run(
        self,
        start: Network,
        train: Memory,
        validation: Memory | None,
        epochs: int,
        generator: torch.Generator,
    ) -> Progress:
        """Train epoch by epoch, and keep the weights of the lowest validation error."""
        parts = settings(self.method, self.options, epochs, self._batch(len(train)))
        trainer = METHODS[self.method].make(parts, start, train, generator)
        progress = Progress()
        for epoch in range(1, epochs + 1):
            trainer.epoch()
            network = trainer.network
            objective = trainer.objective(network.outputs(train.X), train.labels, train.weights)
            error = error_on(network, validation) if validation else None
            progress.add(Record(epoch, math.nan, error, math.nan, objective, 0.0, 0.0), network.weights)
            if self.patience is not None and progress.stale_epochs >= self.patience:
                break
        return progress

    def _batch(self, samples: int) -> int:
        if self.batch_size == "auto":
            return min(max(samples // 10, BATCHES[0]), BATCHES[-1], samples)
        require(
            not isinstance(self.batch_size, str), "batch_size", "'auto' or an integer ≥ 1", self.batch_size
        )
        return min(require_whole(self.batch_size, "batch_size", 1), samples)

    def _keep(self, network: Network, preprocessing: Preprocessing, judged: Memory) -> None:
        """Set `model_`; `judged` are the samples that were held out, or where none were, all."""
        V = network.outputs(judged.X)
        temperature = judged.targets.temperature(V, judged.labels, judged.weights)
        self.model_ = Model(network, judged.targets, preprocessing, None, temperature, self._information())

    def _information(self) -> dict[str, Any]:
        """For the model's file."""
        parameters = {name: value for name, value in self.get_params().items() if name != "random_state"}
        return {
            "method": self.method,
            "estimator": type(self).__name__,
            "parameters": {name: str(value) for name, value in parameters.items()},
            "epoch": self.kept_epoch_,
            "versions": versions(),
        }

    def _outputs(self, X: Any) -> Tensor:
        """V for samples X, on the device of the network."""
        check_is_fitted(self)
        check_unmasked(X)
        return self.model_.outputs(validate_data(self, host(X), reset=False, dtype="numeric"))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def error_on(network: Network, source: Memory) -> float:
    """How bad the outputs of a network are, by the weights of the samples: of classes in %, of real values in
    their unit.
    """
    misses = source.targets.misses(network.outputs(source.X), source.labels, source.weights)
    return source.targets.error(misses, mass(source))


class NMFNetworkClassifier(ClassifierMixin, NetworkEstimator):
    """A ReLU network for classes, trained by alternating factorizations, without backpropagation.

    Samples are standardized inside (bytes are taken as pixels and stand for 0..1), so features may have any
    unit. Probabilities are calibrated, on the samples that are held out or, if none are, on all.

    Args:
        hidden_layer_sizes: widths of the hidden layers.
        method: "jacobi" (all layers from one forward pass), "seidel" (layer after layer), "nmf" (the same
            as published) or "bp" (backpropagation).
        max_epochs: passes over the samples.
        batch_size: samples in a mini-batch; "auto" is a tenth of all, from 20 to 250.
        start: of the hidden layers: "he", "uniform" or "pretrained" (stacked NMF autoencoders); None is the
            method's.
        standardize: "auto", "standard" (mean 0, standard deviation 1), "minmax" or "none".
        options: the method's own parameters by name, see `nmfdnn.training`: `JacobiConfig`, `SeidelConfig`,
            `AlternatingConfig`, `BackpropConfig`.
        validation_fraction: share of the samples that is held out: of all epochs the weights with the lowest
            error there are kept. 0 trains on all and keeps the last weights, which is better for few samples.
        patience: stop after so many epochs without a better validation error.
        class_weight: "balanced", or a weight for each class.
        random_state: of the split, the start and the order of samples.
        device: where to compute, as "cuda"; None where the samples are: arrays on the CPU.
        dtype: "float32" or "float64"; None that of the samples, float32 where it is neither.

    Attributes:
        classes_: labels, in order.
        model_: the `nmfdnn.Model`: `model_.save("x.safetensors")`, and `nmfdnn.load` reads it without this
            package's estimators.
        loss_curve_: the method's objective on the training part after each epoch.
        validation_errors_: errors in % on the held-out part after each epoch; None where nothing is held out.
        n_epochs_, kept_epoch_: epochs trained, and the one whose weights are kept.

    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import train_test_split
    >>> from nmfdnn.estimators import NMFNetworkClassifier
    >>> X, X_test, y, y_test = train_test_split(*load_wine(return_X_y=True), random_state=0)
    >>> model = NMFNetworkClassifier(random_state=0).fit(X, y)
    >>> model.score(X_test, y_test) > 0.9
    True
    >>> model.predict_proba(X_test[:2]).shape
    (2, 3)
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (200, 100),
        *,
        method: str = "jacobi",
        max_epochs: int = 40,
        batch_size: int | str = "auto",
        start: str | None = None,
        standardize: str = "auto",
        options: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        random_state: Any = None,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.method = method
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.start = start
        self.standardize = standardize
        self.options = options
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on samples X (n × p) with labels y (n), numbers or text; one of weight 2 counts as two.

        Raises:
            ValueError: samples, labels, weights or parameters outside their range.
        """
        given = self._read(X, y, sample_weight)
        self._know(given.y)
        return self._train(self._counted(given), self._goal())

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train one epoch more, on these samples.

        The first call fixes the scale of the features and the classes, which must be given if y has not all
        of them.
        """
        first = not hasattr(self, "model_")
        given = self._read(X, y, sample_weight, reset=first)
        if not first:
            return self._continue(self._counted(given))
        self._know(given.y if classes is None else np.append(given.y, classes))
        return self._begin(self._counted(given), self._goal(), 1, 0)

    def _know(self, y: np.ndarray) -> None:
        check_classification_targets(y)
        self.classes_ = np.unique(column_or_1d(y, warn=True))
        if len(self.classes_) < 2:
            raise DataError("y has one class alone: a classifier needs samples of at least 2 classes")

    def _counted(self, given: Given) -> Given:
        """With numbers of classes for labels, and weights that count classes too."""
        y = column_or_1d(given.y)
        if not np.isin(y, self.classes_).all():
            unknown = np.setdiff1d(y, self.classes_)[:5].tolist()
            raise DataError(
                f"y has the labels {unknown}, which were not among the first: give all as `classes` then"
            )
        labels = np.searchsorted(self.classes_, y)
        if self.class_weight is None:
            return given._replace(y=labels)
        how = self.class_weight if isinstance(self.class_weight, str) else dict(self.class_weight)
        weights = class_weights(labels, self._goal().names, how, given.weights)
        return given._replace(y=labels, weights=weights).part(weights > 0)

    def _goal(self) -> Targets:
        return Classes(tuple(map(str, self.classes_.tolist())))

    def predict(self, X: Any) -> Any:
        """Labels (n) of samples X (n × p); of tensors a tensor, where labels are numbers."""
        best = self._outputs(X).argmax(dim=1)
        labels = self.classes_[best.cpu().numpy()]
        return (
            torch.as_tensor(labels).to(X.device)
            if isinstance(X, Tensor) and labels.dtype.kind in "iufb"
            else labels
        )

    def predict_proba(self, X: Any) -> Any:
        """Probabilities (n × classes): softmax of the outputs divided by `model_.temperature`."""
        V = self._outputs(X)
        return like(self.model_.targets.probabilities(V, self.model_.temperature), X)

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of `predict_proba`, where that is too small for a number, too."""
        V = self._outputs(X).double()
        assert self.model_.temperature is not None  # for the type checker: classes have one
        return like((V / self.model_.temperature).log_softmax(dim=1), X)

    def decision_function(self, X: Any) -> Any:
        """Outputs (n × classes), the highest of which decides; of two classes how far the second is ahead
        (n).
        """
        V = self._outputs(X)
        return like(V[:, 1] - V[:, 0] if V.shape[1] == 2 else V, X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of samples whose label is predicted."""
        return float(accuracy_score(host(y), host(self.predict(X)), sample_weight=host(sample_weight)))


class NMFNetworkRegressor(RegressorMixin, NetworkEstimator):
    """A ReLU network for real values, one or several, trained by alternating factorizations.

    Samples and values are standardized inside, so both may have any unit.

    Args:
        hidden_layer_sizes: widths of the hidden layers.
        method: "jacobi" (all layers from one forward pass), "seidel" (layer after layer), "nmf" (the same
            as published) or "bp" (backpropagation).
        max_epochs: passes over the samples.
        batch_size: samples in a mini-batch; "auto" is a tenth of all, from 20 to 250.
        start: of the hidden layers: "he", "uniform" or "pretrained" (stacked NMF autoencoders); None is the
            method's.
        standardize: of the features: "auto", "standard" (mean 0, standard deviation 1), "minmax" or "none".
        options: the method's own parameters by name, see `nmfdnn.training`: `JacobiConfig`, `SeidelConfig`,
            `AlternatingConfig`, `BackpropConfig`.
        validation_fraction: share of the samples that is held out: of all epochs the weights with the lowest
            error there are kept. 0 trains on all and keeps the last weights, which is better for few samples.
        patience: stop after so many epochs without a better validation error.
        random_state: of the split, the start and the order of samples.
        device: where to compute, as "cuda"; None where the samples are: arrays on the CPU.
        dtype: "float32" or "float64"; None that of the samples, float32 where it is neither.

    Attributes:
        model_: the `nmfdnn.Model`: `model_.save("x.safetensors")`, and `nmfdnn.load` reads it.
        loss_curve_: the method's objective on the training part after each epoch.
        validation_errors_: root mean square errors on the held-out part after each epoch, in the unit of y
            (the mean of several outputs' errors); None where nothing is held out.
        n_epochs_, kept_epoch_: epochs trained, and the one whose weights are kept.

    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import train_test_split
    >>> from nmfdnn.estimators import NMFNetworkRegressor
    >>> X, X_test, y, y_test = train_test_split(*load_diabetes(return_X_y=True), random_state=0)
    >>> NMFNetworkRegressor(random_state=0).fit(X, y).score(X_test, y_test) > 0.2
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (200, 100),
        *,
        method: str = "jacobi",
        max_epochs: int = 40,
        batch_size: int | str = "auto",
        start: str | None = None,
        standardize: str = "auto",
        options: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        random_state: Any = None,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.method = method
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.start = start
        self.standardize = standardize
        self.options = options
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on samples X (n × p) with values y (n, or n × m); one of weight 2 counts as two.

        Raises:
            ValueError: samples, values, weights or parameters outside their range.
        """
        given = self._read(X, y, sample_weight)
        return self._train(self._values(given), RealValues())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch more, on these samples; the first call fixes the scale of features and values."""
        first = not hasattr(self, "model_")
        given = self._values(self._read(X, y, sample_weight, reset=first))
        return self._begin(given, RealValues(), 1, 0) if first else self._continue(given)

    def _values(self, given: Given) -> Given:
        """With numbers n × m for y; remembers whether it was flat."""
        y = check_array(given.y, dtype=np.float64, ensure_2d=False, input_name="y")
        self._flat = y.ndim == 1
        return given._replace(y=y.reshape(len(y), -1))

    def predict(self, X: Any) -> Any:
        """Values of samples X (n × p): n, or n × m where y had m columns."""
        V = self._outputs(X)
        values = torch.from_numpy(self.model_.targets.answers(V))
        return like(values if self._flat else values.reshape(len(values), -1), X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R², the mean of several outputs'."""
        return float(r2_score(host(y), host(self.predict(X)), sample_weight=host(sample_weight)))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags
