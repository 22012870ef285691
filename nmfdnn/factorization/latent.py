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
from .driver import half_square
from .extrapolation import Momentum, chosen
from .inputs import Pair
from .semi_nmf import exact_code_step, improved_weights, products, split_bias


@dataclass(frozen=True)
class Latent:
    """How one iteration goes: a semi-NMF step towards T = A where A > 0, min(0, ẐW) elsewhere (Saul 2022).

    ½‖T − ẐW‖² bounds ½‖A − f(ẐW)‖² from above. It is the same, so that a step towards T cannot raise the
    objective, if T is ẐW wherever that is below zero: that T, which wakes nothing up, serves after a step
    that was not taken.

    Attributes:
        nonnegative: Z ≥ 0, a code at a time; False leaves codes free, by least squares.
        sweeps: over the codes, ≥ 1.
    """

    nonnegative: bool = True
    sweeps: int = 4

    def __post_init__(self) -> None:
        require_whole(self.sweeps, "sweeps", 1)


class LatentStep:
    """W, then Z, then further along their move (Seraghiti et al. 2023), where that lowers ½‖A − f(ẐW)‖².

    It never rises by more than rounding. A new object for each run: it remembers the move.
    """

    def __init__(self, A: Tensor, bias: bool, how: Latent) -> None:
        self.A, self.bias, self.how = A, bias, how
        self.momentum = Momentum(A, 0.7)
        self.taken: tuple[Tensor, ...] = ()
        self.beyond: tuple[Tensor, ...] = ()
        # Matrices of the size of A that serve every step: new ones would cost more than their products.
        self.V, self.T, self.goal = torch.empty_like(A), torch.empty_like(A), A.relu()
        self.zero = A <= 0
        self.below = torch.empty_like(self.zero)

    def __call__(self, pair: Pair) -> Pair:
        """The next pair taken, which is the last one again where the move had gone too far."""
        if not self.taken:
            self.taken = self.beyond = tuple(pair)
        Z, W = self.beyond
        V = self._fit(Z, W)
        below = torch.le(V, 0, out=self.below).logical_and_(self.zero | (self.momentum.beta == 0))
        T = torch.where(below, V, self.goal, out=self.T)
        W = improved_weights(T, Pair(Z, W), self.bias)
        Z = exact_code_step(T, Z, W, sweeps=self.how.sweeps) if self.how.nonnegative else free_codes(T, Z, W)
        keep = self.momentum.judge(half_square(self._fit(Z, W).relu_().sub_(self.A)))
        beyond_Z, beyond_W = (self.momentum.beyond(*move) for move in zip((Z, W), self.taken, strict=True))
        if self.how.nonnegative:
            beyond_Z.clamp_min_(0)
        self.beyond = chosen(keep, (beyond_Z, beyond_W), self.taken)
        self.taken = chosen(keep, (Z, W), self.taken)
        return Pair(*self.taken)

    def _fit(self, Z: Tensor, W: Tensor) -> Tensor:
        W, b = split_bias(W, Z.shape[1])
        return torch.mm(Z, W, out=self.V) if b is None else torch.addmm(b, Z, W, out=self.V)


def free_codes(T: Tensor, Z: Tensor, W: Tensor) -> Tensor:
    """Z + (T − ẐW)Wᵀ(WWᵀ + εI)⁻¹, which never raises ½‖T − ẐW‖²; ε is what rounding needs."""
    W, b = split_bias(W, Z.shape[1])
    C, G = products(T, W, b)
    floor = delta_floor((len(W), len(W)), W.dtype, "cholesky")
    return Z + torch.cholesky_solve(C - G @ Z.T, cholesky(G, floor**2 * eigenvalue_bound(G))).T
