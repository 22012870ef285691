"""What the output is asked for, and how often samples count: every method, from its starting network on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmfdnn.errors import ConfigError, DataError
from nmfdnn.linalg import METHODS
from nmfdnn.network import ConvolutionConfig, Network, NetworkConfig, build_layers
from nmfdnn.source import Memory
from nmfdnn.targets import CLASSES, RealValues, Targets, class_weights
from nmfdnn.training import (
    AlternatingConfig,
    AlternatingTrainer,
    BackpropConfig,
    BackpropTrainer,
    JacobiConfig,
    JacobiTrainer,
    PretrainingConfig,
    SeidelConfig,
    SeidelTrainer,
    SolverConfig,
    Trainer,
    starting_network,
)

N, FEATURES = 60, 36


def problem(kind: str, n: int = N) -> tuple[Tensor, Targets, Tensor]:
    """Samples X, what is asked for, and values: three classes, or two outputs in different units."""
    rng = np.random.default_rng(3)
    X = rng.random((n, FEATURES))
    values = np.maximum(X @ rng.standard_normal((FEATURES, 8)), 0) @ rng.standard_normal((8, 3))
    values -= values.mean(axis=0)
    targets: Targets = CLASSES
    if kind == "real":
        targets = RealValues()  # fitted by those who know the weights
        return torch.from_numpy(X), targets, torch.from_numpy(values[:, :2] * [1.0, 1e3] + [5.0, 0])
    return torch.from_numpy(X), targets, torch.from_numpy(values.argmax(axis=1))


def trainer(
    method: str,
    X: Tensor,
    labels: Tensor,
    targets: Targets,
    weights: Tensor | None,
    size: int,
    *,
    convolution: bool = False,
    solver: str = "svd",
    epochs: int = 4,
    **options: Any,
) -> Trainer:
    """On fitted targets, from a start by least squares."""
    if isinstance(targets, RealValues):
        targets = targets.fitted(labels.numpy(), None if weights is None else weights.numpy())
        labels = targets.labels(labels.numpy(), X.dtype)
    column = None if weights is None else weights.to(X)[:, None]
    source = Memory(X, labels, targets=targets, weights=column)
    config = NetworkConfig([10] if convolution else [12, 10], True)
    if convolution:
        config = NetworkConfig([10], True, convolution=[ConvolutionConfig(3, 3)])
    layers = build_layers(config, FEATURES, (6, 6), labels.shape[1] if labels.ndim > 1 else 3)
    g = torch.Generator().manual_seed(1)
    solve = SolverConfig(solver, 1e-2, 1e-2)
    start = starting_network(source, layers, config, PretrainingConfig(), solve, g).network
    if method == "nmf":
        ridges = {"weight_ridge": 1e-3, "code_ridge": 1e-3, "weight_steps": 2} | options
        return AlternatingTrainer(start, source, AlternatingConfig(size, **ridges), solve, g)
    if method == "jacobi":
        return JacobiTrainer(start, source, JacobiConfig(size, gram_every=2, **options), epochs, g)
    if method == "seidel":
        return SeidelTrainer(start, source, SeidelConfig(size, gram_every=2, **options), epochs, g)
    return BackpropTrainer(start, source, BackpropConfig(size, **options), epochs, g)


def trained(*arguments: Any, epochs: int = 4, **options: Any) -> tuple[Network, float]:
    """The network after training, and the objective on the training samples."""
    found = trainer(*arguments, epochs=epochs, **options)
    for _ in range(epochs):
        found.epoch()
    source = found.source
    return found.network, found.objective(found.network.outputs(source.X), source.labels, source.weights)


CASES = [
    *(("nmf", {"solver": solver}) for solver in METHODS),
    ("nmf", {"input_factor": "batch"}),
    ("nmf", {"order": "codes_first"}),
    ("nmf", {"convolution": True}),
    ("jacobi", {}),
    ("jacobi", {"convolution": True}),
    ("seidel", {}),
    ("seidel", {"convolution": True}),
    ("bp", {}),
    ("bp", {"convolution": True, "optimizer": "sgd", "loss": "squared"}),
]


@pytest.mark.parametrize("kind", ["classes", "real"])
@pytest.mark.parametrize(("method", "options"), CASES)
def test_whole_weights_are_repeated_samples_and_those_of_weight_0_are_absent(method, options, kind):
    X, targets, labels = problem(kind)
    weights = torch.from_numpy(np.random.default_rng(0).integers(0, 4, N))
    repeated = torch.arange(N).repeat_interleave(weights)
    assert (weights == 0).any()
    assert len(repeated) > 1.2 * N
    network, objective = trained(method, X, labels, targets, weights.double(), N, **options)
    expected, same = trained(method, X[repeated], labels[repeated], targets, None, len(repeated), **options)
    # Truncation at singular values, and activity at zero, are steps: nothing here is near to one.
    torch.testing.assert_close(network.outputs(X), expected.outputs(X), rtol=1e-7, atol=1e-7)
    assert objective == pytest.approx(same, rel=1e-7)


@pytest.mark.parametrize("kind", ["classes", "real"])
@pytest.mark.parametrize("method", ["nmf", "jacobi", "seidel", "bp"])
def test_weights_of_one_change_nothing(method, kind):
    X, targets, labels = problem(kind)
    plain = trained(method, X, labels, targets, None, 20)[0].outputs(X)
    weighted = trained(method, X, labels, targets, torch.ones(N), 20)[0].outputs(X)
    torch.testing.assert_close(weighted, plain, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", ["nmf", "bp"])
def test_a_factor_of_all_weights_does_not_matter(method):
    """It does with `jacobi`, whose ridges follow the number of samples."""
    X, targets, labels = problem("classes")
    weights = torch.rand(N, generator=torch.Generator().manual_seed(0)) + 0.1
    first, second = (
        trained(method, X, labels, targets, weights * by, 20)[0].outputs(X) for by in (1.0, 2.0**20)
    )
    torch.testing.assert_close(second, first, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "options"), [("nmf", {}), ("jacobi", {}), ("bp", {"learning_rate": 1e-2})]
)
def test_every_method_learns_real_values_in_any_unit(method, options):
    X, targets, values = problem("real", 400)
    made = trainer(method, X, values, targets, None, 40, epochs=60, **options)
    for _ in range(60):
        made.epoch()
    found = made.source.targets
    V = made.network.outputs(X)
    explained = 1 - np.var(found.answers(V) - values.numpy(), axis=0) / np.var(values.numpy(), axis=0)
    assert (explained > 0.9).all()
    error = found.error(found.misses(V, made.source.labels), len(X))
    plain = np.sqrt(np.mean((found.answers(V) - values.numpy()) ** 2, axis=0)).mean()
    assert error == pytest.approx(plain, rel=1e-9)


def test_weights_turn_the_choice_between_classes():
    """Two classes that cannot be told apart: the heavier one wins."""
    X = torch.rand(40, FEATURES, generator=torch.Generator().manual_seed(0), dtype=torch.float64).repeat(2, 1)
    labels = torch.arange(2).repeat_interleave(40)
    for method in ("nmf", "jacobi", "bp"):
        for heavy in (0, 1):
            weights = torch.where(labels == heavy, 3.0, 1.0)
            network = trained(method, X, labels, CLASSES, weights, 80, epochs=10)[0]
            assert (network.predict(X) == heavy).double().mean() > 0.9


def test_values_are_standardised_by_weighted_moments_of_any_size():
    y = np.array([[1e200, 1.0], [3e200, 2.0], [5e200, 6.0]])
    targets = RealValues(("a", "b")).fitted(y, np.array([1, 1, 2]))
    torch.testing.assert_close(
        targets.offset / torch.tensor([1e200, 1.0], dtype=torch.float64), torch.tensor([3.5, 3.75]).double()
    )
    np.testing.assert_allclose(targets.answers(targets.labels(y, torch.float64)), y)
    single = RealValues().fitted(y[:, 1])
    np.testing.assert_allclose(single.answers(single.labels(y[:, 1], torch.float64)), y[:, 1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.nan, np.inf], "hold NaN or infinity in 2 samples"),
        ([0.1, 0.1, 0.1], r"the target y is 0\.1 in all 3 training samples"),
        ([[1.0, 2], [2, 2], [3, 2]], "the target y1 is 2 in all 3"),
    ],
)
def test_values_from_which_nothing_can_be_learnt(values, message):
    with pytest.raises(DataError, match=message):
        RealValues().fitted(np.array(values))


def test_cross_entropy_is_for_classes():
    X, targets, values = problem("real")
    with pytest.raises(ConfigError, match=r"bp.loss=cross_entropy is for classes.*set bp.loss=auto"):
        trainer("bp", X, values, targets, None, 20, loss="cross_entropy")


def test_balanced_classes_weigh_alike():
    labels = np.array([0, 0, 0, 1])
    assert class_weights(labels, "ab", "balanced") == pytest.approx([2 / 3] * 3 + [2])
    weights = np.array([1, 0, 1, 6.0])
    found = class_weights(labels, "ab", "balanced", weights)
    assert found.sum() == pytest.approx(weights.sum())
    assert found[:3].sum() == pytest.approx(found[3])
    assert class_weights(labels, [7, 8], {8: 5}).tolist() == [1, 1, 1, 5]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("even", "class_weight must be null, balanced or a weight for each class, got 'even'"),
        ({"c": 1}, r"about classes that there are \(a, b\), got 'c'"),
        ({"a": -1}, "of numbers ≥ 0, got -1"),
        ({"a": 0, "b": 0}, "above 0 for a class that has samples"),
    ],
)
def test_impossible_class_weights(how, message):
    with pytest.raises(ConfigError, match=message):
        class_weights(np.array([0, 1]), "ab", how)
