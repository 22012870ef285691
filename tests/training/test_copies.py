"""Inner loops never wait for the device: no number of a tensor is read by Python, on whatever device."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from planted import planted
from torch.utils._python_dispatch import TorchDispatchMode

from nmfdnn.factorization import (
    Alternation,
    Pair,
    Regularisation,
    hals_step,
    multiplicative_step,
    nonlinear_semi_nmf_step,
    semi_nmf_step,
)
from nmfdnn.network import ConvolutionConfig, Network, NetworkConfig, build_layers, random_weights
from nmfdnn.source import Memory
from nmfdnn.training import (
    AlternatingConfig,
    AlternatingTrainer,
    BackpropConfig,
    BackpropTrainer,
    JacobiConfig,
    JacobiTrainer,
    SeidelConfig,
    SeidelTrainer,
    SolverConfig,
)
from nmfdnn.training.optimizers import OPTIMIZERS

READS = ("_local_scalar_dense", "equal", "nonzero", "is_nonzero")
CHOLESKY = SolverConfig("cholesky", 1e-2, 1e-2)


class Reads(TorchDispatchMode):
    """Counts operations whose result Python, or the shape of a tensor, depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        self.operations += 1
        name = function.overloadpacket.__name__
        if name in READS:
            self.found[name] += 1
        return function(*arguments, **(named or {}))


def test_a_read_is_counted():
    with Reads() as reads:
        float(torch.ones(3).sum())
        torch.ones(3).nonzero()
    assert reads.found == {"_local_scalar_dense": 1, "nonzero": 1}


def trainers(method: str, convolution: bool, device: torch.device):
    X, labels, start = planted(90, True, device, torch.float32)
    if convolution:
        X = torch.rand(90, 36, generator=torch.Generator().manual_seed(0)).to(device)
        config = NetworkConfig([6], True, convolution=[ConvolutionConfig(4, 3, pool=2)])
        layers = build_layers(config, 36, (6, 6), 3)
        g = torch.Generator().manual_seed(1)
        start = Network(random_weights(layers, True, "he", g, like=X), True, layers)
    source, g = Memory(X, labels), torch.Generator().manual_seed(0)
    if method == "jacobi":
        return JacobiTrainer(start, source, JacobiConfig(30), 10, g)
    if method == "seidel":
        return SeidelTrainer(start, source, SeidelConfig(30), 10, g)
    if method in OPTIMIZERS:
        return BackpropTrainer(start, source, BackpropConfig(30, method, dropout=0.2, averaging=0.9), 10, g)
    config = AlternatingConfig(30, weight_ridge=1e-2, code_ridge=1e-2)
    return AlternatingTrainer(start, source, config, CHOLESKY, g)


@pytest.mark.parametrize("convolution", [False, True], ids=["dense", "convolution"])
@pytest.mark.parametrize("method", ["jacobi", "seidel", "nmf", *OPTIMIZERS])
def test_updates_read_nothing(method, convolution, device):
    """Those that refresh statistics and search lines too."""
    trainer = trainers(method, convolution, device)
    trainer.epoch()
    batches = [batch for _ in range(7) for batch in trainer.order.part()]
    with Reads() as reads:
        for batch in batches:
            trainer.update(batch)
    assert reads.operations > 20 * len(batches)
    assert reads.found == {}


@pytest.mark.parametrize(
    "step",
    [
        multiplicative_step,
        hals_step,
        lambda A, pair: semi_nmf_step(A, pair, False, Regularisation("cholesky", 1e-2, 0.1, 0.1)),
        lambda A, pair: nonlinear_semi_nmf_step(
            A, pair, False, Alternation(2, 2), Regularisation("cholesky", 1e-2, 0.1, 0.1)
        ),
    ],
    ids=["multiplicative", "hals", "semi-NMF", "nonlinear semi-NMF"],
)
def test_steps_of_factorizations_read_nothing(step, device):
    g = torch.Generator().manual_seed(0)
    A, Z, W = (torch.rand(shape, generator=g).to(device) for shape in ((30, 12), (30, 5), (5, 12)))
    with Reads() as reads:
        step(A, Pair(Z, W))
    assert reads.operations > 5
    assert reads.found == {}
