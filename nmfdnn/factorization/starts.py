"""Where a factorization starts: random factors, the leading singular triplets, and nonnegative parts of them.

Rows of A and of Z may be shared out over ranks (`nmfdnn.parallel`): every rank draws for all of them and
keeps its own, so a start does not depend on the number of ranks where their generators are in one state.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import parallel
from ..errors import require
from ..linalg import factor_unchecked
from .inputs import Pair

STARTS = ("random", "nndsvd", "nndsvda", "nndsvdar")


def share(rows: int) -> tuple[int, slice]:
    """How many rows all ranks hold together, and which of them are the `rows` that are here."""
    if parallel.ranks() == 1:
        return rows, slice(0, rows)
    counts = torch.zeros(parallel.ranks(), dtype=torch.int64)
    counts[parallel.rank()] = rows
    counts = parallel.total(counts)
    first = int(counts[: parallel.rank()].sum())
    return int(counts.sum()), slice(first, first + rows)


def uniform(A: Tensor, columns: int, generator: torch.Generator) -> Tensor:
    """Codes for the rows of A (n × `columns`), uniform in [0, 1)."""
    n, here = share(len(A))
    return torch.rand((n, columns), generator=generator, dtype=A.dtype, device=A.device)[here]


def sample(A: Tensor, few: int, generator: torch.Generator) -> Tensor | None:
    """`few` random rows of A, those of them that are here; None where A has not twice as many.

    No rank is left without rows, so a few more where one would be.
    """
    n, here = share(len(A))
    if few == 0 or n < 2 * few:
        return None
    rows = torch.randperm(n, generator=generator, device=A.device)[:few]
    mine = rows[(rows >= here.start) & (rows < here.stop)] - here.start
    return A[mine] if len(mine) else A[:1]


def starting_pair(A: Tensor, rank: int, start: str, generator: torch.Generator) -> Pair:
    """Nonnegative starting factors of A, which is of order one; see `nmf`."""
    require(start in STARTS, "start", f"a pair (Z, W) or one of {', '.join(STARTS)}", start)
    # Mean and largest entry in the unit of the factors, for which the root of the largest entry stands.
    n, here = share(len(A))
    mean = parallel.total(A.sum()) / (n * A.shape[1])
    if start == "random":
        return _random_pair(A, mean, rank, rank, generator)
    Z, W = nndsvd(A, rank, generator)
    fill = mean / parallel.largest(A.max()).clamp_min(torch.finfo(A.dtype).tiny).sqrt()

    def filled(F: Tensor, rows: int, here: slice) -> Tensor:
        if start == "nndsvd":
            return F
        if start == "nndsvdar":
            draw = torch.rand((rows, F.shape[1]), generator=generator, dtype=F.dtype, device=F.device)[here]
            return torch.where(F == 0, draw * (fill / 100), F)
        return torch.where(F == 0, fill, F)

    Z, W = filled(Z, n, here), filled(W, len(W), slice(None))
    if Z.shape[1] < rank:
        # Equal parts would stay equal, so what is filled is not what tells parts beyond the SVD apart.
        more = _random_pair(A, mean, rank, rank - Z.shape[1], generator)
        Z, W = torch.cat([Z, more.Z], dim=1), torch.cat([W, more.W])
    return Pair(Z, W)


def _random_pair(A: Tensor, mean: Tensor, rank: int, parts: int, generator: torch.Generator) -> Pair:
    """`parts` random parts of the size that `rank` of them need to have the mean of A."""
    scale = 2 * (mean / rank).sqrt()
    Z = uniform(A, parts, generator) * scale
    return Pair(
        Z, torch.rand((parts, A.shape[1]), generator=generator, dtype=A.dtype, device=A.device) * scale
    )


def nndsvd(A: Tensor, rank: int, generator: torch.Generator) -> Pair:
    """Nonnegative double SVD of A (n × m), of order one: Z (n × r), W (r × m) (Boutsidis & Gallopoulos 2008).

    r is `rank` or the rank of A's SVD, if that is less.
    """
    P, s, Qh = leading_svd(A, rank, generator)
    Q = Qh.T
    # Each singular pair is a difference of nonnegative rank-one terms: keep the larger one. For the first
    # pair one of the two is zero (Perron–Frobenius), so it needs no case of its own.
    Pp, Pn, Qp, Qn = P.clamp_min(0), (-P).clamp_min(0), Q.clamp_min(0), (-Q).clamp_min(0)
    sizes = torch.stack([F.square().sum(0) for F in (Pp, Pn)])
    positive, negative = parallel.total(sizes).sqrt()
    length = torch.maximum(positive * Qp.norm(dim=0), negative * Qn.norm(dim=0))
    take = positive * Qp.norm(dim=0) >= negative * Qn.norm(dim=0)
    scale = (s * length).sqrt()
    # Entries that are rounding of an exact zero become zeros, so that "nndsvd" is as sparse as it should be.
    cut = 1e-6

    def part(F: Tensor, norm: Tensor) -> Tensor:
        F = F / norm.clamp_min(cut)
        return torch.where(F < cut, 0.0, F) * scale

    Z = part(torch.where(take, Pp, Pn), torch.where(take, positive, negative))
    Q = torch.where(take, Qp, Qn)
    return Pair(Z, part(Q, Q.norm(dim=0)).T.contiguous())


def leading_svd(A: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The `rank` largest singular values of A (n × m) and their vectors, or all where there are no more.

    By subspace iteration from a random start, at a cost in proportion to the rank (Halko, Martinsson & Tropp
    2011), on the side of the columns: what crosses rows is a sum. All columns are taken where a quarter of
    them would be. Left vectors of values that are rounding are zero.
    """
    least = min(share(len(A))[0], A.shape[1])
    columns = rank + 10 if 4 * (rank + 10) <= least else least
    if columns == A.shape[1]:
        basis = torch.eye(columns, dtype=A.dtype, device=A.device)
    else:
        basis = torch.randn((A.shape[1], columns), generator=generator, dtype=A.dtype, device=A.device)
        for _ in range(6):
            basis = torch.linalg.qr(parallel.total(A.T @ (A @ basis))).Q
    B = A if columns == A.shape[1] and isinstance(A, Tensor) else A @ basis
    factors = factor_unchecked(B, "eigh", 0.0, sharded=True)
    s, Q = factors.s[:rank], factors.Q[:, :rank]  # type: ignore[attr-defined]
    return B @ (Q / s), s.where(s < math.inf, 0.0), (basis @ Q).T


def semi_nonnegative(A: Tensor, rank: int, bias: bool, generator: torch.Generator) -> Pair:
    """Codes Z ≥ 0 (n × rank) and weights W for which ẐW is a truncated SVD of A (Gillis & Kumar 2015).

    No codes of any sign do better, so it is the best semi-NMF there is,

    - without a bias where the rows of the left vectors lie on one side of a plane, as for A ≥ 0: adding
      enough of their distance from it to the codes makes them nonnegative, and the weights take it back;
    - with a bias, where the SVD is that of A less its mean: adding enough of the ones does.

    Else one code is spent on what is added, row by row, and ẐW is the SVD with one triplet less. Where A has
    a lower rank than is asked for, random codes with zero weights are left over.
    """
    n, _ = share(len(A))
    mean = parallel.total(A.sum(0)) / n if bias else A.new_zeros(A.shape[1])
    P, s, Qh = leading_svd(A - mean if bias else A, rank, generator)
    # What is added depends on signs, so they must not be the decomposition's whim.
    sign = Qh.gather(1, Qh.abs().argmax(1, keepdim=True)).squeeze(1).sign()
    P, W = sign * P * n**0.5, (sign * s)[:, None] * Qh / n**0.5  # codes of order one
    distance, normal = _side(P)
    needed = torch.where(distance > 0, -P / distance, torch.where(P == 0, 0.0, torch.inf))
    shift = parallel.largest(needed.amax(0)).clamp_min(0)
    if bias:
        low = parallel.largest((-P).amax(0))
        Z, W = P + low, torch.cat([W, (mean - low @ W)[None]])
    elif shift.max() * torch.finfo(A.dtype).eps ** 0.5 < 1:
        # The distance, a sum of codes, takes the place of the one that it has most of.
        most = normal.abs().argmax()
        taken = W[most] / normal[most]
        W = W - normal[:, None] * taken
        Z = (P + shift * distance) / (1 + shift)
        Z[:, most] = distance.squeeze(1)
        last = taken - shift @ W
        W = (1 + shift)[:, None] * W
        W[most] = last
    elif rank > 1:
        P, W = P[:, : rank - 1], W[: rank - 1]
        added = (-P).clamp_min(0).amax(1, keepdim=True)
        Z, W = torch.cat([P + added, added], dim=1), torch.cat([W, -W.sum(0, keepdim=True)])
    else:
        Z = P
    found = Z.shape[1]
    Z = torch.cat([Z.clamp_min(0), uniform(A, rank - found, generator)], dim=1)
    return Pair(Z, torch.cat([W[:found], W.new_zeros(rank - found, A.shape[1]), W[found:]]))


def _side(P: Tensor) -> tuple[Tensor, Tensor]:
    """Py (n × 1) and y, a unit vector for which it is positive on all rows but zeros, if one is found.

    The perceptron looks for it. It starts from the leading column, which for A ≥ 0 is one as a rule (Perron &
    Frobenius).
    """
    rows = torch.nn.functional.normalize(P, dim=1, eps=torch.finfo(P.dtype).tiny)
    y = torch.zeros_like(P[0])
    y[0] = torch.where(parallel.total(P[:, 0].sum()) < 0, -1.0, 1.0)
    for _ in range(100):
        wrong = ((rows @ y <= 0.01) & (P != 0).any(1)).to(P)
        move, count = parallel.totals(rows.T @ wrong, wrong.sum())
        if count == 0:
            break
        y = torch.nn.functional.normalize(y + move / count, dim=0)
    return P @ y[:, None], y
