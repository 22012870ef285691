"""What a factorization minimises: a divergence of ẐW from A over the entries that count, and penalties.

Legend: A (n × m) data, rows are samples; Z (n × k) codes; W (k × m) weights, with a bias row (k + 1) × m;
V (n × m) how much each entry of A counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .. import parallel
from ..errors import require
from .bias import affine, split_bias
from .extrapolation import on_host
from .inputs import Pair
from .penalty import NONE, Penalty
from .sparse import Sparse
from .starts import share

BETAS = (0, 1, 2)
CACHED, PIECE = 2**19, 2**26
"""Entries of A that are worked on at a time, with what is as large: on the CPU they stay in its caches."""


@dataclass(frozen=True)
class Objective:
    """Σ V d_β(A | ẐW), or of A and f(ẐW), and penalties, in the unit of A, whose rows may be shared out.

    d₂(a | b) = ½(a − b)², d₁ = a log(a/b) − a + b with 0 log 0 = 0 (Kullback & Leibler) and d₀ = a/b −
    log(a/b) − 1 (Itakura & Saito): d_β(ca | cb) = c^β d_β(a | b). For β < 2 an entry of ẐW counts as no less
    than `smallest_fit`.

    Attributes:
        A: data, zero where V is.
        V: in [0, 1]; None where all entries count alike.
        weight: what V counts in.
        beta: one of `BETAS`.
        penalty: of Z and of W, as levels λ.
        nonlinear: with f = ReLU.
        signed: W has any sign and perhaps a bias, as it does with `nonlinear`.
    """

    A: Tensor
    V: Tensor | None = None
    weight: float = 1.0
    beta: int = 2
    penalty: tuple[Penalty, Penalty] = (NONE, NONE)
    nonlinear: bool = False
    signed: bool = False

    @property
    def problem(self) -> str:
        """The function whose it is."""
        return "nonlinear_semi_nmf" if self.nonlinear else "semi_nmf" if self.signed else "nmf"

    def require(self, problem: str, solver: object) -> None:
        """Raise a `ConfigError` unless it is that of the problem that a solver is for."""
        key = "alternation" if self.nonlinear else "update"
        name = f"{type(solver).__name__}, which is for {problem}"
        require(self.problem == problem, key, f"a solver for {self.problem}", name)

    @property
    def floor(self) -> float:
        """Least rounding of the objective, in `size`."""
        return 0.0

    def value(self, pair: Pair) -> Tensor:
        """The objective at a pair; 0-d, float64."""
        value = self.error(pair)
        codes, weights = self.penalty
        if codes or weights:
            value = value + parallel.total(codes.value(pair.Z))
            value = value + weights.value(split_bias(pair.W, pair.Z.shape[1])[0])
        return value

    def error(self, pair: Pair) -> Tensor:
        """Its first part at a pair; 0-d, float64. Nothing is made that is as large as A."""
        value = None
        for here in strips(self.A):
            fit = affine(pair.Z[here], pair.W)
            value = added(value, self._divergence(fit.relu_() if self.nonlinear else fit, here))
        assert value is not None  # for the type checker: A has rows
        return parallel.total(value)

    def divergence(self, fit: Tensor) -> Tensor:
        """Σ V d_β(A | fit), for the rows of all ranks; 0-d, float64. What is given is overwritten."""
        return parallel.total(self._divergence(fit, slice(None)))

    def _divergence(self, fit: Tensor, here: slice) -> Tensor:
        A, V = self.A[here], None if self.V is None else self.V[here]
        if self.beta == 2:
            R = fit.sub_(A)
            return 0.5 * _square(R if V is None else R.mul_(V.sqrt()))
        ratio = A / fit.clamp_min(smallest_fit(fit.dtype, self.beta))
        D = torch.xlogy(A, ratio).sub_(A).add_(fit) if self.beta == 1 else ratio.sub(ratio.log()).sub_(1)
        if V is not None:
            D = D.mul_(V).where(V > 0, 0.0)  # zeros of A where V is zero may have made NaN
        return D.sum(dtype=torch.float64)

    def code_slopes(self, Z: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """V A B^(β−2) Wᵀ and V B^(β−1) Wᵀ for B = ZW (n × k); the second is k numbers where rows are alike.

        The error's slopes by Z are the second less the first.
        """
        if self.beta == 2 and self.V is None:
            return self.A @ W.T, Z @ (W @ W.T)
        N, Q = self._ratios(Z @ W)
        return N @ W.T, W.sum(1) if Q is None else Q @ W.T

    def weight_slopes(self, Z: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """ZᵀV A B^(β−2) and ZᵀV B^(β−1) alike, by W (k × m), or k × 1, for the rows of all ranks."""
        if self.beta == 2 and self.V is None:
            C, G = parallel.totals(Z.T @ self.A, Z.T @ Z)
            return C, G @ W
        N, Q = self._ratios(Z @ W)
        C, D = parallel.totals(Z.T @ N, Z.sum(0)[:, None] if Q is None else Z.T @ Q)
        return C, D

    def _ratios(self, B: Tensor) -> tuple[Tensor, Tensor | None]:
        """V A B^(β−2) and V B^(β−1), n × m, None for ones. B is overwritten."""
        VA, V = self.known, self.V
        if V is not None and self.beta == 2:
            return VA, B.mul_(V)
        B.clamp_min_(smallest_fit(B.dtype, self.beta))
        if self.beta == 1:
            return VA / B, V
        inverse = B.reciprocal_()
        return VA * inverse * inverse, inverse if V is None else inverse * V

    def size(self) -> float:
        """½ΣVA² for β = 2, ΣVA for 1, ΣV for 0: what a tolerance counts in."""
        if self.beta == 2:
            return float(half_square(self.A if self.V is None else self.V.sqrt() * self.A))
        counts = self.A if self.beta == 1 else torch.ones_like(self.A)
        counts = counts if self.V is None else counts * self.V
        return float(parallel.total(counts.sum(dtype=torch.float64)))

    def rows(self, rows: Tensor) -> Objective:
        """The same for some rows of A; the penalty of W, which they share, counts in their number."""
        V = None if self.V is None else self.V[rows]
        codes, weights = self.penalty
        weights = weights.level(share(len(rows))[0] / share(len(self.A))[0], 1)
        return replace(self, A=self.A[rows], V=V, penalty=(codes, weights))

    def filled(self, guess: Tensor | None = None) -> Tensor:
        """VA + (1 − V)B (n × m) for a guess B, default the product of the means of rows and of columns."""
        if self.V is None:
            return self.A
        if guess is None:
            rows, columns, mean = means(self.A, self.V)
            guess = (rows[:, None] * (columns / mean.clamp_min(torch.finfo(mean.dtype).tiny))).clamp_max(
                parallel.largest(self.A.max())
            )
        return torch.addcmul(self.known, self._unknown, guess)

    @cached_property
    def known(self) -> Tensor:
        """VA."""
        return self.A if self.V is None else self.V * self.A

    @cached_property
    def _unknown(self) -> Tensor:
        assert self.V is not None  # for the type checker
        return 1 - self.V


@dataclass(frozen=True)
class SparseObjective(Objective):
    """Σ d_β(A | ẐW), β = 1 or 2, and penalties for a `Sparse` A, all of whose entries count alike."""

    A: Any

    @property
    def floor(self) -> float:
        """See `Sparse.half_distance`."""
        return self.A.rounding

    @property
    def _least(self) -> float:
        return smallest_fit(self.A.dtype, self.beta)

    def error(self, pair: Pair) -> Tensor:
        """By products with A, and where it has entries."""
        return self.A.half_distance(*pair) if self.beta == 2 else self.A.divergence(*pair, self._least)

    def code_slopes(self, Z: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """With A/B where A has entries."""
        if self.beta == 2:
            return super().code_slopes(Z, W)
        return self.A.ratio(Z, W, self._least) @ W.T, W.sum(1)

    def weight_slopes(self, Z: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """With (A/B)ᵀ, as its products from the left are fast."""
        if self.beta == 2:
            return super().weight_slopes(Z, W)
        C, D = parallel.totals((self.A.T.ratio(W.T, Z.T, self._least) @ Z).T, Z.sum(0)[:, None])
        return C, D

    def size(self) -> float:
        """½‖A‖² for β = 2, ΣA for 1."""
        if self.beta == 2:
            return float(self.A.half_square())
        return float(parallel.total(self.A.sum(dtype=torch.float64)))


def strips(A: Any) -> Iterator[slice]:
    """Rows of a dense A (n × m), some at a time; all of a `Sparse`."""
    most = (CACHED if on_host(A) else PIECE) if isinstance(A, Tensor) else len(A) * A.shape[1]
    rows = max(1, most // A.shape[1])
    return (slice(first, first + rows) for first in range(0, len(A), rows))


def joined(parts: list[Tensor], dim: int = 0) -> Tensor:
    """What was made of strips, as one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def added(total: Tensor | None, part: Tensor) -> Tensor:
    """The sum of what was made of strips, in place, and of one more."""
    return part if total is None else total.add_(part)


def half_square(R: Tensor) -> Tensor:
    """½‖R‖² (Frobenius) of an R whose rows may be shared out; a 0-d tensor accumulated in float64."""
    return 0.5 * parallel.total(_square(R))


def _square(R: Tensor) -> Tensor:
    return torch.linalg.vector_norm(R, dim=1).double().square().sum()


def smallest_fit(dtype: torch.dtype, beta: int) -> float:
    """The least b for which a/b^(2 − β) is finite, a of order one."""
    return torch.finfo(dtype).tiny ** (1 / (2 - beta))


def means(A: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means, weighted with V: of rows of A (n), of columns (m) — of all where V is zero —, and of all."""
    VA = V * A
    sums = parallel.totals(VA.sum(0), V.sum(0))
    mean = sums[0].sum() / sums[1].sum()
    rows, columns = (
        (total / count.clamp_min(torch.finfo(A.dtype).tiny)).where(count > 0, mean)
        for total, count in ((VA.sum(1), V.sum(1)), sums)
    )
    return rows, columns, mean


def objective(
    A: Any,
    V: Tensor | None = None,
    weight: float = 1.0,
    beta: int = 2,
    penalty: tuple[Penalty, Penalty] = (NONE, NONE),
    *,
    signed: bool = False,
) -> Objective:
    """That of a dense or `Sparse` A, its penalties as levels: factors count in units, see `Penalty`."""
    kind = SparseObjective if isinstance(A, Sparse) else Objective
    plain = kind(A, V, weight, beta, signed=signed)
    if not any(penalty):
        return plain
    n, m = share(len(A))[0], A.shape[1]
    count = n * m if V is None else float(parallel.total(V.sum(dtype=torch.float64)))
    s = (2 * kind(A, V).size() / count) ** 0.5
    shares = (0, 1) if signed else (0.5, 0.5)
    codes, weights = (
        p.level(count / length * s**beta, s**part)
        for p, length, part in zip(penalty, (n, m), shares, strict=True)
    )
    return replace(plain, penalty=(codes, weights))
