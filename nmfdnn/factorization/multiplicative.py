"""NMF by multiplicative updates.

Legend: A (n × m) nonnegative data, rows are samples; Z (n × k) codes; W (k × m) parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .. import parallel
from ..kernels import REFERENCE, Kernels
from .divergence import divergence_step
from .driver import Step
from .inputs import Pair
from .objective import Objective


@dataclass(frozen=True)
class Multiplicative:
    """Z, then W, each times a nonnegative ratio (Lee & Seung 2001; Févotte & Idier 2011); it has no memory.

    Attributes:
        kernels: element-wise backend for ½‖A − ZW‖² alone.
    """

    kernels: Kernels = REFERENCE

    def steps(self, goal: Objective) -> Step:
        """See `Solver`: for every objective of nonnegative factors."""
        goal.require("nmf", self)
        if goal.beta == 2 and goal.V is None and not any(goal.penalty):
            return partial(multiplicative_step, goal.A, kernels=self.kernels)
        return partial(divergence_step, goal)


@torch.no_grad()
def multiplicative_step(A: Tensor, pair: Pair, kernels: Kernels = REFERENCE) -> Pair:
    """Z ← Z ∘ (AWᵀ)/(ZWWᵀ), then W ← W ∘ (ZᵀA)/(ZᵀZW) (Lee & Seung 2001, eq. 4); 0/0 = 0."""
    Z, W = pair
    G = W @ W.T
    Z = kernels.multiplicative(Z, A @ W.T, Z @ G, G.diagonal())
    G, C = parallel.totals(Z.T @ Z, Z.T @ A)
    W = kernels.multiplicative(W, C, G @ W, G.diagonal()[:, None])
    return Pair(Z, W)
