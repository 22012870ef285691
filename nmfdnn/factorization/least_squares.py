"""Nonlinear least squares with f = ReLU: weights in B ≈ f(AW), nonnegative codes in B ≈ f(ZW).

Legend: A (n × k) inputs, B (n × m) targets ≥ 0, W (k × m) weights, Z (n × k) codes. Rows are samples.
No derivative of f is taken: each step solves a linear least-squares problem for the residual B − f(·).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import require
from ..kernels import REFERENCE, Kernels
from ..linalg import Factors, factor_unchecked
from .bias import affine, augmented, split_bias
from .driver import Result, Stopping, iterate
from .inputs import Pair, Units, check_matrix, in_units, unit
from .objective import Objective
from .regularisation import Regularisation, counted

UNKNOWNS = ("weights", "codes")


@torch.no_grad()
def nonlinear_least_squares(
    A: Tensor,
    B: Tensor,
    *,
    unknown: str = "weights",
    omega: float = 1.0,
    bias: bool = False,
    nonnegative: bool = True,
    regularisation: Regularisation | None = None,
    start: Tensor | None = None,
    stopping: Stopping | None = None,
    kernels: Kernels = REFERENCE,
) -> Result:
    """Solve B ≈ f(AW) for the weights W, or B ≈ f(ZA) for the codes Z ≥ 0.

    Args:
        A: for weights: the inputs, n × k. For codes: the weights, k × m, or (k + 1) × m with a bias.
        B: targets n × m, reachable only where they are ≥ 0.
        unknown: "weights" or "codes".
        omega: relaxation ω in (0, 2].
        bias: whether the weights carry a bias row.
        nonnegative: for codes: project onto Z ≥ 0 inside every step; False leaves Z free.
        regularisation: pseudo-inverse, λ_W for weights, λ_Z for codes.
        start: the unknown to continue from; default zeros.
        stopping: when to end; default `Stopping()`.
        kernels: element-wise backend.

    Returns:
        A `Result` whose Z and W are the given matrix and the found one, which counts in the unit of B divided
        by that of A. Where inputs have a bias, its column stands for the power of four next to their largest
        entry, so that δ and λ_W treat it alike in any unit.

    Not guaranteed: a monotone objective. For ω = 1 the weight step is the least-squares fit to the latent
    target B + min(0, AW), which can increase ½‖B − f(AW)‖² where B > 0 and AW < 0. What is returned is the
    best of all checks.

    Raises:
        ConfigError: shapes that do not fit, values that are not finite, or an argument outside its range.
    """
    check_matrix(A)
    check_matrix(B, "B", like=A)
    require(unknown in UNKNOWNS, "unknown", f"one of {', '.join(UNKNOWNS)}", unknown)
    require(0 < omega <= 2, "omega", "in (0, 2]", omega)
    regularisation = regularisation or Regularisation()
    if unknown == "weights":
        require(len(A) == len(B), "A", f"of as many rows as B, {len(B)}", tuple(A.shape))
        shape, ridge = (A.shape[1] + bias, B.shape[1]), regularisation.weight_ridge
        units = Units(unit(B), unit(A))
    else:
        rank = len(A) - bias
        require(A.shape[1] == B.shape[1], "A", f"of as many columns as B, {B.shape[1]}", tuple(A.shape))
        require(rank >= 1, "A", "at least one row besides the bias", tuple(A.shape))
        shape, ridge = (len(B), rank), regularisation.code_ridge
        units = Units(unit(B), unit(B) / unit(A[:rank]))
    X = A.new_zeros(shape) if start is None else start
    check_matrix(X, "start", like=A, shape=shape)
    pair = units.inner(Pair(A, X) if unknown == "weights" else Pair(X, A))
    B = in_units(B, units.A)
    if unknown == "weights":
        inputs = augmented(pair.Z, bias)
        factors = factor_unchecked(inputs, regularisation.method, regularisation.delta, sharded=True)
    else:
        factors = weight_factors(pair.W, rank, regularisation)

    def step(pair: Pair) -> Pair:
        Z, W = pair
        if unknown == "weights":
            return Pair(Z, weight_step(inputs, B, W, factors, omega, ridge, kernels))
        return Pair(code_step(B, Z, W, factors, omega, ridge, nonnegative, kernels), W)

    goal = Objective(B, nonlinear=True)
    return iterate(goal, pair, step, stopping or Stopping(), units, ridge=ridge > 0)


@torch.no_grad()
def weight_step(
    A: Tensor,
    B: Tensor,
    W: Tensor,
    factors: Factors,
    omega: float,
    ridge: float = 0.0,
    kernels: Kernels = REFERENCE,
    roots: Tensor | None = None,
) -> Tensor:
    """W ← W + ω A⁺(B − f(AW)), then (AᵀA + λ_W ḡI)⁻¹AᵀA W for λ_W = `ridge` > 0 (Arai 2018).

    ḡ is the mean diagonal of AᵀA. `factors` are those of A, whose last column is ones where W has a bias row.
    Where samples have weights, `roots` (n × 1) are their square roots and `factors` those of roots ∘ A.
    """
    W = W + omega * factors.solve(counted(kernels.relu_residual(B, A @ W), roots))
    return factors.shrink(W, ridge) if ridge > 0 else W


@torch.no_grad()
def code_step(
    B: Tensor,
    Z: Tensor,
    W: Tensor,
    factors: Factors,
    omega: float,
    ridge: float = 0.0,
    nonnegative: bool = True,
    kernels: Kernels = REFERENCE,
) -> Tensor:
    """Z ← max(0, (Z + ω(B − f(ẐW))W⁺)(I + λ_Z ḡ(WWᵀ)⁻¹)⁻¹) for λ_Z = `ridge`; without max for free codes.

    ḡ is the mean diagonal of WWᵀ. `factors` are those of Wᵀ (m × k), without the bias row.
    """
    D = factors.solve(kernels.relu_residual(B, affine(Z, W)).T).T
    if ridge > 0:
        Z = factors.shrink((Z + omega * D).T, ridge).T
        return Z.relu() if nonnegative else Z
    return kernels.step_and_project(Z, D, omega) if nonnegative else Z + omega * D


@torch.no_grad()
def weight_factors(W: Tensor, rank: int, regularisation: Regularisation) -> Factors:
    """Factors of Wᵀ less its bias row: the pseudo-inverse that code steps use."""
    return factor_unchecked(split_bias(W, rank)[0].T, regularisation.method, regularisation.delta)
