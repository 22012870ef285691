"""A small problem that a network of the same shape solves: labels drawn by a random network."""

from __future__ import annotations

import torch
from torch import Tensor

from nmfdnn.network import Network, dense, one_hot, random_weights
from nmfdnn.source import Batch, Memory


def planted(n: int, bias: bool, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Network]:
    """Inputs in [0, 1] (n × 8), labels of three classes, and a random start of widths 8, 12, 6, 3."""
    g = torch.Generator().manual_seed(0)
    X = torch.rand((n, 8), generator=g, dtype=torch.float64)
    hidden = torch.randn((8, 6), generator=g, dtype=torch.float64)
    outputs = ((X - 0.5) @ hidden).relu() @ torch.randn((6, 3), generator=g, dtype=torch.float64)
    labels = (outputs - outputs.mean(dim=0)).argmax(dim=1)
    X, labels = X.to(device, dtype), labels.to(device)
    return X, labels, Network(random_weights(dense(8, 12, 6, 3), bias, "he", g, like=X), bias)


def batch(X: Tensor, labels: Tensor) -> Batch:
    """All of these samples as a mini-batch."""
    return Batch(X, labels, len(X))


def targets(source: Memory) -> Tensor:
    """One-hot rows of three classes."""
    return one_hot(source.labels, 3, source.dtype)


def error_rate(network: Network, X: Tensor, labels: Tensor) -> float:
    return float((network.predict(X) != labels).double().mean())
