"""NMF by hierarchical alternating least squares: one part after the other.

Legend: A (n × m) nonnegative data, rows are samples; Z (n × k) codes; W (k × m) parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .. import parallel
from ..errors import require
from ..kernels import REFERENCE, Kernels
from ..kernels.coordinates import coordinate_descent
from .driver import Step
from .inputs import Pair
from .objective import Objective
from .penalty import NONE, Penalty


@dataclass(frozen=True)
class HALS:
    """One sweep of exact updates of Z, one of W (Cichocki & Phan 2009); it has no memory."""

    def steps(self, goal: Objective) -> Step:
        """See `Solver`: for ½‖A − ZW‖² and penalties."""
        goal.require("nmf", self)
        require(goal.beta == 2, "update", "'multiplicative' for beta < 2", "hals")
        require(goal.V is None, "update", "another one with weights of entries", "hals")
        return partial(hals_step, goal.A, penalty=goal.penalty)


@torch.no_grad()
def hals_step(
    A: Tensor,
    pair: Pair,
    kernels: Kernels = REFERENCE,
    penalty: tuple[Penalty, Penalty] = (NONE, NONE),
    sweeps: int = 1,
) -> Pair:
    """Sweeps of exact updates of each column of Z, then of each row of W (Cichocki & Phan 2009).

    `kernels` is not used. The penalties are levels λ.
    """
    Z, W = pair
    Z = coordinate_descent(Z.T, *penalty[0].normal(W @ A.T, W @ W.T), sweeps).T
    C, G = parallel.totals(Z.T @ A, Z.T @ Z)
    return Pair(Z, coordinate_descent(W, *penalty[1].normal(C, G), sweeps))
