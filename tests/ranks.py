"""What the ranks of `test_ranks.py` run: `torchrun … tests/ranks.py FILE` writes what it found into FILE."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from nmfdnn import parallel
from nmfdnn.linalg import METHODS
from nmfdnn.network import ConvolutionConfig, Network, NetworkConfig, build_layers, dense, random_weights
from nmfdnn.runs.results import measure
from nmfdnn.source import Memory, share
from nmfdnn.targets import RealValues
from nmfdnn.training import (
    AlternatingConfig,
    AlternatingTrainer,
    BackpropConfig,
    BackpropTrainer,
    JacobiConfig,
    JacobiTrainer,
    PretrainingConfig,
    SeidelConfig,
    SeidelTrainer,
    SolverConfig,
    Trainer,
    starting_network,
)
from nmfdnn.training.opponents import OPPONENTS
from nmfdnn.training.relaxation import RelaxationTrainer

SAMPLES = 301  # no multiple of any number of ranks
FORMS: dict[str, dict[str, Any]] = {
    "foof": {"optimizer": "foof", "whiten": True, "averaging": 0.9, "label_smoothing": 0.1},
    "kfac": {"optimizer": "kfac"},
    "isaac": {"optimizer": "isaac", "loss": "latent", "schedule": "linear"},
}
"""Of backpropagation, beside its defaults."""


def train(method: str, dtype: torch.dtype) -> list[float]:
    """Two epochs; residuals, weights' norms, error and objective after each."""
    name, _, variant = method.partition("_")
    bunch = load_digits()
    labels = torch.from_numpy(bunch.target[:SAMPLES])
    here = share(SAMPLES)
    # No two patches are blank: whether their codes are active at a start without biases is rounding.
    X = bunch.data[:SAMPLES] / 16 + 0.1 * np.random.default_rng(0).random((SAMPLES, 64))
    source = Memory(torch.from_numpy(X[here]).to(dtype), labels, here.start)
    if variant == "weighted":
        weights = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (SAMPLES, 1))).to(dtype)
        source = replace(source, weights=weights)
    if variant == "real":
        targets = RealValues().fitted(bunch.data[:SAMPLES, [20, 29]])
        values = targets.labels(bunch.data[:SAMPLES, [20, 29]], dtype)
        source = replace(source, labels=values, targets=targets)
    config = NetworkConfig([20, 15], True, "pretrained" if name == "nmf" else "he")
    if variant == "convolution":
        config = NetworkConfig([15], True, convolution=[ConvolutionConfig(4, 3, pool=2)])
    solver = SolverConfig(variant if variant in METHODS else "svd", 3e-2, 3e-2)
    g = torch.Generator().manual_seed(1)
    layers = build_layers(config, 64, (8, 8), 2 if variant == "real" else 10)
    start = starting_network(source, layers, config, PretrainingConfig(200, 2, 3, 3), solver, g).network
    trainer: Trainer
    if name in OPPONENTS:
        part, kind = OPPONENTS[name]
        trainer = kind(
            start, source, part(**({"batch_size": 50} if hasattr(part, "batch_size") else {})), 2, g
        )
    elif name == "nmf":
        trainer = AlternatingTrainer(
            start, source, AlternatingConfig(101, weight_steps=2, weight_ridge=1e-3), solver, g
        )
    elif name == "jacobi":
        trainer = JacobiTrainer(start, source, JacobiConfig(50), 2, g)
    elif name == "seidel":
        trainer = SeidelTrainer(start, source, SeidelConfig(50), 2, g)
    else:
        trainer = BackpropTrainer(
            start, source, BackpropConfig(50, dropout=0.2, **FORMS.get(variant, {})), 2, g
        )
    found = []
    for _ in range(2):
        epoch = trainer.epoch()
        found += epoch.residuals
        found += [float(W.norm()) for W in trainer.network.weights]
        found += measure(trainer.network, source, trainer.objective)
    return found


def traffic(name: str, samples: int) -> tuple[list[int], list[int]]:
    """Messages and bytes of an update of a dense net in single precision: the most and the least."""
    here = share(samples)
    g = torch.Generator().manual_seed(0)
    X, labels = torch.rand(samples, 64, generator=g), torch.randint(10, (samples,), generator=g)
    source = Memory(X[here], labels, here.start)
    start = Network(random_weights(dense(64, 20, 15, 10), True, "he", g, like=X), True)
    trainer: RelaxationTrainer | BackpropTrainer
    if name == "jacobi":
        trainer = JacobiTrainer(start, source, JacobiConfig(50), 20, g)
    elif name == "seidel":
        trainer = SeidelTrainer(start, source, SeidelConfig(50), 20, g)
    else:
        trainer = BackpropTrainer(start, source, BackpropConfig(50), 20, g)
    trainer.epoch()
    sent = []
    for _ in range(10):
        for batch in trainer.order.part():
            before = parallel.traffic.messages, parallel.traffic.bytes
            trainer.update(batch)
            sent.append([parallel.traffic.messages - before[0], parallel.traffic.bytes - before[1]])
    return max(sent), min(sent)


TRAININGS = (
    *(f"nmf_{method}" for method in METHODS),
    *(f"{name}{variant}" for name in ("jacobi", "seidel", "bp") for variant in ("", "_convolution")),
    "nmf_convolution",
    *(f"bp_{form}" for form in FORMS),
    *OPPONENTS,
    *(f"{name}_{variant}" for name in ("nmf", "jacobi", "seidel", "bp") for variant in ("weighted", "real")),
)


def main() -> None:
    torch.set_num_threads(1)
    found: dict[str, list[float] | list[int]] = {}
    with parallel.group():
        for method in TRAININGS:
            for name in ("float32", "float64"):
                found[f"{method} {name}"] = train(method, getattr(torch, name))
        for name in ("jacobi", "seidel", "bp"):
            for samples in (200, 300):
                most, least = traffic(name, samples)
                found[f"traffic {name} {samples} most"], found[f"traffic {name} {samples}"] = most, least
        if parallel.rank() == 0:
            Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
