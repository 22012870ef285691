"""The network that training starts from, the same for every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ..factorization import augmented, counted
from ..kernels import REFERENCE, Kernels
from ..linalg import factor
from ..network import (
    Layer,
    Network,
    NetworkConfig,
    random_weights,
    root_mean_square,
    rows_at_once,
)
from ..source import Source
from .alternating import SolverConfig
from .common import Stopwatch, collect, input_unit
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
    source: Source,
    layers: Sequence[Layer],
    config: NetworkConfig,
    pretraining: PretrainingConfig,
    solver: SolverConfig,
    generator: torch.Generator,
    kernels: Kernels = REFERENCE,
    tick: Callable[[], object] | None = None,
) -> Start:
    """Weights of `layers` for a `source`, drawn with a CPU `generator`; the same on every rank.

    `tick` is called after each of the `steps` of pre-training.
    """
    watch = Stopwatch(source.device)
    n, like = len(source), torch.empty((), dtype=source.dtype, device=source.device)
    weights = random_weights(layers, config.bias, config.start, generator, like)
    trained: list[PretrainedLayer] = []
    if config.start == "pretrained":
        trained = pretrain(source, layers[:-1], config.bias, pretraining, solver, generator, kernels, tick)
        weights[:-1] = [layer.W for layer in trained]
    else:
        weights[0][: layers[0].fan_in] /= input_unit(source)
    if config.output_start == "least_squares":
        rows = torch.randperm(n, generator=generator)[:OUTPUT_SAMPLES].to(source.device)
        batch = collect(source, rows)
        start = Network(weights, config.bias, layers)
        parts = batch.X.split(rows_at_once(len(rows), max(start.widths)))
        Z = torch.cat([layers[-1].rows(start.codes(part)[-1]) for part in parts])
        Y = source.targets.matrix(batch.labels, layers[-1].units, Z.dtype)
        # Codes with a root mean square of one: the cut-off then treats them and the column of ones alike.
        scale = root_mean_square(Z, batch.weights)
        roots = None if batch.weights is None else batch.weights.sqrt()
        inputs = counted(augmented(Z / scale, config.bias), roots)
        weights[-1] = factor(inputs, solver.method, solver.hidden_delta).solve(counted(Y, roots))
        weights[-1][: Z.shape[1]] /= scale
    return Start(Network(weights, config.bias, layers), watch.seconds(), trained)
