"""All layers at once from one forward pass: relaxation in Jacobi form, at about the cost of backpropagation.

Legend and what the two forms share: `relaxation`.

`seidel` solves each layer's problem after the layers above have moved. Here every problem is as the forward
pass left it, which has computed every residual already: code steps go down from the output's whole residual,
then all weights move.

- All layers correct the same residual at once, so their corrections overlap. The share s ≤ 1 that each takes
  of its rate is found by a line search along their joint step: with R_d and R̂_d before and after it and
  P = R_d − R̂_d, s ← s⟨P, R_d⟩/‖P‖², changed at most by a factor of two. It starts at 1/(d − 1), in equal
  parts.
- s is searched on the last batch before statistics are brought up to date, which sees the oldest of them.
- All that follows from R is linear in it, so what shortens a layer's residual shortens those below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .relaxation import TRUST, Pass, RelaxationConfig, RelaxationTrainer, ratio, search


@dataclass
class JacobiConfig(RelaxationConfig):
    """Parameters of the Jacobi form."""

    name: ClassVar[str] = "jacobi"


@dataclass
class JacobiTrainer(RelaxationTrainer):
    """Trains `start` on a `source` for `epochs` epochs, each in `parts`, as above."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.share.fill_(1 / max(1, len(self.start.weights) - 1))

    def _relax(self, found: Pass) -> list[Tensor]:
        R, above = found.R, found.Y
        layers = range(len(self.weights) - 1, -1, -1)
        sums = []
        for i in layers:
            sums.append(self._sums(found, i, R, above))
            if i > 0:
                R, above = self._code_step(found, i, R), found.codes[i]
        shortened, residuals = torch.ones_like(self.share), []
        for i, pending in zip(layers, sums, strict=True):
            C, r, sizes = pending.wait()
            size, limit = sizes.sqrt()
            shortened = torch.minimum(shortened, ratio(TRUST * limit, size))
            residuals.append(ratio(shortened * size, limit))
            self._move(i, self._weight_step(found, i, C, r), found.rates[i] * shortened)
        if self.updates + 1 == self.due:
            moved = self.source.targets.residual(found.Y, self._forward(found.codes[0])[1])
            best = search(found.R - moved, found.R, found.batch.weights)
            self.share.mul_(best.clamp(0.5, 2.0)).clamp_max_(1.0)
        return residuals
