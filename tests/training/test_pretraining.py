"""Stacked NMF autoencoders and the network that training starts from."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch
from planted import planted
from torch import Tensor

from nmfdnn.network import NetworkConfig, dense, random_weights
from nmfdnn.source import Memory
from nmfdnn.training import PretrainedLayer, PretrainingConfig, SolverConfig, pretrain, starting_network

EXACT = SolverConfig("svd", 1e-12, 1e-12)


def source(X: Tensor) -> Memory:
    return Memory(X, torch.zeros(len(X), dtype=torch.int64, device=X.device))


def run(
    X: Tensor, hidden: list[int], bias: bool = False, seed: int = 0, **config: object
) -> list[PretrainedLayer]:
    settings = PretrainingConfig(**({"samples": None} | config))
    layers = dense(X.shape[1], *hidden)
    return pretrain(source(X), layers, bias, settings, EXACT, torch.Generator().manual_seed(seed))


def low_rank(rng: np.random.Generator, n: int = 80, k: int = 4, m: int = 10) -> np.ndarray:
    return rng.random((n, k)) @ rng.random((k, m))


@pytest.mark.parametrize("samples", [None, 30])
@pytest.mark.parametrize("update", ["multiplicative", "hals"])
@pytest.mark.parametrize("bias", [False, True])
def test_layers_equal_oracle(bias, update, samples, put, rng):
    X = rng.random((50, 9))
    counts = {"outer_iterations": 2, "nmf_iterations": 3, "lsq_iterations": 2}
    layers = run(put(X), [5, 4], bias, samples=samples, update=update, **counts)
    draw = torch.Generator().manual_seed(0)
    A = X if samples is None else X[torch.randperm(50, generator=draw)[:samples].numpy()]
    for layer, width in zip(layers, [5, 4], strict=True):
        Z, U = (
            torch.rand(shape, generator=draw, dtype=torch.float64).numpy()
            for shape in ((len(A), width), (width, A.shape[1]))
        )
        W, U, errors = oracle.pretrained_layer(A, Z, U, 2, 3, 2, bias, 1e-12, update)
        # Two layers; each least-squares fit has the condition number of its input, some 10 to 10³.
        assert oracle.error(layer.W, W) < 1e-8
        assert oracle.error(layer.U, U) < 1e-8
        assert layer.reconstruction == pytest.approx(errors, rel=1e-8)
        A = oracle.relu(oracle.hat(A, bias) @ W)


@pytest.mark.parametrize(("input_delta", "hidden_delta"), [(0.2, 1e-12), (1e-12, 0.2)])
def test_input_and_hidden_layers_have_their_own_delta(input_delta, hidden_delta, put, rng):
    X = rng.random((50, 9))
    solver = SolverConfig("svd", input_delta, hidden_delta)
    config = PretrainingConfig(None, 1, 3, 2)
    layers = pretrain(source(put(X)), dense(9, 5, 4), False, config, solver, torch.Generator().manual_seed(0))
    draw, A = torch.Generator().manual_seed(0), X
    for layer, width, delta in zip(layers, [5, 4], [input_delta, hidden_delta], strict=True):
        singular = np.linalg.svd(A, compute_uv=False)
        assert singular[-1] / singular[0] < 0.2  # so δ = 0.2 matters
        Z, U = (
            torch.rand(shape, generator=draw, dtype=torch.float64).numpy()
            for shape in ((len(A), width), (width, A.shape[1]))
        )
        W, U, _ = oracle.pretrained_layer(A, Z, U, 1, 3, 2, False, delta)
        assert oracle.error(layer.W, W) < 1e-8
        A = oracle.relu(A @ W)


@pytest.mark.parametrize("update", ["multiplicative", "hals"])
@pytest.mark.parametrize("bias", [False, True])
def test_reconstruction_of_planted_data_falls(bias, update, put, rng, dtype):
    X = put(low_rank(rng), dtype)
    (layer,) = run(X, [8], bias, update=update, outer_iterations=10, nmf_iterations=10, lsq_iterations=10)
    errors = layer.reconstruction
    assert len(errors) == 10
    assert errors[-1] < 0.7 * errors[0]
    assert errors[-1] < 0.1
    Z = oracle.relu(oracle.hat(oracle.array(X), bias) @ oracle.array(layer.W))
    assert np.mean(Z**2) == pytest.approx(1, rel=1e-3)
    shown = np.linalg.norm(oracle.array(X) - Z @ oracle.array(layer.U)) / np.linalg.norm(oracle.array(X))
    assert errors[-1] == pytest.approx(shown, rel=1e-3)


@pytest.mark.parametrize("method", ["svd", "eigh", "cholesky"])
def test_every_pseudo_inverse_with_default_deltas(method, put, rng, dtype):
    """Widths that grow and shrink, on inputs of low rank: nothing is of full column rank."""
    X = put(low_rank(rng), dtype)
    config = PretrainingConfig(None, 2, 5, 5)
    layers = pretrain(
        source(X), dense(10, 15, 6), True, config, SolverConfig(method), torch.Generator().manual_seed(0)
    )
    for layer in layers:
        assert torch.isfinite(layer.W).all()
        assert layer.reconstruction[-1] < 1


def test_all_samples_are_used_where_there_are_no_more(put, rng):
    X = put(rng.random((40, 6)))
    whole, more = run(X, [4], outer_iterations=2), run(X, [4], samples=5000, outer_iterations=2)
    exact = run(X, [4], samples=40, outer_iterations=2)
    part = run(X, [4], samples=20, outer_iterations=2)
    assert torch.equal(whole[0].W, more[0].W)
    assert torch.equal(whole[0].W, exact[0].W)
    assert not torch.allclose(whole[0].W, part[0].W)


def test_seeds(put, rng):
    X = put(rng.random((40, 6)))
    first, again, other = (run(X, [4], seed=seed, outer_iterations=2)[0].W for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("update", ["multiplicative", "hals"])
def test_no_graph_is_built(update, put, rng, device, dtype, no_graph):
    X = put(rng.random((40, 6)), dtype)
    for layer in run(X, [5, 4], True, update=update, outer_iterations=2):
        for F in (layer.W, layer.U):
            assert (F.requires_grad, F.dtype, F.device) == (False, dtype, X.device)
        assert (layer.U >= 0).all()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("update", ["multiplicative", "hals"])
def test_inputs_of_both_signs_are_split(update, bias, put, rng):
    X = rng.standard_normal((50, 9))
    (layer,) = run(put(X), [5], bias, update=update, outer_iterations=2, nmf_iterations=3, lsq_iterations=2)
    draw = torch.Generator().manual_seed(0)
    Z, U = (torch.rand(shape, generator=draw, dtype=torch.float64).numpy() for shape in ((50, 5), (5, 18)))
    W, U, errors = oracle.pretrained_layer(X, Z, U, 2, 3, 2, bias, 1e-12, update)
    assert U.min() < 0
    assert oracle.error(layer.W, W) < 1e-8
    assert oracle.error(layer.U, U) < 1e-8
    assert layer.reconstruction == pytest.approx(errors, rel=1e-8)


@pytest.mark.parametrize("unit", [1e-30, 1e-4, 7.0, 1e30])
@pytest.mark.parametrize("bias", [False, True])
def test_the_unit_of_the_inputs_changes_that_of_the_weights_alone(bias, unit, put, rng, dtype):
    X = put(rng.random((50, 9)), dtype)
    (one,), (other,) = (run(A, [5], bias, outer_iterations=2) for A in (X, X * unit))
    within = 1e-3 if dtype == torch.float32 else 1e-8
    assert oracle.error(other.W[:9] * unit, one.W[:9]) < within
    assert oracle.error(other.W[9:], one.W[9:]) < within or not bias
    assert oracle.error(other.U / unit, one.U) < within
    assert other.reconstruction == pytest.approx(one.reconstruction, rel=within)


@pytest.mark.parametrize("method", ["svd", "eigh", "cholesky"])
def test_iterations_in_single_precision_give_the_same_start(method, put, rng):
    X = put(rng.random((50, 9)))
    solver = SolverConfig(method, 1e-3, 1e-3)
    layers = []
    for name in (None, "float32"):
        config, generator = PretrainingConfig(dtype=name), torch.Generator().manual_seed(0)
        layers += pretrain(source(X), dense(9, 5), True, config, solver, generator)
    assert layers[1].W.dtype == layers[1].U.dtype == torch.float64
    assert oracle.error(layers[1].U, layers[0].U) < 1e-2
    assert layers[1].reconstruction == pytest.approx(layers[0].reconstruction, rel=1e-3)
    assert layers[1].reconstruction != layers[0].reconstruction


def start(config: NetworkConfig, device: torch.device, dtype: torch.dtype = torch.float64, seed: int = 0):
    X, labels, _ = planted(60, config.bias, device, dtype)
    pretraining = PretrainingConfig(40, 2, 5, 5)
    generator = torch.Generator().manual_seed(seed)
    layers = dense(8, *config.hidden, 3)
    made = starting_network(Memory(X, labels), layers, config, pretraining, EXACT, generator)
    return X, labels, made


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["pretrained", "he", "uniform"])
def test_least_squares_output(name, bias, device):
    X, labels, made = start(NetworkConfig([7, 4], bias, name), device)
    W = [oracle.array(w) for w in made.network.weights]
    Z, _ = oracle.forward(oracle.array(X), W, bias)
    expected = oracle.fit(np.eye(3)[labels.cpu()], Z[-1], bias)
    assert oracle.error(W[-1], expected) < 1e-8
    assert made.network.widths == [8, 7, 4, 3]
    assert made.network.bias == bias
    assert made.seconds > 0
    assert len(made.layers) == (2 if name == "pretrained" else 0)
    assert all(layer.W is w for layer, w in zip(made.layers, made.network.weights, strict=False))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", ["pretrained", "he", "uniform"])
def test_random_output(name, bias, device):
    X, _, made = start(NetworkConfig([7, 4], bias, name, "random"), device)
    drawn = random_weights(dense(8, 7, 4, 3), bias, name, torch.Generator().manual_seed(0), like=X)
    assert torch.equal(made.network.weights[-1], drawn[-1])
    for found, expected in zip(made.network.weights[:-1], drawn, strict=False):
        assert torch.equal(found, expected) == (name != "pretrained")


@pytest.mark.parametrize("name", ["pretrained", "he", "uniform"])
def test_start_is_seeded_and_without_grad(name, device, dtype, no_graph):
    first, again, other = (
        start(NetworkConfig([7, 4], True, name), device, dtype, seed)[2] for seed in (0, 0, 1)
    )
    for a, b, c in zip(first.network.weights, again.network.weights, other.network.weights, strict=True):
        assert torch.equal(a, b)
        assert not torch.allclose(a, c)
        assert (a.requires_grad, a.dtype, a.device.type) == (False, dtype, device.type)
