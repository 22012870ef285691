"""Codes of new rows for weights that are given: min Σ V d_β(A | ẐW), and a penalty on Z, over Z ≥ 0.

Legend: A (n × m) new rows; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m; V (n × m) how
much each entry counts.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from ..errors import require
from ..kernels.coordinates import coordinate_descent
from .bias import split_bias
from .divergence import code_part
from .driver import Result, Step, Stopping, iterate
from .entries import entries
from .exact import products
from .inputs import Pair, Units, check_matrix, in_units, unit
from .objective import Objective, joined, objective
from .penalty import NONE, Penalty

SWEEPS = 10
"""In one iteration."""

BLOCK, KEPT = 2**22, 16
"""Numbers in the products of a block of rows that have their own, and how many blocks keep theirs."""


@torch.no_grad()
def transform(
    A: Tensor,
    W: Tensor,
    *,
    bias: bool = False,
    stopping: Stopping | None = None,
    weights: Tensor | None = None,
    missing: str | None = None,
    beta: int = 2,
    penalty: Penalty | None = None,
) -> Result:
    """Codes Z ≥ 0 (n × k) with A ≈ ẐW for the weights of an `nmf` or a `semi_nmf` of other rows.

    Args:
        A: new rows, n × m, in the unit of those that W was fitted to; dense, or sparse as in `nmf`.
        W: weights k × m, or (k + 1) × m with a bias, as in `Result.W`.
        bias: whether the last row of W is a bias.
        stopping: when to end; an iteration is ten sweeps over the codes, or for β < 2 one multiplicative
            update. Default: when ten of either no longer change the objective by 1e-6 of ½‖A‖², or after 500.
        weights: how much each entry of A counts, as in `nmf`.
        missing: "nan": entries that are NaN do not count.
        beta: the divergence, as in `nmf`; 0 and 1 need A ≥ 0, W ≥ 0 and no bias.
        penalty: on Z, as in `nmf`: for the rows and weights that W was fitted to, it gives the codes of that
            minimum. It counts relative to the A that is given here, by its root mean square s and c (see
            `Penalty`), so it is another one for other rows, and for a row in other company. What it was in a
            fit to rows of s₀ and c₀ is `penalty.level(c₀ * s₀**beta / (c * s**beta), (s₀ / s) ** 0.5)` here,
            and the codes' penalty of a `semi_nmf`, where they have no unit, is `penalty.level(1, s**-0.5)`.

    Returns:
        A `Result` with these codes and W. A row's codes depend on the others by the moment of stopping, and
        by the size of a penalty, alone; where the rows of W are independent they are the only ones in the
        end. The objective never rises by more than rounding. A row in which nothing counts has zero codes.

    Raises:
        ConfigError: shapes that do not fit or values that are not finite, or an argument outside its range.
    """
    remedy = None if beta == 2 else "use beta=2, which allows them"
    A, V, weight = entries(A, weights, missing, beta, negative=remedy)
    require(beta == 2 or not bias, "bias", "False for beta < 2", bias)
    check_matrix(W, "W", like=A, negative=remedy)
    rank = len(W) - bias
    require(rank >= 1, "W", "of at least one row besides the bias", tuple(W.shape))
    require(W.shape[1] == A.shape[1], "W", f"of as many columns as A, {A.shape[1]}", tuple(W.shape))
    good = penalty is None or isinstance(penalty, Penalty)
    require(good, "penalty", "None or a Penalty, on the codes", penalty)
    u, w = unit(A), unit(W[:rank])
    units = Units(u, u / w)
    start = units.inner(Pair(A.new_zeros(len(A), rank), W))
    goal = objective(in_units(A, u), V, weight, beta, (penalty or NONE, NONE))
    if penalty:
        # Levels are for codes in √u, those here are in u/w.
        goal = replace(goal, penalty=(goal.penalty[0].level(1, w / math.sqrt(u)), NONE))
    W, b = split_bias(start.W, rank)
    if beta != 2:
        VA, VW = (goal.A.sum(1), W.sum()) if V is None else ((V * goal.A).sum(1), V @ W.sum(0))
        start = Pair((VA / VW).nan_to_num(0.0)[:, None].expand(-1, rank).contiguous(), W)
    step = _swept(goal, W, b) if beta == 2 else partial(_multiplied, goal)
    default = Stopping(50, 1e-6, 1) if beta == 2 else Stopping(500, 1e-6, SWEEPS)
    return iterate(goal, start, step, stopping or default, units)


def _multiplied(goal: Objective, pair: Pair) -> Pair:
    return Pair(code_part(goal, *pair), pair.W)


def _swept(goal: Objective, W: Tensor, b: Tensor | None) -> Step:
    """Sweeps over codes. Rows share the products that they need, or where V differs have their own.

    Own products, n · k² numbers, are made in blocks: the first `KEPT` once for all iterations, the others,
    where there are more, in each. So no more than KEPT + 2 times `BLOCK` numbers are held.
    """
    V, penalty = goal.V, goal.penalty[0]
    if V is None:
        C, G = penalty.normal(*products(goal.A, W, b))
        return lambda pair: Pair(coordinate_descent(pair.Z.T, C, G, SWEEPS).T, pair.W)
    C = W @ (goal.known if b is None else goal.known - V * b).T
    size = max(1, BLOCK // len(W) ** 2)
    blocks = [slice(first, first + size) for first in range(0, len(V), size)]

    def own(here: slice) -> tuple[Tensor, Tensor]:
        return penalty.normal(C[:, here], _own_products(W, V[here]))

    kept = [own(here) for here in blocks[:KEPT]]

    def step(pair: Pair) -> Pair:
        parts = zip(blocks, chain(kept, map(own, blocks[KEPT:])), strict=True)
        return Pair(joined([coordinate_descent(pair.Z[here].T, *CG, SWEEPS).T for here, CG in parts]), pair.W)

    return step


def _own_products(W: Tensor, V: Tensor) -> Tensor:
    """Wdiag(v)Wᵀ (r × k × k) for each row v of V (r × m): products with those of the columns of W."""
    k = len(W)
    G, size = V.new_zeros(len(V), k * k), max(1, BLOCK // k**2)
    for v, w in zip(V.split(size, 1), W.split(size, 1), strict=True):
        G.addmm_(v, (w[:, None] * w).view(k * k, -1).T)
    return G.view(-1, k, k)
