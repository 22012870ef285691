"""NMF: min ½‖A − ZW‖² over Z ≥ 0, W ≥ 0.

Legend: A (n × m) nonnegative data, rows are samples; Z (n × k) codes; W (k × m) parts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ConfigError, require
from ..kernels import REFERENCE, Kernels
from .driver import Pair, Result, Stopping, check_factor, check_matrix, half_square, iterate

UPDATES = ("multiplicative", "hals")
STARTS = ("random", "nndsvd", "nndsvda", "nndsvdar")


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
        A: n × m, nonnegative.
        rank: number of parts k ≥ 1; for the NNDSVD starts at most min(n, m).
        update: "multiplicative" (Lee & Seung 2001) or "hals" (Cichocki & Phan 2009).
        start: "random" (uniform, scaled to the mean of A), "nndsvd" (zeros stay zero under multiplicative
            updates), "nndsvda" (zeros filled with the mean), "nndsvdar" (filled with small random values;
            Boutsidis & Gallopoulos 2008), or a given pair (Z, W).
        stopping: when to end; default `Stopping()`.
        generator: source of all randomness, on the device of A; default a new one with seed 0.
        kernels: element-wise backend, see `nmfdnn.kernels`.

    Neither update ever increases ½‖A − ZW‖². Not guaranteed: a global minimum.

    Raises:
        ConfigError: A is not a finite nonnegative matrix, or an argument is outside its range.
    """
    check_matrix(A, nonnegative=True)
    require(update in UPDATES, "update", f"one of {', '.join(UPDATES)}", update)
    step = multiplicative_step if update == "multiplicative" else hals_step
    return iterate(
        starting_pair(A, rank, start, generator),
        lambda pair: step(A, pair, kernels),
        lambda pair: half_square(A - pair.Z @ pair.W),
        stopping or Stopping(),
    )


def multiplicative_step(A: Tensor, pair: Pair, kernels: Kernels = REFERENCE) -> Pair:
    """Z ← Z ∘ (AWᵀ)/(ZWWᵀ + ε), then W ← W ∘ (ZᵀA)/(ZᵀZW + ε) (Lee & Seung 2001, eq. 4)."""
    Z, W = pair
    Z = kernels.multiplicative(Z, A @ W.T, Z @ (W @ W.T))
    W = kernels.multiplicative(W, Z.T @ A, (Z.T @ Z) @ W)
    return Pair(Z, W)


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
    floor = torch.finfo(G.dtype).eps * diagonal.max()
    # A part that is (almost) zero says nothing about its row, which then stays as it is.
    step = torch.where(diagonal > floor, 1 / diagonal.clamp_min(torch.finfo(G.dtype).tiny), 0.0)
    for row, target, products, scale in zip(W, C, G, step, strict=True):
        row.add_(scale * (target - products @ W)).clamp_(min=0)
    return W


def starting_pair(
    A: Tensor, rank: int, start: str | tuple[Tensor, Tensor], generator: torch.Generator | None
) -> Pair:
    """Nonnegative starting factors of A; see `nmf`."""
    n, m = A.shape
    require(isinstance(rank, int) and rank >= 1, "rank", "an integer ≥ 1", rank)
    if not isinstance(start, str):
        Z, W = start
        check_factor(Z, "Z", (n, rank), A)
        check_factor(W, "W", (rank, m), A)
        if bool((Z < 0).any()) or bool((W < 0).any()):
            raise ConfigError("a given start of nmf must be nonnegative: clip Z and W, or use semi_nmf")
        return Pair(Z, W)
    require(start in STARTS, "start", f"a pair (Z, W) or one of {', '.join(STARTS)}", start)
    generator = generator or default_generator(A.device)
    if start == "random":
        scale = 2 * math.sqrt(max(float(A.mean()), 0.0) / rank)
        Z = torch.rand((n, rank), generator=generator, dtype=A.dtype, device=A.device) * scale
        W = torch.rand((rank, m), generator=generator, dtype=A.dtype, device=A.device) * scale
        return Pair(Z, W)
    require(rank <= min(n, m), "rank", f"at most min(A.shape) = {min(n, m)} with start={start}", rank)
    Z, W = nndsvd(A, rank)
    mean = A.mean()
    for F in (Z, W):
        if start == "nndsvda":
            F[F == 0] = mean
        elif start == "nndsvdar":
            noise = torch.rand(F.shape, generator=generator, dtype=A.dtype, device=A.device)
            F.copy_(torch.where(F == 0, noise * (mean / 100), F))
    return Pair(Z, W)


def nndsvd(A: Tensor, rank: int) -> Pair:
    """Nonnegative double SVD of A (n × m): Z (n × rank), W (rank × m) (Boutsidis & Gallopoulos 2008)."""
    P, s, Qh = torch.linalg.svd(A, full_matrices=False)
    P, s, Q = P[:, :rank], s[:rank], Qh[:rank].T
    # Each singular pair is a difference of nonnegative rank-one terms: keep the larger one. For the first
    # pair one of the two is zero (Perron–Frobenius), so it needs no case of its own.
    Pp, Pn, Qp, Qn = P.clamp_min(0), (-P).clamp_min(0), Q.clamp_min(0), (-Q).clamp_min(0)
    positive, negative = Pp.norm(dim=0) * Qp.norm(dim=0), Pn.norm(dim=0) * Qn.norm(dim=0)
    take = positive >= negative
    U, V = torch.where(take, Pp, Pn), torch.where(take, Qp, Qn)
    tiny = torch.finfo(A.dtype).tiny
    scale = (s * torch.maximum(positive, negative)).sqrt()
    Z = U / U.norm(dim=0).clamp_min(tiny) * scale
    W = V / V.norm(dim=0).clamp_min(tiny) * scale
    # Entries that are rounding of an exact zero become zeros, so that "nndsvd" is as sparse as it should be.
    cut = 1e-6
    return Pair(torch.where(Z < cut, 0.0, Z), torch.where(W < cut, 0.0, W).T.contiguous())


def default_generator(device: torch.device) -> torch.Generator:
    """A new generator with seed 0 on `device`: calls without a generator are reproducible."""
    return torch.Generator(device).manual_seed(0)
