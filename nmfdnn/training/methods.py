"""The training methods that `method=` chooses from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..kernels import kernels
from ..network import Network
from ..source import Source
from .alternating import AlternatingTrainer
from .backprop import BackpropTrainer
from .common import Trainer
from .jacobi import JacobiConfig, JacobiTrainer
from .opponents import OPPONENTS
from .seidel import SeidelConfig, SeidelTrainer


@dataclass(frozen=True)
class Method:
    """A training method.

    Attributes:
        make: the trainer for a run's configuration, a starting network, training data and a generator for
            the order of these. The method's own parameters are what the configuration has under its name.
        slower: what makes its steps more careful, for warnings.
        copies: of all weights in memory, at least: averages or gradients and moments, and the kept ones.
    """

    make: Callable[[Any, Network, Source, torch.Generator], Trainer]
    slower: str
    copies: int


METHODS: dict[str, Method] = {
    "nmf": Method(
        lambda config, start, source, order: AlternatingTrainer(
            start,
            source,
            config.nmf,
            config.solver,
            order,
            kernels(config.kernels),
            config.records_per_epoch,
        ),
        slower="lower nmf.weight_ridge or nmf.omega, or raise nmf.batch_size",
        copies=3,
    ),
    "jacobi": Method(
        lambda config, start, source, order: JacobiTrainer(
            start, source, config.jacobi, config.epochs, order, config.records_per_epoch
        ),
        slower=JacobiConfig.slower(),
        copies=4,
    ),
    "seidel": Method(
        lambda config, start, source, order: SeidelTrainer(
            start, source, config.seidel, config.epochs, order, config.records_per_epoch
        ),
        slower=SeidelConfig.slower(),
        copies=4,
    ),
    "bp": Method(
        lambda config, start, source, order: BackpropTrainer(
            start, source, config.bp, config.epochs, order, config.records_per_epoch
        ),
        slower="lower bp.learning_rate",
        copies=5,
    ),
    **{
        name: Method(
            lambda config, start, source, order, name=name, trainer=trainer: trainer(  # type: ignore[misc]
                start, source, getattr(config, name), config.epochs, order, config.records_per_epoch
            ),
            slower=part.slower(),
            copies=5,
        )
        for name, (part, trainer) in OPPONENTS.items()
    },
}
