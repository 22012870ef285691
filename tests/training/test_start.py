"""The start of the network: hidden weights as drawn, the output fitted to the targets by least squares."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch
from planted import planted

from nmfdnn.network import NetworkConfig, dense, random_weights
from nmfdnn.source import Memory
from nmfdnn.training import PretrainingConfig, SolverConfig, start, starting_network


@pytest.mark.parametrize("limit", [1000, 60])
def test_the_output_is_fitted_to_a_limited_number_of_random_samples(limit, device, monkeypatch):
    monkeypatch.setattr(start, "OUTPUT_SAMPLES", limit)
    X, labels, _ = planted(200, True, device, torch.float64)
    config = NetworkConfig(hidden=[12, 6], bias=True, start="he")
    g = torch.Generator().manual_seed(4)
    layers, source = dense(8, 12, 6, 3), Memory(X, labels)
    made = starting_network(source, layers, config, PretrainingConfig(), SolverConfig(), g)
    found = made.network.weights

    g = torch.Generator().manual_seed(4)
    drawn = [oracle.array(W) for W in random_weights(dense(8, 12, 6, 3), True, "he", g, like=X)]
    rows = torch.randperm(200, generator=g)[:limit].numpy()
    Z = oracle.forward(oracle.array(X), drawn, True)[0][-1][rows]
    Y = np.eye(3)[oracle.array(labels).astype(int)[rows]]
    drawn[-1] = np.linalg.lstsq(oracle.hat(Z, True), Y, rcond=None)[0]
    for W, expected in zip(found, drawn, strict=True):
        assert oracle.error(W, expected) < 1e-9
