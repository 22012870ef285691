"""Block coordinate descent, three-splitting (J. Zeng, T. T.-K. Lau, S. Lin, Y. Yao, ICML 2019,
arXiv:1803.00225).

For codes and products of all samples as variables of their own (`whole`), with a code Z_d of the output too:

    F = ½‖Z_d − Y‖² + γ/2 (Σ‖Zᵢ − f(Pᵢ)‖² + ‖Z_d − P_d‖²) + ρ/2 Σ‖Pᵢ − Ẑᵢ₋₁Wᵢ‖²

every block is solved exactly in turn, from the output down, those with ° staying near to where they were:

    output codes°  Z_d ← (Y + γP_d + αZ_d)/(1 + γ + α)
    output         P_d ← (γZ_d + ρẐ_{d−1}W_d)/(γ + ρ)
    codes          Zᵢ ← (γf(Pᵢ) + ρ(Pᵢ₊₁ − bᵢ₊₁)Wᵢ₊₁ᵀ)(γI + ρWᵢ₊₁Wᵢ₊₁ᵀ)⁻¹
    products°      Pᵢ ← argmin of γ/2‖Zᵢ − f(P)‖² + ρ/2‖P − Ẑᵢ₋₁Wᵢ‖² + α/2‖P − Pᵢ‖², entry by entry
    weights°       Wᵢ ← (ρẐᵢ₋₁ᵀẐᵢ₋₁ + αI)⁻¹(ρẐᵢ₋₁ᵀPᵢ + αWᵢ)

No step increases F. Inputs are in units of about their root mean square. All samples at once; fully connected
layers, classes and real values, weights of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...factorization import counted, split_bias
from ...linalg import gram
from .whole import SplitConfig, WholeTrainer, nearest_before_relu


@dataclass
class BCDConfig(SplitConfig):
    """Parameters of block coordinate descent.

    Attributes:
        gamma: γ > 0, of codes that differ from f of the products.
        rho: ρ > 0, of products that differ from those of the codes.
        alpha: α > 0, of steps.
    """

    name: ClassVar[str] = "bcd"
    careful: ClassVar[str] = "alpha"

    gamma: float = 1.0
    rho: float = 0.1
    alpha: float = 1.0

    def __post_init__(self) -> None:
        self.positive("gamma", "rho", "alpha")


class BCDTrainer(WholeTrainer):
    """Block coordinate descent; `Z` ends with the output's codes."""

    def begin(self) -> None:
        super().begin()
        self.Z.append(self.P[-1].clone())

    def round(self) -> None:
        gamma, rho, alpha = self.config.gamma, self.config.rho, self.config.alpha
        last = len(self.weights) - 1
        self.Z[last] = (self.targets() + gamma * self.P[last] + alpha * self.Z[last]) / (1 + gamma + alpha)
        self.P[last] = (gamma * self.Z[last] + rho * self.product(last)) / (gamma + rho)
        self._fit(last)
        for i in range(last - 1, -1, -1):
            W, b = split_bias(self.weights[i + 1], self.layers[i + 1].fan_in)
            above = self.P[i + 1] if b is None else self.P[i + 1] - b
            L = torch.linalg.cholesky(_damped(rho * gram(W.T), gamma))
            pulled = gamma * self.P[i].relu() + rho * (above @ W.T)
            self.Z[i] = torch.cholesky_solve(pulled.T, L).T
            near = (rho * self.product(i) + alpha * self.P[i]) / (rho + alpha)
            self.P[i] = nearest_before_relu(self.Z[i], near, gamma, rho + alpha)
            self._fit(i)

    def splitting(self) -> Tensor:
        """F, 0-d."""
        gamma, rho = self.config.gamma, self.config.rho
        w = self.sample_weights()

        def half(R: Tensor) -> Tensor:
            return 0.5 * counted(R.square(), w).sum()

        found = half(self.Z[-1] - self.targets()) + gamma * half(self.Z[-1] - self.P[-1])
        found += gamma * sum(half(Z - P.relu()) for Z, P in zip(self.Z[:-1], self.P[:-1], strict=True))
        found += rho * sum(half(P - self.product(i)) for i, P in enumerate(self.P))
        return found

    def _fit(self, i: int) -> None:
        rho, alpha = self.config.rho, self.config.alpha
        L = torch.linalg.cholesky(_damped(rho * self.gram(i), alpha))
        self.weights[i] = torch.cholesky_solve(rho * self.cross(i, self.P[i]) + alpha * self.weights[i], L)


def _damped(G: Tensor, by: Any) -> Tensor:
    G.diagonal().add_(by)
    return G
