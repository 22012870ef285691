"""Codes of new rows for weights that are given: min ½‖A − ẐW‖² over Z ≥ 0.

Legend: A (n × m) new rows; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import require
from ..kernels.coordinates import coordinate_descent
from .driver import Result, Stopping, iterate
from .inputs import Pair, Units, check_matrix, unit
from .semi_nmf import affine, products, split_bias
from .sparse import given

SWEEPS = 10
"""In one iteration; the products are formed once for all."""


@torch.no_grad()
def transform(A: Tensor, W: Tensor, *, bias: bool = False, stopping: Stopping | None = None) -> Result:
    """Codes Z ≥ 0 (n × k) with A ≈ ẐW for the weights of an `nmf` or a `semi_nmf` of other rows.

    Args:
        A: new rows, n × m, dense or sparse, in the unit of those that W was fitted to.
        W: weights k × m, or (k + 1) × m with a bias, as in `Result.W`.
        bias: whether the last row of W is a bias.
        stopping: when to end; default: when ten sweeps over the codes no longer change the objective by
            1e-6 of ½‖A‖², or after 500.

    Returns:
        A `Result` with these codes and W. A row's codes do not depend on the others, and where the rows of W
        are independent they are the only ones; the objective never rises by more than rounding.

    Raises:
        ConfigError: shapes that do not fit or values that are not finite.
    """
    A = given(A)
    check_matrix(W, "W", like=A)
    rank = len(W) - bias
    require(rank >= 1, "W", "of at least one row besides the bias", tuple(W.shape))
    require(W.shape[1] == A.shape[1], "W", f"of as many columns as A, {A.shape[1]}", tuple(W.shape))
    units = Units(unit(A), unit(A) / unit(W[:rank]))
    start = units.inner(Pair(A.new_zeros(len(A), rank), W))
    A = A / units.A
    C, G = products(A, *split_bias(start.W, rank))
    return iterate(
        A,
        start,
        lambda pair: Pair(coordinate_descent(pair.Z.T, C, G, SWEEPS).T, pair.W),
        lambda pair: affine(pair.Z, pair.W),
        stopping or Stopping(50, 1e-6, 1),
        units,
    )
