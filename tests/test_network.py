"""The network: shapes, forward pass, starts."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import oracle
import pytest
import torch

from nmfdnn.errors import ConfigError
from nmfdnn.network import (
    Network,
    NetworkConfig,
    code_scales,
    dense,
    one_hot,
    random_weights,
    rescaled,
    root_mean_square,
)
from nmfdnn.network import network as network_module

WIDTHS = [6, 8, 5, 3]


def weights(rng: np.random.Generator, bias: bool) -> list[np.ndarray]:
    return [rng.standard_normal((a + bias, b)) for a, b in pairwise(WIDTHS)]


@pytest.mark.parametrize("bias", [False, True])
def test_forward_pass_equals_oracle(bias, put, rng):
    X, W = rng.random((20, 6)), weights(rng, bias)
    network = Network([put(w) for w in W], bias)
    codes, outputs = oracle.forward(X, W, bias)
    found = network.codes(put(X))
    assert len(found) == len(codes) == 3
    for a, b in zip(found, codes, strict=True):
        assert oracle.error(a, b) < 1e-12
    assert oracle.error(network.outputs(put(X)), outputs) < 1e-12
    assert np.array_equal(network.predict(put(X)).cpu(), outputs.argmax(axis=1))
    assert network.predict(put(X)).dtype == torch.int64


@pytest.mark.parametrize("bias", [False, True])
def test_widths_and_parameters(bias, put, rng):
    network = Network([put(w) for w in weights(rng, bias)], bias)
    assert network.widths == WIDTHS
    assert network.parameters == 6 * 8 + 8 * 5 + 5 * 3 + bias * (8 + 5 + 3)


def test_outputs_in_pieces_equal_the_whole(put, rng, monkeypatch):
    X, network = put(rng.random((20, 6))), Network([put(w) for w in weights(rng, True)], True)
    whole = network.outputs(X)
    monkeypatch.setattr(network_module, "ROWS_AT_ONCE", 7)
    assert network.outputs(X).shape == (20, 3)
    assert oracle.error(network.outputs(X), whole) < 1e-14


def test_the_input_is_not_overwritten(put, rng):
    X = put(rng.standard_normal((20, 6)))
    before = X.clone()
    Network([put(w) for w in weights(rng, False)]).codes(X)
    assert torch.equal(X, before)


@pytest.mark.parametrize(("shapes", "bias"), [([(6, 8), (7, 5)], False), ([(6, 8), (8, 5)], True)])
def test_weights_that_do_not_fit(shapes, bias):
    with pytest.raises(ConfigError, match=rf"do not form a network with bias={bias}"):
        Network([torch.ones(shape) for shape in shapes], bias)


def test_one_hot(dtype, device):
    Y = one_hot(torch.tensor([2, 0], device=device), 3, dtype)
    assert torch.equal(Y, torch.tensor([[0, 0, 1], [1, 0, 0]], dtype=dtype, device=device))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("start", ["he", "uniform", "pretrained"])
def test_variance_of_random_weights(start, bias, device, dtype):
    like = torch.empty(0, dtype=dtype, device=device)
    W, V = random_weights(dense(400, 300, 10), bias, start, torch.Generator().manual_seed(0), like)
    assert (W.shape, V.shape) == ((400 + bias, 300), (300 + bias, 10))
    assert (W.dtype, W.device, W.requires_grad) == (dtype, like.device, False)
    if bias:
        assert not W[-1].any()
        assert not V[-1].any()
        W = W[:-1]
    variance = 2 / 700 if start == "uniform" else 2 / 400
    # 120,000 draws: a relative standard error below 0.5 % of the variance.
    assert float(W.var()) == pytest.approx(variance, rel=0.02)
    assert abs(float(W.mean())) < 4 * math.sqrt(variance / W.numel())
    assert (float(W.abs().max()) <= math.sqrt(6 / 700) * (1 + 1e-6)) == (start == "uniform")


def test_seed_of_random_weights(device):
    def draw(seed: int, dtype: torch.dtype) -> torch.Tensor:
        like = torch.empty(0, dtype=dtype, device=device)
        return random_weights(dense(6, 4), False, "he", torch.Generator().manual_seed(seed), like)[0]

    assert torch.equal(draw(0, torch.float64), draw(0, torch.float64))
    assert torch.equal(draw(0, torch.float64).float(), draw(0, torch.float32))
    assert not torch.allclose(draw(0, torch.float64), draw(1, torch.float64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": []}, "network.hidden must be a list of at least one width"),
        ({"hidden": [10, 0]}, "network.hidden must be a list of widths ≥ 1"),
        ({"start": "zeros"}, "network.start must be one of pretrained, he, uniform, got 'zeros'"),
        ({"output_start": "zeros"}, "network.output_start must be one of least_squares, random"),
    ],
)
def test_bad_configuration(arguments, message):
    with pytest.raises(ConfigError, match=message):
        NetworkConfig(**arguments)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("unit", [1e-25, 1.0, 1e25])
def test_rescaled_networks_have_codes_of_one_and_the_same_outputs(bias, unit, device, dtype):
    g = torch.Generator().manual_seed(0)
    X = torch.rand((40, 6), generator=g, dtype=torch.float64).to(device, dtype)
    network = Network(random_weights(dense(6, 9, 5, 3), bias, "he", g, like=X), bias)
    if bias:
        for W in network.weights:
            W[-1] += 0.1
    network.weights[0][:6] /= unit
    scales = code_scales(network, X * unit)
    within = 1e-4 if dtype == torch.float32 else 1e-12
    assert scales[0] == pytest.approx(unit * float(X.double().square().mean().sqrt()), rel=within)
    other = rescaled(network, scales)
    codes = other.codes(X * unit / scales[0])
    assert [float(Z.square().mean().sqrt()) for Z in codes] == pytest.approx([1.0] * 3, rel=within)
    torch.testing.assert_close(other.outputs(X * unit / scales[0]), network.outputs(X * unit))
    back = rescaled(other, [1 / scale for scale in scales])
    for W, start in zip(back.weights, network.weights, strict=True):
        torch.testing.assert_close(W, start)


@pytest.mark.parametrize("weighted", [False, True])
def test_scales_of_many_rows_are_found_in_parts(weighted, monkeypatch):
    """Of seven rows at most, some of them without any weight; whatever the order."""
    g = torch.Generator().manual_seed(0)
    X = torch.rand((40, 6), generator=g, dtype=torch.float64).sort(dim=0).values
    weights = torch.rand((40, 1), generator=g, dtype=torch.float64) if weighted else None
    if weights is not None:
        weights[2::6] = 0
    start = Network(random_weights(dense(6, 9, 5, 3), True, "he", g, like=X), True)
    whole = code_scales(start, X, weights)
    monkeypatch.setattr(network_module, "CODES_AT_ONCE", 7 * 4 * 9)
    seen: list[int] = []
    measured = network_module.root_mean_square
    monkeypatch.setattr(
        network_module, "root_mean_square", lambda A, w: seen.append(len(A)) or measured(A, w)
    )
    assert code_scales(start, X, weights) == pytest.approx(whole, rel=1e-13)
    assert max(seen) == 7
    assert sum(seen) == 3 * (40 if weights is None else int((weights > 0).sum()))


def test_root_mean_squares_do_not_overflow(dtype):
    for value in (0.0, math.inf, math.nan):
        assert root_mean_square(torch.full((3, 2), value, dtype=dtype)) == 1
    for unit in (1e-37, 1e37):
        found = root_mean_square(torch.tensor([[3.0, -4.0]], dtype=dtype) * unit)
        assert found == pytest.approx(12.5**0.5 * unit, rel=1e-6)
