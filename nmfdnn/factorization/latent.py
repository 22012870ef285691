"""Nonlinear semi-NMF by latent targets: the default of `nonlinear_semi_nmf`.

Legend: A (n × m) data, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m;
T (n × m) latent target.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import require_whole
from ..linalg import cholesky, delta_floor, eigenvalue_bound, gram
from .bias import affine, augmented, split_bias
from .driver import Step
from .exact import exact_code_step, products, solved_weights
from .extrapolation import Extrapolated
from .inputs import Pair
from .objective import Objective, added, joined, strips


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

    def steps(self, goal: Objective) -> Step:
        """See `Solver`: for ½‖A − f(ẐW)‖²."""
        goal.require("nonlinear_semi_nmf", self)
        return Extrapolated(goal.A, LatentDescent(goal, self), (self.nonnegative, False), 0.8)


class LatentDescent:
    """W, then Z, to be carried on along their move (Seraghiti et al. 2023) where ½‖A − f(ẐW)‖² falls."""

    def __init__(self, goal: Objective, how: Latent) -> None:
        self.goal, self.how, self.T = goal, how, torch.empty_like(goal.A)
        self.least, self.most = latent_bounds(goal.A)

    def end(self, pair: Pair, plain: Tensor | bool) -> Pair:
        """A step towards the latent targets, which are made and used a strip of rows at a time."""
        inputs = augmented(pair.Z, pair.bias)
        products, codes = None, []
        for here in strips(self.T):
            V = affine(pair.Z[here], pair.W)
            T = torch.clamp(V, self.least[here], self.most[here], out=self.T[here])
            if plain is not False:
                T = torch.where((V <= 0) & plain, V, T, out=T)
            products = added(products, inputs[here].T @ T)
        assert products is not None  # for the type checker: A has rows
        W = solved_weights(products, gram(inputs), pair)
        for here in strips(self.T):
            T, Z = self.T[here], pair.Z[here]
            codes.append(
                exact_code_step(T, Z, W, sweeps=self.how.sweeps)
                if self.how.nonnegative
                else free_codes(T, Z, W)
            )
        return Pair(joined(codes), W)

    def value(self, pair: Pair) -> Tensor:
        """The objective."""
        return self.goal.value(pair)


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
