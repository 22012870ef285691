"""Training of convolutional nets: whole updates against dense nets, NumPy and torch's own layers."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from pictures import NETS, digits, matrices, problem
from planted import error_rate, targets
from torch import Tensor, nn

from nmfdnn.network import (
    Convolution,
    ConvolutionConfig,
    Dense,
    Network,
    NetworkConfig,
    Pooled,
    build_layers,
    dense,
)
from nmfdnn.network import network as network_module
from nmfdnn.source import Memory, Source
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
    pretrain,
    pretraining,
    relaxation,
    starting_network,
)

EXACT = SolverConfig("svd", 1e-12, 1e-12)
ROUNDING = 1e-10


def alternate(start: Network, source: Source, size: int = 30, epochs: int = 2, **values: Any) -> Trainer:
    config = AlternatingConfig(**{"batch_size": size, "averaging": 0.6, "weight_steps": 2} | values)
    return AlternatingTrainer(start, source, config, EXACT, order(), parts=2)


def jacobi(start: Network, source: Source, size: int = 30, epochs: int = 2, **values: Any) -> Trainer:
    config = JacobiConfig(**{"batch_size": size, "input_delta": 0.0} | values)
    return JacobiTrainer(start, source, config, epochs, order(), parts=2)


def seidel(start: Network, source: Source, size: int = 30, epochs: int = 2, **values: Any) -> Trainer:
    config = SeidelConfig(**{"batch_size": size, "input_delta": 0.0} | values)
    return SeidelTrainer(start, source, config, epochs, order(), parts=2)


def backpropagate(start: Network, source: Source, size: int = 30, epochs: int = 2, **values: Any) -> Trainer:
    config = BackpropConfig(**{"batch_size": size, "dropout": 0.1} | values)
    return BackpropTrainer(start, source, config, epochs, order(), parts=2)


MAKERS = [alternate, jacobi, seidel, backpropagate]
Maker = Callable[..., Trainer]


def order(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def whole(side: int) -> list[ConvolutionConfig]:
    """Kernels as large as the pictures: at one place there is a picture of one pixel for the next."""
    return [ConvolutionConfig(12, side), ConvolutionConfig(8, 1)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("make", MAKERS)
def test_kernels_as_large_as_pictures_are_a_dense_net(make: Maker, bias, device):
    """From NMF pre-training through two epochs to the last digit but rounding."""
    X, labels = digits(120, device, torch.float64)
    # No pixel is dark everywhere, which would leave truncation a choice.
    X = X + 0.1 * torch.rand(X.shape, generator=order(), dtype=X.dtype).to(device)
    source, found = Memory(X, labels), []
    for layers in (
        build_layers(NetworkConfig([], convolution=whole(8)), 64, (8, 8), 10),
        dense(64, 12, 8, 10),
    ):
        start = starting_network(
            source,
            layers,
            NetworkConfig([9], bias, "pretrained"),
            PretrainingConfig(100, 3, 5, 5),
            EXACT,
            order(0),
        )
        trainer = make(start.network, source)
        epochs = [trainer.epoch() for _ in range(4)]
        found.append((start, trainer.network, [epoch.residuals for epoch in epochs]))
    (start, network, residuals), (dense_start, dense_network, dense_residuals) = found
    for a, b in zip(start.layers, dense_start.layers, strict=True):
        assert oracle.error(a.U, b.U) < ROUNDING
        assert a.reconstruction == pytest.approx(b.reconstruction, rel=ROUNDING)
    for a, b in zip(
        [*start.network.weights, *network.weights],
        [*dense_start.network.weights, *dense_network.weights],
        strict=True,
    ):
        assert oracle.error(a, b) < ROUNDING
    assert oracle.array(residuals) == pytest.approx(oracle.array(dense_residuals), rel=ROUNDING)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("bias", [False, True])
def test_the_forward_pass_equals_the_equations(name, bias, device):
    start, source = problem(name, bias, device)
    W, maps = [oracle.array(w) for w in start.weights], matrices(start.layers)
    codes, outputs = oracle.forward(oracle.array(source.X), W, bias, maps)
    for found, expected in zip(start.codes(source.X), codes, strict=True):
        assert oracle.error(found, expected) < 1e-13
    assert oracle.error(start.outputs(source.X), outputs) < 1e-13


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("size", [30, 2], ids=["more rows than units", "fewer in dense layers"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    ("kind", "settings", "equations"),
    [(JacobiTrainer, JacobiConfig, oracle.Jacobi), (SeidelTrainer, SeidelConfig, oracle.Seidel)],
    ids=["jacobi", "seidel"],
)
def test_relaxed_epochs_equal_the_equations(kind, settings, equations, name, bias, size, every, device):
    """Statistics of patches, line searches along what is folded back, ridges, rates: all enter."""
    start, source = problem(name, bias, device, n=60 if size == 30 else 16)
    n, config = len(source), settings(size, gram_every=every, input_delta=0.0, averaging=0.0)
    trainer = kind(start, source, config, 2, order())
    X, Y = oracle.array(source.X), oracle.array(targets(source))
    W, maps = [oracle.array(w) for w in start.weights], matrices(start.layers)
    reference = equations(X, W, config, bias, 2 * (n // size), maps)
    shuffle = order()
    for _ in range(2):
        trainer.epoch()
        for rows in torch.randperm(n, generator=shuffle).reshape(-1, size).numpy():
            reference.update(X[rows], Y[rows])
    for found, expected in zip(trainer.network.weights, reference.history[-1], strict=True):
        assert oracle.error(found, expected) < ROUNDING


VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "codes first": {"order": "codes_first"},
    "several": {"output_iterations": 2, "hidden_iterations": 2, "code_steps": 2},
    "relaxed": {"omega": 0.7, "weight_ridge": 1e-2},
}
"""With a ridge for the codes: without, roots of rounded zeros have half the digits."""


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("input_factor", ["full", "batch"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_alternating_updates_equal_the_equations(name, bias, input_factor, variant, device):
    start, source = problem(name, bias, device, n=120)
    trainer = alternate(start, source, 60, input_factor=input_factor, code_ridge=1e-3, **VARIANTS[variant])
    config, maps = trainer.config, matrices(start.layers)
    settings = oracle.Settings(
        bias,
        config.output_iterations,
        config.hidden_iterations,
        config.weight_steps,
        config.code_steps,
        config.order == "codes_first",
        config.omega,
        config.weight_ridge,
        config.code_ridge,
    )
    X, Y = oracle.array(source.X), oracle.array(targets(source))
    W = [oracle.array(w) for w in start.weights]
    scales = oracle.units(X, W, bias, maps)
    X, W = X / scales[0], oracle.in_units(W, scales, bias)
    trainer.epoch()
    rows = torch.randperm(120, generator=order())[:60].numpy()
    W, _ = oracle.alternating_update(
        X[rows], Y[rows], W, settings, X if input_factor == "full" else None, maps
    )
    W = oracle.in_units(W, [1 / scale for scale in scales], bias)
    # What is fitted to codes that have moved already may meet columns of them, or of weights, near zero.
    limit = 1e-6 if variant in ("codes first", "several") else ROUNDING
    for found, expected in zip(trainer.network.weights, W, strict=True):
        assert oracle.error(found, expected) < limit


class ChannelsLast(nn.Module):
    def forward(self, Z: Tensor) -> Tensor:
        return Z.permute(0, 2, 3, 1).flatten(1)


def modules(start: Network, shape: tuple[int, ...]) -> nn.Sequential:
    """The same net of torch's layers, which has them lie channels first."""
    found: list[nn.Module] = [nn.Unflatten(1, shape if len(shape) > 2 else (1, *shape))]
    flat = False
    for layer, weights in zip(start.layers, start.weights, strict=True):
        W, b = weights[: layer.fan_in], weights[layer.fan_in :]
        if isinstance(layer, Pooled):
            found.append(nn.AvgPool2d(layer.size))
            layer = layer.then
        if isinstance(layer, Convolution):
            made: nn.Module = nn.Conv2d(
                layer.channels, layer.units, layer.kernel, layer.stride, layer.padding, bias=len(b) > 0
            )
            W = W.view(layer.kernel, layer.kernel, layer.channels, layer.units).permute(3, 2, 0, 1)
        else:
            assert isinstance(layer, Dense)
            if not flat:
                found.append(ChannelsLast())
            flat = True
            made, W = nn.Linear(layer.fan_in, layer.units, bias=len(b) > 0), W.T
        made.weight = nn.Parameter(W.clone())
        if len(b):
            made.bias = nn.Parameter(b[0].clone())
        found += [made, nn.ReLU()]
    return nn.Sequential(*found[:-1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_backpropagation_equals_that_of_torch(name, bias, optimizer, device):
    start, source = problem(name, bias, device)
    trainer = backpropagate(start, source, 30, optimizer=optimizer, dropout=0.0, schedule="constant")
    net = modules(start, NETS[name][0])
    steps = (
        torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0)
        if optimizer == "adam"
        else torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    )
    shuffle = order()
    for _ in range(2):
        for _ in range(2):  # parts of an epoch
            trainer.epoch()
        for rows in torch.randperm(90, generator=shuffle).reshape(3, 30).to(device):
            steps.zero_grad()
            nn.functional.cross_entropy(net(source.X[rows]), source.labels[rows]).backward()
            steps.step()
    assert oracle.error(trainer.network.outputs(source.X), net(source.X)) < 1e-9
    assert oracle.error(trainer.network.weights[-1][: start.layers[-1].fan_in], net[-1].weight.T) < 1e-9


@pytest.mark.parametrize("name", ["padded", "pooled"])
@pytest.mark.parametrize("make", MAKERS)
def test_continued_in_the_middle_of_an_epoch_bit_for_bit(make: Maker, name, device, dtype):
    def trainer() -> Trainer:
        return make(*problem(name, True, device, dtype), 20)

    def same(a: Trainer, b: Trainer) -> bool:
        return all(torch.equal(*pair) for pair in zip(a.network.weights, b.network.weights, strict=True))

    whole, first, second = trainer(), trainer(), trainer()
    for _ in range(4):
        whole.epoch()
    for _ in range(3):
        first.epoch()
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    second.load_state(torch.load(file, weights_only=True))
    assert same(first, second)
    second.epoch()
    assert same(whole, second)
    assert not same(whole, first)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_start_from_parts_that_fit_in_memory(name, weighted, device, monkeypatch):
    """Whatever the batches are: as from all samples at once, of which some give rows."""
    monkeypatch.setattr(relaxation, "CODE_ROWS", 25)
    start, source = problem(name, True, device)
    if weighted:
        source = replace(source, weights=torch.rand(90, 1, generator=order(), dtype=torch.float64).to(device))
    found, seen = [], []
    for at_once in (90, 7):
        trainer = jacobi(start, source)
        monkeypatch.setattr(network_module, "CODES_AT_ONCE", at_once * 4 * max(start.widths))
        forward = trainer._forward
        trainer._forward = lambda X, forward=forward: (seen.append(len(X)), forward(X))[1]
        trainer._prepare()
        found.append(trainer)
    assert seen == [90, *[7] * 12, 6]
    for part, whole in zip(found[1].code_metrics, found[0].code_metrics, strict=True):
        assert oracle.error(part.mean, oracle.array(whole.mean)) < ROUNDING
        assert oracle.error(part.covariance, oracle.array(whole.covariance)) < ROUNDING
    for part, whole in zip(found[1].activity, found[0].activity, strict=True):
        assert oracle.error(part, oracle.array(whole)) < ROUNDING


@pytest.mark.parametrize("convolution", [[ConvolutionConfig(8, 3, pool=2)], [ConvolutionConfig(8, 3, 2, 1)]])
@pytest.mark.parametrize("make", MAKERS)
def test_every_method_learns_digits(make: Maker, convolution, device, dtype):
    X, labels = digits(600, device, dtype)
    source, config = Memory(X, labels), NetworkConfig([32], True, "he", "random", convolution)
    layers = build_layers(config, 64, (8, 8), 10)
    start = starting_network(source, layers, config, PretrainingConfig(), EXACT, order(0)).network
    values = {backpropagate: {"learning_rate": 1e-2}, alternate: {"weight_ridge": 1e-3}}.get(make, {})
    trainer = make(start, source, {alternate: 300}.get(make, 100), 12, **values)
    assert error_rate(start, X, labels) > 0.7
    for _ in range(24):
        trainer.epoch()
    assert error_rate(trainer.network, X, labels) < 0.1


@pytest.mark.parametrize("samples", [None, 50])
def test_pretraining_sees_patches(samples, device, monkeypatch):
    """Each layer's start is the autoencoder of its rows, of at most so many samples and patches."""
    monkeypatch.setattr(pretraining, "PATCHES_AT_ONCE", 100)  # of two pictures in the first layer
    X, labels = digits(80, device, torch.float64)
    config = NetworkConfig([5], convolution=[ConvolutionConfig(6, 3, pool=2), ConvolutionConfig(4, 2)])
    layers = build_layers(config, 64, (8, 8), 10)
    settings = PretrainingConfig(samples, 3, 5, 5)
    found = pretrain(Memory(X, labels), layers[:-1], True, settings, EXACT, order(0))
    assert [tuple(layer.W.shape) for layer in found] == [(10, 6), (25, 4), (17, 5)]
    assert [tuple(layer.U.shape) for layer in found] == [(6, 9), (4, 24), (5, 16)]
    weights = [oracle.array(layer.W) for layer in found]
    maps = matrices(layers)
    g, Z = order(0), oracle.array(X)
    if samples:
        Z = Z[torch.randperm(80, generator=g)[:samples].numpy()]
    for i, layer in enumerate(found):
        A = oracle.rows(Z, maps, i, weights[i], True)
        if samples and layers[i].positions > 1:
            A = A[np.sort(torch.randperm(len(A), generator=g)[:samples].numpy())]
        start = [
            torch.rand(shape, generator=g, dtype=torch.float64).numpy()
            for shape in ((len(A), layers[i].units), (layers[i].units, layers[i].fan_in))
        ]
        W, U, errors = oracle.pretrained_layer(A, *start, 3, 5, 5, True, 1e-12)
        assert oracle.error(layer.W, W) < 1e-8
        assert oracle.error(layer.U, U) < 1e-8
        assert layer.reconstruction == pytest.approx(errors, rel=1e-8)
        Z = oracle.relu(oracle.hat(oracle.rows(Z, maps, i, weights[i], True), True) @ weights[i])
        Z = Z.reshape(-1, layers[i].outputs)


def test_a_pool_leaves_differences_within_it_to_the_layer_below(device):
    """An alternating update asks pixels of a pool to move together, not to become equal."""
    start, source = problem("pooled, dense", True, device)
    trainer = alternate(start, source, 90)
    batch = next(iter(trainer.order.part()))
    before = start.codes(batch.X)[1] / trainer.scales[1]
    codes = trainer.update(batch)[1]
    pools = [Z.view(90, 6, 6, 3)[:, :2, :2].reshape(90, 4, 3) for Z in (before, codes)]
    spread, kept = (pool.var(dim=1).sum() for pool in pools)
    assert not torch.allclose(*pools)
    assert kept > 0.5 * spread
