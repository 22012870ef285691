"""Codes of new rows for the weights of a nonlinear semi-NMF: min ½‖A − f(ẐW)‖² over Z ≥ 0, f = ReLU.

Legend: A (n × m) new rows; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m; T (n × m) latent
target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import require
from .bias import affine
from .driver import Result, Stopping, iterate
from .exact import exact_code_step
from .inputs import Pair, Units, check_matrix, in_units, unit
from .latent import latent_bounds
from .objective import Objective


@torch.no_grad()
def nonlinear_transform(
    A: Tensor, W: Tensor, *, bias: bool = False, stopping: Stopping | None = None
) -> Result:
    """Codes Z ≥ 0 (n × k) with A ≈ f(ẐW) for the weights of a `nonlinear_semi_nmf` of other rows.

    From zero codes, each iteration is a nonnegative least-squares step of Z towards T = A where A > 0,
    min(0, ẐW) elsewhere (Saul 2022). So it solves the convex problem min ½‖A − ẐW‖² over Z ≥ 0 in which any
    ẐW ≤ 0 meets a zero of A; its objective bounds the one above. Steps go on along their move, row by row
    (FISTA's momentum, restarted where the bound rises; O'Donoghue & Candès 2015); of each row the best codes
    are kept.

    Args:
        A: new rows, n × m, in the unit of those that W was fitted to. Entries below zero cannot be met.
        W: weights k × m, or (k + 1) × m with a bias, as in `Result.W`.
        bias: whether the last row of W is a bias.
        stopping: when to end; default: when 20 iterations lower the objective by at most 1e-8 of ½‖A‖², or
            after 1,000.

    Returns:
        A `Result` with these codes and W. A row's codes depend on the others by the moment of stopping alone.
        Not guaranteed: a global minimum.

    Raises:
        ConfigError: shapes that do not fit or values that are not finite.
    """
    check_matrix(A)
    check_matrix(W, "W", like=A)
    rank = len(W) - bias
    require(rank >= 1, "W", "of at least one row besides the bias", tuple(W.shape))
    require(W.shape[1] == A.shape[1], "W", f"of as many columns as A, {A.shape[1]}", tuple(W.shape))
    u = unit(A)
    units = Units(u, u / unit(W[:rank]))
    start = units.inner(Pair(A.new_zeros(len(A), rank), W))
    A = in_units(A, units.A)
    goal = Objective(A, nonlinear=True)
    return iterate(goal, start, _Codes(A, start), stopping or Stopping(1000, 1e-8, 20), units)


class _Codes:
    """An iteration for all rows; what it returns are the best codes of each row so far."""

    def __init__(self, A: Tensor, start: Pair) -> None:
        self.A, self.bounds = A, latent_bounds(A)
        self.Z = self.beyond = self.best = start.Z
        V = affine(*start)
        self.least, self.bound = _squares(V.relu() - A), _squares(self._latent(V) - V)
        self.steps = torch.zeros_like(self.bound)  # since the last restart

    def __call__(self, pair: Pair) -> Pair:
        Z = exact_code_step(self._latent(affine(self.beyond, pair.W)), self.beyond, pair.W)
        V = affine(Z, pair.W)
        bound, value = _squares(self._latent(V) - V), _squares(V.relu() - self.A)
        self.steps = torch.where(bound > self.bound, 0, self.steps + 1)
        self.beyond = torch.lerp(self.Z, Z, 1 + self.steps / (self.steps + 3)).clamp_min_(0)
        self.best = torch.where(value < self.least, Z, self.best)
        self.Z, self.bound, self.least = Z, bound, torch.minimum(value, self.least)
        return Pair(self.best, pair.W)

    def _latent(self, V: Tensor) -> Tensor:
        return V.clamp(*self.bounds)


def _squares(R: Tensor) -> Tensor:
    """Of each row, n × 1."""
    return R.square().sum(dim=1, keepdim=True)
