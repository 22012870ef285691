"""Coordinate descent on CUDA: one program a strip of columns, which stays in registers through all sweeps.

A column that has its own G is a strip.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _descend(X, C, G, k, n, sweeps, apart, TINY: tl.constexpr, K: tl.constexpr, STRIP: tl.constexpr):  # type: ignore[no-untyped-def]
    part = tl.arange(0, K)
    column = tl.program_id(0) * STRIP + tl.arange(0, STRIP)
    place = part[:, None].to(tl.int64) * n + column[None, :]
    inside = (part < k)[:, None] & (column < n)[None, :]
    G += tl.program_id(0).to(tl.int64) * apart
    x = tl.load(X + place, mask=inside, other=0.0)
    for _ in range(sweeps):
        targets = C + column
        for j in range(k):
            row = tl.load(G + j * k + part, mask=part < k, other=0.0)
            target = tl.load(targets, mask=column < n, other=0.0)
            own = part[:, None] == j
            diagonal = tl.load(G + j * k + j)
            known = diagonal >= TINY
            step = tl.where(known, 1 / tl.where(known, diagonal, 1.0), 0.0)
            moved = x + (step * (target - tl.sum(row[:, None] * x, axis=0)))[None, :]
            moved = tl.where(moved <= 0, 0.0, moved)  # NaN stays
            x = tl.where(own, moved, x)
            targets += n
    tl.store(X + place, x, mask=inside)


def descend(X: Tensor, C: Tensor, G: Tensor, sweeps: int) -> None:
    """`coordinates.plain` for contiguous tensors on one device."""
    k, n = X.shape
    K = triton.next_power_of_2(k)
    own = G.ndim == 3
    strip = 1 if own else max(1, min(64, 8192 // K))
    warps = 4 if K * strip <= 4096 else 8
    tiny = torch.finfo(X.dtype).tiny
    with torch.cuda.device_of(X):
        _descend[(triton.cdiv(n, strip),)](
            X, C, G, k, n, sweeps, k * k if own else 0, TINY=tiny, K=K, STRIP=strip, num_warps=warps
        )
