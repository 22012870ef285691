"""Regularised pseudo-inverses: factor a matrix once, apply it to many right-hand sides.

Legend: A (n × k) a matrix whose rows are samples, R (n × m) right-hand sides, C (k × m) products AᵀR,
s₁ ≥ s₂ ≥ … the singular values of A, Q (k × r) its right singular vectors.

Three methods share one interface and one parameter, the relative cut-off δ:

=========  ========================================  ===============================================
method     A⁺ =                                      cost, and what limits it
=========  ========================================  ===============================================
svd        Q S⁻¹ Pᵀ, keeping s > δ s₁                the paper's; dearest, works at full precision
eigh       Q S⁻² Qᵀ Aᵀ, keeping s > δ s₁             Gram matrix and its factors in float64
cholesky   (AᵀA + δ² s̄² I)⁻¹ Aᵀ                      cheapest; damps smoothly where the others cut off
=========  ========================================  ===============================================

s̄² = ‖(AᵀA)⁴‖^¼ (Frobenius) bounds s₁² from above, by a factor of k^⅛ at most, without iterating.

So in all three a direction with s ≫ δ s₁ is inverted and one with s ≪ δ s₁ is left alone: truncation
and damping differ only around the cut-off. δ has a floor set by rounding, `delta_floor`; a smaller δ is
raised to it, because below it singular values are noise (an inactive ReLU unit is a zero column).
An all-zero matrix has the zero pseudo-inverse in every method.

The rows of A may be shared out over ranks (`sharded`, see `parallel`): then sums over them are sums over all
ranks, and the factors are those of the whole matrix, alike on every rank, for the rows that each holds.

A may have any unit: it is factored in its own `unit`, so that no square leaves the range of its type. What
the methods are applied to is taken as it is: products AᵀR must be representable. No autograd graph is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from . import parallel
from .errors import ConfigError, NotFiniteError, SingularMatrixError, require

METHODS = ("svd", "eigh", "cholesky")


class Factors(Protocol):
    """A factored matrix A (n × k); what every method of this module returns."""

    def solve(self, R: Tensor) -> Tensor:
        """A⁺R (k × m) for R (n × m), whose rows are shared out as those of A are."""

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

    def checked(self) -> Factors:
        """The same without what δ cuts off.

        Raises:
            SingularMatrixError: the factorization has failed.
        """


def delta_floor(shape: tuple[int, ...], dtype: torch.dtype, method: str = "svd") -> float:
    """Smallest relative singular value of a matrix of this `shape`, n × k, that a method tells from rounding.

    For svd it is ε min(n, k). Squaring costs half of the digits: below √(k ε), with the ε of float64 in which
    eigh works, a Gram matrix holds only rounding; and Cholesky needs a damping of several ε s₁² to exist.
    """
    eps = torch.finfo(dtype).eps
    floor = min(shape) * eps
    if method == "eigh":
        return max(floor, math.sqrt(shape[1] * torch.finfo(torch.float64).eps))
    return max(floor, math.sqrt(16 * eps)) if method == "cholesky" else floor


def unit(A: Tensor) -> float:
    """The power of four u for which the largest |entry| of A/u is in [½, 2); 1 for zeros, NaN if not finite.

    A division by it, or by its root, is exact. For extreme A, u is kept in the range of the type of A.
    """
    return float(_unit(A))


def _unit(A: Tensor, sharded: bool = False) -> Tensor:
    top = torch.maximum(*(bound.abs() for bound in A.aminmax())) if len(A) else A.new_zeros(())
    if sharded:
        top = parallel.largest(top)
    limit = math.frexp(torch.finfo(A.dtype).max)[1] // 2 - 4
    power = torch.div(top.frexp().exponent, 2, rounding_mode="floor").clamp(-limit, limit)
    return torch.where(torch.isfinite(top), torch.ldexp(torch.ones_like(top), 2 * power), torch.nan)


def _total(T: Tensor, sharded: bool) -> Tensor:
    return parallel.total(T) if sharded else T


@dataclass(frozen=True)
class _Spectral:
    """Right singular vectors Q (k × r) and singular values s (r), ∞ where they are cut off: 1/s is then 0."""

    Q: Tensor
    s: Tensor
    sharded: bool

    @torch.no_grad()
    def solve_gram(self, C: Tensor) -> Tensor:
        return self.Q @ ((self.Q.T @ C) / self.s[:, None] / self.s[:, None])

    def on_rows(self, A: Tensor) -> EighFactors:
        return EighFactors(self.Q, self.s, self.sharded, A)

    @torch.no_grad()
    def shrink(self, W: Tensor, ridge: float) -> Tensor:
        square = (self.s.where(self.s < math.inf, 0.0) / self.s[:1]).square()
        level = ridge * square.sum() / len(self.Q)
        kept = square / (level + square).clamp_min(torch.finfo(W.dtype).tiny)
        return self.Q @ (kept[:, None] * (self.Q.T @ W))

    def _kept(self) -> Tensor:
        if torch.isnan(self.s).any():
            raise SingularMatrixError(
                "the decomposition of a finite matrix gave NaN: use the cholesky solver"
            )
        return self.s < math.inf


@dataclass(frozen=True)
class SVDFactors(_Spectral):
    """A ≈ P S Qᵀ, truncated; P (n × r) has the rows of A that are here."""

    P: Tensor

    @torch.no_grad()
    def solve(self, R: Tensor) -> Tensor:
        return self.Q @ (_total(self.P.T @ R, self.sharded) / self.s[:, None])

    @torch.no_grad()
    def whitened(self) -> tuple[Tensor, Tensor]:
        return self.P * (self.s < math.inf), self.Q / self.s

    def checked(self) -> SVDFactors:
        kept = self._kept()
        return replace(self, Q=self.Q[:, kept], s=self.s[kept], P=self.P[:, kept])


@dataclass(frozen=True)
class EighFactors(_Spectral):
    """AᵀA ≈ Q S² Qᵀ, truncated."""

    A: Tensor

    @torch.no_grad()
    def solve(self, R: Tensor) -> Tensor:
        return self.solve_gram(_total(self.A.T @ R, self.sharded))

    @torch.no_grad()
    def whitened(self) -> tuple[Tensor, Tensor]:
        basis = self.Q / self.s
        return self.A @ basis, basis

    def checked(self) -> EighFactors:
        kept = self._kept()
        return replace(self, Q=self.Q[:, kept], s=self.s[kept])


@dataclass(frozen=True)
class CholeskyFactors:
    """A and, all in the `unit` u of A: AᵀA = G, Cholesky factor L of G + damping, and least damping.

    Least is what rounding allows.
    """

    A: Tensor
    unit: Tensor
    G: Tensor
    L: Tensor
    least: Tensor
    sharded: bool

    @torch.no_grad()
    def solve(self, R: Tensor) -> Tensor:
        return self.solve_gram(_total(self.A.T @ R, self.sharded))

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
        damping = torch.maximum(ridge * self.G.diagonal().mean(), self.least)
        return torch.cholesky_solve(self.G @ W, cholesky(self.G, damping))

    def checked(self) -> CholeskyFactors:
        if not torch.isfinite(self.L).all():
            raise SingularMatrixError(
                f"the {len(self.G)} × {len(self.G)} Gram matrix is not positive definite as it is damped: "
                "raise delta or use the svd or eigh solver"
            )
        return self


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
    check_method(method, delta)
    check_dense(A)
    if not torch.isfinite(A).all():
        raise _not_finite(A)
    return factor_unchecked(A, method, delta).checked()


@torch.no_grad()
def factor_unchecked(A: Tensor, method: str, delta: float, *, sharded: bool = False) -> Factors:
    """`factor` for inner loops: nothing is checked, and nothing waits for the device with "cholesky".

    What is not finite, or cannot be factored, gives NaN. `sharded`: the rows of A are shared out over ranks.

    Raises:
        NotFiniteError: NaN or infinity, with "svd" or "eigh".
        SingularMatrixError: neither an SVD nor an eigendecomposition converged.
    """
    # How many rows other ranks have does not matter: samples are mostly more than k.
    least = delta_floor((A.shape[1] if sharded else len(A), A.shape[1]), A.dtype, method)
    delta = max(delta, least)
    u = _unit(A, sharded)
    if method == "cholesky":
        G = _total(gram(A / u), sharded)
        top = eigenvalue_bound(G)
        return CholeskyFactors(A, u, G, cholesky(G, delta**2 * top), least**2 * top, sharded)
    if method == "svd":
        P, s, Qh = _sharded_svd(A / u) if sharded and parallel.ranks() > 1 else svd(A / u)
        return SVDFactors(Qh.T, _cut(s, delta) * u, sharded, P)
    s, Q = _eigh(A / u, sharded)
    return EighFactors(Q, _cut(s, delta) * u, sharded, A)


@torch.no_grad()
def factor_parts(parts: Iterable[Tensor], method: str, delta: float) -> Factors:
    """`factor` of all parts (nᵢ × k) on each other, on all ranks; to be used `on_rows` of any samples.

    More parts than one, or those of many ranks, are reduced to a triangle with the same Gram matrix, at full
    precision (Demmel, Grigori, Hoemmen & Langou 2012).

    Raises:
        NotFiniteError, SingularMatrixError: as `factor` does.
    """
    whole: Tensor | None = None
    for part in parts:
        whole = part if whole is None else _triangle(torch.cat([_triangle(whole), part]))
    assert whole is not None  # for the type checker: there are samples
    if parallel.ranks() > 1:
        whole = _triangles(whole)
    factors = factor(whole, method, delta)
    assert isinstance(factors, SVDFactors | EighFactors | CholeskyFactors)  # for the type checker
    return replace(factors, sharded=True)


def _triangle(A: Tensor) -> Tensor:
    """R (min(n, k) × k) with RᵀR = AᵀA for A (n × k)."""
    return torch.linalg.qr(A, mode="r").R


def _triangles(A: Tensor) -> Tensor:
    """The triangles of all ranks (ranks · k × k), on every rank, for the rows A (n × k) that each has."""
    k = A.shape[1]
    found = A.new_zeros(parallel.ranks(), k, k)
    triangle = _triangle(A)
    found[parallel.rank(), : len(triangle)] = triangle
    return parallel.total(found).view(-1, k)


def _cut(s: Tensor, delta: float) -> Tensor:
    """Singular values s (r, descending), with ∞ where s ≤ δ s₁."""
    return torch.where(s <= delta * s[:1], math.inf, s)


def check_method(method: str, delta: float) -> None:
    """Raise a `ConfigError` unless there is such a method and delta is in [0, 1)."""
    require(method in METHODS, "method", f"one of {', '.join(METHODS)}", method)
    require(0 <= delta < 1, "delta", "in [0, 1)", delta)


def check_dense(A: Tensor, name: str = "A") -> None:
    """Raise a `ConfigError` that says how to convert A, unless it is a non-empty dense matrix of floats."""
    if not isinstance(A, Tensor):
        array = f"{name}.toarray()" if hasattr(A, "toarray") else name
        mask = ""
        if np.ma.is_masked(A):  # which `asarray` would forget
            array, mask = f"{name}.filled(0)", f", and what is masked with torch.tensor(~{name}.mask)"
        raise ConfigError(
            f"{name} must be a torch tensor, got {type(A).__name__}: "
            f"convert it with torch.tensor(numpy.asarray({array}), dtype=torch.float32){mask}"
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
    the smaller Gram matrix in float64, with zeros for the values that this does not tell from rounding.

    Raises:
        SingularMatrixError: no decomposition converged.
    """
    try:
        P, s, Qh = torch.linalg.svd(A, full_matrices=False)
        if bool(torch.isfinite(s).all()):
            return P, s, Qh
    except torch.linalg.LinAlgError:
        pass
    wide = len(A) < A.shape[1]
    s, Q = _eigh(A.T if wide else A)
    divisor = _cut(s, delta_floor((max(A.shape), min(A.shape)), A.dtype, "eigh"))
    s = s.where(divisor < math.inf, 0.0)
    return (Q, s, (A.T @ Q / divisor).T) if wide else (A @ Q / divisor, s, Q.T)


def _sharded_svd(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`svd` of a matrix whose rows are shared out, P being those that are here; see `factor_parts`."""
    _, s, Qh = svd(_triangles(A))
    return A @ (Qh.T / _cut(s, torch.finfo(s.dtype).eps)), s, Qh


def _eigh(A: Tensor, sharded: bool = False) -> tuple[Tensor, Tensor]:
    """Singular values s (k, descending) and right singular vectors (k × k) from AᵀA in float64."""
    try:
        eigenvalues, Q = torch.linalg.eigh(_total(gram(A.double()), sharded))
    except torch.linalg.LinAlgError as error:
        if not torch.isfinite(A).all():
            raise _not_finite(A) from error
        raise SingularMatrixError(
            f"no decomposition of a finite matrix of shape {tuple(A.shape)} converged: "
            "use the cholesky solver, for the start of nmf start='random'"
        ) from error
    return eigenvalues.flip(0).clamp_min(0).sqrt().to(A.dtype), Q.flip(1).to(A.dtype)


@torch.no_grad()
def gram(A: Tensor) -> Tensor:
    """AᵀA (k × k) for A (n × k)."""
    return A.T @ A


@torch.no_grad()
def cholesky(G: Tensor, damping: Tensor) -> Tensor:
    """Lower Cholesky factor of G + damping·I for G (k × k); NaN if that is not positive definite.

    A 0-d damping below the smallest normal number is raised to it, for the sake of an all-zero G.
    """
    damped = G.clone()
    damped.diagonal().add_(damping.clamp_min(torch.finfo(G.dtype).tiny))
    L, info = torch.linalg.cholesky_ex(damped)
    return L.mul_(torch.where(info == 0, 1.0, torch.nan))


@torch.no_grad()
def eigenvalue_bound(G: Tensor) -> Tensor:
    """‖G⁴‖^¼ (Frobenius) of a positive semi-definite G (k × k): λ₁, its largest eigenvalue, to k^⅛ λ₁; 0-d.

    Two products instead of an iteration.
    """
    size = G.norm().clamp_min(torch.finfo(G.dtype).tiny)
    square = gram(G / size)
    return size * gram(square).norm().sqrt().sqrt()


def _not_finite(A: Tensor) -> NotFiniteError:
    bad = int((~torch.isfinite(A)).sum())
    return NotFiniteError(
        f"a matrix of shape {tuple(A.shape)} has {bad} NaN or infinite entries: "
        "the iteration diverged (lower omega or raise the ridge), or the input data is not finite"
    )
