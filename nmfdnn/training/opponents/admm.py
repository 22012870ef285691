"""dlADMM, the alternating direction method of multipliers (J. Wang, F. Yu, X. Chen, L. Zhao, KDD 2019,
arXiv:1905.13611).

For codes and products of all samples as variables of their own (`whole`) and multipliers Λ (n × m) of the
output's constraint P_d = Ẑ_{d−1}W_d, with L the cross-entropy of P_d (half squares for real values):

    F = L(P_d) + ν/2 (Σ‖Zᵢ − f(Pᵢ)‖² + Σ_{i<d}‖Rᵢ‖²) + ⟨Λ, R_d⟩ + ρ/2 ‖R_d‖²,  Rᵢ = Pᵢ − Ẑᵢ₋₁Wᵢ

Below R_d stands for R_d + Λ/ρ, and cᵢ for ν, of the output ρ. A round goes through the layers from the output
down (Zᵢ, Pᵢ, bᵢ, Wᵢ) and up again (bᵢ, Wᵢ, Pᵢ, Zᵢ), then moves the multipliers:

    codes        Zᵢ ← Zᵢ − tD,  D = ν(Zᵢ − f(Pᵢ)) − cᵢ₊₁Rᵢ₊₁Wᵢ₊₁ᵀ,  t = ‖D‖²/(ν‖D‖² + cᵢ₊₁‖DWᵢ₊₁‖²) row by row
    products     Pᵢ ← argmin of ‖Zᵢ − f(P)‖² + ‖P − Ẑᵢ₋₁Wᵢ‖², entry by entry
    output       P_d ← argmin of L(P) + ρ/2 ‖P − Ẑ_{d−1}W_d + Λ/ρ‖², by FISTA for the cross-entropy
    biases       bᵢ ← bᵢ + mean of Rᵢ
    weights      Wᵢ ← Wᵢ + tS,  S = Ẑᵢ₋₁ᵀRᵢ,  t = ‖S‖²/‖Ẑᵢ₋₁S‖²
    multipliers  Λ ← Λ + ρ(P_d − Ẑ_{d−1}W_d)

No system is solved, and for given Λ no step increases F. Where the paper finds the length t of a step by
backtracking, it is the best one here. All samples at once; fully connected layers, classes and real values,
weights of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ... import parallel
from ...errors import require
from ...factorization import counted, split_bias
from ..common import loss_per_sample
from .whole import SplitConfig, WholeTrainer, nearest_before_relu


@dataclass
class ADMMConfig(SplitConfig):
    """Parameters of dlADMM.

    Attributes:
        nu: ν > 0, of hidden codes and products that do not fit together.
        rho: ρ > 0, of the output's constraint.
        output_steps: of FISTA, for the output and the cross-entropy.
    """

    name: ClassVar[str] = "admm"
    careful: ClassVar[str] = "rho"

    nu: float = 1.0
    rho: float = 0.1
    output_steps: int = 20

    def __post_init__(self) -> None:
        self.positive("nu", "rho")
        require(self.output_steps >= 1, "admm.output_steps", "≥ 1", self.output_steps)


class ADMMTrainer(WholeTrainer):
    """dlADMM."""

    multipliers: Tensor | None = None

    def begin(self) -> None:
        super().begin()
        self.multipliers = torch.zeros_like(self.P[-1])

    def objective(self, outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
        """The output's loss per sample: cross-entropy for classes, half squares for real values."""
        return loss_per_sample(self.source, outputs, labels, weights)

    def state(self) -> dict[str, Any]:
        held = None if self.multipliers is None else self.multipliers.clone()
        return {**super().state(), "multipliers": held}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        held = state["multipliers"]
        self.multipliers = None if held is None else held.to(self.weights[0], copy=True)

    def round(self) -> None:
        self.blocks()
        self.multipliers = self.multipliers + self.config.rho * (self.P[-1] - self.product(self._last))

    def blocks(self) -> None:
        """All but the multipliers."""
        last = self._last
        for i in range(last, -1, -1):
            if i < last:
                self._move_codes(i)
            self._move_products(i)
            self._move_weights(i)
        for i in range(last + 1):
            self._move_weights(i)
            self._move_products(i)
            if i < last:
                self._move_codes(i)

    def lagrangian(self) -> Tensor:
        """F, 0-d."""
        assert self.multipliers is not None  # for the type checker: it is there when there are products
        w, nu = self.sample_weights(), self.config.nu
        R = [P - self.product(i) for i, P in enumerate(self.P)]
        R[-1] = R[-1] + self.multipliers / self.config.rho

        def squares(M: Tensor) -> Tensor:
            return counted(M.square(), w).sum()

        found = self.source.targets.loss("auto", self.P[-1], self._labels(), w)
        found = found + self.config.rho / 2 * (squares(R[-1]) - squares(self.multipliers / self.config.rho))
        for Z, P in zip(self.Z, self.P[:-1], strict=True):
            found = found + nu / 2 * squares(Z - P.relu())
        return found + nu / 2 * sum(squares(M) for M in R[:-1])

    @property
    def _last(self) -> int:
        return len(self.weights) - 1

    def _labels(self) -> Tensor:
        return torch.cat([batch.labels for batch in self.source.passes()])

    def _stiffness(self, i: int) -> float:
        return self.config.rho if i == self._last else self.config.nu

    def _residual(self, i: int) -> Tensor:
        """Rᵢ₊₁, i from 0; that of the output with its multipliers."""
        R = self.P[i] - self.product(i)
        return R if i < self._last else R + self.multipliers / self.config.rho

    def _move_codes(self, i: int) -> None:
        nu, c = self.config.nu, self._stiffness(i + 1)
        W = split_bias(self.weights[i + 1], self.layers[i + 1].fan_in)[0]
        D = nu * (self.Z[i] - self.P[i].relu()) - c * (self._residual(i + 1) @ W.T)
        along = D.square().sum(dim=1, keepdim=True)
        curved = nu * along + c * (D @ W).square().sum(dim=1, keepdim=True)
        self.Z[i] = self.Z[i] - along / curved.clamp_min(torch.finfo(D.dtype).tiny) * D

    def _move_products(self, i: int) -> None:
        V = self.product(i)
        if i < self._last:
            self.P[i] = nearest_before_relu(self.Z[i], V, 1.0, 1.0)
            return
        assert self.multipliers is not None  # for the type checker: it is there when there are products
        rho, targets, labels = self.config.rho, self.source.targets, self._labels()
        V = V - self.multipliers / rho
        if targets.kind != "classes":
            self.P[i] = (labels + rho * V) / (1 + rho)
            return
        P, ahead, momentum = self.P[i], self.P[i], 1.0
        for _ in range(self.config.output_steps):
            slope = targets.slope(ahead, labels) + rho * (ahead - V)
            new = ahead - slope / (0.5 + rho)  # the curvature of the cross-entropy is at most 1/2
            after = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            P, ahead, momentum = new, new + (momentum - 1) / after * (new - P), after
        self.P[i] = P

    def _move_weights(self, i: int) -> None:
        w = self.sample_weights()
        R = self._residual(i)
        if self.bias:
            count = len(self.source) if self.source.weights is None else self.source.weights.sum()
            mean = parallel.total(counted(R, w).sum(dim=0)) / count
            self.weights[i] = torch.cat([self.weights[i][:-1], (self.weights[i][-1] + mean)[None]])
            R = R - mean
        S = self.cross(i, R)
        curved = parallel.total(counted(self.product(i, S).square(), w).sum())
        tiny = torch.finfo(S.dtype).tiny
        self.weights[i] = self.weights[i] + S * (S.square().sum() / curved.clamp_min(tiny))
