"""Coordinate descent for many small problems that share one matrix: the inner loop of every factorization.

min over X ≥ 0 of ½⟨X, GX⟩ − ⟨C, X⟩ for X, C (k × n) and G (k × k) positive semi-definite: n problems in k
unknowns, columns in parallel, coordinates in turn. With G = WWᵀ and C = WAᵀ it fits codes, X = Zᵀ; with
G = ZᵀZ and C = ZᵀA it fits weights, X = W (Cichocki & Phan 2009; several sweeps on the same products:
Gillis & Glineur 2012). Where entries of A have weights, each column of X has a matrix of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import native


@torch.no_grad()
def coordinate_descent(X: Tensor, C: Tensor, G: Tensor, sweeps: int = 1, *, fused: bool = True) -> Tensor:
    """X (k × n) after `sweeps` sweeps of exact updates xⱼ ← max(0, xⱼ + (cⱼ − Gⱼx)/Gⱼⱼ) of its rows in turn.

    G is k × k, or n × k × k where each column has its own. X, C and G are of one type and device, and are
    left alone. A row whose Gⱼⱼ is zero stays as it is. No sweep raises the objective by more than rounding.
    NaN stays NaN.

    `fused`: one kernel, in C on the CPU (plain tensors, with one warning, without a compiler), in Triton on
    CUDA; else plain tensors, which give the same numbers but for rounding.
    """
    X = X.clone(memory_format=torch.contiguous_format)
    function = _kernel(X) if fused else plain
    function(X, C.contiguous(), G.contiguous(), sweeps)
    return X


def _kernel(X: Tensor) -> Callable[[Tensor, Tensor, Tensor, int], None]:
    if X.device.type == "cuda":
        from .coordinates_triton import descend

        return descend
    return (native.descend(X.dtype) if X.device.type == "cpu" else None) or plain


def plain(X: Tensor, C: Tensor, G: Tensor, sweeps: int) -> None:
    """The sweeps in plain tensors, in place."""
    diagonal = G.diagonal(dim1=-2, dim2=-1)
    # A part that is zero says nothing about its row. However small a part is beside the others: rounding of C
    # is relative to it, so its row is known to rounding of A.
    step = torch.where(diagonal >= torch.finfo(G.dtype).tiny, 1 / diagonal, 0.0)
    for _ in range(sweeps):
        for row, target, products, scale in zip(X, C, G.unbind(-2), step.unbind(-1), strict=True):
            fit = products @ X if G.ndim == 2 else torch.linalg.vecdot(products, X.T)
            row.add_(scale * (target - fit)).clamp_(min=0)
