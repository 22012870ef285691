"""NMF: min ½‖A − ZW‖² over Z ≥ 0, W ≥ 0.

Legend: A (n × m) nonnegative data, rows are samples; Z (n × k) codes; W (k × m) parts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import require, require_whole
from ..kernels import REFERENCE, Kernels
from ..linalg import svd, unit
from .driver import Result, Stopping, iterate
from .inputs import Pair, Units, check_matrix, source, two

UPDATES = ("multiplicative", "hals")
STARTS = ("random", "nndsvd", "nndsvda", "nndsvdar")


@torch.no_grad()
def nmf(
    A: Tensor,
    rank: int,
    *,
    update: str = "multiplicative",
    start: str | tuple[Tensor, Tensor] = "nndsvda",
    stopping: Stopping | None = None,
    generator: torch.Generator | None = None,
    kernels: Kernels = REFERENCE,
) -> Result:
    """Nonnegative factors Z (n × rank), W (rank × m) with A ≈ ZW.

    Args:
        A: n × m, nonnegative, in any unit: c²A gives the factors of A times c.
        rank: number of parts k ≥ 1.
        update: "multiplicative" (Lee & Seung 2001) or "hals" (Cichocki & Phan 2009).
        start: "random" (uniform, scaled to the mean of A), "nndsvd" (zeros stay zero under multiplicative
            updates), "nndsvda" (zeros filled with the mean), "nndsvdar" (filled with small random values;
            Boutsidis & Gallopoulos 2008), or a given pair (Z, W). Means count in units of the largest entry.
            An NNDSVD has at most min(n, m) parts; parts beyond are drawn as in "random".
        stopping: when to end; default `Stopping()`.
        generator: source of all randomness, on the device of A; default a new one with seed 0.
        kernels: element-wise backend, see `nmfdnn.kernels`.

    Neither update increases ½‖A − ZW‖² by more than rounding. Not guaranteed: a global minimum.

    Raises:
        ConfigError: A is not a finite nonnegative matrix, or an argument is outside its range.
    """
    check_matrix(A, negative="shift or clip it, or use semi_nmf, which allows them")
    rank = require_whole(rank, "rank", 1)
    require(update in UPDATES, "update", f"one of {', '.join(UPDATES)}", update)
    step = multiplicative_step if update == "multiplicative" else hals_step
    u = unit(A)
    A = A / u
    if isinstance(start, str):
        pair, units = starting_pair(A, rank, start, source(generator, A.device)), Units(u, math.sqrt(u))
    else:
        pair = _given_pair(A, rank, start)
        units = Units(u, _balance(pair) * math.sqrt(u))
        pair = units.inner(pair)
    return iterate(
        A,
        pair,
        lambda pair: step(A, pair, kernels),
        lambda pair: pair.Z @ pair.W,
        stopping or Stopping(),
        units,
    )


@torch.no_grad()
def multiplicative_step(A: Tensor, pair: Pair, kernels: Kernels = REFERENCE) -> Pair:
    """Z ← Z ∘ (AWᵀ)/(ZWWᵀ), then W ← W ∘ (ZᵀA)/(ZᵀZW) (Lee & Seung 2001, eq. 4); 0/0 = 0."""
    Z, W = pair
    G = W @ W.T
    Z = kernels.multiplicative(Z, A @ W.T, Z @ G, G.diagonal())
    G = Z.T @ Z
    W = kernels.multiplicative(W, Z.T @ A, G @ W, G.diagonal()[:, None])
    return Pair(Z, W)


@torch.no_grad()
def hals_step(A: Tensor, pair: Pair, kernels: Kernels = REFERENCE) -> Pair:
    """One sweep of exact updates of each column of Z, then of each row of W (Cichocki & Phan 2009).

    `kernels` is not used: a column needs the columns before it.
    """
    Z = _hals_rows(pair.Z.T, pair.W @ A.T, pair.W @ pair.W.T).T
    W = _hals_rows(pair.W, Z.T @ A, Z.T @ Z)
    return Pair(Z, W)


def _hals_rows(W: Tensor, C: Tensor, G: Tensor) -> Tensor:
    """Minimise ½‖A − ZW‖² over each row of W ≥ 0 in turn, from C = ZᵀA and G = ZᵀZ.

    The codes are updated as rows of Zᵀ, because a row is contiguous where a column is not.
    """
    W = W.clone(memory_format=torch.contiguous_format)
    diagonal = G.diagonal()
    # A part that is zero says nothing about its row, which then stays as it is. However small a part is
    # beside the others: rounding of C is relative to it, so its row is known to rounding of A.
    step = torch.where(diagonal >= torch.finfo(G.dtype).tiny, 1 / diagonal, 0.0)
    for row, target, products, scale in zip(W, C, G, step, strict=True):
        row.add_(scale * (target - products @ W)).clamp_(min=0)
    return W


def _given_pair(A: Tensor, rank: int, start: tuple[Tensor, Tensor]) -> Pair:
    Z, W = two(start)
    remedy = "clip Z and W at zero, or use semi_nmf"
    check_matrix(Z, "Z", like=A, shape=(len(A), rank), negative=remedy)
    check_matrix(W, "W", like=A, shape=(rank, A.shape[1]), negative=remedy)
    return Pair(Z, W)


def _balance(pair: Pair) -> Tensor:
    """Powers of two d (k, float64) for which Z/d and dW have parts of one size, whatever size they came in.

    ZW stays as it is, and the updates do not depend on d, except where numbers leave the range of their type.
    """
    Z, W = (part.double().frexp() for part in (pair.Z.amax(0), pair.W.amax(1)))
    codes = torch.where(Z.mantissa > 0, Z.exponent, -W.exponent)
    weights = torch.where(W.mantissa > 0, W.exponent, -Z.exponent)
    return torch.ldexp(torch.ones_like(Z.mantissa), torch.div(codes - weights, 2, rounding_mode="floor"))


def starting_pair(A: Tensor, rank: int, start: str, generator: torch.Generator) -> Pair:
    """Nonnegative starting factors of A, which is of order one; see `nmf`."""
    require(start in STARTS, "start", f"a pair (Z, W) or one of {', '.join(STARTS)}", start)
    if start == "random":
        return _random_pair(A, rank, rank, generator)
    Z, W = nndsvd(A, rank, generator)
    # The mean of A in the unit of the factors, for which the root of the largest entry stands.
    mean = A.mean() / A.max().clamp_min(torch.finfo(A.dtype).tiny).sqrt()

    def filled(F: Tensor) -> Tensor:
        if start == "nndsvd":
            return F
        if start == "nndsvdar":
            draw = torch.rand(F.shape, generator=generator, dtype=F.dtype, device=F.device)
            return torch.where(F == 0, draw * (mean / 100), F)
        return torch.where(F == 0, mean, F)

    Z, W = filled(Z), filled(W)
    if Z.shape[1] < rank:
        # Equal parts would stay equal, so what is filled is not what tells parts beyond the SVD apart.
        more = _random_pair(A, rank, rank - Z.shape[1], generator)
        Z, W = torch.cat([Z, more.Z], dim=1), torch.cat([W, more.W])
    return Pair(Z, W)


def _random_pair(A: Tensor, rank: int, parts: int, generator: torch.Generator) -> Pair:
    """`parts` random parts of the size that `rank` of them need to have the mean of A."""
    scale = 2 * (A.mean() / rank).sqrt()

    def draw(shape: tuple[int, int]) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=A.dtype, device=A.device) * scale

    return Pair(draw((len(A), parts)), draw((parts, A.shape[1])))


def nndsvd(A: Tensor, rank: int, generator: torch.Generator) -> Pair:
    """Nonnegative double SVD of A (n × m), of order one: Z (n × r), W (r × m) (Boutsidis & Gallopoulos 2008).

    r is `rank` or the rank of A's SVD, if that is less.
    """
    P, s, Qh = leading_svd(A, rank, generator)
    Q = Qh.T
    # Each singular pair is a difference of nonnegative rank-one terms: keep the larger one. For the first
    # pair one of the two is zero (Perron–Frobenius), so it needs no case of its own.
    Pp, Pn, Qp, Qn = P.clamp_min(0), (-P).clamp_min(0), Q.clamp_min(0), (-Q).clamp_min(0)
    positive, negative = Pp.norm(dim=0) * Qp.norm(dim=0), Pn.norm(dim=0) * Qn.norm(dim=0)
    take = positive >= negative
    scale = (s * torch.maximum(positive, negative)).sqrt()
    # Entries that are rounding of an exact zero become zeros, so that "nndsvd" is as sparse as it should be.
    cut = 1e-6

    def part(positive: Tensor, negative: Tensor) -> Tensor:
        F = torch.nn.functional.normalize(torch.where(take, positive, negative), dim=0, eps=cut)
        return torch.where(F < cut, 0.0, F) * scale

    return Pair(part(Pp, Pn), part(Qp, Qn).T.contiguous())


def leading_svd(A: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The `rank` largest singular values of A (n × m) and their vectors, or all where there are no more.

    By subspace iteration from a random start, at a cost in proportion to the rank (Halko, Martinsson & Tropp
    2011, algorithms 4.4 and 5.1); by the whole SVD where that is no dearer.
    """
    columns = rank + 10
    if 4 * columns > min(A.shape):
        P, s, Qh = svd(A)
        return P[:, :rank], s[:rank], Qh[:rank]
    Q = A @ torch.randn((A.shape[1], columns), generator=generator, dtype=A.dtype, device=A.device)
    for _ in range(6):
        Q = A @ torch.linalg.qr(A.T @ torch.linalg.qr(Q).Q).Q
    Q = torch.linalg.qr(Q).Q
    P, s, Qh = svd(Q.T @ A)
    return Q @ P[:, :rank], s[:rank], Qh[:rank]
