"""One layer after another, from the output down: relaxation in Gauss–Seidel form, the order of the papers.

Legend and what the two forms share: `relaxation`.

For each layer, from the output down: its weights move, what is left of its residual is computed anew, and
the codes below are asked to remove that and no more, so that nothing is corrected twice. For the change
Pᵢ = Zᵢ₋₁ΔWᵢ + Δbᵢ of Vᵢ by a step at rates ρᵢ:

=============  ==========================================================================================
line search    τᵢ = min(⟨Pᵢ, Rᵢ⟩ / ‖Pᵢ ∘ [Vᵢ active]‖², 1): weights take τᵢ of their step, which overshoots
               on no batch, however old the statistics are
what is left   Rᵢ ← Rᵢ − τᵢ(Pᵢ − 2ρᵢ(k̂/n)Rᵢ) ∘ [Vᵢ active]
=============  ==========================================================================================

- A sample changes its own Vᵢ by ρᵢ times its leverage times its residual, and the mean leverage is k̂/n. In
  small batches that is most of Pᵢ, and fits noise: samples that had no part in the step see Pᵢ − ρᵢ(k̂/n)Rᵢ.
  On validation data it is best to give this back twice, as the correction of a training error does (Mallows
  1973): layers below are asked for more.
- The first layer's step has nothing below it to ask, and its statistics do not age: it is not searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .relaxation import TRUST, Pass, RelaxationConfig, RelaxationTrainer, ratio, search

OWN = 2.0
"""How often a sample's part in the change of its own outputs is given back."""


@dataclass
class SeidelConfig(RelaxationConfig):
    """Parameters of the Gauss–Seidel form."""

    name: ClassVar[str] = "seidel"


@dataclass
class SeidelTrainer(RelaxationTrainer):
    """Trains `start` on a `source` for `epochs` epochs, each in `parts`, as above."""

    def _relax(self, found: Pass) -> list[Tensor]:
        R, above = found.R, found.Y
        residuals = []
        for i in range(len(self.weights) - 1, -1, -1):
            C, r, sizes = self._sums(found, i, R, above).wait()
            size, limit = sizes.sqrt()
            shortened = ratio(TRUST * limit, size).clamp_max(1.0)
            residuals.append(ratio(shortened * size, limit))
            steps = self._weight_step(found, i, C.mul_(shortened), r.mul_(shortened))
            if i == 0:
                self._move(i, steps, found.rates[i])
            else:
                R = self._corrected(found, i, R * shortened, *steps)
                R, above = self._code_step(found, i, R), found.codes[i]
        return residuals

    def _corrected(self, found: Pass, i: int, R: Tensor, step: Tensor, bias_step: Tensor) -> Tensor:
        """Move the weights and biases of layer i along these steps; what is left of its residual R."""
        layer, rate = self.layers[i], found.rates[i]
        P = layer.product(found.codes[i], step * rate, bias_step * rate if self.start.bias else None)
        P = self._felt(found, i, P)
        length = search(P, R, found.batch.weights).clamp_max(1.0)
        self._move(i, (step, bias_step), rate * length)
        own = OWN * rate * (self.metrics[i].dimension / found.counts[i]).to(rate)
        own = (own * R.reshape(-1, layer.units)).view_as(R)
        return R - length * (P - self._felt(found, i, own))
