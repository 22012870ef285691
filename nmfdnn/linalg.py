"""Regularised pseudo-inverses: factor a matrix once, apply it to many right-hand sides.

Legend: A (n × k) a matrix whose rows are samples, R (n × m) right-hand sides, C (k × m) products AᵀR,
s₁ ≥ s₂ ≥ … the singular values of A, Q (k × r) its right singular vectors.

Three methods share one interface and one parameter, the relative cut-off δ:

=========  ========================================  ===============================================
method     A⁺ =                                      cost, and what limits it
=========  ========================================  ===============================================
svd        Q S⁻¹ Pᵀ, keeping s > δ s₁                the paper's; dearest, works at full precision
eigh       Q S⁻² Qᵀ Aᵀ, keeping s > δ s₁             Gram matrix and its factors in float64
cholesky   (AᵀA + δ² s₁² I)⁻¹ Aᵀ                     cheapest; damps smoothly where the others cut off
=========  ========================================  ===============================================

So in all three a direction with s ≫ δ s₁ is inverted and one with s ≪ δ s₁ is left alone: truncation
and damping differ only around the cut-off. δ has a floor set by rounding, `delta_floor`; a smaller δ is
raised to it, because below it singular values are noise (an inactive ReLU unit is a zero column).
An all-zero matrix has the zero pseudo-inverse in every method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .errors import ConfigError, NotFiniteError, SingularMatrixError, require

METHODS = ("svd", "eigh", "cholesky")


class Factors(Protocol):
    """A factored matrix A (n × k); what every method of this module returns."""

    def solve(self, R: Tensor) -> Tensor:
        """A⁺R (k × m) for R (n × m)."""

    def solve_gram(self, C: Tensor) -> Tensor:
        """(AᵀA)⁺C (k × m) for C (k × m): with C = AᵀR it equals `solve(R)`."""

    def on_rows(self, A: Tensor) -> Factors:
        """The same (AᵀA)⁺ with other samples A (b × k): its `solve` gives (AᵀA)⁺ A_bᵀR for R (b × m)."""

    def whitened(self) -> tuple[Tensor, Tensor]:
        """P (n × r) and B (k × r) with A⁺ = BPᵀ and AB = P: for W = BC a step A⁺R is a step PᵀR of C."""

    def shrink(self, W: Tensor, ridge: float) -> Tensor:
        """(G + λḡI)⁻¹G W (k × m) with G = AᵀA: turns a least-squares solution into a ridge solution.

        λ = `ridge` has no unit: ḡ = ‖A‖²/k is the mean diagonal of G, for the matrix that was factored and
        without what δ cuts off, whichever rows are in use. An all-zero A gives zero.
        """


def delta_floor(A: Tensor, method: str = "svd") -> float:
    """Smallest relative singular value of A (n × k) that a method tells from rounding.

    For svd it is ε min(n, k). Squaring costs half of the digits: below √(k ε), with the ε of float64 in which
    eigh works, a Gram matrix holds only rounding; and Cholesky needs a damping of several ε s₁² to exist.
    """
    eps = torch.finfo(A.dtype).eps
    floor = min(A.shape) * eps
    if method == "eigh":
        return max(floor, math.sqrt(A.shape[1] * torch.finfo(torch.float64).eps))
    return max(floor, math.sqrt(16 * eps)) if method == "cholesky" else floor


@dataclass(frozen=True)
class _Spectral:
    """Right singular vectors Q (k × r) and singular values s (r) that were kept."""

    Q: Tensor
    s: Tensor

    def solve_gram(self, C: Tensor) -> Tensor:
        return self.Q @ ((self.Q.T @ C) / self.s.square()[:, None])

    def on_rows(self, A: Tensor) -> EighFactors:
        return EighFactors(self.Q, self.s, A)

    def shrink(self, W: Tensor, ridge: float) -> Tensor:
        square = (self.s / self.s[:1]).square()
        kept = square / (ridge * square.sum() / len(self.Q) + square)
        return self.Q @ (kept[:, None] * (self.Q.T @ W))


@dataclass(frozen=True)
class SVDFactors(_Spectral):
    """A ≈ P S Qᵀ, truncated."""

    P: Tensor

    def solve(self, R: Tensor) -> Tensor:
        return self.Q @ ((self.P.T @ R) / self.s[:, None])

    def whitened(self) -> tuple[Tensor, Tensor]:
        return self.P, self.Q / self.s


@dataclass(frozen=True)
class EighFactors(_Spectral):
    """AᵀA ≈ Q S² Qᵀ, truncated."""

    A: Tensor

    def solve(self, R: Tensor) -> Tensor:
        return self.solve_gram(self.A.T @ R)

    def whitened(self) -> tuple[Tensor, Tensor]:
        basis = self.Q / self.s
        return self.A @ basis, basis


@dataclass(frozen=True)
class CholeskyFactors:
    """AᵀA = G, the lower Cholesky factor L of G + damping, and the least damping that rounding allows."""

    A: Tensor
    G: Tensor
    L: Tensor
    least: float

    def solve(self, R: Tensor) -> Tensor:
        return self.solve_gram(self.A.T @ R)

    def solve_gram(self, C: Tensor) -> Tensor:
        return torch.cholesky_solve(C, self.L)

    def whitened(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.L), dtype=self.L.dtype, device=self.L.device)
        basis = torch.linalg.solve_triangular(self.L.T, identity, upper=True)
        return self.A @ basis, basis

    def on_rows(self, A: Tensor) -> CholeskyFactors:
        return replace(self, A=A)

    def shrink(self, W: Tensor, ridge: float) -> Tensor:
        level = float(self.G.diagonal().mean())
        return torch.cholesky_solve(self.G @ W, cholesky(self.G, max(ridge * level, self.least)))


def factor(A: Tensor, method: str = "svd", delta: float = 1e-14) -> Factors:
    """Factor A (n × k), n and k in any relation, for least squares against many right-hand sides.

    Args:
        A: finite matrix, float32 or float64.
        method: one of `METHODS`.
        delta: relative cut-off δ in [0, 1), in units of the largest singular value.

    Raises:
        NotFiniteError: A, or its Gram matrix, holds NaN or infinity.
        SingularMatrixError: no factorization was found.
        ConfigError: `method` or `delta` is outside its range.

    Not guaranteed: that `cholesky` equals the others when A has singular values around δ s₁.
    """
    require(method in METHODS, "method", f"one of {', '.join(METHODS)}", method)
    require(0 <= delta < 1, "delta", "in [0, 1)", delta)
    if A.ndim != 2:
        raise ConfigError(f"A must be a matrix (two dimensions), got shape {tuple(A.shape)}")
    delta = max(delta, delta_floor(A, method))
    if method == "cholesky":
        G = gram(A)
        top = float(largest_eigenvalue(G))
        if not math.isfinite(top):
            raise _not_finite(A)
        return CholeskyFactors(A, G, cholesky(G, delta**2 * top), delta_floor(A, method) ** 2 * top)
    try:
        if method == "svd":
            P, s, Qh = torch.linalg.svd(A, full_matrices=False)
            keep = _rank(s, delta)
            return SVDFactors(Qh[:keep].T, s[:keep], P[:, :keep])
        eigenvalues, Q = torch.linalg.eigh(gram(A.double()))
    except torch.linalg.LinAlgError as error:
        raise _not_finite(A) from error
    s = eigenvalues.flip(0).clamp_min(0).sqrt()
    keep = _rank(s, delta)
    return EighFactors(Q.flip(1)[:, :keep].to(A.dtype), s[:keep].to(A.dtype), A)


def gram(A: Tensor) -> Tensor:
    """AᵀA (k × k) for A (n × k)."""
    return A.T @ A


def cholesky(G: Tensor, damping: float) -> Tensor:
    """Lower Cholesky factor of G + damping·I for a positive semi-definite G (k × k).

    Raises:
        SingularMatrixError: G + damping·I is not numerically positive definite, or G is not finite.
    """
    damped = G.clone()
    damped.diagonal().add_(max(damping, torch.finfo(G.dtype).tiny))
    L, info = torch.linalg.cholesky_ex(damped)
    if info.item() != 0:
        raise (
            _not_finite(G)
            if not torch.isfinite(G).all()
            else SingularMatrixError(
                f"the {len(G)} × {len(G)} Gram matrix is not positive definite with damping {damping:.3g}: "
                "raise delta or use the svd or eigh solver"
            )
        )
    return L


def largest_eigenvalue(G: Tensor, iterations: int = 30) -> Tensor:
    """Largest eigenvalue of a positive semi-definite G (k × k) to about 1 %, by power iteration; 0-d.

    The start is the column of G with the largest diagonal entry, which is never orthogonal to the top
    eigenvector unless G is zero or already split; the result is a lower bound in exact arithmetic.
    """
    v = G[:, G.diagonal().argmax()]
    for _ in range(iterations):
        v = G @ (v / v.norm().clamp_min(torch.finfo(G.dtype).tiny))
    return v.norm()


def _rank(s: Tensor, delta: float) -> int:
    if not torch.isfinite(s).all():
        raise _not_finite(s)
    return int((s > delta * s[0]).sum()) if len(s) else 0


def _not_finite(A: Tensor) -> NotFiniteError:
    bad = int((~torch.isfinite(A)).sum())
    return NotFiniteError(
        f"a matrix of shape {tuple(A.shape)} has {bad} NaN or infinite entries: "
        "the iteration diverged (lower omega or raise the ridge), or the input data is not finite"
    )
