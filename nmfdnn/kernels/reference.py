"""Plain tensor versions of the element-wise chains: what `torch.compile` fuses and is tested against."""

from __future__ import annotations

import torch
from torch import Tensor

NEGLIGIBLE = 1e-16
"""A multiplicative update sets an entry to zero, the limit it decays to, where its own term is a smaller
share of its denominator. Left alone, such entries become denormal numbers, which slow every later product on
a CPU."""


def multiplicative(Z: Tensor, numerator: Tensor, denominator: Tensor, own: Tensor) -> Tensor:
    """Z ∘ numerator / denominator, 0 where both are, all of one shape and nonnegative (Lee & Seung 2001).

    `own` broadcasts to Z: the factor that Z itself has in the denominator, here diag(WWᵀ).
    """
    updated = (Z * numerator).div_(denominator.clamp_min(torch.finfo(Z.dtype).tiny))
    return updated.mul_(_counts(Z, denominator, own))


def semi_multiplicative(
    Z: Tensor, C: Tensor, positive: Tensor, negative: Tensor, damping: Tensor | float, own: Tensor
) -> Tensor:
    """Z ∘ √(([C]₊ + negative + λZ) / ([C]₋ + positive + λZ)), all n × k (Ding, Li & Jordan 2010, eq. 11).

    C = AWᵀ, positive = Z[WWᵀ]₊, negative = Z[WWᵀ]₋, λ = `damping` (Arai 2018), `own` = diag(WWᵀ), k.
    """
    damped = damping * Z
    denominator = (-C).clamp_min(0) + positive + damped
    # The roots are taken apart, because a denominator of zero must not make an infinity beside Z = 0.
    updated = (C.clamp_min(0) + negative + damped).sqrt_()
    updated.mul_(denominator.clamp_min(torch.finfo(Z.dtype).tiny).rsqrt_()).mul_(Z)
    return updated.mul_(_counts(Z, denominator, own))


def _counts(Z: Tensor, denominator: Tensor, own: Tensor) -> Tensor:
    """0 where the share of Z · own in its denominator is negligible, else 1: floats, faster than booleans."""
    return (Z * (own / NEGLIGIBLE)).ge_(denominator)


def relu_residual(B: Tensor, V: Tensor) -> Tensor:
    """B − max(0, V), both n × m."""
    return B - V.relu()


def step_and_project(Z: Tensor, D: Tensor, omega: float) -> Tensor:
    """max(0, Z + ωD), both n × k."""
    return torch.relu(Z + omega * D)
