"""Semi-NMF: min ½‖A − ZW‖² over Z ≥ 0, W free.

Legend: A (n × m) data of any sign, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row
(k + 1) × m; Ẑ = [Z 1] the codes with a column of ones where there is a bias, else Z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require, require_whole
from ..kernels import REFERENCE, Kernels
from ..linalg import check_method, factor_unchecked, unit
from .driver import Result, Stopping, iterate
from .inputs import Pair, Units, check_matrix, source, two


@dataclass(frozen=True)
class Regularisation:
    """Arai's regularisation and the pseudo-inverse, shared by the updates of semi- and nonlinear semi-NMF.

    Attributes:
        method: pseudo-inverse, one of `nmfdnn.linalg.METHODS`.
        delta: its relative cut-off δ, in [0, 1).
        weight_ridge: λ_W ≥ 0: W ← (ẐᵀẐ + λ_W ḡI)⁻¹ẐᵀẐ W after each weight step.
        code_ridge: λ_Z ≥ 0: damps multiplicative code steps, shrinks least-squares code steps.

    The ridges have no unit: λ_W counts in mean diagonals ḡ of ẐᵀẐ, λ_Z in those of WWᵀ, less the bias row.
    """

    method: str = "svd"
    delta: float = 1e-14
    weight_ridge: float = 0.0
    code_ridge: float = 0.0

    def __post_init__(self) -> None:
        check_method(self.method, self.delta)
        for key in ("weight_ridge", "code_ridge"):
            require(0 <= getattr(self, key) < math.inf, key, "finite and ≥ 0", getattr(self, key))


@torch.no_grad()
def semi_nmf(
    A: Tensor,
    rank: int,
    *,
    bias: bool = False,
    regularisation: Regularisation | None = None,
    start: tuple[Tensor, Tensor | None] | None = None,
    stopping: Stopping | None = None,
    generator: torch.Generator | None = None,
    kernels: Kernels = REFERENCE,
) -> Result:
    """Codes Z ≥ 0 (n × rank) and free weights W with A ≈ ẐW: W by least squares, Z multiplicatively.

    Args:
        A: n × m, any sign, in any unit: cA gives the same codes and c times the weights.
        rank: number of codes k ≥ 1.
        bias: append a row to W that a column of ones multiplies.
        regularisation: pseudo-inverse, λ_W and λ_Z (Arai 2018); default none.
        start: (Z, W) to continue from; W may be None, it is computed first. Default: Z uniform in [0.2, 1.2],
            away from zero, which multiplicative updates cannot leave.
        stopping: when to end; default `Stopping()`.
        generator: source of all randomness, on the device of A; default a new one with seed 0.
        kernels: element-wise backend.

    With λ_W = 0 no half-step increases ½‖A − ẐW‖² by more than rounding (Ding, Li & Jordan 2010, theorem 3);
    damping by λ_Z makes the code steps smaller without moving their fixed points.

    Raises:
        ConfigError: A or the start is not finite or of another shape, or an argument is outside its range.
    """
    check_matrix(A)
    regularisation = regularisation or Regularisation()
    remedy = "clip it at zero, because multiplicative updates keep signs"
    A, pair, units = starting_pair(A, rank, bias, regularisation, start, generator, negative=remedy)
    return iterate(
        A,
        pair,
        lambda pair: semi_nmf_step(A, pair, bias, regularisation, kernels=kernels),
        lambda pair: affine(pair.Z, pair.W),
        stopping or Stopping(),
        units,
        ridge=regularisation.weight_ridge > 0,
    )


@torch.no_grad()
def semi_nmf_step(
    A: Tensor,
    pair: Pair,
    bias: bool,
    regularisation: Regularisation,
    order: str = "weights_first",
    kernels: Kernels = REFERENCE,
) -> Pair:
    """W by least squares for the present Z and one multiplicative step of Z, in either order."""
    Z, W = pair
    if order == "codes_first":
        Z = multiplicative_code_step(A, Z, W, regularisation.code_ridge, kernels)
    W = least_squares_weights(A, Z, bias, regularisation)
    if order == "weights_first":
        Z = multiplicative_code_step(A, Z, W, regularisation.code_ridge, kernels)
    return Pair(Z, W)


@torch.no_grad()
def least_squares_weights(A: Tensor, Z: Tensor, bias: bool, regularisation: Regularisation) -> Tensor:
    """W = (ẐᵀẐ + λ_W ḡI)⁻¹ẐᵀA, ḡ the mean diagonal of ẐᵀẐ, by the chosen pseudo-inverse."""
    inputs = augmented(Z, bias)
    factors = factor_unchecked(inputs, regularisation.method, regularisation.delta, sharded=True)
    W = factors.solve(A)
    return factors.shrink(W, regularisation.weight_ridge) if regularisation.weight_ridge > 0 else W


@torch.no_grad()
def multiplicative_code_step(
    A: Tensor, Z: Tensor, W: Tensor, damping: float = 0.0, kernels: Kernels = REFERENCE
) -> Tensor:
    """Z ← Z ∘ √(([AWᵀ]₊ + Z[WWᵀ]₋ + λZ) / ([AWᵀ]₋ + Z[WWᵀ]₊ + λZ)), with A less the bias; 0/0 = 0.

    λ = `damping` · ḡ, ḡ the mean diagonal of WWᵀ.
    """
    W, b = split_bias(W, Z.shape[1])
    C = A @ W.T if b is None else (A - b) @ W.T
    G = W @ W.T
    positive = Z @ G.clamp_min(0)
    # Z[G]₋ = Z[G]₊ − ZG with G = WWᵀ, and ZG = (ZW)Wᵀ is cheap for few targets; rounding may leave it < 0.
    negative = (positive - (Z @ W) @ W.T).clamp_min_(0)
    return kernels.semi_multiplicative(Z, C, positive, negative, damping * G.diagonal().mean(), G.diagonal())


def starting_pair(
    A: Tensor,
    rank: int,
    bias: bool,
    regularisation: Regularisation,
    start: tuple[Tensor, Tensor | None] | None,
    generator: torch.Generator | None,
    *,
    negative: str | None = None,
) -> tuple[Tensor, Pair, Units]:
    """A, starting codes and weights, all checked and in the unit of A, and that unit; see `semi_nmf`.

    `negative` is the remedy for negative codes, where they are not allowed.
    """
    rank = require_whole(rank, "rank", 1)
    Z, W = (None, None) if start is None else two(start)
    if Z is None:
        shape, generator = (len(A), rank), source(generator, A.device)
        Z = torch.rand(shape, generator=generator, dtype=A.dtype, device=A.device) + 0.2
    else:
        check_matrix(Z, "Z", like=A, shape=(len(A), rank), negative=negative)
    units = Units(unit(A))
    A = A / units.A
    if W is None:
        return A, Pair(Z, least_squares_weights(A, Z, bias, regularisation)), units
    check_matrix(W, "W", like=A, shape=(rank + bias, A.shape[1]))
    return A, units.inner(Pair(Z, W)), units


def augmented(Z: Tensor, bias: bool) -> Tensor:
    """Ẑ: [Z 1], n × (k + 1), with a bias, Z itself without."""
    return torch.cat([Z, Z.new_ones(len(Z), 1)], dim=1) if bias else Z


def split_bias(W: Tensor, rank: int) -> tuple[Tensor, Tensor | None]:
    """W as (weights rank × m, bias row m), the bias None where W has just `rank` rows."""
    return (W[:rank], W[rank]) if len(W) > rank else (W, None)


def affine(Z: Tensor, W: Tensor) -> Tensor:
    """ZW, or ZW + b where W has a bias row: n × m."""
    W, b = split_bias(W, Z.shape[1])
    return Z @ W if b is None else torch.addmm(b, Z, W)
