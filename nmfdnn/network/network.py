"""A fully connected ReLU network as plain tensors.

Legend: X (n × p) samples, d layers, Zᵢ (n × kᵢ) codes with Z₀ = X, Wᵢ (kᵢ₋₁ × kᵢ) weights, with a bias
(kᵢ₋₁ + 1) × kᵢ with the bias in the last row. Zᵢ = max(0, Ẑᵢ₋₁Wᵢ) for i < d; the output Ẑ_{d−1}W_d is linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import ConfigError, require
from ..factorization import affine, split_bias

STARTS = ("pretrained", "he", "uniform")
OUTPUT_STARTS = ("least_squares", "random")
ROWS_AT_ONCE = 10_000


@dataclass
class NetworkConfig:
    """Shape and start of the network.

    Attributes:
        hidden: widths of the hidden layers.
        bias: whether every layer has a bias row.
        start: "pretrained" (stacked NMF autoencoders), "he" (normal, variance 2/fan-in) or "uniform"
            (Glorot: ±√(6/(fan-in + fan-out))).
        output_start: "least_squares" (fit to the one-hot targets) or "random" (as the hidden layers' `start`,
            He where that is "pretrained").
    """

    hidden: list[int] = field(default_factory=lambda: [1000, 500])
    bias: bool = False
    start: str = "he"
    output_start: str = "least_squares"

    def __post_init__(self) -> None:
        require(
            len(self.hidden) >= 1,
            "network.hidden",
            "a list of at least one width, as [1000,500]",
            self.hidden,
        )
        require(min(self.hidden) >= 1, "network.hidden", "a list of widths ≥ 1", self.hidden)
        require(self.start in STARTS, "network.start", f"one of {', '.join(STARTS)}", self.start)
        key = "network.output_start"
        require(
            self.output_start in OUTPUT_STARTS, key, f"one of {', '.join(OUTPUT_STARTS)}", self.output_start
        )


@dataclass(frozen=True)
class Network:
    """Weights W₁ … W_d and whether their last rows are biases."""

    weights: list[Tensor]
    bias: bool = False

    def __post_init__(self) -> None:
        for before, after in pairwise(self.weights):
            if before.shape[1] + self.bias != len(after):
                shapes = [tuple(W.shape) for W in self.weights]
                raise ConfigError(f"the weights' shapes {shapes} do not form a network with bias={self.bias}")

    @property
    def widths(self) -> list[int]:
        """Layer widths p, k₁, …, k_d."""
        return [len(self.weights[0]) - self.bias, *(W.shape[1] for W in self.weights)]

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(W.numel() for W in self.weights)

    def codes(self, X: Tensor) -> list[Tensor]:
        """Z₀ = X, Z₁, …, Z_{d−1} for X (n × p)."""
        Z = [X]
        for W in self.weights[:-1]:
            Z.append(affine(Z[-1], W).relu_())
        return Z

    def outputs(self, X: Tensor) -> Tensor:
        """Linear outputs n × k_d for X (n × p), a bounded number of rows at a time."""
        return torch.cat([affine(self.codes(rows)[-1], self.weights[-1]) for rows in X.split(ROWS_AT_ONCE)])

    def predict(self, X: Tensor) -> Tensor:
        """Class of each row of X: n, int64."""
        return self.outputs(X).argmax(dim=1)


def root_mean_square(A: Tensor) -> float:
    """√(mean of A²) of a tensor of any shape, without overflow or underflow; 1 if zero or not finite."""
    largest = A.abs().max()
    if not 0 < largest < math.inf:
        return 1.0
    return float((A / largest).square().mean(dtype=torch.float64).sqrt() * largest)


def code_scales(network: Network, X: Tensor) -> list[float]:
    """Root mean squares s₀ … s_{d−1} of X (n × p) and of its codes; 1 for codes that are zero."""
    scales = [root_mean_square(X)]
    Z = X / scales[0]
    for W in network.weights[:-1]:
        W, b = split_bias(W, len(W) - network.bias)
        Z = affine(Z, W if b is None else torch.cat([W, b[None] / scales[-1]])).relu_()
        ratio = root_mean_square(Z)
        scales.append(scales[-1] * ratio)
        Z /= ratio
    return scales


def rescaled(network: Network, scales: list[float]) -> Network:
    """The network with outputs as before for inputs X/s₀, whose codes are Zᵢ/sᵢ: in other units, the same.

    Scales of 1/sᵢ take it back. For a positive s, f(V/s) = f(V)/s.
    """
    weights = []
    for W, before, after in zip(network.weights, scales, [*scales[1:], 1.0], strict=True):
        W, b = split_bias(W, len(W) - network.bias)
        W = W * (before / after)
        weights.append(W if b is None else torch.cat([W, b[None] / after]))
    return Network(weights, network.bias)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Targets Y (n × classes) with a one at each label."""
    return torch.nn.functional.one_hot(labels, classes).to(dtype)


def random_weights(
    widths: list[int], bias: bool, start: str, generator: torch.Generator, like: Tensor
) -> list[Tensor]:
    """Weights with the dtype and device of `like`, biases zero; drawn on the CPU: equal on every device."""
    weights = []
    for fan_in, fan_out in pairwise(widths):
        shape = (fan_in, fan_out)
        if start == "uniform":
            limit = math.sqrt(6 / (fan_in + fan_out))
            W = (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * limit
        else:
            W = torch.randn(shape, generator=generator, dtype=torch.float64) * math.sqrt(2 / fan_in)
        if bias:
            W = torch.cat([W, W.new_zeros(1, fan_out)])
        weights.append(W.to(like))
    return weights
