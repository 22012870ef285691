"""Where data enter: dense or sparse, and which entries count how much: masks, weights, NaN for no value."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import parallel
from ..errors import ConfigError, require
from ..linalg import check_dense
from .inputs import check_matrix
from .objective import BETAS
from .sparse import Sparse, given

MISSING = ("nan",)
REMEDY = "; missing='nan' leaves out those that are NaN"


def entries(
    A: Any,
    weights: Any = None,
    missing: str | None = None,
    beta: int = 2,
    *,
    negative: str | None = None,
    nan: str = REMEDY,
) -> tuple[Any, Tensor | None, float]:
    """A as solvers take it; V (n × m) in [0, 1], None where all entries count alike; what V counts in.

    A is a dense tensor, zero where nothing counts, or a `Sparse` for a sparse matrix of torch or SciPy.

    Args:
        A: data, n × m; nothing is asked of entries that do not count.
        weights: of its entries, n × m, of its rows, n × 1, or of its columns, 1 × m, ≥ 0, or a boolean mask
            of those that count; None: all count.
        missing: "nan": those that are NaN do not count; None: they are refused.
        beta: the divergence that is minimised, one of `BETAS`.
        negative: the remedy for negative entries, where they are not allowed.
        nan: what else can be done about NaN.

    Raises:
        ConfigError: A is not a finite matrix in float32 or float64, or has negative entries where they are
            not allowed, or zeros with β = 0; it is sparse, and weights, missing entries or β = 0 need it
            dense; the weights are not of its shape and device, negative or not finite, or nothing counts.
    """
    require(missing in (None, *MISSING), "missing", f"None or one of {', '.join(MISSING)}", missing)
    require(isinstance(beta, int) and beta in BETAS, "beta", "0, 1 or 2", beta)
    sparse = given(A, negative)
    if isinstance(sparse, Sparse):
        kind, dense = type(A).__name__, "torch.tensor(A.toarray())"
        if isinstance(A, Tensor):
            kind, dense = str(A.layout), "A.to_dense()"
        for what, asked in (("weights", weights), ("missing", missing)):
            if asked is not None:
                raise ConfigError(f"A must be dense for {what}, got {kind}: convert it with {dense}")
        if beta == 0:
            raise ConfigError(
                "A has zeros where nothing is stored, which beta=0 cannot fit: use beta=1, or convert it "
                f"with {dense} and let them not count, with weights=A > 0"
            )
        return sparse, None, 1.0
    V, weight = _counting(A, weights, missing)
    if V is not None:
        A = A.where(V > 0, 0.0)
    check_matrix(A, negative=negative, nan=nan if missing is None else "")
    if beta == 0 and bool(((A == 0) if V is None else (A == 0) & (V > 0)).any()):
        raise ConfigError(
            "A has zeros, which beta=0 cannot fit: let them not count, with weights=A > 0, or use beta=1"
        )
    return A, V, weight


def _spreads(V: Tensor, A: Tensor) -> bool:
    """Whether weights are one for each row of A, or for each column."""
    return all(one in (1, many) for one, many in zip(V.shape, A.shape, strict=True))


def _counting(A: Tensor, weights: Any, missing: str | None) -> tuple[Tensor | None, float]:
    """How much entries count, in [0, 1], None for all alike, and what that counts in."""
    if weights is None and missing is None:
        return None, 1.0
    check_dense(A)
    V = torch.ones_like(A) if weights is None else weights
    if isinstance(V, Tensor) and V.dtype == torch.bool:
        V = V.to(A.dtype)
    if isinstance(V, Tensor) and V.ndim == 2 and _spreads(V, A):
        V = V.expand(A.shape)
    remedy = "clip them at zero, where an entry does not count"
    check_matrix(V, "weights", like=A, shape=(len(A), A.shape[1]), negative=remedy)
    if missing == "nan":
        V = V.where(~torch.isnan(A), 0.0)
    weight = float(parallel.largest(V.max()))
    if weight == 0:
        raise ConfigError("no entry of A counts: give some of them a weight above zero")
    V = V / weight
    return (V if parallel.largest((V != 1).any().to(V)) else None), weight
