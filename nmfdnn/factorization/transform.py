"""Codes of new rows for weights that are given: min Σ V d_β(A | ẐW) over Z ≥ 0.

Legend: A (n × m) new rows; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m; V (n × m) how
much each entry counts.
"""

from __future__ import annotations

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
) -> Result:
    """Codes Z ≥ 0 (n × k) with A ≈ ẐW for the weights of an `nmf` or a `semi_nmf` of other rows.

    Args:
        A: new rows, n × m, in the unit of those that W was fitted to; dense, or sparse as in `nmf`.
        W: weights k × m, or (k + 1) × m with a bias, as in `Result.W`.
        bias: whether the last row of W is a bias.
        stopping: when to end; default: when ten sweeps over the codes no longer change the objective by
            1e-6 of ½‖A‖², or after 500; for β < 2 multiplicative updates take the place of sweeps.
        weights: how much each entry of A counts, as in `nmf`.
        missing: "nan": entries that are NaN do not count.
        beta: the divergence, as in `nmf`; 0 and 1 need A ≥ 0, W ≥ 0 and no bias.

    Returns:
        A `Result` with these codes and W. A row's codes depend on the others by the moment of stopping alone,
        and where the rows of W are independent they are the only ones in the end; the objective never rises
        by more than rounding. A row in which nothing counts has zero codes.

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
    u = unit(A)
    units = Units(u, u / unit(W[:rank]))
    start = units.inner(Pair(A.new_zeros(len(A), rank), W))
    goal = objective(in_units(A, units.A), V, weight, beta)
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
    V = goal.V
    if V is None:
        C, G = products(goal.A, W, b)
        return lambda pair: Pair(coordinate_descent(pair.Z.T, C, G, SWEEPS).T, pair.W)
    C = W @ (goal.known if b is None else goal.known - V * b).T
    blocks = [slice(i, i + size) for size in [max(1, BLOCK // len(W) ** 2)] for i in range(0, len(V), size)]
    kept = [_own_products(W, V[here]) for here in blocks[:KEPT]]

    def step(pair: Pair) -> Pair:
        products = chain(kept, (_own_products(W, V[here]) for here in blocks[KEPT:]))
        codes = [
            coordinate_descent(pair.Z[here].T, C[:, here], G, SWEEPS).T
            for here, G in zip(blocks, products, strict=True)
        ]
        return Pair(joined(codes), pair.W)

    return step


def _own_products(W: Tensor, V: Tensor) -> Tensor:
    """Wdiag(v)Wᵀ (r × k × k) for each row v of V (r × m): products with those of the columns of W."""
    k = len(W)
    G, size = V.new_zeros(len(V), k * k), max(1, BLOCK // k**2)
    for v, w in zip(V.split(size, 1), W.split(size, 1), strict=True):
        G.addmm_(v, (w[:, None] * w).view(k * k, -1).T)
    return G.view(-1, k, k)
