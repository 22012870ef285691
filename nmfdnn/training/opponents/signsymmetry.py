"""Sign symmetry: feedback through the signs of the weights (Q. Liao, J. Z. Leibo, T. Poggio, AAAI 2016,
arXiv:1510.05067; their "uniform sign-concordant feedback").

    Dᵢ = w̄ᵢ₊₁ (Dᵢ₊₁ sign(Wᵢ₊₁)ᵀ) ∘ f'(Vᵢ),  D_d = E,  slope of Wᵢ = Ẑᵢ₋₁ᵀDᵢ

with w̄ the mean of |W|, which keeps the size of the feedback and, for Adam's steps, changes nothing else (the
paper needs batch normalisation or steps by sign for the same end). Where all |wᵢⱼ| of a layer are equal it is
backpropagation. Fully connected layers, classes and real values, weights of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ...network import Network
from ...source import Batch
from ..common import where_active
from .common import StepConfig, StepTrainer, require_dense


@dataclass
class SignSymmetryConfig(StepConfig):
    """Parameters of sign symmetry: those of `StepConfig`."""

    name: ClassVar[str] = "signsymmetry"


class SignSymmetryTrainer(StepTrainer):
    """Feedback through signs."""

    def __init__(self, start: Network, *arguments: Any) -> None:
        require_dense(start.layers, "signsymmetry")
        super().__init__(start, *arguments)

    def slopes(self, batch: Batch) -> list[Tensor]:
        Z, D = self.forward(batch.X)
        D = self.error(D, batch)
        found = [self.cross(len(Z) - 1, Z[-1], D)]
        for i in range(len(Z) - 1, 0, -1):
            W = self.matrix(i)
            D = where_active(D @ W.sign().T * W.abs().mean(), Z[i])
            found.insert(0, self.cross(i - 1, Z[i - 1], D))
        return found
