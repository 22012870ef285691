"""Direct feedback alignment (A. Nøkland, NIPS 2016, arXiv:1609.01596).

The output's error goes to every hidden layer at once, through a fixed random matrix Bᵢ (m × kᵢ) of its own:

    Dᵢ = (E Bᵢ) ∘ f'(Vᵢ)  for i < d,  D_d = E,  slope of Wᵢ = Ẑᵢ₋₁ᵀDᵢ

where backpropagation has Dᵢ = (Dᵢ₊₁Wᵢ₊₁ᵀ) ∘ f'(Vᵢ). No weight is used backwards, no layer waits for another.
With one hidden layer and B₁ = W₂ᵀ it is backpropagation. The paper's steps are RMSprop's; here they are
Adam's, for which the size of Bᵢ does not matter. Any kind of layer, classes and real values, weights of
samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...source import Batch
from ..common import where_active
from .common import StepConfig, StepTrainer, drawn


@dataclass
class DFAConfig(StepConfig):
    """Parameters of direct feedback alignment: those of `StepConfig`."""

    name: ClassVar[str] = "dfa"


class DFATrainer(StepTrainer):
    """Direct feedback alignment; `fixed` are B₁ … B_{d−1}."""

    def helpers(self, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
        outputs, like = self.layers[-1].units, self.weights[0]
        return [drawn(outputs, layer.outputs, generator, like) for layer in self.layers[:-1]], []

    def slopes(self, batch: Batch) -> list[Tensor]:
        Z, V = self.forward(batch.X)
        E = self.error(V, batch)
        D = [*(where_active(E @ B, code) for B, code in zip(self.fixed, Z[1:], strict=True)), E]
        return [self.cross(i, code, slope) for i, (code, slope) in enumerate(zip(Z, D, strict=True))]
