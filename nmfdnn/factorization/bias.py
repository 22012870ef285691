"""A bias is a row of W that a column of ones multiplies: plain tensor expressions."""

from __future__ import annotations

import torch
from torch import Tensor


def augmented(Z: Tensor, bias: bool) -> Tensor:
    """Ẑ: [Z 1], n × (k + 1), with a bias, Z itself without."""
    return torch.cat([Z, Z.new_ones(len(Z), 1)], dim=1) if bias else Z


def split_bias(W: Tensor, rank: int) -> tuple[Tensor, Tensor | None]:
    """W as (weights rank × m, bias row m), the bias None where W has just `rank` rows."""
    return (W[:rank], W[rank]) if len(W) > rank else (W, None)


def affine(Z: Tensor, W: Tensor) -> Tensor:
    """ZW, or ZW + b where W has a bias row: n × m."""
    W, b = split_bias(W, Z.shape[1])
    return Z @ W if b is None else torch.addmm(b, Z, W)
