"""Plain tensor versions of the element-wise chains: what `torch.compile` fuses and is tested against."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import threshold

EPSILON = 1e-12
"""Added to the denominators of multiplicative updates; data is taken to be of order one."""

FLOOR = 1e-16
"""What a multiplicative update shrinks below this is set to zero, the limit it decays to. Left alone, such
entries become denormal numbers, which slow every later product on a CPU (2.4 times after 50 updates)."""


def multiplicative(Z: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
    """Z ∘ numerator / (denominator + ε), all of one shape and nonnegative (Lee & Seung 2001)."""
    return threshold(Z * (numerator / (denominator + EPSILON)), FLOOR, 0.0)


def semi_multiplicative(
    Z: Tensor, C: Tensor, positive: Tensor, negative: Tensor, damping: Tensor | float
) -> Tensor:
    """Z ∘ √(([C]₊ + negative + λZ) / ([C]₋ + positive + λZ + ε)), all n × k (Ding, Li & Jordan 2010, eq. 11).

    C = AWᵀ, positive = Z[WWᵀ]₊, negative = Z[WWᵀ]₋, λ = `damping` (Arai 2018).
    """
    damped = damping * Z
    ratio = (C.clamp_min(0) + negative + damped) / ((-C).clamp_min(0) + positive + damped + EPSILON)
    return threshold(Z * ratio.sqrt(), FLOOR, 0.0)


def relu_residual(B: Tensor, V: Tensor) -> Tensor:
    """B − max(0, V), both n × m."""
    return B - V.relu()


def step_and_project(Z: Tensor, D: Tensor, omega: float) -> Tensor:
    """max(0, Z + ωD), both n × k."""
    return torch.relu(Z + omega * D)
