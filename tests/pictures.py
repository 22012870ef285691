"""Small nets for pictures, the matrices of their layers, and pictures whose classes such nets can learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import oracle
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from nmfdnn.network import (
    Convolution,
    ConvolutionConfig,
    Layer,
    Network,
    NetworkConfig,
    Pooled,
    build_layers,
    random_weights,
)
from nmfdnn.source import Memory

CLASSES = 3
NETS: dict[str, tuple[tuple[int, ...], list[ConvolutionConfig], list[int]]] = {
    "strides": ((7, 6), [ConvolutionConfig(4, 3, 2)], [6]),
    "padded": ((5, 6), [ConvolutionConfig(4, 3, 1, 1), ConvolutionConfig(3, 2, 3)], [5]),
    "pooled": ((8, 7), [ConvolutionConfig(4, 3, pool=2), ConvolutionConfig(5, 2)], []),
    "pooled, dense": ((7, 7), [ConvolutionConfig(3, 2, pool=2)], [6]),
    "colours": ((3, 5, 5), [ConvolutionConfig(4, 3)], [5]),
}
"""Pictures' shape, convolutions, hidden widths."""


def matrix(layer: Layer) -> np.ndarray:
    """The matrix that takes a sample's codes to its rows, one after the other."""
    match layer:
        case Convolution():
            sizes = (layer.height, layer.width, layer.channels, layer.kernel)
            return oracle.unfolding(*sizes, layer.stride, layer.padding, layer.planar)
        case Pooled():
            means = oracle.means(layer.height, layer.width, layer.channels, layer.size)
            return matrix(layer.then) @ means
    return np.eye(layer.inputs)


def matrices(layers: Sequence[Layer]) -> list[np.ndarray]:
    return [matrix(layer) for layer in layers]


def layers(name: str) -> tuple[Layer, ...]:
    shape, convolution, hidden = NETS[name]
    return build_layers(NetworkConfig(hidden, convolution=convolution), int(np.prod(shape)), shape, CLASSES)


def problem(
    name: str, bias: bool, device: torch.device, dtype: torch.dtype = torch.float64, n: int = 90
) -> tuple[Network, Memory]:
    """A random start of a net, and n random pictures with labels that a linear map gives."""
    net, g = layers(name), torch.Generator().manual_seed(0)
    X = torch.rand(n, net[0].inputs, generator=g, dtype=torch.float64)
    scores = X @ torch.randn(net[0].inputs, CLASSES, generator=g, dtype=torch.float64)
    labels = (scores - scores.mean(dim=0)).argmax(dim=1)
    X = X.to(device, dtype)
    weights = random_weights(net, bias, "he", g, X)
    if bias:
        for W in weights:
            W[-1] += 0.1
    return Network(weights, bias, net), Memory(X, labels.to(device))


def digits(n: int, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Digits of 8 × 8 pixels in 0..1 (n × 64) and their labels."""
    bunch = load_digits()
    X, labels = torch.from_numpy(bunch.data[:n] / 16), torch.from_numpy(bunch.target[:n])
    return X.to(device, dtype), labels.to(device)
