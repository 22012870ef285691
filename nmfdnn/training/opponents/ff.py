"""The forward-forward algorithm (G. Hinton 2022, arXiv:2212.13345), also with the loss of SymBa (H.-C. Lee,
J. Song 2023, arXiv:2303.08418).

Every hidden layer learns to give large codes, "goodness", to samples with their true label in the input, and
small ones to those with a wrong label. Labels enter beside X as Y − 1/m (n × m), through weights U (m × k₁):

    codes        Z₁ = f(X̂W₁ + (Y − 1/m)U),  Zᵢ = f(Nᵢ₋₁Wᵢ) for 1 < i < d
    between      Nᵢ = √kᵢ Zᵢ / ‖Zᵢ‖, row by row: goodness does not pass on, directions do
    goodness     gᵢ = ‖Zᵢ‖²/kᵢ of each sample, g⁺ with the true label, g⁻ with a wrong one, drawn anew
    "threshold"  Lᵢ = log(1 + exp(−α(g⁺ − θ))) + log(1 + exp(α(g⁻ − θ)))
    "symmetric"  Lᵢ = log(1 + exp(−α(g⁺ − g⁻)))
    slope of Wᵢ  Nᵢ₋₁ᵀ(2 Zᵢ ∂Lᵢ/∂gᵢ /kᵢ), for both labels; of U: (Y − 1/m)ᵀ of the same

A layer's step does not depend on those above it. It keeps the widths of the network, and its inputs have m
more features. To predict, Hinton's quick way is taken: one pass with the neutral label, which is 0 here, and
a softmax of the last hidden layer's codes, W_d, that learns beside the others and passes nothing on (his uses
all hidden layers but the first; his slower way, the label of most goodness, needs m passes and no output
weights). Between layers the network itself does not normalise: without biases but in the first layer, which
is so here, that changes its codes by a factor for each sample alone. Fully connected layers; classes; weights
of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import require
from ...factorization import affine
from ...network import Network
from ...source import Batch, Source
from .common import StepConfig, StepTrainer, drawn, require_classes, require_dense

LOSSES = ("threshold", "symmetric")


@dataclass
class FFConfig(StepConfig):
    """Parameters of the forward-forward algorithm, beside those of `StepConfig`.

    Attributes:
        loss: "threshold" (Hinton) or "symmetric" (SymBa).
        threshold: θ > 0, of "threshold".
        sharpness: α > 0.
    """

    name: ClassVar[str] = "ff"

    loss: str = "symmetric"
    threshold: float = 2.0
    sharpness: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.positive("threshold", "sharpness")
        require(self.loss in LOSSES, "ff.loss", f"one of {', '.join(LOSSES)}", self.loss)


class FFTrainer(StepTrainer):
    """The forward-forward algorithm; `trained` is U."""

    config: FFConfig

    def __init__(self, start: Network, source: Source, *arguments: Any) -> None:
        require_dense(start.layers, "ff")
        require_classes(source, "ff")
        super().__init__(start, source, *arguments)
        if self.bias:
            for W in self.weights[1:-1]:
                W[-1] = 0

    def helpers(self, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
        return [], [drawn(self.layers[-1].units, self.layers[0].units, generator, self.weights[0])]

    def slopes(self, batch: Batch) -> list[Tensor]:
        X, m = batch.X, self.layers[-1].units
        offsets = torch.randint(1, max(2, m), (batch.samples,), generator=self.noise, device=X.device)
        wrong = (batch.labels + (offsets if batch.mine is None else offsets[batch.mine])) % m
        labels = [self.source.targets.matrix(some, m, X.dtype) - 1 / m for some in (batch.labels, wrong)]
        inputs = [X, X]
        found: list[Tensor] = []
        for i in range(len(self.layers) - 1):
            V = [affine(A, self.weights[i]) if i == 0 else A @ self.matrix(i) for A in inputs]
            if i == 0:
                V = [torch.addmm(some, Y, self.trained[0]) for some, Y in zip(V, labels, strict=True)]
            Z = [some.relu_() for some in V]
            D = self._code_slopes(Z, batch.weights)
            found.append(sum(self._cross(i, A, S) for A, S in zip(inputs, D, strict=True)))  # type: ignore[arg-type]
            if i == 0:
                label_slope = labels[0].T @ D[0] + labels[1].T @ D[1]
            inputs = [directions(some) for some in Z]
        codes, V_d = self.forward(X)
        return [*found, self.cross(len(found), codes[-1], self.error(V_d, batch)), label_slope]

    def _code_slopes(self, Z: list[Tensor], weights: Tensor | None) -> list[Tensor]:
        """Slopes of the loss by codes (n × k) with true and with wrong labels."""
        alpha, k = self.config.sharpness, Z[0].shape[1]
        goodness, badness = (some.square().mean(dim=1, keepdim=True) for some in Z)
        if self.config.loss == "threshold":
            up = -alpha * torch.sigmoid(alpha * (self.config.threshold - goodness))
            down = alpha * torch.sigmoid(alpha * (badness - self.config.threshold))
        else:
            down = alpha * torch.sigmoid(alpha * (badness - goodness))
            up = -down
        if weights is not None:
            up, down = weights * up, weights * down
        return [up * Z[0] * (2 / k), down * Z[1] * (2 / k)]

    def _cross(self, i: int, A: Tensor, D: Tensor) -> Tensor:
        S = self.cross(i, A, D)
        if self.bias and i > 0:
            S[-1] = 0
        return S


def directions(Z: Tensor) -> Tensor:
    """Rows with a root mean square of one; 0 where they are."""
    size = Z.square().mean(dim=1, keepdim=True).sqrt()
    return Z / size.clamp_min(torch.finfo(Z.dtype).tiny)
