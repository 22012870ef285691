"""Least-squares weights by a pseudo-inverse, and their regularisation.

Legend: A (n × m) data of any sign, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row
(k + 1) × m; Ẑ = [Z 1] the codes with a column of ones where there is a bias, else Z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require
from ..linalg import check_method, factor_unchecked
from .bias import augmented


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


NO_REGULARISATION = Regularisation()


@torch.no_grad()
def least_squares_weights(
    A: Tensor, Z: Tensor, bias: bool, regularisation: Regularisation, roots: Tensor | None = None
) -> Tensor:
    """W = (ẐᵀẐ + λ_W ḡI)⁻¹ẐᵀA, ḡ the mean diagonal of ẐᵀẐ, by the chosen pseudo-inverse.

    With `roots` (n × 1) rows of Ẑ and A count their squares times.
    """
    inputs = counted(augmented(Z, bias), roots)
    factors = factor_unchecked(inputs, regularisation.method, regularisation.delta, sharded=True)
    W = factors.solve(counted(A, roots))
    return factors.shrink(W, regularisation.weight_ridge) if regularisation.weight_ridge > 0 else W


def counted(A: Tensor, roots: Tensor | None) -> Tensor:
    """Rows of A (n × k) times `roots` (n × 1), as least squares with weights needs them; None leaves them."""
    return A if roots is None else roots * A
