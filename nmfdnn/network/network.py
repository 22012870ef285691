"""A ReLU network as plain tensors: layers, which rearrange, and weights.

Legend: X (n × p) samples, d layers, codes Zᵢ (n × outputs of layer i) with Z₀ = X, weights Wᵢ (fan-in ×
units), with a bias one row more, the last. Zᵢ = max(0, AᵢWᵢ) for i < d, where Aᵢ are the rows that layer i
makes of Zᵢ₋₁ (in a fully connected layer Zᵢ₋₁ itself), with a column of ones for a bias; the output A_dW_d is
linear.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import ConfigError, require
from ..factorization import split_bias
from .layers import SMALLER, Convolution, Dense, Layer, Pooled

AnyLayer = TypeVar("AnyLayer", bound=Layer)

STARTS = ("pretrained", "he", "uniform")
OUTPUT_STARTS = ("least_squares", "random")
ROWS_AT_ONCE = 10_000
CODES_AT_ONCE = 1 << 27
"""Numbers in the codes of a layer that an evaluation holds, at most: half a gigabyte in float32."""


@dataclass
class ConvolutionConfig:
    """A convolutional layer with ReLU.

    Attributes:
        channels: kernels, so channels of the pictures that leave.
        kernel: side of the square kernels.
        stride: pixels from one place of a kernel to the next.
        padding: pixels of zeros around the pictures.
        pool: side of the squares of pixels that are replaced by their means afterwards; 1 leaves all pixels.
    """

    channels: int = 32
    kernel: int = 3
    stride: int = 1
    padding: int = 0
    pool: int = 1

    def __post_init__(self) -> None:
        for key, least in (("channels", 1), ("kernel", 1), ("stride", 1), ("padding", 0), ("pool", 1)):
            value = getattr(self, key)
            require(value >= least, f"network.convolution[…].{key}", f"≥ {least}", value)
        key = "network.convolution[…].padding"
        require(self.padding < self.kernel, key, f"less than the kernel, {self.kernel}", self.padding)


@dataclass
class NetworkConfig:
    """Shape and start of the network.

    Attributes:
        hidden: widths of the fully connected hidden layers.
        bias: whether every layer has a bias row.
        start: "pretrained" (stacked NMF autoencoders), "he" (normal, variance 2/fan-in) or "uniform"
            (Glorot: ±√(6/(fan-in + fan-out))).
        output_start: "least_squares" (fit to the targets) or "random" (as the hidden layers' `start`,
            He where that is "pretrained").
        convolution: convolutional layers before the hidden ones; for pictures only.
    """

    hidden: list[int] = field(default_factory=lambda: [1000, 500])
    bias: bool = False
    start: str = "he"
    output_start: str = "least_squares"
    convolution: list[ConvolutionConfig] = field(default_factory=list)

    def __post_init__(self) -> None:
        require(
            len(self.hidden) + len(self.convolution) >= 1,
            "network.hidden",
            "a list of at least one width, as [1000,500]",
            self.hidden,
        )
        require(min(self.hidden, default=1) >= 1, "network.hidden", "a list of widths ≥ 1", self.hidden)
        require(self.start in STARTS, "network.start", f"one of {', '.join(STARTS)}", self.start)
        key = "network.output_start"
        require(
            self.output_start in OUTPUT_STARTS, key, f"one of {', '.join(OUTPUT_STARTS)}", self.output_start
        )


def build_layers(
    config: NetworkConfig, features: int, image_shape: tuple[int, ...] | None, outputs: int
) -> tuple[Layer, ...]:
    """The layers of a network for samples of p = `features`, from the inputs to the outputs.

    Raises:
        ConfigError: there are convolutions, but the samples are no pictures, or too small ones; with the key.
    """
    found: list[Layer] = []
    shape = (1, 1, features)  # height, width and channels of what leaves the last layer
    pool = 1  # and is pooled before the next

    def add(make: Callable[[int, int, int], AnyLayer]) -> AnyLayer:
        height, width, channels = shape
        if min(height, width) < pool:
            raise ConfigError(
                f"network.convolution[{len(found) - 1}].pool: a pool of {pool} does not fit into pictures of "
                f"{height} × {width}: {SMALLER}"
            )
        try:
            layer = make(height // pool, width // pool, channels)
        except ConfigError as error:
            raise ConfigError(f"network.convolution[{len(found)}].kernel: {error}") from error
        found.append(layer if pool == 1 else Pooled(*shape, pool, layer))
        return layer

    if config.convolution:
        if image_shape is None:
            raise ConfigError(
                f"network.convolution needs pictures, but a sample is a row of {features} numbers: leave it "
                "empty, or store X as n × height × width (× channels)"
            )
        height, width = image_shape[-2:]
        shape = (height, width, features // (height * width))
    for wanted in config.convolution:
        options = wanted.channels, wanted.kernel, wanted.stride, wanted.padding, not found
        layer = add(lambda *picture, options=options: Convolution(*picture, *options))
        shape, pool = (*layer.places, wanted.channels), wanted.pool
    for units in (*config.hidden, outputs):
        add(lambda *picture, units=units: Dense(math.prod(picture), units))
        shape, pool = (1, 1, units), 1
    return tuple(found)


@dataclass(frozen=True)
class Network:
    """Layers, weights W₁ … W_d, and whether their last rows are biases; without `layers` fully connected."""

    weights: list[Tensor]
    bias: bool = False
    layers: Sequence[Layer] = ()

    def __post_init__(self) -> None:
        if not self.layers:
            dense = tuple(Dense(len(W) - self.bias, W.shape[1]) for W in self.weights)
            object.__setattr__(self, "layers", dense)
        shapes = [(layer.fan_in + self.bias, layer.units) for layer in self.layers]
        found = [tuple(W.shape) for W in self.weights]
        if found != shapes or any(b.outputs != a.inputs for b, a in pairwise(self.layers)):
            raise ConfigError(f"the weights' shapes {found} do not form a network with bias={self.bias}")

    @property
    def widths(self) -> list[int]:
        """Numbers of a sample: inputs, and codes that leave each layer."""
        return [self.layers[0].inputs, *(layer.outputs for layer in self.layers)]

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(W.numel() for W in self.weights)

    def to(self, device: torch.device | str) -> Network:
        """The same network on a device."""
        return Network([W.to(device) for W in self.weights], self.bias, self.layers)

    def product(self, i: int, Z: Tensor) -> Tensor:
        """What layer i, from 0, makes of its codes before the ReLU: n × outputs."""
        layer = self.layers[i]
        return layer.product(Z, *split_bias(self.weights[i], layer.fan_in))

    def codes(self, X: Tensor) -> list[Tensor]:
        """Z₀ = X, Z₁, …, Z_{d−1} for X (n × p)."""
        Z = [X]
        for i in range(len(self.layers) - 1):
            Z.append(self.product(i, Z[-1]).relu_())
        return Z

    def outputs(self, X: Tensor) -> Tensor:
        """Linear outputs n × k_d for X (n × p), a bounded number of rows at a time."""
        last = len(self.layers) - 1
        parts = X.split(rows_at_once(len(X), max(self.widths)))
        return torch.cat([self.product(last, self.codes(rows)[-1]) for rows in parts])

    def predict(self, X: Tensor) -> Tensor:
        """Class of each row of X: n, int64."""
        return self.outputs(X).argmax(dim=1)


def rows_at_once(samples: int, width: int) -> int:
    """How many of the samples an evaluation takes at once, for codes of at most `width` numbers each."""
    return max(1, min(samples, ROWS_AT_ONCE, CODES_AT_ONCE // width))


def first_at_once(layers: Sequence[Layer], samples: int) -> int:
    """How many of the samples the start of training takes at once.

    Beside the codes of a layer there are their squares, which a mean in float64 takes twice the room for.
    """
    return rows_at_once(samples, 4 * max(layers[0].inputs, *(layer.outputs for layer in layers)))


def root_mean_square(A: Tensor, weights: Tensor | None = None) -> float:
    """√(mean of A²) of a tensor of any shape, without overflow or underflow; 1 if zero or not finite.

    With weights (n × 1) it is that of a matrix whose rows count so often.
    """
    largest = A.abs().max()
    if not 0 < largest < math.inf:
        return 1.0
    squares = (A / largest).square_()
    if weights is None:
        return float(squares.mean(dtype=torch.float64).sqrt() * largest)
    mean = (weights * squares).sum(dtype=torch.float64) / (weights.sum(dtype=torch.float64) * A.shape[1])
    return float(mean.sqrt() * largest) or 1.0


def code_scales(network: Network, X: Tensor, weights: Tensor | None = None) -> list[float]:
    """Root mean squares s₀ … s_{d−1} of X (n × p) and of its codes; 1 for codes that are zero."""
    parts = math.ceil(len(X) / first_at_once(network.layers, len(X)))
    masses, found = [], []
    for i in range(parts):  # each from all over, so that their order is no matter
        w = None if weights is None else weights[i::parts]
        mass = len(X[i::parts]) if w is None else float(w.sum(dtype=torch.float64))
        if mass > 0:
            masses.append(mass)
            found.append(_code_scales(network, X[i::parts], w))
    shares = [math.sqrt(mass / sum(masses)) for mass in masses]
    return [math.hypot(*map(operator.mul, sizes, shares)) for sizes in zip(*found, strict=True)]


def _code_scales(network: Network, X: Tensor, weights: Tensor | None) -> list[float]:
    scales = [root_mean_square(X, weights)]
    Z = X / scales[0]
    for layer, W in zip(network.layers[:-1], network.weights[:-1], strict=True):
        W, b = split_bias(W, layer.fan_in)
        Z = layer.product(Z, W, None if b is None else b / scales[-1]).relu_()
        ratio = root_mean_square(Z, weights)
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
    return Network(weights, network.bias, network.layers)


def random_weights(
    layers: Sequence[Layer], bias: bool, start: str, generator: torch.Generator, like: Tensor
) -> list[Tensor]:
    """Weights with the dtype and device of `like`, biases zero; drawn on the CPU: equal on every device."""
    weights = []
    for layer in layers:
        shape = (layer.fan_in, layer.units)
        if start == "uniform":
            limit = math.sqrt(6 / sum(shape))
            W = (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * limit
        else:
            W = torch.randn(shape, generator=generator, dtype=torch.float64) * math.sqrt(2 / layer.fan_in)
        if bias:
            W = torch.cat([W, W.new_zeros(1, layer.units)])
        weights.append(W.to(like))
    return weights
