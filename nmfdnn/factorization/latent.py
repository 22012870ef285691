"""Nonlinear semi-NMF by latent targets: the default of `nonlinear_semi_nmf`.

Legend: A (n × m) data, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m;
T (n × m) latent target.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require_whole
from ..linalg import cholesky, delta_floor, eigenvalue_bound
from .bias import split_bias
from .driver import half_square
from .extrapolation import Extrapolated
from .inputs import Pair
from .semi_nmf import exact_code_step, improved_weights, products


@dataclass(frozen=True)
class Latent:
    """How one iteration goes: a semi-NMF step towards T = A where A > 0, min(0, ẐW) elsewhere (Saul 2022).

    ½‖T − ẐW‖² bounds ½‖A − f(ẐW)‖² from above. It is the same, so that a step towards T cannot raise the
    objective, if T is ẐW wherever that is below zero: that T, which wakes nothing up, serves after a step
    that was not taken. Entries of A below zero are targets of zero, and there the bound does not hold.

    Attributes:
        nonnegative: Z ≥ 0, a code at a time; False leaves codes free, by least squares.
        sweeps: over the codes, ≥ 1.
    """

    nonnegative: bool = True
    sweeps: int = 4

    def __post_init__(self) -> None:
        require_whole(self.sweeps, "sweeps", 1)


def latent_step(A: Tensor, bias: bool, how: Latent) -> Extrapolated:
    """The steps of one run."""
    return Extrapolated(A, LatentDescent(A, bias, how), (how.nonnegative, False), 0.7)


class LatentDescent:
    """W, then Z, to be carried on along their move (Seraghiti et al. 2023) where ½‖A − f(ẐW)‖² falls."""

    def __init__(self, A: Tensor, bias: bool, how: Latent) -> None:
        self.A, self.bias, self.how = A, bias, how
        # Matrices of the size of A that serve every step: new ones would cost more than their products.
        self.V, self.T = torch.empty_like(A), torch.empty_like(A)
        self.least, self.most = latent_bounds(A)

    def end(self, pair: Pair, plain: Tensor | bool) -> Pair:
        """A step towards the latent targets."""
        V = self._fit(*pair)
        T = torch.clamp(V, self.least, self.most, out=self.T)
        if plain is not False:
            T = torch.where((V <= 0) & plain, V, T, out=T)
        W = improved_weights(T, pair, self.bias)
        if self.how.nonnegative:
            return Pair(exact_code_step(T, pair.Z, W, sweeps=self.how.sweeps), W)
        return Pair(free_codes(T, pair.Z, W), W)

    def value(self, pair: Pair) -> Tensor:
        """½‖A − f(ẐW)‖²."""
        return half_square(self._fit(*pair).relu_().sub_(self.A))

    def _fit(self, Z: Tensor, W: Tensor) -> Tensor:
        W, b = split_bias(W, Z.shape[1])
        return torch.mm(Z, W, out=self.V) if b is None else torch.addmm(b, Z, W, out=self.V)


def latent_bounds(A: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the most that a latent target can be: A where A > 0, −∞ and 0 elsewhere."""
    # Targets are ẐW between these: on the CPU a choice by a mask costs more than a product.
    return A.masked_fill(A <= 0, -torch.inf), A.relu()


def free_codes(T: Tensor, Z: Tensor, W: Tensor) -> Tensor:
    """Z + (T − ẐW)Wᵀ(WWᵀ + εI)⁻¹, which never raises ½‖T − ẐW‖²; ε is what rounding needs."""
    W, b = split_bias(W, Z.shape[1])
    C, G = products(T, W, b)
    floor = delta_floor((len(W), len(W)), W.dtype, "cholesky")
    return Z + torch.cholesky_solve(C - G @ Z.T, cholesky(G, floor**2 * eigenvalue_bound(G))).T
