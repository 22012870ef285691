"""NMF by accelerated HALS, extrapolated: the default of `nmf`.

Legend: A (n × m) nonnegative data, rows are samples; Z (n × k) codes; W (k × m) parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .. import parallel
from ..errors import require, require_whole
from ..kernels.coordinates import coordinate_descent
from .completion import advanced
from .driver import Step
from .extrapolation import Momentum, chosen
from .hals import hals_step
from .inputs import Pair
from .objective import Objective, added, joined, strips
from .starts import share


@dataclass(frozen=True)
class Accelerated:
    """Exact updates of one part after the other, several sweeps on products formed once, extrapolated.

    Several sweeps: Gillis & Glineur 2012, while they cost less than the products. Each factor then goes on
    along its move, projected on the nonnegative ones, and a step that raises the objective is not taken: Ang
    & Gillis 2019, algorithm 3.

    Attributes:
        sweeps: at most, ≥ 1.
    """

    sweeps: int = 8

    def __post_init__(self) -> None:
        require_whole(self.sweeps, "sweeps", 1)

    def steps(self, goal: Objective) -> Step:
        """See `Solver`: for ½‖A − ZW‖², weights of entries and penalties."""
        goal.require("nmf", self)
        require(goal.beta == 2, "update", "'multiplicative' for beta < 2", "accelerated")
        if goal.V is None:
            return _Steps(goal, self.sweeps)
        sweeps = partial(hals_step, penalty=goal.penalty, sweeps=self.sweeps)
        return advanced(goal, sweeps, (True, True))


class _Steps:
    """Z, then W. The objective needs no product with A beyond those of the step."""

    def __init__(self, goal: Objective, sweeps: int) -> None:
        self.A, self.penalty, self.sweeps = goal.A, goal.penalty, sweeps
        self.rows, self.size, self.momentum = share(len(goal.A))[0], 2 * goal.size(), Momentum(goal.A)
        # Each is (Zᵀ, W): the last pair taken, the ends of its step, and where they were carried on to.
        self.taken: tuple[Tensor, ...] = ()
        self.ends: tuple[Tensor, ...] = ()
        self.beyond: tuple[Tensor, ...] = ()

    def __call__(self, pair: Pair) -> Pair:
        """The next pair; Z is a transposed view of its columns, which the sweeps need in one piece."""
        if not self.taken:
            self.taken = self.ends = self.beyond = (pair.Z.T.contiguous(), pair.W)
        W, momentum = self.beyond[1], self.momentum
        end_Z, Z, products = self._codes(W)
        C, G = parallel.totals(products, Z @ Z.T)
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

    def _codes(self, W: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The end of the step of Zᵀ, where it is carried on to, and ZᵀA: A is read once, strip by strip."""
        G, ends, further, products = W @ W.T, [], [], None
        for here in strips(self.A):
            A = self.A[here] if isinstance(self.A, Tensor) else self.A
            C, H = self.penalty[0].normal(W @ A.T, G)
            end = coordinate_descent(self.beyond[0][:, here], C, H, self._sweeps(A.shape[1], W))
            Z = self.momentum.beyond(end, self.ends[0][:, here]).clamp_min_(0)
            ends.append(end)
            further.append(Z)
            products = added(products, Z @ A)
        assert products is not None  # for the type checker: A has rows
        return joined(ends, 1), joined(further, 1), products

    def _sweeps(self, length: int, W: Tensor) -> int:
        """A sweep costs rank/`length` of the product that it works on."""
        return max(1, min(self.sweeps, length // len(W)))


def _dot(X: Tensor, Y: Tensor) -> Tensor:
    return (X * Y).sum(dtype=torch.float64)
