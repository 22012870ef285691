"""The network that training starts from, the same for every method."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..factorization import Regularisation, least_squares_weights
from ..kernels import REFERENCE, Kernels
from ..network import Network, NetworkConfig, one_hot, random_weights, root_mean_square
from .alternating import SolverConfig
from .common import Stopwatch
from .pretraining import PretrainedLayer, PretrainingConfig, pretrain

OUTPUT_SAMPLES = 10_000
"""Random samples, at most, from which least squares starts the output; many times its number of inputs."""


@dataclass(frozen=True)
class Start:
    """A network to train, how long it took to make, and the pre-trained layers if there are any."""

    network: Network
    seconds: float
    layers: list[PretrainedLayer] = field(default_factory=list)


def starting_network(
    X: Tensor,
    labels: Tensor,
    classes: int,
    config: NetworkConfig,
    pretraining: PretrainingConfig,
    solver: SolverConfig,
    generator: torch.Generator,
    kernels: Kernels = REFERENCE,
) -> Start:
    """Weights for X (n × p) and `classes` outputs, drawn with a CPU `generator`."""
    watch = Stopwatch(X.device)
    widths = [X.shape[1], *config.hidden, classes]
    weights = random_weights(widths, config.bias, config.start, generator, like=X)
    layers: list[PretrainedLayer] = []
    if config.start == "pretrained":
        layers = pretrain(X, config.hidden, config.bias, pretraining, solver, generator, kernels)
        weights[:-1] = [layer.W for layer in layers]
    if config.output_start == "least_squares":
        rows = torch.randperm(len(X), generator=generator)[:OUTPUT_SAMPLES].to(X.device)
        Z = Network(weights, config.bias).codes(X[rows])[-1]
        Y = one_hot(labels[rows], classes, X.dtype)
        # Codes with a root mean square of one: the cut-off then treats them and the column of ones alike.
        scale = root_mean_square(Z)
        regularisation = Regularisation(solver.method, solver.hidden_delta)
        weights[-1] = least_squares_weights(Y, Z / scale, config.bias, regularisation)
        weights[-1][: Z.shape[1]] /= scale
    return Start(Network(weights, config.bias), watch.seconds(), layers)
