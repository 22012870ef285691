"""What is trained: a ReLU network as plain tensors."""

from ..targets import one_hot
from .layers import Convolution, Dense, Layer, Pooled, dense, from_state
from .network import (
    ConvolutionConfig,
    Network,
    NetworkConfig,
    build_layers,
    code_scales,
    first_at_once,
    random_weights,
    rescaled,
    root_mean_square,
    rows_at_once,
)

__all__ = [
    "Convolution",
    "ConvolutionConfig",
    "Dense",
    "Layer",
    "Network",
    "NetworkConfig",
    "Pooled",
    "build_layers",
    "code_scales",
    "dense",
    "first_at_once",
    "from_state",
    "one_hot",
    "random_weights",
    "rescaled",
    "root_mean_square",
    "rows_at_once",
]
