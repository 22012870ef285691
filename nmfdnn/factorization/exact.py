"""Semi-NMF by exact block updates: the default of `semi_nmf`.

Legend: A (n × m) data of any sign, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row
(k + 1) × m; Ẑ = [Z 1] the codes with a column of ones where there is a bias, else Z.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import parallel
from ..kernels.coordinates import coordinate_descent
from ..linalg import cholesky, delta_floor, eigenvalue_bound, gram
from .bias import augmented, split_bias
from .completion import advanced
from .driver import Step
from .inputs import Pair
from .objective import Objective
from .penalty import NONE, Penalty
from .regularisation import NO_REGULARISATION, Regularisation


@dataclass(frozen=True)
class Exact:
    """W by Cholesky, then codes a coordinate at a time.

    Attributes:
        regularisation: of which the ridges serve here.
    """

    regularisation: Regularisation = NO_REGULARISATION

    def steps(self, goal: Objective) -> Step:
        """See `Solver`: for ½‖A − ẐW‖², weights of entries and penalties."""
        goal.require("semi_nmf", self)
        how, (codes, weights) = self.regularisation, goal.penalty

        def advance(A: Tensor, pair: Pair) -> Pair:
            W = improved_weights(A, pair, pair.bias, how.weight_ridge, weights)
            return Pair(exact_code_step(A, pair.Z, W, how.code_ridge, penalty=codes), W)

        return advanced(goal, advance)


@torch.no_grad()
def exact_code_step(
    A: Tensor, Z: Tensor, W: Tensor, damping: float = 0.0, sweeps: int = 4, penalty: Penalty = NONE
) -> Tensor:
    """Each code in turn minimises ½‖A − ẐW‖² + ½λ‖Z − Z₀‖² over Z ≥ 0, λ = `damping` · ḡ, `sweeps` times.

    Z₀ are the codes given, ḡ is the mean diagonal of WWᵀ; a penalty on Z (a level) is added.
    """
    C, G = penalty.normal(*products(A, *split_bias(W, Z.shape[1])))
    if damping > 0:
        level = damping * G.diagonal().mean()
        C, G = C + level * Z.T, G + level * torch.eye(len(G), dtype=G.dtype, device=G.device)
    return coordinate_descent(Z.T, C, G, sweeps).T


def products(A: Tensor, W: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor]:
    """W(A − b)ᵀ (k × n) and WWᵀ: all that codes need."""
    C = W @ A.T
    return C if b is None else C - (W @ b)[:, None], W @ W.T


@torch.no_grad()
def improved_weights(
    A: Tensor, pair: Pair, bias: bool, ridge: float = 0.0, penalty: Penalty = NONE
) -> Tensor:
    """W + (ẐᵀẐ + εI)⁻¹Ẑᵀ(A − ẐW), which never raises ½‖A − ẐW‖²; with λ_W = `ridge` > 0 the ridge solution.

    By Cholesky; ε is what rounding needs, and the fixed point is least squares all the same. A penalty on W
    (a level) is added to ½‖A − ẐW‖².
    """
    inputs = augmented(pair.Z, bias)
    return solved_weights(inputs.T @ A, gram(inputs), pair, ridge, penalty)


def solved_weights(C: Tensor, G: Tensor, pair: Pair, ridge: float = 0.0, penalty: Penalty = NONE) -> Tensor:
    """`improved_weights` from C = ẐᵀA and G = ẐᵀẐ of the rows that are here."""
    C, G = parallel.totals(C, G)
    C, G = penalty.normal(C, G, pair.Z.shape[1])
    if ridge > 0:
        return torch.cholesky_solve(C, cholesky(G, ridge * G.diagonal().mean()))
    floor = delta_floor((len(G), len(G)), G.dtype, "cholesky")
    return pair.W + torch.cholesky_solve(C - G @ pair.W, cholesky(G, floor**2 * eigenvalue_bound(G)))
