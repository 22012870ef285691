"""Which entries of A count, and how much: masks, weights, and NaN for what is missing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import parallel
from ..errors import ConfigError, require
from ..linalg import check_dense
from .inputs import check_matrix

MISSING = ("nan",)
REMEDY = "; missing='nan' leaves out those that are NaN"


def entries(A: Tensor, weights: Any, missing: str | None) -> tuple[Tensor, Tensor | None, float]:
    """A with zeros where nothing counts; V (n × m) in [0, 1], None where all count alike; what V counts in.

    Args:
        A: data, n × m; nothing is checked where no weight is zero.
        weights: of its entries, n × m, ≥ 0, or a boolean mask of those that count; None: all count.
        missing: "nan": those that are NaN do not count; None: they are refused elsewhere.

    Raises:
        ConfigError: A or the weights are not dense matrices of one shape and device, weights are negative or
            not finite, or nothing counts.
    """
    if weights is None and missing is None:
        return A, None, 1.0
    require(missing in (None, *MISSING), "missing", f"None or one of {', '.join(MISSING)}", missing)
    check_dense(A)
    V = torch.ones_like(A) if weights is None else weights
    if isinstance(V, Tensor) and V.dtype == torch.bool:
        V = V.to(A.dtype)
    remedy = "clip them at zero, where an entry does not count"
    check_matrix(V, "weights", like=A, shape=(len(A), A.shape[1]), negative=remedy)
    if missing == "nan":
        V = V.where(~torch.isnan(A), 0.0)
    weight = float(parallel.largest(V.max()))
    if weight == 0:
        raise ConfigError("no entry of A counts: give some of them a weight above zero")
    V = V / weight
    if not parallel.largest((V != 1).any().to(V)):
        return A, None, weight
    return A.where(V > 0, 0.0), V, weight


def check_positive(A: Tensor, V: Tensor | None, beta: int) -> None:
    """Raise a `ConfigError` where β = 0 and A has a zero that counts: its divergence is infinite."""
    if beta == 0 and bool(((A == 0) if V is None else (A == 0) & (V > 0)).any()):
        raise ConfigError(
            "A has zeros, which beta=0 cannot fit: let them not count, with weights=A > 0, or use beta=1"
        )
