"""Predictive coding (J. C. R. Whittington, R. Bogacz, Neural Computation 29(5), 2017), set up as in the
benchmark of L. Pinchetti et al. (ICLR 2025, arXiv:2407.01163): cross-entropy at the output, latents from a
forward pass, plain steps for these and Adam's for the weights.

Every hidden layer has latents Pᵢ (n × kᵢ) in the place of Vᵢ, and predicts those of the next:

    energy       F = ½ Σ‖Rᵢ‖² + L(f̂(P_{d−1})W_d, Y),  Rᵢ = Pᵢ − f̂(Pᵢ₋₁)Wᵢ for i < d,  R_d = −E
    inference    Pᵢ ← Pᵢ − γ (Rᵢ − (Rᵢ₊₁Wᵢ₊₁ᵀ) ∘ f'(Pᵢ)), all layers at once, T times
    slope of Wᵢ  that of F: −f̂(Pᵢ₋₁)ᵀRᵢ

with f̂(P₀) = X̂; latents start from Pᵢ = Vᵢ, where all Rᵢ but the last are 0. For small γ they hardly move,
and the slopes become multiples of the gradients, a factor for each layer, to which Adam's steps are blind:
then it is backpropagation. For more and larger steps it is not. Fully connected layers, classes and real
values (L half squares), weights of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ...errors import require
from ...network import Network
from ...source import Batch
from ..common import where_active
from .common import StepConfig, StepTrainer, require_dense


@dataclass
class PCConfig(StepConfig):
    """Parameters of predictive coding, beside those of `StepConfig`.

    Attributes:
        inference_steps: T, at least the number of hidden layers, so that errors reach all of them.
        inference_rate: γ > 0.
    """

    name: ClassVar[str] = "pc"

    inference_steps: int = 8
    inference_rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.positive("inference_rate")
        require(self.inference_steps >= 1, "pc.inference_steps", "≥ 1", self.inference_steps)


class PCTrainer(StepTrainer):
    """Predictive coding."""

    config: PCConfig

    def __init__(self, start: Network, source: Any, config: PCConfig, *arguments: Any) -> None:
        require_dense(start.layers, "pc")
        hidden, steps = len(start.layers) - 1, config.inference_steps
        require(steps >= hidden, "pc.inference_steps", f"at least {hidden}, one a hidden layer", steps)
        super().__init__(start, source, config, *arguments)

    def slopes(self, batch: Batch) -> list[Tensor]:
        P, R = self.inferred(batch)
        codes = [batch.X, *(latents.relu() for latents in P)]
        if batch.weights is not None:
            R = [batch.weights * errors for errors in R]
        return [-self.cross(i, Z, errors) for i, (Z, errors) in enumerate(zip(codes, R, strict=True))]

    def inferred(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """P₁ … P_{d−1} after inference, and R₁ … R_d."""
        network = Network(self.weights, self.bias, self.layers)
        hidden = len(self.layers) - 1
        P: list[Tensor] = []
        for i in range(hidden):
            P.append(network.product(i, P[-1].relu() if P else batch.X))
        first = P[0].clone()  # what the inputs predict does not change
        for _ in range(self.config.inference_steps):
            R = self._errors(network, P, first, batch)
            for i in range(hidden):
                above = where_active(R[i + 1] @ self.matrix(i + 1).T, P[i])
                P[i] = P[i] - self.config.inference_rate * (R[i] - above)
        return P, self._errors(network, P, first, batch)

    def _errors(self, network: Network, P: list[Tensor], first: Tensor, batch: Batch) -> list[Tensor]:
        products = [network.product(i + 1, latents.relu()) for i, latents in enumerate(P)]
        E = self.source.targets.slope(products[-1], batch.labels)
        return [latents - V for latents, V in zip(P, [first, *products[:-1]], strict=True)] + [-E]
