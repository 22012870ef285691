"""Difference target propagation (D.-H. Lee, S. Zhang, A. Fischer, Y. Bengio, ECML 2015, arXiv:1412.7525).

Layers get targets instead of gradients. Each hidden layer but the first has an inverse that learns with it,
gᵢ(Z) = f(ẐUᵢ), from the codes that leave it back to those that enter it:

    top target       Tᵢ = Zᵢ − η EW_dᵀ for i = d − 1
    targets below    Tᵢ₋₁ = Zᵢ₋₁ + gᵢ(Tᵢ) − gᵢ(Zᵢ)
    slope of Wᵢ      that of ½‖f(Ẑᵢ₋₁Wᵢ) − Tᵢ‖²:  Ẑᵢ₋₁ᵀ((Zᵢ − Tᵢ) ∘ f'(Vᵢ));  of W_d: Ẑ_{d−1}ᵀE
    slope of Uᵢ      that of ½‖gᵢ(f(ĈWᵢ)) − C‖² for C = Zᵢ₋₁ + noise

The difference makes up for an inverse that is not one: where codes have reached their targets, so have
those below, whatever gᵢ is. No weight is used backwards below the top. Noise has σ times the root mean square
of the codes. The paper's units are tanh and its steps RMSprop's. Fully connected layers, classes and real
values, weights of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ... import parallel
from ...factorization import augmented
from ...network import Network
from ...source import Batch
from ..common import where_active
from .common import StepConfig, StepTrainer, drawn, require_dense


@dataclass
class DTPConfig(StepConfig):
    """Parameters of difference target propagation, beside those of `StepConfig`.

    Attributes:
        target_step: η > 0.
        noise: σ > 0, relative to the root mean square of a layer's codes.
    """

    name: ClassVar[str] = "dtp"

    target_step: float = 0.1
    noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.positive("target_step", "noise")


class DTPTrainer(StepTrainer):
    """Difference target propagation; `trained` are U₂ … U_{d−1}."""

    config: DTPConfig

    def __init__(self, start: Network, *arguments: Any) -> None:
        require_dense(start.layers, "dtp")
        super().__init__(start, *arguments)

    def helpers(self, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
        like = self.weights[0]
        found = [drawn(layer.units, layer.fan_in, generator, like) for layer in self.layers[1:-1]]
        return [], [torch.cat([U, U.new_zeros(1, U.shape[1])]) if self.bias else U for U in found]

    def slopes(self, batch: Batch) -> list[Tensor]:
        Z, V = self.forward(batch.X)
        E = self.source.targets.slope(V, batch.labels)
        D = [where_active(code - T, code) for code, T in zip(Z[1:], self.targets(Z, E), strict=True)]
        D = [slope if batch.weights is None else batch.weights * slope for slope in [*D, E]]
        weights = [self.cross(i, code, slope) for i, (code, slope) in enumerate(zip(Z, D, strict=True))]
        return [*weights, *(self._inverse_slope(i, Z[i], batch) for i in range(1, len(Z) - 1))]

    def targets(self, Z: list[Tensor], E: Tensor) -> list[Tensor]:
        """T₁ … T_{d−1} for codes Z₀ … Z_{d−1} and slopes E of the outputs."""
        found = [Z[-1] - self.config.target_step * (E @ self.matrix(len(Z) - 1).T)]
        for i in range(len(Z) - 2, 0, -1):
            found.insert(0, Z[i] + self.inverse(i, found[0]) - self.inverse(i, Z[i + 1]))
        return found

    def inverse(self, i: int, Z: Tensor) -> Tensor:
        """What layer i, from 0, may have had for the codes Z that leave it."""
        return (augmented(Z, self.bias) @ self.trained[i - 1]).relu_()

    def _inverse_slope(self, i: int, Z: Tensor, batch: Batch) -> Tensor:
        shape = (batch.samples, Z.shape[1])  # of all ranks, so that their number changes nothing
        noise = torch.randn(shape, generator=self.noise, dtype=Z.dtype, device=Z.device)
        size = (parallel.total(Z.square().sum()) / (batch.samples * Z.shape[1])).sqrt()
        C = Z + self.config.noise * size * (noise if batch.mine is None else noise[batch.mine])
        above = Network(self.weights, self.bias, self.layers).product(i, C).relu_()
        found = self.inverse(i, above)
        D = where_active(found - C, found)
        return augmented(above, self.bias).T @ (D if batch.weights is None else batch.weights * D)
