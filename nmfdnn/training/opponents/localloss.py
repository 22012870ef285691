"""Local error signals, "predsim" (A. Nøkland, L. H. Eidnes, ICML 2019, arXiv:1901.06656).

Every hidden layer learns from two losses of its own codes, through matrices Cᵢ (kᵢ × m) and Pᵢ (kᵢ × kᵢ) that
learn with it:

    Lᵢ = (1 − β) cross-entropy(ẐᵢCᵢ, Y) + β ‖S(ZᵢPᵢ) − S(Y)‖²/n²,  slope of Wᵢ = Ẑᵢ₋₁ᵀ(∂Lᵢ/∂Zᵢ ∘ f'(Vᵢ))

S(A) = NNᵀ is the matrix (n × n) of cosines between the rows of A, each less its mean: N has the rows
a − ā, divided by their length. With R = S(A) − S(Y) the slope of β‖R‖²/n² by N is 4βRN/n², by a row of A that
less its mean and its part along N, divided by the length. The output W_d learns from the cross-entropy, which
goes no further. A layer's step does not depend on the layers above it.

The paper divides the rate by four at four epochs, drops units and jitters pictures; neither is part of the
loss. Fully connected layers; classes without weights, as pairs of samples have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ... import parallel
from ...errors import require
from ...network import Network
from ...source import Batch, Source
from ..common import where_active
from .common import (
    StepConfig,
    StepTrainer,
    drawn,
    require_classes,
    require_dense,
    require_unweighted,
)
from .monoforward import classified, classifiers


@dataclass
class LocalLossConfig(StepConfig):
    """Parameters of local losses, beside those of `StepConfig`.

    Attributes:
        similarity: share β in [0, 1] of the loss of similarities; the rest is that of predictions.
    """

    name: ClassVar[str] = "localloss"

    similarity: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.similarity <= 1, "localloss.similarity", "in [0, 1]", self.similarity)


class LocalLossTrainer(StepTrainer):
    """Local losses; `trained` are C₁ … C_{d−1}, P₁ … P_{d−1}."""

    config: LocalLossConfig

    def __init__(self, start: Network, source: Source, *arguments: Any) -> None:
        require_dense(start.layers, "localloss")
        require_classes(source, "localloss")
        require_unweighted(source, "localloss")
        super().__init__(start, source, *arguments)

    def helpers(self, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
        hidden = self.layers[:-1]
        similarity = [drawn(layer.units, layer.units, generator, self.weights[0]) for layer in hidden]
        return [], [*classifiers(self, len(hidden), generator), *similarity]

    def slopes(self, batch: Batch) -> list[Tensor]:
        Z, V = self.forward(batch.X)
        hidden, beta = len(Z) - 1, self.config.similarity
        Y = self.source.targets.matrix(batch.labels, self.layers[-1].units, V.dtype)
        N_Y = self._all(normalised(Y)[0], batch)
        found: list[Tensor] = []
        local: list[Tensor] = []
        maps: list[Tensor] = []
        for i in range(hidden):
            code, C, P = Z[i + 1], self.trained[i], self.trained[hidden + i]
            slope, D = classified(self, C, code, batch)
            T = self._similar(code @ P, N_Y, batch)
            D = (1 - beta) * D + beta * (T @ P.T)
            found.append(self.cross(i, Z[i], where_active(D, code)))
            local.append((1 - beta) * slope)
            maps.append(beta * (code.T @ T))
        return [*found, self.cross(hidden, Z[-1], self.error(V, batch)), *local, *maps]

    def _similar(self, A: Tensor, N_Y: Tensor, batch: Batch) -> Tensor:
        """The slope of ‖S(A) − S(Y)‖²/n, n times the mean over pairs, by A (n × k)."""
        N, lengths = normalised(A)
        every = self._all(N, batch)
        mine = N_Y if batch.mine is None else N_Y[batch.mine]
        S = (N @ every.T).sub_(mine @ N_Y.T) @ every * (4 / batch.samples)
        S = (S - N * (N * S).sum(dim=1, keepdim=True)) / lengths
        return S - S.mean(dim=1, keepdim=True)

    def _all(self, N: Tensor, batch: Batch) -> Tensor:
        """Rows of all ranks: pairs of samples cross them."""
        return parallel.whole(N, batch.mine, batch.samples)


def normalised(A: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of A less their means and divided by their lengths, 0 where there is none; the lengths (n × 1)."""
    N = A - A.mean(dim=1, keepdim=True)
    lengths = N.norm(dim=1, keepdim=True).clamp_min(torch.finfo(A.dtype).tiny)
    return N / lengths, lengths
