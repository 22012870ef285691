"""Multiplicative updates for β-divergences, weights of entries and penalties (Févotte & Idier 2011).

Legend: A (n × m) nonnegative data, rows are samples; Z (n × k) codes; W (k × m) parts; V (n × m) how much
each entry counts; B = ZW.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .inputs import Pair
from .objective import Objective
from .penalty import Penalty


@torch.no_grad()
def divergence_step(objective: Objective, pair: Pair) -> Pair:
    """Z ← Z ∘ ((V A B^(β−2) Wᵀ)/(V B^(β−1) Wᵀ + λ₁ + λ₂Z))^γ, then W alike; 0/0 = 0.

    γ is 1 for β = 1 and 2, ½ for β = 0, and with λ₂ > 0 it is 1/(3 − β): these never raise the objective
    (Févotte & Idier 2011; with penalties Tan & Févotte 2013). For β = 2 it is Lee & Seung's update.
    """
    Z, W = pair
    Z = code_part(objective, Z, W)
    return Pair(Z, _moved(W, *objective.weight_slopes(Z, W), objective.penalty[1], objective.beta, 0))


@torch.no_grad()
def code_part(objective: Objective, Z: Tensor, W: Tensor) -> Tensor:
    """Its first half: Z alone."""
    return _moved(Z, *objective.code_slopes(Z, W), objective.penalty[0], objective.beta, 1)


def _moved(F: Tensor, C: Tensor, D: Tensor, penalty: Penalty, beta: int, parts: int) -> Tensor:
    """F ∘ (C/(D + λ₁ + λ₂F))^γ; `parts` is the dimension of F along which the parts lie."""
    if penalty:
        D = D + penalty.l1 + penalty.l2 * F
    # Beyond the largest number it would make NaN of zeros, which no update changes.
    ratio = (C / D.clamp_min(torch.finfo(F.dtype).tiny)).clamp_max_(torch.finfo(F.dtype).max)
    exponent = 1 / (3 - beta) if penalty.l2 > 0 else 0.5 if beta == 0 else 1
    F = F * (ratio if exponent == 1 else ratio.pow(exponent))
    # Entries on their way to zero would become denormal numbers, which slow every later product on a CPU.
    least = F.amax(parts, keepdim=True) * torch.finfo(F.dtype).tiny ** 0.5
    return F.where(F > least, 0.0)
