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

A may have any unit: it is factored in its own `unit`, so that no square leaves the range of its type. What
the methods are applied to is taken as it is: products AᵀR must be representable. No autograd graph is built.
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


def unit(A: Tensor) -> float:
    """The power of four u for which the largest |entry| of A/u is in [½, 2); 1 for zeros, NaN if not finite.

    A division by it, or by its root, is exact. For extreme A, u is kept in the range of the type of A.
    """
    top = float(torch.maximum(*(bound.abs() for bound in A.aminmax())))
    if not math.isfinite(top):
        return math.nan
    limit = math.frexp(torch.finfo(A.dtype).max)[1] // 2 - 4
    return 4.0 ** max(-limit, min(math.frexp(top)[1] // 2, limit))


@dataclass(frozen=True)
class _Spectral:
    """Right singular vectors Q (k × r) and singular values s (r) that were kept."""

    Q: Tensor
    s: Tensor

    @torch.no_grad()
    def solve_gram(self, C: Tensor) -> Tensor:
        return self.Q @ ((self.Q.T @ C) / self.s[:, None] / self.s[:, None])

    def on_rows(self, A: Tensor) -> EighFactors:
        return EighFactors(self.Q, self.s, A)

    @torch.no_grad()
    def shrink(self, W: Tensor, ridge: float) -> Tensor:
        square = (self.s / self.s[:1]).square()
        kept = square / (ridge * square.sum() / len(self.Q) + square)
        return self.Q @ (kept[:, None] * (self.Q.T @ W))


@dataclass(frozen=True)
class SVDFactors(_Spectral):
    """A ≈ P S Qᵀ, truncated."""

    P: Tensor

    @torch.no_grad()
    def solve(self, R: Tensor) -> Tensor:
        return self.Q @ ((self.P.T @ R) / self.s[:, None])

    @torch.no_grad()
    def whitened(self) -> tuple[Tensor, Tensor]:
        return self.P, self.Q / self.s


@dataclass(frozen=True)
class EighFactors(_Spectral):
    """AᵀA ≈ Q S² Qᵀ, truncated."""

    A: Tensor

    @torch.no_grad()
    def solve(self, R: Tensor) -> Tensor:
        return self.solve_gram(self.A.T @ R)

    @torch.no_grad()
    def whitened(self) -> tuple[Tensor, Tensor]:
        basis = self.Q / self.s
        return self.A @ basis, basis


@dataclass(frozen=True)
class CholeskyFactors:
    """A and, all in the `unit` u of A: AᵀA = G, Cholesky factor L of G + damping, and least damping.

    Least is what rounding allows.
    """

    A: Tensor
    unit: float
    G: Tensor
    L: Tensor
    least: float

    @torch.no_grad()
    def solve(self, R: Tensor) -> Tensor:
        return self.solve_gram(self.A.T @ R)

    @torch.no_grad()
    def solve_gram(self, C: Tensor) -> Tensor:
        return torch.cholesky_solve(C / self.unit, self.L) / self.unit

    @torch.no_grad()
    def whitened(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.L), dtype=self.L.dtype, device=self.L.device)
        basis = torch.linalg.solve_triangular(self.L.T, identity, upper=True) / self.unit
        return self.A @ basis, basis

    def on_rows(self, A: Tensor) -> CholeskyFactors:
        return replace(self, A=A)

    @torch.no_grad()
    def shrink(self, W: Tensor, ridge: float) -> Tensor:
        level = float(self.G.diagonal().mean())
        return torch.cholesky_solve(self.G @ W, cholesky(self.G, max(ridge * level, self.least)))


@torch.no_grad()
def factor(A: Tensor, method: str = "svd", delta: float = 1e-14) -> Factors:
    """Factor A (n × k), n and k in any relation, for least squares against many right-hand sides.

    Args:
        A: finite matrix, float32 or float64.
        method: one of `METHODS`.
        delta: relative cut-off δ in [0, 1), in units of the largest singular value.

    An SVD that does not converge is replaced by the eigendecomposition of the Gram matrix in float64.

    Raises:
        NotFiniteError: A holds NaN or infinity.
        SingularMatrixError: no factorization was found.
        ConfigError: A is no dense floating-point matrix, or `method` or `delta` is outside its range.

    Not guaranteed: that `cholesky` equals the others when A has singular values around δ s₁.
    """
    require(method in METHODS, "method", f"one of {', '.join(METHODS)}", method)
    require(0 <= delta < 1, "delta", "in [0, 1)", delta)
    check_dense(A)
    delta = max(delta, delta_floor(A, method))
    u = unit(A)
    if math.isnan(u):
        raise _not_finite(A)
    if method == "cholesky":
        G = gram(A / u)
        top = float(largest_eigenvalue(G))
        return CholeskyFactors(A, u, G, cholesky(G, delta**2 * top), delta_floor(A, method) ** 2 * top)
    if method == "svd":
        P, s, Qh = svd(A / u)
        keep = int((s > delta * s[0]).sum())
        return SVDFactors(Qh[:keep].T, u * s[:keep], P[:, :keep])
    s, Q = _eigh(A / u, delta)
    return EighFactors(Q, u * s, A)


def check_dense(A: Tensor, name: str = "A") -> None:
    """Raise a `ConfigError` that says how to convert A, unless it is a non-empty dense matrix of floats."""
    if not isinstance(A, Tensor):
        array = f"{name}.toarray()" if hasattr(A, "toarray") else name
        raise ConfigError(
            f"{name} must be a torch tensor, got {type(A).__name__}: "
            f"convert it with torch.tensor(numpy.asarray({array}), dtype=torch.float32)"
        )
    if A.layout != torch.strided:
        raise ConfigError(f"{name} must be dense, got {A.layout}: convert it with {name}.to_dense()")
    if A.ndim != 2 or A.numel() == 0:
        raise ConfigError(
            f"{name} must be a non-empty matrix (two dimensions, rows are samples), "
            f"got shape {tuple(A.shape)}"
        )
    if A.dtype not in (torch.float32, torch.float64):
        raise ConfigError(f"{name} must be float32 or float64, got {A.dtype}: convert it with {name}.float()")


@torch.no_grad()
def svd(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P (n × r), s (r, descending), Qᵀ (r × k) with A = P diag(s) Qᵀ for a finite A (n × k) of order one.

    r = min(n, k). Where LAPACK does not converge, which happens to finite matrices too, the result comes from
    the smaller Gram matrix in float64, and r is the numerical rank at which that tells values from rounding.

    Raises:
        SingularMatrixError: no decomposition converged.
    """
    try:
        P, s, Qh = torch.linalg.svd(A, full_matrices=False)
        if bool(torch.isfinite(s).all()):
            return P, s, Qh
    except torch.linalg.LinAlgError:
        pass
    if len(A) < A.shape[1]:
        s, P = _eigh(A.T, delta_floor(A.T, "eigh"))
        return P, s, (P.T @ A) / s[:, None]
    s, Q = _eigh(A, delta_floor(A, "eigh"))
    return A @ Q / s, s, Q.T


def _eigh(A: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """Singular values s > δ s₁ (r, descending) and right singular vectors (k × r) from AᵀA in float64."""
    try:
        eigenvalues, Q = torch.linalg.eigh(gram(A.double()))
    except torch.linalg.LinAlgError as error:
        raise SingularMatrixError(
            f"no decomposition of a finite matrix of shape {tuple(A.shape)} converged: "
            "use the cholesky solver, for the start of nmf start='random'"
        ) from error
    s = eigenvalues.flip(0).clamp_min(0).sqrt()
    keep = int((s > delta * s[0]).sum())
    return s[:keep].to(A.dtype), Q.flip(1)[:, :keep].to(A.dtype)


@torch.no_grad()
def gram(A: Tensor) -> Tensor:
    """AᵀA (k × k) for A (n × k)."""
    return A.T @ A


@torch.no_grad()
def cholesky(G: Tensor, damping: float) -> Tensor:
    """Lower Cholesky factor of G + damping·I for a positive semi-definite G (k × k).

    A damping below the smallest normal number is raised to it, for the sake of an all-zero G.

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


@torch.no_grad()
def largest_eigenvalue(G: Tensor, iterations: int = 30) -> Tensor:
    """Largest eigenvalue of a positive semi-definite G (k × k) to about 1 %, by power iteration; 0-d.

    The start is the column of G with the largest diagonal entry, which is never orthogonal to the top
    eigenvector unless G is zero or already split; the result is a lower bound in exact arithmetic.
    """
    v = G[:, G.diagonal().argmax()]
    for _ in range(iterations):
        v = G @ (v / v.norm().clamp_min(torch.finfo(G.dtype).tiny))
    return v.norm()


def _not_finite(A: Tensor) -> NotFiniteError:
    bad = int((~torch.isfinite(A)).sum())
    return NotFiniteError(
        f"a matrix of shape {tuple(A.shape)} has {bad} NaN or infinite entries: "
        "the iteration diverged (lower omega or raise the ridge), or the input data is not finite"
    )
