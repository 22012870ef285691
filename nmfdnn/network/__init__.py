"""What is trained: a ReLU network as plain tensors."""

from .network import (
    ROWS_AT_ONCE,
    Network,
    NetworkConfig,
    code_scales,
    one_hot,
    random_weights,
    rescaled,
    root_mean_square,
)

__all__ = [
    "ROWS_AT_ONCE",
    "Network",
    "NetworkConfig",
    "code_scales",
    "one_hot",
    "random_weights",
    "rescaled",
    "root_mean_square",
]
