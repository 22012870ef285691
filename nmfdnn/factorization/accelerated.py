"""NMF by accelerated HALS, extrapolated: the default of `nmf`.

Legend: A (n × m) nonnegative data, rows are samples; Z (n × k) codes; W (k × m) parts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import parallel
from ..kernels.coordinates import coordinate_descent
from .extrapolation import Momentum, chosen
from .inputs import Pair
from .penalty import NONE, Penalty
from .starts import share


class AcceleratedHALS:
    """Steps Z, then W: exact updates of one part after the other, several sweeps on products formed once.

    Several sweeps: Gillis & Glineur 2012, while they cost less than the products. Each factor then goes on
    along its move, projected on the nonnegative ones, and a step that raises the objective, ½‖A − ZW‖² and
    the penalties (levels λ), is not taken: Ang & Gillis 2019, algorithm 3. The objective needs no product
    with A beyond those of the step. A new object for each run: it remembers the move.
    """

    def __init__(self, A: Tensor, sweeps: int, penalty: tuple[Penalty, Penalty] = (NONE, NONE)) -> None:
        self.A, self.sweeps, self.rows, self.penalty = A, sweeps, share(len(A))[0], penalty
        self.size = parallel.total(A.square().sum(dtype=torch.float64))
        self.momentum = Momentum(A)
        # Each is (Zᵀ, W): the last pair taken, the ends of its step, and where they were carried on to.
        self.taken: tuple[Tensor, ...] = ()
        self.ends: tuple[Tensor, ...] = ()
        self.beyond: tuple[Tensor, ...] = ()

    def __call__(self, pair: Pair) -> Pair:
        """The next pair; Z is a transposed view of its columns, which the sweeps need in one piece."""
        if not self.taken:
            self.taken = self.ends = self.beyond = (pair.Z.T.contiguous(), pair.W)
        Z, W = self.beyond
        momentum = self.momentum
        C, G = self.penalty[0].normal(W @ self.A.T, W @ W.T)
        end_Z = coordinate_descent(Z, C, G, self._sweeps(self.A.shape[1], W))
        Z = momentum.beyond(end_Z, self.ends[0]).clamp_min_(0)
        C, G = parallel.totals(Z @ self.A, Z @ Z.T)
        C, G = self.penalty[1].normal(C, G)
        end_W = coordinate_descent(W, C, G, self._sweeps(self.rows, W))
        W = momentum.beyond(end_W, self.ends[1]).clamp_min_(0)
        value = 0.5 * (self.size - _dot(2 * C - G @ end_W, end_W))
        if self.penalty[0]:  # that of W is in C and G
            value = value + parallel.total(self.penalty[0].value(Z))
        keep = momentum.judge(value)
        # A step not taken forgets its direction too: everything starts again at the last pair taken.
        last = self.taken
        self.taken, self.ends, self.beyond = (
            chosen(keep, new, last) for new in ((Z, end_W), (end_Z, end_W), (Z, W))
        )
        return Pair(self.taken[0].T, self.taken[1])

    def _sweeps(self, length: int, W: Tensor) -> int:
        """A sweep costs rank/`length` of the product that it works on."""
        return max(1, min(self.sweeps, length // len(W)))


def _dot(X: Tensor, Y: Tensor) -> Tensor:
    return (X * Y).sum(dtype=torch.float64)
