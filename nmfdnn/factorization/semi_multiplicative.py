"""Semi-NMF by multiplicative code steps.

Legend: A (n × m) data of any sign, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row
(k + 1) × m; Ẑ = [Z 1] the codes with a column of ones where there is a bias, else Z.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require
from ..kernels import REFERENCE, Kernels
from .bias import split_bias
from .completion import advanced
from .driver import Step
from .inputs import Pair
from .objective import Objective
from .regularisation import NO_REGULARISATION, Regularisation, least_squares_weights


@dataclass(frozen=True)
class SemiMultiplicative:
    """W by the chosen pseudo-inverse, then codes times nonnegative ratios (Ding, Li & Jordan 2010).

    Attributes:
        regularisation: pseudo-inverse and ridges.
        kernels: element-wise backend.
    """

    regularisation: Regularisation = NO_REGULARISATION
    kernels: Kernels = REFERENCE

    def steps(self, goal: Objective) -> Step:
        """See `Solver`: for ½‖A − ẐW‖² and weights of entries."""
        goal.require("semi_nmf", self)
        require(not any(goal.penalty), "update", "'exact' with a penalty", "multiplicative")

        def advance(A: Tensor, pair: Pair) -> Pair:
            return semi_nmf_step(A, pair, pair.bias, self.regularisation, kernels=self.kernels)

        return advanced(goal, advance)


@torch.no_grad()
def semi_nmf_step(
    A: Tensor,
    pair: Pair,
    bias: bool,
    regularisation: Regularisation,
    order: str = "weights_first",
    kernels: Kernels = REFERENCE,
    roots: Tensor | None = None,
) -> Pair:
    """W by least squares for the present Z and one multiplicative step of Z, in either order.

    `roots` (n × 1) are the square roots of the samples' weights, None where all count alike.
    """
    Z, W = pair
    if order == "codes_first":
        Z = multiplicative_code_step(A, Z, W, regularisation.code_ridge, kernels)
    W = least_squares_weights(A, Z, bias, regularisation, roots)
    if order == "weights_first":
        Z = multiplicative_code_step(A, Z, W, regularisation.code_ridge, kernels)
    return Pair(Z, W)


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
