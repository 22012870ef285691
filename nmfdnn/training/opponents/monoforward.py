"""Mono-Forward: every layer learns from its own classifier (J. Gong, B. Li, W. Abdulla 2025,
arXiv:2501.09238).

A hidden layer i has a projection Mᵢ (kᵢ × m) of its codes on a goodness for each class, and both learn from
the cross-entropy of that goodness alone:

    Gᵢ = ẐᵢMᵢ,  Eᵢ = softmax(Gᵢ) − Y,  slope of Mᵢ = ẐᵢᵀEᵢ,  slope of Wᵢ = Ẑᵢ₋₁ᵀ((EᵢMᵢᵀ) ∘ f'(Vᵢ))

Labels are predicted from the goodness of the last hidden layer, so M_{d−1} is the output's W_d of the network
here, with its bias. A layer's step does not depend on the layers above it. Any kind of layer, weights of
samples; classes only, as goodness is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...factorization import augmented, split_bias
from ...network import Network
from ...source import Batch, Source
from ..common import where_active
from .common import StepConfig, StepTrainer, drawn, require_classes


@dataclass
class MonoForwardConfig(StepConfig):
    """Parameters of Mono-Forward: those of `StepConfig`."""

    name: ClassVar[str] = "monoforward"


class MonoForwardTrainer(StepTrainer):
    """Mono-Forward; `trained` are M₁ … M_{d−2}."""

    def __init__(self, start: Network, source: Source, *arguments: Any) -> None:
        require_classes(source, "monoforward")
        super().__init__(start, source, *arguments)

    def helpers(self, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
        return [], classifiers(self, len(self.layers) - 2, generator)

    def slopes(self, batch: Batch) -> list[Tensor]:
        Z, _ = self.forward(batch.X)
        found, local = [], []
        for i, M in enumerate([*self.trained, self.weights[-1]]):
            C, D = classified(self, M, Z[i + 1], batch)
            found.append(self.cross(i, Z[i], where_active(D, Z[i + 1])))
            local.append(C)
        return [*found, local[-1], *local[:-1]]


def classifiers(trainer: StepTrainer, count: int, generator: torch.Generator) -> list[Tensor]:
    """Classifiers of the codes of the first `count` layers, with a bias row where the network has them."""
    outputs, like = trainer.layers[-1].units, trainer.weights[0]
    found = [drawn(layer.outputs, outputs, generator, like) for layer in trainer.layers[:count]]
    return [torch.cat([M, M.new_zeros(1, outputs)]) if trainer.bias else M for M in found]


def classified(trainer: StepTrainer, M: Tensor, Z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Slopes of a classifier M and of the codes Z (n × k) that it has, for the cross-entropy of ẐM."""
    inputs = augmented(Z, trainer.bias)
    E = trainer.error(inputs @ M, batch)
    return inputs.T @ E, E @ split_bias(M, Z.shape[1])[0].T
